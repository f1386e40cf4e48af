// The drawings of the other sections; each is made again whole.

const INSET = { left: 46, right: 12, top: 12, bottom: 28 };
function axes(canvas, [x0, x1], [y0, y1], { xs = true } = {}) {
  const { context, width, height } = sized(canvas), { left, right, top, bottom } = INSET, w = width - left - right, h = height - top - bottom;
  const x = (a) => left + ((a - x0) / (x1 - x0)) * w, y = (b) => top + ((y1 - b) / (y1 - y0)) * h;
  context.fillStyle = color("soft");
  context.strokeStyle = color("line");
  context.textAlign = "center";
  for (const t of xs ? ticks(x0, x1, Math.max(2, width / 90)) : []) context.fillText(String(t), x(t), height - 9);
  context.textAlign = "right";
  for (const t of ticks(y0, y1, Math.max(2, height / 60))) {
    context.fillText(String(t), left - 6, y(t) + 4);
    context.beginPath(); context.moveTo(left, y(t)); context.lineTo(width - right, y(t)); context.stroke();
  }
  return { context, x, y, w, h, width, height };
}
function line(context, points, hue, width = 2, dash = [], alpha = 1) {
  context.save();
  Object.assign(context, { strokeStyle: color(hue), lineWidth: width, globalAlpha: alpha });
  context.setLineDash(dash);
  context.beginPath();
  points.forEach(([a, b], i) => (i ? context.lineTo(a, b) : context.moveTo(a, b)));
  context.stroke();
  context.restore();
}
function disc(context, x, y, radius, kept, hue = "c0") {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  Object.assign(context, { fillStyle: kept ? color(hue) : color("ground"), strokeStyle: kept ? color(hue) : color("soft"), lineWidth: 1.5 });
  context.setLineDash(kept ? [] : [3, 2]);
  context.fill();
  context.stroke();
  context.setLineDash([]);
}
const wide = ([low, high]) => (high - low > 1e-9 ? [low - 0.06 * (high - low), high + 0.06 * (high - low)] : [low - 1, high + 1]);
const extent = (values) => [Math.min(...values), Math.max(...values)];

function drawTerms(canvas, terms, kept) {
  const { context, x, y } = axes(canvas, [0, terms.length], wide(extent([0, ...terms])), { xs: false });
  terms.forEach((term, i) => {
    const [left, right, zero, end] = [x(i + 0.18), x(i + 0.82), y(0), y(term)];
    Object.assign(context, { fillStyle: color("c0"), strokeStyle: color(kept[i] ? "c0" : "soft"), lineWidth: 1.5 });
    context.setLineDash(kept[i] ? [] : [4, 3]);
    if (kept[i]) context.fillRect(left, Math.min(zero, end), right - left, Math.abs(end - zero));
    context.strokeRect(left, Math.min(zero, end), right - left, Math.abs(end - zero));
    context.setLineDash([]);
  });
}

// A histogram of outputs with their chances, and lines: {value, hue, dash} each.
function drawOutputs(canvas, outputs, lines) {
  const span = wide(extent([...outputs.map(({ value }) => value), ...lines.map(({ value }) => value)])), n = 48, bars = new Float64Array(n);
  for (const { value, chance } of outputs) bars[Math.min(n - 1, Math.floor((n * (value - span[0])) / (span[1] - span[0])))] += chance;
  const { context, x, y } = axes(canvas, span, [0, 1.15 * Math.max(...bars)]), step = (span[1] - span[0]) / n;
  context.fillStyle = color("high");
  bars.forEach((share, k) => context.fillRect(x(span[0] + k * step) + 0.5, y(share), Math.max(1, x(step) - x(0) - 1), y(0) - y(share)));
  for (const { value, hue, dash, width } of lines) line(context, [[x(value), y(0)], [x(value), INSET.top]], hue, width ?? 2.5, dash);
}

