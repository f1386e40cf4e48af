"""The documentation as a site, built and served as it is published, in headless Chromium: desk and phone, light and dark."""

from __future__ import annotations

import functools
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser import (  # pyright: ignore[reportMissingImports]
    SCHEMES,
    WIDTHS,
    browser,  # noqa: F401
    check_layout,
    opened,
)

ROOT = Path(__file__).parents[2]
PAGES = (
    "index", "tutorial", "playground", "playground-lesson", "studies/index", "coming-from/autogluon", "techniques/optimizer",
    "lesson/decay", "api/descend",
)  # fmt: skip
FIGURES = """[...document.querySelectorAll(".md-typeset img[src$='.svg']")].map(image => {
  const box = image.closest("p"), wide = image.getBoundingClientRect().width;
  return {name: image.src, size: wide / image.naturalWidth, outside: box.clientWidth < wide,
          scrolls: ["auto", "scroll"].includes(getComputedStyle(image.parentElement).overflowX)};
})"""
SMALLEST = 0.75  # of the size at which a figure was drawn, with labels of 13 px; a desk's column shows the widest so
pytestmark = pytest.mark.slow  # building takes half a minute; test_docs_site.py checks what it is built from


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site."""
    pytest.importorskip("mkdocs")
    place = tmp_path_factory.mktemp("site")
    subprocess.run(["scripts/site", str(place)], cwd=ROOT, check=True, timeout=280)
    return place


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[str]:
    """The address at which the site is served."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_everywhere_and_asks_nothing_of_the_network(browser, site: str, name: str) -> None:  # noqa: F811
    for width in WIDTHS:
        for scheme in SCHEMES:
            with opened(browser, f"{site}{name}.html", width=width, scheme=scheme, allowed=(site,)) as page:
                page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
                check_layout(page)
                assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_every_page_fits_a_phone_and_can_be_read_there(browser, site: str, folder: Path) -> None:  # noqa: F811
    pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html") if path.name != "404.html")
    assert len(pages) > 80
    failed = list[str]()
    for at, name in enumerate(pages):
        with opened(browser, site + name, width=WIDTHS[1], scheme=SCHEMES[at % 2], allowed=(site,)) as page:
            try:
                check_layout(page)
            except AssertionError as error:
                failed.append(f"{name}: {error}")
    assert not failed


@pytest.mark.parametrize("width", WIDTHS)
def test_a_figure_is_as_large_as_its_labels_need_and_scrolls_where_it_is_too_wide(browser, site: str, width: int) -> None:  # noqa: F811
    with opened(browser, f"{site}studies/index.html", width=width, allowed=(site,)) as page:
        page.wait_for_function("[...document.images].every(image => image.complete)")
        figures = page.evaluate(FIGURES)
    assert len(figures) > 3
    assert all(figure["size"] > SMALLEST for figure in figures), figures
    assert all(figure["scrolls"] for figure in figures if figure["outside"]), figures
    assert any(figure["outside"] for figure in figures) == (width < 500)


@pytest.mark.parametrize("served", [True, False], ids=["served", "from a disk"])
def test_the_search_finds_a_technique(browser, site: str, folder: Path, served: bool) -> None:  # noqa: F811
    with opened(
        browser, f"{site}studies/index.html" if served else folder / "studies/index.html", allowed=(site,) if served else ()
    ) as page:
        page.get_by_role("textbox", name="Search").click()
        page.keyboard.type("adabelief", delay=20)
        page.locator(".md-search-result__item a").first.wait_for(timeout=30_000)
        assert "techniques/optimizer.html" in (page.locator(".md-search-result__item a").first.get_attribute("href") or "")
