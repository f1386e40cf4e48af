"""The rows of a Parquet file with pictures in it: what stands in which column, and what each row tells, as text.

At most 256 MiB of pictures, or one, are held while rows are read. What pyarrow raises on a damaged file is one error in words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from descend.data.labels import clean_text
from descend.data.places import is_file
from descend.data.ranges import LocalFile, RangedFile, Window
from descend.errors import DataError
from descend.printable import shortened

SUFFIX = ".parquet"
_BINARY = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "bytes")  # names of a binary column that holds pictures
_HELD = 2**28  # bytes of pictures read at once
_MOST_ROWS = 64


class Columns(NamedTuple):
    """What stands where: the column of pictures, whether it is a struct, and the others where there are any."""

    picture: str
    is_struct: bool
    label: str | None
    words: Sequence[str]  # the names of numbered classes, () where labels are as they are
    split: str | None
    group: str | None


def has_pictures(place: Path | IO[bytes]) -> bool:
    """Say whether a Parquet file has a column of pictures. False for other files, and where pyarrow is missing: tables tell."""
    if isinstance(place, Path) and (place.suffix.lower() != SUFFIX or not is_file(place)):
        return False
    try:
        import pyarrow.parquet as parquet

        return _columns(parquet.read_schema(place)) is not None
    except Exception:  # damaged, or none: who reads it as a table says so
        return False


def opened(shard: RangedFile) -> Any:
    """Return pyarrow's view of a file. Raises DataError."""
    import pyarrow.parquet as parquet

    with naming(shard.name):
        return parquet.ParquetFile(shard.path if isinstance(shard, LocalFile) else Window(shard))


@contextmanager
def naming(shard: str) -> Iterator[None]:
    """Turn whatever pyarrow raises on a damaged file into a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        why = shortened(str(error).strip().partition("\n")[0] or type(error).__name__)
        raise DataError(shard, f"must be a Parquet file that is whole ({why})", fix="Fetch it again.") from error


def columns_of(shard: RangedFile) -> Columns:
    """Return what stands where in a file that has pictures. Raises DataError."""
    schema = opened(shard).schema_arrow
    columns = _columns(schema)
    if columns is None:
        raise DataError(shard.name, "must have a column of pictures, as the shards beside it", got=", ".join(schema.names))
    return columns


def _columns(schema: Any) -> Columns | None:
    """Return what stands where in a schema of pyarrow, or None where there is no column of pictures."""
    import pyarrow.types as types

    features = _features(schema)
    structs = [
        field.name for field in schema
        if types.is_struct(field.type) and any(part.name == "bytes" and _is_binary(part.type) for part in field.type)
    ]  # fmt: skip
    plain = [field.name for field in schema if _is_binary(field.type)]
    told = [name for name, feature in features.items() if feature.get("_type") == "Image" and name in structs + plain]
    named = [name for name in plain if clean_text(name).casefold() in _BINARY]
    if not (candidates := [*told, *structs, *named]):
        return None
    known = {clean_text(field.name).casefold(): field.name for field in schema if not types.is_nested(field.type)}
    numbered = [name for name, feature in features.items() if feature.get("_type") == "ClassLabel" and name in schema.names]
    label = (*numbered, known.get("label"))[0]
    words = features[label].get("names") if numbered and label else None
    return Columns(candidates[0], candidates[0] in structs, label, _checked_words(words), known.get("split"), known.get("group"))


def _is_binary(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _features(schema: Any) -> dict[str, Mapping[str, Any]]:
    """Return Hugging Face's features by name; none where the schema tells none that can be read."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _checked_words(words: Any) -> Sequence[str]:
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else ()


Row = tuple[bytes | None, str, str, str, str]  # bytes, path, label, split and group


class Rows(NamedTuple):
    """What one opening of a file gives. stated: bytes that it says its pictures have. lengths: rows, by its row groups.

    each: every row in turn, read when it is asked for; it raises DataError.
    """

    stated: int
    lengths: NDArray[np.int64]
    each: Iterator[Row]


def rows_of(shard: RangedFile, columns: Columns) -> Rows:
    """Return the rows of a file. Raises DataError."""
    file = opened(shard)
    metadata = file.metadata
    lengths = np.array([metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)], np.int64)
    sizes = _group_bytes(metadata, columns.picture)
    return Rows(sum(sizes), lengths, _each(shard, file, columns, max(sizes, default=0)))


def _group_bytes(metadata: Any, column: str) -> list[int]:
    """Return the bytes that each row group says the pictures have; a picture has no more than its row group."""
    with_dots = f"{column}."
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [[group.column(number) for number in range(group.num_columns)] for group in groups]
    return [
        sum(chunk.total_uncompressed_size for chunk in row if f"{chunk.path_in_schema}.".startswith(with_dots)) for row in chunks
    ]


def _each(shard: RangedFile, file: Any, columns: Columns, largest: int) -> Iterator[Row]:
    """Yield every row. largest: bytes of the pictures of a row group, at most."""
    wanted = [name for name in (columns.picture, columns.label, columns.split, columns.group) if name is not None]
    batches = file.iter_batches(max(1, min(_MOST_ROWS, _HELD // max(largest, 1))), columns=wanted)
    at = 0
    while True:
        with naming(shard.name):
            batch = next(batches, None)
            rows = [] if batch is None else batch.to_pylist()
        if batch is None:
            return
        for row in rows:
            at += 1
            cell = row[columns.picture]
            content, path = (cell or {}).get("bytes") if columns.is_struct else cell, ""
            if columns.is_struct and cell:
                path = str(cell.get("path") or "")
            label = _label(shard, at, row[columns.label], columns.words) if columns.label else ""
            split = _cell(row[columns.split]) if columns.split else ""
            yield content, path, label, split, _cell(row[columns.group]) if columns.group else ""


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _label(shard: RangedFile, row: int, value: Any, words: Sequence[str]) -> str:
    """Return the label of a row as text, "" where it is missing: null, or -1 where classes are numbered by names."""
    if not words or value is None or isinstance(value, str):
        return _cell(value)
    if value == -1:
        return ""
    if not isinstance(value, int) or not 0 <= value < len(words):
        raise DataError(
            shard.name, f"labels must number its {len(words)} classes, from 0 on, that of row {row:,} does not", got=value
        )
    return words[value]
