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
PAGES = ("index", "tutorial", "studies/index", "coming-from/autogluon", "techniques/optimizer", "lesson/decay", "api/descend")
pytestmark = pytest.mark.slow  # building takes half a minute; test_docs_site.py checks what it is built from


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("mkdocs")
    place = tmp_path_factory.mktemp("site")
    subprocess.run(["scripts/site", str(place)], cwd=ROOT, check=True, timeout=280)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(place))) as server:
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


def test_the_search_finds_a_technique(browser, site: str) -> None:  # noqa: F811
    with opened(browser, f"{site}index.html", allowed=(site,)) as page:
        page.get_by_role("textbox", name="Search").click()
        page.keyboard.type("adabelief", delay=20)
        page.locator(".md-search-result__item a").first.wait_for(timeout=30_000)
        assert "techniques/optimizer.html" in (page.locator(".md-search-result__item a").first.get_attribute("href") or "")
