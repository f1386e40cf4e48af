"""``descend compare``: candidates as words, runs that are made once, verdicts that are read back, and what is refused."""

from __future__ import annotations

import itertools
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]
from tests.fake_runs import fake_fit, write_answers  # pyright: ignore[reportMissingImports]

import descend
from descend.cli import main
from descend.comparison import Made, Settings, ablation, candidates, load, loop, result
from descend.comparison.ablation_rungs import Rung
from descend.comparison.candidate import Candidate, split, words
from descend.comparison.looked_at import LookedAt
from descend.comparison.result import Comparison, Costs
from descend.comparison.workers import Workers
from descend.errors import DataError, KnobError, SpecError
from descend.progress import Silent
from descend.stats import Spending
from descend.train.lock import RunLock
from descend.train.recipe import Recipe

QUICK: dict[str, Any] = {"epochs": 2, "backbone": "smallcnn(width=16)", "batch_size": 32, "threads": 1}


def completed(recipe: Recipe) -> Recipe:
    """Stand in for the data: default lists, everything else as asked."""
    lists = {"augment": ("flip(p=0.5)", "pad_crop(padding=1)"), "regularize": (), "gradients": ()}
    given = {name: getattr(recipe, name) if getattr(recipe, name) is not None else value for name, value in lists.items()}
    settings = {name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}  # pyright: ignore[reportAttributeAccessIssue]
    return Recipe(**(settings | given))


def recipes(*texts: str, **base: Any) -> list[Recipe]:
    return [candidate.recipe for candidate in candidates(texts, Recipe(data="x", **base), completed)]


def test_candidates_that_train_in_ways_nobody_named_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, ways = LookedAt(Recipe(), None), {None: "auto", "adam": "features"}

    def surveyed(recipe: Recipe) -> Any:
        return SimpleNamespace(plan=SimpleNamespace(transfer=ways[recipe.optimizer]))

    monkeypatch.setattr(looked, "_survey", surveyed)
    base, other = Candidate("base", Recipe()), Candidate("optimizer=adam", Recipe(optimizer="adam"))
    named = Candidate("transfer=finetune", Recipe(transfer="finetune", optimizer="adam"))
    assert "(base: auto, optimizer=adam: features)" in looked.unequal_modes([base, other, named])
    assert looked.unequal_modes([base, named]) == ""


def test_words_and_parts_are_split_outside_brackets() -> None:
    assert [*words('a=1  add:then(b(), c(d="x y")) e')] == ["a=1", 'add:then(b(), c(d="x y"))', "e"]
    assert split("flip(p=1+0)+noise()", "+") == ["flip(p=1+0)", "noise()"]


def test_candidates_are_changes_of_the_base() -> None:
    base, adam, mixed, plain, two = recipes(
        "base", "optimizer=adam(lr=0.01)", "add:mixup(alpha=0.2)", "drop:flip add:dropout(p=0.1)",
        "epochs=3 layer-decay=0.5 augment=none",
        epochs=2,
    )  # fmt: skip
    assert base == Recipe(data="x", epochs=2)
    assert adam.optimizer == "adam(lr=0.01)"
    assert mixed.augment == ("flip(p=0.5)", "pad_crop(padding=1)", "mixup(alpha=0.2)")
    assert (plain.augment, plain.regularize) == (("pad_crop(padding=1)",), ("dropout(p=0.1)",))
    assert (two.epochs, two.layer_decay, two.augment) == (3, 0.5, ())


def test_a_part_of_a_policy_can_be_dropped() -> None:
    left, _ = recipes("drop:flip", "base", augment=("light", "mixup()"))
    assert left.augment == ("random_resized_crop(scale_range=[0.6, 1.0])", "mixup()")
    with pytest.raises(KnobError, match="augment: random_resized_crop, flip"):
        recipes("drop:mixup", "base", augment=("light",))


