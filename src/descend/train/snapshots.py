"""States of the network along a training, kept so that its path can be looked at afterwards (``descend slice``)."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import nn

from descend.train import folder
from descend.train.checkpoint import snapshot


class Snapshots:
    """Writes the module's state into ``RUN/snapshots`` after evenly spaced epochs: the first and the last state among them.

    n: how many, 2 to ``epochs`` + 1. A file is named after the number of epochs done: training began at ``0000.safetensors``.
    Raises RunError where the disk does not take it.
    """

    def __init__(self, run: Path, n: int, epochs: int) -> None:
        self.path = run / folder.SNAPSHOTS
        self.epochs_kept = {round(k * epochs / (n - 1)) for k in range(n)}

    def offer(self, n_epochs: int, module: nn.Module, *, last: bool = False) -> None:
        """Write the state after ``n_epochs`` epochs if it is due, or if training ends here."""
        if n_epochs not in self.epochs_kept and not last:
            return
        folder.make_inner(self.path)
        state = {name: value.contiguous() for name, value in snapshot(module).items()}
        with folder.replacing(self.path / f"{n_epochs:04d}.safetensors") as part:
            part.write_bytes(save(state, {"epoch": str(n_epochs)}))
