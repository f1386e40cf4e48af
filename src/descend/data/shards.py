"""Shards with pictures in them, whatever their kind: tars that are not compressed, and Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from descend.data import parquet_pictures, tar_shards
from descend.data.manifest import Manifest
from descend.data.packed import Contents
from descend.data.parquet_rows import has_pictures
from descend.data.places import is_file, is_folder
from descend.data.ranges import LocalFile, RangedFile
from descend.errors import DataError


@dataclass(frozen=True)
class Shards:
    """Files that hold pictures, all of one kind. place: what was given, a shard or a folder of them."""

    files: Sequence[RangedFile]
    place: Path

    @property
    def are_tars(self) -> bool:
        """Whether these are tars; else they are Parquet."""
        return self.files[0].path.suffix.lower() == tar_shards.ENDING

    def read(self, *, evaluation: bool = False) -> Manifest:
        """List the labeled pictures. Raises DataError."""
        if self.are_tars:
            return tar_shards.read_shards(self.files, self.place, evaluation=evaluation)
        return parquet_pictures.read_shards(self.files, evaluation=evaluation)

    def pictures(self) -> tuple[Contents, list[str], dict[str, str]]:
        """Return what the shards hold, labels or none, the names of pictures in natural order, and path -> why of the rest."""
        if self.are_tars:
            return tar_shards.found_in(self.files)
        return parquet_pictures.found_in(self.files)


def shards_at(place: Path) -> Shards | None:
    """Return the shards that a path leads to, a shard or a folder of them; None for all else. Raises DataError."""
    if has_pictures(place) or (place.suffix.lower() == tar_shards.ENDING and is_file(place)):
        files = [place]
    elif is_folder(place):
        files = parquet_pictures.shards_of(place) or tar_shards.shards_of(place)
    else:
        return None
    try:
        return Shards([LocalFile.of(file) for file in files], place) if files else None
    except OSError as error:
        raise DataError(str(place), f"must stay readable while it is used ({error.strerror or error})") from None
