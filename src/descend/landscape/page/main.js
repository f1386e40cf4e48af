// The page: one state; every change of it makes the walks again, draws, counts, and writes the address.

const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
let state, course, runs = [], step = 0, playing = false, scale, job = 0, told = 0, seedInputs = [];

const plain = (interval, more) => ({ interval, whole: false, bounds: [["ge", 0]], log: true, default: 0, ...more });
const SETTINGS = {
  noise: plain("a number from 0 to 100", { low: 1e-4, high: 1, bounds: [["ge", 0], ["le", 100]] }),
  spread: plain("a number from 0 to 100", { low: 1e-6, high: 1, bounds: [["ge", 0], ["le", 100]] }),
  steps: plain(`a whole number from 1 to ${FACTS.most_steps}`, { low: 20, high: FACTS.most_steps, whole: true, bounds: [["ge", 1], ["le", FACTS.most_steps]] }),
  seeds: plain(`a whole number from 1 to ${FACTS.most_seeds}`, { low: 1, high: FACTS.most_seeds, whole: true, log: false, bounds: [["ge", 1], ["le", FACTS.most_seeds]] }),
  target: plain("a number of 0 or more", { low: 1e-9, high: 1 }),
};

// ------------------------------------------------------------------------------------------------------------- the walks

// Makes the walks of seed 0 at once, and those of the others little by little.
function race() {
  course = courseOf(state);
  runs = state.rules.map((rule) => ({ rule, label: label(rule), walks: [walk(course, rule, 0)] }));
  step = Math.min(step, course.steps);
  $("step").max = course.steps;
  for (const input of seedInputs) input.disabled = !course.random; // all walks are the same
  const mine = ++job, n = course.random ? state.seeds : 1;
  let seed = 1;
  const more = () => {
    if (mine !== job) return;
    const end = performance.now() + 14;
    for (; seed < n && performance.now() < end; seed++) for (const run of runs) run.walks.push(walk(course, run.rule, seed));
    count(n);
    if (!playing) draw();
    if (seed < n) setTimeout(more, 4);
  };
  more();
  clearTimeout(told);
  told = setTimeout(() => history.replaceState(null, "", toHash(state)), 150);
}

function draw() {
  if (!$("map").clientWidth) return; // not laid out yet, or in a tab that is not shown: the observer draws when it is
  scale = drawMap($("map"), course, runs, step, specText(state.surface));
  drawCurves($("curves"), course, runs, step);
  const handle = $("start").style;
  [handle.left, handle.top] = [`${scale.x(course.start[0])}px`, `${scale.y(course.start[1])}px`];
  $("step").value = step;
  $("shown").textContent = `step ${step} of ${course.steps}`;
}

// ----------------------------------------------------------------------------------------------------------- what it came to

const number = (x) => (Number.isFinite(x) ? shown(Number(x.toPrecision(3))) : "infinite");
const percent = (x) => `${Math.round(100 * x)}%`;
function cell(k, n) {
  if (n === 1) return [k ? "yes" : "no"];
  const { mean, low, high } = share(k, n);
  return [percent(mean), `${percent(low)} to ${percent(high)}`];
}

