"""What one picture costs in a Parquet file: in order, by chance, and by chance from the copy that is made for that.

    python benchmarks/parquet_access.py

Claim: by chance, a picture in a row group costs a row group, tens of times what it costs in order; where pixels fit nowhere, one
copy made in order pays within an epoch. 2,000 pictures of 100 kB of noise, in row groups of 100 as Hugging Face writes them, the
file in the system's cache; memory for row groups as it is (256 MiB: all of them) and small (16 MiB), as where the file is much
larger. Processor time in ms per picture, without decoding. The same pictures in a tar stand beside them.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from descend.data import parquet_pictures
from descend.data.packed import Packed
from descend.data.shards import Shards, shards_at
from descend.files import CacheFolder
from harness import save

N, N_BYTES, GROUP, N_RANDOM = 2_000, 100_000, 100, 200


def read(places: Packed, rows: Sequence[int]) -> float:
    """Return the processor time that a picture takes, in ms."""
    parquet_pictures._groups._held.clear()
    started = time.process_time()
    for row in rows:
        assert len(places.member(row, "").read()) == N_BYTES  # every byte is read
    return round((time.process_time() - started) / len(rows) * 1000, 3)


def opened(place: Path) -> Shards:
    """Return the shards at a path, which are there."""
    found = shards_at(place)
    assert found is not None  # they have just been written
    return found


def main() -> None:
    rng = np.random.default_rng(0)
    chance = rng.integers(0, N, N_RANDOM).tolist()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pictures = [b"\xff\xd8\xff" + rng.bytes(N_BYTES - 3) for _ in range(N)]
        table = pa.table({"image": [{"bytes": content, "path": None} for content in pictures], "label": [0, 1] * (N // 2)})
        parquet.write_table(table, root / "x.parquet", row_group_size=GROUP)
        with tarfile.open(root / "x.tar", "w") as archive:
            for number, content in enumerate(pictures):
                info = tarfile.TarInfo(f"{number:05}.jpg")
                info.size = N_BYTES
                archive.addfile(info, io.BytesIO(content))
        cache = CacheFolder(root / "cache")
        held, tar = opened(root / "x.parquet").pictures()[0].places, opened(root / "x.tar").pictures()[0].places
        result = {
            "parquet, in order": read(held, range(N)),
            "tar, in order": read(tar, range(N)),
            "tar, by chance": read(tar, chance),
        }
        result["parquet, by chance, all groups held"] = read(held, chance)
        parquet_pictures.HELD = 2**24
        result["parquet, by chance"] = read(held, chance)
        started = time.process_time()
        copy = parquet_pictures.each_alone(held, cache)
        result["the copy, made"] = round((time.process_time() - started) / N * 1000, 3)
        result["the copy, by chance"] = read(copy, chance)
    save(
        "parquet_access",
        "by chance, a picture in a row group costs a row group; a copy made in order pays within an epoch",
        result,
    )


if __name__ == "__main__":
    main()
