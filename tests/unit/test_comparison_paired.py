"""Intervals against formulas worked by hand and by simulation; the paired runner against what it promises."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from descend.comparison import paired_seeds
from descend.errors import DataError
from descend.stats import Interval, median, paired, proportion, runs_needed, verdict


def test_paired_is_the_one_sample_t_interval_of_the_differences() -> None:
    a, b = [0.95, 0.94, 0.97, 0.93], [0.90, 0.93, 0.92, 0.91]
    found = paired(a, b)
    differences = np.subtract(a, b)
    reference = scipy_stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found.mean == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    assert found.n == 4


def test_wilson_by_hand() -> None:
    k, n, z = 9, 10, scipy_stats.norm.ppf(0.975)
    centre = (k / n + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(k / n * (1 - k / n) / n + z**2 / (4 * n**2))
    found = proportion(k, n)
    assert (found.low, found.high) == pytest.approx((centre - reach, centre + reach))
    assert proportion(10, 10).high == pytest.approx(1.0)
    assert proportion(10, 10).low < 1


def test_paired_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        shared = rng.normal(size=6)
        found = paired(list(shared + rng.normal(0.3, 1, 6)), list(shared))
        hits += found.low <= 0.3 <= found.high
    assert 0.92 <= hits / 600 <= 0.98


def test_median_of_numbers_that_may_be_never() -> None:
    found = median([float(k) for k in range(100, 0, -1)])
    wilson = [proportion(k, 100) for k in range(101)]
    assert found.mean == 50  # the lower one
    assert (found.low, found.high) == (41, 60)  # the exact binomial interval is 40 to 61
    assert wilson[40].high < 0.5 <= wilson[41].high
    assert wilson[59].low < 0.5 <= wilson[60].low
    assert median([3.0, 5.0, math.inf]) == Interval(5.0, -math.inf, math.inf, 3)  # three say nothing about a bound
    assert median([math.inf] * 9).mean == math.inf
    assert median([1.0] * 10 + [math.inf] * 2).high == 1.0
    for nothing in ([], [1.0, math.nan]):
        with pytest.raises(DataError, match="median: needs one number or more"):
            median(nothing)


def test_the_medians_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    found = [median(list(rng.exponential(size=30))) for _ in range(600)]
    hits = sum(interval.low <= math.log(2) <= interval.high for interval in found)
    assert 0.93 <= hits / 600 <= 0.985


def test_verdicts() -> None:
    assert "not distinguishable with 3 seeds, run about" in verdict([1.0, 2.0, 3.0], [1.1, 1.7, 3.1])
    assert verdict([1.0, 1.1, 1.2], [0.5, 0.61, 0.7]).startswith("higher by 0.49")


def test_runs_needed_reaches_the_power_it_plans_for() -> None:
    rng = np.random.default_rng(1)
    sample = rng.normal(size=200)
    sample = (sample - sample.mean()) / sample.std(ddof=1) + 0.5  # mean 0.5, spread 1
    assert runs_needed(list(sample)) == 34  # G*Power 3.1, matched pairs, two tails; 32 by the normal curve


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0]), ([1.0, 2.0], [1.0, 2.0, 3.0]), ([1.0, math.nan], [0.0, 0.0])])
def test_paired_refuses_what_it_cannot_compare(a: list[float], b: list[float]) -> None:
    with pytest.raises(DataError):
        paired(a, b)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, 0), (1.5, 3), (1, 2.5), (math.nan, 3)])
def test_proportion_refuses_nonsense(k: float, n: float) -> None:
    with pytest.raises(DataError, match="whole numbers with 0 <= k <= n"):
        proportion(k, n)  # pyright: ignore[reportArgumentType] (that is the point)


def test_paired_seeds_interleaves_and_rotates() -> None:
    order: list[tuple[str, int]] = []

    def candidate(name: str):
        def run(seed: int) -> float:
            order.append((name, seed))
            return seed + (0.5 if name == "b" else 0.0)

        return run

    runs = paired_seeds({"a": candidate("a"), "b": candidate("b")}, [3, 5])
    assert order == [("a", 3), ("b", 3), ("b", 5), ("a", 5)]
    assert runs.scores == {"a": [3.0, 5.0], "b": [3.5, 5.5]}
    assert runs.difference("b", "a").mean == 0.5
    assert all(wall >= 0 for walls in runs.wall_s.values() for wall in walls)


def test_paired_seeds_wants_distinct_seeds() -> None:
    with pytest.raises(DataError, match="distinct"):
        paired_seeds({"a": float}, [1, 1])
