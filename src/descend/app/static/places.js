// Choosing a folder or a table below the root.
import {$, ask, bdi, h} from "./dom.js";

export function chooser(state) {
  for (const button of document.querySelectorAll("[data-choose]"))
    button.addEventListener("click", () => open(button.dataset.choose, state.sets));
}

function open(field, sets) {
  $("places").showModal();
  show(field, "", sets);
}

async function show(field, folder, sets) {
  const dialog = $("places"), use = path => { $(field).value = path; dialog.close(); $(field).dispatchEvent(new Event("change")); };
  const close = h("button", {type: "button", onclick: () => dialog.close()}, "Cancel");
  try {
    const found = await ask("places", {query: {folder}});
    const enter = one => one.is_folder ? () => show(field, one.path, sets) : () => use(one.path);
    dialog.replaceChildren(h("div", {}, h("h2", {}, found.folder ? bdi(found.folder) : "Choose data"),
      h("ul", {}, found.parent !== null ? h("li", {}, h("button", {type: "button", onclick: () => show(field, found.parent, sets)}, "↑ up")) : null,
        found.entries.map(one => h("li", {}, h("button", {type: "button", onclick: enter(one)},
          bdi(one.name + (one.is_folder ? "/" : ""))))),
        found.folder ? null : sets.map(name => h("li", {}, h("button", {type: "button", onclick: () => use(name)}, name,
          h("small", {className: "muted"}, " built in"))))),
      found.n_left_out ? h("p", {className: "note"}, `and ${found.n_left_out} more: type their path`) : null,
      h("p", {className: "buttons"}, found.folder ? h("button", {type: "button", className: "primary",
        onclick: () => use(found.folder)}, "Use this folder") : null, close)));
    (dialog.querySelector(".primary") ?? dialog.querySelector("button")).focus();
  } catch (error) { dialog.replaceChildren(h("p", {className: "alarm"}, error.message), close); }
}
