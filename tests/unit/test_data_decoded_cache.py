"""Decoded pictures: right pixels, decoded once, written whole, bounded, and never a black one."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.oracles.data_pictures import encoded, make_tree, many, scene

from descend.data import Dataset, Decoded, decode, decoded, decoded_cache, load
from descend.data.decode import decode_resized
from descend.errors import DataError, KnobError
from descend.files import CacheFolder
from descend.pixels import flattened
from descend.progress import Update


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = make_tree(tmp_path / "set", *many("a"), *many("b"))
    (folder / "a/3.png").write_bytes(encoded(scene(40, 30)))
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CacheFolder:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    return CacheFolder()


@pytest.fixture
def dataset(root: Path, cache: CacheFolder) -> Dataset:
    return load(root)


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the pictures that were really decoded."""
    seen: list[str] = []

    def counted(source: Any, resolution: int, **options: Any) -> Any:
        seen.append(options["name"])
        return decode_resized(source, resolution, **options)

    monkeypatch.setattr(decoded_cache, "decode_resized", counted)
    return seen


@pytest.mark.parametrize("threads", [1, 4])
def test_rows_hold_what_decode_resized_gives(dataset: Dataset, root: Path, threads: int) -> None:
    pixels = decoded(dataset, 16, threads=threads)
    assert pixels.pixels.shape == (20, 16, 16, 3)
    assert not pixels.pixels.flags.writeable
    for row in range(20):
        expected = decode_resized(root / dataset.name_of(row), 16)
        np.testing.assert_array_equal(pixels.take([row])[0], expected)
    rows = np.array([7, 3, 3, 19])
    taken = pixels.take(rows)
    np.testing.assert_array_equal(taken, pixels.pixels[rows])
    assert taken.flags.c_contiguous
    taken[:] = 0  # a copy: the cache is not touched
    np.testing.assert_array_equal(pixels.take([7])[0], decode_resized(root / dataset.name_of(7), 16))


def test_another_seed_another_place_and_other_names_share_the_pixels(
    root: Path, dataset: Dataset, decodings: list[str], tmp_path: Path, cache: CacheFolder
) -> None:
    decoded(dataset, 8)
    assert len(decodings) == 20
    decoded(load(root, seed=5), 8)
    decoded(load(shutil.copytree(root, tmp_path / "copy")), 8)
    assert len(decodings) == 20
    decoded(dataset, 9)
    assert len(decodings) == 40
    assert cache.usage()[decoded_cache.KIND].n == 2


def test_changed_bytes_are_decoded_again(root: Path, dataset: Dataset, decodings: list[str]) -> None:
    decoded(dataset, 8)
    (root / "a/0.png").write_bytes(encoded(scene(8, 8, seed=99)))
    changed = decoded(load(root), 8)
    assert len(decodings) == 40
    np.testing.assert_array_equal(changed.take([0])[0], scene(8, 8, seed=99))


