// The parts of the page, which one is shown, and what they share.
import {$, ask, h} from "./dom.js";
import * as pictures from "./pictures.js";
import * as runs from "./runs.js";
import * as training from "./training.js";
import * as labels from "./labels.js";

const PARTS = ["pictures", "runs", "training", "labels"];

export const shared = {
  state: null,
  /** Ask for the runs anew, after one was trained. */
  async refresh() {
    shared.state.runs = await ask("runs");
    pictures.showRuns(shared.state);
    runs.show(shared.state);
  },
  go(part) { location.hash = part; },
};

function showPart(event) {
  const wanted = location.hash.slice(1);
  const first = shared.state.runs.some(run => run.can_answer) ? "pictures" : "training";
  const part = PARTS.includes(wanted) ? wanted : first;
  for (const name of PARTS) $(name).hidden = name !== part;
  for (const link of document.querySelectorAll("nav a:not(#working)")) {
    if (link.hash === `#${part}`) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = `${$(part).querySelector("h1").textContent} · descend app`;
  if (event) $(part).querySelector("h1").focus({preventScroll: true});
  if (part !== "pictures") pictures.closeCamera();
}

async function begin() {
  shared.state = await ask("state");
  $("known-data").replaceChildren(...[...shared.state.known_data, ...shared.state.sets].map(value => h("option", {value})));
  pictures.begin(shared);
  runs.begin(shared);
  labels.begin(shared);
  training.begin(shared);
  window.addEventListener("hashchange", showPart);
  showPart();
  document.body.dataset.ready = "yes";
}

begin();
