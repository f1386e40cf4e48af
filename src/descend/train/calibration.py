"""Confidences that mean what they say: one temperature, fitted on validation, and how well confidence and accuracy agree.

    q_k = p_k^(1/T) / sum_j p_j^(1/T)        the softmax of the logits divided by T
    T   = argmin  sum_i w_i -log q_i[y_i]  +  (log T)^2 / (2 SPREAD^2)

The order of the classes stays as it is, so accuracy does not change. *Differs from the paper* by the second term, a prior that
T is near 1: validation pictures that are few, or all answered right, would otherwise ask for endless confidence.
Source: Guo et al. 2017, arXiv:1706.04599, sections 2 and 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy
from numpy.typing import NDArray

from descend import rng
from descend.stats.calibration import N_BINS, bins_of, calibration_error
from descend.train.record_types import Reliability

Floats = NDArray[np.float32]

SPREAD = 0.5  # of log T before any picture is seen
BOUNDS = (0.1, 10.0)  # of T
N_FOLDS = 5  # of cross-fitting
N_THRESHOLDS = 101  # of confidence, 0.00 to 1.00
FEWEST_WRONG = 3  # answers, below which thresholds cannot be told apart


def calibrated(probabilities: Floats, temperature: float) -> Floats:
    """Return the probabilities (n, K) at a temperature, float32; as they are at 1."""
    if temperature == 1.0:
        return probabilities
    logits = _logits(probabilities) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def fit_temperature(probabilities: Floats, labels: NDArray[np.int64], *, weights: NDArray[np.float64] | None = None) -> float:
    """Return the temperature T for probabilities (n, K) and labels (n,). weights: of the pictures, (n,); default 1 each.

    Of several views, (n, V, K), each is divided by T before they are averaged.
    """
    if not len(labels):
        return 1.0
    logits, rows = _logits(probabilities.reshape(len(labels), -1, probabilities.shape[-1])), np.arange(len(labels))
    counted = np.ones(len(labels)) if weights is None else weights

    def loss(log_t: float) -> float:
        scaled = logits / math.exp(log_t)
        peak = scaled.max(2)  # SciPy's logsumexp takes three times as long
        log_p = scaled[rows, :, labels] - peak - np.log(np.exp(scaled - peak[:, :, None]).sum(2))  # (n, V)
        nats = math.log(log_p.shape[1]) - np.logaddexp.reduce(log_p, 1)
        return float(counted @ nats) + log_t**2 / (2 * SPREAD**2)

    low, high = map(math.log, BOUNDS)
    best = scipy.optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(f"{math.exp(best.x):.6g}")


def _logits(probabilities: Floats) -> NDArray[np.float64]:
    """Return log probabilities, which are logits but for a constant per row; zeros count as the smallest float32."""
    return np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny))


def reliability(
    probabilities: Floats, labels: NDArray[np.int64], *, units: NDArray[np.int64] | None = None, seed: int = 0
) -> Reliability:
    """Return how far confidence and accuracy are apart, over 15 bins of confidence: (n, K) probabilities, (n,) labels.

        ECE = sum_b n_b / n |accuracy_b - confidence_b|

    The interval is that of the root mean square of the same gaps, which is as large or larger (``stats.calibration_error``); no
    interval of the ECE itself covers it as often as it says.
    units: (n,) int64, equal where pictures belong together; they are one piece of evidence.
    Source: Guo et al. 2017, equation 3.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    bins = bins_of(confidence)
    counts = np.bincount(bins, minlength=N_BINS)
    shown = [
        [int(counts[b]), float(confidence[bins == b].mean()), float(right[bins == b].mean())] for b in np.flatnonzero(counts)
    ]
    ece = sum(n * abs(accuracy - stated) for n, stated, accuracy in shown) / len(labels)
    rms = calibration_error(np.clip(confidence, 0, 1), right, units=units, seed=rng.integer_seed(seed, "calibration"))
    return Reliability(ece=ece, rms_error=rms.mean, rms_interval=[rms.low, rms.high], bins=shown)


def cross_fitted(
    probabilities: Floats, labels: NDArray[np.int64], *, units: NDArray[np.int64] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Floats:  # fmt: skip
    """Return the probabilities (n, K) at temperatures that were fitted without them: in N_FOLDS parts, units whole.

    What a temperature does to the pictures that it was fitted on flatters it; this is what it does to others.
    """
    part = np.arange(len(labels)) if units is None else np.unique(units, return_inverse=True)[1]
    part = part % N_FOLDS
    answers = probabilities.copy()
    for fold in np.unique(part):
        others = part != fold
        shares = None if weights is None else weights[others]
        temperature = fit_temperature(probabilities[others], labels[others], weights=shares)
        answers[~others] = calibrated(probabilities[~others], temperature)
    return answers


def coverage(probabilities: Floats, labels: NDArray[np.int64]) -> list[list[int]]:
    """Return, for each confidence 0.00, 0.01, ..., 1.00, how many answers reach it, and how many of those are right."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    reached = [confidence >= np.float32(step / (N_THRESHOLDS - 1)) for step in range(N_THRESHOLDS)]
    return [[int(sure.sum()), int((sure & right).sum())] for sure in reached]


def suggested_threshold(curve: Sequence[Sequence[int]]) -> float | None:
    """Return the least confidence that halves the share of wrong answers and leaves more than half of the answers, or None.

    curve: as ``coverage`` returns it. None also where fewer than ``FEWEST_WRONG`` answers are wrong.
    """
    if not curve or curve[0][0] - curve[0][1] < FEWEST_WRONG:
        return None
    n, right = curve[0]
    for step, (reached, still) in enumerate(curve[:-1]):
        if n > reached > n / 2 and 2 * (reached - still) * n <= (n - right) * reached:
            return step / (len(curve) - 1)
    return None
