// Start a training, watch it live, and stop it so that the best so far is kept.
import {$, ask, bar, bdi, duration, h, percent, say, svg} from "./dom.js";
import {chooser} from "./places.js";

const MODES = [
  ["auto", "Search", "the best that the time allows, over ways to use a pretrained network"],
  ["features", "Features", "the quick look: a frozen network, and a head fitted on what it sees"],
  ["head", "Head", "a frozen network, and a head that is trained"],
  ["finetune", "Fine-tune", "the pretrained network itself is trained on"],
  ["scratch", "From scratch", "a small network from random weights: for small pictures"],
];
const NO_EPOCHS = ["auto", "features"];
let shared = null, source = null, job = null;

export function begin(app) {
  shared = app;
  app.resume = name => start({resume: name});
  app.watch = watch;
  app.prefill = (data, table) => { $("fit-data").value = data; $("fit-corrections").value = table; app.go("training"); };
  $("modes").append(...MODES.map(([name, title, what], k) => h("label", {className: "mode"},
    h("input", {type: "radio", name: "mode", value: name, checked: k === 0, onchange: fields}),
    h("span", {}, h("strong", {}, title), h("small", {}, what)))));
  $("fit-form").addEventListener("submit", event => { event.preventDefault(); start(asked()); });
  chooser(app.state);
  fields();
  if (app.state.job) { showJob(app.state.job); if (app.state.job.running) watch(); }
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
    $("live").scrollIntoView({block: "nearest"});
  } catch (error) { say("fit-says", error.message); }
}

/** Take the news of what goes on, until it has ended; the browser asks again by itself where the line breaks. */
function watch() {
  source?.close();
  const now = source = new EventSource("api/job/news");
  now.addEventListener("message", event => showJob(JSON.parse(event.data)));
  now.addEventListener("over", () => now.close());
}

function showJob(news) {
  const ended = job?.running && !news.running;
  job = news;
  const working = $("working");
  working.hidden = !job.running;
  working.hash = job.kind === "scan" ? "#labels" : "#training";
  working.textContent = `${job.title} …`;
  $("fit-start").disabled = job.running;
  shared.onJob?.(job, ended);
  if (job.kind === "scan") return;
  $("live").hidden = false;
  $("live").replaceChildren(...live());
  if (ended) shared.refresh();
}

/** How far the stage is, as a bar; used by the labels too. */
export function progress(news) {
  const {stage, done, total, note} = news.stage;
  if (!stage) return h("p", {className: "note"}, "Starting …");
  return h("div", {className: "progress"}, h("p", {}, stage, h("small", {className: "muted"}, ` ${done} of ${total} `,
    note ? bdi(note) : "")), bar(total ? done / total : 0));
}

export const stopButton = news => h("button", {type: "button", disabled: news.stopping,
  onclick: () => ask("job/stop", {json: {}})}, news.stopping ? "Stopping …" : "Stop");

function live() {
  const parts = [h("h2", {}, job.running ? job.title[0].toUpperCase() + job.title.slice(1) : ending())];
  if (job.running) parts.push(progress(job), h("p", {className: "buttons"}, stopButton(job),
    h("small", {className: "muted"}, "The best so far is kept.")));
  if (job.error) parts.push(h("p", {className: "alarm"}, job.error));
  if (job.result?.verdict) parts.push(...job.result.verdict.split("\n").map(line => h("p", {}, line)));
  if (job.result?.run) parts.push(h("p", {className: "buttons"},
    h("button", {type: "button", className: "primary", onclick: () => shared.go("runs")}, "See it among the runs"),
    job.result.status === "interrupted" ? h("button", {type: "button", onclick: () => start({resume: job.result.run})}, "Go on") : null));
  if (job.epochs.length) parts.push(chart(job.epochs), table(job.epochs));
  if (job.said.length) parts.push(h("details", {open: !job.epochs.length}, h("summary", {}, "What it said"),
    h("pre", {}, job.said.join("\n"))));
  return parts;
}

function ending() {
  if (job.error) return "It could not go on";
  return {finished: "Finished", interrupted: "Stopped; what was trained is kept",
    stopped: "Stopped before anything was trained"}[job.result?.status] ?? "Ended";
}

function table(epochs) {
  const last = epochs.slice(-8).reverse();
  const names = ["epoch", "training loss", "validation loss", "validation", "lr", "time"];
  return h("div", {className: "scroll"}, h("table", {className: "epochs"},
    h("thead", {}, h("tr", {}, names.map(name => h("th", {scope: "col", className: "n"}, name)))),
    h("tbody", {}, last.map(row => h("tr", {className: row.best ? "best" : ""}, [row.epoch, row.train_loss.toFixed(3),
      row.val_loss.toFixed(3), percent(row.val_accuracy), row.lr.toPrecision(3), duration(row.wall_s)].map(
      value => h("td", {className: "n"}, String(value))))))));
}

/** Accuracy by epoch: training dashed and grey, validation blue, the best marked. */
function chart(epochs) {
  const [width, height, left, bottom] = [480, 170, 40, 22];
  const x = k => left + (width - left - 8) * (epochs.length > 1 ? k / (epochs.length - 1) : 0.5);
  const values = epochs.flatMap(row => [row.val_accuracy, row.train_accuracy]);
  const low = Math.max(0, Math.floor(10 * Math.min(...values) - 0.3) / 10);
  const y = value => 8 + (height - bottom - 8) * (1 - (value - low) / (1 - low || 1));
  const line = (name, key) => svg("polyline", {class: name, points: epochs.map((row, k) => `${x(k)},${y(row[key])}`).join(" ")});
  const best = epochs.map(row => row.best).lastIndexOf(true);
  const marks = [low, 1].flatMap(value => [svg("line", {class: "grid", x1: left, x2: width - 8, y1: y(value), y2: y(value)}),
    svg("text", {x: left - 6, y: y(value) + 4, "text-anchor": "end"}, percent(value, 0))]);
  const ends = [0, epochs.length - 1].filter((k, at, all) => all.indexOf(k) === at).map(k =>
    svg("text", {x: x(k), y: height - 4, "text-anchor": k && k === epochs.length - 1 ? "end" : "middle"}, String(epochs[k].epoch)));
  return h("figure", {className: "live-chart"}, svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Accuracy by epoch; the last on validation is ${percent(epochs.at(-1).val_accuracy)}`}, ...marks, ...ends,
  line("train", "train_accuracy"), line("val", "val_accuracy"),
  ...(best >= 0 ? [svg("circle", {class: "best", cx: x(best), cy: y(epochs[best].val_accuracy), r: 4})] : [])),
  h("figcaption", {}, h("span", {className: "key"}, "validation"), " ", h("span", {className: "key training"}, "training"),
    " accuracy by epoch"));
}
