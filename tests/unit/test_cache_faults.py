"""The cache under a disk that fails and entries that are damaged: results are right, then and later.

In the manner of SQLite's tests: a small fill of the cache (index, decoded pictures, features, exported graph, engine verdict) is
repeated with its first, second, ... call that changes the disk failing, until one passes without meeting the failure.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.oracles.data_pictures import make_tree, many

from descend.cli import main
from descend.data import decoded, decoded_cache, load, scan
from descend.files import CacheFolder
from descend.models import backbone
from descend.transfer import choose, engines, extract, features, graph, make_engine
from descend.transfer.engine_torch import TorchEngine

SIDE = 16
N = 2
NET = backbone("smallcnn(width=4)").build(0)
ENGINE = make_engine("torch", NET, size=SIDE)


class Fill:
    """Fills a cache as a run does, in a process that remembers nothing; ``work`` counts what had to be computed."""

    def __init__(self, pictures: Path, cache: Path, work: Counter[str]) -> None:
        self.pictures, self.cache, self.work = pictures, cache, work

    def __call__(self) -> str:
        """Return a digest of every result."""
        features._whole.clear()
        features._refused.clear()
        self.work.clear()
        cache = CacheFolder(self.cache, limit_bytes=10**9)
        dataset = load(self.pictures, split=False, cache_dir=self.cache, threads=1)
        pixels = decoded(dataset, SIDE, cache_dir=self.cache, threads=1)
        ENGINE.cache = cache
        outputs = extract(ENGINE, pixels.take, np.arange(N), digests=dataset.digests, ids=np.arange(N),
                          view=self._view, preparation="none", n_views=2, augmentation="flip")  # fmt: skip
        parts = [dataset.digests, pixels.take(np.arange(N)), outputs, np.frombuffer(graph.graph(ENGINE), np.uint8)]
        rates = choose(NET, size=SIDE, cache=cache).images_per_s
        return hashlib.sha256(b"".join(part.tobytes() for part in parts) + repr(rates).encode()).hexdigest()

    def _view(self, images: np.ndarray, ids: np.ndarray, draw: int) -> np.ndarray:
        self.work["views"] += len(ids)
        return images[:, :, ::-1] if draw else images


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("data") / "pictures", *many("a", N // 2), *many("b", N // 2))


@pytest.fixture
def fill(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fill:
    work: Counter[str] = Counter()

    def counted(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            work[what] += 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(scan, "_now_ns", lambda: time.time_ns() + 10**10)  # the pictures have settled
    monkeypatch.setattr(scan, "_read", counted("read", scan._read))
    monkeypatch.setattr(decoded_cache, "decode_resized", counted("decode", decoded_cache.decode_resized))
    monkeypatch.setattr(graph, "_recorded", counted("export", lambda *_, **__: bytes(range(256)) * 10))
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # costs no time
    monkeypatch.setattr(engines, "ENGINES", {"torch": TorchEngine})
    monkeypatch.setattr(engines, "measure", counted("measure", lambda engines: dict.fromkeys(engines, 7.0)))
    return Fill(pictures, tmp_path / "cache", work)


# ------------------------------------------------------------------------------------------------------ a disk that fails


class Disk:
    """Counts the calls that change the disk, below one folder; fails number ``at``, or that one and all that follow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder, self.n, self.at, self.lasting, self.code = str(folder), 0, -1, False, errno.ENOSPC
        for name in ("mkdir", "replace"):
            monkeypatch.setattr(os, name, self._guarded(getattr(os, name)))
        monkeypatch.setattr(os, "fsync", self._guarded(os.fsync))
        monkeypatch.setattr(io, "open", self._opened(io.open))

    def fail(self, at: int, *, lasting: bool, code: int) -> None:
        self.n, self.at, self.lasting, self.code = 0, at, lasting, code

    @property
    def has_failed(self) -> bool:
        return 0 <= self.at < self.n

    def change(self) -> None:
        self.n += 1
        if self.at >= 0 and (self.n - 1 == self.at or (self.lasting and self.n > self.at)):
            raise OSError(self.code, os.strerror(self.code))

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(what: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(what, int) or str(what).startswith(self.folder):
                self.change()
            return function(what, *args, **kwargs)

        return call

    def _opened(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not {*mode} & {*"wax+"} or not str(path).startswith(self.folder):
                return function(path, mode, *args, **kwargs)
            self.change()
            return Written(function(path, mode, *args, **kwargs), self)

        return call


class Written:
    """A file whose writes count."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> int:
        self._disk.change()
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_whichever_call_fails_the_results_are_right_now_and_later(
    fill: Fill, monkeypatch: pytest.MonkeyPatch, code: int, lasting: bool
) -> None:
    expected, disk = fill(), Disk(monkeypatch, fill.cache)
    for at in range(1000):
        shutil.rmtree(fill.cache)
        disk.fail(at, lasting=lasting, code=code)
        assert fill() == expected, at
        failed = disk.has_failed
        unfinished = list(fill.cache.rglob(".*")) if fill.cache.exists() else []
        assert unfinished == [], at
        disk.fail(-1, lasting=False, code=code)
        assert fill() == expected, at
        if not failed:
            break
    assert at > 30
    assert fill() == expected
    assert not fill.work, "all was found in the cache"


# --------------------------------------------------------------------------------------------------- entries that are damaged


def _flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "garbage": lambda content: np.random.default_rng(0).bytes(len(content)),
    "zeros": lambda content: bytes(len(content)),
    "flipped in front": lambda content: _flip(content, 3),
    "flipped in the middle": lambda content: _flip(content, len(content) // 2),
    "flipped at the end": lambda content: _flip(content, len(content) - 1),
}
ENTRIES = {
    "index": "index/*.sealed",
    "pixels": "decoded/*/pixels",
    "rows": "decoded/*/rows",
    "features": "features/*/*.segment",
    "graph": "graphs/*.sealed",
    "verdict": "verdicts/*.sealed",
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("damage", [*DAMAGES, "missing", "a folder", "a pipe"])
def test_a_damaged_entry_is_noticed_and_made_anew(fill: Fill, entry: str, damage: str) -> None:
    expected = fill()
    files = [*fill.cache.glob(ENTRIES[entry])]
    assert files
    for path in files:
        content = path.read_bytes()
        path.unlink()
        if damage in DAMAGES:
            path.write_bytes(DAMAGES[damage](content))
        elif damage == "a folder":
            (path / "inner").mkdir(parents=True)
        elif damage == "a pipe":
            if not hasattr(os, "mkfifo"):
                pytest.skip("no pipes here")
            os.mkfifo(path)
    assert fill() == expected
    assert fill.work, "something was computed again"
    assert fill() == expected
    assert fill() == expected
    assert not fill.work, "all was found in the cache"


def test_a_fit_without_a_folder_to_cache_in_ends_well_and_says_so_once(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("DESCEND_CACHE_TEMPORARY", str(tmp_path / "temporary"))
    monkeypatch.setenv("DESCEND_CACHE", os.devnull + "/x")
    fit = ["fit", str(shapes), "--transfer", "features", "--size", "32", "--engine", "torch", "--out", str(tmp_path / "run")]
    assert main(fit) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
    said = [record.getMessage() for record in caplog.records if record.name == "descend.files"]
    assert [message.count(os.devnull) for message in said] == [1]


def test_a_whole_cache_saves_all_work(fill: Fill) -> None:
    first = fill()
    assert fill.work == {"read": N, "decode": N, "views": 2 * N, "export": 1, "measure": 1}
    assert fill() == first
    assert not fill.work
