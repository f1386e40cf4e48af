"""Erased boxes: what is painted is what was drawn, and the draws follow the papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2 as tv

from descend.augment import Pipeline, fused
from descend.augment import apply as meaning

IMAGES = np.random.default_rng(3).integers(1, 255, (10, 20, 30, 3), dtype=np.uint8)
IDS = np.arange(50, 60)


@pytest.mark.parametrize("fill", ["mean", "black", "color"])
def test_random_erasing_paints_its_box_and_nothing_else(fill: str) -> None:
    pipe = Pipeline(f"random_erasing(p=0.7, fill={fill})", out="uint8", mean=(0.2, 0.4, 0.6))
    draws = pipe.draw(IDS, (20, 30), epoch=0)
    made = pipe.apply(IMAGES, draws).numpy()
    drawn = {name: np.nan_to_num(values).astype(int) for name, values in draws.parameters["random_erasing"].items()}
    assert 0 < drawn["erased"].sum() < 10
    for k in range(10):
        box = np.zeros((20, 30), bool)
        top, left = drawn["top"][k], drawn["left"][k]
        box[top : top + drawn["height"][k], left : left + drawn["width"][k]] = True
        assert box.any() == drawn["erased"][k]
        assert np.array_equal(made[k][~box], IMAGES[k][~box])
        assert len(np.unique(made[k][box], axis=0)) == box.any()
        if fill != "color" and box.any():
            assert made[k][box][0].tolist() == ([51, 102, 153] if fill == "mean" else [0, 0, 0])


def test_mean_is_zero_after_normalisation() -> None:
    made = Pipeline("cutout()")(IMAGES, ids=IDS, epoch=0)
    assert ((made.abs() < 1e-6).all(1).flatten(1).sum(1) > 20).all()


def test_erased_area_and_frequency_follow_the_paper() -> None:
    draws = Pipeline("random_erasing(p=0.25, area_range=[0.05, 0.2], ratio_range=[0.5, 2.0])").draw(
        np.arange(8000), (200, 200), epoch=0
    )
    drawn = draws.parameters["random_erasing"]
    erased = drawn["erased"].astype(bool)
    assert stats.binomtest(int(erased.sum()), 8000, 0.25).pvalue > 1e-3
    area = (drawn["height"] * drawn["width"])[erased] / 40000
    assert stats.kstest(area, stats.uniform(0.05, 0.15).cdf).pvalue > 1e-3


def test_cutout_squares_hang_over_the_border_and_keep_their_side_inside() -> None:
    draws = Pipeline("cutout(fraction=0.5)").draw(np.arange(2000), (32, 32), epoch=0)
    assert draws.boxes is not None
    height = draws.boxes[:, 0, 1] - draws.boxes[:, 0, 0]
    assert height.max() == 16
    assert 7 <= height.min() < 16
    assert (draws.boxes >= 0).all()
    assert (draws.boxes <= 32).all()


def test_probability_zero_is_the_identity_to_the_bit() -> None:
    for spec in ("random_erasing(p=0.0)", "cutout(p=0.0)"):
        made = Pipeline(spec, out="uint8")(IMAGES, ids=IDS, epoch=0)
        assert torch.equal(made, torch.from_numpy(IMAGES))


def hidden(spec: str, n: int = 400, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Where a white picture was painted black: (n, h, w) bool."""
    white = np.full((n, *size, 3), 255, np.uint8)
    return Pipeline(spec, out="uint8", mean=(0.0, 0.0, 0.0))(white, ids=np.arange(n), epoch=0).numpy()[..., 0] == 0


def test_hide_and_seek_hides_whole_patches_independently() -> None:
    seen = hidden("hide_and_seek(n_cells=4, p_hide=0.3)")
    patches = seen.reshape(400, 4, 16, 4, 16)
    share = patches.mean((2, 4))
    assert np.isin(share, (0.0, 1.0)).all()
    assert stats.binomtest(int(share.sum()), 6400, 0.3).pvalue > 1e-3
    assert stats.kstest(share.sum((1, 2)) + np.random.default_rng(0).uniform(-0.5, 0.5, 400),
                        stats.norm(16 * 0.3, np.sqrt(16 * 0.21)).cdf).pvalue > 1e-4  # fmt: skip


def test_hide_and_seek_covers_pictures_that_do_not_divide() -> None:
    assert hidden("hide_and_seek(n_cells=3, p_hide=1.0)", 2, (10, 11)).all()


def test_grid_mask_hides_the_published_share_evenly() -> None:
    seen = hidden("grid_mask(p=1.0, period_range=[0.25, 0.25], hide_ratio=0.5)")
    assert abs(seen.mean() - 0.25) < 0.02  # the squares cover hide_ratio squared
    assert np.abs(seen.mean(0) - 0.25).max() < 0.12
    for mask in seen[:20]:  # the lattice repeats with its period
        assert np.array_equal(mask[:48, :48], mask[16:, 16:])


