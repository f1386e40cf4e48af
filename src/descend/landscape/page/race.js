// Counts over many seeds, tuning, and random numbers.

// Two standard normal numbers of (seed, t), the same for every rule and rate; stream 0: noise, 1: starts. They are the page's own, not
// those of the command line: a hash (the finalizer of MurmurHash3, twice) and the transform of Box and Muller.
function mixed(h) {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
function uniform(seed, t, stream) {
  const h = mixed(mixed(Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(stream + 1, 0x7feb352d)) + Math.imul(t + 1, 0x27d4eb2f));
  return ((h >>> 0) + 0.5) / 2 ** 32;
}
function normals(seed, t, stream) {
  const radius = Math.sqrt(-2 * Math.log(uniform(seed, t, 2 * stream))), angle = 2 * Math.PI * uniform(seed, t, 2 * stream + 1);
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

// The course that a state describes.
function courseOf(state) {
  const surface = built(SURFACES, state.surface);
  const scaled = (k, draw) => (k > 0 ? (...key) => vector.multiply(k, draw(...key)) : null);
  return {
    surface, steps: state.steps, start: state.start ?? surface.start(), target: state.target ?? surface.target(),
    schedule: state.schedule ? built(SCHEDULES, state.schedule) : null,
    noise: scaled(state.noise, (seed, t) => normals(seed, t, 0)), scatter: scaled(state.spread, (seed) => normals(seed, 0, 1)),
    random: state.noise > 0 || state.spread > 0,
  };
}

// What one walk came to: its first step at the target, whether it left the trap, whether it ended far above where it began.
function outcome(course, { losses, last }) {
  const end = losses[course.steps], first = losses.findIndex((loss) => loss <= course.target);
  return {
    steps: first < 0 ? Infinity : first,
    escaped: course.surface.facts.trap ? Number.isFinite(end) && course.surface.escaped(last) : null,
    diverged: !(end <= 10 * Math.max(losses[0], 1)),
    final: end,
  };
}

const median = (values) => [...values].sort((a, b) => (a === b ? 0 : a - b))[(values.length - 1) >> 1];

// Wilson's 95% interval of a share of k in n, as descend.stats has it.
function share(k, n) {
  const z2 = 3.841458820694124, middle = (k + z2 / 2) / (n + z2);
  const half = (Math.sqrt(z2) / (n + z2)) * Math.sqrt((k * (n - k)) / n + z2 / 4);
  return { k, n, mean: k / n, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

// What a walk at a rate is worth, as landscape/racing.py has it: the mean logarithm of the loss, that of the target where it is below.
function badness(course, rule, lr, seeds) {
  let total = 0, n = 0;
  for (const seed of seeds) {
    const { losses } = walk(course, atRate(rule, lr), seed);
    for (const loss of losses) {
      if (!Number.isFinite(loss)) return Infinity;
      total += Math.log(Math.max(loss, course.target, 1e-300));
      n += 1;
    }
  }
  return total / n;
}

// The rule at the best of FACTS.rates; where walks differ, by 16 that are not among those counted.
function tuned(course, rule) {
  const seeds = course.random ? Array.from({ length: 16 }, (_, i) => 1000000 + i) : [0];
  let best = FACTS.rates[0], least = Infinity;
  for (const lr of FACTS.rates) {
    const value = badness(course, rule, lr, seeds);
    if (value < least) [best, least] = [lr, value];
  }
  return atRate(rule, best);
}
