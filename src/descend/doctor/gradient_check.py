"""Gradients against central differences in float64: of the loss, of each penalty in it, and of the whole network.

One number is compared: the slope along a random direction of all weights. It costs three passes on a few pictures, however many
weights there are. Source: Karpathy's notes for CS231n, "Gradient checks"; Baydin et al. 2018, JMLR 18:153, section 2.1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from descend import rng
from descend.doctor.subject import LARGE_INPUT, N_QUICK, Subject
from descend.findings import Finding, named
from descend.regularize import Regularizer
from descend.train.loop import Batch

CHECK = "gradient check"
N_LARGE = 2  # large pictures; of others a few more
STEPS = (1e-8, 1e-7, 1e-6)
"""Of the difference; the best counts. Kinks of rectifiers spoil large ones (0.3% at 1e-6 on digits, whose background is
constant), rounding the small ones."""
TOLERANCE = 1e-3  # relative
NUDGE = 0.02  # random weights on top: a head of zeros would let no gradient through


@dataclass(frozen=True)
class Slope:
    """The slope of a function along a direction, by the gradient and by differences."""

    analytic: float
    numeric: float

    @property
    def error(self) -> float:
        """The difference, relative to the larger of the two."""
        return abs(self.analytic - self.numeric) / max(abs(self.analytic), abs(self.numeric), 1e-8)


def gradient_check(subject: Subject) -> list[Finding]:
    """Compare slopes of everything through which gradients go, on a copy of what trains."""
    ((epoch, batch),) = subject.batches(1)
    few = N_LARGE if batch.inputs[0].numel() > LARGE_INPUT else N_QUICK
    batch = Batch(batch.ids[:few], batch.inputs[:few].double(), batch.targets[:few], batch.step)
    module = _nudged(subject)
    penalties = [item for item in subject.task.regularizers if type(item).extra_loss is not Regularizer.extra_loss]

    def passed(value: Callable[[Tensor], Tensor | None]) -> Callable[[], Tensor]:
        def function() -> Tensor:
            with rng.context(epoch, batch.step, batch.ids):
                result = value(module(batch.inputs))
            return torch.zeros((), dtype=torch.float64) if result is None else result

        return function

    slopes = {
        "the network": slope(passed(lambda logits: subject.task.loss(logits, batch.targets)), module, seed=subject.plan.seed)
    }
    for item in penalties:
        slopes[str(item)] = slope(passed(lambda _, item=item: item.extra_loss(module)), module, seed=subject.plan.seed)
    logits = torch.nn.ParameterList([module(batch.inputs).detach()])
    slopes["the loss"] = slope(lambda: subject.task.loss(logits[0], batch.targets), logits, seed=subject.plan.seed)
    return [_judged(slopes)]


def _judged(slopes: dict[str, Slope]) -> Finding:
    table = tuple(
        {"part": name, "gradient": s.analytic, "differences": s.numeric, "error": s.error} for name, s in slopes.items()
    )
    worst = max(slopes, key=lambda name: slopes[name].error)
    wrong = [name for name, s in slopes.items() if not s.error <= TOLERANCE]
    evidence = {"parts": list(slopes), "worst": worst, "error": slopes[worst].error}
    told = f"{named(list(slopes))}: relative error {slopes[worst].error:.1e} at most, in float64"
    if not wrong:
        return Finding(CHECK, "ok", told, evidence, table=table)
    shown = slopes[wrong[0]]
    what = f"{named(wrong)}: the gradient's slope is {shown.analytic:.6g}, differences give {shown.numeric:.6g}"
    fix = "Look at its backward pass: a detach, an in-place change, or a formula of one's own."
    return Finding(CHECK, "finding", what, evidence, fix, table)


def _nudged(subject: Subject) -> nn.Module:
    """Return a float64 copy of what trains, in training form, its weights moved a little at random."""
    module = copy.deepcopy(subject.module).double().train()
    with rng.torch_drawn(subject.plan.seed, "doctor/nudge"), torch.no_grad():
        for p in module.parameters():
            if p.requires_grad:
                p.add_(NUDGE * torch.randn(p.shape, dtype=p.dtype).to(p.device))
    return module


def slope(function: Callable[[], Tensor], module: nn.Module, *, seed: int) -> Slope:
    """Return the slope of ``function``, a scalar of the module's parameters, along one random direction."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    with rng.torch_drawn(seed, "doctor/direction"):
        direction = [torch.randn(p.shape, dtype=p.dtype).to(p.device) for p in parameters]
    value = function()
    grads = torch.autograd.grad(value, parameters, allow_unused=True) if value.requires_grad else [None] * len(parameters)
    pairs = zip(grads, direction, strict=True)
    analytic = sum(float((grad * d).sum()) for grad, d in pairs if grad is not None)
    best = None
    for eps in STEPS:
        found = Slope(
            analytic, (_at(function, parameters, direction, eps) - _at(function, parameters, direction, -eps)) / (2 * eps)
        )
        best = found if best is None or found.error < best.error else best
        if best.error <= TOLERANCE / 10:
            break
    assert best is not None  # STEPS is not empty
    return best


def _at(function: Callable[[], Tensor], parameters: list[nn.Parameter], direction: list[Tensor], eps: float) -> float:
    kept = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, d in zip(parameters, direction, strict=True):
            p.add_(eps * d)
    with torch.enable_grad():  # penalties on activations note nothing without
        value = float(function().detach())
    with torch.no_grad():
        for p, before in zip(parameters, kept, strict=True):
            p.copy_(before)
    return value
