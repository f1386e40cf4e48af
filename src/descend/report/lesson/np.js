// Arrays of numbers with a shape, and the part of NumPy that translated formulas call, by NumPy's names and meaning.

class Nd {
  constructor(shape, data, bool = false) { Object.assign(this, { shape, data, bool }); }
  get length() { return this.shape[0]; }
  get size() { return this.data.length; }
  get ndim() { return this.shape.length; }
  get T() { return this.transpose(...this.shape.map((_, i) => this.ndim - 1 - i)); }
  *[Symbol.iterator]() { for (let i = 0; i < this.shape[0]; i++) yield np.get(this, [i]); }
  astype(type) {
    const change = { int64: Math.trunc, float32: Math.fround, bool: (x) => Number(x !== 0) }[type] ?? ((x) => x);
    return new Nd(this.shape, this.data.map(change), type === "bool");
  }
  copy() { return new Nd(this.shape, this.data.slice(), this.bool); }
  reshape(...shape) {
    shape = shape.flat();
    const known = shape.reduce((a, n) => (n < 0 ? a : a * n), 1);
    return new Nd(shape.map((n) => (n < 0 ? this.size / known : n)), this.data, this.bool);
  }
  ravel() { return this.reshape(this.size); }
  transpose(...axes) {
    axes = axes.flat();
    const from = strides(this.shape), shape = axes.map((a) => this.shape[a]), steps = axes.map((a) => from[a]), out = empty(shape);
    walkAll(shape, (i, at) => { out.data[i] = this.data[at.reduce((s, k, d) => s + k * steps[d], 0)]; });
    out.bool = this.bool;
    return out;
  }
  all(axis) { return reduced(this, axis, (a, b) => a && b, 1, true); }
  any(axis) { return reduced(this, axis, (a, b) => a || b, 0, true); }
  sum(axis) { return reduced(this, axis, (a, b) => a + b, 0); }
  max(axis) { return reduced(this, axis, Math.max, -Infinity); }
  argmax(axis) { return along(this, axis, (row) => row.reduce((best, x, i) => (x > row[best] ? i : best), 0)); }
  square() { return np.multiply(this, this); }
  sqrt() { return np.sqrt(this); }
  clamp_min(low) { return np.maximum(this, low); }
  get dtype() { return "float64"; }
  tolist() { return this.ndim < 2 ? [...this.data].map((x) => (this.bool ? Boolean(x) : x)) : [...this].map((row) => row.tolist()); }
}

const product = (shape) => shape.reduce((a, b) => a * b, 1);
const empty = (shape) => new Nd(shape, new Float64Array(product(shape)));
const strides = (shape) => shape.map((_, d) => product(shape.slice(d + 1)));
const axisOf = (axis, n) => { const a = typeof axis === "object" && axis !== null ? axis.axis : axis; return a < 0 ? a + n : a; };
function walkAll(shape, visit) {
  const at = shape.map(() => 0), n = product(shape);
  for (let i = 0; i < n; i++) {
    visit(i, at);
    for (let d = shape.length - 1; d >= 0 && ++at[d] === shape[d]; d--) at[d] = 0;
  }
}
// A number, a list of lists, or an array, as an array.
function nd(x) {
  if (x instanceof Nd) return x;
  if (!Array.isArray(x)) return new Nd([], Float64Array.of(Number(x)), typeof x === "boolean");
  const parts = x.map(nd), inside = parts.length ? parts[0].shape : [], out = empty([parts.length, ...inside]);
  parts.forEach((part, i) => out.data.set(part.data, i * product(inside)));
  out.bool = parts.length > 0 && parts.every((part) => part.bool);
  return out;
}
// An array without dimensions is a number.
const plain = (x) => (x.ndim ? x : x.bool ? Boolean(x.data[0]) : x.data[0]);
const isPlain = (x) => typeof x === "number" || typeof x === "boolean";

function broadcastShape(...shapes) {
  const n = Math.max(...shapes.map((s) => s.length));
  return Array.from({ length: n }, (_, d) => {
    const sides = shapes.map((s) => s[d - n + s.length] ?? 1), side = sides.find((k) => k !== 1) ?? 1;
    if (sides.some((k) => k !== 1 && k !== side)) throw new Error(`shapes ${shapes.join(" and ")} do not go together`);
    return side;
  });
}
function spread(x, shape) {
  const from = strides(x.shape), skip = shape.length - x.ndim;
  const steps = shape.map((_, d) => (d < skip || x.shape[d - skip] === 1 ? 0 : from[d - skip]));
  return (at) => { let s = 0; for (let d = 0; d < at.length; d++) s += at[d] * steps[d]; return x.data[s]; };
}
function mapped(f, bool, ...values) {
  if (values.every(isPlain)) return bool ? Boolean(f(...values)) : f(...values.map(Number));
  const arrays = values.map(nd), shape = broadcastShape(...arrays.map((a) => a.shape)), out = empty(shape);
  if (arrays.every((a) => a.size === out.size)) for (let i = 0; i < out.size; i++) out.data[i] = f(...arrays.map((a) => a.data[i]));
  else {
    const read = arrays.map((a) => spread(a, shape));
    walkAll(shape, (i, at) => { out.data[i] = f(...read.map((each) => each(at))); });
  }
  out.bool = bool;
  return out;
}
const numeric = (f) => (...values) => mapped(f, false, ...values);
const logical = (f) => (...values) => mapped(f, true, ...values);
// Keeps truth values: & and | of two of them are such.
const bitwise = (f) => (a, b) => mapped(f, [a, b].every((x) => typeof x === "boolean" || x.bool), a, b);

