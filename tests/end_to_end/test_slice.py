"""``descend slice``: the loss of a real run on planes through its weights."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import descend
from descend.cli import main
from descend.errors import RunError
from descend.progress import Silent
from descend.train.run import Run
from descend.train.states import States


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    descend.fit("digits", out=folder, backbone="smallcnn(width=4)", epochs=2, threads=1, regularize=["dropout(p=0.3)"])
    return folder


@pytest.fixture(scope="module")
def states(trained: Path) -> States:
    return States(Run(trained), n_pictures=100, progress=Silent())


@pytest.fixture
def with_path(trained: Path, states: States, tmp_path: Path) -> Path:
    """A copy of the run with snapshots on a bent way to its weights."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "snapshots").mkdir()
    center, draw = states.center(), np.random.default_rng(0)
    floats = {name: value for name, value in center.items() if value.dtype == np.float32}
    one, two = ({name: 0.05 * draw.standard_normal(value.shape) for name, value in floats.items()} for _ in range(2))
    for epoch, (a, b) in {0: (4, 0), 1: (2, 1), 3: (0.5, 0.5), 10: (0, 0)}.items():
        moved = {name: (value + a * one[name] + b * two[name]).astype(np.float32) for name, value in floats.items()}
        save_file(center | moved, folder / "snapshots" / f"{epoch:04d}.safetensors", {"epoch": str(epoch)})
    return folder


def test_the_loss_is_a_function_of_the_state_and_close_to_the_runs_own(states: States, trained: Path) -> None:
    center = states.center()
    here = states.loss(center)
    away = {name: value * 1.5 if value.dtype == np.float32 else value for name, value in center.items()}
    assert states.loss(away) != here
    assert states.loss(center) == here  # nothing of the other state is left, in batch norms or anywhere
    val = Run(trained).record.val
    assert val is not None
    assert here == pytest.approx(val["loss"], rel=0.6)  # other statistics, a part of the pictures
    assert states.n_pictures == 100
    assert "backbone" in states.trained()[0]


def test_a_run_without_snapshots_has_its_random_plane_alone(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["slice", str(trained), "--grid", "3", "--pictures", "40", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert [path.name for path in tmp_path.iterdir()] == ["slice-random.svg"]
    assert re.search(r"loss [\d.e+-]+ to [\d.e+-]+ on 3 x 3 points, 40 validation pictures, [\d.]+ s", shown.out)
    assert "train with --snapshots N" in shown.out
    assert "slice-random: 9 points on 40 validation pictures, about" in shown.err
    assert main(["slice", str(trained), "--plane", "path"]) == 1
    assert f"descend fit --recipe {trained}/recipe.toml --out NEW --snapshots 10" in capsys.readouterr().err


def test_a_run_with_snapshots_shows_its_path(with_path: Path, states: States, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slice", str(with_path), "--grid", "3", "--pictures", "100", "--format", "png"]) == 0
    shown = capsys.readouterr().out
    losses = dict(re.findall(r"(\d+): ([\d.e+-]+)", shown.splitlines()[1]))
    assert list(losses) == ["0", "1", "3", "10"]
    assert float(losses["10"]) == pytest.approx(states.loss(states.center()), rel=1e-2)
    for name in ("slice-random.png", "slice-path.png"):
        assert (with_path / name).read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_sliced_is_refused(with_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (with_path / "snapshots" / "0001.safetensors").write_bytes(b"no")
    assert main(["slice", str(with_path), "--grid", "2"]) == 1
    assert "0001.safetensors: must be an intact snapshot" in capsys.readouterr().err
    assert main(["slice", str(with_path), "--out", str(with_path / "nowhere")]) == 1
    assert "must be a folder that exists" in capsys.readouterr().err
    run = Run(with_path)
    run.record.data_fingerprint = "other"
    with pytest.raises(RunError, match="its data must be what they were"):
        States(run, n_pictures=10, progress=Silent())
