"""Fine-tuning never ends below its start: the state with the prepared head is a candidate like every epoch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from descend.progress import Silent
from descend.train.checkpoint import Best
from descend.train.prepare import TrainingSetup
from descend.train.training import _offer_start


def setup(module: nn.Module, *, head_first: bool) -> TrainingSetup:
    """Return what the start is judged by: two pictures whose features are their labels."""
    dataset = SimpleNamespace(indices=lambda split: np.arange(2), labels=np.array([0, 1]), copies=lambda rows: None)
    mode_task = SimpleNamespace(
        module=module, inputs=lambda rows: iter([torch.eye(2)[rows]]), head_first=(lambda: None) if head_first else None
    )
    plan, log = SimpleNamespace(metric="accuracy"), SimpleNamespace(record=SimpleNamespace(init=None))
    return cast(TrainingSetup, SimpleNamespace(dataset=dataset, mode_task=mode_task, plan=plan, log=log, progress=Silent()))


def linear(weight: Any) -> nn.Linear:
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor(weight)
    return layer


def test_a_start_that_is_better_than_every_epoch_remains() -> None:
    good, worse = linear([[4.0, 0.0], [0.0, 4.0]]), linear([[0.0, 4.0], [4.0, 0.0]])
    best = Best()
    _offer_start(setup(good, head_first=True), best)
    assert (best.epoch, best.metric) == (-1, 1.0)
    assert not best.offer(0, 0.0, 4.0, worse)
    assert best.state is not None
    assert torch.equal(best.state["weight"], good.weight)


def test_an_epoch_that_is_better_than_the_start_replaces_it() -> None:
    best = Best()
    _offer_start(setup(linear([[0.0, 4.0], [4.0, 0.0]]), head_first=True), best)
    assert best.offer(0, 1.0, 0.02, linear([[4.0, 0.0], [0.0, 4.0]]))
    assert best.epoch == 0


def test_random_weights_are_no_candidate() -> None:
    best = Best()
    _offer_start(setup(linear([[4.0, 0.0], [0.0, 4.0]]), head_first=False), best)
    assert best.state is None
