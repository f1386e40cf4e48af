// The page: one state; a change of it makes its own section again and writes the address.

const $ = (id) => document.getElementById(id);
let state, told = 0, learned = { key: "" };
const number = (x) => shown(Number(x.toPrecision(3))).replace("-", "−");
const percent = (x) => `${(100 * x).toFixed(0)}%`;

function wrong(text) {
  $("wrong").textContent = text;
  $("wrong").hidden = !text;
}
function say(id, text) { if ($(id).textContent !== text) $(id).textContent = text; }

// --------------------------------------------------------------------------------------------------------------- sections

function showNeuron() {
  const { neuron_p: p, neuron_mode: mode, neuron_activation: name, neuron_masks: n_masks } = state, act = ACTIVATIONS[name];
  const terms = normalTerms(state.neuron_terms, FACTS.n_inputs), key = (draw) => rng.key(0, CONSTANTS_OF.streams.dropout, 0, draw);
  const scale = mode === "inverted" ? 1 / (1 - p) : 1, total = (kept) => terms.reduce((sum, term, i) => sum + (kept[i] ? scale * term : 0), 0);
  const outputs = subNeurons(terms, p, mode).map(({ u, chance }) => ({ value: act(u), chance })), mean = outputs.reduce((sum, { value, chance }) => sum + value * chance, 0);
  const full = terms.reduce((a, b) => a + b, 0), once = act(mode === "inverted" ? full : (1 - p) * full), kept = rng.kept(key(state.neuron_draw), 0, terms.length, p);
  const averaged = Array.from({ length: n_masks }, (_, k) => act(total(rng.kept(key(state.neuron_draw + k), 0, terms.length, p)))).reduce((a, b) => a + b, 0) / n_masks;
  drawTerms($("terms"), terms, kept);
  drawOutputs($("outputs"), outputs, [
    { value: act(total(kept)), hue: "soft", width: 1.5, dash: [] }, { value: averaged, hue: "c2", dash: [2, 3] }, { value: mean, hue: "c0", dash: [] }, { value: once, hue: "c1", dash: [6, 4] },
  ]);
  const gap = Math.abs(mean - once), close = gap < 1e-12;
  let text = `Over all ${outputs.length} sub-networks the output is ${number(mean)} on average (solid). One pass with every input at its expectation says ${number(once)} (dashed): ${close ? "the same, because nothing but a sum follows" : `off by ${number(gap)}, because the mean of a curve is not the curve of the mean`}.`;
  text += ` The mean of ${n_masks} masks is ${number(averaged)} (dotted); the draw that is shown says ${number(act(total(kept)))} (thin).`;
  if (name === "relu" && mode === "inverted" && p > 0) {
    const { mean: middle, variance } = moments(terms, p);
    text += ` DropConnect's Gaussian with the same mean and variance gives ${number(expectedRelu(nd([middle]), nd([variance])).data[0])}.`;
  }
  say("neuron-said", text);
}

function showNetwork() {
  const { network_p: p, network_mode: mode, network_steps: steps, network_seed: seed, network_masks: n_masks, network_draw: draw } = state, n = FACTS.n_units;
  const key = [p, mode, steps, seed].join(" "), points = noisyPoints(FACTS.n_points, seed);
  if (learned.key !== key) learned = { key, net: trained(n, points, { p, mode, steps, lr: FACTS.lr, seed }) };
  const { net } = learned, xs = Array.from({ length: 61 }, (_, i) => -1 + i / 30), answers = (pair) => xs.map((x) => net.forward(x, ...pair).y);
  const every = everySubNetwork(net, xs, p, mode), once = answers(whole(n, p, mode)), some = Array.from({ length: n_masks }, (_, k) => masks(seed, { id: 0, draw: draw + k }, n, p, mode));
  const passes = some.map(answers), averaged = xs.map((_, i) => passes.reduce((sum, values) => sum + values[i], 0) / n_masks), mean = every.map((each) => each.mean);
  drawUnits($("units"), net, ...some[0]);
  drawFits($("fits"), xs, points, { low: every.map((e) => e.mean - e.sd), high: every.map((e) => e.mean + e.sd) }, [
    ...passes.slice(0, 20).map((values) => ({ values, hue: "soft", width: 1, dash: [], alpha: 0.3 })),
    { values: averaged, hue: "c2", width: 2.5, dash: [2, 3] }, { values: mean, hue: "c0", width: 2.5 }, { values: once, hue: "c1", width: 2.5, dash: [7, 4] },
  ]);
  const apart = (a, b) => Math.sqrt(a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0) / a.length), sd = Math.sqrt(every.reduce((sum, e) => sum + e.sd ** 2, 0) / xs.length);
  say("network-said", p > 0
    ? `Left on at test time, one answer strays from the mean of all ${(4 ** n).toLocaleString("en")} sub-networks by ${number(sd)} (root mean square over x); the mean of ${n_masks} masks by ${number(apart(averaged, mean))}, where ${number(sd)} / √${n_masks} = ${number(sd / Math.sqrt(n_masks))} is to be expected; one pass with every unit at its expectation, which costs one and is never random, by ${number(apart(once, mean))}.`
    : "Without dropout there is one network, and nothing is random.");
}

