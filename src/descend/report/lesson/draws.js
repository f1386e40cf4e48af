// The section on augmentation: the picture, its draws, and a card for every transform.

let image = null, samples = [], drawing = 0;

// The middle square of a picture in SIDE pixels.
async function square(blob) {
  const bitmap = await createImageBitmap(blob, { premultiplyAlpha: "none", colorSpaceConversion: "none" }), side = Math.min(bitmap.width, bitmap.height);
  const canvas = element("canvas", { width: FACTS.side, height: FACTS.side }), context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#ffffff"; // behind what is transparent
  context.fillRect(0, 0, FACTS.side, FACTS.side);
  context.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, FACTS.side, FACTS.side);
  const { data } = context.getImageData(0, 0, FACTS.side, FACTS.side);
  return { height: FACTS.side, width: FACTS.side, data: Uint8Array.from({ length: 3 * FACTS.side ** 2 }, (_, i) => data[4 * Math.floor(i / 3) + (i % 3)]) };
}
async function loadSamples() {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  samples = await Promise.all(FACTS.pictures.map(async ({ name, png }) => ({ name, image: await square(new Blob([bytes(png)], { type: "image/png" })) })));
  showSample(0);
}
function showSample(i) {
  $("sample").replaceChildren(...samples.map(({ name }, k) => element("option", { value: k, textContent: name, selected: k === i })));
  image = samples[i].image;
}
// A picture of the reader's, which no one else gets.
async function take(blob, name) {
  try {
    const own = { name: name || "your picture", own: true, image: await square(blob) };
    samples = [own, ...samples.filter((each) => !each.own)];
    showSample(0);
    showDraws();
  } catch { wrong(`${name || "What was given"} could not be read as a picture.`); }
}

function painted(canvas, { height, width, data }) {
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) { for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = data[3 * i + c]; pixels.data[4 * i + 3] = 255; }
  context.putImageData(pixels, 0, 0);
}
function pictureCard(pixels, title, lines) {
  const canvas = element("canvas", {});
  painted(canvas, pixels);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", [title, ...lines.map((line) => line.join(" "))].join("; "));
  const words = lines.map(([name, text]) => element("div", {}, element("b", { textContent: name }), text ? ` ${text}` : ""));
  return element("figure", {}, canvas, element("figcaption", {}, title, ...words));
}

// Makes all draws again, one after the other, so that a slider stays in hand.
function showDraws() {
  if (!image) return;
  const mine = ++drawing, cards = [pictureCard(image, "as it is stored", [])];
  const more = (k) => {
    if (mine !== drawing) return;
    try {
      for (const end = performance.now() + 30; k < state.draws && performance.now() < end; k++) {
        const draw = state.first + k, draws = drawn(state.augment, image, { seed: state.seed, id: state.id, draw });
        cards.push(pictureCard(applied(image, draws), `draw ${draw}`, captions(draws)));
      }
    } catch (error) { wrong(error.message); return; }
    if (k < state.draws) { setTimeout(() => more(k), 0); return; }
    $("draws").replaceChildren(...cards);
    $("draws-said").textContent = `${state.draws} draws of sample ${state.id} under seed ${state.seed}: a picture gets the same ones in every training that says so.`;
  };
  more(0);
}

// Two fields for a knob that is a range; change: told every legal pair.
function rangeRow(name, control, value, change) {
  const label = element("span", { className: "name", textContent: name, title: `two numbers from ${shown(control.low)} to ${shown(control.high)}` });
  const fields = value.map((x, i) => {
    const field = element("input", { type: "number", step: "any", value: shown(Number(x.toPrecision(4))) });
    field.setAttribute("aria-label", `${name}, ${i ? "last" : "first"}`);
    return field;
  });
  for (const field of fields) field.addEventListener("input", () => {
    const pair = fields.map((each) => (each.value === "" ? NaN : Number(each.value))), fits = pair[0] >= control.low && pair[0] <= pair[1] && pair[1] <= control.high;
    const refused = fits ? change(pair) : `must be ${label.title}`;
    for (const each of fields) mark(each, refused);
  });
  const { value: valueAt, position } = slider({ ...control, whole: false, bounds: [["ge", control.low]] });
  const sliders = value.map((x, i) => {
    const range = element("input", { type: "range", min: 0, max: 1000, value: position(x) });
    range.setAttribute("aria-label", `${name}, ${i ? "last" : "first"}`);
    range.addEventListener("input", () => { fields[i].value = shown(valueAt(Number(range.value))); fields[i].dispatchEvent(new Event("input")); });
    return range;
  });
  return element("div", {}, element("div", { className: "row span" }, label, ...fields), element("div", { className: "row span" }, element("span", {}), ...sliders));
}

function transformCard(spec, i, act) {
  const { facts } = AUGMENTATIONS[spec.name], kind = element("select", {}, ...options(Object.keys(AUGMENTATIONS), spec.name));
  kind.setAttribute("aria-label", `Transform ${i + 1}`);
  kind.addEventListener("change", () => act.replace({ name: kind.value, settings: {} }));
  const remove = element("button", { type: "button", textContent: "✕", title: "Remove" });
  remove.setAttribute("aria-label", `Remove ${spec.name}`);
  remove.addEventListener("click", act.remove);
  const rows = Object.entries(facts.knobs).filter(([, control]) => control.range || adjustable(control)).map(([knob, control]) => {
    const value = spec.settings[knob] ?? control.default, change = (x) => set(spec, AUGMENTATIONS, knob, x) || act.change();
    return control.range ? rangeRow(knob, control, value, change) : row(knob, control, value, change);
  });
  const about = element("details", {}, element("summary", { textContent: "What it does" }), element("p", { className: "note", textContent: facts.doc }));
  return element("div", { className: "rule" }, element("div", { className: "top" }, kind, remove), ...rows, about);
}
