"""From prepare to the run folder, on tiny arrays: the estimate, the log, training, what is frozen, and judging."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.fakes import N_CLASSES, N_INPUTS, FakeSource, Listener, make_task, seeded_module, weights  # pyright: ignore[reportMissingImports]
from torch import nn

from descend.errors import KnobError, RunError, TrainingError
from descend.models import fingerprint
from descend.train import estimate, folder, record, training
from descend.train.judge import judge
from descend.train.loop import Position
from descend.train.prepare import TrainingSetup, prepare
from descend.train.recipe import from_settings, read
from descend.train.run import Run
from descend.train.run_log import RunLog
from descend.train.training import train

TINY: dict[str, Any] = {"backbone": "smallcnn(width=4)", "epochs": 2, "batch_size": 16, "seed": 1, "augment": []}
LABELS = np.arange(60) % 2
IMAGES = (np.random.default_rng(0).integers(0, 60, (60, 12, 12)) + 150 * LABELS[:, None, None]).astype(np.uint8)


def prepared(out: Path | None, *, log: RunLog | None = None, **settings: Any) -> TrainingSetup:
    """Prepare a run on the arrays; without ``out`` nothing is written."""
    log = log or (RunLog(writes=False) if out is None else RunLog(out=out, command=["descend", "fit"]))
    return prepare(from_settings(TINY | settings), arrays=(IMAGES, LABELS), log=log, progress=Listener())


def told(setup: TrainingSetup) -> str:
    assert isinstance(setup.progress, Listener)
    return "\n".join(setup.progress.lines)


# --------------------------------------------------------------------------------------------------------- the estimate


def test_a_rehearsal_counts_steps_gradients_and_validation_and_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(clock))  # every look at the clock is a second later
    module = seeded_module(nn.BatchNorm1d(N_INPUTS), nn.Linear(N_INPUTS, N_CLASSES))
    task = make_task(module, source=FakeSource(n_steps=10, size=6), epochs=3)
    before, state = weights(module), task.optimizer.state_dict()
    expected = 3 * (10 * (1.15 + 1) + 12 / 6 * 0.4)
    assert estimate.rehearse(task, n_val=12) == pytest.approx(expected)
    assert all(torch.equal(value, before[name]) for name, value in weights(module).items())
    assert task.optimizer.state_dict() == state
    assert all(parameter.grad is None for parameter in module.parameters())
    twice = make_task(seeded_module(), rule="sam(sgd(lr=0.1))", source=FakeSource(n_steps=10, size=6), epochs=3)
    assert estimate.rehearse(twice, n_val=12) == pytest.approx(3 * (10 * (2 * 1.15 + 1) + 12 / 6 * 0.4))


def test_a_batch_that_a_norm_cannot_learn_from_is_a_setting_to_change() -> None:
    module = seeded_module(nn.BatchNorm1d(N_INPUTS), nn.Linear(N_INPUTS, N_CLASSES))
    with pytest.raises(KnobError, match=r"batch_size: must be larger.*--batch-size"):
        estimate.rehearse(make_task(module, source=FakeSource(size=1)), n_val=3)

    class Failing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("of another kind")

    with pytest.raises(ValueError, match="of another kind"):
        estimate.rehearse(make_task(nn.Sequential(Failing(), seeded_module())), n_val=3)


# --------------------------------------------------------------------------------------------------------------- the log


def test_the_folder_appears_with_recipe_and_record_when_everything_was_checked(tmp_path: Path) -> None:
    with pytest.raises(KnobError):
        prepared(tmp_path / "refused", backbone="lite0", transfer="features", head="mlp(hidden=4)", layer_decay=0.5)
    assert not (tmp_path / "refused").exists()
    setup = prepared(tmp_path / "run")
    assert setup.log.folder == tmp_path / "run"
    note = record.load(tmp_path / "run")
    assert (note.status, note.command, note.label_type, note.picture_shape) == (
        "running",
        ["descend", "fit"],
        "integer",
        [12, 12],
    )
    assert note.classes == ["0", "1"]
    assert note.modules == []
    assert set(note.wall_s) >= {"scan", "build"}
    assert read(tmp_path / "run" / folder.RECIPE) == setup.plan.recipe()
    assert note.plan == {name: list(v) if isinstance(v, tuple) else v for name, v in setup.plan.describe().items()}


def test_a_log_that_writes_nothing_records_all_the_same() -> None:
    setup = prepared(None)
    assert setup.log.folder is None
    assert setup.log.record.classes == ["0", "1"]
    setup.log.save()


def test_time_is_added_up_also_where_a_stage_fails(tmp_path: Path) -> None:
    log = RunLog(out=tmp_path)
    with log.timed("scan"):
        pass
    with pytest.raises(ZeroDivisionError), log.timed("scan"):
        raise ZeroDivisionError
    assert list(log.record.wall_s) == ["scan"]


def test_a_reopened_log_goes_on_and_a_stopped_one_says_so(tmp_path: Path) -> None:
    setup = prepared(tmp_path / "run")
    run = setup.log.stopped()
    assert (run.folder, run.record.status) == (tmp_path / "run", "interrupted")
    setup.log.close()
    again = RunLog.reopened(tmp_path / "run")
    assert (again.folder, again.record) == (tmp_path / "run", run.record)
    prepared(None, log=again)
    assert record.load(tmp_path / "run").status == "running"


# -------------------------------------------------------------------------------------------------------------- training


def test_training_writes_a_line_per_epoch_a_checkpoint_and_what_it_cost(tmp_path: Path) -> None:
    setup = prepared(tmp_path / "run")
    result = train(setup)
    assert (result.finished, result.folder) == (True, tmp_path / "run")
    lines = (tmp_path / "run" / folder.METRICS).read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert (tmp_path / "run" / folder.CHECKPOINT).exists()
    note = setup.log.record
    assert (note.rate_of, note.frozen) == ("training", None)
    assert note.images_per_s is not None
    assert note.images_per_s > 0
    assert note.estimate_s is not None
    assert "training 2 epochs: about " in told(setup)


@pytest.mark.parametrize("leads", [True, False])
def test_an_error_of_a_process_that_does_not_lead_ends_it(leads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that leads keeps the best epoch first; it would wait for ever for another one that goes on to the end."""

    def failing(*_: object) -> None:
        raise MemoryError("of this process alone")

    monkeypatch.setattr(training, "train_loop", failing)
    task: Any = SimpleNamespace(world=SimpleNamespace(lost=lambda error: None, leads=leads), module=torch.nn.Linear(1, 1))
    callback: Any = SimpleNamespace(position=Position(), foreign=None, rollback=None)
    setup: Any = SimpleNamespace(plan=None)
    monkeypatch.setattr(training, "with_location", lambda error, *_: error)
    if leads:
        assert isinstance(training._looped(setup, task, callback, cast(Any, None)), MemoryError)
    else:
        with pytest.raises(MemoryError):
            training._looped(setup, task, callback, cast(Any, None))


