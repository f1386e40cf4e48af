"""`--folds K`: every picture is answered by a head that was fitted without it; the model is fitted on all of them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

import descend
from descend.data import load
from descend.errors import DataError, KnobError
from descend.train.plan import DataProfile
from descend.train.recipe import from_settings
from descend.train.resolve import resolve
from descend.train.run import Run
from descend.transfer import check_folds, out_of_fold

PHOTOS = DataProfile("photos", n_train=245, n_classes=2, side=375, gray=False)
DIGITS = DataProfile("digits", n_train=1257, n_classes=10, side=8, gray=True)
K = 3


def _pictures(root: Path, n: int) -> Path:
    """Make blots of two hues, no two of them near copies: ROOT/CLASS/00.png and on, 72 px."""
    rng = np.random.default_rng(0)
    for label, hue in (("blue", (0.3, 0.6, 1.0)), ("red", (1.0, 0.6, 0.3))):
        (root / label).mkdir(parents=True)
        for k in range(n):
            blot = (rng.integers(0, 256, (6, 6, 1)) * np.array(hue)).astype(np.uint8)
            Image.fromarray(blot).resize((72, 72)).save(root / label / f"{k:02d}.png")
    return root


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures per class for training and validation, some of them copies or in a group, and two for testing."""
    root = _pictures(tmp_path_factory.mktemp("folds"), 8)
    shutil.copy(root / "blue" / "00.png", root / "blue" / "05.png")
    rows = ["path,label,split,group"]
    for label in ("blue", "red"):
        for n in range(8):
            split = "val" if n == 4 else "test" if n > 5 else "train"
            rows.append(f"{label}/{n:02d}.png,{label},{split},{label}-{2 if n == 3 else n}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return root / "table.csv"


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return descend.fit(table, folds=K, size=32, engine="torch", out=tmp_path_factory.mktemp("run") / "cv")


def _rows(run: Run) -> list[dict[str, str]]:
    with (run.folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_picture_is_answered_once_outside_its_fold(run: Run) -> None:
    rows = _rows(run)
    folded = [row for row in rows if row["split"] == "val"]
    assert len({row["path"] for row in folded}) == len(folded) == 12
    assert {row["fold"] for row in folded} == {"1", "2", "3"}
    assert [row["fold"] for row in rows if row["split"] == "test"] == [""] * 4
    fold = {row["path"]: row["fold"] for row in folded}
    for label in ("blue", "red"):
        assert fold[f"{label}/02.png"] == fold[f"{label}/03.png"]  # one group
    assert fold["blue/00.png"] == fold["blue/05.png"]  # copies


def test_the_model_is_fitted_on_all_that_may_be_trained_on(run: Run, table: Path) -> None:
    assert run.record.data["splits"] == {"train": 12, "val": 0, "test": 4}
    assert run.record.data["given_split"]
    assert not [row for row in run.evaluate(table)["per_class"] if row["n"] != 2]  # the test split, untouched
    with pytest.raises(DataError, match="must have pictures in split 'val'"):
        run.evaluate(table, split="val")


def test_one_interval_over_all_pictures(run: Run) -> None:
    """Wilson 1927, written anew; copies count once, and groups by their effective number (Kish 1965)."""
    val, rows = run.record.val, [row for row in _rows(run) if row["split"] == "val"]
    assert val is not None
    units = np.array([1, 1, 2, 1, 1, 1, 2, 1, 1], float)  # blue: 00 with its copy 05, 01, 02 with 03, 04; red: 05 too
    assert val["n_independent"] == round(units.sum() ** 2 / (units**2).sum())
    weight = np.array([0.5 if row["path"] in ("blue/00.png", "blue/05.png") else 1.0 for row in rows])
    share = float(np.average([row["label"] == row["predicted"] for row in rows], weights=weight))
    assert val["accuracy"] == pytest.approx(share)
    n, z = val["n_independent"], norm.ppf(0.975)
    p = round(share * n) / n
    centre, reach = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = [(centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)]
    assert val["accuracy_interval"] == pytest.approx([max(0, expected[0]), min(1, expected[1])], abs=1e-9)


def test_it_is_told_what_the_figure_means(run: Run) -> None:
    first, test, meaning = run.verdict().splitlines()
    assert first.startswith("3 folds:    accuracy")
    assert test.startswith("Test:")
    assert "Every picture was answered by a head that was fitted without it" in meaning
    assert run.record.cross_validation is not None
    assert len(run.record.cross_validation["strengths"]) == K
    page = (run.folder / "report.html").read_text()
    assert "Every picture was answered by a head that was fitted without it" in page
    assert "out of fold in 3 folds; the test split was looked at once" in page
    assert "val" in run.record.calibration


def test_without_a_given_test_split_everything_is_trained_on(tmp_path: Path) -> None:
    data = load(_pictures(tmp_path / "all", 10))
    assert (data.splits != 0).any()
    assert (data.pooled().splits == 0).all()
    assert data.pooled().fingerprint == data.fingerprint


def test_held_out_pictures_are_judged_by_their_plain_view() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    plain = (rng.normal(size=(40, 1, 6)) + 2 * labels[:, None, None]).astype(np.float32)
    views = np.concatenate([plain, plain], 1)  # as predict sees a picture: the second view only trains
    ours = out_of_fold(views, labels, 2, n_folds=4, strength=0.1)
    lone = out_of_fold(plain, labels, 2, n_folds=4, strength=0.1)
    np.testing.assert_allclose(ours.probabilities, lone.probabilities, atol=1e-3)
    views[:, 1] += 100 * rng.normal(size=(40, 6)).astype(np.float32)
    shifted = out_of_fold(views, labels, 2, n_folds=4, strength=0.1)
    views[ours.fold == 0, 1] = 0
    again = out_of_fold(views, labels, 2, n_folds=4, strength=0.1)
    np.testing.assert_array_equal(again.probabilities[ours.fold == 0], shifted.probabilities[ours.fold == 0])


def test_each_fold_chooses_its_features_by_itself() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(60) % 2
    noise, signal = rng.normal(size=(60, 1, 3)), rng.normal(size=(60, 1, 1)) + 3 * labels[:, None, None]
    features = np.concatenate([signal, noise], 2).astype(np.float32)
    found = out_of_fold(features, labels, 2, n_folds=3, n_inner=2, columns={"few": 3, "all": 4})
    assert found.stages == ("all", "all", "all")
    assert (found.probabilities.argmax(1) == labels).mean() > 0.8
    told: list[tuple[int, int]] = []
    out_of_fold(features, labels, 2, n_folds=3, strength=0.1, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 60), (20, 60), (40, 60), (60, 60)]


@pytest.mark.parametrize(
    ("settings", "data", "told"),
    [
        ({"transfer": "finetune"}, PHOTOS, "has no effect with transfer='finetune'.* belongs to transfer features"),
        ({}, DIGITS, "has no effect with transfer='scratch'.* belongs to transfer features"),
        ({"budget": "1m"}, PHOTOS, "is decided by the search that budget asks for.* belongs to transfer features"),
        ({"transfer": "features", "optimizer": "sgd"}, PHOTOS, "optimizer asks for one that is trained step by step"),
        ({"head": "mlp"}, PHOTOS, "head asks for one that is trained step by step"),
    ],
)
def test_where_folds_have_no_effect_they_are_refused(settings: dict[str, Any], data: DataProfile, told: str) -> None:
    with pytest.raises(KnobError, match=told):
        resolve(from_settings(settings | {"folds": 5}), data)


def test_auto_with_folds_is_features(table: Path) -> None:
    plan = resolve(from_settings({"folds": 5}), PHOTOS)
    assert (plan.transfer, plan.folds) == ("features", 5)
    with pytest.raises(KnobError, match="folds must be a whole number >= 2"):
        from_settings({"folds": 1})
    with pytest.raises(KnobError, match="must be at most 5, the independent pictures of the commonest class"):
        descend.fit(table, folds=6, out=table.parent / "never")
    assert not (table.parent / "never").exists()


def test_folds_that_leave_one_class_to_fit_on_are_refused_by_name() -> None:
    features, labels = np.eye(6, dtype=np.float32)[:, None], np.array([0, 0, 0, 0, 1, 1])
    with pytest.raises(DataError, match="folds: must each leave two classes or more to fit on"):
        out_of_fold(features, labels, 2, units=np.array([0, 1, 2, 3, 4, 4]), n_folds=2, strength=0.1)


def test_copies_and_groups_count_once_among_folds() -> None:
    labels, units = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 3])
    check_folds(2, labels, units)
    with pytest.raises(KnobError, match="at most 2"):
        check_folds(3, labels, units)
