// The state of the page: lists of techniques and single numbers, their legal values, and the hash of the address that holds them.

const count = (high, standard, low = 1) => ({ default: standard, low, high, log: false, whole: true, bounds: [["ge", low], ["le", high]], interval: `a whole number from ${low} to ${high}` });
const choice = (...choices) => ({ default: choices[0], choices, interval: `one of ${choices.join(", ")}` });
const { dropout, dropconnect, stochastic_depth } = CONSTANTS_OF.drops;
const FIRST = { ...count(999, 0, 0), high: 50 };

// By section and name: the label and the control of every single setting; the ranges of p are those of the techniques.
const SETTINGS = {
  draw: { draws: ["draws", count(24, 8)], first: ["first draw", FIRST], seed: ["seed", { ...count(9999, 0, 0), high: 50 }], id: ["picture's id", { ...count(9999, 0, 0), high: 50 }] },
  neuron: {
    neuron_p: ["p", { ...dropout.knobs.p, default: 0.5 }], neuron_mode: ["mode", dropout.knobs.mode], neuron_activation: ["activation", choice("none", "relu", "sigmoid")],
    neuron_draw: ["draw", FIRST], neuron_masks: ["masks averaged", count(500, 30)], neuron_terms: ["another neuron", FIRST],
  },
  network: {
    network_p: ["p", { ...dropout.knobs.p, default: 0.2 }], network_mode: ["mode", dropout.knobs.mode], network_draw: ["draw", FIRST], network_masks: ["masks averaged", count(200, 20)],
    network_steps: ["training steps", { ...count(600, 300, 0) }], network_seed: ["seed", FIRST],
  },
  connections: { connections_p: ["p", dropconnect.knobs.p], connections_draw: ["draw", FIRST] },
  depth: { depth_last: ["p of the last", stochastic_depth.knobs.last], depth_blocks: ["blocks", count(50, 12)], depth_draw: ["draw", FIRST] },
};
const SINGLE = Object.assign({}, ...Object.values(SETTINGS));

function readTransforms(texts) {
  const specs = texts.map(parsed);
  specs.forEach(transform);
  return specs;
}
const readSchedules = (texts) => texts.map((text) => checked(SCHEDULES, parsed(text)));

// The state that a hash stands for; what it does not name is as the page was written.
function fromHash(hash) {
  const words = new URLSearchParams(hash.replace(/^#/, "")), listed = (name) => words.get(name)?.split(";").filter(Boolean) ?? FACTS.state[name];
  const state = { augment: readTransforms(listed("augment")), schedules: readSchedules(listed("schedules").slice(0, FACTS.n_colors)) };
  for (const [name, [label, control]] of Object.entries(SINGLE)) {
    const text = words.get(name), standard = FACTS.state[name] ?? control.default;
    state[name] = text === null ? standard : typeof standard === "number" ? (text.trim() === "" ? NaN : Number(text)) : text;
    if (!legal(control, state[name])) throw new Error(`${name} (${label}) must be ${control.interval}`);
  }
  return state;
}
function toHash(state) {
  const words = {};
  for (const name of ["augment", "schedules"]) {
    const text = state[name].map((spec) => specText(spec)).join(";");
    if (text !== FACTS.state[name].map((each) => specText(parsed(each))).join(";")) words[name] = text;
  }
  for (const [name, [, control]] of Object.entries(SINGLE)) if (state[name] !== (FACTS.state[name] ?? control.default)) words[name] = state[name];
  const text = new URLSearchParams(words).toString();
  return text ? `#${text}` : " ";
}

// What trains a network so.
function command(state) {
  const quoted = (text) => (/^[\w.-]+$/.test(text) ? text : `"${text}"`), specs = (list) => list.map((spec) => quoted(specText(spec)));
  const words = ["descend fit photos/"];
  if (state.augment.length) words.push("--augment", ...specs(state.augment));
  if (state.network_p > 0) words.push("--regularize", quoted(specText({ name: "dropout", settings: { p: state.network_p, ...(state.network_mode === "inverted" ? {} : { mode: state.network_mode }) } })));
  if (state.schedules.length) words.push("--schedule", specs(state.schedules)[0]);
  return words.join(" ");
}
