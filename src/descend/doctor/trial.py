"""A few steps of a training, taken once and measured from all sides, then undone.

The last step counts: the first one of an adaptive rule moves every weight by the whole rate, and behind a head of zeros no
gradient reaches the layers before the second. All are taken at a tenth of the peak rate, as in a warm-up: a few steps at the peak
from a cold start would break a network that the whole run trains well (Lite0 on hands: loss 35 after four).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from descend.optim import Optimizer
from descend.regularize.kl_sparsity import is_activation
from descend.train.loop import Batch, Task
from descend.train.lr_sweep import untouched

LEAST_STEPS, MOST_STEPS = 4, 10
RATE = 0.1  # of the peak
N_SEEN = 8  # pictures of the batch, for the spread of activations
LIMIT_S = 8.0  # after which no further step is begun, once there are enough


@dataclass
class Layer:
    """What one module gave out in the last step. n_dead: units that were at zero for every picture; n_units: of how many."""

    name: str
    kind: str
    std: float
    finite: bool
    n_units: int
    n_dead: int | None


@dataclass
class Trial:
    """What was seen.

    losses: before each step, nats. ratios: parameter -> length of the last update, as it would be at the peak rate, relative to
    the weights before the first one: a rate that is far too high makes weights so large that its updates look small beside them.
    gradients: parameter -> root mean square of the gradient in the last step. layers: activations of the last step; at_first: of
    the first one.
    fixed_moved: names of parameters that no optimizer holds, and of buffers that are held, that changed all the same; n_fixed: of
    how many. unmoved: names of parameters that the optimizer holds and that no step changed; n_moving: of how many. seconds:
    median per step of each part.
    """

    losses: list[float] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    at_first: list[Layer] = field(default_factory=list)
    fixed_moved: list[str] = field(default_factory=list)
    unmoved: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    n_fixed: int = 0
    n_moving: int = 0


def steps(task: Task, batches: Iterable[tuple[int, Batch]], *, rate: float = 1.0) -> Iterator[float]:
    """Take a step on every batch, as the loop would, and yield the loss before it. rate: in units of the run's peak rate."""
    parameters = dict(task.module.named_parameters())
    task.module.train()
    for epoch, batch in batches:
        for group in task.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        loss = task.step(epoch, batch).loss
        if not task.optimizer.moved:  # an open window of accumulation: every step counts by itself here
            task.optimizer.flush()
        task.regularize_weights(parameters)
        yield float(loss.detach())


def run_trial(task: Task, whole: nn.Module, batches: Iterable[tuple[int, Batch]]) -> Trial:
    """Take the steps, measure, and put everything back. whole: the network that ``task`` trains, or trains a part of."""
    trial, clock, weights = Trial(), _Clock(), _weights(task)
    with untouched(task), _restored(whole), _timed(task, clock):
        task.module.train()
        moving, held = _moving(whole, task), _held(whole, task)
        before, started = _state(whole), time.perf_counter()
        previous: dict[str, Tensor] = {}
        begun = {name: _length(p) for name, p in weights.items()}
        sized = [name for name in begun if begun[name] > 0]  # a weight that begins at zero has no size to compare with
        for n, (epoch, batch) in enumerate(batches, start=1):
            last = n == MOST_STEPS or (n >= LEAST_STEPS and time.perf_counter() - started > LIMIT_S)
            previous = {name: weights[name].detach().clone() for name in sized}
            with _watched(task.module, trial.layers if last else trial.at_first if n == 1 else None):
                trial.losses += clock.steps(task, epoch, batch, rate=RATE)
            if last:
                break
        trial.ratios = {name: _length(weights[name] - previous[name]) / begun[name] / RATE for name in sized}
        trial.gradients = {name: _rms(p.grad) for name, p in weights.items() if p.grad is not None}
        after = _state(whole)
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        trial.fixed_moved, trial.n_fixed = sorted(changed & held), len(held)
        trial.unmoved, trial.n_moving = sorted(moving - changed), len(moving)
    trial.seconds = clock.medians()
    return trial


def _weights(task: Task) -> dict[str, Tensor]:
    """Return the parameters that train and have two axes or more: matrices and kernels, by name."""
    return {name: p for name, p in task.module.named_parameters() if p.requires_grad and p.ndim >= 2}


