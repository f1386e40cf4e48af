"""The replicas: their shared protocol is fair, every script runs, and the page shows what was measured."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from descend.comparison import PairedRuns

pytest.importorskip("mlxtend")

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
SCRIPTS = ("dropout", "dropconnect", "regularizers", "depth", "smoothing")


@pytest.fixture(scope="module")
def shared(benchmark_scripts: None) -> ModuleType:
    return importlib.import_module("mnist5k")


def test_splits_are_fixed_disjoint_and_stratified(shared: ModuleType) -> None:
    first, second = shared.splits(), shared.splits()
    everyone = np.concatenate([split.ids for split in first.values()])
    assert sorted(everyone) == list(range(5000))
    for name, size in {"train": 3000, "val": 1000, "test": 1000}.items():
        assert torch.bincount(first[name].y).tolist() == [size // 10] * 10
        assert np.array_equal(first[name].ids, second[name].ids)
        assert first[name].x.min() == 0
        assert first[name].x.max() == 1


def test_smaller_splits_are_the_first_of_the_large_ones(shared: ModuleType) -> None:
    large, small = shared.splits(), shared.splits(200, 100)
    for name, size in {"train": 200, "val": 100, "test": 100}.items():
        assert np.array_equal(small[name].ids, large[name].ids[:size])


def test_an_epoch_visits_everyone_once_in_the_order_of_its_seed(shared: ModuleType) -> None:
    split = shared.splits(200, 100)["train"]
    feeds = {seed: shared.BatchSource(split, 50, seed) for seed in (0, 1)}
    orders = {seed: np.concatenate([fed.ids for fed in feed.epoch(0)]) for seed, feed in feeds.items()}
    assert all(sorted(order) == sorted(split.ids) for order in orders.values())
    assert not np.array_equal(orders[0], orders[1])
    assert np.array_equal(orders[0], np.concatenate([fed.ids for fed in shared.BatchSource(split, 50, 0).epoch(0)]))
    assert [fed.step for fed in feeds[0].epoch(0, start=2)] == [2, 3]
    pixels = dict(zip(split.ids, split.x, strict=True))
    for fed in feeds[1].epoch(3):
        assert all(torch.equal(x, pixels[i]) for x, i in zip(fed.inputs, fed.ids, strict=True))


def test_arms_of_one_seed_start_from_the_same_weights(shared: ModuleType) -> None:
    settings = [shared.Setting(lr=0.1), shared.Setting(lr=0.1, drop_input=0.2, drop_hidden=0.5),
                shared.Setting(lr=0.1, dropconnect=0.5)]  # fmt: skip
    weights = [[p for p in shared.perceptron(setting, 8, 3).parameters() if p.ndim == 2] for setting in settings]
    for other in weights[1:]:
        assert all(torch.equal(a, b) for a, b in zip(weights[0], other, strict=True))
    assert not torch.equal(weights[0][0], next(shared.perceptron(settings[0], 8, 4).parameters()))


def test_the_chosen_setting_is_the_best_on_validation_and_the_best_epoch_no_worse(shared: ModuleType) -> None:
    protocol = shared.Protocol(epochs=6, batch=50, width=16, n_train=300, n_held_out=100, tuning_seeds=(9,))
    data = shared.splits(protocol.n_train, protocol.n_held_out)
    grid = [shared.Setting(lr=1e-5), shared.Setting(lr=0.05), shared.Setting(lr=1e-6)]
    chosen, rows = shared.tune("none", grid, protocol, data, shared.perceptron)
    assert chosen == grid[1]
    assert rows[1]["val_error"] == min(row["val_error"] for row in rows) < 70
    trained = shared.fit(chosen, protocol, data, 9)
    last, best = (shared.judge(model, data["val"])["error"] for model in (trained.last, trained.best))
    assert best <= last == rows[1]["val_error"]


def test_late_regularizers_join_for_the_last_quarter(shared: ModuleType) -> None:
    """Plain L1 of this strength would leave no weight at all; late, it has a quarter of the steps."""
    data = shared.splits(200, 100)
    protocol = shared.Protocol(epochs=4, batch=50, width=16, n_train=200, n_held_out=100)
    shares = []
    for where in ({}, {"late": ("l1(strength=0.01)",)}, {"regularizers": ("l1(strength=0.01)",)}):
        model = shared.fit(shared.Setting(lr=0.05, **where), protocol, data, 0).last
        shares.append(float(torch.cat([(p == 0).flatten() for p in model.parameters() if p.ndim == 2]).float().mean()))
    assert shares[0] == 0 < shares[1] < shares[2]


def test_arms_with_unequal_budgets_are_refused(shared: ModuleType) -> None:
    grid = [shared.Setting(lr=0.1)] * 6
    with pytest.raises(SystemExit, match="same number of settings"):
        shared.replicate({"a": grid, "b": grid[:5]}, shared.Protocol())


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_run(
    name: str, benchmark_scripts: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "smoothing":
        pytest.importorskip("torchmetrics")
    before = {path: path.read_bytes() for path in RESULTS.glob("replica_*.json")}
    monkeypatch.setattr(sys, "argv", [name, "--quick"])
    importlib.import_module(f"replica_{name}").main()
    assert re.search(r"seed 1, [^:]+: test error \d", capsys.readouterr().err)
    assert {path: path.read_bytes() for path in RESULTS.glob("replica_*.json")} == before


@pytest.mark.parametrize(("errors", "rho", "p"), [([6, 5, 4, 3, 2, 1], 1, 1 / 720), ([5, 6, 4, 3, 2, 1], 33 / 35, 6 / 720),
                                                  ([1, 2, 3, 4, 5, 6], -1, 1)])  # fmt: skip
def test_rank_correlation_and_its_exact_p(shared: ModuleType, errors: list[float], rho: float, p: float) -> None:
    """Rho = 1 - 6 sum d^2 / (n (n^2 - 1)); six orders of 720 (the identity, five swaps of neighbors) reach 33/35."""
    script = importlib.import_module("replica_regularizers")
    names = list(script.PUBLISHED)
    scores = {name: [error, error + 0.1, error - 0.2] for name, error in zip(names, errors, strict=True)}
    found = script.ranking(shared.Replica(shared.Protocol(), {}, {}, {"error": PairedRuns((0, 1, 2), scores)}), "error")
    assert found["of_means"] == pytest.approx(rho)
    assert found["p_value_one_sided"] == pytest.approx(p)
    assert found["each_seed"]["mean"] == pytest.approx(rho)
    assert found["order"][0] == names[errors.index(1)]


@pytest.fixture(scope="module")
def build(builder: Callable[[str], ModuleType]) -> ModuleType:
    return builder("replicas")


def test_the_page_shows_what_was_measured(build: ModuleType) -> None:
    text = build.PAGE.read_text(encoding="utf-8")
    assert build.fill(text) == text
    assert set(re.findall(r"<!-- table ([\w.]+) -->", text)) == set(build.TABLES)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("replica_*.json")), ids=lambda path: path.stem)
def test_results_hold_equal_budgets_and_paired_seeds(path: Path) -> None:
    result = json.loads(path.read_text(encoding="utf-8"))["result"]
    found = result.get("error", result)  # of the replica in parts
    assert len({len(rows) for rows in found["tuning"].values()}) == 1
    n = len(found["protocol"]["seeds"])
    for arm in found["arms"].values():
        assert all(len(each) == n and all(map(math.isfinite, each)) for each in arm["each"].values())
