"""Shards at an address that are larger than the cache: read where they lie, by ranges, or shard by shard where there are none."""

from __future__ import annotations

import errno
import functools
import http.server
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from descend.data import decoded, load, ranges
from descend.errors import DataError
from descend.files import CacheFolder


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def shard(number: int, n: int = 12) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for k in range(n):
            for name, held in ((f"{k}.png", png(100 * number + k)), (f"{k}.cls", b"ab"[k % 2 : k % 2 + 1])):
                info = tarfile.TarInfo(name)
                info.size = len(held)
                archive.addfile(info, io.BytesIO(held))
    return content.getvalue()


@pytest.fixture(autouse=True)
def small_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "30kB")
    monkeypatch.setattr(ranges, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(ranges, "_blocks", ranges._Blocks())


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    for number in range(3):
        system.pipe(f"/shop/trees/train-{number:03}.tar", shard(number))
    yield system
    system.rm("/shop", recursive=True)


class Ranged(http.server.SimpleHTTPRequestHandler):
    """A server that gives ranges; ``asked`` holds the length of each answer."""

    asked: list[int]
    gives_ranges = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted is None or not self.gives_ranges:
            self.asked.append(-1)
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        part = content[int(wanted[1]) : int(wanted[2]) + 1]
        self.asked.append(len(part))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {wanted[1]}-{wanted[2]}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


class Plain(Ranged):
    """A server that sends whole files whatever is asked."""

    gives_ranges = False


def serving(handler: type[Ranged], folder: Path) -> Iterator[tuple[str, list[int]]]:
    asked = list[int]()
    own = type("Own", (handler,), {"asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(own, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=[Ranged, Plain])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "trees.tar").write_bytes(shard(0, 16))
    yield from serving(request.param, tmp_path / "www")


def test_shards_beyond_the_cache_are_read_where_they_lie(memory: Any, tmp_path: Path) -> None:
    dataset = load("memory://shop/trees")
    assert (dataset.name, dataset.classes, len(dataset)) == ("trees", ("a", "b"), 36)
    assert "fetched" not in CacheFolder().usage()
    (tmp_path / "trees").mkdir()
    for number in range(3):
        (tmp_path / "trees" / f"train-{number:03}.tar").write_bytes(shard(number))
    local = load(tmp_path / "trees")
    assert (local.fingerprint, [*local.names]) == (dataset.fingerprint, [*dataset.names])
    assert (decoded(dataset, 8).pixels == decoded(local, 8).pixels).all()


def test_a_server_gives_ranges_or_whole_shards(served: tuple[str, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "60kB")
    address, asked = served
    dataset = load(f"{address}/trees.tar", threads=1)
    assert (dataset.name, len(dataset)) == ("trees", 16)
    pixels = decoded(dataset, 8).take([3, 0])
    assert (pixels[1] == np.asarray(Image.open(io.BytesIO(dataset.source(0).read())))).all()  # pyright: ignore[reportAttributeAccessIssue]
    ranged = [n for n in asked if n >= 0]
    assert bool(ranged) != ("fetched" in CacheFolder().usage())
    assert sum(entry.n_bytes for entry in CacheFolder().entries()) <= 60_000


def test_random_pictures_are_read_alone_and_a_pass_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "BLOCK", 4096)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "trees.tar").write_bytes(shard(0, 64))
    for address, asked in serving(Ranged, tmp_path / "www"):
        dataset = load(f"{address}/trees.tar", threads=1)
        size = (tmp_path / "www" / "trees.tar").stat().st_size
        assert max(asked) == 4096, "headers are walked, and pictures scanned, block by block"
        assert len(asked) < 3 * size / 4096 + 8
        monkeypatch.setattr(ranges, "_blocks", ranges._Blocks())
        asked.clear()
        for row in (40, 20, 60):
            dataset.source(row).read()  # pyright: ignore[reportAttributeAccessIssue]
        assert max(asked) < 1000, "a picture drawn by chance is one range"


@pytest.mark.parametrize("limit", ["60kB", "10MB"])
def test_shards_of_a_server_that_lists_nothing_are_named_with_braces(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", limit)
    (tmp_path / "www" / "trees").mkdir(parents=True)
    for number, split in enumerate(["train", "train", "val"]):
        (tmp_path / "www" / "trees" / f"{split}-{number:02}.tar").write_bytes(shard(number))
    for address, _ in serving(Ranged, tmp_path / "www"):
        dataset = load(f"{address}/trees/train-{{00..01}}.tar")
        assert (dataset.name, len(dataset), dataset.name_of(0)) == ("trees", 24, "train-00/0.png")
        with pytest.raises(DataError, match=r"must be within reach \(FileNotFoundError"):
            load(f"{address}/trees/{{train,val}}-02.tar")
        with pytest.raises(DataError, match="braces must stand for 1 to 100,000 addresses, got 1000000"):
            load(f"{address}/trees/{{000000..999999}}.tar")
        with pytest.raises(DataError, match="braces must stand for"):
            load(f"{address}/trees/{{0..9999}}{{0..9999}}{{a,b}}.tar")
        with pytest.raises(DataError, match="braces must stand for 1 to 100,000 addresses, got 0"):
            load(f"{address}/trees/{{5..4}}.tar")


@pytest.mark.parametrize("handler", [Ranged, Plain])
def test_a_shard_larger_than_the_cache_needs_ranges(
    handler: type[Ranged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "20kB")
    (tmp_path / "trees.tar").write_bytes(shard(0, 16))
    for address, _ in serving(handler, tmp_path):
        if handler is Ranged:
            assert len(load(f"{address}/trees.tar")) == 16
        else:
            with pytest.raises(DataError, match=r"must lie where parts of a file can be read, or fit into the cache of 20,000"):
                load(f"{address}/trees.tar")


def test_a_full_disk_is_told_at_once(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = list[str]()

    def full(self: Any, path: str, *_: Any) -> None:
        tries.append(path)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(memory), "get_file", full)
    file = ranges.RemoteFile(memory, "/shop/trees/train-000.tar", ["memory://shop/trees/train-000.tar"], 20_480, CacheFolder())
    monkeypatch.setattr(file, "_gives_ranges", False)
    with pytest.raises(DataError, match=r"must be fetched into the cache .* \(No space left on device\).*Make room"):
        file.read(0, 100)
    assert len(tries) == 1


def test_one_that_goes_out_of_reach_is_an_error_and_no_picture_is_left_out(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load("memory://shop/trees")
    plain, failures = type(memory).cat_file, [2]

    def faltering(self: Any, path: str, **how: Any) -> bytes:
        if failures[0]:
            failures[0] -= 1
            raise ConnectionError("reset by peer")
        return plain(self, path, **how)

    monkeypatch.setattr(ranges, "_blocks", ranges._Blocks())
    monkeypatch.setattr(type(memory), "cat_file", faltering)
    assert dataset.source(0).read() == png(0), "asked again"  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(ranges, "_blocks", ranges._Blocks())
    failures[0] = 9
    with pytest.raises(DataError, match=r"memory://.*train-000\.tar: must be within reach \(ConnectionError: reset by peer"):
        decoded(dataset, 8)


def test_parquet_beyond_the_cache_is_read_where_it_lies(memory: Any, tmp_path: Path) -> None:
    table = pa.table({"image": [{"bytes": png(n), "path": None} for n in range(40)], "label": ["a", "b"] * 20})
    for name in ("train-0", "test-0"):
        parquet.write_table(table, tmp_path / "x.parquet", row_group_size=8)
        memory.pipe(f"/shop/more/data/{name}.parquet", (tmp_path / "x.parquet").read_bytes())
    dataset = load("memory://shop/more")
    assert (dataset.name, len(dataset), dataset.given_split) == ("more", 80, True)
    assert "fetched" not in CacheFolder().usage()
    memory.pipe("/shop/odd/a.parquet", (tmp_path / "x.parquet").read_bytes())
    parquet.write_table(pa.table({"path": ["x"] * 5000, "label": [str(n) * 20 for n in range(5000)]}), tmp_path / "y.parquet")
    memory.pipe("/shop/odd/b.parquet", (tmp_path / "y.parquet").read_bytes())
    with pytest.raises(DataError, match=r"b\.parquet: must have a column of pictures, as the shards beside it"):
        load("memory://shop/odd")
