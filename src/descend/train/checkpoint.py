"""Saving and restoring a training in one piece of code: module, optimizer, position, and the best epoch so far."""

from __future__ import annotations

import pickle
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from descend.errors import RunError
from descend.optim import Optimizer
from descend.train.folder import replacing, verify
from descend.train.loop import Position
from descend.train.nonfinite import Rollback
from descend.train.record_types import EpochRow

State = dict[str, Tensor]


def snapshot(module: nn.Module) -> State:
    """Return a copy of the module's parameters and buffers, on the CPU."""
    return {name: value.detach().to("cpu", copy=True) for name, value in module.state_dict().items()}


@dataclass
class Best:
    """The epoch that selection prefers so far: the highest metric, then the lowest validation loss, then the earliest."""

    epoch: int = -1
    metric: float = float("-inf")
    loss: float = float("inf")
    state: State | None = None

    def offer(self, epoch: int, metric: float, loss: float, module: nn.Module) -> bool:
        """Keep this epoch if it is better; returns whether it is."""
        if (metric, -loss) <= (self.metric, -self.loss):
            return False
        self.take(epoch, metric, loss, module)
        return True

    def take(self, epoch: int, metric: float, loss: float, module: nn.Module) -> None:
        """Keep this epoch, whatever was kept before."""
        self.epoch, self.metric, self.loss, self.state = epoch, metric, loss, snapshot(module)


def save(
    path: Path,
    module: nn.Module,
    optimizer: Optimizer,
    position: Position,
    best: Best,
    rollback: Rollback | None = None,
    rows: Sequence[EpochRow] = (),
) -> None:
    """Write a checkpoint atomically; a failure leaves the one before.

    rollback: where training may go back to a good epoch. rows: metrics of the epochs so far, from which schedules and early
    stopping decide.
    """
    state: dict[str, Any] = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "position": vars(position),
        "best": {"epoch": best.epoch, "metric": best.metric, "loss": best.loss, "state": best.state},
        "rows": [dict(row) for row in rows],
    }
    if rollback is not None:
        state["rollback"] = vars(rollback)
    with replacing(path) as part:
        try:
            with part.open("wb") as file:
                torch.save(state, file)
        except RuntimeError as error:  # of torch's zip writer, which cannot end what it has begun on a full disk
            raise _refused(error) or OSError(str(error).partition("\n")[0]) from error


def _refused(error: BaseException) -> OSError | None:
    """Return what the disk said when torch was writing, None where it said nothing."""
    before = error.__context__
    return before if before is None or isinstance(before, OSError) else _refused(before)


def load(
    path: Path,
    module: nn.Module,
    optimizer: Optimizer,
    rollback: Rollback | None = None,
    rows: list[EpochRow] | None = None,
) -> tuple[Position, Best]:
    """Restore a checkpoint into ``module``, ``optimizer``, ``rollback`` and ``rows``.

    A checkpoint of an older version holds no rows: ``rows`` stays as it is. Raises RunError if it is damaged or does not fit.
    """
    if path.exists():
        resume = f"descend fit --resume {shlex.quote(str(path.parent))}"
        verify(path, f"Restore it, or delete it and train from the beginning: {resume}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        if rollback is not None:
            rollback.n, rollback.state = state["rollback"]["n"], state["rollback"]["state"]
        if rows is not None and "rows" in state:
            rows[:] = state["rows"]
        return Position(**state["position"]), Best(**state["best"])
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise RunError(f"checkpoint {path}", f"must be intact and fit this run ({type(error).__name__})",
                       fix="Train again from its recipe: descend fit --recipe RUN/recipe.toml.") from error  # fmt: skip
