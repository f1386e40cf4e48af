"use strict";
// What a page can do beyond being read: pictures that open, curves that tell their figures, text that is copied.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const made = (tag, settings, ...inside) => {
    const element = Object.assign(document.createElement(tag), settings);
    element.append(...inside);
    return element;
  };

  const viewer = document.getElementById("viewer");
  const pictures = all("figure img.whole");
  if (viewer && viewer.showModal && pictures.length) {
    const whole = viewer.querySelector("img.whole"), looked = viewer.querySelector("img.looked");
    const told = viewer.querySelector(".told"), place = viewer.querySelector(".place");
    let at = 0, from = null;
    const show = to => {
      at = (to + pictures.length) % pictures.length;
      const figure = pictures[at].closest("figure"), map = figure.querySelector("img.looked");
      whole.src = pictures[at].src;
      whole.alt = pictures[at].alt;
      looked.hidden = !map;
      if (map) { looked.src = map.src; looked.alt = map.alt; } else { looked.removeAttribute("src"); }
      told.replaceChildren(...[...figure.querySelector("figcaption").cloneNode(true).childNodes]);
      place.textContent = `${at + 1} of ${pictures.length}`;
    };
    const open = (index, opener) => { from = opener; show(index); viewer.showModal(); };
    pictures.forEach((picture, index) => {
      const button = made("button", {type: "button", className: "enlarge"});
      button.setAttribute("aria-label", `Enlarge ${picture.alt}`);
      picture.replaceWith(button);
      button.append(picture);
      button.addEventListener("click", () => open(index, button));
    });
    all("a.small, a.cell").forEach(link => link.addEventListener("click", event => {
      const target = document.querySelector(`${link.getAttribute("href")} img.whole`);
      if (!target) return;
      event.preventDefault();
      open(pictures.indexOf(target), link);
    }));
    all("[data-step]", viewer).forEach(button => button.addEventListener("click", () => show(at + Number(button.dataset.step))));
    viewer.querySelector(".close").addEventListener("click", () => viewer.close());
    viewer.addEventListener("click", event => { if (event.target === viewer) viewer.close(); });
    viewer.addEventListener("keydown", event => {
      const to = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: pictures.length - 1}[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(to);
    });
    viewer.addEventListener("close", () => from && from.focus());
  }

  all(".curves").forEach(curves => {
    const rows = all("tbody tr", curves), names = all("thead th", curves).map(cell => cell.textContent);
    if (rows.length < 2) return;
    const cells = rows.map(row => [...row.cells].map(cell => cell.textContent));
    const epochs = cells.map(row => Number(row[0]));
    const drawings = all("figure[data-box]", curves).map(figure => {
      const svg = figure.querySelector("svg"), [left, right, top, bottom] = figure.dataset.box.split(" ").map(Number);
      const [low, high] = figure.dataset.span.split(" ").map(Number);
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      line.setAttribute("class", "crosshair");
      line.setAttribute("y1", top);
      line.setAttribute("y2", bottom);
      line.setAttribute("visibility", "hidden");
      svg.append(line);
      const across = epoch => left + (epoch - low) / (high - low) * (right - left);
      const epochAt = event => {
        const matrix = svg.getScreenCTM();
        return matrix ? low + ((event.clientX - matrix.e) / matrix.a - left) / (right - left) * (high - low) : low;
      };
      return {svg, line, across, epochAt};
    });
    const slider = made("input", {type: "range", min: 0, max: rows.length - 1, step: 1});
    const chosen = rows.findIndex(row => row.classList.contains("known"));
    slider.value = chosen < 0 ? rows.length - 1 : chosen;
    const output = made("output", {className: "reading"});
    const read = () => {
      const at = Number(slider.value);
      const text = names.map((name, column) => `${name.toLowerCase()} ${cells[at][column]}`).join(", ");
      output.textContent = text;
      slider.setAttribute("aria-valuetext", text);
      drawings.forEach(({line, across}) => {
        line.setAttribute("x1", across(epochs[at]));
        line.setAttribute("x2", across(epochs[at]));
        line.setAttribute("visibility", "visible");
      });
    };
    const nearest = epoch => epochs.reduce((best, known, at) => Math.abs(known - epoch) < Math.abs(epochs[best] - epoch) ? at : best, 0);
    slider.addEventListener("input", read);
    drawings.forEach(({svg, epochAt}) => ["pointermove", "pointerdown"].forEach(kind => svg.addEventListener(kind, event => {
      slider.value = nearest(epochAt(event));
      read();
    })));
    curves.querySelector(".charts").after(made("p", {className: "reader"}, made("label", {}, "Epoch ", slider), output));
    read();
  });

  const copying = (text, name) => {
    const button = made("button", {type: "button", ariaLabel: name}, "Copy"), done = made("span", {className: "note"});
    done.setAttribute("role", "status");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
        done.textContent = " copied";
      } catch {
        getSelection().selectAllChildren(text);
        done.textContent = " selected: copy it with the keyboard";
      }
    });
    return made("p", {className: "copy"}, button, done);
  };
  all("details.copied pre").forEach(text => text.before(copying(text, "Copy")));
  all(".commands pre").forEach(text => text.after(copying(text, `Copy ${text.textContent}`)));
})();
