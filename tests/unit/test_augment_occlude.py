"""Erased boxes: what is painted is what was drawn, and the draws follow the papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from descend.augment import Pipeline

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