// Units of a network 1 -> n -> n -> 1, the dropped ones hollow; strength: weight of the line from unit j to unit i.
function drawUnits(canvas, net, first, second) {
  const { context, width, height } = sized(canvas), { n, weights: w, at } = net, columns = [0.1, 0.37, 0.63, 0.9].map((share) => share * width);
  const spot = (column, i, k) => [columns[column], ((i + 0.5) / k) * (height - 16) + 8], on = [[1], first, second, [1]], sizes = [1, n, n, 1];
  const weight = [(i) => w[at.a + i], (i, j) => w[at.c + i * n + j], (_, j) => w[at.e + j]];
  for (let layer = 0; layer < 3; layer++) for (let j = 0; j < sizes[layer]; j++) for (let i = 0; i < sizes[layer + 1]; i++) {
    if (!on[layer][j] || !on[layer + 1][i]) continue;
    const strength = weight[layer](i, j);
    line(context, [spot(layer, j, sizes[layer]), spot(layer + 1, i, sizes[layer + 1])], strength < 0 ? "c1" : "c0", Math.min(4, 0.4 + 1.6 * Math.abs(strength)), strength < 0 ? [5, 3] : [], 0.55);
  }
  sizes.forEach((size, layer) => { for (let i = 0; i < size; i++) disc(context, ...spot(layer, i, size), Math.min(11, height / (2.6 * size)), on[layer][i] > 0); });
}

// points: [x, y]; curves: {values, hue, width, dash, alpha} over xs; band: {low, high} over xs.
function drawFits(canvas, xs, points, band, curves) {
  const all = [...points.map(([, y]) => y), ...band.low, ...band.high], { context, x, y } = axes(canvas, extent(xs), wide(extent(all)));
  context.save();
  Object.assign(context, { fillStyle: color("c0"), globalAlpha: 0.16 });
  context.beginPath();
  [...xs.map((a, i) => [a, band.high[i]]), ...xs.map((a, i) => [a, band.low[i]]).reverse()].forEach(([a, b], i) => (i ? context.lineTo(x(a), y(b)) : context.moveTo(x(a), y(b))));
  context.fill();
  context.restore();
  for (const { values, hue, width, dash, alpha } of curves) line(context, xs.map((a, i) => [x(a), y(values[i])]), hue, width, dash, alpha);
  for (const [a, b] of points) disc(context, x(a), y(b), 4, true, "ink");
}

// A grid of kept and dropped cells: kept(row, column).
function drawGrid(canvas, rows, columns, kept, { foot = 0, shares = [] } = {}) {
  const { context, width, height } = sized(canvas), w = (width - 16) / columns, h = (height - 16 - foot) / rows, side = Math.min(w, h, 30);
  const left = (width - columns * w) / 2;
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) {
    const on = kept(i, j), [x, y] = [left + j * w + (w - Math.min(w - 2, 1.6 * side)) / 2, 8 + i * h + 1];
    Object.assign(context, { fillStyle: color("c0"), strokeStyle: color(on ? "c0" : "soft"), lineWidth: 1 });
    context.setLineDash(on ? [] : [3, 2]);
    const box = [x, y, Math.max(2, Math.min(w - 2, 1.6 * side)), Math.max(2, h - 3)];
    if (on) context.fillRect(...box);
    context.strokeRect(...box);
    context.setLineDash([]);
  }
  context.fillStyle = color("soft");
  context.textAlign = "center";
  const every = Math.ceil(columns / (width / 38));
  shares.forEach((share, j) => { if (j % every === 0 || j === columns - 1 && (columns - 1) % every > every / 2) context.fillText(share.toFixed(2), left + (j + 0.5) * w, height - 8); });
}

function drawSchedules(canvas, schedules) {
  const steps = 400, curves = schedules.map((schedule) => Array.from({ length: steps + 1 }, (_, k) => schedule.at(k / steps)));
  const { context, x, y } = axes(canvas, [0, 1], [0, 1.05 * Math.max(1, ...curves.flat())]);
  curves.forEach((values, i) => line(context, values.map((factor, k) => [x(k / steps), y(factor)]), `c${i}`, 2.5, dashOf(i)));
}
