"""``--transfer auto`` on small pictures: an answer within the budget, its steps replayed, stopped and gone on with, limited."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]
from tests.fakes import FakeSource, make_task  # pyright: ignore[reportMissingImports]

import descend
from descend.cli import main
from descend.data import Batches
from descend.errors import DataError, DivergenceError, KnobError, RunError, TrainingError
from descend.progress import Silent
from descend.search import begin, conclude, expected_time, features, finetune, mixture, rungs
from descend.search.clock import Clock, OutOfTime
from descend.search.setup import first_view
from descend.search.steps import FineTuneStep, PartStep, read
from descend.train import memory_need
from descend.train.nonfinite import Rollback
from descend.train.prepare import decode
from descend.train.record import RunRecord
from descend.train.run import Run
from descend.transfer import Trial
from descend.transfer.engine_torch import TorchEngine

SMALL = {"size": 64, "engine": "torch"}
LONG = {**SMALL, "budget": "10m"}  # more than the steps can use: nothing then depends on the load of the machine


class StopAt(Silent):
    """A listener that presses Ctrl-C when a stage has come to some number of pictures."""

    def __init__(self, stage: str, n: int) -> None:
        self.stage, self.n, self.lines = stage, n, list[str]()

    def say(self, text: str) -> None:
        self.lines.append(text)

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == self.stage and done >= self.n:
            self.stage = ""
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    """Let a training be three passes: what is tested does not depend on how good it gets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rungs, "MOST_PASSES", 3.0)
        patch.setattr(rungs, "LEAST_PASSES", 2.0)
        patch.setattr(rungs, "DISTORTED_PASSES", 3.0)
        patch.setattr(rungs, "DISTORTED_STEPS", 1)
        patch.setattr(rungs, "FEWEST_TRAINED", 1)
        patch.setattr(rungs, "MOST_TRAININGS", 1)
        yield


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose labels are drawn by lot for a third: no head is right about all, so the search goes on to training."""
    root = shapes_folder(tmp_path_factory.mktemp("data") / "doubtful", n=14, side=72, seed=3)
    files = sorted(root.rglob("*.png"))
    for one, other in zip(files[::6], files[3::6], strict=False):
        if one.parent != other.parent:
            swapped = one.with_suffix(".tmp")
            one.rename(swapped)
            other.rename(one)
            swapped.rename(other)
    for one, other in zip(files[:4], files[-4:], strict=True):
        swapped = one.with_suffix(".tmp")
        one.rename(swapped)
        other.rename(one)
        swapped.rename(other)
    return root


@contextlib.contextmanager
def as_shipped() -> Iterator[None]:
    """Draw the folds of a choice as often, and offer as many crops, as the product does; other tests are lighter."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("REPEATS", 3), ("FEWEST_CROPS", 4), ("MOST_CROPS", 16)):
            patch.setattr(features, name, value)
        yield


