// Controls made from the knobs of techniques: a slider over the range worth searching, a field for any legal number, a choice.

const element = (tag, attributes = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
};
let n_controls = 0;

// Positions 0 ... 1000 of a slider and the values of its knob; on a logarithmic one that allows 0, that is position 0.
function slider({ low, high, log, whole, bounds }) {
  const zero = log && LEGAL_ZERO(bounds);
  const value = (position) => {
    if (zero && position <= 0) return 0;
    const x = log ? low * (high / low) ** (position / 1000) : low + ((high - low) * position) / 1000;
    return whole ? Math.round(x) : Number(x.toPrecision(log ? 2 : 3));
  };
  const position = (x) => {
    const part = log ? Math.log(Math.max(x, low) / low) / Math.log(high / low) : (x - low) / (high - low);
    return zero && x === 0 ? 0 : Math.min(1000, Math.max(zero ? 1 : 0, Math.round(1000 * part)));
  };
  return { value, position };
}
const LEGAL_ZERO = (bounds) => bounds.every(([kind, b]) => LEGAL[kind](0, b));

// Shows whether what stands in a field, or is chosen, is refused; wrong: why, if it is.
const mark = (field, wrong) => { field.setAttribute("aria-invalid", String(Boolean(wrong))); field.title = wrong || ""; };

// One row of a knob. change: told every legal value; returns why that is refused, if it is.
function row(name, control, value, change) {
  const id = `control-${n_controls++}`, label = element("label", { htmlFor: id, textContent: name, title: control.interval ?? "" });
  if (control.choices || typeof control.default === "boolean") {
    const choices = control.choices ?? [false, true], select = element("select", { id });
    for (const choice of choices) select.append(element("option", { value: String(choice), textContent: String(choice).replace(/^(true|false)$/, (w) => ({ true: "on", false: "off" })[w]) }));
    select.value = String(value);
    select.addEventListener("change", () => mark(select, change(choices[select.selectedIndex])));
    return element("div", { className: "row" }, label, select);
  }
  const field = element("input", { id, type: "number", step: "any", value: shown(value) });
  const { value: valueAt, position } = slider(control);
  const range = element("input", { type: "range", min: 0, max: 1000, value: position(value) });
  range.setAttribute("aria-label", name);
  range.addEventListener("input", () => {
    const x = valueAt(Number(range.value));
    field.value = shown(x);
    mark(field, change(x));
  });
  field.addEventListener("input", () => {
    const x = field.value === "" ? NaN : Number(field.value), fits = legal(control, x);
    if (fits) range.value = position(x);
    mark(field, fits ? change(x) : `must be ${control.interval}`);
  });
  return element("div", { className: "row" }, label, range, field);
}

const adjustable = (control) => !control.inner && (control.choices || typeof control.default === "boolean" || control.low !== undefined);

// The nodes of a rule and of the rules inside it, outermost first, to be changed in place.
function nested(rule) {
  if (!RULES[rule.name].facts.wraps) return [rule];
  rule.settings.inner = innerOf(rule);
  return [rule, ...nested(rule.settings.inner)];
}
// Sets a knob of a technique, and deletes one at its default. Where the whole, of which node may be a part, refuses it, all is as
// it was, and the reason is returned.
function set(node, table, knob, value, whole = node) {
  const before = { ...node.settings };
  node.settings[knob] = value;
  if (value === table[node.name].facts.knobs[knob].default) delete node.settings[knob];
  try { agreeing(table, whole); } catch (error) { node.settings = before; return error.message; }
  return "";
}

const options = (names, chosen, head = [], blank = "a rule …") =>
  [...head, ...names].map((name) => element("option", { value: name, textContent: name || blank, selected: name === chosen }));

const swatch = (i) => {
  const dashes = dashOf(i).join(" ");
  const node = element("span", { className: "swatch" });
  node.innerHTML = `<svg width="26" height="10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" stroke="var(--c${i})" stroke-width="4" stroke-dasharray="${dashes}"/></svg>`;
  return node;
};

// The card of rule number i. act: {change, remove, replace}.
function ruleCard(rule, i, act) {
  const nodes = nested(rule), core = nodes.at(-1), facts = RULES[rule.name].facts;
  const kind = element("select", {}, ...options(Object.keys(RULES), rule.name));
  kind.setAttribute("aria-label", `Rule ${i + 1}`);
  kind.addEventListener("change", () => act.replace({ name: kind.value, settings: {} }));
  const remove = element("button", { type: "button", textContent: "✕", title: "Remove" });
  remove.setAttribute("aria-label", `Remove ${rule.name}`);
  remove.addEventListener("click", act.remove);
  const rate = row("lr", { ...RULES[core.name].facts.knobs.lr, low: FACTS.rates[0], high: FACTS.rates.at(-1), log: true }, rateOf(rule), (value) => {
    core.settings.lr = value;
    act.change();
  });
  const others = nodes.flatMap((node) => Object.entries(RULES[node.name].facts.knobs)
    .filter(([knob, control]) => knob !== "lr" && adjustable(control))
    .map(([knob, control]) => row(knob, control, node.settings[knob] ?? control.default, (value) => set(node, RULES, knob, value, rule) || act.change())));
  const inside = nodes.length > 1 ? ` Around ${nodes.slice(1).map((node) => node.name).join(", ")}.` : "";
  const details = element("details", {}, element("summary", { textContent: "What it does, and its other knobs" }),
    element("p", { className: "note", textContent: facts.doc + inside }), ...others);
  return element("div", { className: "rule" }, element("div", { className: "top" }, swatch(i), kind, remove), rate, details);
}

// The knobs of a surface or schedule.
function knobRows(table, node, change) {
  return Object.entries(table[node.name].facts.knobs).filter(([, control]) => adjustable(control))
    .map(([knob, control]) => row(knob, control, node.settings[knob] ?? control.default, (value) => set(node, table, knob, value) || change()));
}
