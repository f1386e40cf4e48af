// Drop, paste or photograph a picture; see what it is, how sure that is, and where the network looked.
import {$, ask, bar, bdi, h, percent, say} from "./dom.js";

const MOST_SHOWN = 40;  // answers, the newest first
let run = "", about = null, given = [], stream = null, shared = null;
let answering = Promise.resolve(), looking = Promise.resolve();  // one picture after another: networks use every core anyway

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
  document.addEventListener("drop", dropped);
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
  let told = null, problem = "";
  try { told = await ask("about", {query: {run: name}}); } catch (error) { problem = error.message; }
  if (run !== name) return;  // another run has been chosen meanwhile
  about = told;
  $("below").value = suggested();
  showBelow();
  if (about) explain(); else { say("below-says", ""); say("pictures-say", problem); }
  for (const picture of [...given].reverse()) answerLater(picture);
}

/** The suggested threshold, in percent, rounded upwards. */
const suggested = () => Math.ceil(100 * (about?.suggested ?? 0) - 1e-6);

const below = () => Number($("below").value) / 100;

function showBelow() { $("below-shown").textContent = below() ? percent(below(), 0) : "never"; }

async function explain() {
  if (!below()) {
    say("below-says", about?.is_calibrated ? "Every picture gets an answer. Move the slider to have doubtful ones held back." :
      "This run's probabilities are not calibrated: take them for an order, not for chances.");
    return;
  }
  const asked = run;
  try {
    const {sentence} = await ask("sure", {query: {run, below: below()}});
    if (asked === run) say("below-says", `${sentence[0].toUpperCase()}${sentence.slice(1)}.` +
      (suggested() === Number($("below").value) ? " Suggested: from here on, at most half as large a share is wrong as of all answers." : ""));
  } catch (error) { if (asked === run) say("below-says", error.message); }
}

function dropped(event) {
  const folders = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.()).filter(entry => entry?.isDirectory);
  const names = new Set(folders.map(entry => entry.name)), files = [...event.dataTransfer.files].filter(file => !names.has(file.name));
  take(files);
  if (names.size) say("pictures-say", `${[...names][0]} is a folder. Drop the pictures in it, or ask in a terminal: descend predict RUN FOLDER`);
  else if (!files.length) say("pictures-say", "That was no file. Save the picture first: this page asks nothing of other pages.");
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
    answerLater(picture);
  }
  for (const old of given.splice(MOST_SHOWN)) old.node.remove();
}

function answerLater(picture) {
  picture.node.classList.add("waiting");
  if (!picture.node.firstChild) picture.node.append(h("p", {className: "note"}, "Looking at ", bdi(picture.name), " …"));
  answering = answering.then(() => show(picture));
}

/** The bytes of a picture. Throws an Error in words for one that is too large, or gone. */
async function bytesOf({file, name}) {
  const most = shared.state.most_bytes;
  if (file.size > most) throw new Error(`${name}: a picture must have at most ${most / 2 ** 20} MB, this one has ${Math.ceil(file.size / 2 ** 20)}.`);
  try { return await file.arrayBuffer(); } catch { throw new Error(`${name}: the browser can no longer read this file.`); }
}

async function show(picture) {
  const asked = run;
  let told = null, problem = "";
  try {
    told = await ask("predict", {query: {run: asked, name: picture.name}, body: await bytesOf(picture)});
  } catch (error) { problem = error.message; }
  if (asked !== run) return;  // another run has been chosen meanwhile
  picture.told = told && {...told, run: asked};
  if (told) {
    draw(picture);
    look(picture, picture.told.top[0]);
  } else {
    picture.node.replaceChildren(h("p", {className: "alarm"}, problem));
    picture.node.classList.remove("waiting");
  }
}

function draw(picture) {
  const {top, seen, rest, doubtful, n_classes: n} = picture.told, source = `data:image/jpeg;base64,${seen}`;
  picture.looked = h("img", {className: "looked", alt: "", src: source, hidden: true});
  picture.asked = h("p", {className: "note asked", ariaLive: "polite"}, "Finding where it looked …");
  picture.verdict = h("p", {className: "verdict", ariaLive: "polite"});
  picture.rows = top.map(one => h("button", {type: "button", className: "class", title: "Where does it look for this class?",
    onclick: () => look(picture, one)}, h("span", {className: "name"}, bdi(one.label)), bar(one.p),
    h("span", {className: "p"}, percent(one.p))));
  const stack = h("div", {className: "stack"}, h("img", {src: source, alt: `What the network sees of ${picture.name}`}), picture.looked);
  const toggle = h("input", {type: "checkbox", checked: true, onchange: () => stack.classList.toggle("plain", !toggle.checked)});
  picture.toggle = h("label", {hidden: true}, toggle, " where it looked");
  picture.node.replaceChildren(
    h("figure", {className: "seen"}, stack, h("figcaption", {}, h("small", {}, bdi(picture.name)), picture.toggle)),
    h("div", {className: "said"}, picture.verdict, h("div", {className: "classes-said"}, picture.rows),
      doubtful ? h("p", {className: "alarm"}, `Careful, this answer may mean nothing: ${doubtful}`) : null,
      n > top.length ? h("p", {className: "note"}, `${n - top.length} other class${n - top.length > 1 ? "es together" : ""} ${percent(rest)}`) : null,
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

/** Ask where the network looks for a class. What it looks at stays in color, and the rest fades. */
function look(picture, one) {
  const told = picture.told;
  picture.rows.forEach((row, k) => row.setAttribute("aria-pressed", String(told.top[k] === one)));
  picture.looking = one;
  looking = looking.then(async () => {
    if (picture.looking !== one || picture.told !== told) return;
    let found;
    try {
      found = await ask("saliency", {query: {run: told.run, name: picture.name, class: one.k}, body: await bytesOf(picture)});
    } catch (error) { found = {why_not: error.message}; }
    if (picture.looking !== one || picture.told !== told) return;
    picture.looked.hidden = picture.toggle.hidden = !found.heat;
    if (found.heat) picture.looked.style.maskImage = `url("data:image/png;base64,${found.heat}")`;
    picture.asked.replaceChildren(...(found.heat ? ["In color: what speaks for ", bdi(one.label), `. ${found.asked}.`] : [found.why_not]));
  });
}

// ------------------------------------------------------------------------------------------------------------ the camera

async function openCamera() {
  say("pictures-say", "");
  if (stream) return;
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
  if (!video.videoWidth) { say("pictures-say", "The camera shows nothing yet: wait a moment."); return; }
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob(blob => take([new File([blob], `camera ${new Date().toLocaleTimeString()}.png`, {type: "image/png"})]), "image/png");
}
