"""The loop by itself: the order of its moments, closures, windows that an epoch cuts short, rates, and where it goes on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.fakes import N_CLASSES, N_INPUTS, FakeSource, Recorder, make_task, seeded_module, weights  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn

from descend import rng
from descend.regularize import Dropout, Regularizer
from descend.schedule import Schedule
from descend.train.loop import Position, Task, train_loop


def run(task: Task, position: Position | None = None, *, stop_after: int = 10**9, callback: Any = None) -> tuple[Position, Any]:
    """Run a task until ``stop_after`` steps are taken; returns where it stopped and what the callback saw."""
    callback = callback or Recorder()
    return train_loop(task, position or Position(), callback, lambda: len(callback.steps) >= stop_after), callback


def step_of(coordinates: rng.Coordinates | None) -> int:
    """Return the step that random layers would draw for now."""
    assert coordinates is not None
    return coordinates.step


class Logging(Regularizer):
    """Notes its moments in ``log``, and adds a constant to the loss."""

    name = "logging"

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def extra_loss(self, model: nn.Module) -> Tensor | None:
        self.log.append("extra loss")
        return None

    def after_step(self, parameters: Any, lr: float) -> None:
        self.log.append(f"weights of {sorted(parameters)} at {lr:g}")


class LoggingSchedule(Schedule):
    """Halves the rate with every step of 8, and notes what it is asked."""

    name = "logging"

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def at(self, progress: float) -> float:
        self.log.append(f"rate at {progress:g}")
        return 0.5 ** round(8 * progress)


def test_the_moments_come_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    task = make_task(schedule=LoggingSchedule(log), source=FakeSource(n_steps=2), epochs=1, regularizers=[Logging(log)])
    task.module.register_forward_hook(lambda *_: log.append(f"forward {step_of(rng.coordinates())}"))
    next(task.module.parameters()).register_hook(lambda _: log.append("backward"))
    original = task.optimizer.step
    monkeypatch.setattr(task.optimizer, "step", lambda *given: (log.append("step"), original(*given))[1])
    loss = task.loss
    task.loss = lambda logits, targets: (log.append("loss"), loss(logits, targets))[1]

    class Callback(Recorder):
        def after_step(self, position: Position) -> None:
            log.append(f"after step {position.step}")

        def after_epoch(self, position: Position, lr: float) -> bool:
            log.append(f"after epoch at {lr:g}")
            return True

    train_loop(task, Position(), Callback(), lambda: False)
    one = ["forward {}", "loss", "extra loss", "backward", "step", "weights of ['bias', 'weight'] at {}", "after step {}"]
    first = [line.format(value) for line, value in zip(one, (0, "", "", "", "", "0.1", 1), strict=True)]
    second = [line.format(value) for line, value in zip(one, (1, "", "", "", "", "0.00625", 2), strict=True)]
    assert log == ["rate at 0", "rate at 0", *first, "rate at 0.5", *second, "after epoch at 0.00625"]


def test_every_group_has_its_share_of_the_rate() -> None:
    task = make_task(schedule=LoggingSchedule([]), scales=[1.0, 0.25], source=FakeSource(n_steps=4), epochs=2)
    assert task.set_lr(1, 2) == pytest.approx(0.1 * 0.5**6)
    assert [group["lr"] for group in task.optimizer.param_groups] == pytest.approx([0.1 * 0.5**6, 0.025 * 0.5**6])


def test_a_reported_loss_is_the_data_loss_and_penalties_reach_the_gradient() -> None:
    class Pull(Logging):
        def extra_loss(self, model: nn.Module) -> Tensor:
            return 3.0 * next(model.parameters()).sum()

    plain, pulled = make_task(epochs=1, source=FakeSource(1)), make_task(epochs=1, source=FakeSource(1), regularizers=[Pull([])])
    batch = FakeSource(1).batch(0, 0)
    assert torch.equal(plain.step(0, batch)[1], pulled.step(0, batch)[1])
    moved = weights(pulled.module)["weight"] - weights(plain.module)["weight"]
    torch.testing.assert_close(moved, torch.full_like(moved, -0.1 * 3.0))


def test_a_second_gradient_sees_the_same_masks_and_teaches_norms_nothing() -> None:
    norm, drop = nn.BatchNorm1d(N_INPUTS), Dropout(0.5)
    module = seeded_module(norm, drop, nn.Linear(N_INPUTS, N_CLASSES))
    seen: list[Tensor] = []
    drop.register_forward_hook(lambda _, inputs, output: seen.append(output == 0))
    task = make_task(module, rule="sam(sgd(lr=0.1), rho=0.5)", source=FakeSource(1), epochs=1)
    before = module(FakeSource(1).batch(0, 0).inputs)  # counts one batch by itself
    assert before.shape == (6, N_CLASSES)
    seen.clear()
    logits, loss, _ = task.step(0, FakeSource(1).batch(0, 0))
    assert len(seen) == 2, "a rule that needs two gradients makes two passes"
    assert torch.equal(*seen)
    assert int(norm.num_batches_tracked or 0) == 2, "one of the forward pass above, one of the step"
    assert loss == task.loss(logits, FakeSource(1).batch(0, 0).targets), "of the first pass, before the climb"


def test_a_window_that_the_epoch_cuts_short_moves_the_weights() -> None:
    log: list[str] = []
    task = make_task(source=FakeSource(n_steps=5), epochs=1, gradients=["accumulate(n=3)"], regularizers=[Logging(log)])
    run(task)
    assert [line for line in log if line.startswith("weights")] == ["weights of ['bias', 'weight'] at 0.1"] * 2
    full = make_task(source=FakeSource(n_steps=6), epochs=1, gradients=["accumulate(n=3)"], regularizers=[Logging(again := [])])
    run(full)
    assert [line for line in again if line.startswith("weights")] == ["weights of ['bias', 'weight'] at 0.1"] * 2
    assert full.optimizer.pending == task.optimizer.pending == 0


@pytest.mark.parametrize("stop_after", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("rule", ["momentum(lr=0.1)", "sam(adamw(lr=0.05))", "schedule_free_adamw(lr=0.05)"])
def test_a_loop_that_starts_at_its_position_goes_on_bit_for_bit(stop_after: int, rule: str) -> None:
    def task() -> Task:
        module = seeded_module(nn.BatchNorm1d(N_INPUTS), Dropout(0.3), nn.Linear(N_INPUTS, N_CLASSES))
        return make_task(module, rule=rule, schedule="cosine" if rule[0] != "s" else "constant", epochs=3)

    whole, cut = task(), task()
    _, seen = run(whole)
    position, first = run(cut, stop_after=stop_after)
    assert (position.epoch, position.step) == ((stop_after - 1) // 4, (stop_after - 1) % 4 + 1)
    position, second = run(cut, position)
    assert position.epoch == 3
    assert first.steps + second.steps == seen.steps
    assert first.epochs + second.epochs == seen.epochs, "each epoch is closed once, at the rate of its last step"
    ours, theirs = weights(cut.module), weights(whole.module)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_an_epoch_without_a_step_left_is_closed_at_the_rate_of_its_last_step() -> None:
    task = make_task(schedule=LoggingSchedule([]), source=FakeSource(n_steps=4), epochs=2)
    position, seen = run(task, Position(epoch=0, step=4, n_seen=24))
    assert seen.epochs[0] == (0, pytest.approx(0.1 * 0.5**3))
    assert position.epoch == 2


def test_a_callback_ends_the_training() -> None:
    task = make_task(epochs=5)
    position, seen = run(task, callback=Recorder(on=lambda epoch: epoch < 1))
    assert (position.epoch, position.step) == (5, 0)
    assert [epoch for epoch, _ in seen.epochs] == [0, 1]


@pytest.mark.parametrize("soft", [False, True])
def test_a_position_sums_what_makes_the_metrics(soft: bool) -> None:
    source = FakeSource(n_steps=3, soft=soft)
    task, position = make_task(source=source), Position()
    losses, right = 0.0, 0
    for batch in source.epoch(0):
        logits, loss, targets = task.step(0, batch)
        position.advance(batch, logits, loss, targets)
        labels = FakeSource(n_steps=3).batch(0, batch.step).targets
        losses, right = losses + 6 * loss.item(), right + int((logits.argmax(1) == labels).sum())
    assert (position.step, position.n_seen, int(position.n_right)) == (3, 18, right)
    assert float(position.loss_sum) == pytest.approx(losses)
    following = position.next_epoch()
    assert (following.epoch, following.step, following.n_seen, float(following.loss_sum)) == (1, 0, 0, 0.0)


def test_the_module_trains_in_training_mode_whatever_a_callback_left() -> None:
    modes: list[bool] = []

    class Evaluating(Recorder):
        def after_epoch(self, position: Position, lr: float) -> bool:
            task.module.eval()
            return True

    task = make_task()
    task.module.register_forward_hook(lambda module, *_: modes.append(module.training))
    run(task, callback=Evaluating())
    assert modes == [True] * 8
