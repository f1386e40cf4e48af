// The state of the page in the hash of its address, and what it is on the command line.

const innermost = (rule) => (RULES[rule.name].facts.wraps ? innermost(innerOf(rule)) : rule);
const rateOf = (rule) => { const core = innermost(rule); return core.settings.lr ?? RULES[core.name].facts.knobs.lr.default; };
const atRate = (rule, lr) =>
  RULES[rule.name].facts.wraps
    ? { name: rule.name, settings: { ...rule.settings, inner: atRate(innerOf(rule), lr) } }
    : { name: rule.name, settings: { lr, ...rule.settings, ...{ lr } } };
// The text of a rule with its rate always in it.
const label = (rule) => specText(atRate(rule, rateOf(rule)));

const LIMITS = { noise: [0, 100], spread: [0, 100], steps: [1, FACTS.most_steps], seeds: [1, FACTS.most_seeds] };

// FACTS.state or what the hash says, as the state that the page works with.
function read(given) {
  const state = { ...given };
  state.surface = checked(SURFACES, parsed(given.surface));
  state.rules = given.rules.map((text) => checked(RULES, parsed(text)));
  state.schedule = given.schedule ? checked(SCHEDULES, parsed(given.schedule)) : null;
  for (const [name, [low, high]] of Object.entries(LIMITS)) {
    if (!(state[name] >= low && state[name] <= high)) throw new Error(`${name} must be from ${low} to ${high}`);
  }
  for (const name of ["steps", "seeds"]) if (!Number.isInteger(state[name])) throw new Error(`${name} must be a whole number`);
  if (state.target !== null && !(state.target >= 0)) throw new Error("target must be 0 or more");
  if (state.start && !(state.start.length === 2 && state.start.every(Number.isFinite))) throw new Error("start must be two numbers");
  return state;
}
function fromHash(hash) {
  const words = new URLSearchParams(hash.replace(/^#/, "")), given = { ...FACTS.state };
  const nullable = (name) => words.get(name) || null; // an empty word: switched off, whatever the page was written with
  if (words.has("surface")) given.surface = words.get("surface");
  if (words.has("schedule")) given.schedule = nullable("schedule");
  for (const name of ["noise", "spread", "steps", "seeds"]) if (words.has(name)) given[name] = Number(words.get(name));
  if (words.has("target")) given.target = nullable("target") && Number(words.get("target"));
  if (words.has("start")) given.start = words.get("start").split(",").map(Number);
  else if (words.has("surface")) given.start = null;
  if (words.has("rules")) given.rules = words.get("rules").split(";").filter(Boolean).slice(0, FACTS.n_colors);
  return read(given);
}
function toHash(state) {
  const { steps, noise, spread, seeds } = state, words = { surface: specText(state.surface), rules: state.rules.map(label).join(";"), steps, noise, spread, seeds };
  if (state.start) words.start = state.start.map(shown).join(",");
  Object.assign(words, { target: state.target ?? "", schedule: state.schedule ? specText(state.schedule) : "" });
  return "#" + new URLSearchParams(words).toString();
}

// The same race on the command line.
function command(state) {
  const quoted = (text) => (/^[\w.-]+$/.test(text) ? text : `"${text}"`);
  const words = ["descend surface", quoted(specText(state.surface)), "--optimizers", ...state.rules.map((rule) => quoted(label(rule)))];
  if (state.steps !== 200) words.push("--steps", state.steps);
  if (state.noise > 0) words.push("--noise", shown(state.noise));
  if (state.spread > 0) words.push("--spread", shown(state.spread));
  if (state.noise > 0 || state.spread > 0) words.push("--seeds", state.seeds);
  if (state.start) words.push("--start", ...state.start.map(shown));
  if (state.target !== null) words.push("--target", shown(state.target));
  if (state.schedule) words.push("--schedule", quoted(specText(state.schedule)));
  return words.join(" ");
}
