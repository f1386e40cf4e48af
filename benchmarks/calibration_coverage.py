"""Classifiers whose calibration error is known, simulated: how often the interval that a run's record holds covers it.

Claim: of 1,000 sets of answers per setting, the interval of ``descend.stats.calibration_error`` at 95 % covers the true root mean
square error in 93 to 97 %, but for sets of 60 answers, where a few wrong answers are all there is to see.

A world has confidences that are *sure* (mean 0.96), *middling* (0.87) or *unsure* (0.6), and a true accuracy at each confidence:
as stated; lower by 0.02 or 0.15; higher by 0.05; lower by 0.08 above 0.9 only; a power of it.
The truth is that of 400,000 pictures. Beside it stands what was printed before: the expected calibration error with the basic
bootstrap's interval, 250 sets, 400 resamples of (bin, right) counts.

    python benchmarks/calibration_coverage.py --draws 1000
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.stats.calibration import N_BINS, CalibrationTest, bins_of
from harness import save

Floats = NDArray[np.float64]
SURE = {"sure": (12.0, 0.6), "middling": (6.0, 1.2), "unsure": (2.0, 2.0)}
N_PICTURES = (60, 300, 2000)
ERRORS = ("none", "over by 0.02", "over by 0.15", "under by 0.05", "above 0.9 only", "a power")
LEAST = 300  # pictures from which on the claim holds


def confidences(draw: np.random.Generator, n: int, sure: str) -> Floats:
    """Return what a classifier says of its answers, (n,)."""
    return np.clip(0.2 + 0.8 * draw.beta(*SURE[sure], n), 0, 0.999)


def accuracy(stated: Floats, error: str) -> Floats:
    """Return the share that is right at each confidence."""
    ways = {
        "none": stated, "over by 0.02": stated - 0.02, "over by 0.15": stated - 0.15,
        "under by 0.05": stated + 0.05, "above 0.9 only": np.where(stated > 0.9, stated - 0.08, stated), "a power": stated**1.5,
    }  # fmt: skip
    return np.clip(ways[error], 0, 1)


def truths(sure: str, error: str) -> tuple[float, float]:
    """Return the root mean square and the expected calibration error over all pictures there could be."""
    stated = confidences(np.random.default_rng(1), 400_000, sure)
    counts = np.bincount(bins_of(stated), minlength=N_BINS)
    gaps = np.bincount(bins_of(stated), weights=stated - accuracy(stated, error), minlength=N_BINS) / np.maximum(counts, 1)
    weights = counts / counts.sum()
    return float((weights @ gaps**2) ** 0.5), float(weights @ np.abs(gaps))


def verdict(test: CalibrationTest, truth: float) -> str:
    """Return on which side of the interval the truth lies: it is inside where the test that is inverted does not refuse it."""
    place = test.place(truth)
    place = test.place(truth, -1) if place is None else place
    if place is None or test.too_large(place):
        return "above"
    return "below" if test.too_small(place) else "inside"


def bootstrapped(draw: np.random.Generator, stated: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the basic bootstrap's interval of the expected calibration error."""
    bins, n = bins_of(stated), len(stated)
    means = np.bincount(bins, weights=stated, minlength=N_BINS) / np.maximum(np.bincount(bins, minlength=N_BINS), 1)
    cells = np.bincount(bins + N_BINS * right, minlength=2 * N_BINS) / n

    def error(shares: Floats) -> Floats:
        wrong, correct = shares[..., :N_BINS], shares[..., N_BINS:]
        return np.abs(correct - (wrong + correct) * means).sum(-1)

    low, high = np.quantile(error(draw.multinomial(n, cells, 400) / n), [0.025, 0.975])
    observed = float(error(cells))
    return max(0.0, 2 * observed - float(high)), max(0.0, 2 * observed - float(low))


def measured(n_draws: int) -> list[dict[str, Any]]:
    """Return coverage per setting, in percent, and the share of intervals that leave out perfect calibration."""
    rows = []
    for place, (sure, error, n) in enumerate(itertools.product(SURE, ERRORS, N_PICTURES)):
        draw = np.random.default_rng([place, 11])
        rms, expected = truths(sure, error)
        seen, found, before = dict.fromkeys(("inside", "above", "below"), 0), 0, 0
        for k in range(n_draws):
            stated = confidences(draw, n, sure)
            right = draw.random(n) < accuracy(stated, error)
            test = CalibrationTest(stated, right, seed=k)
            seen[verdict(test, rms)] += 1
            found += test.too_small(0.0)
            if k < n_draws // 4:
                low, high = bootstrapped(draw, stated, right)
                before += low <= expected <= high
        rows.append({
            "confidence": sure, "miscalibration": error, "pictures": n, "error": round(rms, 4),
            "coverage, %": round(100 * seen["inside"] / n_draws, 1), "truth above, %": round(100 * seen["above"] / n_draws, 1),
            "truth below, %": round(100 * seen["below"] / n_draws, 1), "leaves out 0, %": round(100 * found / n_draws, 1),
            "coverage of the bootstrap, %": round(100 * before / (n_draws // 4), 1),
        })  # fmt: skip
        print(*rows[-1].values(), flush=True)
    return rows


def overview(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one line per number of pictures."""
    lines = []
    for n in N_PICTURES:
        some = [row for row in rows if row["pictures"] == n]
        line: dict[str, Any] = {"pictures": n, "settings": len(some)}
        for name in ("coverage, %", "coverage of the bootstrap, %"):
            known = sorted(row[name] for row in some)
            line |= {name.replace(", %", f": {kind}, %"): value for kind, value in (
                ("least", known[0]), ("mean", round(sum(known) / len(known), 1)), ("most", known[-1]))}  # fmt: skip
        lines.append(line)
    return lines


def main() -> None:
    """Simulate every setting and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    started = time.process_time()
    rows = measured(options.draws)
    claim = f"the interval of the calibration error covers it in 93 to 97 % from {LEAST} pictures on"
    result = {"draws": options.draws, "overview": overview(rows), "rows": rows, "cpu_s": round(time.process_time() - started)}
    save("calibration_coverage", claim, result)


if __name__ == "__main__":
    main()
