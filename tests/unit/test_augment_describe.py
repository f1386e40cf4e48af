"""What was drawn can be read picture by picture, and its geometry followed in both directions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descend.augment import Pipeline
from descend.errors import DataError

IDS = np.arange(6) * 5 - 7
LIST = ["blur(p=0.5)", "rotate()", "flip()", "flip(axis=vertical)", "elastic()", "hide_and_seek()", "autoaugment()", "mixup()"]
AFFINE = ["flip()", "pad_crop()", "rotate(degrees=170.0)", "shift()", "scale(anisotropic=True)", "shear()", "quarter_turn()"]
RESIZING = ["random_resized_crop()", "center_crop(size=12)", "resize(size=30)"]
GEOMETRY = [*AFFINE, *RESIZING, "perspective(p=0.8)", "elastic(strength=0.02)"]


def test_a_description_holds_what_was_drawn_for_each_picture() -> None:
    draws = Pipeline(LIST).draw(IDS, (20, 24), epoch=0, step=0)
    described = draws.describe()
    assert json.loads(json.dumps(described)) == described
    for k, words in enumerate(described):
        assert words["rotate.degrees"] == pytest.approx(draws.parameters["rotate"]["degrees"][k], rel=1e-3)
        assert words["flip.flipped"] is bool(draws.parameters["flip"]["flipped"][k])
        assert {"flip#2.flipped", "mixup.partner", "mixup.weight"} <= set(words)
        assert words["hide_and_seek.hidden"] == f"{draws.parameters['hide_and_seek']['hidden'][k].sum()} of 16"
        assert words["elastic.shifts"].startswith("2 x 6 x 6 numbers")
        assert len(words["autoaugment.operation"]) == 2
    sigma = draws.parameters["blur"]["sigma"]
    assert 0 < np.isnan(sigma).sum() < len(IDS)
    assert [words["blur.sigma"] is None for words in described] == np.isnan(sigma).tolist()


@given(st.lists(st.sampled_from(GEOMETRY), max_size=5), st.integers(0, 2**40), st.sampled_from([(20, 24), (33, 17)]))
@settings(max_examples=60, deadline=None)
def test_points_go_to_the_source_and_back(specs: list[str], seed: int, source: tuple[int, int]) -> None:
    draws = Pipeline(specs, seed=seed, size=(16, 20)).draw(IDS, source, epoch=0)
    points = np.random.default_rng(seed).uniform(0.5, 15.5, (len(IDS), 9, 2))
    back = draws.to_output(draws.to_source(points))
    assert np.isfinite(back).mean() > 0.9  # a sum of several bends may fold in places
    assert np.nanmax(np.abs(back - points)) < 1e-4


def test_a_pixel_of_the_output_comes_from_where_to_source_says() -> None:
    y, x = np.mgrid[:64, :80]
    ramp = np.repeat(np.stack([2 * x, 3 * y, 0 * x], -1)[None].astype(np.uint8), len(IDS), 0)  # levels tell the position
    pipe = Pipeline(["scale(factor_range=[1.5, 2.0])", "rotate(degrees=20.0)", "elastic(strength=0.01)"], out="uint8")
    draws = pipe.draw(IDS, (64, 80), epoch=0)
    made = pipe.apply(ramp, draws).numpy()
    spots = np.array([(20, 15), (40, 32), (60, 50)])
    found = draws.to_source(np.broadcast_to(spots + 0.5, (len(IDS), 3, 2)))
    expected = (found - 0.5) * (2, 3)
    assert np.abs(made[:, spots[:, 1], spots[:, 0], :2] - expected).max() < 0.6


def test_a_fold_has_no_way_back_and_says_so() -> None:
    draws = Pipeline("elastic(strength=0.5, n_cells=8)").draw(IDS, (32, 32), epoch=0)
    points = np.random.default_rng(0).uniform(0, 32, (len(IDS), 50, 2))
    back = draws.to_output(draws.to_source(points))
    assert np.isnan(back).any()
    reached = np.isfinite(back).all(-1)
    assert np.allclose(draws.to_source(np.nan_to_num(back))[reached], draws.to_source(points)[reached], atol=1e-4)


def test_a_flattening_geometry_is_refused() -> None:
    draws = Pipeline([]).draw(IDS, (8, 8), epoch=0)
    flat = draws.warp(np.diag([1.0, 0.0, 1.0]))
    with pytest.raises(DataError, match="no inverse"):
        flat.to_output(np.zeros((len(IDS), 1, 2)))
