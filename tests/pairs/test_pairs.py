"""Every two of the regularizers, losses, samplers and mixings, together on separable pictures: right, or refused with a reason.

A technique that is right by itself may be wrong with another: class weights with label smoothing once called every picture rare.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from tests.pairs.separable import judged, overlapping, pictures, trained

from descend.augment import Augmentation
from descend.errors import KnobError
from descend.regularize import Regularizer
from descend.technique import build, registered

SUITED = {  # to a network of 8 channels, maps of 4 pixels, batches of 67 and 15 epochs
    "drop_block": "drop_block(size=2)",
    "dropconnect": "dropconnect(per=batch)",
    "early_stopping": "early_stopping(metric=loss)",
    "ghost_batch_norm": "ghost_batch_norm(size=16)",
}
TECHNIQUES = {cls.name: build(SUITED.get(cls.name, cls.name), Regularizer) for cls in registered(Regularizer)}
MIXINGS = {cls.name: cls() for cls in registered(Augmentation) if getattr(cls, "stage", "") == "mix"}
NAMES = sorted({**TECHNIQUES, **MIXINGS})
BALANCING = {"class_weights", "balanced_sampling"}


@cache
def recall(*names: str) -> tuple[float, ...]:
    """The share of each class's new pictures that a network told right which was trained with these techniques."""
    model = trained([TECHNIQUES[name] for name in names if name in TECHNIQUES], [MIXINGS[n] for n in names if n in MIXINGS])
    images, labels = pictures((40, 40, 40), seed=2)
    return tuple(judged(model, images, labels)[0])


def refused(*names: str) -> bool:
    """Whether one of the techniques says that it must not stand beside another."""
    return any(other in getattr(TECHNIQUES.get(name), "not_with", ()) for name in names for other in names)


@pytest.mark.parametrize("name", NAMES)
def test_alone_it_tells_the_common_classes_and_balancing_finds_the_rare_one(name: str) -> None:
    assert min(recall(name)[:2]) >= 0.95
    assert name not in BALANCING or recall(name)[2] >= 0.95


PAIRS = [
    pytest.param(pair, marks=[pytest.mark.slow] if number % 4 and not BALANCING & set(pair) else [])
    for number, pair in enumerate(itertools.combinations(NAMES, 2))
]  # class weights and balanced samples are what others have spoiled; of all other pairs every fourth is tried in the usual run


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "+".join(pair))
def test_together_they_are_as_right_as_each_alone_or_are_refused(pair: tuple[str, str]) -> None:
    if refused(*pair):
        with pytest.raises(KnobError, match=r"must not be combined with .*: .* Keep one of the two"):
            recall(*pair)
        return
    together = recall(*pair)
    assert min(together[:2]) >= 0.95
    assert together[2] >= min(recall(pair[0])[2], recall(pair[1])[2]) - 0.05
    assert not BALANCING & set(pair) or together[2] >= 0.95


@pytest.mark.parametrize("mixing", ["mixup(alpha=1.0)", "cutmix"])
@pytest.mark.parametrize("balancing", sorted(BALANCING))
def test_a_rare_class_that_overlaps_a_common_one_is_found_among_mixed_pictures_too(balancing: str, mixing: str) -> None:
    """The best threshold between the two has recalls of .77; where balancing is undone everything is called common.

    Separable pictures do not see it: they are told apart whatever the classes weigh."""
    model = trained([TECHNIQUES[balancing]], [build(mixing, Augmentation)], draw=overlapping, counts=(570, 12))
    common, rare = judged(model, *overlapping((200, 200), seed=2))[0]
    assert min(common, rare) >= 0.55


def test_there_are_mixings_and_the_pictures_are_separable() -> None:
    """The nearest mean color tells all of them, so that a wrong answer is a fault of the training."""
    assert len(MIXINGS) >= 2
    images, labels = pictures((40, 40, 40), seed=2)
    means = np.stack([images[labels == k].mean((0, 1, 2)) for k in range(3)])
    nearest = ((images.mean((1, 2))[:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == labels).all()
