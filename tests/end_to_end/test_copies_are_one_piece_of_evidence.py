"""Copies under other names, to the byte and nearly, make no figure surer: in an evaluation, and in a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.unit.test_audit import jpeg, photograph

import descend
from descend.comparison.runs import right
from descend.train.run import Run

N = 12  # pictures of the test split


def picture(seed: int) -> Image.Image:
    """Return a picture whose color tells its class, with details of its own."""
    tint = np.array([(60, 0, 0), (0, 60, 0)][seed % 2])
    return Image.fromarray((np.asarray(photograph(seed), np.float64) * 0.75 + tint).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copied") / "pets"
    for part, first, n in (("train", 0, 24), ("val", 100, 8), ("test", 200, N)):
        for seed in range(first, first + n):
            folder = root / part / "ab"[seed % 2]
            folder.mkdir(parents=True, exist_ok=True)
            picture(seed).save(folder / f"{seed}.png")
            if part == "test":
                for number in range(3):
                    (folder / f"{seed}-{number}.png").write_bytes((folder / f"{seed}.png").read_bytes())
    return root


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 32, "epochs": 2, "batch_size": 8}
    return descend.fit(root, out=tmp_path_factory.mktemp("runs") / "run", **settings)


def test_a_comparison_counts_copies_once(run: Run, root: Path) -> None:
    distinct = {path.read_bytes() for path in (root / "test").rglob("*.png")}
    assert len(distinct) == N < len([*(root / "test").rglob("*.png")])
    known = right(run.folder, "test")
    assert len(known) == N
    assert {(root / name).read_bytes() for name in known} == distinct
    assert run.record.test is not None
    assert sum(known.values()) / N == pytest.approx(run.record.test["accuracy"])


def test_an_evaluation_on_other_data_counts_near_copies_once(run: Run, tmp_path: Path) -> None:
    changes = (lambda image: image, ImageOps.mirror, lambda image: image.rotate(90), lambda image: image.crop((0, 0, 68, 70)))
    for seed in range(300, 320):
        for number, change in enumerate(changes):
            for name in ("once", "often")[number > 0 :]:
                folder = tmp_path / name / "ab"[seed % 2]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{seed}-{number}.jpg").write_bytes(jpeg(change(picture(seed)), 90 - number))
    once, often = (run.evaluate(str(tmp_path / name)) for name in ("once", "often"))
    assert (once["n"], once["n_independent"]) == (20, 20)
    assert often["n"] == 80
    assert 19 <= often["n_independent"] <= 22  # a crop of a picture that is so small may stay unknown