@pytest.fixture(scope="module")
def found(doubtful: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with as_shipped():
        return descend.fit(doubtful, out=tmp_path_factory.mktemp("runs") / "found", **LONG)


def contents(run: Run) -> list[bytes]:
    return [(run.folder / name).read_bytes() for name in ("model.safetensors", "predictions.csv")]


def test_the_search_is_the_default_on_photographs_and_writes_down_its_steps(found: Run) -> None:
    assert found.record.plan["transfer"] == "auto"
    assert found.record.status == "finished"
    steps = [step["step"] for step in found.record.search]
    assert steps[0] == "features(size=64)"
    assert any(step.startswith("finetune(") for step in steps)
    assert any(", crops=16" in step for step in steps)
    assert all("distorted=True" in step for step in steps if step.startswith("finetune("))
    assert found.record.reasons["distortion"] == "turned, sheared and recolored pictures keep their labels here"
    assert found.recipe.steps == tuple(steps)
    assert found.record.test_looks[0]["what"] == "descend fit, after training"
    assert len(found.record.test_looks) == 1
    assert found.record.choices_by_val >= 1
    assert all(step["n_independent"] < step["n"] for step in found.record.search)  # some pictures are near copies
    assert "choice" in found.record.without_test_split()
    assert not (found.folder / "search").exists()


def test_the_recipe_replays_the_steps_to_the_same_bytes(found: Run, tmp_path: Path) -> None:
    with as_shipped():
        again = descend.fit(recipe=found.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(found)
    assert [step["step"] for step in again.record.search] == [step["step"] for step in found.record.search]


def test_a_replay_that_was_stopped_goes_on_as_a_replay(
    found: Run, doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_shipped():
        cut = descend.fit(recipe=found.folder / "recipe.toml", out=tmp_path / "cut", progress=StopAt("fine-tuning", 30))
        assert cut.record.status == "interrupted"
        assert cut.predict(doubtful / "disc").probabilities.shape == (14, 3)
        monkeypatch.setattr(rungs, "next_rung", lambda *_: pytest.fail("it searches"))
        whole = descend.resume(cut.folder)
    assert contents(whole) == contents(found)
    assert whole.recipe.steps == found.recipe.steps
    assert [step["step"] for step in whole.record.search] == [step["step"] for step in found.record.search]


def test_predictions_evaluation_and_export_agree_with_what_was_judged(found: Run, doubtful: Path, tmp_path: Path) -> None:
    assert found.record.test is not None
    again = descend.load(found.folder)
    score = again.evaluate(str(doubtful), split="test")
    assert score["accuracy"] == found.record.test["accuracy"]
    assert score["loss"] == pytest.approx(found.record.test["loss"], abs=1e-4)
    picture = next(doubtful.rglob("*.png"))
    out = tmp_path / "model.onnx"
    assert main(["export", str(found.folder), "--out", str(out), "--check", str(doubtful)]) == 0
    image = np.asarray(Image.open(picture).convert("RGB"))[None]
    answers = onnxruntime.InferenceSession(str(out)).run(None, {"images": image})[0]
    np.testing.assert_allclose(answers, again.predict(picture).probabilities, atol=2e-2)


@pytest.mark.parametrize(("form", "name"), [("torch", "answer.pt2"), ("openvino", "answer.xml")])
def test_every_other_form_of_the_answer_agrees_too(found: Run, doubtful: Path, tmp_path: Path, form: str, name: str) -> None:
    out = tmp_path / name
    assert main(["export", str(found.folder), "--format", form, "--out", str(out), "--check", str(doubtful)]) == 0
    assert out.is_file()


def test_no_trained_answer_is_kept_that_validation_likes_less(found: Run) -> None:
    accuracy = [step["best_accuracy"] for step in found.record.search]
    assert all(value is not None for value in accuracy)
    assert found.record.val is not None
    assert found.record.val["accuracy"] == accuracy[-1]


@pytest.mark.parametrize(("stage", "n"), [("fine-tuning", 60), pytest.param("features", 40, marks=pytest.mark.slow)])
def test_a_stopped_search_keeps_its_best_and_goes_on_to_the_same_bytes(
    found: Run, doubtful: Path, tmp_path: Path, stage: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "kernels").symlink_to(Path(os.environ["DESCEND_CACHE"]) / "kernels", target_is_directory=True)
    monkeypatch.setenv("DESCEND_CACHE", str(cache))  # no feature is known beforehand
    cut = descend.fit(doubtful, out=tmp_path / "cut", progress=StopAt(stage, n), **LONG)
    assert cut.record.status == "interrupted"
    if stage == "fine-tuning":
        assert cut.record.val is not None
        assert cut.record.test is None
        assert cut.predict(doubtful / "disc").probabilities.shape == (14, 3)
    whole = descend.resume(cut.folder)
    assert whole.record.status == "finished"
    again = descend.fit(recipe=whole.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(whole)


def test_a_training_that_was_stopped_is_decided_anew_by_what_is_left_of_the_budget(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = descend.fit(doubtful, out=tmp_path / "run", progress=StopAt("fine-tuning", 30), **LONG)
    told = [step["step"] for step in cut.record.search]
    assert cut.recipe.steps is not None
    assert cut.recipe.steps[-1].startswith("finetune(")
    assert cut.recipe.steps[-1] not in told
    left: list[float] = []

    def nothing(study: Any, taken: Any, time_left: float, *_: Any) -> str:
        left.append(time_left)
        return "nothing"

    monkeypatch.setattr(rungs, "next_rung", nothing)
    whole = descend.resume(cut.folder)
    assert len(left) == 1
    assert 0 < left[0] < 600 - cut.record.budget_used_s
    assert whole.recipe.steps is not None
    assert not any(step.startswith("finetune(") for step in whole.recipe.steps)
    assert [step["step"] for step in whole.record.search] == told  # each once


def test_a_training_that_was_made_before_a_search_was_stopped_is_not_made_again(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_rung = rungs.next_rung

    def until_trained(study: Any, taken: Any, *more: Any) -> Any:
        if any(isinstance(step, FineTuneStep) for step, _ in taken):
            raise KeyboardInterrupt
        return next_rung(study, taken, *more)

    def widest(backbone: Any, n: int) -> dict[str, tuple[str, ...]]:
        del n
        return dict([[*backbone.feature_sets.items()][-1]])  # its head reads more than training does

    monkeypatch.setattr("descend.search.study.offered", widest)
    with monkeypatch.context() as patch:
        patch.setattr(rungs, "next_rung", until_trained)
        cut = descend.fit(doubtful, out=tmp_path / "run", **LONG)
    assert cut.record.status == "interrupted"
    assert any("/quarters" in tap for tap in cut.record.preparation()["members"][0]["taps"])
    monkeypatch.setattr("descend.search.run.fine_tuned", lambda *_, **__: pytest.fail("it trains again"))
    monkeypatch.setattr(rungs, "next_rung", lambda *_: "nothing")
    whole = descend.resume(cut.folder)
    assert whole.record.status == "finished"
    assert [step["step"] for step in whole.record.search] == [step["step"] for step in cut.record.search]


def test_a_kind_of_step_that_failed_is_not_tried_again_by_a_resumed_search(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_rung = rungs.next_rung

    def failing(*_: object, **__: object) -> None:
        raise ValueError("nobody knows")

    def until_failed(study: Any, taken: Any, left: float, failed: Any) -> Any:
        if failed:
            raise KeyboardInterrupt
        return next_rung(study, taken, left, failed)

    with monkeypatch.context() as patch:
        patch.setattr("descend.search.run.fine_tuned", failing)
        patch.setattr(rungs, "next_rung", until_failed)
        cut = descend.fit(doubtful, out=tmp_path / "run", **LONG)
    assert cut.record.status == "interrupted"
    asked: list[set[rungs.Kind]] = []

    def nothing(study: Any, taken: Any, left: float, failed: Any) -> str:
        asked.append({*failed})
        return "nothing"

    monkeypatch.setattr(rungs, "next_rung", nothing)
    assert descend.resume(cut.folder).record.status == "finished"
    assert asked == [{rungs.FINETUNE}]


@pytest.mark.parametrize(("left", "kept"), [(60.0, True), (1.0, False)])
def test_graphs_that_make_answers_quicker_are_left_out_where_the_budget_is_spent(
    left: float, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is as busy as to take 10 s for closing a run, writing them takes 5 more."""
    photos, judge_answers = shapes_folder(tmp_path / "shapes", n=12, side=72), conclude.judge_answers
    with monkeypatch.context() as patch:

        def judged(*args: Any, **settings: Any) -> None:
            judge_answers(*args, **settings)
            patch.setattr(Clock, "left", lambda _: left)

        patch.setattr(Clock, "closing_s", 10.0)
        patch.setattr("descend.search.conclude.judge_answers", judged)
        run = descend.fit(photos, out=tmp_path / "run", steps=["features(size=64)"], **SMALL)
    assert bool(run.record.graph_parts) == kept
    assert run.predict(photos / "disc").probabilities.shape == (12, 3)


def test_ctrl_c_while_the_answer_is_judged_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, keep_graphs, asked = shapes_folder(tmp_path / "shapes", n=12, side=72), conclude.keep_graphs, list[RunRecord]()

    def stopped_at_first(record: RunRecord, *more: Any) -> None:
        asked.append(copy.deepcopy(record))
        if len(asked) == 1:  # near the end: everything but this is in the record
            raise KeyboardInterrupt
        keep_graphs(record, *more)

    with monkeypatch.context() as patch:
        patch.setattr("descend.search.conclude.keep_graphs", stopped_at_first)
        cut = descend.fit(photos, out=tmp_path / "run", steps=["features(size=64)"], **SMALL)
    assert asked[0].test is not None
    assert "refit" in asked[0].reasons
    assert cut.record.status == "interrupted"
    assert cut.record.test is None
    assert "test" not in {*cut.record.per_class, *cut.record.confused, *cut.record.calibration}
    assert "refit" not in cut.record.reasons  # the head as validation judged it is what there is
    assert cut.predict(photos / "disc").probabilities.shape == (12, 3)
    assert descend.resume(cut.folder).record.test is not None


def test_a_search_that_goes_on_keeps_what_its_model_is_until_there_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    photos = shapes_folder(tmp_path / "shapes", n=12, side=72)

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rungs, "next_rung", pressed)
        cut = descend.fit(photos, out=tmp_path / "run", **LONG)
        assert cut.record.status == "interrupted"
        patch.setattr("descend.search.setup.decode", pressed)  # at once, when it goes on
        cut = descend.resume(cut.folder)
    assert cut.record.status == "interrupted"
    assert descend.load(cut.folder).predict(photos / "disc").probabilities.shape == (12, 3)


def test_a_budget_that_nobody_named_limits_no_repetition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it in the recipe, as many pictures would be opened, and near copies sought, as five minutes allow."""
    photos = shapes_folder(tmp_path / "shapes", n=12, side=72)
    monkeypatch.setattr(rungs, "next_rung", lambda *_: "nothing")
    run = descend.fit(photos, out=tmp_path / "run", transfer="auto", **SMALL)
    assert run.record.plan["budget"] == "5m"
    assert run.recipe.budget is None
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert again.record.near_up_to is run.record.near_up_to is None
    assert contents(again) == contents(run)
    with pytest.raises(KnobError, match="budget: has no effect on a recipe that names the steps"):
        descend.fit(recipe=run.folder / "recipe.toml", budget="1h", out=tmp_path / "longer")


def test_a_recipe_of_a_part_alone_goes_on_to_search_it(doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rungs, "next_rung", lambda *_: "nothing")
    run = descend.fit(doubtful, out=tmp_path / "run", recipe={"steps": ["part(share=0.8)"]}, **LONG)
    assert run.recipe.steps == ("part(share=0.8)", "features(size=64)")


def test_what_can_be_done_without_ends_no_search(doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise ValueError("nobody knows")

    def full(*_: object) -> None:
        raise RunError("run folder", "must be writable (No space left on device)")

    monkeypatch.setattr("descend.search.label_preservation.may_mirror", failing)
    monkeypatch.setattr("descend.search.networks.save", full)
    heard = StopAt("", 0)
    run = descend.fit(doubtful, out=tmp_path / "run", progress=heard, **LONG)
    assert run.record.status == "finished"
    assert run.record.notes == ["A step of the search failed and was dropped: measuring what mirror images mean (nobody knows)"]
    assert any("a resumed search will have to train it again" in line for line in heard.lines)
    assert any(step["step"].startswith("finetune(") and step["measured"] for step in run.record.search)


def test_a_search_that_was_stopped_before_its_first_answer_has_its_budget_again(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.perf_counter

    def out_of_time(*_: object, **__: object) -> None:
        monkeypatch.setattr(time, "perf_counter", lambda: now() + 3600)
        raise OutOfTime

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("descend.search.run.fitted", out_of_time)
        patch.setattr("descend.search.study.Study.share_done", interrupted)  # what comes next
        cut = descend.fit(doubtful, out=tmp_path / "run", **LONG)
    monkeypatch.setattr(time, "perf_counter", now)
    assert cut.record.status == "interrupted"
    assert cut.record.budget_used_s > 3600
    assert descend.resume(cut.folder).record.status == "finished"


def test_a_short_budget_opens_a_part_of_many_pictures_seeks_no_near_copies_and_the_split_is_found_again(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("descend.train.prepare.NEAR_PER_S", 0.01)
    monkeypatch.setattr("descend.train.prepare.OPENED_PER_S", 0.05)
    monkeypatch.setattr("descend.data.loading.signatures", lambda *_, **__: pytest.fail("near copies are sought"))
    heard = StopAt("", 0)
    run = descend.fit(doubtful, out=tmp_path / "run", progress=heard, **LONG)
    assert any("near copies were not looked for" in line for line in heard.lines)
    assert any("12 pictures are left aside unopened" in line for line in heard.lines)
    assert run.record.data["n"] == 600 * 0.05
    assert run.record.test is not None
    assert run.evaluate(doubtful)["accuracy"] == run.record.test["accuracy"]  # of those pictures, not of all


def test_an_easy_set_ends_early_and_says_why(tmp_path: Path) -> None:
    shapes_folder(tmp_path / "shapes", n=12, side=72)
    heard = StopAt("", 0)
    run = descend.fit(tmp_path / "shapes", out=tmp_path / "run", progress=heard, **LONG)
    assert [step["step"] for step in run.record.search] == ["features(size=64)"]
    assert any("nothing left is expected to bring" in line for line in heard.lines)
    assert "honest estimate" in run.record.without_test_split()
    assert run.record.reasons["refit"].startswith("the head was fitted once more")  # few pictures, and validation was carved here


def test_a_head_on_many_pictures_is_fitted_once_more_where_time_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes_folder(tmp_path / "shapes", n=12, side=72)
    monkeypatch.setattr(features, "MANY", 1)
    run = descend.fit(tmp_path / "shapes", out=tmp_path / "run", **LONG)
    assert run.recipe.steps == ("features(size=64)", "refit()")
    assert run.record.reasons["refit"].startswith("the head was fitted once more")
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(run)
    without = descend.fit(recipe=run.folder / "recipe.toml", steps=["features(size=64)"], out=tmp_path / "without")
    assert "refit" not in without.record.reasons
    assert contents(without) != contents(run)


def test_late_stages_start_from_a_small_head_at_one_rate_and_are_asked_in_their_own_size(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Any, Any, Any]] = []
    answered: list[Any] = []

    def task_of(study: Any, step: Any, start: Any) -> Any:
        classifier, task = training_task(study, step, start)
        made.append((start.classifier.head.state_dict(), copy.deepcopy(classifier.head.state_dict()), task))
        return classifier, task

    training_task = finetune.training_task
    monkeypatch.setattr(finetune, "training_task", task_of)
    monkeypatch.setattr("descend.search.run.answered", lambda *given: answered.append(finetune.answered(*given)) or answered[-1])
    steps = ["features(size=64)", 'finetune(size=32, freeze_to="block1", lr=0.01, n_steps=2)']
    descend.fit(doubtful, out=tmp_path / "run", steps=steps, **SMALL)
    ((fitted, begun, task),) = made
    n_means = begun["weight"].shape[1]  # those stand last (the rest: tests/unit/test_search.py)
    torch.testing.assert_close(begun["weight"], fitted["weight"][:, -n_means:] * finetune.HEAD_SHARE)
    assert len({group["lr"] for group in task.optimizer.param_groups}) == 1
    (answer,) = answered
    assert answer.view == answer.engine.prefix.seen_size == 32


def test_a_training_that_helps_is_followed_by_one_that_learns_from_validation_pictures_too(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rungs, "MOST_TRAININGS", 2)
    monkeypatch.setattr(mixture, "weights", lambda answers, *_: np.full(len(answers), 1 / len(answers)))
    trained_on: list[set[int]] = []

    def batches(decoded: Any, rows: Any, **more: Any) -> Batches:
        trained_on.append({*rows})
        return Batches(decoded, rows, **more)

    monkeypatch.setattr(finetune, "Batches", batches)
    heard = StopAt("", 0)
    run = descend.fit(doubtful, out=tmp_path / "run", progress=heard, **LONG)
    first, second = (step for step in run.record.search if step["step"].startswith("finetune("))
    assert "with_val" not in first["step"]
    assert second["step"].endswith("with_val=True)")
    assert (second["accuracy"], second["measured"]) == (None, "nothing: it learned from validation")
    assert run.record.val is not None
    assert run.record.val["n"] + len(trained_on[0]) == len(trained_on[-1])  # the rest is the test split
    assert trained_on[0] < trained_on[-1]
    before = run.record.search[run.record.search.index(second) - 1]
    assert second["best_accuracy"] == before["best_accuracy"]
    assert run.record.val["accuracy"] == run.record.search[-1]["best_accuracy"]
    assert [member["weight"] for member in run.record.preparation()["members"]] == [0.5, 0.25, 0.25]
    assert run.record.reasons["refit"] == (
        "the head was fitted once more and 1 of 2 trained networks learned, from training and validation pictures together"
    )
    assert "the validation figure is of the answer before that" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert any("not judged by itself" in line for line in heard.lines)
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(run)


@pytest.mark.slow
def test_limits_keep_a_model_small_and_say_what_is_least(found: Run, doubtful: Path, tmp_path: Path) -> None:
    run = descend.fit(doubtful, out=tmp_path / "small", max_size="20MB", **LONG)
    assert len(run.record.preparation()["members"]) == 1
    assert (run.folder / "model.safetensors").stat().st_size < 20e6
    assert run.recipe.steps is not None
    assert run.recipe.steps[-1].startswith("keep(")
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(run)
    small = descend.fit(recipe=found.folder / "recipe.toml", max_size="20MB", out=tmp_path / "later")
    assert len(found.record.preparation()["members"]) > len(small.record.preparation()["members"]) == 1
    with pytest.raises(KnobError, match=r"max_size.*one network: 1\d\.\dMB"):
        descend.fit(recipe=found.folder / "recipe.toml", max_size="1MB", out=tmp_path / "tiny")
    with pytest.raises(KnobError, match=r"max_size: must allow what the recipe's keep\(.*1\d\.\dMB"):
        descend.fit(recipe=run.folder / "recipe.toml", max_size="5MB", out=tmp_path / "smaller")
    with pytest.raises(KnobError, match=r"max_size.*one network: 1\d\.\dMB"):
        descend.fit(doubtful, out=tmp_path / "none", max_size="1MB", **LONG)
    with pytest.raises(KnobError, match=r"latency.*one look at one picture"):
        descend.fit(doubtful, out=tmp_path / "never", latency="0.001ms", **LONG)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": "5"}, "needs a unit"),
        ({"budget": "0m"}, "above 0"),
        ({"budget": "-1s"}, "above 0"),
        ({"budget": "1ms"}, "time for a first answer"),
        ({"budget": "1m", "epochs": 3}, "epochs: is decided by the search that budget asks for.*transfer features"),
        ({"budget": "1m", "freeze_to": "block1"}, "transfer finetune"),
        ({"budget": "1m", "transfer": "features"}, "budget: has no effect with transfer='features'"),
        ({"steps": ["features(size=64)"], "optimizer": "sgd"}, "optimizer: is decided"),
        ({"steps": ["finetune(size=64, freeze_to=None, lr=0.001, n_steps=5)"]}, "steps: must fit a head before"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_is_written(
    doubtful: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(KnobError, match=message):
        descend.fit(doubtful, out=tmp_path / "run", **{**SMALL, **settings})
    assert not (tmp_path / "run").exists()


def test_a_class_of_one_picture_and_a_set_with_one_readable_class(tmp_path: Path) -> None:
    root = shapes_folder(tmp_path / "lonely", n=8, side=72)
    for file in sorted((root / "disc").iterdir())[1:]:
        file.unlink()
    run = descend.fit(root, out=tmp_path / "run", **LONG)
    assert run.record.status == "finished"
    for file in (*(root / "disc").iterdir(), *(root / "square").iterdir()):
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="square"):
        descend.fit(root, out=tmp_path / "none", **LONG)


def test_a_part_is_taken_where_time_is_short_and_replayed(doubtful: Path, tmp_path: Path) -> None:
    steps = ["part(share=0.6)", "features(size=64)"]
    run = descend.fit(doubtful, out=tmp_path / "run", steps=steps, **SMALL)
    n = sum(run.record.data["splits"].values())
    assert 24 <= n <= 30
    assert any("left aside" in problem["message"] for problem in run.record.data["problems"])
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(run)


def test_an_answer_from_few_of_the_pictures_says_so_and_claims_no_choice_that_nobody_made(
    found: Run, doubtful: Path, tmp_path: Path
) -> None:
    listener = StopAt("", 0)
    steps = ["features(size=64, share=0.2, quick=True)"]
    run = descend.fit(doubtful, out=tmp_path / "run", steps=steps, progress=listener, **SMALL)
    trained = run.record.data["splits"]["train"]
    [note] = [note for note in run.record.notes if "learn from" in note]
    n, judged = (int(number) for number in re.findall(r"from (\d+) of|judged on (\d+) of", note) for number in number if number)
    assert n == round(0.2 * trained)
    assert note.startswith(
        f"The steps that were given learn from {n} of {trained} training pictures, judged on {judged} of valid"
    )
    assert run.record.val is not None
    assert judged == run.record.val["n"]
    assert not [line for line in listener.lines if line.strip().startswith("budget")]  # no clock counts
    page = (run.folder / "report.html").read_text()
    assert "of a budget of" not in page
    assert "Cross-validation on training" not in page
    assert "cross-validation on training" not in page
    searched = (found.folder / "report.html").read_text()
    assert "of a budget of 10m" in searched
    assert "ross-validation on training" in searched
    assert not [note for note in found.record.notes if "learn from" in note]


def test_an_engine_that_has_been_measured_is_not_started_again(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, start = list[tuple[int, tuple[str, ...]]](), TorchEngine._start

    def noted(self: TorchEngine) -> Any:
        started.append((self.prefix.seen_size, self.prefix.taps))
        return start(self)

    monkeypatch.setattr(TorchEngine, "_start", noted)
    monkeypatch.setattr(rungs, "next_rung", lambda *_: "nothing")
    descend.fit(doubtful, out=tmp_path / "run", **LONG)
    assert started
    assert len(started) == len(set(started))


def test_a_part_is_taken_where_decoding_is_far_slower_than_measured_and_replayed(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_looked_at, heard = list[int](), StopAt("", 0)

    def slow(dataset: Any, *given: Any) -> Any:
        n_looked_at.append(int((dataset.splits >= 0).sum()))
        if len(n_looked_at) == 1:
            raise OutOfTime
        return decode(dataset, *given)

    with monkeypatch.context() as patch:
        patch.setattr("descend.search.setup.decode", slow)
        patch.setattr(begin, "least_or_more", lambda *_: begin.Beginning(64, PartStep(share=0.5)))
        run = descend.fit(doubtful, out=tmp_path / "run", progress=heard, **LONG)
    assert n_looked_at[1] < 0.6 * n_looked_at[0]
    assert "  decoding takes far longer than measured: a smaller part is looked at" in heard.lines
    assert run.recipe.steps is not None
    assert run.recipe.steps[0] == "part(share=0.5)"
    assert sum(run.record.data["splits"].values()) == n_looked_at[1]
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(run)


def test_a_head_on_all_pictures_is_sought_around_the_strength_that_did_best_on_a_part(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, tried = list[float | None](), list[features.Searched]()

    def of(*args: Any, around: float | None = None, **settings: Any) -> features.Searched:
        begun.append(around)
        tried.append(searched(*args, around=around, **settings))
        return tried[-1]

    searched = features.Searched.of
    with monkeypatch.context() as patch:
        patch.setattr(features, "Searched", SimpleNamespace(of=of))
        steps = ["features(size=64, share=0.6)", "features(size=64)"]
        run = descend.fit(doubtful, out=tmp_path / "run", steps=steps, **SMALL)
    of_part, of_all = begun[: len(begun) // 2], begun[len(begun) // 2 :]
    assert of_part[0] is None  # nothing is known
    assert None not in of_part[1:]
    assert of_all[0] == tried[0].strength
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(run)


def test_what_a_comparison_of_views_finds_is_no_beginning_for_later_heads(doubtful: Path, tmp_path: Path) -> None:
    """A replay does not compare views: its heads must begin where those of the search began."""
    noted = list[dict[str, float]]()

    def fitted(study: Any, step: Any, **settings: Any) -> Any:
        answer = as_before(study, step, **settings)
        before = dict(study.strengths)
        features.tried_like(study, replace(step, size=32), next(iter(study.tried.values())))
        noted.extend([before, dict(study.strengths)])
        return answer

    as_before = features.fitted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("descend.search.run.fitted", fitted)
        descend.fit(doubtful, out=tmp_path / "run", steps=["features(size=64, share=0.6)"], **SMALL)
    assert noted[0]
    assert noted[0] == noted[1]


def test_pictures_that_would_be_enlarged_are_looked_at_in_fewer_pixels_where_a_part_of_them_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected_time, "FIRST_LOOK_S", 0.0)  # all of them take too long for a first look
    monkeypatch.setattr(expected_time, "ENLARGED_LOOK_SHARE", 0.0)  # ... and too much of the time
    monkeypatch.setattr(rungs, "LEAST_GAIN", 1.0)  # nothing else is tried
    monkeypatch.setattr("descend.search.begin.SMALLER", (32,))
    monkeypatch.setattr(Trial, "clearly_worse", lambda self, other: False)  # by itself a part of six pictures says nothing
    shapes_folder(tmp_path / "shapes", n=14, side=40)
    heard = StopAt("", 0)
    run = descend.fit(tmp_path / "shapes", out=tmp_path / "run", progress=heard, **LONG)
    first, second = run.recipe.steps
    assert (first[:22], second) == ("features(size=64, shar", "features(size=32)")
    assert any("view       32 px  (not clearly worse than 64 on" in line for line in heard.lines)
    assert "in 32 px: not clearly worse than 64 on" in run.record.search[1]["why"]
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(run)
    for known in ([first, second], [first, second.replace(")", ", share=0.7, quick=True)")]):  # of a search that goes on
        nothing: Any = None
        assert first_view([read(step) for step in known], nothing, nothing, 64, nothing, nothing) == 32


def test_where_time_is_long_a_part_gives_a_first_answer_and_all_are_looked_at_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer pixels are for short budgets: training and later heads go on from this view."""
    monkeypatch.setattr(expected_time, "FIRST_LOOK_S", 0.0)
    monkeypatch.setattr(rungs, "LEAST_GAIN", 1.0)  # nothing else is tried
    monkeypatch.setattr("descend.search.begin.SMALLER", (32,))
    shapes_folder(tmp_path / "shapes", n=14, side=40)
    run = descend.fit(tmp_path / "shapes", out=tmp_path / "run", **LONG)
    first, second = run.recipe.steps
    assert (first[:22], second) == ("features(size=64, shar", "features(size=64)")


def test_a_comparison_of_views_that_fails_is_told_and_the_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no engine")

    monkeypatch.setattr(expected_time, "FIRST_LOOK_S", 0.0)
    monkeypatch.setattr(expected_time, "ENLARGED_LOOK_SHARE", 0.0)
    monkeypatch.setattr(rungs, "LEAST_GAIN", 1.0)
    monkeypatch.setattr("descend.search.run.find_smaller_view", fail)
    shapes_folder(tmp_path / "shapes", n=14, side=40)
    run = descend.fit(tmp_path / "shapes", out=tmp_path / "run", **LONG)
    assert run.recipe.steps[1] == "features(size=64)"
    assert any("comparing smaller views (" in note and "no engine" in note for note in run.record.notes)


def test_a_head_whose_time_runs_out_is_fitted_once_instead_and_replayed(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = features.Searched.of

    def late(*args: Any, strength: float | None = None, **settings: Any) -> Any:
        if strength is None:  # as the clock would end it, in the middle of a choice
            raise OutOfTime
        return tried(*args, strength=strength, **settings)

    monkeypatch.setattr(rungs, "LEAST_GAIN", 1.0)  # nothing else is tried
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features.Searched, "of", late)
        run = descend.fit(doubtful, out=tmp_path / "run", **LONG)
    assert run.recipe.steps == ('features(size=64, quick=True, stages="late", strength=0.1)',)
    assert next(step["outcome"] for step in run.record.search) == "its time ran out"
    assert run.record.test is not None
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(run)


def test_a_choice_whose_time_runs_out_tells_what_to_fit_once(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = features.Searched.of

    def late(*args: Any, strength: float | None = None, **settings: Any) -> Any:
        if strength is not None:
            return tried(*args, strength=strength, **settings)
        for one in (0.3, 0.1, 0.03):  # of these, the second did best
            settings["told"](Trial(one, 0.5, np.full(4, 1 + abs(one - 0.1)), 4))
        raise OutOfTime

    monkeypatch.setattr(rungs, "LEAST_GAIN", 1.0)  # nothing else is tried
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features.Searched, "of", late)
        run = descend.fit(doubtful, out=tmp_path / "run", **LONG)
    assert run.recipe.steps == ("features(size=64, quick=True, strength=0.1)",)
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(run)


def test_a_head_is_chosen_from_what_was_tried_when_time_runs_out_and_replayed(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, n_tried = features.Searched.of, 0

    def of(*args: Any, **settings: Any) -> Any:  # as the clock would end it, in the middle of the second set
        nonlocal n_tried
        n_tried += 1
        if n_tried == 2:
            raise OutOfTime
        return tried(*args, **settings)

    monkeypatch.setattr(rungs, "LEAST_GAIN", 1.0)  # nothing else is tried
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features.Searched, "of", of)
        run = descend.fit(doubtful, out=tmp_path / "run", **LONG)
    assert run.recipe.steps == ("features(size=64, n_sets=1)",)
    assert [step["step"] for step in run.record.search] == list(run.recipe.steps)
    assert run.record.search[0]["measured"] == "cross-validation"
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(run)
    less_after_more = ["features(size=64)", "features(size=64, n_sets=1)"]  # the head that had lost is asked again
    steps = descend.fit(recipe=run.folder / "recipe.toml", steps=less_after_more, out=tmp_path / "less")
    assert len(steps.record.search) == 2


def test_json_on_the_command_line(doubtful: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", str(doubtful), "--steps", "features(size=64)", "--size", "64", "--engine", "torch", "--json"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["chosen"]["transfer"] == "auto"


@pytest.mark.slow
def test_pictures_that_mean_another_thing_in_the_mirror_are_not_mirrored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / "arrows" / name).mkdir(parents=True)
        for number in range(40):
            dark, light = (tuple(int(v) for v in rng.integers(low, low + 80, 3)) for low in (0, 170))
            image = Image.new("RGB", (96, 96), light)
            x, y, r = (int(v) for v in (*rng.integers(34, 62, 2), rng.integers(18, 30)))
            draw = ImageDraw.Draw(image)
            draw.polygon([(x + r, y), (x - r // 2, y - r), (x - r // 2, y + r)], fill=dark)
            draw.rectangle([x - r, y - r // 4, x, y + r // 4], fill=dark)
            (image if name == "right" else ImageOps.mirror(image)).save(tmp_path / "arrows" / name / f"{number}.png")
    run = descend.fit(tmp_path / "arrows", out=tmp_path / "run", **LONG | {"size": 96})
    assert run.record.reasons["mirroring"].startswith("mirrored, ")
    assert all("mirrored=True" not in step["step"] for step in run.record.search)
    assert not any(member["mirrored"] for member in run.record.preparation()["members"])
    assert run.record.val is not None
    assert run.record.val["accuracy"] > 0.8


def test_the_seconds_of_a_slow_scan_are_no_sign_of_a_slow_machine(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, noted = descend.data.load, list[tuple[float, float]]()

    def slow_load(*given: Any, **settings: Any) -> Any:
        time.sleep(1)
        return load(*given, **settings)

    def noted_and_stopped(clock: Clock, scan_s: float) -> None:
        noted.append((clock.used(), scan_s))
        raise OSError("enough")

    monkeypatch.setattr(descend.data, "load", slow_load)
    monkeypatch.setattr(Clock, "note_start", noted_and_stopped)
    with pytest.raises(OSError, match="enough"):
        descend.fit(doubtful, transfer="auto", out=tmp_path / "run", **SMALL)
    ((used, scan_s),) = noted
    assert 1 <= scan_s < used


def test_the_budget_counts_from_the_command_not_from_the_process(doubtful: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda now=time.perf_counter: now() + 7200)  # the process is two hours old
        words = ["fit", str(doubtful), "--budget", "2m", "--size", "64", "--engine", "torch", "--out", str(tmp_path / "run")]
        assert main(words) == 0


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory"), marks=pytest.mark.slow),
        ValueError("nobody knows"),
    ],
)
def test_a_step_that_fails_is_dropped_and_the_best_so_far_is_delivered(
    doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    measured = isinstance(error, ValueError)  # it fails before the step is chosen, when its speed is measured
    monkeypatch.setattr("descend.search.rungs.images_per_s" if measured else "descend.search.run.fine_tuned", failing)
    run = descend.fit(doubtful, out=tmp_path / "run", **LONG)
    assert run.record.status == "finished"
    assert run.record.test is not None
    what = "must fit into memory" if not measured else "nobody knows"
    assert what in run.record.notes[0]
    assert run.record.notes[0].startswith("A step of the search failed and was dropped: ")
    lost = [step for step in run.record.search if step.get("failed")]
    assert all(step["outcome"].startswith("it failed: ") for step in lost)
    assert len(lost) == (0 if measured else 1)
    assert not any(step.startswith("finetune(") for step in run.recipe.steps or ())
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert contents(again) == contents(run)


def test_a_training_that_does_not_fit_is_not_begun_and_its_need_is_in_the_record(
    found: Run, doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found.record.memory_bytes is not None
    assert found.record.memory_bytes > 10**6
    monkeypatch.setattr(memory_need, "available_bytes", lambda: 100_000)
    for begun in ("descend.search.rungs.images_per_s", "descend.search.run.fine_tuned"):
        monkeypatch.setattr(begun, lambda *_, **__: pytest.fail("it was begun"))
    said = r"must fit into memory: batches of \d+ pictures of \d+ x \d+ px need .* or more, 0\.1 MB are free"
    run = descend.fit(doubtful, out=tmp_path / "run", **LONG)
    assert run.record.status == "finished"
    assert re.search(said, run.record.notes[0])
    assert run.record.memory_bytes is None
    again = descend.fit(recipe=found.folder / "recipe.toml", out=tmp_path / "again")  # its steps are taken without a measurement
    assert again.record.status == "finished"
    assert any(re.search(said, step["outcome"]) for step in again.record.search)


def test_a_first_answer_that_fails_ends_the_search(doubtful: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("descend.search.run.fitted", failing)
    with pytest.raises(TrainingError, match="training: must fit into memory"):
        descend.fit(doubtful, out=tmp_path / "run", **LONG)


def test_a_damaged_model_of_a_finished_search_is_built_again(found: Run, tmp_path: Path) -> None:
    run = Path(shutil.copytree(found.folder, tmp_path / "run"))
    model = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(model[:-1] + b"\1")
    with pytest.raises(RunError, match=r"model\.safetensors: must be intact .*Build it again: descend fit --resume"):
        _ = descend.load(run).classifier
    with as_shipped():
        again = descend.resume(run)
    assert contents(again) == contents(found)
    assert again.record.status == "finished"
    assert again.record.search == found.record.search
    assert again.recipe == found.recipe


@pytest.mark.parametrize("on_nan", ["stop", "skip", "rollback"])
def test_a_gradient_that_is_not_finite_in_the_search(on_nan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, calls = make_task(epochs=1, source=FakeSource(n_steps=6)), list[int]()
    plain = task.loss

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(len(calls))
        return plain(logits, targets) * (torch.nan if len(calls) == 4 else 1.0)

    task.loss = loss
    monkeypatch.setattr(finetune, "KEPT_EVERY", 2)
    task.optimizer.nonfinite = "skip" if on_nan == "skip" else "error"
    pace = finetune.Pace(6, None, lambda: False, lambda _: None, lambda *_: None, 6)
    rollback = Rollback() if on_nan == "rollback" else None
    if on_nan == "stop":
        with pytest.raises(DivergenceError):
            finetune._train(task, pace, rollback)
        return
    finetune._train(task, pace, rollback)
    assert len(calls) == {"skip": 6, "rollback": 8}[on_nan]  # two steps come again: from the second on
    assert task.rate_factor == {"skip": 1.0, "rollback": 0.5}[on_nan]
    assert all(torch.isfinite(value).all() for value in task.module.state_dict().values())
