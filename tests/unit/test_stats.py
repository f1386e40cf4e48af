"""Comparisons over runs and pictures: limits that other tests settle, sums written anew, and how often equal settings part."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import comb
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from descend.comparison import PairedRuns, paired_seeds
from descend.errors import DataError
from descend.stats import Interval, difference, mcnemar, paired, paired_runs_and_items, runs_needed, verdict, verdict_in_points

Scores = NDArray[np.float64]


def equal_settings(draw: np.random.Generator, n_seeds: int, n_pictures: int, *, own: float, seed: float) -> tuple[Scores, Scores]:
    """Draw right and wrong of two settings that are equally good over all pictures there could be.

    own: spread of what a setting finds harder than the other does. seed: spread of the quality of runs. Both in logits.
    """
    hard = 1.5 + 2 * draw.normal(size=n_pictures)

    def runs() -> Scores:
        logits = hard + own * draw.normal(size=n_pictures) + seed * draw.normal(size=(n_seeds, 1))
        return (draw.random((n_seeds, n_pictures)) < 1 / (1 + np.exp(-logits))).astype(float)

    return runs(), runs()


def parts_by_projection(d: Scores) -> tuple[float, float, float]:
    """Return the three mean squares of a crossed table by projecting it on its subspaces, written as matrices."""
    s, p = d.shape
    over_seeds, over_pictures = np.full((s, s), 1 / s), np.full((p, p), 1 / p)
    x = d.ravel()
    seeds = np.kron(np.eye(s) - over_seeds, over_pictures) @ x
    pictures = np.kron(over_seeds, np.eye(p) - over_pictures) @ x
    rest = np.kron(np.eye(s) - over_seeds, np.eye(p) - over_pictures) @ x
    return seeds @ seeds / (s - 1), pictures @ pictures / (p - 1), rest @ rest / ((s - 1) * (p - 1))


def reach(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


@pytest.mark.parametrize("shape", [(2, 30), (5, 12), (9, 4)])
def test_the_interval_is_that_of_crossed_random_effects(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(sum(shape))
    a, b = draw.random(shape), draw.random(shape)
    seeds, pictures, rest = parts_by_projection(a - b)
    of_seeds, of_pictures = (scipy_stats.t.ppf(0.95, n - 1) for n in shape)
    squares = max(of_seeds**2 * seeds + of_pictures**2 * max(pictures - rest, 0), of_pictures**2 * pictures)
    interval = paired_runs_and_items(a, b, 0.9)
    assert interval.mean == pytest.approx((a - b).mean())
    assert reach(interval) == pytest.approx(math.sqrt(squares / (a - b).size))
    assert (interval.low + interval.high) / 2 == pytest.approx(interval.mean)
    assert interval.n == shape[0]


def test_it_is_the_t_test_over_seeds_where_pictures_agree_and_over_pictures_where_seeds_agree() -> None:
    draw = np.random.default_rng(5)
    ends = draw.random((2, 6, 1)) * np.ones((2, 6, 40))
    reference = scipy_stats.ttest_rel(*ends[:, :, 0]).confidence_interval(0.95)
    interval = paired_runs_and_items(*ends)
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))
    rows = draw.integers(0, 2, (2, 1, 40)) * np.ones((2, 6, 40))
    reference = scipy_stats.ttest_rel(*rows[:, 0]).confidence_interval(0.95)
    interval = paired_runs_and_items(*rows)
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))


@pytest.mark.parametrize(
    ("n_seeds", "own", "seed"), [(2, 0.0, 0.5), (3, 2.0, 0.1), (3, 0.0, 0.5), (10, 2.0, 0.1), (5, 1.0, 0.3)], ids=str
)
def test_equal_settings_are_called_different_no_more_often_than_promised(n_seeds: int, own: float, seed: float) -> None:
    draw = np.random.default_rng(n_seeds)
    worlds = [equal_settings(draw, n_seeds, 150, own=own, seed=seed) for _ in range(300)]
    alarms = np.mean([paired_runs_and_items(a, b).distinguishable for a, b in worlds])
    assert alarms <= 0.085  # 5 % + 2.8 standard errors of 300 draws
    assert alarms > 0 or n_seeds < 5  # with few seeds it is wider than it need be
    if own == 2.0 and n_seeds == 10:  # what an interval over seeds alone says of the same runs
        assert np.mean([paired(a.mean(1).tolist(), b.mean(1).tolist()).distinguishable for a, b in worlds]) > 0.25


def test_a_real_difference_is_found() -> None:
    draw = np.random.default_rng(2)
    found = 0
    for _ in range(100):
        hard = 1 + draw.normal(size=400)
        better, worse = ((draw.random((3, 400)) < 1 / (1 + np.exp(-hard - gain))).astype(float) for gain in (0.8, 0.0))
        found += paired_runs_and_items(better, worse).low > 0
    assert found > 80


def test_runs_that_never_differ_still_have_an_interval_with_a_width() -> None:
    ones = np.ones((3, 100))
    interval = paired_runs_and_items(ones, ones)
    assert interval.mean == 0
    assert -0.04 < interval.low < -0.02 < 0.02 < interval.high < 0.04  # about three in a hundred: the rule of three
    always = paired_runs_and_items(ones, np.zeros((3, 100)))
    assert 0.9 < always.low < always.mean == always.high == 1


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        (np.ones((3, 5)), np.ones((3, 4)), "alike"),
        (np.ones(3), np.ones(3), "alike"),
        (np.ones((1, 5)), np.ones((1, 5)), "one run each by difference"),
        (np.ones((3, 1)), np.ones((3, 1)), "2 pictures or more"),
        (np.full((3, 5), 2.0), np.ones((3, 5)), r"lie in \[0, 1\], got '2 to 2'"),
        (np.full((3, 5), np.nan), np.ones((3, 5)), r"lie in \[0, 1\]"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: Scores, b: Scores, why: str) -> None:
    with pytest.raises(DataError, match=why):
        paired_runs_and_items(a, b)


def two_runs(only_a: int, only_b: int, both: int, neither: int) -> tuple[Scores, Scores]:
    a = [1] * only_a + [0] * only_b + [1] * both + [0] * neither
    b = [0] * only_a + [1] * only_b + [1] * both + [0] * neither
    return np.array(a, float), np.array(b, float)


@pytest.mark.parametrize(("only_a", "only_b"), [(9, 1), (1, 9), (5, 5), (0, 0), (0, 6), (40, 20)])
def test_mcnemar_is_the_binomial_test_of_the_pictures_that_differ(only_a: int, only_b: int) -> None:
    test = mcnemar(*two_runs(only_a, only_b, 50, 7))
    m, k = only_a + only_b, min(only_a, only_b)
    p_value = min(1.0, 2 * sum(comb(m, i) for i in range(k + 1)) / 2**m)
    assert test.p_value == pytest.approx(p_value)
    assert (test.only_a, test.only_b, test.n) == (only_a, only_b, m + 57)
    assert test.difference.mean == pytest.approx((only_a - only_b) / (m + 57))
    p, q, n, z = only_a + 1, only_b + 1, m + 59, 1.959963984540054
    middle, error = (p - q) / n, math.sqrt((p + q - (p - q) ** 2 / n) / n**2)
    assert (test.difference.low, test.difference.high) == pytest.approx((middle - z * error, middle + z * error))


def test_mcnemars_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    hits, alarms = 0, 0
    for _ in range(600):
        which = draw.choice(4, 60, p=[0.15, 0.05, 0.6, 0.2])
        test = mcnemar((which == 0) | (which == 2), (which == 1) | (which == 2))
        hits += test.difference.low <= 0.1 <= test.difference.high
        equal = draw.choice(3, 60, p=[0.1, 0.1, 0.8])
        alarms += mcnemar(equal != 0, equal != 1).p_value < 0.05
    assert 0.93 <= hits / 600 <= 0.985
    assert alarms / 600 <= 0.05  # an exact test is never above its level, and below it for few pictures


def test_shares_of_one_run_each_count_as_their_mean_square() -> None:
    a, b = two_runs(9, 1, 50, 7)
    whole = difference(a[None], b[None])
    halves = difference((a[None] + 1) / 2, (b[None] + 1) / 2)  # half of each patient's pictures
    n, z = 67, 1.959963984540054
    middle, squares = 4 / (n + 2), (10 * 0.25 + 2) / (n + 2)
    error = math.sqrt((squares - middle**2) / (n + 2))
    assert (halves.interval.low, halves.interval.high) == pytest.approx((middle - z * error, middle + z * error))
    assert whole.mcnemar is not None
    assert halves.mcnemar is None
    assert halves.interval.mean == pytest.approx(whole.interval.mean / 2)
    assert "not distinguishable with one run each on 67 pictures" in verdict_in_points(halves)


@pytest.mark.parametrize("n", [3, 4, 5, 6, 8])
def test_few_patients_are_no_surer_by_shares_than_by_right_and_wrong(n: int) -> None:
    whole = difference(np.ones((1, n)), np.zeros((1, n)))
    shares = difference(np.full((1, n), 0.9), np.zeros((1, n)))
    assert shares.p_value >= whole.p_value == 2.0 ** (1 - n)  # the exact p value of as many signs alike
    assert whole.distinguishable == (n >= 6)
    assert shares.distinguishable == (shares.p_value < 0.05)


@pytest.mark.parametrize(("n", "each"), [(5, 20), (12, 5), (40, 3), (150, 8)])
def test_equal_runs_on_patients_are_called_different_no_more_often_than_promised(n: int, each: int) -> None:
    draw = np.random.default_rng(n)
    alarms, single = 0, 0
    for _ in range(500):
        hard = draw.beta(0.5, 0.5, (2, n, 1))  # each run has patients of its own with which it is at a loss
        right = (draw.random((2, n, each)) > hard * 0.4).astype(float)
        alarms += difference(right[0].mean(1)[None], right[1].mean(1)[None]).distinguishable
        single += difference(right[0].reshape(1, -1), right[1].reshape(1, -1)).distinguishable
    assert alarms / 500 <= 0.065  # 5%, and two standard errors of 500 trials
    assert single > alarms  # as if every picture were a patient


def test_mcnemar_wants_right_and_wrong() -> None:
    with pytest.raises(DataError, match="right or wrong"):
        mcnemar([0.5, 1.0], [1.0, 0.0])
    with pytest.raises(DataError, match="alike"):
        mcnemar([1, 0, 1], [1, 0])


def test_equal_differences_are_no_certainty() -> None:
    # three seeds of one given split that differ by one and the same picture: .91 - .9 and .81 - .8 part in the last bit only
    a, b = [0.9065, 0.8065, 0.7065], [0.9, 0.8, 0.7]
    interval = paired(a, b)
    assert interval.mean == pytest.approx(0.0065)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert not interval.distinguishable
    assert verdict(a, b).startswith("not distinguishable with 3 seeds: +0.0065 on each, and equal differences")
    assert "equal on each" in verdict(a, a)
    with pytest.raises(DataError, match="two or more differ"):
        runs_needed([0.5, 0.5])


def test_runs_needed_has_the_power_that_it_plans_for() -> None:
    def sample(effect: float) -> list[float]:
        values = np.tile([-1.0, 1.0], 500)
        return list(values / values.std(ddof=1) + effect)

    # G*Power 3.1: difference between two dependent means, two tails, alpha .05, power .8
    assert [runs_needed(sample(effect)) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]
    draw = np.random.default_rng(1)
    n = runs_needed(sample(2.0))
    assert n == 5  # two runs have a power of .18
    for size, low, high in ((2, 0.12, 0.24), (n - 1, 0.70, 0.80), (n, 0.87, 0.95)):
        tests = scipy_stats.ttest_1samp(draw.normal(2.0, 1.0, (2000, size)), 0, axis=1).pvalue
        assert low < np.mean(tests < 0.05) < high
    assert runs_needed([-2.5, -1.5]) == runs_needed([2.5, 1.5])
    assert runs_needed([1.0, -1.0]) == 0
    assert runs_needed(sample(0.01)) == pytest.approx((1.959964 + 0.841621) ** 2 / 0.01**2, rel=1e-4)


def test_verdicts_on_pictures_say_what_would_tell() -> None:
    draw = np.random.default_rng(3)
    pictures = np.repeat(draw.integers(0, 2, (2, 1, 60)), 4, 1).astype(float)  # all seeds agree: only pictures are by chance
    assert "more pictures would tell, more seeds alone would not" in verdict(*pictures)
    rates = np.array([[0.75, 0.7, 0.65, 0.6], [0.55, 0.75, 0.5, 0.7]])  # the quality of runs is by chance, their answers too
    seeds = (draw.random((2, 4, 400)) < rates[..., None]).astype(float)
    assert "4 seeds on 400 pictures; more seeds would tell" in verdict(*seeds)
    better = np.ones((3, 200)), (draw.random((3, 200)) < 0.8).astype(float)
    assert verdict(*better).startswith("higher by 0.")
    one = [side[None] for side in two_runs(12, 2, 80, 6)]
    assert verdict(*one).startswith("higher by 0.1 (12 pictures only the first has right, 2 only the second, p = 0.013")
    assert "other seeds are not covered" in verdict(*one)
    close = [side[None] for side in two_runs(5, 3, 80, 6)]
    assert verdict(*close).startswith("not distinguishable with one run each (5 pictures")


def test_the_runner_compares_picture_by_picture_where_candidates_tell_them() -> None:
    draw = np.random.default_rng(4)
    a, b = equal_settings(draw, 3, 50, own=1.0, seed=0.2)
    runs = paired_seeds({"a": lambda seed: a[seed], "b": lambda seed: b[seed] == 1, "c": lambda seed: 0.5 + seed}, range(3))
    assert runs.scores["a"] == pytest.approx(a.mean(1))
    assert runs.difference("a", "b") == paired_runs_and_items(a, b)
    assert runs.verdict("a", "b") == f"a against b: {verdict(a, b)}"
    assert runs.difference("a", "c") == paired(runs.scores["a"], runs.scores["c"])
    alone = paired_seeds({"a": lambda seed: a[seed], "b": lambda seed: b[seed]}, [0])
    assert alone.difference("a", "b") == mcnemar(a[0], b[0]).difference
    assert "one run each" in alone.verdict("a", "b")
    assert PairedRuns((0, 1), {"x": [1.0, 2.0], "y": [0.0, 0.5]}).difference("x", "y").mean == 1.25


@pytest.mark.parametrize("second", [np.ones(4), np.ones((2, 5)), 0.5, np.ones(0)])
def test_the_runner_stops_at_once_where_runs_judged_other_pictures(second: Scores | float) -> None:
    asked: list[int] = []

    def measure(seed: int) -> Scores | float:
        asked.append(seed)
        return np.ones(5) if seed == 0 else second

    with pytest.raises(DataError, match="paired_seeds: a: must return one score, or an array"):
        paired_seeds({"a": measure}, range(5))
    assert asked == [0, 1]


def test_the_page_shows_what_was_simulated(builder: Callable[[str], ModuleType]) -> None:
    build = builder("comparison")
    page = (build.HERE / "README.md").read_text(encoding="utf-8")
    assert build.filled(page, build.results()) == page


@pytest.mark.parametrize("n_seeds", [3, 4, 10])
def test_seeds_that_differ_by_the_same_number_of_pictures_have_a_p_value(n_seeds: int) -> None:
    a, b = np.ones((n_seeds, 400)), np.ones((n_seeds, 400))
    b[:, :40] = 0  # the same pictures on all seeds, but for two
    b[0, 40], b[1, 41] = 0, 0
    b[2:, 42] = 0
    known = difference(a, b)
    assert known.scores.mean(1).std() == 0
    at = scipy_stats.t.sf(known.interval.mean / (known.scores.mean(0).std(ddof=1) / math.sqrt(400)), 399)
    assert known.p_value == pytest.approx(2 * at, rel=0.2)
