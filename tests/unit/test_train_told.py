"""What preparing a run says of data and engine: commands with names, things once, and only what is done."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from tests.fakes import Listener  # pyright: ignore[reportMissingImports]

from descend import data
from descend.train import prepare as preparing
from descend.train.prepare import prepare
from descend.train.recipe import from_settings, scan_command
from descend.train.run_log import RunLog


def test_pictures_that_look_wrong_are_shown_by_a_command_that_names_the_data(tmp_path: Path) -> None:
    root, drawn = tmp_path / "my photos", np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
    for i, picture in enumerate(drawn):
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(root / "ab"[i % 2] / f"{i}.png")
    shutil.copy(root / "a" / "0.png", root / "b" / "copy.png")
    told, settings = Listener(), {"data": str(root), "backbone": "smallcnn(width=4)", "epochs": 1, "seed": 3}
    prepare(from_settings(settings), log=RunLog(writes=False), progress=told)
    assert f"  to see these pictures: descend scan {shlex.quote(str(root))} --seed 3 --page scan.html" in told.lines


def test_the_command_repeats_what_the_data_are_read_with() -> None:
    settings = {"data": "t.csv", "corrections": "fix it.csv", "outside": True}
    assert scan_command(settings) == "descend scan t.csv --corrections 'fix it.csv' --outside --page scan.html"


@pytest.mark.parametrize("known", [True, False])
def test_choosing_the_engine_is_told_where_it_is_measured(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    choice: Any = SimpleNamespace(engine=SimpleNamespace(name="torch"), images_per_s={"torch": 9.0})
    monkeypatch.setattr(preparing, "remembered", lambda *_, **__: choice if known else None)
    monkeypatch.setattr(preparing, "choose", lambda *_, **__: choice)
    plan: Any = SimpleNamespace(engine="auto", size=8, reasons={"engine": "why"})
    plan.decided = lambda *_: plan
    told, mode, log = Listener(), SimpleNamespace(taps=lambda *_: ()), SimpleNamespace(write_plan=lambda plan: None)
    preparing._engine(plan, cast(Any, mode), cast(Any, None), cast(Any, log), told)
    assert any("choosing the engine" in line for line in told.lines) is not known


def test_a_class_too_small_for_the_splits_is_counted_once() -> None:
    labels = np.array(["ants", "bees"] * 20 + ["wasps"])
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8), np.uint8)
    few = next(problem for problem in data.load((images, labels)).problems if problem.kind == "few")
    assert few.message == "1 class is too small for every split"
    assert few.examples == ("wasps (none in val and test)",)