function reduced(x, axis, f, start, bool = false) {
  const axes = axis === undefined ? x.shape.map((_, d) => d) : [Array.isArray(axis) ? axis : axisOf(axis, x.ndim)].flat();
  const keep = x.shape.map((_, d) => d).filter((d) => !axes.includes(d)), shape = keep.map((d) => x.shape[d]), out = empty(shape), to = strides(shape);
  out.data.fill(start);
  walkAll(x.shape, (i, at) => { const k = keep.reduce((s, d, j) => s + at[d] * to[j], 0); out.data[k] = Number(f(out.data[k], x.data[i])); });
  out.bool = bool;
  return plain(out);
}
// f of every line along an axis: a number each.
function along(x, axis, f) {
  const a = axisOf(axis, x.ndim), order = [...x.shape.map((_, d) => d).filter((d) => d !== a), a], moved = x.transpose(...order), n = x.shape[a];
  const shape = moved.shape.slice(0, -1), out = empty(shape);
  for (let i = 0; i < out.size; i++) out.data[i] = f(moved.data.subarray(i * n, (i + 1) * n));
  return plain(out);
}

// What an index picks: the offset of every element, and the shape. Parts: whole numbers, np.slice, null (a new axis), np.ellipsis, one array.
function picked(x, parts) {
  const used = parts.filter((p) => p !== null && p !== np.ellipsis).reduce((n, p) => n + (p instanceof Nd && p.bool ? p.ndim : 1), 0);
  const gap = parts.indexOf(np.ellipsis), fill = Array.from({ length: x.ndim - used }, () => np.slice(null, null));
  parts = gap >= 0 ? [...parts.slice(0, gap), ...fill, ...parts.slice(gap + 1)] : [...parts, ...fill];
  const from = strides(x.shape), shape = [];
  let offsets = [0], d = 0;
  const grow = (places, step) => { offsets = offsets.flatMap((o) => places.map((k) => o + k * step)); };
  for (const part of parts) {
    if (part === null) { shape.push(1); continue; }
    const n = x.shape[d], step = from[d];
    if (part instanceof Nd) {
      const places = part.bool ? [...part.data.keys()].filter((k) => part.data[k]) : [...part.data].map((k) => (k < 0 ? k + n : k));
      shape.push(...(part.bool ? [places.length] : part.shape));
      grow(places, step);
    } else if (part?.slice) {
      const end = (k, other) => (k === null ? other : Math.max(0, Math.min(n, k < 0 ? k + n : k)));
      const low = end(part.low, 0), places = Array.from({ length: Math.max(0, end(part.high, n) - low) }, (_, k) => low + k);
      shape.push(places.length);
      grow(places, step);
    } else grow([part < 0 ? Number(part) + n : Number(part)], step);
    d += 1;
  }
  return { offsets, shape };
}

function solved(a, b) {
  const n = a.length, rows = a.map((row, i) => [...row, b[i]]);
  for (let c = 0; c < n; c++) {
    const best = rows.slice(c).reduce((k, row, i) => (Math.abs(row[c]) > Math.abs(rows[k][c]) ? c + i : k), c);
    [rows[c], rows[best]] = [rows[best], rows[c]];
    for (let r = 0; r < n; r++) {
      if (r === c) continue;
      const k = rows[r][c] / rows[c][c];
      for (let j = c; j <= n; j++) rows[r][j] -= k * rows[c][j];
    }
  }
  return rows.map((row, i) => row[n] / row[i]);
}

