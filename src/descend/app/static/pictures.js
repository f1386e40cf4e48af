// Drop, paste or photograph a picture; see what it is, how sure that is, and where the network looked.
import {$, ask, bar, bdi, h, percent, say} from "./dom.js";

const MOST_SHOWN = 40;  // answers, the newest first
let run = "", about = null, given = [], stream = null, shared = null;

export function begin(app) {
  shared = app;
  showRuns(app.state, app.state.first);
  $("run").addEventListener("change", () => choose($("run").value));
  $("below").addEventListener("input", () => { showBelow(); judge(); });
  $("below").addEventListener("change", explain);
  $("files").addEventListener("change", () => { take([...$("files").files]); $("files").value = ""; });
  const drop = $("drop");
  for (const kind of ["dragenter", "dragover"])
    document.addEventListener(kind, event => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"])
    document.addEventListener(kind, event => { event.preventDefault(); drop.classList.remove("over"); });
  document.addEventListener("drop", event => take([...event.dataTransfer.files]));
  document.addEventListener("paste", event => take([...event.clipboardData.files]));
  $("camera").addEventListener("click", openCamera);
  $("camera-off").addEventListener("click", closeCamera);
  $("snap").addEventListener("click", snap);
}

export function showRuns(state, first) {
  const able = state.runs.filter(one => one.can_answer);
  $("no-run").hidden = able.length > 0;
  $("asking").hidden = able.length === 0;
  const wanted = [first, run].find(name => able.some(one => one.name === name)) ?? able[0]?.name ?? "";
  $("run").replaceChildren(...able.map(one => h("option", {value: one.name}, label(one))));
  $("run").value = wanted;
  if (wanted && wanted !== run) choose(wanted);
}

const label = one => one.name + (one.val ? `  (${percent(one.val.accuracy)} right on validation)` : "");

/** Answer with another run, the pictures that are shown included. */
export async function choose(name) {
  run = name;
  $("run").value = name;
  say("pictures-say", "");
  try {
    about = await ask("about", {query: {run}});
  } catch (error) { say("pictures-say", error.message); return; }
  $("below").value = Math.ceil(100 * (about.suggested ?? 0));
  showBelow();
  explain();
  for (const picture of [...given].reverse()) show(picture);
}

const below = () => Number($("below").value) / 100;

function showBelow() { $("below-shown").textContent = below() ? percent(below(), 0) : "never"; }

async function explain() {
  if (!below()) {
    say("below-says", about?.is_calibrated ? "Every picture gets an answer. Move the slider to have doubtful ones held back." :
      "This run's probabilities are not calibrated.");
    return;
  }
  try {
    const {sentence} = await ask("sure", {query: {run, below: below()}});
    const suggested = about.suggested && Math.ceil(100 * about.suggested) === Number($("below").value);
    say("below-says", `${sentence[0].toUpperCase()}${sentence.slice(1)}.` +
      (suggested ? " Suggested: the lowest from which 95 % are right there." : ""));
  } catch (error) { say("below-says", error.message); }
}

function take(files) {
  if (!files.length) return;
  shared.go("pictures");
  say("pictures-say", run ? "" : "Train a run first.");
  if (!run) return;
  for (const file of files) {
    const picture = {file, name: file.name || "picture", node: h("li", {className: "answer"})};
    given.unshift(picture);
    $("answers").prepend(picture.node);
    show(picture);
  }
  for (const old of given.splice(MOST_SHOWN)) old.node.remove();
}

async function show(picture) {
  const asked = run;
  picture.node.classList.add("waiting");
  if (!picture.node.firstChild) picture.node.append(h("p", {className: "note"}, "Looking at ", bdi(picture.name), " …"));
  let told;
  try {
    told = await ask("predict", {query: {run: asked, name: picture.name}, body: picture.file});
  } catch (error) {
    picture.node.replaceChildren(h("p", {className: "alarm"}, error.message));
    picture.node.classList.remove("waiting");
    return;
  }
  if (asked !== run) return;  // another run has been chosen meanwhile
  picture.told = told;
  draw(picture);
  look(picture, told.top[0]);
}

function draw(picture) {
  const {top, seen, rest, n_classes: n} = picture.told;
  picture.heat = h("img", {className: "heat-layer", alt: "", hidden: true});
  picture.asked = h("p", {className: "note asked", ariaLive: "polite"}, "Finding where it looked …");
  picture.verdict = h("p", {className: "verdict"});
  const rows = top.map(one => h("button", {type: "button", className: "class", title: "Where does it look for this class?",
    onclick: () => look(picture, one)}, h("span", {className: "name"}, bdi(one.label)), bar(one.p),
    h("span", {className: "p"}, percent(one.p))));
  picture.rows = rows;
  const toggle = h("input", {type: "checkbox", checked: true,
    onchange: () => picture.heat.classList.toggle("off", !toggle.checked)});
  picture.node.replaceChildren(
    h("figure", {className: "seen"}, h("div", {className: "stack"},
      h("img", {src: `data:image/jpeg;base64,${seen}`, alt: `What the network sees of ${picture.name}`}), picture.heat),
      h("figcaption", {}, h("label", {}, toggle, " where it looked"), h("small", {}, bdi(picture.name)))),
    h("div", {className: "said"}, picture.verdict, h("div", {className: "classes-said"}, rows),
      n > top.length ? h("p", {className: "note"}, `${n - top.length} other classes together ${percent(rest)}`) : null,
      picture.asked));
  picture.node.classList.remove("waiting");
  judgeOne(picture);
}

function judgeOne(picture) {
  const best = picture.told.top[0], sure = !below() || best.p >= below();
  picture.verdict.classList.toggle("unsure", !sure);
  picture.verdict.replaceChildren(...(sure ? [bdi(best.label)] : ["Not sure", h("small", {}, " likeliest: ", bdi(best.label))]));
}

/** The threshold is judged here too, with the rule of `descend predict --unsure-below`, so that the slider answers at once. */
function judge() { given.filter(picture => picture.told).forEach(judgeOne); }

async function look(picture, one) {
  picture.rows.forEach((row, k) => row.setAttribute("aria-pressed", String(picture.told.top[k] === one)));
  picture.looking = one;
  try {
    const found = await ask("saliency", {query: {run, name: picture.name, class: one.k}, body: picture.file});
    if (picture.looking !== one) return;
    picture.heat.hidden = !found.heat;
    if (found.heat) picture.heat.src = `data:image/png;base64,${found.heat}`;
    picture.asked.replaceChildren(...(found.heat ? ["Colored: what speaks for ", bdi(one.label), `. ${found.asked}.`] :
      [found.why_not]));
  } catch (error) { picture.heat.hidden = true; picture.asked.textContent = error.message; }
}

// ------------------------------------------------------------------------------------------------------------ the camera

async function openCamera() {
  say("pictures-say", "");
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}, audio: false});
  } catch (error) {
    say("pictures-say", error.name === "NotFoundError" ? "This machine has no camera." :
      `The browser gives no camera (${error.message}).`);
    return;
  }
  $("video").srcObject = stream;
  $("viewfinder").hidden = false;
  $("snap").focus();
}

export function closeCamera() {
  stream?.getTracks().forEach(track => track.stop());
  stream = null;
  $("viewfinder").hidden = true;
}

function snap() {
  const video = $("video"), canvas = h("canvas", {width: video.videoWidth, height: video.videoHeight});
  if (!video.videoWidth) return;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob(blob => take([new File([blob], `camera ${new Date().toLocaleTimeString()}.png`, {type: "image/png"})]), "image/png");
}
