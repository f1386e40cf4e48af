// What every drawing on a canvas needs: its size in CSS pixels, the colors of the page, round numbers for an axis.

const DASHES = [[], [7, 3], [2, 2], [9, 3, 2, 3]];
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const dashOf = (i) => DASHES[i % DASHES.length];

// A context whose units are CSS pixels, and its size.
function sized(canvas) {
  const { width, height } = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = '12px system-ui, "DejaVu Sans", sans-serif';
  context.lineJoin = "round";
  return { context, width, height };
}

const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
// About n round numbers in [low, high].
function ticks(low, high, n) {
  const rough = (high - low) / n, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((k) => k * power >= rough) * power, first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(10)));
}