def test_a_picture_that_cannot_be_decoded_is_left_out_everywhere(root: Path, cache: CacheFolder) -> None:
    content = encoded(scene(64, 64), "jpeg")
    (root / "b/cut.jpg").write_bytes(content[: len(content) * 9 // 10])  # its header is fine, so only decoding finds out
    dataset = load(root)
    assert dataset.problems == ()
    for _ in range(2):  # the second time from the cache
        pixels = decoded(dataset, 8)
        (problem,) = pixels.dataset.problems
        assert problem.kind == "unreadable"
        assert problem.examples[0].startswith("b/cut.jpg (image file is truncated")
        (bad,) = (row for row in range(len(dataset)) if dataset.name_of(row) == "b/cut.jpg")
        assert pixels.dataset.counts().sum() == len(dataset) - 1
        assert all(bad not in pixels.dataset.indices(split) for split in ("train", "val", "test"))
        assert pixels.dataset.fingerprint == dataset.fingerprint
        with pytest.raises(DataError, match="decoded pictures"):
            pixels.take([0, bad])


def test_a_full_memory_ends_the_run_and_condemns_no_picture(
    dataset: Dataset, cache: CacheFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = [True]

    def once_full(picture: Any, *arguments: Any) -> Any:
        if full.pop() if full else False:
            raise MemoryError
        return flattened(picture, *arguments)

    monkeypatch.setattr(decode, "flattened", once_full)
    with pytest.raises(MemoryError):
        decoded(dataset, 8)
    assert not decoded(dataset, 8).dataset.problems


def test_a_class_that_loses_its_pictures_is_refused(root: Path, cache: CacheFolder) -> None:
    for number in range(3):
        content = encoded(scene(64, 64, seed=number), "jpeg")
        path = root / f"c/{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content[: len(content) * 9 // 10])
    with pytest.raises(DataError, match="picture that can be read, 'c' has none"):
        decoded(load(root), 8)
    evaluated = decoded(load(root, split=False), 8)  # to measure on, what is left is enough
    assert len(evaluated.dataset.indices("test")) == 20


def test_a_file_that_changes_meanwhile_does_not_poison_the_cache(root: Path, dataset: Dataset, cache: CacheFolder) -> None:
    (root / "a/0.png").write_bytes(encoded(scene(8, 8, seed=99)))
    with pytest.raises(DataError, match="must not change"):
        decoded(dataset, 8)
    (root / "a/0.png").unlink()
    with pytest.raises(DataError, match="must stay readable"):
        decoded(dataset, 8)
    assert decoded_cache.KIND not in cache.usage()
    assert list((cache.root / decoded_cache.KIND).iterdir()) == []


def test_interrupted_filling_leaves_nothing(dataset: Dataset, cache: CacheFolder) -> None:
    with pytest.raises(KeyboardInterrupt):
        decoded(dataset, 8, progress=stop_at(7))
    assert list((cache.root / decoded_cache.KIND).iterdir()) == []
    assert len(decoded(dataset, 8)) == 20


def stop_at(n: int) -> Update:
    """Return a listener that presses Ctrl-C when ``n`` pictures are decoded."""

    def stop(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("decode", 20)
        if done == n:
            raise KeyboardInterrupt

    return stop


def test_a_stopped_process_goes_on_after_the_last_whole_shard(
    dataset: Dataset, cache: CacheFolder, decodings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = decoded(dataset, 8, cache_dir=cache.root.parent / "other").take(np.arange(20))
    monkeypatch.setattr(decoded_cache, "SHARD", 6)
    for n in (15, 19):
        with pytest.raises(KeyboardInterrupt):
            decoded(dataset, 8, threads=1, progress=stop_at(n))
    assert cache.usage().get(decoded_cache.KIND) is None
    assert cache.enforce_limit() == []  # nor is it swept by what else this process, or the next one, keeps
    decodings.clear()
    np.testing.assert_array_equal(decoded(dataset, 8).take(np.arange(20)), expected)
    assert sorted(decodings) == sorted(dataset.name_of(row) for row in (18, 19))
    (entry,) = (cache.root / decoded_cache.KIND).iterdir()
    assert sorted(path.name for path in entry.iterdir()) == ["pixels", "rows"]


def test_what_another_thread_fills_is_not_taken_from_it(cache: CacheFolder) -> None:
    entry = cache.entry_path("any", "entry")
    with cache.filling(entry) as one:
        (one / "slower").touch()
        with cache.filling(entry) as other:
            assert [*other.iterdir()] == []
            (other / "quicker").touch()
    assert [path.name for path in entry.iterdir()] == ["quicker"]
    assert not one.exists()


@pytest.mark.parametrize("damage", ["pixels", "list"])
def test_what_a_stopped_process_left_damaged_is_decoded_again(
    dataset: Dataset, cache: CacheFolder, decodings: list[str], damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = decoded(dataset, 8, cache_dir=cache.root.parent / "other").take(np.arange(20))
    monkeypatch.setattr(decoded_cache, "SHARD", 6)
    with pytest.raises(KeyboardInterrupt):
        decoded(dataset, 8, threads=1, progress=stop_at(20))
    (left,) = (cache.root / decoded_cache.KIND).iterdir()
    path, at = (left / "pixels", 7 * 8 * 8 * 3) if damage == "pixels" else (left / "6-shard", 40)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    decodings.clear()
    np.testing.assert_array_equal(decoded(dataset, 8).take(np.arange(20)), expected)
    assert len(decodings) == 14  # one shard was whole


def test_what_a_killed_process_left_is_found_and_can_be_cleared(
    dataset: Dataset, cache: CacheFolder, decodings: list[str]
) -> None:
    code = (
        "import os, sys\n"
        "from descend.data import decoded, decoded_cache, load\n"
        "decoded_cache.SHARD = 6\n"
        "decoded(load(sys.argv[1]), 8, threads=1, progress=lambda _, done, n: done == 15 and os.kill(os.getpid(), 9))\n"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code, str(dataset.root)], check=False).returncode == -9
    assert len([*(cache.root / decoded_cache.KIND).iterdir()]) == 1
    decodings.clear()
    assert len(decoded(dataset, 8)) == 20
    assert len(decodings) == 8
    assert subprocess.run([sys.executable, "-c", code.replace(", 8,", ", 9,"), str(dataset.root)], check=False).returncode == -9
    assert cache.clear() >= 0
    assert not [path for path in (cache.root / decoded_cache.KIND).iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("damage", ["short", "no list", "nothing"])
def test_a_damaged_entry_is_made_anew(dataset: Dataset, damage: str) -> None:
    first = decoded(dataset, 8)
    expected, path = first.take(np.arange(20)), first.path
    assert path is not None
    del first
    if damage == "short":
        (path / "pixels").write_bytes(b"half")
    elif damage == "no list":
        (path / "rows").unlink()
    else:
        (path / "rows").write_text("", encoding="utf-8")
    np.testing.assert_array_equal(decoded(dataset, 8).take(np.arange(20)), expected)


def test_the_limit_throws_out_what_is_not_in_use(dataset: Dataset, cache: CacheFolder) -> None:
    n_bytes = 20 * 8 * 8 * 3
    kept = decoded(dataset, 8, limit_bytes=3 * n_bytes)
    gone = decoded(dataset, 7, limit_bytes=3 * n_bytes).path
    assert gone is not None
    decoded(dataset, 12, limit_bytes=4 * n_bytes)
    assert not gone.exists()
    assert kept.path is not None
    assert kept.path.exists()
    assert cache.usage()[decoded_cache.KIND].n_bytes <= 4 * n_bytes


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_without_room_on_disk_the_pixels_are_held_in_memory_and_that_is_said(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, cache: CacheFolder
) -> None:
    expected = decoded(dataset, 8).take(np.arange(20))
    cache.clear()
    monkeypatch.setattr(decoded_cache.os, "fsync", _full)
    held = decoded(dataset, 8)
    assert held.path is None
    np.testing.assert_array_equal(held.take(np.arange(20)), expected)
    (problem,) = held.dataset.problems
    assert problem.kind == "cache"
    assert "No space left" in str(problem)
    assert "DESCEND_CACHE" in str(problem)


def test_what_fits_neither_on_disk_nor_in_memory_is_decoded_when_it_is_taken(
    root: Path, monkeypatch: pytest.MonkeyPatch, cache: CacheFolder, decodings: list[str]
) -> None:
    (root / "a/0.png").write_bytes(encoded(scene(8, 8))[:60])  # the header is fine
    stored = decoded(load(root), 8)
    splits, expected = stored.dataset.splits, np.array(stored.pixels)
    del stored
    cache.clear()
    dataset = load(root)
    decodings.clear()
    monkeypatch.setattr(decoded_cache.os, "fsync", _full)
    monkeypatch.setattr(decoded_cache, "IN_MEMORY_BYTES", 1000)
    held = decoded(dataset, 8, threads=2)
    assert held.path is None
    assert "No space left" in str(held.dataset.problems[-1])
    assert "slow" in str(held.dataset.problems[-1])
    np.testing.assert_array_equal(held.dataset.splits, splits)
    rows = np.flatnonzero(held.dataset.splits >= 0)
    n_looked_at = len(decodings)
    np.testing.assert_array_equal(held.take(rows), expected[rows])
    assert len(decodings) == n_looked_at + len(rows)
    np.testing.assert_array_equal(held.pixels, expected)


def test_more_than_the_limit_is_not_written(dataset: Dataset, cache: CacheFolder) -> None:
    assert "limit of" in str(decoded(dataset, 8, limit_bytes=100).dataset.problems[0])
    assert decoded_cache.KIND not in cache.usage()


def test_a_cache_folder_that_is_a_file(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("DESCEND_CACHE_TEMPORARY", str(tmp_path / "temporary"))
    (tmp_path / "file").touch()
    pixels = decoded(dataset, 8, cache_dir=tmp_path / "file")
    assert pixels.path is not None
    assert pixels.path.is_relative_to(tmp_path / "temporary")
    np.testing.assert_array_equal(pixels.take(np.arange(20)), decoded(dataset, 8).take(np.arange(20)))


def test_pictures_in_memory(cache: CacheFolder) -> None:
    dataset = load("digits")
    pixels = decoded(dataset, 8)
    assert pixels.path is None
    assert pixels.pixels.shape == (1797, 8, 8, 3)
    assert pixels.pixels.strides[-1] == 0  # gray is not stored three times
    taken = pixels.take([5, 17])
    assert taken.flags.c_contiguous
    np.testing.assert_array_equal(taken[1], dataset.read(17))
    larger = decoded(dataset, 12)
    assert larger.path is not None  # 70,000 pictures of clothes at 224 px would fill the memory
    np.testing.assert_array_equal(larger.take([17])[0], decode_resized(dataset.read(17), 12))
    color = np.stack([scene(6, 6, seed) for seed in range(10)])
    np.testing.assert_array_equal(decoded(load((color, np.arange(10) % 2)), 6).pixels, color)


def test_rows_out_of_range(dataset: Dataset) -> None:
    pixels = decoded(dataset, 8)
    for rows in ([20], [-1]):
        with pytest.raises(DataError, match=r"0\.\.19"):
            pixels.take(rows)
    assert pixels.take([]).shape == (0, 8, 8, 3)
    with pytest.raises(KnobError, match="resolution"):
        decoded(dataset, 0)


def test_threads_may_take_at_once(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_cache, "_MAPPED", 2**17)  # the map is opened anew all the time
    pixels = decoded(dataset, 8)
    expected = np.array(pixels.pixels)
    wrong: list[int] = []

    def look(seed: int) -> None:
        for row in np.random.default_rng(seed).integers(0, 20, 300):
            if not (pixels.take([row])[0] == expected[row]).all():
                wrong.append(int(row))

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is private")
def test_private_memory_is_flat_while_everything_is_read(
    cache: CacheFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_cache, "_MAPPED", 2**22)
    dataset = load((np.arange(8000, dtype=np.uint16).view(np.uint8).reshape(4000, 2, 2), np.arange(4000) % 2))
    folder = tmp_path / "entry"
    folder.mkdir()
    with (folder / "pixels").open("wb") as file:
        for _ in range(40):
            file.write(bytes(100 * 64 * 64 * 3))  # 49 MB in all
    pixels = Decoded(dataset, 64, None, folder)
    process, held = psutil.Process(), []
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(4000)
        for start in range(0, 4000, 50):
            pixels.take(order[start : start + 50])
        held.append(process.memory_full_info().uss)
    assert max(held) - min(held) < 8 * 2**20
    assert held[-1] - held[0] < 4 * 2**20