def test_coarse_dropout_paints_the_holes_it_notes() -> None:
    pipe = Pipeline("coarse_dropout(n_holes=5, side_range=[0.1, 0.2])")
    holes = pipe.draw(np.arange(300), (50, 100), epoch=0).parameters["coarse_dropout"]["holes"]
    assert holes.shape == (300, 5, 4)
    height, width = holes[..., 1] - holes[..., 0], holes[..., 3] - holes[..., 2]
    assert height.min() >= 5
    assert height.max() <= 10
    assert width.min() >= 10
    assert width.max() <= 20
    assert (hidden("coarse_dropout(n_holes=1)", 50).sum((1, 2)) > 0).all()


# --------------------------------------------------------------------------------------------------------- noisy fills

NOISY = ["random_erasing(p=1.0, fill=noise, area_range=[0.2, 0.3])", "cutout(fill=noise)", "coarse_dropout(fill=noise)"]


@pytest.mark.parametrize("spec", NOISY)
def test_noise_fills_as_torchvision_and_timm_do_with_a_standard_normal_number_per_value(spec: str) -> None:
    """The law of torchvision's `RandomErasing(value="random")`, which works on normalized pictures too."""
    pipe = Pipeline(spec, mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.3))
    draws = pipe.draw(IDS, (20, 30), epoch=0)
    made, plain = pipe.apply(IMAGES, draws), Pipeline([], mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.3))(IMAGES, ids=IDS, epoch=0)
    assert draws.boxes is not None
    for k, boxes in enumerate(draws.boxes):
        inside = np.zeros((20, 30), bool)
        for top, bottom, left, right in boxes:
            inside[top:bottom, left:right] = True
        assert torch.equal(made[k][:, ~inside], plain[k][:, ~inside])
    drawn = made[made != plain].numpy()
    theirs = tv.RandomErasing(p=1.0, scale=(0.3, 0.3), value="random")(torch.zeros(3, 100, 100))
    assert stats.ks_2samp(drawn, theirs[theirs != 0].numpy()).pvalue > 1e-3
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert len(np.unique(drawn)) > 0.99 * drawn.size  # every value has a number of its own


def test_noise_can_be_replayed_and_differs_by_picture_epoch_and_transform() -> None:
    pipe = Pipeline(["cutout(fraction=1.0, fill=noise)"], seed=3)
    draws = pipe.draw(IDS, (20, 30), epoch=0)
    made = pipe.apply(IMAGES, draws)
    assert torch.equal(made, pipe.apply(IMAGES, draws))
    assert torch.equal(made[4:6], pipe(IMAGES[4:6], ids=IDS[4:6], epoch=0))
    assert not torch.isclose(made[0], made[1]).any(0).all()
    others = [pipe(IMAGES, ids=IDS, epoch=1), Pipeline(["cutout(fraction=1.0, fill=noise)"], seed=4)(IMAGES, ids=IDS, epoch=0)]
    assert all((made == other).double().mean() < 0.9 for other in others)


def test_noise_among_levels_has_the_mean_and_spread_of_normalization_and_is_clamped() -> None:
    spec = "random_erasing(p=1.0, fill=noise, area_range=[0.5, 0.5])"
    pipe = Pipeline(spec, out="uint8", mean=(0.1, 0.5, 0.9), std=(0.2, 0.1, 0.2))
    draws = pipe.draw(np.arange(40), (64, 64), epoch=0)
    made = pipe.apply(np.zeros((40, 64, 64, 3), np.uint8), draws).numpy()
    assert draws.boxes is not None
    for c, (mean, std) in enumerate(((0.1, 0.2), (0.5, 0.1), (0.9, 0.2))):
        values = np.concatenate([image[t:b, x:r, c].ravel() for image, ((t, b, x, r),) in zip(made, draws.boxes, strict=True)])
        expected = np.clip(stats.norm(255 * mean, 255 * std).ppf((np.arange(9999) + 0.5) / 9999), 0, 255)
        assert abs(values.mean() - expected.mean()) < 1
        assert abs(values.std() - expected.std()) < 1


@pytest.mark.parametrize("spec", [*NOISY, "grid_mask(p=1.0)"])
def test_the_kernel_paints_what_the_meaning_paints(spec: str) -> None:
    specs = [spec, "random_erasing(p=1.0, fill=color)", "random_erasing(p=1.0, fill=noise)", "gaussian_noise()", "mixup()"]
    draws = Pipeline(specs).draw(IDS, (20, 30), epoch=0, step=0)
    mean, std = torch.tensor([10.0, 20.0, 30.0]), torch.tensor([5.0, 50.0, 70.0])
    plain = meaning.levels(torch.from_numpy(IMAGES), draws, mean, std)
    fast = fused.levels(torch.from_numpy(IMAGES), draws, mean, std, torch.ones(3), torch.zeros(3))
    assert (plain - fast).abs().max() < 0.01