def test_a_frozen_part_that_moves_ends_the_training_and_is_written_down(tmp_path: Path) -> None:
    setup = prepared(tmp_path / "run")
    moving = dataclasses.replace(setup.mode_task, frozen=lambda: fingerprint(setup.mode_task.module))
    with pytest.raises(TrainingError, match=r"must leave every frozen parameter and buffer as it was, got '\w+ -> \w+'"):
        train(dataclasses.replace(setup, mode_task=moving))
    frozen = setup.log.record.frozen
    assert frozen is not None
    assert frozen["before"] != frozen["after"]


def test_a_frozen_buffer_counts_too(tmp_path: Path) -> None:
    setup = prepared(tmp_path / "run", backbone="resnet9(width=4)")
    buffers = nn.Module()
    for place, (_, value) in enumerate(setup.mode_task.module.named_buffers()):
        buffers.register_buffer(f"b{place}", value)
    watched = dataclasses.replace(setup.mode_task, frozen=lambda: fingerprint(buffers))
    with pytest.raises(TrainingError, match="parameter and buffer"):
        train(dataclasses.replace(setup, mode_task=watched))


def test_a_frozen_part_that_stands_still_is_written_down(tmp_path: Path) -> None:
    setup = prepared(tmp_path / "run")
    aside = seeded_module()
    train(dataclasses.replace(setup, mode_task=dataclasses.replace(setup.mode_task, frozen=lambda: fingerprint(aside))))
    assert setup.log.record.frozen == {"before": fingerprint(aside), "after": fingerprint(aside), "norm": "train"}


def test_what_comes_before_the_first_epoch_is_done_once_and_its_state_is_a_candidate(tmp_path: Path) -> None:
    def good_head() -> None:
        done.append(1)
        with torch.no_grad():
            for parameter in setup.classifier.head.parameters():
                parameter.zero_()

    done: list[int] = []
    setup = prepared(tmp_path / "run", optimizer="sgd(lr=0.0)")
    setup = dataclasses.replace(setup, mode_task=dataclasses.replace(setup.mode_task, head_first=good_head))
    result = train(setup)
    assert done == [1]
    assert result.best.epoch == -1, "an epoch that gains nothing does not replace it"
    assert "before the first epoch" in told(setup)
    (note,) = setup.log.record.notes
    assert note.startswith("None of the "), "the report and the last lines must not let the curves contradict the score"
    assert "so that state was kept" in note
    (of_one,) = training._kept_start(result.best, 1)
    assert of_one.startswith("The one epoch was not better")
    train(setup, restore=True)
    assert done == [1], "a run that goes on has it already"


