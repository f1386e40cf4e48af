"""TensorBoard: a tracker that writes each epoch's numbers and what came of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descend.errors import MissingExtra
from descend.train.record import RunRecord
from descend.train.tracking import results, search_curve


class TensorBoard:
    """Writes every number of an epoch as a scalar: ``descend.fit(..., tracker=descend.TensorBoard("tb/first"))``.

    Training and validation values of one metric share a chart (``loss/train``, ``loss/val``). What is written is flushed after
    each epoch, so that TensorBoard shows a run that goes on, and one that was stopped keeps all of its epochs. In the end come
    ``result/...`` and, of a search, which has no epochs, ``search/best_accuracy`` over seconds; the settings stand under "text".
    As ``on_epoch`` it writes epochs alone.
    folder: where event files go; a folder for each run. Raises MissingExtra without the package ``tensorboard``.
    """

    def __init__(self, folder: Path | str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            fix = "Install it with: pip install 'descend[tensorboard]'"
            raise MissingExtra("TensorBoard", "the package tensorboard must be installed", fix=fix) from None
        self._writer = SummaryWriter(str(folder))

    def started(self, run: Path, record: RunRecord) -> None:
        """Write the settings."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in record.plan.items() if value is not None)
        self._writer.add_text("settings", f"{run.name}\n\n| setting | value |\n|---|---|\n{rows}")
        self._writer.flush()

    def ended(self, run: Path, record: RunRecord) -> None:  # noqa: ARG002 (a tracker's protocol)
        """Write what came of the run, and how a search got there."""
        for seconds, best in search_curve(record):
            self._writer.add_scalar("search/best_accuracy", best, seconds)
        for name, value in results(record).items():
            self._writer.add_scalar(name, value)
        self._writer.flush()

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
