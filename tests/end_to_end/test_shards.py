"""Runs on pictures in shards: the bits of a run on their files, also after a kill; named errors where a shard has changed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports] (pytest finds it)
from tests.end_to_end.test_resume_exact import KillAt, Killed, model  # pyright: ignore[reportMissingImports]

import descend
from descend.errors import RunError
from descend.files import CacheFolder

SCRATCH: dict[str, Any] = {
    "transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 16, "epochs": 2, "batch_size": 8, "threads": 1,
    "augment": ["flip", "mixup"], "checkpoint_every": "1",
}  # fmt: skip
SMALL: dict[str, Any] = {"size": 32, "epochs": 2, "batch_size": 8, "threads": 1, "engine": "torch", "checkpoint_every": "1"}
MODES: dict[str, dict[str, Any]] = {
    "scratch": SCRATCH,
    "features": {"transfer": "features", "head": "mlp(hidden=8)", **SMALL},
    "finetune": {"transfer": "finetune", "augment": ["flip"], **{k: v for k, v in SMALL.items() if k != "engine"}, "epochs": 1},
}


def tarred(folder: Path, out: Path, *, keys: bool) -> Path:
    """Write the pictures of class folders as one tar of folders, or as two shards whose members of one key belong together."""
    files = sorted(folder.rglob("*.png"))
    shards = [out / "s-0.tar", out / "s-1.tar"] if keys else [out.with_suffix(".tar")]
    shards[0].parent.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(shards):
        with tarfile.open(shard, "w") as archive:
            for at, file in enumerate(files):
                if keys and at * len(shards) // len(files) == number:
                    label = tarfile.TarInfo(f"{at:04}.cls")
                    label.size = len(file.parent.name)
                    archive.add(file, f"{at:04}.png")
                    archive.addfile(label, io.BytesIO(file.parent.name.encode()))
                elif not keys:
                    archive.add(file, f"{file.parent.name}/{file.name}")
    return out if keys else shards[0]


def in_parquet(folder: Path, out: Path) -> Path:
    files = sorted(folder.rglob("*.png"))
    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    parquet.write_table(pa.table({"image": cells, "label": [file.parent.name for file in files]}), out, row_group_size=7)
    return out


@pytest.fixture(scope="module")
def shapes_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes_folder(tmp_path_factory.mktemp("pictures") / "shapes")


@pytest.fixture(scope="module")
def whole(shapes_alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """Return what gives the model that a run of a mode on the folder makes."""

    @cache
    def trained(mode: str) -> bytes:
        return model(descend.fit(shapes_alone, out=tmp_path_factory.mktemp("runs") / mode, **MODES[mode]).folder)

    return trained


QUICK = [("scratch", "tar"), ("scratch", "shards"), ("scratch", "parquet"), ("scratch", "remote"), ("features", "tar"),
         ("features", "remote"), ("finetune", "shards")]  # fmt: skip
SLOW = [(mode, kind) for mode in ("features", "finetune") for kind in ("tar", "shards", "parquet", "remote")
        if (mode, kind) not in QUICK]  # fmt: skip


@pytest.mark.parametrize(("mode", "kind"), [*QUICK, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW)])
def test_killed_in_the_middle_it_goes_on_to_the_bits_of_a_run_on_the_files(
    mode: str, kind: str, whole: Callable[[str], bytes], shapes_alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole(mode)
    data: Any = in_parquet(shapes_alone, tmp_path / "s.parquet") if kind == "parquet" else (
        tarred(shapes_alone, tmp_path / "s", keys=kind != "tar")
    )  # fmt: skip
    system = fsspec.filesystem("memory")
    if kind == "remote":
        system.put(str(data), "/e2e/", recursive=True)
        n_bytes = sum(system.size(path) for path in system.find("/e2e"))
        monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("DESCEND_CACHE_LIMIT", str(2 * n_bytes - 1))  # more than half of the cache
        data = "memory://e2e/s"
    try:
        with pytest.raises(Killed):
            descend.fit(data, out=tmp_path / "run", progress=KillAt(2), **MODES[mode])
        run = descend.resume(tmp_path / "run")
        assert run.record.status == "finished"
        assert model(run.folder) == expected
    finally:
        if kind == "remote":
            system.rm("/e2e", recursive=True)
    assert "unpacked" not in CacheFolder().usage() or kind != "remote"


def test_a_shard_that_changed_or_is_gone_is_named_as_files_are(shapes_alone: Path, tmp_path: Path) -> None:
    data = tarred(shapes_alone, tmp_path / "s", keys=True)
    with pytest.raises(Killed):
        descend.fit(data, out=tmp_path / "run", progress=KillAt(2), **SCRATCH)
    kept = (data / "s-1.tar").read_bytes()
    with tarfile.open(data / "s-1.tar", "a") as archive:
        archive.add(shapes_alone / "disc" / "00.png", "0030.png")
    with pytest.raises(RunError, match=r"data must be what they were.*changed.*s-1/0030\.png"):
        descend.resume(tmp_path / "run")
    (data / "s-1.tar").unlink()
    with pytest.raises(RunError, match=r"data must be what they were.*missing.*s-1/"):
        descend.resume(tmp_path / "run")
    (data / "s-1.tar").write_bytes(kept)
    assert descend.resume(tmp_path / "run").record.status == "finished"
    lone = tarred(shapes_alone, tmp_path / "lone", keys=False)
    with pytest.raises(Killed):
        descend.fit(lone, out=tmp_path / "other", progress=KillAt(2), **SCRATCH)
    lone.unlink()
    with pytest.raises(RunError, match=r"its data must be where they were when it began, got .*lone\.tar"):
        descend.resume(tmp_path / "other")
