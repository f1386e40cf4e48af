"""The first look: digests, sizes, and an index that saves the second look."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.oracles.data_pictures import encoded, make_tree, many, scene

from descend.data import decoded, load
from descend.data import scan as scanning
from descend.data.scan import scan
from descend.data.sources import read
from descend.data.traits import DEEP
from descend.errors import DataError
from descend.files import CacheFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty pictures, last changed a day ago."""
    folder = make_tree(tmp_path / "set", *many("a"), *many("b"))
    for path in folder.rglob("*.png"):
        age(path)
    return folder


def age(path: Path, days: float = 1) -> None:
    then = path.stat().st_mtime - days * 86400
    os.utime(path, (then, then))


@pytest.fixture(autouse=True)
def _a_day_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scans happen tomorrow: no test can set a file's time of status change."""
    monkeypatch.setattr(scanning, "_now_ns", lambda: time.time_ns() + 86400 * 10**9)


@pytest.fixture
def cache(tmp_path: Path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache")


def _count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    seen: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: (self.suffix == ".png" and seen.append(self), original(self))[1])
    return seen


@pytest.mark.parametrize("threads", [1, 3])
def test_digest_and_size_of_every_picture(root: Path, cache: CacheFolder, threads: int) -> None:
    (root / "a/3.png").write_bytes(encoded(scene(5, 9)))
    manifest = read(root)
    found = scan(manifest, threads=threads, cache=cache)
    for row, name in enumerate(manifest.names):
        expected = hashlib.blake2b((root / name).read_bytes(), digest_size=16).digest()
        assert found.digests[row].tobytes() == expected
        assert found.traits["size"][row].tolist() == ([9, 5] if name == "a/3.png" else [8, 8])
    assert found.reasons == {}


