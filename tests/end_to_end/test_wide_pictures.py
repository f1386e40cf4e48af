"""Wide and tall pictures: what decides stands near an end, where a center crop never looks."""

from __future__ import annotations

import base64
import json
import re
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import descend
from descend.cli import main
from descend.comparison.looked_at import LookedAt
from descend.data.decode import decode
from descend.pixels import Fit, PixelPolicy
from descend.progress import Silent
from descend.search import framing, rungs
from descend.train.initial_run import settled
from descend.train.prepare import prepare
from descend.train.recipe import from_settings
from descend.train.run import Run
from descend.train.run_log import RunLog

LONG, SHORT, N = 128, 32, 40
COLORS = {"copper": (200, 120, 40), "teal": (40, 140, 160)}
SCRATCH: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=16)", "augment": [], "epochs": 12, "batch_size": 16}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4:1 pictures, half of them upright, with a small square near one of the two ends; its color is the class."""
    root = tmp_path_factory.mktemp("wide") / "ends"
    for number, (name, color) in enumerate(COLORS.items()):
        (root / name).mkdir(parents=True)
        for i in range(N):
            rng = np.random.default_rng(1000 * number + i)
            picture = rng.normal(128, 12, (SHORT, LONG, 3))
            top, left = rng.integers(0, SHORT - 12), rng.integers(0, 20) + (i % 2) * (LONG - 32)
            picture[top : top + 12, left : left + 12] = color
            image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
            (image if i % 4 < 2 else image.transpose(Image.Transpose.ROTATE_90)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def runs(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run for each fit; ``auto`` is asked for nothing."""
    out = tmp_path_factory.mktemp("runs")
    asked: dict[str, dict[str, Any]] = {"auto": {}} | {fit: {"fit": fit} for fit in ("crop", "squash", "pad")}
    return {name: descend.fit(wide, **SCRATCH, **setting, out=out / name) for name, setting in asked.items()}


def _accuracy(run: Run) -> float:
    assert run.record.val is not None
    return run.record.val["accuracy"]


def test_the_default_sees_what_a_crop_never_does(runs: dict[str, Run]) -> None:
    assert _accuracy(runs["crop"]) <= 0.75  # of two classes, 12 pictures
    for name in ("auto", "squash", "pad"):
        assert _accuracy(runs[name]) >= 0.95
    auto, squash = runs["auto"], runs["squash"]
    assert auto.record.preparation() == squash.record.preparation()
    assert (auto.folder / "predictions.csv").read_bytes() == (squash.folder / "predictions.csv").read_bytes()
    assert tomllib.loads((auto.folder / "recipe.toml").read_text(encoding="utf-8"))["fit"] == "squash"


def test_the_choice_and_its_reason_are_told(runs: dict[str, Run]) -> None:
    record = runs["auto"].record
    assert record.data["unseen_by_crop"] == pytest.approx(0.75)
    assert record.reasons["fit"] == "a center crop would lose more than half of every picture: all is seen, with bent shapes"
    page = (runs["auto"].folder / "report.html").read_text(encoding="utf-8")
    assert "A center crop never sees 75" in page
    assert record.reasons["fit"] in page


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_prediction_evaluation_and_export_read_pictures_as_training_did(runs: dict[str, Run], wide: Path, fit: Fit) -> None:
    run = Run(runs[fit].folder)
    prepared = run.record.preparation()
    expected = PixelPolicy(background="gray" if fit == "pad" else "white", fit=fit)
    assert run.record.pixel_policy() == expected
    assert (prepared["size"], prepared["resolution"]) == (SHORT, SHORT)
    evaluated = run.evaluate(wide, split="val")
    assert run.record.val is not None
    assert {name: evaluated[name] for name in run.record.val} == run.record.val
    table = np.genfromtxt(run.folder / "predictions.csv", delimiter=",", skip_header=1, dtype=None, encoding="utf-8")
    predicted = run.predict([wide / row[0] for row in table])
    np.testing.assert_allclose(predicted.probabilities, [[row[5], row[6]] for row in table], atol=1e-6)
    check = sorted(wide.rglob("*.png"))[::9]
    assert main(["export", str(run.folder), "--check", *map(str, check)]) == 0
    properties = {item.key: item.value for item in onnx.load(run.folder / "model.onnx").metadata_props}
    assert (properties["fit"], json.loads(properties["classes"])) == (fit, list(COLORS))
    session = onnxruntime.InferenceSession(run.folder / "model.onnx")
    answers = np.stack([np.asarray(session.run(None, {"images": decode(path)[None]})[0])[0] for path in check])
    assert (answers.argmax(1) == run.predict(check).probabilities.argmax(1)).mean() >= 0.9


@pytest.mark.slow
def test_a_whole_picture_loses_no_border_to_the_view_of_a_pretrained_backbone(wide: Path, tmp_path: Path) -> None:
    sides, losses = {}, set[float]()
    for fit in ("crop", "squash", "pad"):
        run = descend.fit(wide, transfer="features", backbone="lite0", size=64, engine="torch", fit=fit, out=tmp_path / fit)
        sides[fit] = run.record.preparation()["resolution"]
        assert run.record.val is not None
        losses.add(run.record.val["loss"])
        if fit != "crop":
            assert _accuracy(run) >= 0.95
    assert sides == {"crop": 73, "squash": 64, "pad": 64}
    assert len(losses) == 3  # no fit finds the features of another in the cache


def test_the_gallery_shows_pictures_as_a_run_sees_them(runs: dict[str, Run], wide: Path, tmp_path: Path) -> None:
    def shown(*asked: str) -> np.ndarray:
        page = tmp_path / "page.html"
        assert main(["augment", str(wide), "--augment", "flip()", "--n", "8", "--draws", "1", "--out", str(page), *asked]) == 0
        found = re.findall(r"data:image/jpeg;base64,([^\"]+)", page.read_text(encoding="utf-8"))
        return np.stack([np.asarray(Image.open(BytesIO(base64.b64decode(text)))) for text in found]).astype(int)

    def n_colored(pictures: np.ndarray) -> int:
        return int((np.abs(pictures[..., 0] - pictures[..., 2]).max(axis=(1, 2)) > 90).sum())

    assert n_colored(shown()) == 16  # the small square is there in each picture and in its draw
    padded = shown("--safety", str(runs["pad"].folder))
    bars = np.minimum(np.abs(padded[:, :4] - 128).max(axis=(1, 2, 3)), np.abs(padded[:, :, :4] - 128).max(axis=(1, 2, 3)))
    assert (bars <= 3).all()


def test_the_flag_is_refused_where_every_picture_is_square(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["fit", "digits", "--fit", "squash", "--out", str(tmp_path / "run")]) == 2
    assert (
        "fit: is about pictures that are not square, and all of these are, got 'squash'. Leave it out." in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()


def test_a_search_sees_what_tells_the_classes_apart_when_it_goes_on_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pictures of 3:2 a center crop is usual: what decides stands at their left end."""
    root = tmp_path / "ends"
    for number, (name, color) in enumerate(COLORS.items()):
        (root / name).mkdir(parents=True)
        for i in range(N):
            picture = np.random.default_rng(1000 * number + i).normal(128, 12, (64, 96, 3))
            picture[8 + i : 20 + i, :12] = color
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / name / f"{i}.png")

    def stop(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(framing, "FEWEST", 20)
    monkeypatch.setattr(rungs, "next_rung", stop)
    cut = descend.fit(root, budget="5m", out=tmp_path / "run")
    assert (cut.record.status, cut.recipe.fit in ("squash", "pad")) == ("interrupted", True)
    monkeypatch.setattr(rungs, "next_rung", lambda *_: "enough")
    monkeypatch.setattr(framing, "measured", lambda *_: pytest.fail("it measures again"))
    run = descend.resume(cut.folder)
    assert run.record.preparation()["fit"] == run.record.plan["fit"] == cut.recipe.fit
    assert run.record.test is not None
    assert run.record.test["accuracy"] >= 0.9
    assert "held-out loss on " in (run.folder / "report.html").read_text(encoding="utf-8")
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert (again.folder / "predictions.csv").read_bytes() == (run.folder / "predictions.csv").read_bytes()
    assert again.recipe == run.recipe


@pytest.mark.parametrize("transfer", ["features", "head", "finetune", "scratch"])
def test_crop_pct_says_how_much_of_the_center_is_seen(transfer: str, runs: dict[str, Run], wide: Path) -> None:
    asked: dict[str, Any] = {"transfer": transfer, "size": 64, "crop_pct": 0.8, "fit": "crop"}
    recipe = from_settings({"data": str(wide), **asked} | ({"backbone": "smallcnn(width=4)"} if transfer == "scratch" else {}))
    setup = prepare(recipe, log=RunLog(writes=False), progress=Silent())
    assert (setup.decoded.resolution, setup.plan.crop_pct) == (80, 0.8)


def test_what_a_run_has_seen_is_taken_over_unless_another_way_is_asked_for(wide: Path, tmp_path: Path) -> None:
    short: dict[str, Any] = SCRATCH | {"epochs": 1}
    first = descend.fit(wide, **short, crop_pct=0.75, out=tmp_path / "first")

    def taken(run: Run, **asked: Any) -> tuple[str, float | None]:
        recipe, _ = settled(from_settings({"data": str(wide), "init": str(run.folder), **asked}))
        return recipe.fit, recipe.crop_pct

    assert taken(first) == taken(first, fit="crop") == ("crop", 0.75)
    assert taken(first, fit="pad") == ("pad", None)
    assert taken(first, crop_pct=0.9) == ("auto", 0.9)  # which means a crop
    whole = descend.fit(wide, **short, fit="crop", out=tmp_path / "whole")
    assert taken(whole, transfer="finetune") == ("crop", 1.0)  # from random weights all of the square is seen


def test_a_comparison_leaves_to_a_search_what_it_measures(wide: Path) -> None:
    looked = LookedAt(from_settings({"data": str(wide), "budget": "1m"}), None)
    assert looked.completed(looked.base).fit == "auto"
    said = from_settings({"data": str(wide), "budget": "1m", "fit": "crop"})
    assert looked.completed(said).fit == "crop"
