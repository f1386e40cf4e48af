"""Pictures that have moved: a run goes on with them where they are now, if they are the same; else what differs is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import StopAfter  # pyright: ignore[reportMissingImports] (pytest finds it)

import descend
from descend.cli import main
from descend.errors import RunError
from descend.train import folder
from descend.train.recipe import read

TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 16, "epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def whole(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    run = descend.fit(shapes, out=tmp_path_factory.mktemp("runs") / "whole", **TINY)
    return (run.folder / folder.MODEL).read_bytes()


@pytest.fixture(scope="module")
def cut(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a stopped run and its pictures, which are not where they were."""
    root = tmp_path_factory.mktemp("moved")
    old = Path(shutil.copytree(shapes, root / "old"))
    run = descend.fit(old, out=root / "run", progress=StopAfter(16), **TINY)
    return run.folder, Path(shutil.move(old, root / "new"))


@pytest.fixture
def copy(cut: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    run, place = cut
    return Path(shutil.copytree(run, tmp_path / "run")), Path(shutil.copytree(place, tmp_path / "place"))


def test_the_run_goes_on_in_the_new_place_to_the_same_bits(
    copy: tuple[Path, Path], whole: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    run, place = copy
    assert main(["fit", "--resume", str(run)]) == 1
    assert f"Say where they are now: descend fit --resume {run} --data NEWPLACE." in capsys.readouterr().err
    assert main(["fit", "--resume", str(run), "--data", str(place)]) == 0
    assert (run / folder.MODEL).read_bytes() == whole
    assert read(run / folder.RECIPE).data == str(place)
    assert descend.load(run).evaluate(place)["n_trained_on"] is not None  # the run finds its own pictures again


def test_what_differs_is_named(copy: tuple[Path, Path]) -> None:
    run, place = copy
    disc, *rest = sorted(path for path in place.rglob("*") if path.is_file())
    other = next(path for path in rest if path.parent != disc.parent)
    record = (run / folder.RECORD).read_bytes()
    disc.unlink()
    shutil.copy(other, place / disc.parent.name / "zz new.png")
    changed = rest[-1]
    changed.write_bytes(rest[1].read_bytes())
    with pytest.raises(RunError) as caught:
        descend.resume(run, data=place)
    told = str(caught.value)
    assert "its data must be what they were when it began; there are " in told
    assert f"1 missing ({disc.relative_to(place)})" in told
    assert f"1 new ({disc.parent.name}/zz new.png)" in told
    assert f"1 changed ({changed.relative_to(place)})" in told
    assert (run / folder.RECORD).read_bytes() == record
    assert str(place) not in (run / folder.RECIPE).read_text()


@pytest.mark.parametrize("change", ["renamed", "another class", "list damaged", "list gone"])
def test_other_differences_too(copy: tuple[Path, Path], change: str) -> None:
    run, place = copy
    first = sorted((place / "disc").iterdir())[0]
    if change == "another class":
        first.rename(place / "square" / "moved.png")
    else:
        first.rename(first.with_name("zz.png"))
    expected = {"renamed": r"1 renamed \(disc/zz\.png\)", "another class": r"there are 1 of another class \(square/moved\.png\)",
                "list damaged": r"pictures\.json: must be intact", "list gone": r"when it began, got"}[change]  # fmt: skip
    if change == "list damaged":
        (run / folder.PICTURES).write_text("{}")
    elif change == "list gone":
        (run / folder.PICTURES).unlink()
    with pytest.raises(RunError, match=expected):
        descend.resume(run, data=place)


def test_a_place_without_a_run_and_a_run_without_a_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--data", "photos"]) == 2
    assert "--data: tells --resume where a run's pictures are now; DATA stands alone, got 'photos'" in capsys.readouterr().err
    labels = np.arange(24) % 2
    images = (np.random.default_rng(0).integers(0, 60, (24, 12, 12)) + 150 * labels[:, None, None]).astype(np.uint8)
    settings = {**TINY, "size": 12}
    run = descend.fit((images, labels), out=tmp_path / "run", progress=StopAfter(8), **settings)
    with pytest.raises(RunError, match=r"was started on arrays, and goes on with them, got 'photos'\. In Python"):
        descend.resume(run.folder, data="photos")