function showConnections() {
  const { connections_p: p, connections_draw: draw } = state, { n_in, n_out } = FACTS, n = n_in * n_out;
  const units = rng.kept(rng.key(0, CONSTANTS_OF.streams.dropout, 0, draw), 0, n_in, p), single = rng.kept(rng.key(0, CONSTANTS_OF.streams.dropconnect, 0, draw), 0, n, p);
  drawGrid($("columns"), n_out, n_in, (_, j) => units[j]);
  drawGrid($("weights"), n_out, n_in, (i, j) => single[i * n_in + j]);
  const left = single.filter(Boolean).length;
  say("connections-said", `Dropout keeps ${units.filter(Boolean).length} of ${n_in} inputs: every unit of the layer sees the same ones. DropConnect keeps ${left} of ${n} weights: every unit sees others, so that its sum is nearer to a normal variable. Both keep ${percent(1 - p)} on average, out of 2 to the power of ${n_in} and of ${n} masks.`);
}

function showDepth() {
  const { depth_last: last, depth_blocks: n, depth_draw: draw } = state, chances = linearDecay(last, n), rows = 16;
  const keys = chances.map((_, block) => rng.key(0, `${CONSTANTS_OF.streams.stochastic_depth}.${block}`, 0, draw)); // each block draws from a stream of its own
  const kept = Array.from({ length: 200 }, (_, id) => keys.map((key, block) => rng.kept(key, id, 1, chances[block])[0]));
  drawGrid($("blocks"), rows, n, (i, j) => kept[i][j], { foot: 22, shares: chances });
  const depths = kept.map((row) => row.filter(Boolean).length), mean = depths.reduce((a, b) => a + b, 0) / depths.length;
  say("depth-said", `On average ${number(expectedDepth(chances))} of ${n} blocks train; the first 200 samples of this draw have ${number(mean)}, from ${Math.min(...depths)} to ${Math.max(...depths)}. At test time all ${n} answer.`);
}

function showDecay() {
  const schedules = state.schedules.map((spec) => made(SCHEDULES, spec));
  drawSchedules($("curves"), schedules);
  const halves = schedules.map((schedule, i) => `${specText(state.schedules[i])} ${number(schedule.at(0.5))}, ${number(schedule.at(1))}`);
  say("decay-said", halves.length ? `Factor halfway and at the end: ${halves.join("; ")}.` : "Add a schedule.");
}

const SHOW = { draw: showDraws, neuron: showNeuron, network: showNetwork, connections: showConnections, depth: showDepth, decay: showDecay };
let waiting = new Set();
// Makes sections again in the next frame, each once however often it was asked for.
function show(...sections) {
  if (!waiting.size) setTimeout(() => { const now = [...waiting]; waiting = new Set(); for (const name of now) SHOW[name](); }, 0);
  for (const name of sections) waiting.add(name);
}
// The state has changed, which these sections show.
function change(...sections) {
  wrong("");
  show(...sections);
  $("command").textContent = command(state);
  clearTimeout(told);
  told = setTimeout(() => history.replaceState(null, "", toHash(state)), 150);
}

