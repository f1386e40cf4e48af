"""A checkpoint goes round to the bit; a damaged or dangerous one is refused; a write that fails leaves the one before."""

from __future__ import annotations

import errno
import math
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fakes import N_CLASSES, N_INPUTS, Listener, Recorder, make_task, seeded_module, weights  # pyright: ignore[reportMissingImports]
from torch import nn

from descend.errors import RunError
from descend.train import folder, state_file
from descend.train.checkpoint import Best, load, save, snapshot
from descend.train.loop import Position, train_loop


def test_everything_goes_round(tmp_path: Path) -> None:
    task, best = make_task(rule="adamw(lr=0.05)"), Best()
    callback = Recorder()
    position = train_loop(task, Position(), callback, lambda: len(callback.steps) == 6)
    best.take(0, 0.75, 0.5, task.module)
    path = tmp_path / "checkpoint.safetensors"
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


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "text", "other keys", "other shapes", "other rule", "missing", "code", "of torch"]
)
def test_what_does_not_fit_is_refused_in_words(tmp_path: Path, damage: str) -> None:
    path = written(tmp_path / "checkpoint.safetensors", rule="adamw(lr=0.1)" if damage == "other rule" else "sgd(lr=0.1)")
    module = nn.Linear(7, 2) if damage == "other shapes" else seeded_module()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("no checkpoint")
    elif damage == "other keys":
        path.write_bytes(state_file.dump({"module": dict(module.state_dict())}))
    elif damage == "of torch":
        torch.save({"module": module.state_dict()}, path)
    elif damage == "missing":
        path.unlink()
    elif damage == "code":
        path.write_bytes(pickle.dumps(print, protocol=2))
    task = make_task(module)
    command = rf"descend fit --recipe {re.escape(str(tmp_path / 'recipe.toml'))} --out NEW\.$"
    with pytest.raises(RunError, match=rf"must be intact and fit this run .*{command}"):
        load(path, task.module, task.optimizer)


def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "checkpoint.safetensors")
    before = path.read_bytes()

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    task = make_task()
    with pytest.raises(RunError, match="must be writable"):
        save(path, task.module, task.optimizer, Position(), Best())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.safetensors"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk_is_said_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(seeded_module(nn.Linear(N_INPUTS, 4000)))
    monkeypatch.setattr(Path, "open", lambda self, mode, *_: open("/dev/full", mode))  # noqa: PTH123, SIM115 (it stands for what is replaced)
    with pytest.raises(
        RunError, match=r"must be writable \(checkpoint\.safetensors: No space left on device\)\. Free some space"
    ) as caught:
        save(tmp_path / "checkpoint.safetensors", task.module, task.optimizer, Position(), Best())
    assert "enforce" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_same_training_is_the_same_file(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name) for name in ("one.safetensors", "two.safetensors"))
    assert first.read_bytes() == second.read_bytes()


def test_a_state_keeps_its_kinds_its_bits_and_its_layout(tmp_path: Path) -> None:
    weight = torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last)
    state = {
        0: [weight, weight], "tied": (weight, weight.T if weight.ndim == 2 else weight.permute(3, 2, 1, 0)), "none": None,
        "numbers": [0.1, -math.inf, 3, True, 2**70], "text": ["tensor", "dict", ""], "empty": [{}, [], (), torch.zeros(0, 3)],
        "kinds": [torch.tensor(3), torch.tensor(True), torch.ones(3, dtype=torch.bfloat16), torch.zeros((), dtype=torch.float64)],
    }  # fmt: skip
    path = tmp_path / "state.safetensors"
    path.write_bytes(state_file.dump(state))
    again = state_file.read(path)
    assert same(state, again)
    assert again[0][0].stride() == weight.stride()
    assert again["tied"][1].stride() == state["tied"][1].stride()
    with pytest.raises(TypeError, match="a state holds data only, got Linear"):
        state_file.dump({"module": nn.Linear(1, 1)})


def same(a: Any, b: Any) -> bool:
    """Return whether two states are of the same kinds and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return all(map(same, a, b)) and len(a) == len(b) if isinstance(a, (list, tuple)) else a == b


def test_the_checkpoint_before_serves_where_the_newest_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / folder.CHECKPOINT
    folder.write_text(tmp_path / folder.RECIPE, "epochs = 2\n")  # a manifest begins with it
    task = make_task()
    for step in (1, 2, 3):
        save(path, task.module, task.optimizer, Position(step=step), Best())
    assert {entry.name for entry in tmp_path.glob("*.safetensors")} == {folder.CHECKPOINT, folder.PREVIOUS}
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # a bit of a weight: it still reads well
    path.write_bytes(content)
    heard = Listener()
    assert load(path, task.module, task.optimizer, progress=heard)[0].step == 2
    assert heard.lines == ["  checkpoint.safetensors is damaged or missing: going on from the checkpoint before it"]
    save(path, task.module, task.optimizer, Position(step=4), Best())  # the damaged one does not take the place of the whole one
    path.unlink()
    assert load(path, task.module, task.optimizer)[0].step == 2
    (tmp_path / folder.PREVIOUS).write_bytes(b"")
    with pytest.raises(RunError, match="must be intact and fit this run"):
        load(path, task.module, task.optimizer)


def test_torchs_own_generator_goes_on_where_it_stood(tmp_path: Path) -> None:
    path, task = tmp_path / folder.CHECKPOINT, make_task()
    with torch.random.fork_rng():
        save(path, task.module, task.optimizer, Position(), Best())
        drawn = torch.rand(3)
        load(path, task.module, task.optimizer)
        assert torch.equal(torch.rand(3), drawn)


def test_a_checkpoint_of_an_older_version_is_one_sentence(tmp_path: Path) -> None:
    assert not folder.has_checkpoint(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(RunError, match=r"an older version wrote checkpoint\.pt, which is not read\. Delete that file"):
        folder.has_checkpoint(tmp_path)
