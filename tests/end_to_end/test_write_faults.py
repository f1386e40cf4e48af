"""Calls that change the disk fail, once or from then on: the error is one sentence, and the run goes on to the same bits."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import left_out  # pyright: ignore[reportMissingImports]

import descend
from descend.errors import DescendError, RunError
from descend.report import figures

pytestmark = pytest.mark.figures
LABELS = np.arange(40) % 2
IMAGES = (np.random.default_rng(0).integers(0, 60, (40, 12, 12)) + 150 * LABELS[:, None, None]).astype(np.uint8)
TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "epochs": 2, "batch_size": 16, "augment": [],
                        "snapshots": 2, "checkpoint_every": "1"}  # fmt: skip
CODES = (errno.ENOSPC, errno.EIO, errno.EACCES)


class Faults:
    """Counts the calls that change the disk below a folder; the one numbered ``at`` fails, those after it where ``lasting``."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.n, self.at, self.lasting, self.code = root, 0, 0, False, errno.ENOSPC
        fsync, replace, mkdir, open_ = os.fsync, Path.replace, Path.mkdir, Path.open

        def flushing(handle: int) -> None:
            self.call(Path(f"/proc/self/fd/{handle}").readlink())
            fsync(handle)

        def opening(path: Path, mode: str = "r", *given: Any, **named: Any) -> Any:
            if mode[0] in "wa":
                self.call(path)
            return open_(path, mode, *given, **named)

        monkeypatch.setattr(os, "fsync", flushing)
        monkeypatch.setattr(Path, "replace", lambda path, to: (self.call(path), replace(path, to))[1])
        monkeypatch.setattr(Path, "mkdir", lambda path, *given, **named: (self.call(path), mkdir(path, *given, **named))[1])
        monkeypatch.setattr(Path, "open", opening)

    def call(self, path: Path) -> None:
        """Count a call, and let it fail if its turn has come."""
        if path != self.root and not path.is_relative_to(self.root):
            return
        self.n += 1
        if self.at and (self.n == self.at or (self.lasting and self.n > self.at)):
            raise OSError(self.code, os.strerror(self.code))


def fit(out: Path) -> None:
    descend.fit((IMAGES, LABELS), out=out, **TINY)


@pytest.fixture
def _of_nothing() -> Iterator[None]:
    """Let every file beside a report be written as it is, without a drawing in it: 27 reports take as long as 27 runs."""
    write = figures.write
    with left_out(charts=True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "write", write)
        patch.setattr(figures, "_complete", lambda chart: None)
        patch.setattr(figures, "_png", lambda figure: b"png")
        patch.setattr(figures, "render", lambda figure, **_: "<svg/>")
        yield


def some(n_calls: int) -> list[tuple[int, bool]]:
    """Return nine of the calls, and whether those after it fail too."""
    return [(1 + point * n_calls // 9, point % 2 == 1) for point in range(9)]


def every(n_calls: int) -> list[tuple[int, bool]]:
    """Return every call, failing once, and with all that come after it: three minutes."""
    return [(call, lasting) for call in range(1, n_calls + 1) for lasting in (False, True)]


def is_new(out: Path) -> bool:
    return not out.exists() or not any(out.iterdir())


@pytest.mark.usefixtures("_of_nothing")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no way to tell which file a handle is of")
@pytest.mark.parametrize("points", [some, pytest.param(every, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_whatever_write_fails_the_run_is_new_or_goes_on_to_the_same_bits(
    points: Callable[[int], list[tuple[int, bool]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    out, faults = root / "run", Faults(root, monkeypatch)
    fit(out)
    n_calls, whole = faults.n, (out / "model.safetensors").read_bytes()
    assert n_calls > 50
    shutil.rmtree(out)
    for turn, (faults.at, faults.lasting) in enumerate(points(n_calls)):
        faults.n, faults.code = 0, CODES[turn % len(CODES)]
        with pytest.raises(DescendError) as caught:
            fit(out)
        assert os.strerror(faults.code) in str(caught.value)
        assert str(out) in str(caught.value)
        faults.at = 0
        assert not list(root.glob(".*"))
        if is_new(out):
            fit(out)
        else:
            try:
                descend.resume(out, data=(IMAGES, LABELS))
            except RunError as nothing_left:  # the last flush failed, of a report that was written
                assert "must be unfinished" in str(nothing_left)  # noqa: PT017 (it may come or not)
        assert descend.load(out).record.status == "finished"
        assert (out / "model.safetensors").read_bytes() == whole
        assert {path.name for path in out.iterdir() if path.name[0] == "."} == set()
        shutil.rmtree(out)
