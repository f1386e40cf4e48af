"""The pages about surfaces: their tables are the measured ones, their pictures exist and are small."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "surfaces"
PAGES = sorted(DOCS.glob("*.md"))


@pytest.fixture(scope="module")
def build(builder: Callable[[str], ModuleType]) -> ModuleType:
    return builder("surfaces")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_hold_what_was_measured(page: Path, build: ModuleType) -> None:
    result = json.loads(build.RESULTS.read_text(encoding="utf-8"))["result"]
    text = page.read_text(encoding="utf-8")
    assert build.fill(text, result) == text


def test_every_table_measured_is_on_a_page(build: ModuleType) -> None:
    result = json.loads(build.RESULTS.read_text(encoding="utf-8"))["result"]
    shown = set(re.findall(r"<!-- table ([\w.]+) -->", "".join(page.read_text(encoding="utf-8") for page in PAGES)))
    assert shown == {f"{page}.{name}" for page, tables in result.items() for name in tables}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere_and_pictures_are_small(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        target = page.parent / link
        assert target.exists(), link
        if target.suffix == ".svg":
            assert target.stat().st_size < 150_000
