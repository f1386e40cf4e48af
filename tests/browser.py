"""Pages in a real browser: headless Chromium through Playwright, and what must hold of every page that the product writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
from playwright.sync_api import Browser, Page, Request, sync_playwright  # noqa: E402

WIDTHS = (1200, 390)  # px: a desk and a phone
SCHEMES = ("light", "dark")
FLAGS = [  # as root in a container, and silent: Chromium itself looks up hosts unless told not to
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOCAL = ("file:", "data:", "blob:", "about:")

SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
TOO_FAINT = """() => {
  const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const once = (known, make) => key => known.has(key) ? known.get(key) : (known.set(key, make(key)), known.get(key));
  const rgba = once(new Map(), text => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const d = canvas.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; });
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
  const shown = once(new Map(), node => node ? getComputedStyle(node).opacity * shown(node.parentElement) : 1);
  const behind = once(new Map(), node => { const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const style = getComputedStyle(at), [r, g, b, a] = rgba(style.backgroundColor);
      if (style.backgroundImage !== "none") return null;            // a picture behind the words: no single answer
      layers.push([r, g, b, a * shown(at)]); }
    const scheme = getComputedStyle(document.documentElement).colorScheme;
    const dark = matchMedia("(prefers-color-scheme: dark)").matches && scheme.includes("dark");
    return layers.reverse().reduce((under, top) => over(top, under), dark ? [18, 18, 18] : [255, 255, 255]); });
  const faint = [];
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const node = words.currentNode.parentElement, text = words.currentNode.textContent.trim();
    if (!text || !node.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (node.closest("script, style, [disabled], [aria-disabled=true]") || node.closest("label")?.control?.disabled) continue;
    const style = getComputedStyle(node), under = behind(node);
    if (under === null) continue;
    const inSvg = node instanceof SVGElement, [red, green, blue, alpha] = rgba(inSvg ? style.fill : style.color);
    const top = [red, green, blue, alpha * shown(node) * (inSvg ? style.fillOpacity : 1)];
    const a = luminance(over(top, under)), b = luminance(under);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const px = parseFloat(style.fontSize), large = px >= 24 || (px >= 18.66 && parseInt(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.005) faint.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""
"""Text whose contrast is below WCAG 2.1 level AA (success criterion 1.4.3): 4.5, or 3 where it is large. Opacity counts."""


def chromium() -> str:
    """Return the path of Debian's Chromium, or skip the test: only ``.ci/run`` installs one."""
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have chromium: .ci/run installs it")
        pytest.skip("needs chromium")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium, started once per file. Import it into the test file: ``from tests.browser import browser``."""
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield started
        started.close()


@contextmanager
def opened(
    browser: Browser,
    address: str | Path,
    *,
    width: int = WIDTHS[0],
    scheme: str = SCHEMES[0],
    allowed: tuple[str, ...] = (),
) -> Iterator[Page]:
    """Open a page, and hold it at the end to what every page must keep: no request to elsewhere, no error in a script.

    address: a file or a URL. allowed: beginnings of URLs that the page may ask for beside its own file ("http://127.0.0.1:").
    A screenshot of a file's page that fails lies beside it: one of every page took half of the time.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")  # pyright: ignore[reportArgumentType]
    page = context.new_page()
    errors: list[str] = []
    asked: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith(LOCAL + allowed):
            asked.append(request.url)

    page.on("request", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    try:
        page.goto(address.resolve().as_uri() if isinstance(address, Path) else address)
        yield page
        assert not errors, f"script errors: {errors}"
        assert not asked, f"requests to elsewhere: {asked}"
    except BaseException:
        if isinstance(address, Path):
            page.screenshot(path=address.with_name(f"{address.stem}-{width}-{scheme}.png"), full_page=True)
        raise
    finally:
        context.close()


def check_layout(page: Page) -> None:
    """Raise AssertionError where a page scrolls sideways or has text whose contrast is below WCAG AA."""
    assert page.evaluate(SIDEWAYS) <= 0, f"the page is {page.evaluate(SIDEWAYS)} px too wide"
    faint = page.evaluate(TOO_FAINT)
    assert not faint, f"contrast below AA: {faint}"


def check_every_look(browser: Browser, path: Path) -> None:
    """Hold a page, all its parts open, to what ``opened`` and ``check_layout`` ask: at a desk and on a phone, light and dark."""
    for width in WIDTHS:
        for scheme in SCHEMES:
            with opened(browser, path, width=width, scheme=scheme) as page:
                check_layout(page)
                page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
                check_layout(page)
