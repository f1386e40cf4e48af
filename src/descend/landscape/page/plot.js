// Drawing: the map with its contours and paths, and the losses. Both canvases are drawn again whole, at every frame.

const FLOOR = 1e-12; // the least loss drawn, as in landscape/figures.py
const N_BANDS = 14;
// What of the surface is shown: its window, widened where the start lies outside.
function windowOf(course) {
  const [left, right, bottom, top] = course.surface.window(), [x, y] = course.start;
  const wide = 0.08 * (right - left), high = 0.08 * (top - bottom);
  return [Math.min(left, x - wide), Math.max(right, x + wide), Math.min(bottom, y - high), Math.max(top, y + high)];
}
const MARGIN = { left: 40, right: 10, top: 8, bottom: 26 };
function mapScale(view, width, height) {
  const [left, right, bottom, top] = view, w = width - MARGIN.left - MARGIN.right, h = height - MARGIN.top - MARGIN.bottom;
  return {
    x: (a) => MARGIN.left + ((a - left) / (right - left)) * w, y: (b) => MARGIN.top + ((top - b) / (top - bottom)) * h,
    a: (x) => left + ((x - MARGIN.left) / w) * (right - left), b: (y) => top - ((y - MARGIN.top) / h) * (top - bottom), w, h,
  };
}

// An image of the surface in bands between quantiles of its losses; kept until surface, view, size or colors change.
let kept = { key: "" };
function bands(course, view, scale, key) {
  if (kept.key === key) return kept.image;
  const [w, h] = [Math.round(scale.w), Math.round(scale.h)], losses = new Float64Array(w * h);
  for (let j = 0, i = 0; j < h; j++) {
    const b = scale.b(j + 0.5 + MARGIN.top);
    for (let k = 0; k < w; k++) losses[i++] = course.surface.loss([scale.a(k + 0.5 + MARGIN.left), b]);
  }
  const ordered = losses.filter((_, i) => i % 7 === 0).filter(Number.isFinite).sort();
  const levels = Array.from({ length: N_BANDS - 1 }, (_, i) => ordered[Math.floor(((i + 1) * (ordered.length - 1)) / N_BANDS)]);
  const low = channels(color("low")), high = channels(color("high")), image = new OffscreenCanvas(w, h), context = image.getContext("2d");
  const pixels = context.createImageData(w, h);
  losses.forEach((loss, i) => {
    let band = 0;
    while (band < levels.length && loss >= levels[band]) band++;
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = low[c] + ((high[c] - low[c]) * band) / (N_BANDS - 1);
    pixels.data[4 * i + 3] = 255;
  });
  context.putImageData(pixels, 0, 0);
  kept = { key, image };
  return image;
}

function drawMap(canvas, course, runs, step, key) {
  const { context, width, height } = sized(canvas), view = windowOf(course), scale = mapScale(view, width, height);
  context.drawImage(bands(course, view, scale, `${key} ${view} ${width} ${height} ${color("high")}`), MARGIN.left, MARGIN.top);
  context.fillStyle = color("soft");
  context.textAlign = "center";
  for (const a of ticks(view[0], view[1], width / 90)) context.fillText(a, scale.x(a), height - 8);
  context.textAlign = "right";
  for (const b of ticks(view[2], view[3], height / 60)) context.fillText(b, MARGIN.left - 5, scale.y(b) + 4);
  context.save();
  context.beginPath();
  context.rect(MARGIN.left, MARGIN.top, scale.w, scale.h);
  context.clip();
  runs.forEach((run, i) => drawCrowd(context, scale, run, i, step));
  const [mx, my] = course.surface.minimum();
  context.textAlign = "center";
  context.font = "20px system-ui, sans-serif";
  context.fillStyle = color("ink");
  context.fillText("★", scale.x(mx), scale.y(my) + 7);
  for (let i = runs.length - 1; i >= 0; i--) drawPath(context, scale, runs[i], i, step); // the first lies on top
  context.restore();
  return scale;
}

