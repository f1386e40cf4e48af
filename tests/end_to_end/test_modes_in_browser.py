"""The report of a run in every mode, trained by the command line, in headless Chromium: what it holds, and how it looks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser import browser, check_every_look, opened  # noqa: F401  # pyright: ignore[reportMissingImports]
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]

from descend.cli import main
from descend.search import rungs
from descend.spec_text import parse
from descend.technique import registered
from descend.train.modes import MODES
from descend.train.run import Run

pytestmark = pytest.mark.figures

TRAINED = ("--epochs", "2")
WORDS = {
    "auto": ("--budget", "10m", "--size", "64"),
    "features": ("--size", "64"),
    "head": (*TRAINED, "--size", "64"),
    "finetune": (*TRAINED, "--size", "64"),
    "scratch": (*TRAINED, "--size", "32"),
}
FIRST = ("Worst mistakes", "What is taken for what", "Class by class")
LAST = ("Every setting of every technique", "Papers behind it")
FAMILIES = {"backbone": "backbone", "head": "head", "augment": "augmentation", "regularize": "regularizer",
            "optimizer": "optimizer", "gradients": "gradient", "schedule": "schedule"}  # fmt: skip
HOW = {"auto": "The search", "features": "How the head was fitted"}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The reports by mode, of pictures some of which are labeled wrong, so that there are mistakes."""
    folder = tmp_path_factory.mktemp("modes")
    photos = shapes_folder(folder / "photos", n=14, side=72, seed=3)
    files = sorted(photos.rglob("*.png"))
    for one, other in zip(files[0:12:3], files[14:26:3], strict=True):
        swapped = one.with_suffix(".tmp")
        one.rename(swapped), other.rename(one), swapped.rename(other)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MOST_PASSES": 3.0, "LEAST_PASSES": 2.0, "MOST_TRAININGS": 1, "FEWEST_TRAINED": 1}.items():
            patch.setattr(rungs, name, value)
        made = dict[str, Path]()
        for mode, words in WORDS.items():
            assert main(["fit", str(photos), "--transfer", mode, "--out", str(folder / mode), *words]) == 0
            made[mode] = folder / mode / "report.html"
        yield made


def test_these_are_all_modes() -> None:
    assert {*WORDS} == {*MODES}


@pytest.mark.parametrize("mode", WORDS)
def test_the_report_of_the_mode_fits_every_screen_and_can_be_read(browser, reports: dict[str, Path], mode: str) -> None:  # noqa: F811
    check_every_look(browser, reports[mode])


@pytest.mark.parametrize("mode", WORDS)
def test_it_begins_with_mistakes_and_ends_with_settings(browser, reports: dict[str, Path], mode: str) -> None:  # noqa: F811
    with opened(browser, reports[mode]) as page:
        assert re.search(r"\d+ validation pictures right .*the test split was looked at once: [\d.]+%", page.inner_text("h1"))
        headings = page.locator("h2").all_inner_texts()
        assert tuple(headings[:3]) == FIRST
        assert tuple(headings[-2:]) == LAST
        assert HOW.get(mode, "Curves") in headings
        assert {"The data", "Time"} <= {*headings}
        assert any("confidence" in heading for heading in headings)
        assert page.locator(".mistakes img.looked").count() > 0, "no picture of where the network looked"
        assert page.locator(".pairs img, .pairs a.small").count() > 0


@pytest.mark.parametrize("mode", WORDS)
def test_every_figure_of_the_page_lies_beside_it_twice(reports: dict[str, Path], mode: str) -> None:
    text = reports[mode].read_text(encoding="utf-8")
    titles = re.findall(r'<svg[^>]*aria-label="([^"]+)"', text)
    named = re.search(r"as SVG and PNG: ([\w, -]+)\.", text)
    assert named is not None
    names = named[1].split(", ")
    assert sum(not name.startswith("confusion") for name in names) == len(titles)
    written = {path.name for path in (reports[mode].parent / "figures").iterdir()}
    assert written == {f"{name}.{ending}" for name in names for ending in ("svg", "png")}


@pytest.mark.parametrize("mode", [mode for mode in WORDS if mode != "auto"])  # of a search: test_report_search_techniques.py
def test_every_knob_of_every_technique_stands_on_it_with_its_value(reports: dict[str, Path], mode: str) -> None:
    known, plan = {(cls.family, cls.name): cls for cls in registered()}, Run(reports[mode].parent).record.plan
    held = {family: plan.get(setting) or [] for setting, family in FAMILIES.items()}
    calls = [(family, parse(text)) for family, texts in held.items() for text in ([texts] if isinstance(texts, str) else texts)]
    assert {"backbone", "head"} <= {family for family, _ in calls}
    table = re.search(r'<table class="knobs">(.*?)</table>', reports[mode].read_text(encoding="utf-8"), re.DOTALL)
    assert table is not None
    for family, call in calls:
        shown = re.search(rf"<th[^>]*><code>{call.name}</code>.*?(?=<th|$)", table[1], re.DOTALL)
        assert shown is not None, call
        rows = dict(re.findall(r"<td>(\w+)</td><td><code>(?:<strong>)?(.*?)(?:</strong>)?</code>", shown[0]))
        fields = dataclasses.fields(known[family, call.name])
        assert [*rows] == [field.name for field in fields]
        for field in fields:
            value = call.settings.get(field.name, field.default)
            if isinstance(value, float):
                assert float(rows[field.name]) == value
            elif isinstance(value, str | int | None):
                assert rows[field.name] == str(value)
