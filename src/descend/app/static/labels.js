// Going through what a scan has found, one picture or pair at a time; each decision is written to the table at once.
import {$, ask, bdi, h, percent, say} from "./dom.js";
import {progress} from "./training.js";

let shared = null, review = null, at = 0, saving = Promise.resolve();

export function begin(app) {
  shared = app;
  app.onJob = onJob;
  $("review-form").addEventListener("submit", event => { event.preventDefault(); start(); });
  document.addEventListener("keydown", onKey);
  const {job} = app.state;
  if (app.state.has_review && !(job?.kind === "scan" && job.running)) load();
}

async function start() {
  say("review-says", "");
  try {
    review = await ask("review", {json: {data: $("review-data").value, table: $("review-table").value.trim(),
      deep: $("review-deep").checked}});
    at = 0;
    $("review").hidden = true;
    shared.watch();
  } catch (error) { say("review-says", error.message); }
}

function onJob(job, ended) {
  const scanning = job.kind === "scan" && job.running;
  $("review-waiting").hidden = !scanning;
  if (scanning) { progress($("review-progress"), job); $("review").hidden = true; }
  if (job.kind === "scan" && ended) load();
}

async function load() {
  try { review = await ask("review"); } catch (error) { say("review-says", error.message); return; }
  if (!$("review-data").value) { $("review-data").value = review.data; $("review-table").value = review.table; }
  at = Math.max(0, nextOpen(-1));
  draw();
}

const decisionOf = path => review.decisions.find(one => one.path === path);

/** Whether a card asks for nothing more: of a pair, one that goes or changes is enough. */
const isDone = card => card.pictures.every(picture => decisionOf(picture.path)) ||
  card.pictures.some(picture => ["drop", "relabel"].includes(decisionOf(picture.path)?.action));

/** The place of the next card after k that waits for a decision, from the beginning again; -1 where none does. */
function nextOpen(k) {
  const order = review.cards.map((_, step) => (k + 1 + step) % review.cards.length);
  return order.find(place => !isDone(review.cards[place])) ?? -1;
}

function draw() {
  const place = $("review"), held = place.contains(document.activeElement);
  place.hidden = review.running;
  if (review.running) return;
  if (review.error || review.stopped) {
    place.replaceChildren(h("p", {className: "alarm"}, review.error || "The scan was stopped.")); return;
  }
  place.replaceChildren(head(), ...(review.cards.length ? [card(review.cards[at])] : [nothing()]), outcome());
  if (held) (place.querySelector("[aria-pressed=true]") ?? place.querySelector("[aria-pressed]"))?.focus();
}

function head() {
  const done = review.cards.filter(isDone).length, n = review.cards.length;
  return h("div", {className: "review-head"}, h("h2", {}, bdi(review.name)),
    h("p", {className: "note"}, n ? `${done} of ${n} decided` : "", review.deep ? "" :
      (n ? "; " : "") + "no network has looked, so no label was doubted"),
    review.also.length ? h("details", {}, h("summary", {}, `${review.also.length} more to know about these data`),
      h("ul", {}, review.also.map(one => h("li", {}, `${one.check}: ${one.what}. ${one.fix}`)))) : null);
}

const nothing = () => h("p", {}, "Nothing was found that asks for a decision.");

function card(one) {
  const pair = one.pictures.length > 1;
  return h("article", {className: "card" + (pair ? " two" : ""), ariaLabel: one.title},
    h("p", {className: "eyebrow"}, `${at + 1} of ${review.cards.length} · ${one.title}`, one.by ? ` · ${one.by}` : ""),
    one.rather ? h("p", {className: "doubt"}, "Labeled ", h("strong", {}, bdi(one.pictures[0].label)),
      " (", percent(one.p), "); the network, which never saw it, rather says ", h("strong", {}, bdi(one.rather)), ".") : null,
    h("div", {className: "sides"}, one.pictures.map((picture, k) => side(one, picture, k))),
    h("p", {className: "buttons"}, h("button", {type: "button", onclick: () => move(-1)}, "← Before"),
      h("button", {type: "button", onclick: () => move(1)}, "Next →"),
      h("small", {className: "muted keys"}, "keys: K keep", one.rather ? ", R relabel" : "",
        pair ? ", D drop the second" : ", D drop", ", arrows")));
}

function side(one, picture, k) {
  const decision = decisionOf(picture.path), suggested = k === 0 ? one.rather : null;
  const others = review.classes.filter(name => name !== picture.label && name !== suggested);
  const act = (action, label) => () => decide(picture.path, action, label);
  const button = (text, action, label = "") => h("button", {type: "button", className: "choice",
    ariaPressed: String(decision?.action === action && (action !== "relabel" || decision.label === label)),
    onclick: act(action, label)}, text);
  const select = !others.length ? null : h("select", {ariaLabel: `Another class for ${picture.path}`,
    onchange: () => select.value && decide(picture.path, "relabel", select.value)},
  h("option", {value: ""}, "another class …"), others.map(name => h("option", {value: name,
    selected: decision?.action === "relabel" && decision.label === name}, name)));
  return h("figure", {className: `side ${decision?.action === "drop" ? "dropped" : ""}`},
    h("img", {src: `api/review/picture/${picture.row}?review=${review.id}`, alt: picture.path}),
    h("figcaption", {}, h("strong", {}, bdi(picture.label)), h("small", {}, bdi(picture.path), picture.split ? `, ${picture.split}` : "")),
    h("div", {className: "decide"}, button("Keep", "keep"),
      suggested ? button([h("span", {}, "It is "), bdi(suggested)], "relabel", suggested) : null, button("Drop", "drop"), select,
      decision ? h("button", {type: "button", className: "quiet", onclick: act("undo", "")}, "Undo") : null));
}

/** Decisions are sent one after another, so that the table holds the last one. */
function decide(path, action, label) {
  const {id} = review;  // of the pictures that were looked at
  saving = saving.then(async () => {
    try {
      const {decisions} = await ask("review/decision", {json: {review: id, path, action, label}});
      if (review.id !== id) return;
      review.decisions = decisions;
      say("review-says", "");
    } catch (error) { say("review-says", error.message); return; }
    const next = nextOpen(at);
    if (action !== "undo" && isDone(review.cards[at]) && next >= 0) at = next;
    draw();
  });
  return saving;
}

function move(step) {
  at = (at + step + review.cards.length) % review.cards.length;
  draw();
}

function outcome() {
  const n = action => review.decisions.filter(one => one.action === action).length;
  const changes = n("drop") + n("relabel");
  if (!review.decisions.length) return h("p", {className: "note"}, "No decision yet.");
  return h("div", {className: "outcome"}, h("p", {}, `${n("keep")} kept, ${n("relabel")} relabeled, ${n("drop")} dropped, in `,
    h("code", {}, bdi(review.table)), "."),
  changes ? [h("pre", {}, h("code", {}, review.command)), h("p", {className: "buttons"}, h("button", {type: "button", className: "primary",
    onclick: () => shared.prefill(review.data, review.table)}, "Train with these corrections"))] : null);
}

function onKey(event) {
  if ($("labels").hidden || $("review").hidden || !review?.cards.length || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  const one = review.cards[at], last = one.pictures.at(-1), act = {
    k: () => one.pictures.forEach(picture => decide(picture.path, "keep", "")),
    d: () => decide(last.path, "drop", ""),
    r: () => one.rather && decide(one.pictures[0].path, "relabel", one.rather),
    ArrowLeft: () => move(-1), ArrowRight: () => move(1)}[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act) { event.preventDefault(); act(); }
}