// The walkers of all other seeds, as dots where they are now.
function drawCrowd(context, scale, run, i, step) {
  context.fillStyle = color(`c${i}`);
  context.globalAlpha = 0.4;
  for (const { points } of run.walks.slice(1)) {
    context.beginPath();
    context.arc(scale.x(points[2 * step]), scale.y(points[2 * step + 1]), 2, 0, 7);
    context.fill();
  }
  context.globalAlpha = 1;
}

function drawPath(context, scale, run, i, step) {
  const { points } = run.walks[0], hue = color(`c${i}`);
  context.strokeStyle = context.fillStyle = hue;
  context.lineWidth = 2;
  context.setLineDash(dashOf(i));
  context.beginPath();
  let last = null, marks = [];
  for (let t = 0; t <= step; t++) {
    const x = scale.x(points[2 * t]), y = scale.y(points[2 * t + 1]);
    if (!(Math.abs(x) < 1e5 && Math.abs(y) < 1e5)) break; // it has left the picture for good
    context.lineTo(x, y);
    if (!marks.length || Math.hypot(x - marks.at(-1)[0], y - marks.at(-1)[1]) > 7) marks.push([x, y]);
    last = [x, y];
  }
  context.stroke();
  context.setLineDash([]);
  for (const [x, y] of marks) { context.beginPath(); context.arc(x, y, 2.2, 0, 7); context.fill(); }
  if (!last) return;
  context.beginPath();
  context.arc(...last, 6, 0, 7);
  context.fill();
  context.strokeStyle = color("ground");
  context.stroke();
}

function drawCurves(canvas, course, runs, step) {
  const { context, width, height } = sized(canvas), steps = course.steps, left = 46, right = width - 10, top = 10, bottom = height - 30;
  let high = Math.max(course.target, FLOOR), low = high;
  for (const { walks: [{ losses }] } of runs) {
    for (const loss of losses) if (loss < 30 * Math.max(losses[0], FLOOR)) { high = Math.max(high, loss); low = Math.min(low, Math.max(loss, FLOOR)); }
  }
  low = Math.max(low, Math.max(course.target, FLOOR) * 1e-4);
  const [from, to] = [Math.log10(low / 2), Math.log10(high * 2)];
  const x = (t) => left + (t / steps) * (right - left);
  const y = (loss) => top + ((to - Math.log10(Math.max(loss, FLOOR))) / (to - from)) * (bottom - top);
  context.fillStyle = color("soft");
  context.strokeStyle = color("line");
  context.lineWidth = 1;
  context.textAlign = "right";
  const every = Math.max(1, Math.ceil((to - from) / 7));
  for (let power = Math.ceil(from); power <= to; power += every) {
    const at = y(10 ** power);
    context.fillText(power >= -3 && power <= 3 ? Number((10 ** power).toPrecision(1)) : `1e${power}`, left - 6, at + 4);
    context.beginPath(); context.moveTo(left, at); context.lineTo(right, at); context.stroke();
  }
  context.textAlign = "center";
  for (const t of ticks(0, steps, width / 90)) context.fillText(t, Math.min(x(t), width - 14), height - 10);
  context.save();
  context.beginPath(); context.rect(left, top, right - left, bottom - top); context.clip();
  context.setLineDash([3, 3]);
  context.strokeStyle = color("soft");
  context.beginPath(); context.moveTo(left, y(course.target)); context.lineTo(right, y(course.target)); context.stroke();
  runs.forEach((run, i) => {
    context.strokeStyle = color(`c${i}`);
    run.walks.slice(0, 30).reverse().forEach((walk, k, all) => {
      const first = k === all.length - 1;
      context.globalAlpha = first ? 1 : 0.16;
      context.lineWidth = first ? 2.2 : 1;
      context.setLineDash(first ? dashOf(i) : []);
      context.beginPath();
      for (let t = 0; t <= step; t++) if (Number.isFinite(walk.losses[t])) context.lineTo(x(t), y(walk.losses[t]));
      context.stroke();
    });
  });
  context.restore();
  context.textAlign = "left";
  context.fillStyle = color("soft");
  context.strokeStyle = color("ground");
  context.lineWidth = 4;
  const where = [`target ${shown(course.target)}`, left + 5, y(course.target) + (y(course.target) < top + 14 ? 14 : -5)];
  context.strokeText(...where);
  context.fillText(...where);
}
