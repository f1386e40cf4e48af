"""Pictures at an address (``s3://bucket/photos``, ``https://...``), whatever fsspec reads.

They are fetched once into the cache; what has changed there (names, sizes, times or tags) is fetched anew as a whole. Shards that
would take more than half of the cache are not fetched: their pictures are read where they lie (``ranges``).
Source: https://filesystem-spec.readthedocs.io; torch brings it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import chain, product, takewhile
from pathlib import Path, PurePosixPath
from typing import Any

from descend.data.archives import ENDINGS
from descend.data.parquet_pictures import FOLDERS
from descend.data.parquet_rows import SUFFIX, has_pictures
from descend.data.ranges import RemoteFile, no_room, out_of_reach
from descend.data.shards import Shards
from descend.data.table_files import SUFFIXES
from descend.data.tar_shards import ENDING as TAR
from descend.errors import DataError, MissingExtra, is_full_disk
from descend.files import CacheFolder
from descend.printable import shortened

KIND = "fetched"  # of the cache's entries
_BRACES = re.compile(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{}]*,[^{}]*))\}")
MOST_SHARDS = 100_000  # named by one address
_FACTS = ("size", "mtime", "created", "LastModified", "last_modified", "ETag", "etag", "md5Hash")


def at_address(address: str, cache: CacheFolder | None = None) -> Path | Shards:
    """Return the folder or the file (a table has its folder beside it) of an address, fetched if it is not in the cache.

    Shards beyond half of the cache are returned as they are. Raises DataError where it is out of reach, empty, larger than the
    cache may be, or names files outside itself; MissingExtra where fsspec lacks the package for this kind of address.
    """
    cache = cache or CacheFolder()
    try:
        system, file, top, listed = _look(address)
    except DataError:
        raise
    except ImportError as error:
        raise MissingExtra(
            address, f"needs a package ({shortened(str(error))})", fix="Install it, or download the data."
        ) from error
    except Exception as error:  # each file system has errors of its own
        raise out_of_reach(address, error) from error
    files = {_relative(address, top, name): name for name in sorted(listed)}
    n_bytes = sum(int(listed[name].get("size") or 0) for name in files.values())
    if 2 * n_bytes > cache.limit_bytes and (names := _shards(system, files)):
        facts = {name: [system.unstrip_protocol(name), *(str(listed[name].get(fact)) for fact in _FACTS)] for name in names}
        sizes = {name: int(listed[name].get("size") or 0) for name in names}
        return Shards([RemoteFile(system, name, facts[name], sizes[name], cache) for name in names], Path(file or top))
    if not files:
        raise DataError(address, "must hold files", got="none", fix="Look at its name: bucket, folder and ending.")
    if n_bytes > cache.limit_bytes:
        must, got = f"must fit into the cache of {cache.limit_bytes:,} bytes", f"{len(files):,} files of {n_bytes:,} bytes"
        raise DataError(address, must, got=got,
                        fix="Raise DESCEND_CACHE_LIMIT, or download it and give the folder.")  # fmt: skip
    facts = [[address, str(name)] + [str(listed[path].get(fact)) for fact in _FACTS] for name, path in files.items()]
    place = PurePosixPath(top).name or "data"

    def fetch(unfinished: Path) -> None:
        cache.enforce_limit(n_bytes)
        for name, path in files.items():
            target = unfinished / place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(path, str(target))

    try:
        entry = cache.folder(KIND, facts, fetch)
    except Exception as error:
        if is_full_disk(error):
            raise no_room(address, cache, error) from error
        raise out_of_reach(address, error) from error
    return entry / place / PurePosixPath(file).name if file else entry / place


def _look(address: str) -> tuple[Any, str, str, Mapping[str, Mapping[str, Any]]]:
    """Return an address's file system, its path where it is a file, else "", the folder above all of it, and what lies there."""
    import fsspec  # a second to import

    system, root = fsspec.core.url_to_fs(address)
    named = [fsspec.core.url_to_fs(one)[1] for one in expanded(address)]
    if len(named) > 1:
        top = _above(named)
        if any(name.lower().endswith(TAR) and "/" in name.removeprefix(top).lstrip("/") for name in named):
            raise DataError(address, "braces must not name several folders of tars", got=f"folders below {top}",
                            fix="Let them stand for shards of one folder.")  # fmt: skip
        return system, "", top, {name: system.info(name) for name in named}
    root = named[0]
    if Path(root).name.lower().endswith((*SUFFIXES, *ENDINGS)) and system.isfile(root):
        top = root.rpartition("/")[0]
        alone = _stands_alone(system, root)
        return system, root, top, {root: system.info(root)} if alone else system.find(top, detail=True)
    top = root.rstrip("/")
    return system, "", top, system.find(top, detail=True)


def _above(names: Sequence[str]) -> str:
    """Return the folder that all of these lie below."""
    folders = zip(*(name.split("/")[:-1] for name in names), strict=False)
    return "/".join(level[0] for level in takewhile(lambda level: len(set(level)) == 1, folders))


def expanded(address: str) -> list[str]:
    """Return the addresses that one with braces stands for, as WebDataset writes them. Raises DataError for too many.

    >>> from descend.data.remote import expanded
    >>> expanded("https://x.org/{train,val}-{08..09}.tar")[1:3]
    ['https://x.org/train-09.tar', 'https://x.org/val-08.tar']
    """
    parts = [(words.split(",") if words else range(int(first), int(last) + 1), len(first or ""))
             for first, last, words in (found.groups() for found in _BRACES.finditer(address))]  # fmt: skip
    n = math.prod(len(part) for part, _ in parts)
    if not 0 < n <= MOST_SHARDS:
        raise DataError(address, f"braces must stand for 1 to {MOST_SHARDS:,} addresses", got=n)
    written = [[str(word).zfill(width) for word in part] for part, width in parts]  # numbers as wide as the first
    around = _BRACES.sub("\0", address).split("\0")
    return ["".join(chain.from_iterable(zip(around, (*words, ""), strict=True))) for words in product(*written)]


def _shards(system: Any, files: Mapping[PurePosixPath, str]) -> list[str]:
    """Return the shards among files, where these are all that counts: tars side by side, or Parquet with pictures in it."""
    tars = [name for path, name in files.items() if path.suffix.lower() == TAR]
    if tars and all(len(path.parts) == 1 for path in files):
        return tars
    tables = {path: name for path, name in files.items() if path.suffix.lower() == SUFFIX}
    around = {path.parts[0].lower() for path in files if len(path.parts) > 1}
    side_by_side = all(len(path.parts) == 1 + bool(around) for path in tables) and around <= {*FOLDERS}
    return [*tables.values()] if tables and side_by_side and _stands_alone(system, next(iter(tables.values()))) else []


def _stands_alone(system: Any, root: str) -> bool:
    """Say whether a file holds its pictures itself; of Parquet that is far away only the end is read for that."""
    if PurePosixPath(root).suffix.lower() != SUFFIX:
        return root.lower().endswith(ENDINGS)
    with system.open(root, "rb") as file:
        return has_pictures(file)


def _relative(address: str, top: str, name: str) -> PurePosixPath:
    """Return the path of a listed file below the address."""
    path = PurePosixPath(name.removeprefix(top).lstrip("/"))
    if ".." in path.parts or not path.parts:
        raise DataError(address, "must name files inside itself", got=name)
    return path
