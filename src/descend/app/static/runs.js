// The runs of the folder, as a table; some of them side by side.
import {$, ask, bdi, duration, h, percent, say} from "./dom.js";
import * as pictures from "./pictures.js";

let shared = null, start = 0;
const chosen = new Set();

export function begin(app) {
  shared = app;
  $("compare").addEventListener("click", compare);
  show(app.state);
}

export function show(state) {
  const runs = state.runs;
  start = scaleOf(runs);
  say("runs-say", runs.length ? `${runs.length} in ${state.runs_folder}, the newest first. Accuracies with 95% intervals, ` +
    `drawn from ${percent(start, 0)} to 100%.` : `None in ${state.runs_folder} yet.`);
  const head = ["", "run", "validation", "test", "how", "time", "made", ""];
  const names = new Set(runs.map(run => run.name));
  for (const name of chosen) if (!names.has(name)) chosen.delete(name);
  $("runs-table").replaceChildren(...(runs.length ? [
    h("thead", {}, h("tr", {}, head.map(text => h("th", {scope: "col"}, text)))),
    h("tbody", {}, runs.map(row))] : []));
  $("compare").hidden = runs.length < 2;
  count();
}

/** Where the scale of all accuracies begins: at a tenth below the lowest end of an interval. */
function scaleOf(runs) {
  const ends = runs.flatMap(run => [run.val, run.test]).filter(Boolean).map(score => score.accuracy_interval[0]);
  return Math.min(0.9, Math.max(0, Math.floor(10 * Math.min(1, ...ends) - 0.2) / 10));
}

function row(run) {
  const box = h("input", {type: "checkbox", ariaLabel: `Compare ${run.name}`, checked: chosen.has(run.name),
    onchange: () => { box.checked ? chosen.add(run.name) : chosen.delete(run.name); count(); }});
  const cell = (title, ...children) => h("td", {"data-title": title}, ...children);
  return h("tr", {}, h("td", {className: "pick"}, box), h("th", {scope: "row"}, bdi(run.name), status(run)),
    cell("validation", score(run.val)), cell("test", score(run.test)),
    cell("how", run.transfer ? h("span", {title: run.backbone ?? ""}, run.transfer) : "–"),
    cell("time", duration(run.wall_s)), cell("made", made(run.created)),
    h("td", {className: "acts"},
      run.can_answer ? h("button", {type: "button", ariaLabel: `Try ${run.name} on pictures`,
        onclick: () => { pictures.choose(run.name); shared.go("pictures"); }}, "Try") : null,
      run.has_report ? h("button", {type: "button", ariaLabel: `Report of ${run.name}`, onclick: () => report(run.name)}, "Report") : null,
      run.status === "interrupted" || run.status === "killed" ? h("button", {type: "button", ariaLabel: `Go on with ${run.name}`,
        onclick: () => shared.resume(run.name)}, "Go on") : null));
}

function status(run) {
  if (run.status === "finished") return null;
  return h("small", {className: run.status === "damaged" ? "alarm" : "muted"}, run.problem ? `damaged: ${run.problem}` : run.status);
}

const made = text => text ? h("time", {dateTime: text}, new Date(text).toLocaleString(undefined,
  {dateStyle: "medium", timeStyle: "short"})) : "–";

/** An accuracy with its interval drawn on a line. */
function score(found) {
  if (!found) return "–";
  const [low, high] = found.accuracy_interval, at = value => `${100 * Math.max(0, (value - start) / (1 - start))}%`;
  const band = h("span", {className: "band"}), dot = h("span", {className: "dot"});
  band.style.left = at(low);
  band.style.right = `calc(100% - ${at(high)})`;
  dot.style.left = at(found.accuracy);
  return h("span", {className: "score"}, h("span", {}, percent(found.accuracy)),
    h("small", {}, `${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)}`),
    h("span", {className: "track", ariaHidden: "true"}, band, dot));
}

async function report(name) {
  say("runs-alarm", "");
  const opened = window.open("about:blank", "_blank");  // at once, or the browser takes it for an unasked window
  try {
    const {path} = await ask("report", {query: {run: name}, json: {}});
    if (opened) { opened.opener = null; opened.location.replace(new URL(path, location.origin)); }
    else say("runs-alarm", "The browser has not opened a window: allow this page to.");
  } catch (error) { opened?.close(); say("runs-alarm", error.message); }
}

function count() {
  $("compare").disabled = chosen.size < 2;
  say("compare-says", !$("compare").hidden && chosen.size < 2 ? "Choose two or more." : "");
}

async function compare() {
  const place = $("comparison");
  place.hidden = false;
  try {
    const {runs, settings, same_data: same} = await ask("compare", {query: {run: [...chosen]}});
    const line = (name, values) => h("tr", {}, h("th", {scope: "row"}, name), values.map(value => h("td", {}, value)));
    place.replaceChildren(h("h2", {tabIndex: -1}, "Side by side"), h("p", {className: "note"}, same ?
      "One run each: what a setting buys needs several seeds (descend compare)." :
      "The runs are not of the same pictures: their figures cannot be compared."),
    h("div", {className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Side by side"}, h("table", {className: "beside"},
      h("thead", {}, h("tr", {}, h("td"), runs.map(run => h("th", {scope: "col"}, bdi(run.name))))),
      h("tbody", {}, line("validation", runs.map(run => score(run.val))), line("test", runs.map(run => score(run.test))),
        line("best epoch", runs.map(run => run.epoch || "–")), line("time", runs.map(run => duration(run.wall_s))),
        line("made", runs.map(run => made(run.created))), line("status", runs.map(run => run.status)),
        Object.entries(settings).map(([name, values]) => line(name, values.map(value => h("code", {}, bdi(value)))))))),
    h("p", {className: "note"}, Object.keys(settings).length ? "" : "The settings are the same."));
    place.querySelector("h2").focus();
  } catch (error) { place.replaceChildren(h("p", {className: "alarm"}, error.message)); }
}
