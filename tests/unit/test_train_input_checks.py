"""Which pictures a run may show otherwise than its own: what fit told of its own is no matter for doubt."""

from __future__ import annotations

import numpy as np
import pytest

from descend.data.opening import loaded, opened
from descend.train.input_checks import Look, Usual
from descend.train.record import RunRecord
from descend.train.record_types import Preprocessing


def usual(*kinds: str, scale: list[float] | None) -> Usual:
    """Return what the pictures of a run are like of which fit told problems of these kinds."""
    prepared = Preprocessing(
        architecture="", resolution=8, size=8, mean=[], std=[], scale=scale,
        background="white", fit="crop", taps=[], members=[],
    )  # fmt: skip
    return Usual.of(RunRecord(preprocessing=prepared, data={"n": 9, "problems": [{"kind": kind, "n": 1} for kind in kinds]}))


def why(picture: np.ndarray, of: Usual) -> str:
    look = Look(of)
    look.stored(loaded(opened(picture)))
    return look.why


NARROW = np.random.default_rng(0).integers(0, 3000, (16, 16)).astype(np.uint16)
BLANK = np.random.default_rng(0).integers(100, 200, (16, 16)).astype(np.uint16)
HIDDEN = np.full((64, 64, 4), 255, np.uint8)  # white on nothing, with one gray pixel
HIDDEN[..., 3] = 0
HIDDEN[30, 30] = (90, 90, 90, 255)


@pytest.mark.parametrize(
    ("picture", "kind", "told"),
    [(NARROW, "narrow", "less than a tenth"), (BLANK, "blank", "a single color"), (HIDDEN, "blank", "transparent on white")],
)
def test_what_fit_told_of_the_runs_own_pictures_is_no_matter_for_doubt(picture: np.ndarray, kind: str, told: str) -> None:
    other = "blank" if kind == "narrow" else "narrow"
    assert told in why(picture, usual(scale=[0, 65535]))
    assert told in why(picture, usual("scale", other, scale=[0, 65535]))
    assert not why(picture, usual("scale", kind, scale=[0, 65535]))


def test_deep_pictures_that_are_seen_through_are_not_narrow_as_in_fit() -> None:
    colors = np.dstack([NARROW, NARROW, NARROW, np.full_like(NARROW, 65535)])
    assert "less than a tenth" in why(colors, usual(scale=[0, 65535]))
    colors[:8, :, 3] = 0
    assert not why(colors, usual(scale=[0, 65535]))


def test_a_picture_of_eight_bits_is_shown_as_it_is_stored() -> None:
    """A class of empty pictures: fit says nothing of them, either."""
    assert not why(np.full((16, 16, 3), 7, np.uint8), usual(scale=None))