def test_a_second_look_reads_no_file(root: Path, cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scan(read(root), threads=2, cache=cache)
    seen = _count_reads(monkeypatch)
    second = scan(read(root), threads=2, cache=cache)
    assert seen == []
    np.testing.assert_array_equal(first.digests, second.digests)
    np.testing.assert_array_equal(first.traits, second.traits)


def test_a_changed_file_is_read_again(root: Path, cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scan(read(root), threads=1, cache=cache)
    (root / "a/3.png").write_bytes(encoded(scene(6, 6)))
    age(root / "a/3.png", days=2)
    seen = _count_reads(monkeypatch)
    second = scan(read(root), threads=1, cache=cache)
    assert [path.name for path in seen] == ["3.png"]
    assert second.traits["size"][3].tolist() == [6, 6]
    assert (first.digests != second.digests).any(axis=1).sum() == 1


def test_a_file_changed_just_now_is_not_trusted(root: Path, cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + 86400 - 1
    os.utime(root / "a/3.png", (later, later))  # may change again within this tick of the clock, with the same size
    scan(read(root), threads=1, cache=cache)
    seen = _count_reads(monkeypatch)
    scan(read(root), threads=1, cache=cache)
    assert [path.name for path in seen] == ["3.png"]


@pytest.mark.parametrize("damage", [b"", b"junk", b"PK\x03\x04 half a zip"])
def test_a_damaged_index_is_forgotten(root: Path, cache: CacheFolder, damage: bytes) -> None:
    first = scan(read(root), threads=1, cache=cache)
    (entry,) = cache.entries("index")
    entry.path.write_bytes(damage)
    np.testing.assert_array_equal(scan(read(root), threads=1, cache=cache).digests, first.digests)


def test_a_cache_that_cannot_be_written_is_done_without(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = scan(read(root), threads=1, cache=CacheFolder(tmp_path / "file" / "cache"))
    assert found.reasons == {}


def test_a_file_that_vanishes_has_a_reason(root: Path, cache: CacheFolder) -> None:
    manifest = read(root)
    (root / "b/0.png").unlink()
    assert list(scan(manifest, threads=1, cache=cache).reasons) == [10]


def test_progress_counts_to_the_end(root: Path, cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_CHUNK", 8)
    news: list[tuple[str, int, int]] = []
    scan(read(root), threads=2, cache=cache, progress=lambda *told: news.append(told))
    assert news == [("scan", 0, 20), ("scan", 8, 20), ("scan", 16, 20), ("scan", 20, 20)]


def test_pictures_in_memory_have_digests_of_pixels_and_shape() -> None:
    flat = np.arange(32, dtype=np.uint8)
    tall, wide = load((flat.reshape(4, 4, 2), [0, 1, 0, 1])), load((flat.reshape(4, 2, 4), [0, 1, 0, 1]))
    assert len(set(tall.ids) | set(wide.ids)) == 8
    np.testing.assert_array_equal(tall.ids, load((flat.reshape(4, 4, 2).copy(), [0, 1, 0, 1])).ids)


def test_the_order_and_place_of_files_do_not_change_ids_or_split(root: Path, tmp_path: Path, cache: CacheFolder) -> None:
    before = load(root, cache_dir=cache.root)
    moved = root.rename(tmp_path / "elsewhere")
    (moved / "a/0.png").rename(moved / "a/zz.png")
    after = load(moved, cache_dir=cache.root)
    split_of = dict(zip(before.ids.tolist(), before.splits.tolist(), strict=True))
    assert split_of == dict(zip(after.ids.tolist(), after.splits.tolist(), strict=True))


def test_two_files_exchanged_by_rename_are_seen(root: Path, cache: CacheFolder) -> None:
    """Equal size and equal time of content, as after unpacking: a label is corrected by exchanging two files."""
    for name, seed in (("a/1.bmp", 1), ("b/1.bmp", 2)):
        (root / name).write_bytes(encoded(scene(8, 8, seed), "bmp"))
        os.utime(root / name, (1_500_000_000, 1_500_000_000))
    before = load(root, cache_dir=cache.root)
    (root / "a/1.bmp").rename(root / "t")
    (root / "b/1.bmp").rename(root / "a/1.bmp")
    (root / "t").rename(root / "b/1.bmp")
    after = load(root, cache_dir=cache.root)
    assert before.fingerprint != after.fingerprint
    for row in range(len(after)):
        content = (root / after.name_of(row)).read_bytes()
        assert after.digests[row].tobytes() == hashlib.blake2b(content, digest_size=16).digest()


def test_other_content_under_an_old_time_is_seen(root: Path, cache: CacheFolder) -> None:
    path = root / "a/1.bmp"
    for seed in (1, 2):
        path.write_bytes(encoded(scene(8, 8, seed), "bmp"))  # the same file, the same size
        os.utime(path, (1_500_000_000, 1_500_000_000))
        manifest = read(root)
        row = list(manifest.names).index("a/1.bmp")
        seen = scan(manifest, threads=1, cache=cache)
        assert seen.digests[row].tobytes() == hashlib.blake2b(path.read_bytes(), digest_size=16).digest()


def test_an_entry_that_proves_wrong_is_forgotten(root: Path, cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file system tells no better, the first decoding finds out, and the next run is right."""
    monkeypatch.setattr(scanning, "_state", lambda _: ((), 0))
    load(root, cache_dir=cache.root)
    (root / "a/3.png").write_bytes(encoded(scene(8, 8, seed=99)))
    stale = load(root, cache_dir=cache.root)
    with pytest.raises(DataError, match=r"3\.png: must not change while it is used\. Run again"):
        decoded(stale, 8, cache_dir=cache.root)
    seen = _count_reads(monkeypatch)
    pixels = decoded(load(root, cache_dir=cache.root), 8, cache_dir=cache.root)
    assert [path.name for path in seen][:1] == ["3.png"]  # the scan reads it alone, the decoding reads all
    np.testing.assert_array_equal(pixels.take([3])[0], scene(8, 8, seed=99))


def test_pipes_and_devices_are_no_pictures(root: Path, cache: CacheFolder) -> None:
    manifest = read(root)
    (root / "a/0.png").unlink()
    os.mkfifo(root / "a/0.png")  # between the listing and the scan; opening it would wait for ever
    assert scan(manifest, threads=1, cache=cache).reasons == {0: "not a file but a pipe, a socket or a device"}


def test_what_was_seen_of_pixels_is_remembered(root: Path, cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a/deep.png").write_bytes(encoded(Image.fromarray(np.full((4, 4), 1000, np.uint16))))
    first = scan(read(root), threads=1, cache=cache)
    seen = _count_reads(monkeypatch)
    np.testing.assert_array_equal(scan(read(root), threads=1, cache=cache).traits, first.traits)
    assert seen == []
    assert int((first.traits["flags"] & DEEP > 0).sum()) == 1
