// Start a training, watch it live, and stop it so that the best so far is kept.
import {$, ask, bar, bdi, count, drawing, duration, h, percent, say} from "./dom.js";
import {chooser} from "./places.js";

const MODES = [
  ["auto", "Search", "the best that the time allows, over ways to use a pretrained network"],
  ["features", "Features", "the quick look: a frozen network, and a head fitted on what it sees"],
  ["head", "Head", "a frozen network, and a head that is trained"],
  ["finetune", "Fine-tune", "the pretrained network itself is trained on"],
  ["scratch", "From scratch", "a small network from random weights: for small pictures"],
];
const NO_EPOCHS = ["auto", "features"];
let shared = null, news = null, job = null, drawn = -1, drawing_now = false;

export function begin(app) {
  shared = app;
  app.resume = name => start({resume: name});
  app.watch = watch;
  app.prefill = (data, table) => { $("fit-data").value = data; $("fit-corrections").value = table; app.go("training"); };
  $("modes").append(...MODES.map(([name, title, what], k) => h("label", {className: "mode"},
    h("input", {type: "radio", name: "mode", value: name, checked: k === 0, onchange: fields}),
    h("span", {}, h("strong", {}, title), h("small", {}, what)))));
  $("fit-form").addEventListener("submit", event => { event.preventDefault(); start(asked()); });
  for (const button of document.querySelectorAll("[data-stop]")) button.addEventListener("click", stop);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !news) catchUp(); });
  chooser(app.state);
  fields();
  job = app.state.job;  // what it has done is in the state already
  if (job) { showJob(job); if (job.running) watch(); }
}

const mode = () => document.querySelector("input[name=mode]:checked").value;

function fields() {
  $("budget-field").hidden = mode() !== "auto";
  $("epochs-field").hidden = NO_EPOCHS.includes(mode());
}

function asked() {
  const settings = {data: $("fit-data").value, transfer: mode(), corrections: $("fit-corrections").value.trim()};
  if (mode() === "auto") settings.budget = $("budget").value.trim();
  const epochs = $("epochs").value.trim();
  if (epochs && !NO_EPOCHS.includes(mode())) settings.epochs = /^\d+$/.test(epochs) ? Number(epochs) : epochs;
  return settings;
}

async function start(settings) {
  say("fit-says", "");
  shared.go("training");
  try {
    showJob(await ask("fit", {json: settings}));
    watch();
    $("live-title").focus();
  } catch (error) { say("fit-says", error.message); }
}

async function stop() {
  try { await ask("job/stop", {json: {}}); } catch (error) { say("fit-says", error.message); }
}

/** Hear the news of the work by server-sent events, until it has ended. */
function watch() {
  news?.close();
  news = new EventSource("api/job/news");
  news.addEventListener("message", event => showJob(JSON.parse(event.data)));
  const over = () => { news?.close(); news = null; catchUp(); };
  news.addEventListener("over", over);
  news.addEventListener("error", over);  // the app has ended, or this machine has slept
}

/** Ask how the work stands: another tab may have begun some, and an app that has ended says so. */
async function catchUp() {
  try {
    const now = await ask("job");
    if (!now) return;
    showJob(now);
    if (now.running && !news) watch();
  } catch { /* the page says that the app is gone */ }
}

function showJob(told) {
  const other = job?.id !== told.id;  // begun by another tab, it may have ended unseen
  const ended = !told.running && (other || job.running);
  job = told;
  if (other) forget();
  const working = $("working");
  working.hidden = !job.running;
  working.hash = job.kind === "scan" ? "#labels" : "#training";
  working.textContent = `${job.title} …`;
  $("fit-start").disabled = $("review-start").disabled = job.running;
  for (const button of document.querySelectorAll("[data-stop]")) {
    button.textContent = job.stopping ? "Stopping …" : "Stop";
    button.disabled = job.stopping;
  }
  shared.onJob(job, ended);
  if (ended && (other || job.kind !== "scan")) shared.refresh();
  if (job.kind === "scan") return;
  $("live").hidden = false;
  showLive();
}

