"""The page about schedules: its tables are the measured ones, its pictures exist and are small."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from descend.schedule import Schedule
from descend.technique import registered

DOCS = Path(__file__).parents[2] / "docs" / "schedules"
TEXT = (DOCS / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def build(builder: Callable[[str], ModuleType]) -> ModuleType:
    return builder("schedules")


def test_tables_hold_what_was_measured(build: ModuleType) -> None:
    tables = build.measured()
    assert build.fill(TEXT, tables) == TEXT
    assert set(re.findall(r"<!-- table ([\w.]+) -->", TEXT)) == {f"{page}.{name}" for page in tables for name in tables[page]}


def test_every_schedule_is_drawn_or_run(build: ModuleType) -> None:
    shown = {text for _, texts in build.PICTURES.values() for text in texts} | {"watch()", "plateau()"}
    words = {word for text in shown for word in re.findall(r"[a-z_]+(?=\()", text)}
    assert words >= {kind.name for kind in registered(Schedule)} - {"during"}  # a share for others, no curve of its own


def test_pictures_exist_and_are_small() -> None:
    targets = [DOCS / name for name in re.findall(r"\]\((figures/[^)]+)\)", TEXT)]
    assert {path.name for path in (DOCS / "figures").glob("*.svg")} == {path.name for path in targets}
    assert all(path.stat().st_size < 150_000 for path in targets)