def test_a_ctrl_c_before_the_first_epoch_keeps_the_state_that_was_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def estimate_that_is_stopped(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training, "_estimate", estimate_that_is_stopped)
    setup = prepared(tmp_path / "run")
    run = judge(train(dataclasses.replace(setup, mode_task=dataclasses.replace(setup.mode_task, head_first=lambda: None))))
    setup.log.close()
    assert run.record.status == "interrupted"
    assert run.record.chosen is not None
    assert run.record.chosen["epoch"] == 0, "the state before the first epoch is the answer so far"
    assert run.record.val is not None
    assert folder.is_trained(run.folder)
    assert len(run.predict(IMAGES[:3]).labels) == 3
    monkeypatch.undo()
    assert train(prepared(None, log=RunLog.reopened(run.folder)), restore=True).finished


def test_a_run_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    setup = prepared(tmp_path / "run")
    run = Run(tmp_path / "run", setup.log.record)
    with pytest.raises(RunError, match=r"must hold model\.safetensors\. It is being trained now: wait until it has ended"):
        run.predict(IMAGES[:1])
    setup.log.close()
    with pytest.raises(RunError, match=r"It has stopped before one was kept\. Go on: descend fit --resume .*run"):
        run.predict(IMAGES[:1])
    run.record.status = "finished"
    with pytest.raises(RunError, match=r"Train again from its recipe: descend fit --recipe .*run/recipe\.toml"):
        run.predict(IMAGES[:1])


def test_metrics_of_epochs_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    setup = prepared(tmp_path / "run")
    train(setup)
    lines = tmp_path / "run" / folder.METRICS
    with lines.open("a") as file:
        file.write('{"epoch": 3}\n{"epoch": 4, "cut')
    setup.log.close()
    again = prepared(None, log=RunLog.reopened(tmp_path / "run"))
    result = train(again, restore=True)
    assert result.finished
    assert [json.loads(line)["epoch"] for line in lines.read_text().splitlines()] == [1, 2]
    assert "going on in epoch 3, step 1" in told(again)


def test_what_was_computed_is_the_throughput_where_features_were_the_work() -> None:
    setup = prepared(None)
    setup.extraction.n_computed, setup.extraction.wall_s = 500, 2.0
    by_features = dataclasses.replace(setup, plan=dataclasses.replace(setup.plan, transfer="features"))
    training._note_throughput(by_features, n_trained=60, wall_s=0.5)
    assert (setup.log.record.rate_of, setup.log.record.images_per_s) == ("features", 250.0)
    training._note_throughput(setup, n_trained=60, wall_s=0.5)
    assert (setup.log.record.rate_of, setup.log.record.images_per_s) == ("training", 120.0)


# --------------------------------------------------------------------------------------------------------------- judging


def test_the_best_epoch_is_saved_and_judged_and_test_is_looked_at_once(tmp_path: Path) -> None:
    result = train(prepared(tmp_path / "run"))
    best = {name: value.clone() for name, value in (result.best.state or {}).items()}
    with torch.no_grad():
        for parameter in result.setup.mode_task.module.parameters():
            parameter.zero_()  # whatever the last epoch left
    run = judge(result)
    saved = load_file(tmp_path / "run" / folder.MODEL)
    assert all(torch.equal(saved[name], best[name]) for name in best)
    note = run.record
    assert (note.status, note.chosen and note.chosen["epoch"]) == ("finished", result.best.epoch + 1)
    assert note.val is not None
    assert note.test is not None
    assert [look["what"] for look in note.test_looks] == ["descend fit, after training"]
    assert note.val["accuracy"] == max(json.loads(line)["val_accuracy"] for line in lines_of(tmp_path / "run"))
    table = (tmp_path / "run" / folder.PREDICTIONS).read_text().splitlines()
    assert table[0] == "path,split,label,predicted,confidence,p_0,p_1"
    assert len(table) == 1 + note.val["n"] + note.test["n"]
    for split, score in (("val", note.val), ("test", note.test)):
        assert sum(n for *_, n in note.confused[split]) == score["n"]
        assert sum(row["n"] for row in note.per_class[split]) == score["n"]


def lines_of(run: Path) -> list[str]:
    return (run / folder.METRICS).read_text().splitlines()


def test_an_interrupted_training_is_not_judged_on_test(tmp_path: Path) -> None:
    result = train(prepared(tmp_path / "run"))
    note = judge(dataclasses.replace(result, finished=False)).record
    assert note.status == "interrupted"
    assert note.test is None
    assert note.test_looks == []
    assert set(note.confused) == {"val"}


def test_exact_zeros_are_counted_where_a_penalty_makes_them(tmp_path: Path) -> None:
    result = train(prepared(tmp_path / "run", regularize=["l1(strength=0.5)"], optimizer="sgd(lr=0.05)"))
    assert judge(result).record.sparsity["all"] > 0
    plain = train(prepared(tmp_path / "plain"))
    assert judge(plain).record.sparsity == {}


def test_a_full_disk_is_told_and_leaves_no_half_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = train(prepared(tmp_path / "run"))

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match="must be writable"):
        judge(result)
    assert not (tmp_path / "run" / folder.MODEL).exists()
