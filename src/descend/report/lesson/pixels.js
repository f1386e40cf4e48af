// Drawn factors to pixels, one picture at a time, as descend.augment.apply and its resampling define them; levels are 0 ... 255.
// An image is {height, width, data}: three levels for each pixel, row by row.

const QUANTILES = new Float32Array(Uint8Array.from(atob(CONSTANTS_OF.quantiles), (c) => c.charCodeAt(0)).buffer);
const PLAIN = { interpolation: "bilinear", border: "reflect", fill: [NaN, NaN, NaN] };

// The pixels beside a position along one side of n, each {index, weight, beyond}: beyond a constant border nothing is read.
function beside(at, n, { interpolation, border }) {
  if (interpolation === "bilinear" && border === "reflect") { // positions are folded before they are split
    const folded = n === 1 ? 0 : Math.abs(at) % (2 * n - 2), place = n === 1 ? 0 : n - 1 - Math.abs(folded - (n - 1)), low = Math.min(Math.floor(place), Math.max(n - 2, 0));
    return [{ index: low, weight: 1 - (place - low), beyond: false }, { index: Math.min(low + 1, n - 1), weight: place - low, beyond: false }];
  }
  const first = Math.floor(at), t = at - first, linear = interpolation === "bilinear";
  const keys = (x) => (x <= 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2);
  return (linear ? [0, 1] : [-1, 0, 1, 2]).map((k) => ({ ...placed(first + k, n, border), weight: linear ? (k ? t : 1 - t) : keys(Math.abs(t - k)) }));
}
function placed(index, n, border) {
  const beyond = index < 0 || index >= n;
  if (border === "constant" || border === "replicate") return { index: Math.min(Math.max(index, 0), n - 1), beyond: beyond && border === "constant" };
  if (border === "wrap") return { index: ((index % n) + n) % n, beyond: false };
  const folded = Math.abs(index) % (2 * n - 2 + (n === 1 ? 1 : 0));
  return { index: folded >= n ? 2 * (n - 1) - folded : folded, beyond: false };
}

function resampled(image, draws) {
  const [height, width] = draws.canvas, [m] = draws.matrix.tolist(), [[down, across]] = draws.taps.tolist();
  const moved = draws.bends.length ? draws.shifts.data : null, sampling = draws.sampling ?? PLAIN, out = new Float32Array(3 * height * width);
  const outside = sampling.fill.map((level, c) => (Number.isNaN(level) ? CONSTANTS_OF.mean[c] : level));
  const levels = [0, 0, 0];
  for (let row = 0, to = 0; row < height; row++) for (let column = 0; column < width; column++, to += 3) {
    levels.fill(0);
    for (let i = 0; i < down; i++) for (let j = 0; j < across; j++) {
      let x = column + (j + 0.5) / across, y = row + (i + 0.5) / down;
      if (moved) { x += moved[row * width + column]; y += moved[(height + row) * width + column]; }
      const depth = m[2][0] * x + m[2][1] * y + m[2][2];
      const columns = beside((m[0][0] * x + m[0][1] * y + m[0][2]) / depth - 0.5, image.width, sampling);
      for (const { index, weight, beyond } of beside((m[1][0] * x + m[1][1] * y + m[1][2]) / depth - 0.5, image.height, sampling)) {
        for (const there of columns) {
          const from = 3 * (index * image.width + there.index), share = weight * there.weight, nothing = beyond || there.beyond;
          for (let c = 0; c < 3; c++) levels[c] += share * (nothing ? outside[c] : image.data[from + c]);
        }
      }
    }
    for (let c = 0; c < 3; c++) out[to + c] = sampling.interpolation === "bicubic" ? clamped(levels[c] / (down * across)) : levels[c] / (down * across);
  }
  return out;
}
const clamped = (x) => Math.min(Math.max(x, 0), 255);

// Levels read in the tables of three channels, linear between entries.
function toned(levels, tables) {
  for (let i = 0; i < levels.length; i++) {
    const table = tables[i % 3], level = clamped(levels[i]), low = Math.min(Math.floor(level), 254), part = level - low;
    levels[i] = part ? table[low] + part * (table[low + 1] - table[low]) : table[low];
  }
}

function stretch(levels) {
  const low = [255, 255, 255], high = [0, 0, 0];
  levels.forEach((x, i) => { low[i % 3] = Math.min(low[i % 3], x); high[i % 3] = Math.max(high[i % 3], x); });
  levels.forEach((x, i) => { const c = i % 3; if (high[c] - low[c] >= 0.5) levels[i] = (x - low[c]) * (255 / (high[c] - low[c])); });
}

// The tables that flatten the histogram of each channel, by Pillow's rule; a level between two whole ones counts for both.
function equalizing(levels) {
  const counts = [0, 1, 2].map(() => new Float64Array(256)), almost = 1e-3;
  levels.forEach((x, i) => {
    const level = clamped(x), low = Math.min(Math.floor(level), 254);
    counts[i % 3][low] += 1 - (level - low);
    counts[i % 3][low + 1] += level - low;
  });
  return counts.map((histogram) => {
    const reached = [...histogram.keys()].filter((k) => histogram[k] > 0.5), top = reached.at(-1) ?? 0, n = levels.length / 3;
    const step = Math.floor((n - histogram[top] + almost) / 255);
    let below = 0;
    return Array.from(histogram, (count, k) => {
      const level = step === 0 || reached.length < 2 ? k : Math.min(255, Math.floor((Math.floor(step / 2) + below + almost) / Math.max(step, 1)));
      below += count;
      return level;
    });
  });
}

