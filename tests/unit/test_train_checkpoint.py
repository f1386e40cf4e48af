"""A checkpoint goes round to the bit; a damaged or dangerous one is refused; a write that fails leaves the one before."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from tests.fakes import N_CLASSES, N_INPUTS, Recorder, make_task, seeded_module, weights  # pyright: ignore[reportMissingImports]
from torch import nn

from descend.errors import RunError
from descend.train import checkpoint
from descend.train.checkpoint import Best, load, save, snapshot
from descend.train.loop import Position, train_loop


def test_everything_goes_round(tmp_path: Path) -> None:
    task, best = make_task(rule="adamw(lr=0.05)"), Best()
    callback = Recorder()
    position = train_loop(task, Position(), callback, lambda: len(callback.steps) == 6)
    best.take(0, 0.75, 0.5, task.module)
    path = tmp_path / "checkpoint.pt"
    save(path, task.module, task.optimizer, position, best)
    other = make_task(seeded_module(nn.Linear(N_INPUTS, N_CLASSES))[0], rule="adamw(lr=0.05)")  # pyright: ignore[reportIndexIssue]
    for parameter in other.module.parameters():
        nn.init.zeros_(parameter)
    again, kept = load(path, other.module, other.optimizer)
    assert (again.epoch, again.step, again.n_seen) == (position.epoch, position.step, position.n_seen) == (1, 2, 12)
    assert torch.equal(again.loss_sum, position.loss_sum)
    assert torch.equal(again.n_right, position.n_right)
    assert (kept.epoch, kept.metric, kept.loss) == (0, 0.75, 0.5)
    assert all(torch.equal(value, weights(task.module)[name]) for name, value in weights(other.module).items())
    train_loop(task, position, Recorder(), lambda: False)
    train_loop(other, again, Recorder(), lambda: False)
    assert all(torch.equal(value, weights(task.module)[name]) for name, value in weights(other.module).items())


def test_a_snapshot_is_a_copy() -> None:
    module = seeded_module()
    kept = snapshot(module)
    before = weights(module)
    nn.init.zeros_(next(module.parameters()))
    assert all(torch.equal(kept[name], before[name]) for name in kept)


def test_selection_prefers_the_metric_then_the_loss_then_the_earliest() -> None:
    best, module = Best(), seeded_module()
    offers = [(0.5, 1.0, True), (0.5, 1.0, False), (0.5, 0.9, True), (0.4, 0.1, False), (0.6, 2.0, True)]
    assert [best.offer(epoch, metric, loss, module) for epoch, (metric, loss, _) in enumerate(offers)] == [o[2] for o in offers]
    assert (best.epoch, best.metric, best.loss) == (4, 0.6, 2.0)


def written(path: Path, rule: str = "sgd(lr=0.1)") -> Path:
    task = make_task(rule=rule)
    save(path, task.module, task.optimizer, Position(), Best())
    return path


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other keys", "other shapes", "other rule", "missing", "code"])
def test_what_does_not_fit_is_refused_in_words(tmp_path: Path, damage: str) -> None:
    path = written(tmp_path / "checkpoint.pt", rule="adamw(lr=0.1)" if damage == "other rule" else "sgd(lr=0.1)")
    module = nn.Linear(7, 2) if damage == "other shapes" else seeded_module()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("no checkpoint")
    elif damage == "other keys":
        torch.save({"module": module.state_dict()}, path)
    elif damage == "missing":
        path.unlink()
    elif damage == "code":
        path.write_bytes(pickle.dumps(print, protocol=2))
    task = make_task(module)
    with pytest.raises(RunError, match=r"must be intact and fit this run .*descend fit --recipe"):
        load(path, task.module, task.optimizer)


def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "checkpoint.pt")
    before = path.read_bytes()

    def full(state: object, file: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    task = make_task()
    with pytest.raises(RunError, match="must be writable"):
        save(path, task.module, task.optimizer, Position(), Best())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk_is_said_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(seeded_module(nn.Linear(N_INPUTS, 4000)))
    monkeypatch.setattr(Path, "open", lambda self, mode: open("/dev/full", mode))  # noqa: PTH123, SIM115 (it stands for what is replaced)
    with pytest.raises(
        RunError, match=r"must be writable \(checkpoint\.pt: No space left on device\)\. Free some space"
    ) as caught:
        save(tmp_path / "checkpoint.pt", task.module, task.optimizer, Position(), Best())
    assert "enforce" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_same_training_is_the_same_file(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name) for name in ("one.pt", "two.pt"))
    assert first.read_bytes() == second.read_bytes()
