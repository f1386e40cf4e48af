"""The pages about regularization: every measured table stands on a page as it was measured, every link leads somewhere."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "regularization"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}


def test_tables_are_the_measured_ones_and_none_is_missing() -> None:
    build = runpy.run_path(str(DOCS / "build.py"))
    result = json.loads(build["RESULTS"].read_text(encoding="utf-8"))["result"]
    assert {name: build["fill"](text, result) for name, text in PAGES.items()} == PAGES
    shown = set(re.findall(r"<!-- table ([\w.]+) -->", "".join(PAGES.values())))
    assert shown == {f"{page}.{name}" for page, tables in result.items() for name in tables}


@pytest.mark.parametrize("name", PAGES)
def test_links_and_pictures_exist(name: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGES[name])
    assert links
    assert not [link for link in links if not (DOCS / link).exists()]
