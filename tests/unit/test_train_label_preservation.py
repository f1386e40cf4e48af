"""Which plans have their augmentation measured, and what their recipe says until then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from descend.augment import expand
from descend.train.label_preservation import changes_seen, measured_view, until_measured
from descend.train.plan import DataProfile, Plan
from descend.train.recipe import Recipe
from descend.train.resolve import resolve

PHOTOS = DataProfile("photos", n_train=245, n_classes=2, side=375, gray=False)
DIGITS = DataProfile("digits", n_train=1257, n_classes=10, side=8, gray=True)
SMALL = DataProfile("tiny", n_train=500, n_classes=2, side=24, gray=False)


def planned(recipe: Recipe, data: DataProfile = PHOTOS) -> Plan:
    """Return the plan as it is before the measurement."""
    return until_measured(resolve(recipe, data), recipe)


@pytest.mark.parametrize(("asked", "written"), [(None, None), (("auto",), ("auto",))])
def test_until_it_is_measured_the_recipe_leaves_a_default_open(
    asked: tuple[str, ...] | None, written: tuple[str, ...] | None
) -> None:
    plan = planned(Recipe(transfer="finetune", augment=asked))
    assert "augment" in plan.open_settings
    assert plan.recipe().augment == written
    assert any(item.name == "flip" for item in plan.augment)


@pytest.mark.parametrize(
    ("recipe", "data"),
    [
        (Recipe(transfer="finetune", augment=("flip",)), PHOTOS),
        (Recipe(transfer="finetune", augment=()), PHOTOS),
        (Recipe(transfer="features"), PHOTOS),
        (Recipe(transfer="scratch"), DIGITS),
        (Recipe(transfer="scratch"), SMALL),
    ],
    ids=["named", "none", "plain views", "not mirrored", "too small to be seen"],
)
def test_what_was_named_or_cannot_change_labels_is_not_measured(recipe: Recipe, data: DataProfile) -> None:
    plan = planned(recipe, data)
    assert not plan.open_settings
    assert plan.recipe().augment is not None


def test_views_are_plain_and_transformed_and_large_enough_to_be_read() -> None:
    images = np.zeros((2, 48, 48, 3), np.uint8)
    images[:, :, :24] = 200
    view = measured_view(expand("flip(p=1.0)")[0], seed=0, size=48, side=96)
    plain, mirrored = (view(images, np.arange(2), draw) for draw in (0, 1))
    assert plain.shape == mirrored.shape == (2, 96, 96, 3)
    assert torch.equal(torch.from_numpy(plain).flip(2), torch.from_numpy(mirrored))
    assert plain[0, 0, 10, 0] == 200


WIDTHS = {"a/quarters": 8, "a": 2, "b": 3, "c": 4, "d": 5, "last": 6}


@pytest.mark.parametrize(
    "taps", [("b", "c"), ("a/quarters", "a", "b", "c", "d")], ids=["tapped for this", "all that heads may read"]
)
def test_middle_stages_and_the_last_are_asked_apart_whatever_else_is_tapped(taps: tuple[str, ...]) -> None:
    """What the middle stages alone see exchanged is seen there alone: the columns are those of b and c, then the last."""
    network: Any = SimpleNamespace(
        late_stages=("a", "b", "c", "d"), n_columns=lambda taps: sum(WIDTHS[tap] for tap in taps) + WIDTHS["last"]
    )
    labels = np.arange(80) % 2
    blocks, noise = list[np.ndarray](), np.random.default_rng(0)
    for tap in (*taps, "last"):
        both = noise.normal(0, 0.1, (80, 2, WIDTHS[tap])) + (labels[:, None, None] if tap in ("b", "c", "last") else 0)
        blocks.append(np.stack([both[:, 0], 1 - both[:, 1]], 1) if tap in ("b", "c") else both)
    features = np.concatenate(blocks, 2).astype(np.float32)
    middle, last = changes_seen(features, network, taps, labels, units=np.arange(80), seed=0)
    assert middle.exchanges
    assert middle.accuracy_plain == last.accuracy_plain == last.accuracy_transformed == 1.0
    assert not last.harmful
    network.late_stages = ()
    (alone,) = changes_seen(features, network, taps, labels, units=np.arange(80), seed=0)
    assert not alone.harmful
    assert list(changes_seen(features[:6], network, taps, labels[:6], units=np.arange(6), seed=0)) == []
