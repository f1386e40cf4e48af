"""The playground in a browser: it asks nothing of a network, races, can be dragged and typed at, fits screens, and can be read.

    python benchmarks/playground.py [FOLDER for screenshots]

Drives Debian's Chromium through Playwright (neither is needed elsewhere).
The walks themselves are held to Python's by tests/unit/test_landscape_javascript.py, in Node.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from descend.landscape import Course, Saddle, write_page
from descend.optim import Rule
from descend.technique import build

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
VIEWS = ((1200, "light"), (1200, "dark"), (390, "light"), (390, "dark"))
RULES = ("sgd(lr=1.0)", "momentum(lr=2.2)", "adam(lr=0.46)")
CONTRAST = """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (node) => { for (; node; node = node.parentElement) {
    const c = parse(getComputedStyle(node).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const texts = [...document.querySelectorAll("p, h1, h2, a, label, legend, th, td, button, code, summary, figcaption, output")];
  const read = (node) => node.textContent.trim() && node.checkVisibility() && !node.closest(".row:has(:disabled)");
  return texts.filter(read).map((node) => {
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), node.tagName + ": " + node.textContent.trim().slice(0, 40)];
  }).filter(([ratio]) => ratio < 4.5);
}"""


def drive(page: Any) -> None:
    """Use everything on the page, and check what it says."""
    page.click("#play")
    said = page.inner_text("#said")
    assert "left the saddle" in said, said
    assert "sgd(lr=1) did not" in said, said
    page.focus("#start")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowUp")  # off the ridge
    assert "start=" in wait(page, "location.hash.includes('start=') && location.hash")
    page.locator("#start").scroll_into_view_if_needed()
    box = page.locator("#start").bounding_box()
    page.mouse.move(box["x"] + 22, box["y"] + 22)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] - 30, steps=5)
    page.mouse.up()
    again = page.locator("#start").bounding_box()
    assert abs(again["x"] - box["x"] - 38) < 3, (box, again)
    for rule in page.locator("#more option").all_text_contents()[1:]:
        page.evaluate("state.rules = []; dress(); change()")
        page.select_option("#more", rule)
        assert rule in page.inner_text("#table tbody"), rule
    for surface in page.locator("#surface-kind option").all_text_contents():
        page.select_option("#surface-kind", surface)
        assert surface in page.inner_text("#command")
    page.goto(page.url.partition("#")[0] + "#surface=cliff")
    wait(page, "document.getElementById('wrong').textContent.includes('could not be read')")
    for link in page.locator("nav a").all():
        link.click()
        page.wait_for_timeout(100)
        assert not page.inner_text("#wrong")


def wait(page: Any, expression: str) -> Any:
    """Return the value of ``expression`` once it is true."""
    return page.wait_for_function(f"() => {expression}").json_value()


def main(out: Path | None) -> None:
    """Check the page in every view."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "playground.html"
        write_page(Course(surface=Saddle()), [build(rule, Rule) for rule in RULES], path)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for width, theme in VIEWS:
            page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme).new_page()
            wrong: list[str] = []
            page.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
            page.on("console", lambda message, wrong=wrong: wrong.append(message.text) if message.type == "error" else None)
            page.on(
                "request", lambda request, wrong=wrong: wrong.append(request.url) if not request.url.startswith("file:") else None
            )
            page.goto(path.as_uri())
            drive(page)
            page.wait_for_timeout(6000)
            low, sideways = page.evaluate(CONTRAST), page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if out is not None:
                page.screenshot(path=out / f"playground-{width}-{theme}.png", full_page=True)
            assert not wrong, wrong
            assert sideways <= 0, sideways
            assert not low, low
            print(
                f"{width} px, {theme}: raced, dragged, typed at; no request, no error, no sideways scroll, contrast 4.5 and more"
            )
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