function count(n) {
  const trap = course.surface.facts.trap, done = runs.length ? runs[0].walks.length : 0;
  const rows = runs.map(({ label, walks }) => {
    const all = walks.map((each) => outcome(course, each)), count = (f) => all.filter(f).length;
    const middle = median(all.map((each) => each.steps)), escaped = count((each) => each.escaped);
    return { label, escaped, reached: count((each) => each.steps < Infinity), steps: middle, diverged: count((each) => each.diverged),
      final: median(all.map((each) => each.final).map((loss) => (Number.isFinite(loss) ? loss : Infinity))), n: all.length };
  });
  const head = ["Rule", `Steps to loss ${shown(course.target)}`, "Arrived", ...(trap ? [`Left ${trap}`] : []), "Diverged", "Final loss"];
  $("table").tHead.replaceChildren(element("tr", {}, ...head.map((text) => element("th", { textContent: text, scope: "col" }))));
  $("table").tBodies[0].replaceChildren(...rows.map((each, i) => {
    const cells = [[Number.isFinite(each.steps) ? String(each.steps) : "never"], cell(each.reached, each.n),
      ...(trap ? [cell(each.escaped, each.n)] : []), [each.n === 1 ? (each.diverged ? "yes" : "no") : String(each.diverged)], [number(each.final)]];
    return element("tr", {}, element("td", {}, swatch(i), ` ${each.label}`), ...cells.map(([text, interval]) =>
      element("td", {}, text, ...(interval ? [element("span", { className: "interval", textContent: interval })] : []))));
  }));
  $("counted").textContent = course.random
    ? `${done} of ${n} seeds walked. Steps and final loss are medians, intervals are 95%. The thick line is seed 0, the dots are the others.`
    : "One walk each: nothing is random. With noise or spread, many seeds are counted.";
  $("noiseless").textContent = state.noise > 0 ? ", without the noise of its gradient" : "";
  $("own").textContent = course.random ? "The page draws random numbers of its own: the counts of the command agree with these within their intervals." : "";
  $("command").textContent = state.rules.length ? command(state) : "";
  if (done >= n) say(rows, trap);
}

const listed = (names) => (names.length < 3 ? names.join(" and ") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);
function say(rows, trap) {
  const sentence = () => {
    if (!rows.length) return "Add a rule, and it walks.";
    if (trap && rows[0].n > 1) return `Of ${rows[0].n} walks each, ${listed(rows.map((each) => `${each.escaped} of ${each.label}`))} left ${trap} within ${course.steps} steps.`;
    const [out, inside] = [rows.filter((each) => each.escaped), rows.filter((each) => !each.escaped)].map((some) => some.map((each) => each.label));
    if (trap) return [out.length ? `${listed(out)} left ${trap} within ${course.steps} steps` : "", inside.length ? `${listed(inside)} did not${out.length ? "" : ` leave ${trap} within ${course.steps} steps`}` : ""].filter(Boolean).join("; ") + ".";
    const arrived = rows.filter((each) => Number.isFinite(each.steps)).sort((a, b) => a.steps - b.steps);
    return arrived.length
      ? `Steps to loss ${shown(course.target)}: ${listed(arrived.map((each) => `${each.steps} for ${each.label}`))}.`
      : `None came to loss ${shown(course.target)} within ${course.steps} steps.`;
  };
  const said = sentence();
  if ($("said").textContent !== said) $("said").textContent = said; // so that it is read aloud once
}

// ---------------------------------------------------------------------------------------------------------------- controls

function change() {
  $("wrong").hidden = true;
  race();
}

// Makes the settings again from the state; needed where rows come or go.
function dress() {
  const act = (i) => ({
    change,
    remove: () => { state.rules.splice(i, 1); dress(); change(); },
    replace: (rule) => { state.rules[i] = tuned(courseOf(state), rule); dress(); change(); },
  });
  $("list").replaceChildren(...state.rules.map((rule, i) => ruleCard(rule, i, act(i))));
  $("more").replaceChildren(...options(Object.keys(RULES), "", [""]));
  $("more").disabled = state.rules.length >= FACTS.n_colors;
  const kind = element("select", { id: "surface-kind" }, ...options(Object.keys(SURFACES), state.surface.name));
  kind.addEventListener("change", () => {
    Object.assign(state, { surface: { name: kind.value, settings: {} }, start: null, target: null });
    state.rules = state.rules.map((rule) => tuned(courseOf(state), rule));
    dress();
    change();
    play();
  });
  $("kind").replaceChildren(element("div", { className: "row" }, element("label", { htmlFor: "surface-kind", textContent: "surface" }), kind));
  $("knobs").replaceChildren(...knobRows(SURFACES, state.surface, () => { dressStart(); change(); }));
  dressStart();
}