const np = {
  ellipsis: Symbol("..."),
  slice: (low = null, high = null) => ({ slice: true, low, high }),
  get(x, parts) {
    if (typeof x === "object" && !Array.isArray(x) && !(x instanceof Nd)) return x[parts[0]];
    if (Array.isArray(x) && parts.length === 1 && parts[0]?.slice) return x.slice(parts[0].low ?? 0, parts[0].high ?? x.length);
    if (Array.isArray(x) && parts.length === 1 && isPlain(parts[0])) return x.at(Number(parts[0]));
    x = nd(x);
    const { offsets, shape } = picked(x, parts);
    return plain(new Nd(shape, Float64Array.from(offsets, (o) => x.data[o]), x.bool));
  },
  set(x, parts, value) {
    const { offsets, shape } = picked(x, parts), read = spread(nd(value), shape);
    walkAll(shape, (i, at) => { x.data[offsets[i]] = read(at); });
  },
  replace: (x, changes) => Object.assign(Object.create(Object.getPrototypeOf(x)), x, changes),
  add: numeric((a, b) => a + b), subtract: numeric((a, b) => a - b), multiply: numeric((a, b) => a * b), divide: numeric((a, b) => a / b),
  power: numeric((a, b) => a ** b), negative: numeric((a) => -a), mod: numeric((a, b) => a - b * Math.floor(a / b)),
  floor_divide: numeric((a, b) => Math.floor(a / b)),
  less: logical((a, b) => a < b), less_equal: logical((a, b) => a <= b), greater: logical((a, b) => a > b), greater_equal: logical((a, b) => a >= b),
  equal: (a, b) => (a instanceof Nd || b instanceof Nd ? mapped((x, y) => x === y, true, a, b) : JSON.stringify(a) === JSON.stringify(b)),
  not_equal: (a, b) => (a instanceof Nd || b instanceof Nd ? mapped((x, y) => x !== y, true, a, b) : JSON.stringify(a) !== JSON.stringify(b)),
  bitwise_and: bitwise((a, b) => a & b), bitwise_or: bitwise((a, b) => a | b), invert: logical((a) => !a),
  sqrt: numeric(Math.sqrt), exp: numeric(Math.exp), log: numeric(Math.log), sin: numeric(Math.sin), cos: numeric(Math.cos), tan: numeric(Math.tan),
  abs: numeric(Math.abs), sign: numeric(Math.sign), floor: numeric(Math.floor), ceil: numeric(Math.ceil), hypot: numeric((a, b) => Math.hypot(a, b)),
  rint: numeric((x) => { const f = Math.floor(x), r = x - f; return r < 0.5 ? f : r > 0.5 ? f + 1 : f + (f & 1); }), // halves to even
  deg2rad: numeric((x) => (x * Math.PI) / 180), minimum: numeric((a, b) => Math.min(a, b)), maximum: numeric((a, b) => Math.max(a, b)),
  clip: (x, low, high) => np.minimum(np.maximum(x, low), high),
  where: (chosen, a, b) => { const out = mapped((c, x, y) => (c ? x : y), false, chosen, a, b); if (out instanceof Nd) out.bool = nd(a).bool && nd(b).bool; return out; },
  isin: (x, values) => mapped((a) => values.includes(a), true, x),
  array: (x) => (x instanceof Nd ? x.copy() : nd(x)), asarray: nd,
  zeros: (shape) => empty([shape].flat()), full: (shape, value) => { const out = empty([shape].flat()); out.data.fill(Number(value)); out.bool = typeof value === "boolean"; return out; },
  ones: (shape, type) => np.full(shape, type === "bool" ? true : 1),
  zeros_like: (x) => (isPlain(x) ? 0 : empty(x.shape)), ones_like: (x) => (isPlain(x) ? 1 : np.full(x.shape, 1)),
  eye: (n) => { const out = empty([n, n]); for (let i = 0; i < n; i++) out.data[i * n + i] = 1; return out; },
  arange: (n) => new Nd([n], Float64Array.from({ length: n }, (_, i) => i)),
  linspace: (a, b, n) => new Nd([n], Float64Array.from({ length: n }, (_, i) => (i === n - 1 ? b : a + i * ((b - a) / (n - 1))))),
  diff: (x) => np.subtract(np.get(x, [np.slice(1, null)]), np.get(x, [np.slice(null, -1)])),
  broadcast_to: (x, shape) => { x = nd(x); const out = empty(shape), read = spread(x, shape); walkAll(shape, (i, at) => { out.data[i] = read(at); }); out.bool = x.bool; return out; },
  swapaxes: (x, a, b) => { const axes = x.shape.map((_, d) => d); [axes[a], axes[b]] = [axes[b], axes[a]]; return x.transpose(...axes); },
  concatenate(parts, axis = 0) {
    const arrays = [...parts].map(nd), a = axisOf(axis, arrays[0].ndim), shape = [...arrays[0].shape];
    shape[a] = arrays.reduce((n, each) => n + each.shape[a], 0);
    const out = empty(shape);
    let from = 0;
    for (const each of arrays) {
      np.set(out, shape.map((_, d) => (d === a ? np.slice(from, from + each.shape[a]) : np.slice())), each);
      from += each.shape[a];
    }
    return out;
  },
  stack(parts, axis = 0) {
    const arrays = [...parts].map(nd), a = axisOf(axis, arrays[0].ndim + 1);
    return np.concatenate(arrays.map((each) => each.reshape([...each.shape.slice(0, a), 1, ...each.shape.slice(a)])), a);
  },
  repeat(x, n, axis) { const parts = []; for (let i = 0; i < x.shape[axis]; i++) { const at = [...x.shape.keys()].map((d) => (d === axis ? np.slice(i, i + 1) : np.slice())); for (let k = 0; k < n; k++) parts.push(np.get(x, at)); } return np.concatenate(parts, axis); },
  split(x, where) {
    const ends = Array.isArray(where) ? [0, ...where, x.length] : Array.from({ length: where + 1 }, (_, k) => (k * x.length) / where);
    return ends.slice(1).map((end, k) => np.get(x, [np.slice(ends[k], end)]));
  },
  meshgrid: (a, b) => [np.broadcast_to(a.reshape(a.size, 1), [a.size, b.size]), np.broadcast_to(b, [a.size, b.size])], // indexing="ij"
  take_along_axis(x, index, axis) {
    const a = axisOf(axis, x.ndim), shape = x.shape.map((n, d) => (d === a ? index.shape[a] : Math.max(n, index.shape[d]))), from = strides(x.shape), out = empty(shape), at = spread(index, shape);
    walkAll(shape, (i, place) => { out.data[i] = x.data[place.reduce((s, k, d) => s + (d === a ? at(place) : x.shape[d] === 1 ? 0 : k) * from[d], 0)]; });
    out.bool = x.bool;
    return out;
  },
  put_along_axis(x, index, values) { // along the last axis
    const n = x.shape.at(-1);
    nd(index).data.forEach((k, i) => { x.data[i * n + k] = nd(values).data[i]; });
  },
  argsort: (x, axis) => { const order = (row) => [...row.keys()].sort((i, j) => row[i] - row[j]); return x.ndim === 1 ? nd(order(x.data)) : np.stack([...x.T].map((line) => nd(order(line.data))), 1); }, // along the first
  matmul(a, b) {
    a = nd(a); b = nd(b);
    if (b.ndim === 1) return np.get(np.matmul(a, b.reshape(b.size, 1)), [np.ellipsis, 0]);
    const [n, k] = a.shape.slice(-2), m = b.shape.at(-1), lead = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
    const left = np.broadcast_to(a, [...lead, n, k]).data, right = np.broadcast_to(b, [...lead, k, m]).data, out = empty([...lead, n, m]);
    for (let g = 0; g < product(lead); g++) for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) {
      let total = 0;
      for (let l = 0; l < k; l++) total += left[(g * n + i) * k + l] * right[(g * k + l) * m + j];
      out.data[(g * n + i) * m + j] = total;
    }
    return out;
  },
  solve: (a, b) => nd([...a].map((system, g) => solved(system.tolist(), b.tolist()[g].map(([x]) => x)).map((x) => [x]))),
  norm: (x, { axis }) => np.sqrt(np.multiply(x, x).sum(axis)),
  sum: (x, axis) => { const out = nd(typeof x[Symbol.iterator] === "function" ? [...x] : x); return out.sum(axis); },
  truth: (x) => (Array.isArray(x) ? x.length > 0 : Boolean(x)),
  len: (x) => x.length, float: Number, int: (x) => Math.trunc(Number(x)), list: (x) => [...x], tuple: (x) => [...x],
  max: (...x) => Math.max(...(x.length === 1 ? x[0] : x)), min: (...x) => Math.min(...(x.length === 1 ? x[0] : x)),
  round: (x) => np.rint(x), range: (a, b) => scalar.range(a, b),
  enumerate: (x) => [...x].map((each, i) => [i, each]),
  zip: (...lists) => { const all = lists.map((list) => [...list]), n = Math.min(...all.map((list) => list.length)); return Array.from({ length: n }, (_, i) => all.map((list) => list[i])); },
  finfo: () => ({ tiny: 2.2250738585072014e-308 }),
  erfc: numeric((x) => erfc(x)),
};

// The complementary error function: a series near 0, a continued fraction beyond; 1e-15 relative or better where it is not tiny.
function erfc(x) {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2.5) {
    let term = x, total = x;
    for (let n = 1; n < 200 && Math.abs(term) > 1e-17 * Math.abs(total); n++) { term *= (-x * x) / n; total += term / (2 * n + 1); }
    return 1 - (2 / Math.sqrt(Math.PI)) * total;
  }
  let f = 0;
  for (let k = 120; k > 0; k--) f = (k / 2) / (x + f);
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * (x + f));
}
