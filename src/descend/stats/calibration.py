"""How far stated confidence lies from the share that is right, with an interval: the calibration error of a classifier.

    error^2 = sum_b w_b gap_b^2        gap_b = mean confidence - accuracy in bin b, w_b = n_b / n

The usual figure, the expected calibration error sum_b w_b |gap_b|, gets no interval: chance adds to it by an amount that
depends on how the error is shared out among the bins, which is not known, and the bootstrap inherits that bias. What chance adds
to a *square* does not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from descend.errors import DataError
from descend.stats.intervals import Interval, check_level

Floats = NDArray[np.float64]

N_BINS = 15  # of confidence, equally wide: Guo et al. 2017
N_DRAWS = 1000
_HALVINGS = 12
_DOUBLINGS = 12
_SETTLED = 2.0  # standard deviations of the squared error of a calibrated classifier, beyond which tails are equal


def bins_of(confidence: Floats) -> NDArray[np.int64]:
    """Return the bin of each confidence, (n,) in [0, N_BINS)."""
    return np.minimum((confidence * N_BINS).astype(np.int64), N_BINS - 1)


class CalibrationTest:
    """Which calibration errors these answers are likely under: the test that ``calibration_error`` inverts.

    The errors that are tried lie on one line: from perfect calibration (0) through what was observed (1) and beyond, gap_b(t) =
    t * observed gap_b, confidence less gap cut to [0, 1]; for each, answers are drawn anew, right with the accuracy of their bin.
    """

    def __init__(
        self,
        confidence: ArrayLike,
        right: ArrayLike,
        *,
        units: NDArray[np.int64] | None = None,
        level: float = 0.95,
        seed: int = 0,
    ) -> None:
        check_level(level, "calibration_error")
        stated, correct = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
        if stated.ndim != 1 or stated.shape != correct.shape or not stated.size:
            raise DataError("calibration_error", "needs as many confidences as answers, in one row each",
                            got=f"{stated.shape} and {correct.shape}")  # fmt: skip
        if not ((stated >= 0) & (stated <= 1) & np.isin(correct, (0, 1))).all():
            raise DataError("calibration_error", "needs confidence in [0, 1], and right or wrong", got=stated[:8].tolist())
        self.n, self.seed, self.tail = stated.size, seed, (1 - level) / 2
        bins = bins_of(stated)
        counts = np.bincount(bins, minlength=N_BINS)
        filled = counts > 0
        sizes = counts[filled]
        self.stated = np.bincount(bins, weights=stated, minlength=N_BINS)[filled] / sizes
        self.accuracy = np.bincount(bins, weights=correct, minlength=N_BINS)[filled] / sizes
        self.weights, self.gaps = sizes / stated.size, self.stated - self.accuracy
        self.independent = np.maximum(1, np.rint(sizes / _mean_size(units))).astype(np.int64)
        self.square = float(self.weights @ self.gaps**2)
        if not self.gaps.any():  # no direction was observed
            self.gaps = np.ones_like(self.gaps)
        self.perfect = self._squares(self.stated)
        self.settled = _SETTLED * float(np.std(self.perfect))

    @property
    def estimate(self) -> float:
        """The error less what chance alone adds to its square, at least 0. Source: Kumar, Liang & Ma 2019, section 5."""
        shares = np.where(self.independent > 1, self.accuracy, self.stated)
        noise = shares * (1 - shares) / np.maximum(self.independent - 1, 1)
        return math.sqrt(max(0.0, self.square - float(self.weights @ noise)))

    def error(self, t: float) -> float:
        """Return the error at a place on the line."""
        return math.sqrt(float(self.weights @ (self.stated - self._accuracy(t)) ** 2))

    def place(self, error: float, direction: int = 1) -> float | None:
        """Return where on the line an error lies, None where accuracies of 0 and 1 end it before. direction: 1, or -1 back."""
        reach = 1.0
        for _ in range(_DOUBLINGS):
            if self.error(direction * reach) >= error:
                return direction * _halved(lambda t: self.error(direction * t) < error, 0.0, reach, 30)
            reach *= 2
        return None

    def too_large(self, t: float) -> bool:
        """Return whether what was observed is too small for the error at ``t``."""
        below = float((self._squares(self._accuracy(t)) <= self.square * (1 + 1e-12)).mean())
        return below <= self._upper_tail(t)

    def too_small(self, t: float) -> bool:
        """Return whether what was observed is too large for the error at ``t``."""
        squares = self._squares(self._accuracy(t)) if t else self.perfect
        above = float((squares >= self.square * (1 - 1e-12)).mean())
        return above <= 2 * self.tail - self._upper_tail(t)

    def _upper_tail(self, t: float) -> float:
        """Return the share of the two tails that too large an error gets: none at 0, where no error can be too large."""
        square = self.error(t) ** 2
        return self.tail * (min(1.0, square / self.settled) if self.settled else float(square > 0))

    def _accuracy(self, t: float) -> Floats:
        return np.clip(self.stated - t * self.gaps, 0.0, 1.0)

    def _squares(self, accuracy: Floats) -> Floats:
        """Return the squared error of answers drawn anew, (N_DRAWS,)."""
        draw = np.random.default_rng(self.seed)
        right = draw.binomial(self.independent, accuracy, (N_DRAWS, accuracy.size)) / self.independent
        return ((self.stated - right) ** 2) @ self.weights


def calibration_error(
    confidence: ArrayLike, right: ArrayLike, level: float = 0.95, *, units: NDArray[np.int64] | None = None, seed: int = 0
) -> Interval:
    """Return the root mean square calibration error over 15 bins of confidence, with its interval; the mean is free of bias in
    the square.

    confidence: (n,), in [0, 1], of the answer that was given; right: (n,), whether it was right. units: (n,) int64, equal where
    pictures belong together: they count as one. The interval holds the errors that the answers do not contradict: for each,
    answers are drawn anew with the observed gaps stretched to it, and the observed figure must lie between the quantiles of
    theirs. It begins at 0 where nothing contradicts perfect calibration, and bounds the expected calibration error from above,
    which is never larger. Its coverage is measured in ``docs/comparison``: gaps that cancel within a bin are not seen.
    Raises DataError for unlike or no numbers, and for confidences outside [0, 1].
    Source: Chuang & Lai 2000, Statistica Sinica 10, 1-33 (hybrid resampling); Broecker & Smith 2007, Weather and Forecasting 22,
    651-661 (drawing answers from confidences); Neyman 1937 and Feldman & Cousins 1998, Phys. Rev. D 57, 3873 (tails at the
    boundary). Sun et al. 2024, arXiv:2408.08998, argue for the square too.

    >>> import numpy as np
    >>> from descend.stats import calibration_error
    >>> stated = np.linspace(0.6, 1, 500)
    >>> calibration_error(stated, np.arange(500) % 10 < 7).low > 0.05
    True
    """
    test = CalibrationTest(confidence, right, units=units, level=level, seed=seed)
    return Interval(test.estimate, _low(test), _high(test), test.n)


def _low(test: CalibrationTest) -> float:
    """Return the least error that is not too small."""
    if not test.too_small(0.0):
        return 0.0
    return test.error(_halved(test.too_small, 0.0, 1.0, _HALVINGS))


def _high(test: CalibrationTest) -> float:
    """Return the largest error that is not too large; backwards too where the line ends before one is."""
    reached = 0.0
    for direction in (1, -1):
        at = 1.0
        for _ in range(_DOUBLINGS):
            if test.too_large(direction * at):
                place = _halved(lambda t, way=direction: not test.too_large(way * t), 0.0, at, _HALVINGS)
                return max(reached, test.error(direction * place))
            at *= 2
        reached = max(reached, test.error(direction * at))
    return reached


def _halved(is_below: Callable[[float], bool], low: float, high: float, n: int) -> float:
    """Return where ``is_below`` stops being true, to ``high - low`` over 2^n."""
    for _ in range(n):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2


def _mean_size(units: NDArray[np.int64] | None) -> float:
    """Return how many pictures count as one. Source: Kish 1965, Survey Sampling, section 8.2."""
    if units is None:
        return 1.0
    sizes = np.unique(units, return_counts=True)[1].astype(np.float64)
    return float((sizes**2).sum() / sizes.sum())
