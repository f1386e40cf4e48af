"""Answers as Parquet: all probabilities of every picture in one column of lists."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.cli.answers import NOT_SURE, Style
from descend.errors import KnobError, MissingExtra

if TYPE_CHECKING:
    from descend.train.answers import Predictions

SUFFIX = ".parquet"


def check(style: Style) -> None:
    """Raise MissingExtra without pyarrow, and KnobError for a number of classes, which would have no effect."""
    if style.top is not None:
        raise KnobError("--top", "has no effect on Parquet, which holds all probabilities", got=style.top,
                        fix="Leave it out, or write .csv.")  # fmt: skip
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        fix = "Install it with: pip install 'descend[tables]'"
        raise MissingExtra("answers as Parquet", "pyarrow must be installed", fix=fix) from None


def write(parts: Iterable[Predictions], style: Style, path: Path) -> None:
    """Write path, predicted, confidence, doubts, and ``probabilities``, float32 in the order of ``classes`` in the metadata.

    Parts are written as they come. Raises OSError where the disk does not take them.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    writer: Any = None
    try:
        for part in parts:
            if writer is not None and not part.names:  # the last one, which only tells what was skipped
                continue
            table = _table(part, style, pyarrow)
            writer = writer or parquet.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
        if writer is None:
            parquet.write_table(pyarrow.table({"path": pyarrow.array([], pyarrow.string())}), path)
    finally:
        if writer is not None:
            writer.close()


def _table(part: Predictions, style: Style, pyarrow: Any) -> Any:
    confidence = part.probabilities.max(1, initial=0.0)
    sure = [style.is_sure(float(p)) for p in confidence]
    names = [name.encode("utf-8", "backslashreplace").decode() for name in part.names]  # a file's name need not be Unicode
    labels = [str(label) if is_sure else NOT_SURE for label, is_sure in zip(part.labels, sure, strict=True)]
    columns = {"path": pyarrow.array(names, pyarrow.string()), "predicted": pyarrow.array(labels, pyarrow.string()),
               "confidence": confidence.astype("float32")}  # fmt: skip
    if part.entropy is not None and part.mutual_information is not None:
        columns |= {"entropy": part.entropy, "mutual_information": part.mutual_information}
    flat = pyarrow.array(part.probabilities.astype("float32").ravel())
    columns["probabilities"] = pyarrow.FixedSizeListArray.from_arrays(flat, len(part.classes))
    return pyarrow.table(columns).replace_schema_metadata({"classes": json.dumps(part.classes)})
