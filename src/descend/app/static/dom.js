// What every part of the page uses: elements, requests, numbers as people read them.

export const $ = id => document.getElementById(id);

/** Make an element. Text is always text: nothing that comes from a file, a class or a run is ever read as HTML. */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
  return node;
}

export const bdi = text => h("bdi", {}, String(text));

/** Ask the app; throws an Error with the app's own sentence. */
export async function ask(path, {query = {}, json, body} = {}) {
  const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map(one => [name, one]));
  const text = new URLSearchParams(pairs.filter(([, value]) => value !== null && value !== undefined)).toString();
  const post = json !== undefined || body !== undefined;
  let answer;
  try {
    answer = await fetch(`api/${path}${text ? "?" + text : ""}`, {
      method: post ? "POST" : "GET", body: json !== undefined ? JSON.stringify(json) : body, credentials: "omit"});
  } catch {
    $("gone").hidden = false;
    throw new Error("The app does not answer.");
  }
  $("gone").hidden = true;
  const told = await answer.json().catch(() => ({error: `The app has answered with status ${answer.status}.`}));
  if (!answer.ok) throw new Error(told.error);
  return told;
}

export const percent = (share, digits = 1) =>
  share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)}%`;

export function duration(seconds) {
  if (!seconds) return "–";
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

export const count = number => number.toLocaleString("en");

/** A bar of a share: lengths are set as styles by script, which the page's policy allows. */
export function bar(share, name = "bar") {
  const inner = h("span", {className: name});
  inner.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return h("span", {className: "rail"}, inner);
}

export function say(id, text) { $(id).textContent = text || ""; }

/** A drawing of the app's own as an element; its styles are set by script, which the page's policy allows. */
export function drawing(text) {
  const parsed = new DOMParser().parseFromString(text.replaceAll(' style="', ' data-style="'), "text/html");
  const node = document.importNode(parsed.body.firstElementChild, true);
  for (const styled of node.querySelectorAll("[data-style]")) {
    styled.style.cssText = styled.dataset.style;
    delete styled.dataset.style;
  }
  return node;
}