// --------------------------------------------------------------------------------------------------------------- controls

function dress() {
  const act = (list, i, section) => ({
    change: () => change(section),
    remove: () => { list.splice(i, 1); dress(); change(section); },
    replace: (spec) => { list[i] = spec; dress(); change(section); },
  });
  $("transforms").replaceChildren(...state.augment.map((spec, i) => transformCard(spec, i, act(state.augment, i, "draw"))));
  $("add-transform").replaceChildren(...options(Object.keys(AUGMENTATIONS), "", [""], "a transform …"));
  $("schedules").replaceChildren(...state.schedules.map((spec, i) => scheduleCard(spec, i, act(state.schedules, i, "decay"))));
  $("add-schedule").replaceChildren(...options(Object.keys(SCHEDULES), "", [""], "a schedule …"));
  $("add-schedule").disabled = state.schedules.length >= FACTS.n_colors;
  dressSettings();
}
function dressSettings() {
  for (const [section, settings] of Object.entries(SETTINGS)) $(`${section}-settings`).replaceChildren(...Object.entries(settings)
    .map(([name, [label, control]]) => row(label, control, state[name], (value) => { state[name] = value; change(section); })));
}
function scheduleCard(spec, i, act) {
  const kind = element("select", {}, ...options(Object.keys(SCHEDULES), spec.name));
  kind.setAttribute("aria-label", `Schedule ${i + 1}`);
  kind.addEventListener("change", () => act.replace({ name: kind.value, settings: {} }));
  const remove = element("button", { type: "button", textContent: "✕", title: "Remove" });
  remove.setAttribute("aria-label", `Remove ${spec.name}`);
  remove.addEventListener("click", act.remove);
  const about = element("details", {}, element("summary", { textContent: "What it does" }), element("p", { className: "note", textContent: SCHEDULES[spec.name].facts.doc }));
  return element("div", { className: "rule" }, element("div", { className: "top" }, swatch(i), kind, remove), ...knobRows(SCHEDULES, spec, act.change), about);
}

function listen() {
  const adds = [["add-transform", "augment", "draw"], ["add-schedule", "schedules", "decay"]];
  for (const [id, list, section] of adds) $(id).addEventListener("change", () => { state[list].push({ name: $(id).value, settings: {} }); dress(); change(section); $(id).focus(); });
  $("other-draws").addEventListener("click", () => { state.first = (state.first + state.draws) % 1000; dressSettings(); change("draw"); });
  $("reset").addEventListener("click", () => { history.replaceState(null, "", " "); open(""); });
  $("copy").addEventListener("click", async () => {
    try { await navigator.clipboard.writeText($("command").textContent); $("copy").textContent = "Copied"; }
    catch { getSelection().selectAllChildren($("command")); }
  });
  for (const button of document.querySelectorAll("[data-to]")) button.addEventListener("click", () => {
    $(button.dataset.to).scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    $(`h-${button.dataset.to}`).focus({ preventScroll: true });
  });
  $("sample").addEventListener("change", () => { image = samples[Number($("sample").value)].image; showDraws(); });
  $("file").addEventListener("change", () => { const [file] = $("file").files; if (file) take(file, file.name); });
  addEventListener("paste", (event) => { const [file] = event.clipboardData?.files ?? []; if (file) take(file, file.name); });
  addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  addEventListener("dragleave", () => $("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    const [file] = event.dataTransfer?.files ?? [];
    if (file) take(file, file.name);
  });
  addEventListener("hashchange", (event) => open(new URL(event.newURL).hash));
  const again = () => show(...Object.keys(SHOW).filter((name) => name !== "draw"));
  new ResizeObserver(again).observe($("curves"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
}

function open(hash) {
  let said = "";
  try { state = fromHash(hash); }
  catch (error) { said = `The address could not be read (${error.message}); this is the page as it was written.`; state = fromHash(""); }
  dress();
  change(...Object.keys(SHOW));
  wrong(said);
}

open(location.hash);
listen();
loadSamples().then(showDraws);
