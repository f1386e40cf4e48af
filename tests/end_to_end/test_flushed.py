"""What a finished run has left is on the disk: a power cut after its end takes nothing back."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

import descend
from descend.train.recipe import Transfer

MODES: dict[Transfer, dict[str, Any]] = {
    "scratch": {"backbone": "smallcnn(width=4)", "size": 16, "epochs": 2, "batch_size": 8},
    "features": {"size": 32, "engine": "torch"},
}


@pytest.mark.parametrize("mode", MODES)
def test_every_file_is_flushed_as_it_stays(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Transfer) -> None:
    flushed = dict[tuple[int, int], bytes]()

    def fsync(handle: int) -> None:
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode):
            flushed[status.st_dev, status.st_ino] = os.pread(handle, status.st_size, 0)

    monkeypatch.setattr(os, "fsync", fsync)
    run = descend.fit(shapes, out=tmp_path / "run", transfer=mode, **MODES[mode])
    left = {path.relative_to(run.folder).as_posix(): path for path in run.folder.rglob("*") if path.is_file()}
    assert "record.json" in left
    states = {name: (path.stat(), path.read_bytes()) for name, path in left.items()}
    lost = [name for name, (at, content) in states.items() if content and flushed.get((at.st_dev, at.st_ino)) != content]
    assert not lost, f"not on the disk: {', '.join(lost)}"
