"""Test-time augmentation: views against the plain pipeline and against torchvision, their randomness, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from descend import augment
from descend.augment import Pipeline
from descend.errors import DataError, DescendError, KnobError, SpecError

IMAGES = np.random.default_rng(3).integers(0, 256, (6, 30, 34, 3), dtype=np.uint8)
IDS = np.arange(6) * 7 - 9


def in_levels(spec: str, size: tuple[int, int] | None = None) -> augment.TestTime:
    """Views whose values are levels / 255."""
    return augment.TestTime(spec, size=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def stacked(tta: augment.TestTime, images: np.ndarray = IMAGES, ids: np.ndarray = IDS) -> torch.Tensor:
    """Return the views as one tensor (n_views, B, 3, h, w)."""
    return torch.stack(list(tta.views(images, ids)))


@pytest.mark.parametrize("size", [24, (21, 24), None])
def test_flip_is_the_plain_view_and_its_mirror_image_to_the_bit(size: int | tuple[int, int] | None) -> None:
    plain = Pipeline([], size=size)(IMAGES, ids=IDS, epoch=0)
    views = stacked(augment.TestTime("flip", size=size))
    assert torch.equal(views[0], plain)
    assert torch.equal(views[1], plain.flip(-1))


def test_flip_of_pictures_that_are_enlarged_agrees_but_for_rounding() -> None:
    views = stacked(augment.TestTime("flip", size=48))
    assert torch.allclose(views[1], views[0].flip(-1), atol=1e-5)


@pytest.mark.parametrize("size", [(20, 22), (26, 34)])  # margins whose halves torchvision does not round
def test_ten_crop_is_that_of_torchvision(size: tuple[int, int]) -> None:
    pictures = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    theirs = F.ten_crop(pictures, list(size))
    ours = stacked(in_levels("ten_crop", size))
    for view, place in enumerate((0, 1, 2, 3, 4, 6, 5, 8, 7, 9)):  # theirs: the corners of the mirrored picture
        assert torch.equal((255 * ours[view]).round().to(torch.uint8), theirs[place]), view


def test_five_crop_reaches_the_corners_over_odd_margins_and_keeps_the_plain_middle() -> None:
    views = (255 * stacked(in_levels("five_crop", (23, 25)))).round().to(torch.uint8)
    pictures = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    corners = [pictures[..., :23, :25], pictures[..., :23, -25:], pictures[..., -23:, :25], pictures[..., -23:, -25:]]
    for view, corner in enumerate(corners):
        assert torch.equal(views[view], corner)
    assert torch.equal(views[4], Pipeline([], size=(23, 25), out="uint8")(IMAGES, ids=IDS, epoch=0).permute(0, 3, 1, 2))


def test_crops_of_pictures_without_a_margin_are_refused() -> None:
    for size in (None, (30, 34), 32):
        with pytest.raises(DataError, match="larger than that"):
            augment.TestTime("ten_crop", size=size).views(IMAGES, IDS)


def test_random_views_are_those_of_the_runs_own_augmentation_without_mixing() -> None:
    own = ["random_resized_crop()", "flip()", "mixup()"]
    views = stacked(augment.TestTime("views(k=3)", seed=5, size=24, augment=own))
    named = stacked(augment.TestTime("views(random_resized_crop(), flip(), k=3)", seed=5, size=24))
    assert torch.equal(views, named)
    assert not torch.equal(views[0], views[1])


def test_of_a_choice_between_mixing_and_something_else_the_mixing_alone_is_left_out() -> None:
    own = ["one_of(mixup(), flip(p=1.0))", "one_of(mixup(), cutmix())"]
    plain = 255 * Pipeline([], size=24, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))(IMAGES, ids=IDS, epoch=0)
    views = augment.TestTime("views(k=6)", size=24, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), augment=own).views(IMAGES, IDS)
    n_mirrored = 0
    for view in views:
        for one, picture in zip(255 * view, plain, strict=True):
            mirrored = torch.allclose(one, picture.flip(2), atol=1e-3)
            n_mirrored += mirrored
            assert mirrored or torch.allclose(one, picture, atol=1e-3), "where mixing was drawn, the picture stays"
    assert 0 < n_mirrored < 36
    with pytest.raises(KnobError, match="trained without any"):
        augment.TestTime("views(k=2)", augment=own[1:])


def test_constants_of_a_run_that_normalizes_by_its_own_do_not_keep_its_levels_from_being_viewed() -> None:
    own = ["flip()", "normalize(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))"]
    levels = list(augment.TestTime("views(k=2)", size=24, out="uint8", augment=own).views(IMAGES, IDS))
    plain = list(augment.TestTime("views(k=2)", size=24, out="uint8", augment=own[:1]).views(IMAGES, IDS))
    assert all(map(torch.equal, levels, plain))
    alone, asked = augment.TestTime("views()", augment=own), augment.TestTime("views()", augment=own[:1])
    assert not torch.equal(stacked(alone), stacked(asked)), "as floats they are normalized by these constants"


def test_a_view_is_a_function_of_seed_id_and_number() -> None:
    def tta(k: int, seed: int = 2) -> augment.TestTime:
        return augment.TestTime(f"views(rotate(), k={k})", seed=seed, size=24)

    views, order = stacked(tta(4)), [4, 0, 2]
    assert torch.equal(stacked(tta(2), IMAGES[order], IDS[order]), views[:2, order])
    assert not torch.equal(stacked(tta(4, seed=3)), views)
    assert not torch.equal(stacked(tta(4), ids=IDS + 1), views)


def test_random_views_are_drawn_apart_from_the_training() -> None:
    trained_on = Pipeline(["rotate()"], seed=2)(IMAGES, ids=IDS, epoch=0)
    assert not torch.equal(stacked(augment.TestTime("views(rotate(), k=1)", seed=2))[0], trained_on)


def test_the_constants_of_normalization_are_used() -> None:
    levels = stacked(in_levels("flip"))
    views = stacked(augment.TestTime("flip", mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0)))
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.5, 0.25, 0.0), (0.5, 1.0, 2.0)))
    assert torch.allclose(views, (levels - mean) / std, atol=1e-6)


def test_bad_input_is_explained() -> None:
    cases: list[tuple[type[DescendError], str, str]] = [
        (SpecError, "ten_crops", "ten_crop"),
        (SpecError, "rotate()", "tta"),
        (KnobError, "views(k=0)", "k must be"),
        (KnobError, "views(mixup(), k=2)", "must not mix"),
        (KnobError, "views(k=2)", "trained without any"),
    ]
    for kind, spec, words in cases:
        with pytest.raises(kind, match=words):
            augment.TestTime(spec, size=24)
    with pytest.raises(KnobError, match="trained without any"):
        augment.TestTime("views()", augment=["mixup()", "normalize()"])
    tta = augment.TestTime("flip", size=24)
    with pytest.raises(DataError, match="uint8"):
        tta.views(torch.from_numpy(IMAGES).float(), IDS)
    with pytest.raises(DataError, match="ids"):
        tta.views(IMAGES, IDS[:2])
