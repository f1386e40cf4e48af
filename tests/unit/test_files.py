"""The cache folder: entries appear whole, the least recently used goes first, what is in use stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import platformdirs
import pytest

from descend.errors import KnobError
from descend.files import CacheFolder, Usage, default_root
from descend.unfinished import sweep_unfinished, unfinished_name


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


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "3MB")
    assert CacheFolder().root == tmp_path / "mine"
    assert CacheFolder().limit_bytes == 3_000_000
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "500")
    assert CacheFolder().limit_bytes == 500
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "lots")
    with pytest.raises(KnobError, match="DESCEND_CACHE_LIMIT"):
        CacheFolder()
    monkeypatch.delenv("DESCEND_CACHE")
    monkeypatch.delenv("DESCEND_CACHE_LIMIT")
    assert default_root() == Path(platformdirs.user_cache_dir("descend", appauthor=False))
    assert CacheFolder().limit_bytes == 20 * 10**9


# ----------------------------------------------------------------------------------- what is written reaches the disk in order


def test_a_file_is_flushed_then_renamed_then_its_folder_is_flushed(cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.replace

    def flushed(handle: int) -> None:
        fsync(handle)
        status = os.fstat(handle)
        inside = cache.root.rglob("*")
        calls.append(("fsync", next(p.name for p in (cache.root, *inside) if p.stat().st_ino == status.st_ino)))

    def renamed(old: Path, new: Path) -> None:
        rename(old, new)
        calls.append(("rename", f"{Path(old).name} {Path(new).name}"))

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    assert cache.store(cache.entry_path("a", "x", ".bin"), b"content")
    hidden = calls[0][1]
    assert hidden.startswith(".")
    assert hidden.endswith(".bin")
    assert calls == [("fsync", hidden), ("rename", f"{hidden} x.bin"), ("fsync", "a")]


# ------------------------------------------------------------------------------------------------------------- sealed entries


def test_what_is_stored_is_loaded_and_counts_as_used(cache: CacheFolder) -> None:
    path = cache.entry_path("a", "x")
    assert cache.load(path) is None
    assert cache.store(path, b"content")
    os.utime(path, (0, 0))
    assert cache.load(path) == b"content"
    assert path.stat().st_mtime > time.time() - 60
    assert cache.store(path, b"")
    assert cache.load(path) == b""


def test_storing_makes_space_and_refuses_what_would_need_all(cache: CacheFolder) -> None:
    old = put(cache, "a", "old", 900, 30)
    assert not cache.store(cache.entry_path("a", "x"), bytes(1000))
    assert old.exists()
    assert cache.store(cache.entry_path("a", "x"), bytes(500))
    assert not old.exists()


def test_a_failure_is_logged_once_for_each_folder_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for name in ("one", "one", "two"):
        cache = CacheFolder(tmp_path / name)
        for key in ("x", "y"):
            path = cache.entry_path("a", key)
            assert not cache.store(path, b"content")
            assert cache.load(path) is None
    assert len(caplog.messages) == 2
    for name, message in zip(("one", "two"), caplog.messages, strict=True):
        assert f"cache folder {tmp_path / name}: must be writable (No space left on device)" in message
        assert "Set DESCEND_CACHE" in message


# ----------------------------------------------------------------------------------------------- a folder that cannot be written


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place where temporary folders are made; the process has made none yet."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("DESCEND_CACHE_TEMPORARY", "")
    return place


def test_where_nothing_can_be_written_one_temporary_folder_serves_all(
    tmp_path: Path, temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    roots = [tmp_path / "file" / "x", tmp_path / "file" / "x", tmp_path / "file" / "y"]
    paths = []
    for number, root in enumerate(roots):
        cache = CacheFolder(root, limit_bytes=1000)
        paths.append(cache.entry_path("a", "k"))
        assert cache.load(paths[-1]) == (b"0" if number == 1 else None)
        assert cache.store(paths[-1], str(number).encode())
        assert [entry.path for entry in cache.entries()] == [paths[-1]]
    assert paths[0] == paths[1] != paths[2]
    assert len(list(temporary.iterdir())) == 1
    assert all(path.is_relative_to(temporary) for path in paths)
    assert [message.count("a temporary folder") for message in caplog.messages] == [1, 1]
    assert CacheFolder(roots[0], limit_bytes=1000).enforce_limit(1000)[0].kind == "a", "the limit holds there too"


def test_what_lies_in_a_folder_that_can_only_be_read_is_used(
    cache: CacheFolder, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = cache.entry_path("a", "old")
    cache.store(old, b"content")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(cache.root)) and access(path, mode))
    assert cache.entry_path("a", "old") == old
    assert cache.load(old) == b"content"
    new = cache.entry_path("a", "new")
    assert new.is_relative_to(temporary)
    assert cache.store(new, b"more")
    assert {entry.path for entry in cache.entries()} == {old, new}


def test_without_any_place_to_write_entries_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file" / "temporary"))
    cache = CacheFolder(tmp_path / "file" / "x")
    path = cache.entry_path("a", "k")
    assert not cache.store(path, b"content")
    assert cache.load(path) is None
    assert cache.usage() == {}


_CHILD = """
import subprocess, sys
from descend.files import CacheFolder
path = CacheFolder().entry_path("a", "k")
depth = int(sys.argv[1])
print(path, CacheFolder().load(path), flush=True)
CacheFolder().store(path, b"content")
if depth:
    subprocess.run([sys.executable, "-c", sys.argv[2], str(depth - 1), sys.argv[2]], check=True)
    print(path.exists())