function dressStart() {
  const now = courseOf(state), rows = ["noise", "spread", "steps", "seeds", "target"].map((name) =>
    row(name, SETTINGS[name], name === "target" ? now.target : state[name], (value) => { state[name] = value; change(); }));
  seedInputs = rows[3].querySelectorAll("input");
  const ends = now.surface.window(), place = ["x", "y"].map((name, d) => row(`start ${name}`,
    { low: ends[2 * d], high: ends[2 * d + 1], log: false, whole: false, bounds: [], default: 0, interval: "a number" }, now.start[d],
    (value) => { state.start = [...course.start]; state.start[d] = value; change(); }));
  const decay = element("select", { id: "decay" }, ...options(Object.keys(SCHEDULES), state.schedule?.name ?? "constant"));
  decay.addEventListener("change", () => { state.schedule = decay.value === "constant" ? null : { name: decay.value, settings: {} }; dressStart(); change(); });
  $("settings").replaceChildren(...rows, ...place,
    element("div", { className: "row" }, element("label", { htmlFor: "decay", textContent: "decay of lr" }), decay),
    ...(state.schedule ? knobRows(SCHEDULES, state.schedule, change) : []));
  $("about").textContent = SURFACES[state.surface.name].facts.doc;
}

function play() {
  if (still.matches) { step = course.steps; draw(); return; }
  step = 0;
  playing = true;
  $("play").textContent = "Pause";
  const begin = performance.now(), long = 5000;
  const frame = (now) => {
    if (!playing) return;
    step = Math.min(course.steps, Math.round((course.steps * Math.max(0, now - begin)) / long));
    draw();
    if (step < course.steps) requestAnimationFrame(frame);
    else pause();
  };
  requestAnimationFrame(frame);
}
function pause() {
  playing = false;
  $("play").textContent = "Play";
}

// Moves the start; the whole of every walk is shown while one does.
function moveStart(a, b) {
  pause();
  state.start = [a, b].map((x) => Number(x.toPrecision(4)));
  step = state.steps;
  dressStart();
  change();
}

function listen() {
  $("play").addEventListener("click", () => (playing ? pause() : play()));
  $("step").addEventListener("input", () => { pause(); step = Number($("step").value); draw(); });
  $("more").addEventListener("change", () => { state.rules.push(tuned(course, { name: $("more").value, settings: {} })); dress(); change(); play(); });
  $("tune").addEventListener("click", () => { state.rules = state.rules.map((rule) => tuned(course, rule)); dress(); change(); });
  $("reset").addEventListener("click", () => { history.replaceState(null, "", " "); open(""); });
  $("copy").addEventListener("click", async () => {
    try { await navigator.clipboard.writeText($("command").textContent); $("copy").textContent = "Copied"; }
    catch { getSelection().selectAllChildren($("command")); }
  });
  const here = (event) => {
    const box = $("map").getBoundingClientRect();
    moveStart(scale.a(event.clientX - box.left), scale.b(event.clientY - box.top));
  };
  for (const target of [$("start"), $("map")]) {
    target.addEventListener("pointerdown", (event) => {
      if (target === $("map") && event.pointerType !== "mouse") return; // a finger on the map scrolls the page
      target.setPointerCapture(event.pointerId);
      if (target === $("map")) here(event);
    });
    target.addEventListener("pointermove", (event) => { if (target.hasPointerCapture(event.pointerId)) here(event); });
  }
  $("start").addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.key === "Home") { state.start = null; dressStart(); change(); }
    if (!way && event.key !== "Home") return;
    event.preventDefault();
    if (!way) return;
    const far = event.shiftKey ? 30 : 6, [x, y] = course.start;
    moveStart(scale.a(scale.x(x) + far * way[0]), scale.b(scale.y(y) - far * way[1]));
  });
  addEventListener("hashchange", (event) => open(new URL(event.newURL).hash)); // the address may have been written again since
  new ResizeObserver(() => draw()).observe($("map"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
}

// Begins from what the address says.
function open(hash) {
  let wrong = "";
  try { state = fromHash(hash); }
  catch (error) { wrong = `The address could not be read (${error.message}); this is the page as it was written.`; state = read(FACTS.state); }
  dress();
  change();
  $("wrong").textContent = wrong;
  $("wrong").hidden = !wrong;
  play();
}

open(location.hash);
listen();
