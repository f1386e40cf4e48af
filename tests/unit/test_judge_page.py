"""The pictures of the page on judging: drawn by the script beside it, and shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from descend.drawing import save

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "judge.md"


def test_the_intervals_on_the_page_are_those_of_the_statistics(builder: Callable[[str], ModuleType], tmp_path: Path) -> None:
    build = builder("how-to")
    save(build.intervals(), tmp_path / "interval.svg")
    assert (tmp_path / "interval.svg").read_bytes() == (build.FIGURES / "interval.svg").read_bytes()


def test_every_picture_stands_on_the_page(builder: Callable[[str], ModuleType]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for figure in builder("how-to").FIGURES.iterdir():
        assert f"](figures/{figure.name})" in text
