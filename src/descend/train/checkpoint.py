"""Saving and restoring a training in one piece of code: module, optimizer, position, and the best epoch so far.

``checkpoint.safetensors`` is the newest; the one before it stays beside it as ``checkpoint.previous.safetensors``, and is gone on
with where the newest is damaged or missing. Both are data only: tensors and JSON (``state_file``).

What is random here is a function of (seed, epoch, step, picture), so the position is the state of every augmentation, mask, order
and sampler; the averages and accumulated gradients are the optimizer's slots; schedules decide from position and metrics. The
state of torch's own generator is saved too, for layers of one's own that draw from it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from descend.errors import DescendError, RunError
from descend.optim import Optimizer
from descend.progress import Progress, Silent
from descend.train import folder, run_manifest, state_file
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
    """Write a checkpoint; the one that was there becomes the previous one. A failure leaves both.

    rollback: where training may go back to a good epoch. rows: metrics of the epochs so far, from which schedules and early
    stopping decide. Raises RunError where the disk does not take it.
    """
    state: dict[str, Any] = {
        "module": dict(module.state_dict()),
        "optimizer": optimizer.state_dict(),
        "position": vars(position),
        "best": {"epoch": best.epoch, "metric": best.metric, "loss": best.loss, "state": best.state},
        "rows": [dict(row) for row in rows],
        "generators": _generators(module),
    }
    if rollback is not None:
        state["rollback"] = vars(rollback)
    content = state_file.dump(state)
    with folder.replacing(path, previous=path.with_name(folder.PREVIOUS)) as part:
        part.write_bytes(content)


def load(
    path: Path,
    module: nn.Module,
    optimizer: Optimizer,
    rollback: Rollback | None = None,
    rows: list[EpochRow] | None = None,
    progress: Progress | None = None,
) -> tuple[Position, Best]:
    """Restore a checkpoint into ``module``, ``optimizer``, ``rollback`` and ``rows``; where it is damaged, the previous one.

    progress: learns of that. Raises RunError where neither can be used.
    """
    state, used = _read(path, progress or Silent())
    try:
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        if rollback is not None:
            rollback.n, rollback.state = state["rollback"]["n"], state["rollback"]["state"]
        if rows is not None:
            rows[:] = state["rows"]
        _restore_generators(state["generators"], module)
        return Position(**state["position"]), Best(**state["best"])
    except (RuntimeError, DescendError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise _unusable(used, type(error).__name__) from error


def forget_previous(run: Path) -> None:
    """Delete the previous checkpoint of a finished run, if the newest is whole: nothing will go on from either."""
    newest = run / folder.CHECKPOINT
    if newest.exists() and not run_manifest.is_changed(newest):
        (run / folder.PREVIOUS).unlink(missing_ok=True)


def _read(path: Path, progress: Progress) -> tuple[dict[str, Any], Path]:
    """Return the state in the newest checkpoint that is whole, and which file that is."""
    previous = path.with_name(folder.PREVIOUS)
    try:
        return _whole(path), path
    except RunError as error:
        try:
            state = _whole(previous)
        except RunError:
            raise error from None
        progress.say(f"  {path.name} is damaged or missing: going on from the checkpoint before it")
        path.unlink(missing_ok=True)  # or it would take the place of the whole one
        return state, previous


def _whole(path: Path) -> dict[str, Any]:
    """Return the state in a file. Raises RunError where the file is missing, another than was written, or no checkpoint."""
    if path.exists():
        resume = f"descend fit --resume {shlex.quote(str(path.parent))}"
        folder.verify(path, f"Restore it, or delete it and train from the beginning: {resume}.", as_=folder.CHECKPOINT)
    try:
        state = state_file.read(path)
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, RecursionError) as error:
        raise _unusable(path, type(error).__name__) from error
    if not isinstance(state, dict):
        raise _unusable(path, "it holds something else")
    return state


def _unusable(path: Path, why: str) -> RunError:
    return RunError(f"checkpoint {path}", f"must be intact and fit this run ({why})",
                    fix=f"Train again from its recipe: {folder.train_anew(path.parent)}.")  # fmt: skip


def _generators(module: nn.Module) -> dict[str, Tensor]:
    """Return the states of torch's generators: the CPU's, and that of the GPU which the module is on."""
    states = {"cpu": torch.get_rng_state()}
    for gpu in gpus_of(module):
        states["cuda"] = torch.cuda.get_rng_state(gpu)
    return states


def _restore_generators(states: dict[str, Tensor], module: nn.Module) -> None:
    torch.set_rng_state(states["cpu"])
    for gpu in gpus_of(module) if "cuda" in states else []:
        torch.cuda.set_rng_state(states["cuda"], gpu)


def gpus_of(module: nn.Module) -> list[int]:
    """Return the number of the GPU that a module is on, whose generator it may draw from; none on other devices."""
    device = next((parameter.device for parameter in module.parameters()), None)
    return [device.index or 0] if device is not None and device.type == "cuda" else []
