"""Perspective, elastic bending and quarter turns."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.interpolate import BSpline

from descend.augment import Pipeline
from descend.augment.projection import spline

IMAGES = np.stack(
    [cv2.GaussianBlur(p, (0, 0), 2) for p in np.random.default_rng(1).integers(0, 256, (12, 48, 48, 3), dtype=np.uint8)]
)
IDS = np.arange(12)


def test_quarter_turns_are_numpys_to_the_bit() -> None:
    pipe = Pipeline("quarter_turn()", out="uint8")
    draws = pipe.draw(IDS, (48, 48), epoch=0)
    degrees = draws.parameters["quarter_turn"]["degrees"].astype(int)
    assert draws.copies.all()
    assert set(degrees) == {0, 90, 180, 270}
    for picture, out, angle in zip(IMAGES, pipe.apply(IMAGES, draws).numpy(), degrees, strict=True):
        assert np.array_equal(out, np.rot90(picture, angle // 90))


def test_a_quarter_turn_after_a_crop_and_a_flip_still_copies() -> None:
    pipe = Pipeline(["quarter_turn()", "flip()", "pad_crop()", "flip(axis=vertical)"], out="uint8", size=40)
    assert pipe.draw(IDS, (48, 48), epoch=0).copies.all()


def test_perspective_is_opencvs_warp() -> None:
    pipe = Pipeline("perspective(p=1.0, distortion=0.4)", out="uint8")
    draws = pipe.draw(IDS, (48, 48), epoch=0)
    start = np.array([(0, 0), (48, 0), (48, 48), (0, 48)], np.float32)
    center = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV puts pixel centers at whole numbers
    for k, out in enumerate(pipe.apply(IMAGES, draws).numpy()):
        corners = draws.parameters["perspective"]["corners"][k]
        matrix = np.linalg.inv(center) @ cv2.getPerspectiveTransform(start, corners.astype(np.float32)) @ center
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected = cv2.warpPerspective(IMAGES[k], matrix, (48, 48), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        assert np.abs(out.astype(int) - expected).max() <= 2
        assert (corners >= 0).all()
        assert (corners <= 48).all()


def test_the_spline_basis_is_scipys() -> None:
    at = (np.arange(40) + 0.5) / 10
    basis = spline(at / 4, 7)  # four cells
    knots = np.arange(-3, 8)
    assert np.allclose(basis, BSpline.design_matrix(at, knots.astype(float), 3).toarray())
    assert np.allclose(basis.sum(1), 1)


def test_elastic_moves_pixels_by_the_spline_of_its_control_points() -> None:
    pipe = Pipeline("elastic(strength=0.05)", out="uint8")
    draws = pipe.draw(IDS, (48, 48), epoch=0)
    shifts = draws.shifts
    assert shifts is not None
    y, x = np.mgrid[:48, :48].astype(np.float32)
    for k, out in enumerate(pipe.apply(IMAGES, draws).numpy()):
        expected = cv2.remap(IMAGES[k], x + shifts[k, 0], y + shifts[k, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        assert np.abs(out.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    "spec", ["perspective(distortion=0.0)", "perspective(p=0.0)", "elastic(strength=0.0)", "quarter_turn(p=0.0)"]
)
def test_magnitude_zero_is_the_identity_to_the_bit(spec: str) -> None:
    assert np.array_equal(Pipeline(spec, out="uint8")(IMAGES, ids=IDS, epoch=0).numpy(), IMAGES)
