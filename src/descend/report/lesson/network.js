// One neuron and one small network with dropout, in float64: all their sub-networks, and training by the translated rule of Adam.

// ------------------------------------------------------------------------------------------------------------- one neuron

const ACTIVATIONS = { none: (u) => u, relu: (u) => Math.max(u, 0), sigmoid: (u) => 1 / (1 + Math.exp(-u)) };

// What every sub-network of a neuron with these terms w_i x_i says: its kept inputs, its sum, its probability.
function subNeurons(terms, p, mode) {
  const scale = mode === "inverted" ? 1 / (1 - p) : 1, n = terms.length;
  return Array.from({ length: 2 ** n }, (_, mask) => {
    let u = 0, kept = 0;
    for (let i = 0; i < n; i++) if ((mask >> i) & 1) { u += terms[i]; kept += 1; }
    return { u: scale * u, chance: (1 - p) ** kept * p ** (n - kept) };
  });
}
// Mean and variance of the sum over all masks, by DropConnect's translated formula (inverted form).
function moments(terms, p) {
  const dot = (x, w) => x.reduce((total, each, i) => total + each * w[i], 0);
  const square = (list) => Object.assign([...list], { square: () => square(list.map((x) => x * x)) });
  const [mean, variance] = Object.assign(Object.create(MOMENTS), { p }).moments(square(terms), square(terms.map(() => 1)), null, dot);
  return { mean, variance };
}
const normalTerms = (seed, n) => Array.from({ length: n }, (_, i) => {
  const [a, b] = Array.from(rng.bits(seed, "lesson.neuron", i, 2), (word) => (word + 0.5) * 2 ** -32);
  return Math.sqrt(-2 * Math.log(a)) * Math.cos(2 * Math.PI * b);
});

// ------------------------------------------------------------------------------------------------------ a small network

// Points of a curve with noise: x in [-1, 1].
const curve = (x) => Math.sin(3 * x) + 0.3 * x;
function noisyPoints(n, seed) {
  const noise = normalTerms(seed + 1000, n);
  return Array.from({ length: n }, (_, i) => { const x = -1 + (2 * (i + 0.5)) / n; return [x, curve(x) + 0.25 * noise[i]]; });
}

// A network 1 -> n -> n -> 1 of ReLU units with dropout behind each hidden layer; its weights stand in one list.
class Network {
  constructor(n, seed) {
    this.n = n;
    this.parts = [["a", n, 1], ["b", n, 1], ["c", n * n, n], ["d", n, n], ["e", n, n], ["f", 1, n]]; // name, count, inputs of a unit
    const count = this.parts.reduce((total, [, k]) => total + k, 0), words = rng.bits(seed, "lesson.weights", 0, count);
    this.at = {};
    this.weights = new Float64Array(count);
    let from = 0;
    for (const [name, k, inputs] of this.parts) {
      this.at[name] = from;
      for (let i = from; i < from + k; i++) this.weights[i] = (2 * (words[i] + 0.5) * 2 ** -32 - 1) / Math.sqrt(inputs);
      from += k;
    }
  }

  // The answer at x under masks of both layers, with what the gradient needs.
  forward(x, first, second) {
    const { n, weights: w, at } = this, h = new Float64Array(n), g = new Float64Array(n);
    for (let i = 0; i < n; i++) h[i] = first[i] * Math.max(w[at.a + i] * x + w[at.b + i], 0);
    let y = w[at.f];
    for (let i = 0; i < n; i++) {
      let u = w[at.d + i];
      for (let j = 0; j < n; j++) u += w[at.c + i * n + j] * h[j];
      g[i] = second[i] * Math.max(u, 0);
      y += w[at.e + i] * g[i];
    }
    return { y, h, g };
  }

  // Adds the gradient of slope * y at x to a list.
  backward(x, first, second, { h, g }, slope, grad) {
    const { n, weights: w, at } = this, back = new Float64Array(n);
    grad[at.f] += slope;
    for (let i = 0; i < n; i++) {
      grad[at.e + i] += slope * g[i];
      if (!(g[i] > 0)) continue;
      const u = slope * w[at.e + i] * second[i];
      grad[at.d + i] += u;
      for (let j = 0; j < n; j++) { grad[at.c + i * n + j] += u * h[j]; back[j] += u * w[at.c + i * n + j]; }
    }
    for (let i = 0; i < n; i++) if (h[i] > 0) { grad[at.a + i] += back[i] * first[i] * x; grad[at.b + i] += back[i] * first[i]; }
  }
}

// The masks of both layers for a sample: scaled as dropout in training scales them.
function masks(seed, { id, epoch = 0, draw = 0 }, n, p, mode) {
  const scale = mode === "inverted" ? 1 / (1 - p) : 1;
  return [1, 2].map((layer) => rng.kept(rng.key(seed, `${CONSTANTS_OF.streams.dropout}.${layer}`, epoch, draw), id, n, p).map((kept) => (kept ? scale : 0)));
}
const whole = (n, p, mode) => { const at = new Array(n).fill(mode === "inverted" ? 1 : 1 - p); return [at, at]; };

// Trains on points [x, y] for some steps, every point with masks of its own at every step.
function trained(n, points, { p, mode, steps, lr, seed }) {
  const net = new Network(n, seed), rule = made({ adam: ADAM }, { name: "adam", settings: { lr } });
  const slots = ADAM.facts.slots.map(() => new Float64Array(net.weights.length)), everyUnit = new Array(n).fill(1);
  for (let t = 1; t <= steps; t++) {
    const grad = new Float64Array(net.weights.length), coefficients = rule.coefficients(t);
    points.forEach(([x, y], id) => {
      const [first, second] = p > 0 ? masks(seed, { id, epoch: t }, n, p, mode) : [everyUnit, everyUnit], passed = net.forward(x, first, second);
      net.backward(x, first, second, passed, (2 * (passed.y - y)) / points.length, grad);
    });
    net.weights.forEach((weight, i) => {
      const [u, ...after] = rule.direction(weight, grad[i], ...slots.map((slot) => slot[i]), ...coefficients);
      after.forEach((value, k) => { slots[k][i] = value ?? 0; });
      net.weights[i] = weight - lr * u;
    });
  }
  return net;
}

// Mean and standard deviation of the answers of all 4^n sub-networks at each x.
function everySubNetwork(net, xs, p, mode) {
  const { n, weights: w, at } = net, scale = mode === "inverted" ? 1 / (1 - p) : 1, chances = Array.from({ length: 2 ** n }, (_, mask) => {
    let kept = 0;
    for (let i = 0; i < n; i++) kept += (mask >> i) & 1;
    return (1 - p) ** kept * p ** (n - kept);
  });
  return xs.map((x) => {
    const hidden = Array.from({ length: n }, (_, i) => scale * Math.max(w[at.a + i] * x + w[at.b + i], 0));
    let mean = 0, square = 0;
    chances.forEach((first, mask) => {
      const parts = Array.from({ length: n }, (_, i) => {
        let u = w[at.d + i];
        for (let j = 0; j < n; j++) if ((mask >> j) & 1) u += w[at.c + i * n + j] * hidden[j];
        return scale * w[at.e + i] * Math.max(u, 0);
      });
      // Given the first layer the answer is a sum of independent terms, whose mean and variance are exact.
      const middle = w[at.f] + (1 - p) * parts.reduce((a, b) => a + b, 0), spread = p * (1 - p) * parts.reduce((a, b) => a + b * b, 0);
      mean += first * middle;
      square += first * (middle * middle + spread);
    });
    return { mean, sd: Math.sqrt(Math.max(square - mean * mean, 0)) };
  });
}