"""


def test_child_processes_share_the_temporary_folder_which_ends_with_its_maker(tmp_path: Path) -> None:
    environment = os.environ | {"DESCEND_CACHE": os.devnull + "/x", "TMPDIR": str(tmp_path), "DESCEND_CACHE_TEMPORARY": ""}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, "1", _CHILD], env=environment, capture_output=True, text=True, check=True
    )
    (mine, nothing), (childs, content), (still_there,) = (line.split() for line in done.stdout.splitlines())
    assert mine == childs
    assert (nothing, content, still_there) == ("None", "b'content'", "True")
    assert done.stderr.count("must be writable") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_listed_is_an_empty_cache(cache: CacheFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    cache.store(cache.entry_path("a", "x"), b"content")
    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert cache.entries() == []
    assert cache.enforce_limit(10**6) == []
    assert cache.load(cache.entry_path("a", "x")) == b"content"


# ------------------------------------------------------------------------------------------------- what killed processes leave

_KILLED = """
import os, signal, sys
from pathlib import Path
from descend.files import replacing
with replacing(Path(sys.argv[1])) as unfinished:
    unfinished.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows does not tell whether a process is alive")
def test_what_a_killed_process_was_writing_is_swept_at_once(cache: CacheFolder, tmp_path: Path) -> None:
    inside = cache.root / "features" / "store"
    for folder in (tmp_path / "run", inside):
        folder.mkdir(parents=True)
        subprocess.run([sys.executable, "-c", _KILLED, str(folder / "model.safetensors")], check=False)
        assert len(list(folder.iterdir())) == 1
    mine, foreign = tmp_path / "run" / unfinished_name(), tmp_path / "run" / ".hidden"
    elsewhere = tmp_path / "run" / f".0123abcd-1-{'0' * 32}.json"
    for path in (mine, foreign, elsewhere):
        path.touch()
    assert sweep_unfinished(tmp_path / "run") == 1
    assert {*(tmp_path / "run").iterdir()} == {mine, foreign, elsewhere}
    for path in (mine, foreign, elsewhere):
        os.utime(path, (0, 0))  # long ago, or a clock that has jumped
    assert sweep_unfinished(tmp_path / "run") == 1
    assert {*(tmp_path / "run").iterdir()} == {mine, foreign}, "one is not ours, and one is being written"
    assert sweep_unfinished(tmp_path / "none") == 0
    cache.enforce_limit()
    assert list(inside.iterdir()) == []
