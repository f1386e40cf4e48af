"""Frames that a split tears apart are told, and pictures that are merely numbered are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from descend.data import load
from descend.data.dataset import Dataset


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


def _folder(root: Path, pattern: str) -> Path:
    """Two classes of 24 pictures of noise, 4 to each of 6 sequences."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(24):
            pixels = generator.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / pattern.format(c=name, s=i // 4, i=i))
    return root


def _told(dataset: Dataset) -> list[str]:
    return [str(problem) for problem in dataset.problems if problem.kind == "sequences"]


@pytest.mark.parametrize(
    "pattern", ["vid{s}_frame{i:03}.png", "IMG_{s}_burst{i}.jpg", "clip{s:02}-{i:04}.jpg", "patient{s}_slice{i}.png"]
)
def test_frames_are_told_and_a_group_column_keeps_them_together(tmp_path: Path, pattern: str) -> None:
    root = _folder(tmp_path / "set", pattern)
    (told,) = _told(load(root))
    assert told.startswith("48 of 48 names look like frames of 12 sequences, and ")
    assert "a table with the columns path,label,group keeps each on one side: cat/" in told
    rows = [f"{name}/{pattern.format(c=name, s=i // 4, i=i)},{name},{name}{i // 4}" for name in ("cat", "dog") for i in range(24)]
    (root / "table.csv").write_text("\n".join(["path,label,group", *rows]) + "\n")
    assert _told(load(root / "table.csv")) == []  # what the sentence advises is the cure


@pytest.mark.parametrize(
    "pattern",
    ["{c}.{i}.jpg", "IMG_{i:04}.jpg", "{i:04}.png", "n0208{c}_{i}.jpg", "{c}_frame_{i}.png", "video{i}.png", "{s}_{i}.png",
     "IMG_2020010{s}_{i}.jpg", "wireframe{s}_{i}.png"],
)  # fmt: skip
def test_mere_numbers_say_nothing(tmp_path: Path, pattern: str) -> None:
    assert _told(load(_folder(tmp_path / "set", pattern))) == []
