"""A small share of the benchmark that fuzzes pictures, in this process, and what it counts as broken."""

from __future__ import annotations

import importlib
import mmap
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark forks, and reads memory as Linux tells it")


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("fuzz_pictures")
    sys.modules.pop("fuzz_pictures", None)


@pytest.fixture(scope="module")
def files(fuzz: ModuleType) -> dict[str, bytes]:
    return fuzz.corpus((5, 3))


def test_every_format_that_is_read_and_written_is_there(files: dict[str, bytes]) -> None:
    formats = {name.split(" ")[0] for name in files}
    assert formats >= {"BMP", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP"}


def test_no_file_cut_short_gives_other_pixels(fuzz: ModuleType, files: dict[str, bytes]) -> None:
    wholes = {name: fuzz.decode(content) for name, content in files.items()}
    cut = list(fuzz.cuts(files))[::29]
    assert len(cut) > 1_000
    assert {fuzz.attempt(content, wholes[name.rpartition("[")[0]]) for name, content in cut} == {"pixels", "refused"}


def test_mutants_give_pixels_or_are_refused(fuzz: ModuleType, files: dict[str, bytes]) -> None:
    mutants = list(fuzz.mutants(files, 7, range(600)))
    assert mutants[300:] == list(fuzz.mutants(files, 7, range(300, 600)))  # each a function of seed and number
    assert {fuzz.attempt(content) for _, content in mutants} == {"pixels", "refused"}


def fill_new_pages() -> None:
    """Take 64 MiB from the system; malloc would give memory that this process has used and freed before, which is no growth."""
    pages = mmap.mmap(-1, 2**26)
    pages[:: mmap.PAGESIZE] = b"x" * (2**26 // mmap.PAGESIZE)


def test_what_breaks_a_promise_is_counted_with_its_file(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {
        b"crash": lambda: os.kill(os.getpid(), 9),
        b"hang": lambda: all(True for _ in iter(int, 1)),
        b"wait": lambda: time.sleep(60),
        b"error": lambda: 1 // 0,
        b"memory": fill_new_pages,
        b"good": lambda: None,
    }

    def traits(content: bytes, *, name: str) -> None:
        kinds[content]()
        raise fuzz.PictureError("x", "must be good")

    monkeypatch.setattr(fuzz, "traits", traits)
    monkeypatch.setattr(fuzz, "HANG_S", 1.0)
    monkeypatch.setattr(fuzz, "WAIT_S", 2)
    monkeypatch.setattr(fuzz, "MEMORY_BOUND", 2**24)
    outcome = fuzz.Outcome()
    files = [(f"{content.decode()}.png", content) for content in (b"good", *kinds)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: a fork beside threads
        fuzz.look(files, {}, tmp_path, outcome)
    assert outcome.counts["refused"] == 2
    assert {name: kind.split(":")[0] for kind, name in outcome.bad} == {
        "crash.png": "crash", "hang.png": "hang", "wait.png": "hang", "error.png": "error", "memory.png": "memory"
    }  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {name for _, name in outcome.bad}
