// The functions that translated formulas call. "scalar" works on numbers, "vector" on numbers and on arrays of them (one point).

const sum = (x) => x.reduce((a, b) => a + b, 0);

const scalar = {
  add_scaled: (a, b, k) => a + b * k,
  sqrt: Math.sqrt, sign: Math.sign, cos: Math.cos, sin: Math.sin, exp: Math.exp, log: Math.log, abs: Math.abs, hypot: Math.hypot,
  floor: Math.floor, positive: (x) => Math.max(x, 0), maximum: Math.max, minimum: Math.min, max: Math.max, min: Math.min,
  radians: (x) => (x * Math.PI) / 180, number: Number, norm: Math.abs, sum, same: (x) => x, set: (x = []) => x,
  modulo: (a, b) => a - b * Math.floor(a / b), divmod: (a, b) => [Math.floor(a / b), a - b * Math.floor(a / b)],
  range: (a, b) => Array.from({ length: b === undefined ? a : b - a }, (_, i) => (b === undefined ? i : a + i)),
  repeat: (x, n) => Array.from({ length: n }, () => x).flat(),
};

// Makes a function of numbers one of points: what is not an array counts for every coordinate.
const lift1 = (f) => (a) => (typeof a === "object" ? a.map(f) : f(a));
const lift2 = (f) => (a, b) => {
  if (typeof a === "object") return typeof b === "object" ? a.map((x, i) => f(x, b[i])) : a.map((x) => f(x, b));
  return typeof b === "object" ? b.map((y) => f(a, y)) : f(a, b);
};

const vector = {
  ...scalar,
  add: lift2((a, b) => a + b), subtract: lift2((a, b) => a - b), multiply: lift2((a, b) => a * b), divide: lift2((a, b) => a / b),
  power: lift2((a, b) => a ** b), hypot: lift2(Math.hypot), maximum: lift2(Math.max), minimum: lift2(Math.min),
  sqrt: lift1(Math.sqrt), sign: lift1(Math.sign), cos: lift1(Math.cos), sin: lift1(Math.sin), abs: lift1(Math.abs),
  positive: lift1(scalar.positive),
  add_scaled: (a, b, k) => vector.add(a, vector.multiply(b, k)),
  norm: (x) => Math.sqrt(sum(x.map((each) => each * each))),
  copy: (x) => [...x], ones: (n) => new Array(n).fill(1),
  geomspace: (a, b, n) => Array.from({ length: n }, (_, i) => (i === n - 1 ? b : a * (b / a) ** (i / (n - 1)))),
};
