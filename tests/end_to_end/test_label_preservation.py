"""Default augmentations leave out what changes labels, and say so: arrows lose mirroring, discs and squares keep it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import descend
from descend.train import recipe as recipes
from descend.train.run import Run

Labelled = tuple[NDArray[np.uint8], NDArray[np.str_]]
QUICK: dict[str, Any] = {"size": 64, "epochs": 1, "batch_size": 16, "engine": "torch"}


def arrow(draw: ImageDraw.ImageDraw, color: tuple[int, ...], chance: np.random.Generator, kind: int) -> None:
    """Draw an arrow of 44 px, to the left (0) or to the right (1)."""
    x, y = int(chance.integers(4, 20)), int(chance.integers(20, 52))
    tip, base, tail = (x, x + 22, x + 44) if kind == 0 else (x + 44, x + 22, x)
    draw.polygon([(tip, y), (base, y - 17), (base, y + 17)], fill=color)
    draw.rectangle((min(base, tail), y - 4, max(base, tail), y + 4), fill=color)


def shape(draw: ImageDraw.ImageDraw, color: tuple[int, ...], chance: np.random.Generator, kind: int) -> None:
    """Draw a disc (0) or a square (1)."""
    r = int(chance.integers(10, 20))
    x, y = map(int, chance.integers(22, 50, 2))
    (draw.rectangle if kind else draw.ellipse)((x - r, y - r, x + r, y + r), fill=color)


def pictures(drawn: Any, names: tuple[str, str], n: int = 120) -> Labelled:
    """Return n pictures of 72 x 72 px in random colors, bright on dark."""
    chance = np.random.default_rng(7)
    images = list[NDArray[np.uint8]]()
    for index in range(n):
        image = Image.new("RGB", (72, 72), tuple(chance.integers(0, 120, 3).tolist()))
        drawn(ImageDraw.Draw(image), tuple(chance.integers(150, 256, 3).tolist()), chance, index % 2)
        images.append(np.array(image))
    return np.stack(images), np.array([names[index % 2] for index in range(n)])


@pytest.fixture(scope="module")
def arrows() -> Labelled:
    return pictures(arrow, ("left", "right"))


def augmented_by(run: Run) -> list[str]:
    """Return the names of the transforms that the run was trained with."""
    return [text.split("(")[0] for text in run.record.specs("augment")]


def test_arrows_are_learned_by_default_because_mirroring_is_left_out_and_the_plan_says_why(
    arrows: Labelled, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"transfer": "features", "views": 1, "feature_stages": "late", "size": 96, "engine": "torch"}
    run = descend.fit(arrows, out=tmp_path / "measured", **settings)
    assert augmented_by(run) == ["random_resized_crop"]
    assert "flip left out: mirrored, " in run.record.reasons["augment"]
    assert "pictures of 'left' are answered 'right'" in run.record.reasons["augment"]
    assert run.record.wall_s["label check"] > 0
    best = max(trial["accuracy"] for trial in run.record.head_trials)
    assert best > 0.9
    named = descend.fit(
        arrows, out=tmp_path / "named", augment=["random_resized_crop(scale_range=[0.6, 1.0])", "flip"], **settings
    )
    assert augmented_by(named) == ["random_resized_crop", "flip"]  # what is asked for by name is done, and measured by nobody
    assert "label check" not in named.record.wall_s
    assert max(trial["accuracy"] for trial in named.record.head_trials) < best - 0.15

    recipe = recipes.read(tmp_path / "measured" / "recipe.toml")
    again = descend.fit(arrows, recipe=recipe, out=tmp_path / "again")
    assert augmented_by(again) == ["random_resized_crop"]
    assert "label check" not in again.record.wall_s


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"transfer": "finetune"}, {"transfer": "head", "augment": ["auto"]}], ids=lambda item: item["transfer"]
)
def test_every_default_that_mirrors_is_measured(arrows: Labelled, tmp_path: Path, settings: dict[str, Any]) -> None:
    run = descend.fit(arrows, out=tmp_path / "run", **settings, **QUICK)
    assert "flip" not in augmented_by(run)
    assert "flip left out" in run.record.reasons["augment"]


def test_a_network_from_random_weights_is_measured_by_lite0(arrows: Labelled, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"transfer": "scratch", "size": 40, "epochs": 1, "batch_size": 16}
    run = descend.fit(arrows, out=tmp_path / "run", **settings)
    assert augmented_by(run) == ["pad_crop"]
    assert "flip left out" in run.record.reasons["augment"]


def test_discs_and_squares_keep_mirroring_with_its_figures(tmp_path: Path) -> None:
    run = descend.fit(pictures(shape, ("disc", "square")), out=tmp_path / "run", transfer="head", **QUICK)
    assert augmented_by(run) == ["random_resized_crop", "flip"]
    assert "flip keeps labels here: plain pictures " in run.record.reasons["augment"]


def test_too_few_pictures_are_said_to_be_too_few(tmp_path: Path) -> None:
    images, labels = pictures(shape, ("disc", "square"), n=12)
    run = descend.fit((images, labels), out=tmp_path / "run", transfer="head", **QUICK)
    assert augmented_by(run) == ["random_resized_crop", "flip"]
    assert "too few pictures to measure whether it changes labels" in run.record.reasons["augment"]
