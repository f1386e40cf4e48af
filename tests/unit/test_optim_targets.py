"""Every rule arrives from a stated rate: on the parabolas and Rosenbrock functions by which other libraries test theirs.

``parabola`` and ``steep``: optax (alias_test.py); ``mild``: torch-optimizer (test_basic.py). Arrived is who has been within 0.01
of the minimum, in every coordinate, for 50 steps in a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from descend.optim import Optimizer, Rule, knob_names, with_knobs
from descend.technique import registered


@dataclass(frozen=True)
class Target:
    gradient: Callable[..., tuple[float, ...]]
    start: tuple[float, ...]
    minimum: tuple[float, ...]
    n_steps: int


def rosenbrock(b: float) -> Callable[[float, float], tuple[float, float]]:
    """The gradient of (1 - x)**2 + b * (y - x**2)**2."""
    return lambda x, y: (-2 * (1 - x) - 4 * b * x * (y - x * x), 2 * b * (y - x * x))


TARGETS = {
    "parabola": Target(
        lambda *at: tuple(2 * (x - c) for x, c in zip(at, (1, -1, 1), strict=True)), (-1, 10, 1), (1, -1, 1), 6000
    ),
    "mild": Target(rosenbrock(1.0), (1.5, 1.5), (1, 1), 1500),
    "steep": Target(rosenbrock(100.0), (0, 0), (1, 1), 6000),
}
RATES: dict[str, tuple[float, float, float | str]] = {
    "adabelief": (1.0, 0.1, 0.03),
    "adadelta": (10.0, 1.0, "its steps begin near zero and grow only as fast as the gradient lasts"),
    "adafactor": (1.0, 0.03, "its steps are in proportion to the weights, which are zero at the start"),
    "adagrad": (1.0, 1.0, 0.1),
    "adam": (0.3, 0.1, 0.03),
    "adamax": (0.3, 0.3, 0.1),
    "adamw": (0.3, 0.1, 0.03),
    "adan": (1.0, 0.3, 0.01),
    "amsgrad": (0.3, 0.1, 0.03),
    "lamb": (0.01, 0.003, 0.002),
    "lars": (1.0, 1.0, 1.0),
    "lion": (0.005, 0.002, 0.002),
    "momentum": (0.03, 0.03, 0.003),
    "muon": (0.005, 0.01, 0.01),
    "nadam": (0.3, 0.1, 0.003),
    "nesterov": (0.1, 0.03, 0.001),
    "radam": (0.3, 0.1, 0.03),
    "rmsprop": (0.3, 0.03, 0.002),
    "sam": (0.3, 0.01, "it keeps away from the valley's floor, which is sharp, as it is meant to"),
    "schedule_free_adamw": (0.3, 0.3, 0.03),
    "schedule_free_sgd": (0.3, 0.1, 0.003),
    "sgd": (0.1, 0.1, 0.0018),
    "signsgd": (0.003, 0.002, "steps of one length cross the valley's floor at every step"),
}
"""Rates on the targets, in their order; or why the rule does not arrive there."""

OTHERS = (0.3, 0.1, 0.03)
"""The rates of a rule that is not in the table, and of wrappers, which hold AdamW."""


def arrival(kind: type[Rule], rate: float, target: Target) -> int:
    """Return the step at which a rule without decay of its own has arrived; the last one if it never does."""
    settings = {"lr": rate} | ({"weight_decay": 0.0} if "weight_decay" in knob_names(kind()) else {})
    parameter = torch.tensor(target.start, dtype=torch.float64, requires_grad=True)
    optimizer = Optimizer([parameter], with_knobs(kind(), **settings), compiled=False)

    def closure() -> None:
        parameter.grad = torch.tensor(target.gradient(*parameter.tolist()), dtype=torch.float64)

    inside = 0
    for t in range(target.n_steps):
        optimizer.step(closure)
        far = max(abs(x - c) for x, c in zip(parameter.tolist(), target.minimum, strict=True))
        inside = inside + 1 if far < 0.01 else 0
        if inside == 50:
            return t
    return target.n_steps


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("kind", list(registered(Rule)), ids=lambda kind: kind.name)
def test_every_rule_arrives(kind: type[Rule], name: str) -> None:
    place = list(TARGETS).index(name)
    rate = RATES.get(kind.name, OTHERS)[place]
    if isinstance(rate, str):
        pytest.skip(f"declared: {rate}")
    assert arrival(kind, rate, TARGETS[name]) < TARGETS[name].n_steps
