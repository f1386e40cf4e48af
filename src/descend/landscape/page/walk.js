// One walk of one rule, as landscape/course.py and optim/chain.py take it: the loop, and the shell around a translated direction.

// A technique of one of the tables RULES, SURFACES and SCHEDULES, as a walk needs it.
const built = (table, spec) => Object.assign(made(table, spec), { n_dims: 2, facts: table[spec.name].facts });

// The parts of a rule: the one that makes the step, then the wrappers around it, innermost first.
function parts(spec) {
  const rule = built(RULES, spec);
  if (!rule.facts.wraps) return [rule];
  return [...parts(innerOf(spec)), rule];
}

// Calls f(number of a coordinate) for both where the rule works per element; its results come back as one list per output.
const perCoordinate = (f) => {
  const [a, b] = [f(0), f(1)];
  return a.map((x, i) => (x === null ? null : [x, b[i]]));
};
const at = (slots, d) => slots.map((slot) => (slot === null ? null : slot[d]));

class Walker {
  constructor(spec, start) {
    [this.core, ...this.wrappers] = parts(spec);
    this.lr = this.core.lr;
    this.p = [...start];
    this.t = 0;
    const { slots, memory } = this.core.facts;
    this.memory = memory.map((name) => this.core.initial(name));
    const unused = this.core.unused();
    this.slots = slots.map((name) => (unused.includes(name) ? null : start.map(() => this.core.initial(name))));
    this.added = this.wrappers.map(({ facts }) => facts.slots.map(() => (facts.copies ? [...start] : null)));
  }

  // The gradient that the rule wants in a step at factor times the rate; of: point -> gradient.
  gradient(of, factor) {
    this.core.lr = this.lr * factor;
    const [ahead] = perCoordinate((d) => [this.core.lookahead_point(this.p[d], at(this.slots, d))]);
    const g = of(ahead);
    const around = this.wrappers.find(({ facts }) => facts.perturbs);
    if (!around) return g;
    const norm = Math.hypot(...g.map((part, d) => around.scaled_gradient(this.p[d], part)));
    return of(g.map((part, d) => around.perturbed(this.p[d], part, norm)));
  }

  // Moves by one step along g, at the rate at which it was asked for, and returns the weights at which the rule is to be judged.
  step(g) {
    const core = this.core;
    this.t += 1;
    this.memory = core.remember(this.t, ...this.memory);
    const coefficients = core.coefficients(this.t, ...this.memory);
    const decay = core.weight_decay ?? 0, rate = core.rate(this.t);
    if (core.facts.decays === "coupled" && decay) g = g.map((part, d) => part + decay * this.p[d]);
    const [u, ...slots] = core.facts.elementwise
      ? perCoordinate((d) => core.direction(this.p[d], g[d], ...at(this.slots, d), ...coefficients))
      : core.direction(this.p, g, ...this.slots, ...coefficients);
    this.slots = slots;
    const shrink = core.facts.decays === "decoupled" ? 1 - core.lr * decay : 1;
    this.p = this.p.map((p, d) => p * shrink - rate * u[d]);
    this.wrappers.forEach((wrapper, i) => this.follow(wrapper, i));
    return this.evaluated();
  }

  follow(wrapper, i) {
    const numbers = wrapper.facts.slots.length ? wrapper.coefficients(this.t) : null;
    if (numbers === null) return;
    const filled = this.added[i].map((slot) => slot ?? this.p.map(() => 0));
    [this.p, ...this.added[i]] = perCoordinate((d) => wrapper.after_step(this.p[d], ...at(filled, d), ...numbers));
  }

  evaluated() {
    const [own] = perCoordinate((d) => [this.core.evaluation_weights(this.p[d], at(this.slots, d))]);
    return this.wrappers.reduce((p, wrapper, i) => perCoordinate((d) => [wrapper.evaluation_weights(p[d], at(this.added[i], d))])[0], own);
  }
}

// A course: { surface, steps, schedule, start: [x, y], target, noise: (seed, t) => [x, y] or null, scatter: seed => [x, y] or null }.
function walk(course, rule, seed) {
  const { surface, steps, schedule, noise, scatter } = course;
  const begin = scatter ? vector.add(course.start, scatter(seed)) : course.start;
  const walker = new Walker(rule, begin);
  const points = new Float64Array(2 * (steps + 1)), losses = new Float64Array(steps + 1);
  points.set(begin);
  losses[0] = surface.loss(begin);
  for (let t = 1; t <= steps; t++) {
    const push = noise ? noise(seed, t) : null;
    const factor = schedule ? schedule.at((t - 1) / steps) : 1;
    const here = walker.step(walker.gradient((p) => (push ? vector.add(surface.gradient(p), push) : surface.gradient(p)), factor));
    points.set(here, 2 * t);
    losses[t] = surface.loss(here);
  }
  return { points, losses, last: [points[2 * steps], points[2 * steps + 1]] };
}
