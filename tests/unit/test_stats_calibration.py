"""The calibration error and its interval, against the sums written anew, SciPy's binomial, and worlds whose error is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from descend.errors import DataError
from descend.stats import calibration_error
from descend.stats.calibration import CalibrationTest

Floats = NDArray[np.float64]


def answers(n: int, over: float, seed: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Return confidences (n,) and which answers are right, less often by ``over`` than stated."""
    draw = np.random.default_rng(seed)
    stated = 0.5 + 0.5 * draw.beta(3, 1.5, n)
    return stated, draw.random(n) < stated - over


def test_the_error_is_the_root_of_the_mean_square_gap_less_its_noise() -> None:
    stated, right = answers(400, 0.2, 0)
    square = noise = 0.0
    for low in range(15):
        inside = (stated >= low / 15) & (stated < (low + 1) / 15)
        if inside.any():
            share, n = right[inside].mean(), int(inside.sum())
            square += n / 400 * (stated[inside].mean() - share) ** 2
            noise += n / 400 * (share * (1 - share) / (n - 1) if n > 1 else stated[inside][0] * (1 - stated[inside][0]))
    assert calibration_error(stated, right).mean == pytest.approx((square - noise) ** 0.5, abs=1e-12)


def test_in_one_bin_the_ends_are_those_of_binomial_tests() -> None:
    stated, right = np.full(100, 0.9), np.arange(100) < 70
    found = calibration_error(stated, right)
    assert 0 < found.low < 0.2 < found.high
    assert stats.binom.cdf(70, 100, 0.9 - found.low) == pytest.approx(0.025, abs=0.012)
    assert stats.binom.sf(69, 100, 0.9 - found.high) == pytest.approx(0.025, abs=0.012)


@pytest.mark.parametrize("over", [0.0, 0.1])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(over: float) -> None:
    inside = 0
    for seed in range(25):
        found = calibration_error(*answers(300, over, seed), seed=seed)
        inside += found.low <= over <= found.high
    assert inside >= 20  # at a coverage of 0.95, fewer come once in 1,000


def test_the_ends_are_where_the_test_begins_to_refuse() -> None:
    stated, right = answers(500, 0.12, 3)
    found, test = calibration_error(stated, right), CalibrationTest(stated, right)
    for error, refused in ((found.low * 0.97, "small"), (found.high * 1.03, "large")):
        place = test.place(error)
        assert place is not None
        assert test.error(place) == pytest.approx(error, rel=1e-6)
        assert test.too_small(place) is (refused == "small")
        assert test.too_large(place) is (refused == "large")


def test_few_answers_that_are_all_right_leave_room_for_overconfidence() -> None:
    found = calibration_error(np.full(20, 0.99), np.ones(20, bool))
    assert found.low == 0
    assert found.high > 0.1  # 0.86 to the 20th power is 5 %
    one = calibration_error([0.6], [True])
    assert (one.low, one.n) == (0, 1)
    assert one.high > 0.4
    assert calibration_error([1.0, 1.0], [True, True]).low == 0


def test_pictures_that_belong_together_are_one_piece_of_evidence() -> None:
    stated, right = answers(100, 0.2, 1)
    alone = calibration_error(stated, right)
    ten = np.repeat(np.arange(100), 10)
    together = calibration_error(stated[ten], right[ten], units=ten)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    assert calibration_error(stated[ten], right[ten]).high < alone.high


@pytest.mark.parametrize(
    ("stated", "right"), [([], []), ([0.5], [1, 0]), ([1.2], [1]), ([np.nan], [1]), ([0.5], [2]), ([[0.5]], [[1]])]
)
def test_what_cannot_be_judged_is_refused(stated: list[float], right: list[float]) -> None:
    with pytest.raises(DataError, match="calibration_error: needs"):
        calibration_error(stated, right)
    with pytest.raises(DataError, match="level must lie"):
        calibration_error([0.5], [1], level=1)
