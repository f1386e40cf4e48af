"""Copies under other names, to the byte and nearly, make no figure surer: in an evaluation, and in a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps
from tests.unit.test_audit import jpeg, photograph

import descend
from descend.comparison.runs import right
from descend.data import load
from descend.data.overlap import n_shared
from descend.errors import DataError
from descend.train.run import Run

N = 12  # pictures of the test split
SETTINGS: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 32, "epochs": 2, "batch_size": 8}


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
    return descend.fit(root, out=tmp_path_factory.mktemp("runs") / "run", **SETTINGS)


def test_a_comparison_counts_copies_once(run: Run, root: Path) -> None:
    distinct = {path.read_bytes() for path in (root / "test").rglob("*.png")}
    assert len(distinct) == N < len([*(root / "test").rglob("*.png")])
    known = right(run.folder, "test").answers
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


def test_a_comparison_counts_what_belongs_together_once(run: Run, tmp_path: Path) -> None:
    rows = list[str]()
    for seed in range(48):
        name = f"{seed}.png"
        picture(seed).save(tmp_path / name)
        part = "train" if seed < 16 else "val" if seed < 24 else "test"
        patient = "" if part == "train" else f"p{seed // 2 // 3}"  # one class each, three pictures of it, but the last of them
        rows.append(f"{name},{'ab'[seed % 2]},{part},{patient and patient + 'ab'[seed % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split,group", *rows]) + "\n")
    grouped = descend.fit(tmp_path / "t.csv", out=tmp_path / "run", **SETTINGS)
    answers = pd.read_csv(grouped.folder / "predictions.csv")
    patient = {line.split(",")[0]: line.split(",")[3] for line in rows}
    judged = answers[answers["split"] == "test"]
    shares = (judged["label"] == judged["predicted"]).groupby(judged["path"].map(patient), sort=False).mean()
    assert 1 < len(shares) < len(judged)
    found = right(grouped.folder, "test")
    assert (len(found.answers), found.n_units) == (len(judged), len(shares))
    means = pd.Series(found.answers).groupby(found.unit_of).mean()
    assert sorted(means) == pytest.approx(sorted(shares))


def test_an_evaluation_tells_pictures_that_are_near_copies_of_trained_ones(run: Run, root: Path, tmp_path: Path) -> None:
    for seed in range(4):
        (tmp_path / "ab"[seed % 2]).mkdir(exist_ok=True)
        original = root / "train" / "ab"[seed % 2] / f"{seed}.png"
        (tmp_path / "ab"[seed % 2] / f"same{seed}.png").write_bytes(original.read_bytes())
        (tmp_path / "ab"[seed % 2] / f"near{seed}.jpg").write_bytes(jpeg(ImageOps.mirror(Image.open(original)), 90))
        picture(400 + seed).save(tmp_path / "ab"[seed % 2] / f"new{seed}.png")
        (tmp_path / "ab"[seed % 2] / f"test{seed}.jpg").write_bytes(jpeg(picture(200 + seed), 90))  # like test, not like train
    found = run.evaluate(str(tmp_path))
    assert (found["n"], found["n_trained_on"], found["n_near_trained_on"]) == (16, 4, 4)
    assert run.evaluate(str(root))["n_near_trained_on"] == 0


def grouped_table(folder: Path, *, patients_in_test: int) -> Path:
    rows = list[str]()
    for seed in range(40):
        picture(seed).save(folder / f"{seed}.png")
        part = "train" if seed < 16 else "val" if seed < 24 else "test"
        rows.append(f"{seed}.png,{'ab'[seed % 2]},{part},{part}{seed % patients_in_test}")
    (folder / "t.csv").write_text("\n".join(["path,label,split,group", *rows]) + "\n")
    return folder / "t.csv"


def test_a_comparison_says_on_how_many_independent_pictures_it_rests(tmp_path: Path) -> None:
    table = grouped_table(tmp_path, patients_in_test=4)
    found = descend.compare(table, ["base", "epochs=1"], seeds=1, out=tmp_path / "c", **SETTINGS)
    assert found.n_pictures == 4
    assert "judged on 4 independent pictures (16; those of a group" in str(found)
    assert "4 independent pictures (16;" in (tmp_path / "c" / "report.html").read_text(encoding="utf-8")


def test_a_comparison_on_one_patient_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    table = grouped_table(tmp_path, patients_in_test=1)
    with pytest.raises(DataError, match=r"two independent pictures or more to judge on.*got 1"):
        descend.compare(table, ["base", "epochs=1"], seeds=1, out=tmp_path / "c", **SETTINGS)
    assert not (tmp_path / "c").exists()


def test_near_copies_of_trained_pictures_are_none_where_they_are_not_sought(run: Run, root: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "near.jpg").write_bytes(jpeg(ImageOps.mirror(Image.open(root / "train" / "a" / "0.png")), 90))
    judged = load(tmp_path, split=False)
    own = load(root)
    rows, n = np.arange(1), 24 + 8 + 1
    assert n_shared(judged, rows, own, near_up_to=n, threads=1) == (0, 1)
    assert n_shared(judged, rows, own, near_up_to=n - 1, threads=1) == (0, None)
    of_both = own.indices("train")[:3]
    assert n_shared(own, of_both, own, near_up_to=None, threads=1) == (3, 0)
