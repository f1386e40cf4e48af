"""The main task on real photographs: ants and bees by features, through every engine that this machine has."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import descend
from descend.train.run import Run
from descend.transfer import ENGINES
from descend.transfer.engine_openvino import computes_in_bfloat16

pytestmark = pytest.mark.charts

NEAR_TIE = 0.02  # answers whose two best probabilities are closer than this may differ between engines


@pytest.fixture(scope="module")
def some(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of the photographs: what engines agree on does not need all of them, and each computes every one."""
    root, folder = real_data("hymenoptera"), tmp_path_factory.mktemp("data") / "hymenoptera"
    for label in sorted(path for path in root.glob("*/*") if path.is_dir()):
        place = folder / label.relative_to(root)
        place.mkdir(parents=True)
        for path in sorted(label.iterdir())[::4]:
            (place / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def runs(some: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    out = tmp_path_factory.mktemp("runs")
    here = [name for name in ENGINES if name != "openvino-bf16" or computes_in_bfloat16()]
    return {name: descend.fit(some, transfer="features", engine=name, out=out / name) for name in here}


def test_ants_and_bees_are_told_apart(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    run = descend.fit(real_data("hymenoptera"), transfer="features", engine="onnxruntime", out=tmp_path / "run")
    assert run.record.val is not None
    assert run.record.val["n"] == 153
    assert run.record.val["accuracy"] >= 0.93
    assert run.record.test is None
    assert run.record.data["splits"] == {"train": 245, "val": 153, "test": 0}


def test_every_engine_tells_most_of_them_apart(runs: dict[str, Run]) -> None:
    assert runs.keys() | {"openvino-bf16"} == ENGINES.keys()
    for run in runs.values():
        assert run.record.val is not None
        assert 36 <= run.record.val["n"] <= 40
        assert run.record.val["accuracy"] >= 0.85
        assert run.record.test is None


def test_engines_give_the_same_answers_outside_near_ties(runs: dict[str, Run]) -> None:
    tables = {
        name: np.genfromtxt(run.folder / "predictions.csv", delimiter=",", skip_header=1)[:, 5:] for name, run in runs.items()
    }
    reference = tables.pop("torch")
    clear = np.abs(reference[:, 0] - reference[:, 1]) > NEAR_TIE
    assert clear.mean() > 0.9
    for probabilities in tables.values():
        assert np.array_equal(probabilities[clear].argmax(1), reference[clear].argmax(1))


def test_a_warm_run_finds_everything_in_the_cache(runs: dict[str, Run], some: Path, tmp_path: Path) -> None:
    again = descend.fit(some, transfer="features", engine="torch", out=tmp_path / "run")
    assert again.record.rate_of == "training"  # no feature was computed
    assert (again.folder / "predictions.csv").read_text() == (runs["torch"].folder / "predictions.csv").read_text()


@pytest.mark.slow
def test_hands_are_finetuned(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("sign-digits")
    for label in sorted(path for path in root.iterdir() if path.is_dir()):
        (tmp_path / "few" / label.name).mkdir(parents=True)
        for path in sorted(label.iterdir())[:20]:
            shutil.copy(path, tmp_path / "few" / label.name)
    run = descend.fit(
        tmp_path / "few", transfer="finetune", engine="torch", size=96, epochs=5, batch_size=16, out=tmp_path / "run"
    )
    assert run.record.test is not None
    assert run.record.test["accuracy"] > 0.3  # ten classes, a hundred pictures


def test_cifar_is_trained_from_scratch(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    kinds, count = ("airplane", "automobile", "bird"), dict[str, int]()  # of ten; they stand first
    with tarfile.open(real_data("cifar10.tar.xz")) as archive:
        for member in archive:
            if len(count) == 2 * len(kinds) and min(count.values()) >= 12:
                break  # to unpack the rest takes longer than the training
            if not member.isfile() or member.name.split("/")[2] not in kinds:
                continue
            _, split, label, _ = member.name.split("/")
            count[f"{split}/{label}"] = count.get(f"{split}/{label}", 0) + 1
            if count[f"{split}/{label}"] <= 12:
                archive.extract(member, tmp_path, filter="data")
    run = descend.fit(tmp_path / "cifar10", epochs=1, batch_size=12, out=tmp_path / "run")
    assert run.record.chosen["transfer"] == "scratch"
    assert run.record.chosen["size"] == 32
    assert run.record.test is not None
    assert run.record.test["n"] == 36
    assert "<svg" in (run.folder / "report.html").read_text(encoding="utf-8")
