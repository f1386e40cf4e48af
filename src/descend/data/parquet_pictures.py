"""Parquet with the pictures in it, as Hugging Face stores data sets: unpacked once into the cache, then read as a table.

    train.parquet                            a column of pictures, struct {bytes, path} or binary, and a column of labels
    photos/train-00000-of-00002.parquet      shards: the name of a file, or of its folder, tells the split
    photos/data/..., photos/train/...        the shards of a repository

Names of classes come from the schema ("huggingface": ClassLabel), as in ``listed``. Columns ``split`` and ``group`` are those of
a table. A picture without bytes is left out and counted. No name that a file tells leads out of the cache, what does not fit
into it is refused before anything is written, and no more than 256 MiB, or one picture, is held at once.

Source: https://huggingface.co/docs/datasets/image_dataset and https://huggingface.co/docs/hub/datasets-file-names-and-splits.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from descend.data.archives import TABLE, Room, in_cache
from descend.data.labels import clean_text
from descend.data.manifest import SPLIT_WORDS
from descend.errors import DataError
from descend.files import CacheFolder
from descend.printable import shortened

SUFFIX = ".parquet"
FOLDERS = ("data", *SPLIT_WORDS)  # in which shards lie, below the folder that is given
_BINARY = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "bytes")  # names of a binary column that holds pictures
_HELD = 2**28  # bytes of pictures read at once
_MOST_ROWS = 64
_MARKS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}


class _Columns(NamedTuple):
    """What stands where: the column of pictures, whether it is a struct, and the others where there are any."""

    picture: str
    is_struct: bool
    label: str | None
    words: Sequence[str]  # the names of numbered classes, () where labels are as they are
    split: str | None
    group: str | None


def has_pictures(place: Path | IO[bytes]) -> bool:
    """Say whether a Parquet file has a column of pictures. False for other files, and where pyarrow is missing: tables tell."""
    if isinstance(place, Path) and (place.suffix.lower() != SUFFIX or not place.is_file()):
        return False
    try:
        import pyarrow.parquet as parquet

        return _columns(parquet.read_schema(place)) is not None
    except Exception:  # damaged, or none: who reads it as a table says so
        return False


def shards_of(folder: Path) -> list[Path]:
    """Return the Parquet files with pictures in a folder, or in its folders that are called like splits or ``data``.

    None where there are other folders beside them. Raises DataError where only some of the files have pictures.
    """
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError:  # who reads the folder tells why
        return []
    inside = [entry for entry in entries if entry.is_dir()]
    files = sorted(entry for entry in entries if entry.suffix.lower() == SUFFIX)
    if not files and all(entry.name.lower() in FOLDERS for entry in inside):
        files = sorted(file for entry in inside for file in entry.iterdir() if file.suffix.lower() == SUFFIX)
    elif inside:
        return []
    without = [file for file in files if not has_pictures(file)]
    if not files or len(without) == len(files):
        return []
    if without:
        raise DataError(str(folder), "all its Parquet files must have a column of pictures", got=without[0].name,
                        fix="Move the others elsewhere.")  # fmt: skip
    return files


def unpacked_pictures(shards: Sequence[Path], cache: CacheFolder | None = None) -> Path:
    """Return the table of the pictures of these files, or their folder where they have no labels, unpacked if need be.

    Raises DataError for a file that is damaged, holds no bytes, or is too large for the cache.
    """
    cache = cache or CacheFolder()
    folder = shards[0].parent.parent if shards[0].parent.name.lower() in FOLDERS else shards[0].parent
    name = shards[0].stem if len(shards) == 1 else folder.name or "pictures"
    root = in_cache([*shards], name, lambda place: _unpack(shards, place, cache), cache)
    return root / TABLE if (root / TABLE).is_file() else root


def pictures_folder(place: Path) -> Path | None:
    """Return the folder in which the pictures of a Parquet file, or of a folder of shards, lie; None for all else."""
    shards = [place] if has_pictures(place) else shards_of(place) if place.is_dir() else []
    if not shards:
        return None
    found = unpacked_pictures(shards)
    return found if found.is_dir() else found.parent


def refuse_unlabeled(shards: Sequence[Path]) -> DataError:
    """Return the error for files that are to be trained on and have no labels."""
    return DataError(str(shards[0]), "must have a column of labels", got=", ".join(_file(shards[0]).schema_arrow.names),
                     fix="Call it 'label'. To classify pictures without labels: descend predict RUN FILE.")  # fmt: skip


def _unpack(shards: Sequence[Path], root: Path, cache: CacheFolder) -> None:
    """Write the pictures below ``root``, with a table of their labels where there are any."""
    room, stated = Room(shards[0], cache), sum(map(_stated_bytes, shards))
    room.take(stated)
    rows, kinds, n_bytes = list[list[str]](), set[bool](), 0
    for shard in shards:
        columns = _wanted(shard)
        kinds.add(columns.label is not None)
        place = root if len(shards) == 1 else root / f"{_folder_split(shard)}{shard.stem}"
        place.mkdir(parents=True)
        by_name = _split_of(shard) if len(shards) > 1 else ""  # a lone file is divided, whatever it is called
        for number, (content, path, label, split, group) in enumerate(_rows(shard, columns, by_name)):
            name = ""
            if content:
                n_bytes += len(content)
                if n_bytes > stated:  # what a file says of its own sizes need not be true
                    room.take(len(content))
                file = place / f"{number:07}{_safe(path)}{_ending(content, path)}"
                file.write_bytes(content)
                name = file.relative_to(root).as_posix()
            rows.append([name, label, split, group])
    if not n_bytes:
        raise DataError(str(shards[0]), "must hold the bytes of its pictures, it holds at most their paths",
                        fix="Save it with the pictures embedded, or give the folder of the files.")  # fmt: skip
    if len(kinds) > 1:
        raise DataError(str(shards[0].parent), "all its Parquet files must have the same columns: some have no labels")
    if kinds == {True}:
        _write_table(root / TABLE, rows)


def _write_table(table: Path, rows: list[list[str]]) -> None:
    """Write path, label, and the columns split and group where they say something."""
    kept = [column for column in range(4) if column < 2 or any(row[column] for row in rows)]
    header = ["path", "label", "split", "group"]
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([row[column] for column in kept] for row in [header, *rows])


def _file(shard: Path) -> Any:
    import pyarrow.parquet as parquet

    with _naming(shard):
        return parquet.ParquetFile(shard)


@contextmanager
def _naming(shard: Path) -> Iterator[None]:
    """Turn whatever pyarrow raises on a damaged file into a DataError."""
    try:
        yield
    except Exception as error:
        why = shortened(str(error).strip().partition("\n")[0] or type(error).__name__)
        raise DataError(str(shard), f"must be a Parquet file that is whole ({why})", fix="Fetch it again.") from error


def _wanted(shard: Path) -> _Columns:
    columns = _columns(_file(shard).schema_arrow)
    assert columns is not None  # it has been looked at
    return columns


def _columns(schema: Any) -> _Columns | None:
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
    return _Columns(candidates[0], candidates[0] in structs, label, _checked_words(words), known.get("split"), known.get("group"))


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


def _stated_bytes(shard: Path) -> int:
    """Return the bytes that a file says its pictures have."""
    return sum(_group_bytes(_file(shard).metadata, _wanted(shard).picture))


def _group_bytes(metadata: Any, column: str) -> list[int]:
    """Return the bytes that each row group says the pictures have; a picture has no more than its row group."""
    with_dots = f"{column}."
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [[group.column(number) for number in range(group.num_columns)] for group in groups]
    return [
        sum(chunk.total_uncompressed_size for chunk in row if f"{chunk.path_in_schema}.".startswith(with_dots)) for row in chunks
    ]


def _rows(shard: Path, columns: _Columns, by_name: str) -> Iterator[tuple[bytes | None, str, str, str, str]]:
    """Yield bytes, path, label, split (``by_name`` where no column tells it) and group of every row."""
    file = _file(shard)
    largest = max(_group_bytes(file.metadata, columns.picture), default=0)
    wanted = [name for name in (columns.picture, columns.label, columns.split, columns.group) if name is not None]
    batches = file.iter_batches(max(1, min(_MOST_ROWS, _HELD // max(largest, 1))), columns=wanted)
    at = 0
    while True:
        with _naming(shard):
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
            split = _cell(row[columns.split]) if columns.split else by_name
            yield content, path, label, split, _cell(row[columns.group]) if columns.group else ""


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _label(shard: Path, row: int, value: Any, words: Sequence[str]) -> str:
    """Return the label of a row as text, "" where it is missing: null, or -1 where classes are numbered by names."""
    if not words or value is None or isinstance(value, str):
        return _cell(value)
    if value == -1:
        return ""
    if not isinstance(value, int) or not 0 <= value < len(words):
        raise DataError(
            str(shard), f"labels must number its {len(words)} classes, from 0 on, that of row {row:,} does not", got=value
        )
    return words[value]


def _split_of(shard: Path) -> str:
    """Return the split that the name of a shard begins with, or that its folder is called by, or ""."""
    word = re.split(r"[^a-z]", shard.stem.lower())[0]
    folder = shard.parent.name.lower()
    return word if word in SPLIT_WORDS else folder if folder in SPLIT_WORDS else ""


def _folder_split(shard: Path) -> str:
    """Return what keeps the files of two split folders apart."""
    return f"{shard.parent.name}-" if shard.parent.name.lower() in SPLIT_WORDS else ""


def _safe(path: str) -> str:
    """Return the last part of a path as a part of a file's name: no more than plain letters."""
    stem = re.split(r"[/\\]", path)[-1]
    stem = stem.rpartition(".")[0] or stem
    clean = re.sub(r"[^\w.-]", "_", stem, flags=re.ASCII)[:80].strip(".")
    return f"-{clean}" if clean else ""


def _ending(content: bytes, path: str) -> str:
    """Return the ending of a picture by its first bytes; of what those do not tell, that of its path."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    told = next((ending for mark, ending in _MARKS.items() if content.startswith(mark)), None)
    own = re.search(r"\.\w{1,5}$", path, flags=re.ASCII)
    return told or (own[0].lower() if own else "")