function colored(levels, color) {
  const mean = [0, 0, 0], n = levels.length / 3;
  levels.forEach((x, i) => { mean[i % 3] += x / n; });
  const offset = color.map((row) => row[6] + row[3] * mean[0] + row[4] * mean[1] + row[5] * mean[2]);
  for (let i = 0; i < levels.length; i += 3) {
    const [r, g, b] = levels.subarray(i, i + 3);
    color.forEach((row, c) => { levels[i + c] = row[0] * r + row[1] * g + row[2] * b + offset[c]; });
  }
}

// Standard normal numbers for the values of an image: two of every random word.
function normals(id, key, n) {
  const out = new Float32Array(n), words = rng.words(key, id, Math.ceil(n / 2));
  const value = (cell, place) => QUANTILES[cell] + (place + 0.5) * 2 ** -12 * (QUANTILES[cell + 1] - QUANTILES[cell]);
  for (let k = 0; k < n; k++) {
    const word = words[k >> 1];
    out[k] = k & 1 ? value(word >>> 20, (word >>> 8) & 0xfff) : value(word & 0xfff, (word >>> 12) & 0xfff);
  }
  return out;
}

function erased(levels, draws) {
  const [height, width] = draws.canvas, [boxes] = draws.boxes.tolist(), [fills] = draws.fills.tolist(), { mean, std } = CONSTANTS_OF;
  let grains = null;
  boxes.forEach(([top, bottom, left, right], k) => {
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) for (let c = 0; c < 3; c++) {
      const at = 3 * (y * width + x) + c, fill = fills[k][c];
      if (fill === Infinity) grains ??= normals([...draws.ids][0], draws.grain, 3 * height * width);
      levels[at] = Number.isNaN(fill) ? mean[c] : fill === Infinity ? mean[c] + std[c] * grains[at] : fill;
    }
  });
}

// The whole pass over one image: {height, width, data} of rounded levels.
function applied(image, draws) {
  const levels = resampled(image, draws), [height, width] = draws.canvas;
  if (draws.stretch && draws.stretch.data[0]) stretch(levels);
  if (draws.flatten && draws.flatten.data[0]) toned(levels, equalizing(levels));
  if (draws.table) toned(levels, draws.table.tolist()[0]);
  if (draws.color) colored(levels, draws.color.tolist()[0]);
  if (draws.noise) normals([...draws.ids][0], draws.noise.key, levels.length).forEach((x, i) => { levels[i] += x * nd(draws.noise.sigma).data[0]; });
  levels.forEach((x, i) => { levels[i] = clamped(x); });
  if (draws.boxes) erased(levels, draws);
  return { height, width, data: Uint8Array.from(levels, (x) => clamped(Math.floor(x + 0.5))) };
}

// ------------------------------------------------------------------------------------------------------------ the pipeline

// A transform with its knobs; an Error where the technique itself would refuse them.
function transform(spec) {
  return { made: made(AUGMENTATIONS, checked(AUGMENTATIONS, spec)), stage: AUGMENTATIONS[spec.name].facts.stage, name: spec.name };
}

// What a list of specs draws for one picture, {height, width}, as Pipeline.draw does for a batch of one.
function drawn(specs, { height, width }, { seed, id, draw }) {
  const ids = nd([Number(id)]), seen = {}, size = [height, width];
  const listed = specs.map(transform).map((each) => {
    const k = (seen[each.name] = (seen[each.name] ?? 0) + 1);
    return { ...each, stream: new RandomStream(seed, k === 1 ? each.name : `${each.name}#${k}`, ids, draw) };
  });
  let draws = neutralDraw(ids, size, size, 0, draw, null);
  for (const stage of CONSTANTS_OF.stages) {
    for (const { made, stream, stage: own } of listed) if (own === stage) draws = chosen(made, stream, draws);
    if (stage === "geometry") draws = fitted(draws, size);
  }
  return draws;
}
// With probability p the transform's draw, else the draw as it was, at the same size.
function chosen(made, stream, draws) {
  const after = made.draw(stream, draws), p = made.p ?? 1;
  return p === 1 || nd(stream.coin(p)).data[0] ? after : fitted(draws, after.canvas);
}

// What was drawn, in words: [transform, text] each.
function captions(draws) {
  const number = (x) => (Array.isArray(x) ? `(${x.map(number).join(", ")})` : typeof x === "number" ? shown(Number((x + 0).toPrecision(3))).replace("-", "−") : String(x));
  return Object.entries(draws.parameters).flatMap(([stream, noted = {}]) => {
    const values = Object.entries(noted).map(([name, value]) => [name.replaceAll("_", " "), nd(value)]).map(([name, value]) => [name, value.ndim ? value.tolist()[0] : plain(value)]);
    if (values.some(([, value]) => value === false)) return [];
    const words = values.filter(([, value]) => value !== true).map(([name, value]) => {
      const flat = [value].flat(3);
      if (flat.length <= 8) return `${name} ${number(value)}`;
      return flat.every((x) => typeof x === "boolean") ? `${name} ${flat.filter(Boolean).length} of ${flat.length}` : `${name} ${flat.length} numbers`;
    });
    return [[stream, words.join(", ")]];
  });
}