def _rms(tensor: Tensor) -> float:
    return float(tensor.detach().double().pow(2).mean().sqrt())


def _length(tensor: Tensor) -> float:
    return float(tensor.detach().norm())


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _moving(whole: nn.Module, task: Task) -> set[str]:
    """Return the names of the parameters that the optimizer holds."""
    held = {id(p) for group in task.optimizer.param_groups for p in group["params"]}
    return {name for name, p in whole.named_parameters() if id(p) in held}


def _held(whole: nn.Module, task: Task) -> set[str]:
    """Return the names of what must not change: parameters that no optimizer holds, buffers of modules in evaluation mode."""
    names = {name for name, _ in whole.named_parameters()} - _moving(whole, task)
    for path, part in whole.named_modules():
        if not part.training:
            names |= {f"{path}.{name}".lstrip(".") for name, _ in part.named_buffers(recurse=False)}
    return names & set(whole.state_dict())


@contextmanager
def _restored(module: nn.Module) -> Iterator[None]:
    state = {name: value.clone() for name, value in module.state_dict().items()}
    try:
        yield
    finally:
        module.load_state_dict(state)


# --------------------------------------------------------------------------------------------------- activations of a step


@contextmanager
def _watched(module: nn.Module, layers: list[Layer] | None) -> Iterator[None]:
    """Note what every innermost module gives out while the block runs; None notes nothing."""
    hooks = []

    def note(path: str, part: nn.Module) -> None:
        def hook(_: nn.Module, inputs: object, output: object) -> None:
            del inputs
            if isinstance(output, Tensor) and output.is_floating_point() and layers is not None:
                layers.append(_layer(path, part, output.detach()))

        hooks.append(part.register_forward_hook(hook))

    if layers is not None:
        for path, part in module.named_modules():
            if next(part.children(), None) is None or is_activation(part):
                note(path or type(part).__name__, part)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _layer(path: str, part: nn.Module, output: Tensor) -> Layer:
    units = output.transpose(0, 1).flatten(1) if output.ndim in (2, 4) else output.flatten(0, -2).T
    rectifies = is_activation(part) and bool((output >= 0).all())
    n_dead = int((units == 0).all(1).sum()) if rectifies else None
    some = output[:N_SEEN].float()
    return Layer(path, type(part).__name__, float(some.std(correction=0)), bool(some.isfinite().all()), len(units), n_dead)


# ------------------------------------------------------------------------------------------------------- time of the parts


def _now() -> float:
    """Return the time when an accelerator has done what was asked of it so far."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


class _Clock:
    """Where the time of a step goes: forward, backward, step."""

    def __init__(self) -> None:
        self.walls: list[dict[str, float]] = []
        self.marks: dict[str, float] = {}

    def steps(self, task: Task, epoch: int, batch: Batch, *, rate: float) -> Iterator[float]:
        """Take one step, and note the time of its parts."""
        self.marks = {"begin": _now()}
        yield from steps(task, [(epoch, batch)], rate=rate)
        end, marks = _now(), self.marks
        forward = marks.get("forward done", end) - marks["begin"]
        stepping = 0.0 if task.optimizer.needs_closure else marks.get("stepped", end) - marks.get("to step", end)
        self.walls.append({"forward": forward, "backward": end - marks["begin"] - forward - stepping, "step": stepping})

    def medians(self) -> dict[str, float]:
        """Return the median seconds of each part; the first and the last step are watched, which takes time, and do not count."""
        late = self.walls[1:-1]
        return (
            {part: sorted(wall[part] for wall in late)[len(late) // 2] for part in ("forward", "backward", "step")}
            if late
            else {}
        )


@contextmanager
def _timed(task: Task, clock: _Clock) -> Iterator[None]:
    def mark(name: str) -> None:
        clock.marks.setdefault(name, _now())

    optimizer: Optimizer = task.optimizer
    hooks = [
        task.module.register_forward_hook(lambda *_: mark("forward done")),
        optimizer.register_step_pre_hook(lambda *_: mark("to step")),
        optimizer.register_step_post_hook(lambda *_: mark("stepped")),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
