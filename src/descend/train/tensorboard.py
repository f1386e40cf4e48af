"""TensorBoard: an ``on_epoch`` callback that writes each epoch's numbers. Any other logger is a function of the row as well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descend.errors import MissingExtra


class TensorBoard:
    """Writes every number of an epoch as a scalar: ``descend.fit(..., on_epoch=descend.TensorBoard("tb/first"))``.

    Training and validation values of one metric share a chart (``loss/train``, ``loss/val``). What is written is flushed after
    each epoch, so that TensorBoard shows a run that goes on, and one that was stopped keeps all of its epochs.
    folder: where event files go; a folder for each run. Raises MissingExtra without the package ``tensorboard``.
    """

    def __init__(self, folder: Path | str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            fix = "Install it with: pip install 'descend[tensorboard]'"
            raise MissingExtra("TensorBoard", "the package tensorboard must be installed", fix=fix) from None
        self._writer = SummaryWriter(str(folder))

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Write one row, as ``fit`` gives it."""
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(_tag(name), float(value), row["epoch"])
        self._writer.flush()


def _tag(name: str) -> str:
    """Return the name of a scalar: what is measured, then on which pictures."""
    split, _, metric = name.partition("_")
    return f"{metric}/{split}" if split in ("train", "val") else name
