// Spec text, as in "momentum(lr=0.1, form='lr_inside')", to and from {name, settings}, and what is legal in it.

// Text -> {name, settings}; an Error where it names what is not known here.
function parsed(text) {
  const tokens = text.match(/'[^']*'|"[^"]*"|[A-Za-z_]\w*|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[()=,[\]]/g) ?? [];
  let i = 0;
  const value = () => {
    const token = tokens[i++] ?? "";
    if (token === "[") {
      const list = [];
      while (tokens[i] !== "]" && i < tokens.length) { list.push(value()); if (tokens[i] === ",") i++; }
      i++;
      return list;
    }
    if (/^['"]/.test(token)) return token.slice(1, -1);
    if (/^[-+\d.]/.test(token)) return Number(token);
    if (token in CONSTANTS) return CONSTANTS[token];
    const settings = {};
    if (tokens[i] === "(") {
      for (i++; tokens[i] !== ")" && i < tokens.length; ) {
        const name = tokens[i++];
        if (tokens[i++] !== "=") throw new Error(`cannot read ${text}`);
        settings[name] = value();
        if (tokens[i] === ",") i++;
      }
      i++;
    }
    return { name: token, settings };
  };
  const result = value();
  if (typeof result !== "object" || !("name" in result)) throw new Error(`cannot read ${text}`);
  return result;
}
const CONSTANTS = { True: true, False: false, None: null };

function written(value) {
  if (Array.isArray(value)) return `[${value.map(written).join(", ")}]`;
  if (value === null) return "None";
  if (typeof value === "object") return specText(value);
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "string" ? `'${value}'` : shown(value);
}
// A number as Python writes it: 1e-06 for a small one.
const shown = (x) => (x !== 0 && Math.abs(x) < 1e-4 ? x.toExponential() : String(x)).replace(/e([-+])(\d)$/, "e$10$2");
const specText = ({ name, settings }, always = []) => {
  const inside = Object.entries(settings).map(([knob, value]) => `${knob}=${written(value)}`);
  return inside.length || always.length ? `${name}(${[...always, ...inside].join(", ")})` : name;
};

// Whether a value is legal for a knob; the bounds are those of the technique.
const LEGAL = { ge: (x, b) => x >= b, gt: (x, b) => x > b, le: (x, b) => x <= b, lt: (x, b) => x < b };
function legal(control, value) {
  if (control.choices) return control.choices.includes(value);
  if (typeof control.default === "boolean") return typeof value === "boolean";
  if (typeof control.default === "string") return typeof value === "string";
  if (typeof control.default !== "number") return false;
  return Number.isFinite(value) && (!control.whole || Number.isInteger(value)) && control.bounds.every(([kind, b]) => LEGAL[kind](value, b));
}
function checked(table, spec) {
  if (!Object.hasOwn(table, spec.name)) throw new Error(`${spec.name} is not known here`);
  const { knobs } = table[spec.name].facts;
  for (const [knob, value] of Object.entries(spec.settings)) {
    if (knobs[knob]?.inner) checked(RULES, value);
    else if (!knobs[knob] || !(legal(knobs[knob], value) || Array.isArray(value))) throw new Error(`${spec.name}: ${knob}=${written(value)} is not legal`);
  }
  agreeing(table, spec);
  return spec;
}

// A technique with its knobs: what a spec {name, settings} of a table stands for.
function made(table, { name, settings }) {
  const { facts, methods } = table[name], defaults = Object.entries(facts.knobs).map(([knob, control]) => [knob, control.default]);
  return Object.assign(Object.create(methods), Object.fromEntries(defaults), settings);
}
const innerOf = (rule) => rule.settings.inner ?? parsed(RULES[rule.name].facts.knobs.inner.default);

// An Error where knobs that are legal one by one are refused together, as by the technique itself.
function agreeing(table, spec) {
  made(table, spec).__post_init__?.();
  const inside = [spec];
  while (table[inside.at(-1).name].facts.wraps) inside.push(innerOf(inside.at(-1)));
  inside.forEach(({ name }, i) => { if (i < inside.length - 1) around(name, inside.slice(i + 1)); });
}
// The same of a rule around others, as optim/wrapper.py and optim/sharpness.py have it; inside: outermost first.
function around(name, inside) {
  const plain = ({ knobs }) => Object.keys(knobs).filter((knob) => !knobs[knob].inner), slots = (facts) => facts.slots;
  const shared = [plain, slots].flatMap((names) => {
    const taken = inside.flatMap((each) => names(RULES[each.name].facts));
    return names(RULES[name].facts).filter((each) => taken.includes(each));
  });
  if (shared.length) throw new Error(`${name}: cannot wrap a rule that has ${shared.sort().join(", ")} too`);
  if (RULES[name].facts.perturbs && made(RULES, inside.at(-1)).looks_ahead()) throw new Error(`${name}: the inner rule must take its gradient at the parameters`);
}
