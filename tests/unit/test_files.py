"""The cache folder: entries appear whole, the least recently used goes first, what is in use stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import platformdirs
import pytest

from descend.errors import KnobError
from descend.files import CacheFolder, Usage, default_root, parse_bytes


@pytest.fixture
def cache(tmp_path: Path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache", limit_bytes=1000)


def put(cache: CacheFolder, kind: str, key: str, n_bytes: int, age_s: float) -> Path:
    """Write an entry, a folder of two files for kind ``graphs``, last used ``age_s`` seconds ago."""
    path = cache.entry_path(kind, key)
    with cache.writing(path) as unfinished:
        if kind == "graphs":
            unfinished.mkdir()
            (unfinished / "one").write_bytes(bytes(n_bytes - 1))
            (unfinished / "two").write_bytes(bytes(1))
        else:
            unfinished.write_bytes(bytes(n_bytes))
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def test_the_least_recently_used_goes_first_whatever_its_kind(cache: CacheFolder) -> None:
    old, folder, new = put(cache, "a", "old", 400, 30), put(cache, "graphs", "g", 300, 20), put(cache, "a", "new", 300, 10)
    assert cache.enforce_limit() == []
    assert [entry.path for entry in cache.enforce_limit(incoming=100)] == [old]
    assert [entry.path for entry in cache.enforce_limit(incoming=500)] == [folder]
    assert new.exists()
    assert not folder.exists()


def test_use_makes_an_entry_young(cache: CacheFolder) -> None:
    old, new = put(cache, "a", "old", 500, 30), put(cache, "graphs", "new", 500, 10)
    cache.touch(old)
    assert [entry.path for entry in cache.enforce_limit(1)] == [new]
    cache.touch(new)  # it is gone, and that is fine


def test_what_is_in_use_stays(cache: CacheFolder) -> None:
    held, other = put(cache, "a", "held", 500, 30), put(cache, "a", "other", 500, 10)
    cache.hold(held)
    cache.hold(held)
    cache.release(held)
    assert [entry.path for entry in cache.enforce_limit(1000)] == [other]
    assert cache.clear() == 0
    cache.release(held)
    assert cache.clear() == 500


def test_usage_and_clear(cache: CacheFolder) -> None:
    put(cache, "graphs", "g", 300, 1)
    put(cache, "a", "x", 10, 1)
    put(cache, "a", "y", 20, 1)
    assert cache.usage() == {"a": Usage(2, 30), "graphs": Usage(1, 300)}
    assert cache.clear("a") == 30
    assert cache.usage() == {"graphs": Usage(1, 300)}
    assert cache.clear() == 300
    assert cache.usage() == {}


def test_an_entry_appears_whole_or_not_at_all(cache: CacheFolder) -> None:
    path = cache.entry_path("a", "x", ".npz")

    def half() -> None:
        with cache.writing(path) as unfinished:
            assert unfinished.suffix == ".npz"
            unfinished.write_bytes(b"half")
            assert not path.exists()
            assert cache.entries() == []
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        half()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["a", "graphs"])
def test_two_writers_leave_one_whole_entry(cache: CacheFolder, kind: str) -> None:
    put(cache, kind, "x", 100, 0)
    put(cache, kind, "x", 100, 0)
    assert cache.usage() == {kind: Usage(1, 100)}
    assert len(list((cache.root / kind).iterdir())) == 1


def test_leftovers_of_killed_processes_are_swept(cache: CacheFolder) -> None:
    put(cache, "a", "x", 1, 0)
    fresh, stale = cache.root / "a" / ".fresh", cache.root / "a" / ".stale"
    fresh.touch()
    stale.mkdir()
    (stale / "part").touch()
    os.utime(stale, (0, 0))
    cache.enforce_limit()
    assert fresh.exists()
    assert not stale.exists()


def test_an_absent_folder_is_an_empty_cache(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path / "none")
    assert cache.usage() == {}
    assert cache.clear() == 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("text", "n"),
    [("20GB", 20 * 10**9), ("1.5 GiB", 3 * 2**29), ("500", 500), ("7k", 7000), ("2tb", 2 * 10**12), (" 3 MiB ", 3 * 2**20)],
)
def test_sizes(text: str, n: int) -> None:
    assert parse_bytes(text) == n


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1e3", "ten", "1 XB", "nan"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(KnobError, match="number of bytes"):
        parse_bytes(text)


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "3MB")
    assert CacheFolder().root == tmp_path / "mine"
    assert CacheFolder().limit_bytes == 3_000_000
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "lots")
    with pytest.raises(KnobError, match="DESCEND_CACHE_LIMIT"):
        CacheFolder()
    monkeypatch.delenv("DESCEND_CACHE")
    monkeypatch.delenv("DESCEND_CACHE_LIMIT")
    assert default_root() == Path(platformdirs.user_cache_dir("descend", appauthor=False))
    assert CacheFolder().limit_bytes == 20 * 10**9