def test_a_recipe_file_keeps_the_data_and_seed_of_the_comparison(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('data = "elsewhere"\nseed = 9\nepochs = 7\n')
    _, own = recipes("base", str(tmp_path / "own.toml"), seed=3)
    assert (own.data, own.seed, own.epochs) == ("x", 3, 7)


@pytest.mark.parametrize(
    ("texts", "error", "words_"),
    [
        (["base"], KnobError, "two candidates"),
        (["base", "base"], KnobError, "must differ"),
        (["base", "optimiser=adam"], KnobError, "no setting 'optimiser'.*Did you mean 'optimizer'"),
        (["base", "epochs=many"], KnobError, "epochs must be"),
        (["base", "seed=2"], KnobError, "one for all"),
        (["base", "add:mixpu(alpha=0.2)"], SpecError, "mixup"),
        (["base", "add:mixup(alpha=-1)"], KnobError, "alpha"),
        (["base", "add:adam"], KnobError, "optimizer=adam"),
        (["base", "drop:mixup"], KnobError, "flip, pad_crop"),
        (["base", "mixup"], SpecError, "must be base"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_said(texts: list[str], error: type[Exception], words_: str) -> None:
    with pytest.raises(error, match=words_):
        recipes(*texts)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("all") / "one"
    return descend.compare("digits", ["base", "optimizer=adamw(lr=1e-7)"], seeds=3, out=out, **QUICK)


def test_a_candidate_that_hardly_learns_is_called_worse(found: Comparison) -> None:
    (verdict,) = found.verdicts()
    assert verdict.different
    assert verdict.text.startswith("optimizer=adamw(lr=1e-7) against base: worse by ")
    assert verdict.bootstrap is not None
    assert verdict.known.interval.mean == pytest.approx(verdict.bootstrap.mean)
    assert verdict.known.covers == "seeds and pictures"
    assert found.seeds == (0, 1, 2)
    costs = found.costs("base")
    assert costs.n_runs == 3
    assert costs.best_epoch is not None
    assert costs.last_epoch is not None
    assert costs.best_epoch >= costs.last_epoch > 0.4
    assert costs.wall_s
    assert any(line.startswith("base ") for line in found.lines())


def test_all_runs_judge_one_split_and_seeds_differ(found: Comparison) -> None:
    runs = [descend.load(Path(item.place)) for item in found.made]
    assert {run.record.seed for run in runs} == {0, 1, 2}
    assert {run.record.split_seed for run in runs} == {0}
    assert found.paired("base").items["base"].shape == (3, 270)
    assert len({run.record.test["accuracy"] for run in runs if run.record.test}) > 1
    assert all(len(run.record.test_looks) == 1 for run in runs)


def test_a_comparison_is_read_back_and_its_runs_are_taken_again(found: Comparison) -> None:
    again = load(found.folder)
    assert [item.facts() for item in again.verdicts()] == [item.facts() for item in found.verdicts()]
    assert str(again) == str(found)
    wider = descend.compare("digits", ["base", "optimizer=adamw(lr=1e-7)"], seeds=2, out=found.folder.parent / "two", **QUICK)
    assert [item.again for item in wider.made] == [True] * 4
    lines = [json.loads(line) for line in (found.folder / "comparison.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["comparison", *["run"] * 6, "verdict"]
    assert len(found.frame) == 6
    assert sorted(found.frame["test"])[0] < 0.3


def test_a_candidate_that_fails_is_told_and_costs_nothing_else(tmp_path: Path) -> None:
    bad = "optimizer=sgd(lr=1e30)"
    result = descend.compare("digits", ["base", bad, "batch_size=128"], seeds=2, out=tmp_path / "c", **QUICK)
    failed = [item for item in result.made if item.status == "failed"]
    assert [item.name for item in failed] == [bad]  # not tried on the next seed
    assert "finite" in failed[0].error
    assert [verdict.name for verdict in result.verdicts()] == ["batch_size=128"]
    assert any("failed" in line for line in result.lines())


@pytest.mark.slow
def test_processes_give_the_same_numbers(found: Comparison, tmp_path: Path) -> None:
    beside = descend.compare("digits", ["base", "optimizer=adamw(lr=1e-7)"], seeds=1, jobs=2, out=tmp_path / "c", **QUICK)
    for item in beside.made:
        same = next(other for other in found.made if (other.name, other.seed) == (item.name, item.seed))
        assert (Path(item.place) / "model.safetensors").read_bytes() == (Path(same.place) / "model.safetensors").read_bytes()


def test_it_ends_when_every_verdict_is_known(found: Comparison) -> None:
    texts, out = ["base", "optimizer=adamw(lr=1e-7)"], found.folder.parent / "until"
    early = descend.compare("digits", texts, seeds=12, until_decided=True, out=out, **QUICK)
    assert early.looks == (3, 5, 8, 12)
    assert len(early.seeds) in (5, 8)  # the first look may spend next to nothing
    assert not early.interrupted
    assert early.ended == f"ended after {len(early.seeds)} seeds: every verdict is known"
    assert early.verdicts()[0].known.level > 0.97  # a look has a part of the 5 %


def answered(root: Path, name: str, seed: int, accuracy: float) -> Made:
    """Write what a verdict reads of a run: its answers."""
    place = root / f"{name}-{seed}"
    write_answers(place, name, seed, accuracy)
    return Made(name, seed, str(place), "finished", 1.0)


@pytest.mark.parametrize("n_before", [1, 2, 4])
def test_a_candidate_that_failed_takes_no_seeds_from_the_others(tmp_path: Path, n_before: int) -> None:
    ways = (("base", 0.6, 5), ("better", 0.9, 5), ("broken", 0.7, n_before))
    made = [answered(tmp_path, name, seed, accuracy) for name, accuracy, n in ways for seed in range(n)]
    made.append(Made("broken", n_before, str(tmp_path / "gone"), "failed", 1.0, error="it exploded"))
    result = Comparison(tmp_path, "digits", ("base", "better", "broken"), {}, made, looks=(3, 5, 8))
    better, broken = result.verdicts()
    assert [(verdict.name, verdict.known.n_seeds) for verdict in (better, broken)] == [("better", 5), ("broken", n_before)]
    assert [result.goes_on(name) for name in ("better", "broken")] == [True, False]
    levels = Spending(result.looks)
    assert better.known.level == pytest.approx(levels.level_at(5, level=0.975))
    assert better.different
    assert broken.known.level == pytest.approx(levels.level_at(n_before, last=True))  # it is looked at no more
    assert broken.known.level >= 0.95
    failed = f"1 of {n_before + 1} runs of broken failed: this speaks of those that finished"
    assert broken.text.endswith(f"; {failed}")
    assert "failed" not in better.text
    assert broken.facts()["lost"] in failed


def test_one_seed_of_those_that_go_on_is_a_look_too(tmp_path: Path) -> None:
    made = [answered(tmp_path, name, 0, accuracy) for name, accuracy in (("base", 0.6), ("better", 0.9))]
    verdict = Comparison(tmp_path, "digits", ("base", "better"), {}, made, looks=(3, 5)).verdicts()[0]
    assert (verdict.known.n_seeds, verdict.known.level) == (1, 0.95)


class Listener(Silent):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines = list[str]()

    def say(self, text: str) -> None:
        self.lines.append(text)


class StopsAfter(Silent):
    """A listener that presses Ctrl-C after some lines."""

    def __init__(self, n: int) -> None:
        self.left = n

    def say(self, text: str) -> None:
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    out, texts = tmp_path / "stopped", ["base", "optimizer=adamw(lr=1e-7)"]
    stopped = descend.compare("digits", texts, seeds=3, out=out, progress=StopsAfter(3), **QUICK)
    assert stopped.interrupted
    assert load(stopped.folder).interrupted
    assert stopped.ended.startswith("stopped")
    assert len(load(out).made) == 2
    assert len(descend.compare("digits", texts, seeds=3, out=out, **QUICK).made) == 6


@pytest.mark.skipif(sys.platform == "win32", reason="no lock there")
def test_a_run_that_another_process_has_is_waited_for_and_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, out = ["base", "batch_size=64"], tmp_path / "one"
    made = descend.compare("digits", texts, seeds=1, out=out, **QUICK).made
    place = next(Path(item.place) for item in made if item.name == "base")
    answers, record = (place / "predictions.csv").read_bytes(), (place / "record.json").read_text()
    (place / "predictions.csv").unlink()
    lock, waits = RunLock(place), list[float]()

    def other_ends(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            (place / "predictions.csv").write_bytes(answers)
            lock.release()

    monkeypatch.setattr("descend.comparison.runs.time", SimpleNamespace(sleep=other_ends, perf_counter=time.perf_counter))
    listener = Listener()
    again = descend.compare("digits", texts, seeds=1, out=out, progress=listener, **QUICK)
    assert len(waits) == 2
    assert [(item.status, item.again) for item in again.made] == [("finished", True)] * 2
    assert (place / "record.json").read_text() == record
    assert not (place / "failed.txt").exists()
    assert sum("another process is making this run" in line for line in listener.lines) == 1


def test_a_budget_that_allows_no_run_each_says_what_does(tmp_path: Path) -> None:
    with pytest.raises(KnobError, match=r"one run of each candidate: about"):
        descend.compare("digits", ["base", "batch_size=64"], budget="10ms", out=tmp_path / "c", **QUICK)


def test_runs_that_are_made_at_the_same_time_need_the_time_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(task: Any, jobs: Any, lost: Any, **how: Any) -> Iterator[Any]:
        return (task(job, **how) for job in jobs)

    @contextmanager
    def beside(*_: Any) -> Iterator[Workers]:
        yield Workers(here)

    monkeypatch.setattr(loop, "workers", beside)
    recipe = Recipe(data="digits", transfer="scratch", epochs=1, **{name: QUICK[name] for name in ("backbone", "batch_size")})

    def four(jobs: int, place: str) -> Comparison:
        monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=itertools.count().__next__))  # every look takes a second
        texts = ["base", *(f"batch_size={n}" for n in (16, 64, 128))]
        how = fake_fit(lambda _: 0.8, [])
        return loop.compare(texts, recipe, Settings(1, "3s", jobs=jobs), **how, out=tmp_path / place / "c", progress=Silent())

    with pytest.raises(KnobError, match=r"one run of each candidate: about 4"):
        four(1, "alone")
    assert len(four(2, "two").made) == 4


def test_a_given_split_stays(tmp_path: Path) -> None:
    root = tmp_path / "given"
    for part, seed in (("train", 0), ("test", 1)):
        shapes_folder(root / part, n=8, side=32, seed=seed)
    small: dict[str, Any] = {"augment": [], "size": 16, **QUICK}
    result = descend.compare(root, ["base", "optimizer=adamw(lr=0.02)"], seeds=2, out=tmp_path / "c", **small)
    assert result.paired("base").items["base"].shape[1] == sum(1 for _ in (root / "test").rglob("*.png"))
    with pytest.raises(KnobError, match="split_seed"):
        descend.fit(root, split_seed=1, out=tmp_path / "r", **small)


def test_the_command_line(found: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    out = found.folder.parent / "cli"
    words_ = [
        "compare",
        "digits",
        "base",
        "optimizer=adamw(lr=1e-7)",
        "--epochs",
        "2",
        "--backbone",
        "smallcnn(width=16)",
        "--batch-size",
        "32",
    ]
    assert main([*words_, "--threads", "1", "--seeds", "3", "--out", str(out)]) == 0
    assert "against base: worse by" in capsys.readouterr().out
    assert main([*words_, "--threads", "1", "--seeds", "3", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["verdicts"][0]["different"] is True
    assert main(["compare", "base", "optimizer=adam"]) == 2
    assert "DATA stands before" in capsys.readouterr().err


def test_one_seed_speaks_of_two_networks() -> None:
    made = [Made("a", 0, "", "finished", 1.0), Made("b", 0, "", "finished", 1.0)]
    comparison = Comparison(Path(), "x", ("a", "b"), {}, made)
    rng = np.random.default_rng(0)
    items = {name: (rng.random((1, 100)) < p).astype(float) for name, p in (("a", 0.5), ("b", 0.95))}
    comparison.paired = lambda name: descend.comparison.PairedRuns((0,), {}, {}, items)  # type: ignore[method-assign]
    (verdict,) = comparison.verdicts()
    assert verdict.different
    assert "better" in verdict.text
    assert "other seeds are not covered" in verdict.text


def test_data_that_cannot_be_read_is_said_as_fit_says_it(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        descend.compare(tmp_path / "none", ["base", "optimizer=adam"])


@pytest.mark.parametrize(
    ("n_failed", "peak_bytes", "runs", "memory"),
    [(0, 1_134_000_000, "3", "1.1 GB"), (2, 346_000_000, "3 (2 failed)", "346 MB"), (0, None, "3", "-")],
)
def test_what_candidates_took_is_written_alike_everywhere(n_failed: int, peak_bytes: int | None, runs: str, memory: str) -> None:
    costs = Costs(None, 3, n_failed, None, None, None, None, peak_bytes)
    assert (costs.runs, costs.memory) == (runs, memory)
    rung = Rung("full", None, costs, None)
    assert result._row("base", costs, [])[2::5] == (runs, memory)
    assert ablation._row(rung, [])[3::2] == (runs, memory)