/** Nothing of an earlier training stands under the title of the next; a scan has a place of its own. */
function forget() {
  drawn = -1;
  if (job.kind !== "scan") for (const id of ["live-result", "live-charts"]) $(id).replaceChildren();
}

/** How far the stage is, as a bar; used by the labels too. */
export function progress(place, {stage}) {
  const known = stage.total > 0;
  place.replaceChildren(h("p", {}, stage.stage ? bdi(stage.stage) : "Starting …", stage.stage ? h("small", {},
    known ? ` ${count(stage.done)} of ${count(stage.total)} ` : " ", stage.note ? bdi(stage.note) : null) : null),
  bar(known ? stage.done / stage.total : 0));
}

/** Every part is put in its place, so that what is focused or open stays so. */
function showLive() {
  say("live-title", job.running ? job.title[0].toUpperCase() + job.title.slice(1) : ending());
  $("live-progress").hidden = $("live-stopping").hidden = !job.running;
  if (job.running) progress($("live-progress"), job);
  say("live-error", job.error);
  if (job.running) $("live-result").replaceChildren();
  else if (job.result && !$("live-result").childElementCount) $("live-result").append(...outcome(job.result));
  $("live-epochs").replaceChildren(...(job.epochs.length ? table(job.epochs) : []));
  $("live-command").hidden = !job.command;
  $("live-command").querySelector("code").textContent = job.command;
  $("live-said").hidden = !job.said.length;
  $("live-said").querySelector("pre").textContent = job.said.join("\n");
  showCharts();
}

function ending() {
  if (job.error) return "It could not go on";
  const stopped = job.result?.trained ? "Stopped; what was trained is kept" : "Stopped before anything was trained";
  return {finished: "Finished", interrupted: stopped, stopped}[job.result?.status] ?? "Ended";
}

function outcome({verdict, run, status}) {
  const lines = (verdict ?? "").split("\n").filter(Boolean).map(line => h("p", {}, line));
  if (!run) return lines;
  return [...lines, h("p", {className: "buttons"},
    h("button", {type: "button", className: "primary", onclick: () => shared.go("runs")}, "See it among the runs"),
    status === "interrupted" ? h("button", {type: "button", onclick: () => start({resume: run})}, "Go on") : null)];
}

function table(epochs) {
  const names = ["epoch", "training loss", "validation loss", "validation", "learning rate", "time"];
  const best = epochs.findLast(row => row.best);
  const number = (value, digits) => value === null || value === undefined ? "–" : value.toPrecision(digits);
  const rate = value => value === null || value === undefined ? "–" : String(Number(value.toPrecision(3)));
  return [h("thead", {}, h("tr", {}, names.map(name => h("th", {scope: "col", className: "n"}, name)))),
    h("tbody", {}, epochs.slice(-8).reverse().map(row => h("tr", {className: row === best ? "best" : ""}, [row.epoch,
      number(row.train_loss, 4), number(row.val_loss, 4), percent(row.val_accuracy), rate(row.lr), duration(row.wall_s)].map(
      value => h("td", {className: "n"}, String(value))))))];
}

/** The curves are those of the report, drawn by the app whenever an epoch has come. */
async function showCharts() {
  if (drawing_now || drawn === job.epochs.length) return;
  drawing_now = true;
  const {id, epochs: {length: n}} = job;
  try {
    const charts = n ? await ask("job/curves") : [];
    if (job.id === id) {  // no other has begun meanwhile
      $("live-charts").replaceChildren(...charts.map(chart => h("figure", {}, h("h3", {}, chart.title), drawing(chart.svg),
        chart.lines.length > 1 ? h("figcaption", {}, chart.lines.map(name => h("span", {className: `key ${name}`}, name))) : null)));
      drawn = n;
    }
  } catch { /* told elsewhere, and tried again with the next epoch */ }
  drawing_now = false;
  if (job.kind !== "scan" && (job.id !== id || job.epochs.length !== n)) showCharts();
}
