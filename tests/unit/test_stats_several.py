"""Several comparisons, repeated looks, p values, plans, sentences: published numbers, other tests at their limits, simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from descend.errors import DataError
from descend.stats import (
    Difference,
    Spending,
    bootstrap_runs_and_items,
    difference,
    differences,
    holm,
    least_seeds,
    mcnemar,
    paired,
    paired_runs_and_items,
    plan_runs,
    runs_needed,
    verdict_in_points,
)
from descend.stats.sequential import boundaries, obrien_fleming

Scores = NDArray[np.float64]


def crossed(
    draw: np.random.Generator, n_seeds: int, n_pictures: int, *, seeds: float, pictures: float, gain: float = 0.0
) -> tuple[Scores, Scores]:
    """Draw scores of two settings, differing by ``gain``; seeds, pictures: spreads of the difference."""
    shape = (n_seeds, n_pictures)
    apart = (
        gain + seeds * draw.normal(size=(n_seeds, 1)) + pictures * draw.normal(size=n_pictures) + 0.05 * draw.normal(size=shape)
    )
    return 0.5 + apart / 2, 0.5 - apart / 2


def test_holm_by_hand() -> None:
    # 6 * .005, 5 * .01, 4 * .02, 3 * .03, and none below the one before it; with ties and a cap at 1
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05, 0.005]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09, 0.03])
    assert holm([0.5, 0.5, 0.001]) == pytest.approx([1.0, 1.0, 0.003])
    assert holm([0.2]) == pytest.approx([0.2])
    for bad in ([], [0.5, 1.1], [math.nan], [[0.1]]):
        with pytest.raises(DataError, match="in one row, all in"):
            holm(bad)  # pyright: ignore[reportArgumentType] (that is the point)


def test_an_interval_at_holms_level_leaves_out_zero_exactly_where_holm_finds_a_difference() -> None:
    draw = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        gains = draw.choice([0.0, 0.02, 0.06], 4)
        pairs = {str(i): crossed(draw, 5, 60, seeds=0.02, pictures=0.05, gain=gain) for i, gain in enumerate(gains)}
        known = differences(pairs, 0.9)
        p_values = [difference(a, b).p_value for a, b in pairs.values()]
        decided = [each.distinguishable for each in known.values()]
        assert decided == (holm(p_values) < 0.1).tolist()
        m, found = len(pairs), sum(decided)
        levels = sorted(each.level for each in known.values())[::-1]
        steps = [1 - 0.1 / (m - k) for k in range(found)] + [1 - 0.1 / (m - found)] * (m - found) if found < m else None
        assert steps is None or levels == pytest.approx(steps)
        seen.add(found)
    assert seen >= {0, 1, 2}


def two_runs(only_a: int, only_b: int, n: int) -> tuple[Scores, Scores]:
    a = np.array([1] * only_a + [0] * (n - only_a), float)
    b = np.array([0] * only_a + [1] * only_b + [0] * (n - only_a - only_b), float)
    return a[None], b[None]


def test_every_p_value_is_that_of_its_interval() -> None:
    draw = np.random.default_rng(1)
    pairs = [crossed(draw, 4, 30, seeds=s, pictures=p, gain=0.02) for s in (0.0, 0.02) for p in (0.0, 0.05)]
    pairs += [(a.mean(1), b.mean(1)) for a, b in pairs]
    pairs += [two_runs(*counts) for counts in ((9, 1, 60), (8, 0, 9), (5, 0, 40), (3, 3, 30), (40, 20, 300))]
    pairs += [(np.ones((3, 80)), np.zeros((3, 80))), (np.ones((3, 80)), np.ones((3, 80)))]
    for a, b in pairs:
        known = difference(a, b)
        assert 0 <= known.p_value <= 1
        for level in (1 - known.p_value * 1.0001, 1 - known.p_value * 0.9999):
            if 0 < level < 1 - 1e-12:
                assert known.at(level).distinguishable == (known.p_value < 1 - level), (known.covers, level)
    a, b = pairs[4]
    assert difference(a, b).p_value == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)


def test_what_rounding_leaves_of_equal_scores_is_no_certainty() -> None:
    far, near = np.full((3, 40), 0.9), np.full((3, 40), 0.8)
    rough = np.where(np.arange(120).reshape(3, 40) % 2, 2 / 3 - 1 / 3, 1 / 3)  # the same number, the last bit apart
    for a, b in ((far, near), (far, far + 1e-16), (rough, np.full((3, 40), 1 / 3)), (rough + 0.1, np.full((3, 40), 0.1))):
        known = difference(a, b)
        assert known.interval.low < known.interval.mean - 0.01, "as of one run each that differs by the same"
        assert known.p_value > 1e-9
    tied = difference(rough[:1], np.full((1, 40), 1 / 3))
    assert (tied.p_value, tied.distinguishable) == (1.0, False)
    steps = [0.91235, 0.81235, 0.71235]
    for other in (steps, [step - 1 / 60_000 for step in steps], [step + 1e-16 for step in steps]):
        equal = difference(steps, other)
        assert (equal.interval.low, equal.interval.high, equal.p_value) == (-math.inf, math.inf, 1.0)
    assert difference([0.1 + 0.2, 0.5], [0.3, 0.5]).interval.mean == 0


def test_each_shape_has_its_interval() -> None:
    a, b = crossed(np.random.default_rng(2), 3, 20, seeds=0.1, pictures=0.1)
    assert difference(a, b, 0.9).interval == paired_runs_and_items(a, b, 0.9)
    assert difference(a[:, 0], b[:, 0]).interval.low == pytest.approx(paired(a[:, 0].tolist(), b[:, 0].tolist()).low)
    one = two_runs(12, 2, 90)
    assert difference(*one).interval == mcnemar(one[0][0], one[1][0]).difference
    assert [difference(*pair).covers for pair in ((a, b), (a[:, 0], b[:, 0]), one)] == ["seeds and pictures", "seeds", "pictures"]
    unsure = difference(*two_runs(7, 0, 9), level=0.985)  # exact p = 0.0156: no difference, though the interval alone has one
    assert mcnemar(*(side[0] for side in two_runs(7, 0, 9)), level=0.985).difference.low > 0
    assert unsure.interval.low == 0
    assert not unsure.distinguishable
    shares = difference(a[:1], b[:1])
    assert shares.covers == "pictures"
    assert shares.interval.mean == pytest.approx((a[0] - b[0]).mean())
    assert (shares.p_value < 0.05) == shares.distinguishable
    with pytest.raises(DataError, match="same seeds at a look"):
        differences({"x": (a, b), "y": (a[:2], b[:2])}, looks=Spending((2, 3)))
    looks = Spending((2, 3, 4))  # y has ended, and x goes on: each at its own look, Holm's method over both
    known = differences({"x": (a, b), "y": (a[:1], b[:1])}, looks=looks, last={"y"})
    assert [each.level for each in known.values()] == pytest.approx([looks.level_at(3, level=0.975), 0.975])
    assert not any(each.distinguishable for each in known.values())


def test_the_boundaries_are_the_published_ones() -> None:
    # Reboussin, DeMets, Kim & Lan 2000, Controlled Clinical Trials 21, 190-207, and ldbounds in R: five equal looks, alpha .05
    def pocock(alpha: float, share: float) -> float:
        return alpha * math.log(1 + (math.e - 1) * share)

    shares = tuple(k / 5 for k in range(1, 6))
    published = {
        obrien_fleming: [4.8769, 3.3569, 2.6803, 2.2898, 2.0310],
        pocock: [2.4380, 2.4268, 2.4101, 2.3966, 2.3859],
    }
    for spend, limits in published.items():
        assert boundaries(shares, tuple(spend(0.05, share) for share in shares)) == pytest.approx(limits, abs=2e-4)


def test_the_boundaries_spend_what_they_may_by_the_multivariate_normal() -> None:
    looks = (3, 5, 12)
    rule = Spending(looks, 0.9)
    limits = np.array([scipy_stats.norm.isf((1 - rule.level_at(n)) / 2) for n in looks])
    correlation = [[math.sqrt(min(i, j) / max(i, j)) for j in looks] for i in looks]
    inside = scipy_stats.multivariate_normal(cov=correlation).cdf(limits, lower_limit=-limits, rng=np.random.default_rng(0))
    assert 1 - inside == pytest.approx(0.095, abs=2e-4)  # 5 % of alpha are kept back for what Student's t adds
    assert Spending((7,), 0.9).level_at(7) == pytest.approx(0.9)  # one look is no sequence
    assert rule.level_at(8, last=True) < rule.level_at(12)  # what is left is spent where the budget ends
    assert rule.level_at(5, level=0.99) > rule.level_at(5)
    for wrong in (4, 8, 13):
        with pytest.raises(DataError, match="looks are planned with 3, 5, 12 seeds"):
            rule.level_at(wrong)
    assert [Spending.between(*ends).looks for ends in ((3, 20), (5, 20), (3, 4), (4, 4))] == [
        (3, 5, 8, 12, 20), (5, 8, 12, 20), (3, 4), (4,),
    ]  # fmt: skip
    with pytest.raises(DataError, match="rising numbers of seeds"):
        Spending.between(5, 3)
    for looks in ((), (1, 3), (3, 3), (5, 3)):
        with pytest.raises(DataError, match="rising numbers of seeds"):
            Spending(looks)


def test_looking_until_decided_keeps_the_level() -> None:
    looks = Spending((3, 6, 10))
    d = np.random.default_rng(5).normal(size=(20_000, 10))
    once, rule = np.zeros(20_000, bool), np.zeros(20_000, bool)
    for n in looks.looks:
        p = scipy_stats.ttest_1samp(d[:, :n], 0, axis=1).pvalue
        once |= p < 0.05
        rule |= p < 1 - looks.level_at(n)
    assert once.mean() > 0.09  # what looking three times costs without a rule
    assert 0.043 < rule.mean() < 0.053


def test_the_bootstrap_is_near_the_t_interval_where_scores_are_normal() -> None:
    for shape in ((8, 400), (6, 50)):
        a, b = crossed(np.random.default_rng(8), *shape, seeds=0.01, pictures=0.1)
        expected, found = paired_runs_and_items(a, b), bootstrap_runs_and_items(a, b, seed=3)
        assert found == bootstrap_runs_and_items(a, b, seed=3)
        assert found.mean == pytest.approx(expected.mean)
        assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.12)
    a, b = crossed(np.random.default_rng(9), 12, 2, seeds=1.0, pictures=0.0)
    a, b = a.mean(1), b.mean(1)
    expected, found = paired(a.tolist(), b.tolist()), bootstrap_runs_and_items(a, b)
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.12)
    assert bootstrap_runs_and_items([0.9, 0.8], [0.8, 0.7]).high == math.inf
    one = two_runs(12, 2, 90)
    assert bootstrap_runs_and_items(*one).low == pytest.approx(mcnemar(one[0][0], one[1][0]).difference.low, abs=0.02)


def test_a_plan_for_seeds_alone_is_the_t_tests() -> None:
    sample = np.tile([-1.0, 1.0], 500)
    sample /= sample.std(ddof=1)
    assert [runs_needed(list(sample + 5), settle=effect) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]  # G*Power 3.1
    assert plan_runs(sample + 5, 0.5).n_seeds == 34
    with pytest.raises(DataError, match="must be positive"):
        plan_runs(sample, 0.0)


def test_a_plan_for_pictures_and_seeds_has_the_power_it_says() -> None:
    draw = np.random.default_rng(3)
    spread = {"seeds": 0.03, "pictures": 0.1}
    a, b = crossed(draw, 300, 800, **spread)  # spreads as good as known
    plan = plan_runs(a - b, 0.03)
    assert plan.n_seeds is not None
    for n, least, most in ((plan.n_seeds - 1, 0.7, 0.84), (plan.n_seeds, 0.76, 0.9)):
        found = [difference(*crossed(draw, n, 800, **spread, gain=0.03)).distinguishable for _ in range(400)]
        assert least < np.mean(found) < most
    never = plan_runs(a - b, 0.005)
    assert never.n_seeds is None
    assert never.least == pytest.approx((1.959964 + 0.841621) * 0.1 / math.sqrt(800), rel=0.1)
    assert never.n_pictures == pytest.approx(800 * (never.least / 0.005) ** 2, abs=1)
    assert "however many seeds" in never.reason


def test_what_pictures_leave_open_is_not_planned_below_what_it_may_be() -> None:
    draw, z = np.random.default_rng(6), 1.959964 + 0.841621
    true = 0.04 / math.sqrt(200)  # the standard error that pictures leave, whatever the number of seeds

    def least(spread: float) -> float:
        d = spread * draw.normal(size=200) + 0.3 * draw.normal(size=(2, 200))
        return plan_runs(np.clip(d, -1, 1), 1e-9).least / z

    assert np.mean([least(0.04) >= true for _ in range(400)]) >= 0.76  # 80 % promised, less two standard errors
    by_luck = [plan_runs(0.3 * draw.normal(size=(2, 270)), 0.005) for _ in range(40)]  # pictures play no part that could be seen
    assert not [plan for plan in by_luck if plan.n_seeds is not None]
    assert all((plan.n_pictures or 0) > 270 for plan in by_luck)


@pytest.mark.parametrize("n_verdicts", [1, 2, 9, 41])
def test_few_seeds_leave_intervals_so_wide_that_they_are_too_few(n_verdicts: int) -> None:
    n = least_seeds(n_verdicts)
    p = 1 - 0.05 / n_verdicts / 2
    wide = [scipy_stats.t.ppf(p, seeds - 1) / scipy_stats.norm.ppf(p) for seeds in (n - 1, n)]
    assert wide[0] > 2.5 >= wide[1]


def test_no_interval_reaches_beyond_what_shares_can_differ_by() -> None:
    few = difference(np.array([[1, 1, 1, 1], [0, 0, 0, 1]], float), np.zeros((2, 4)))
    assert (few.interval.low, few.interval.high) == (-1.0, 1.0)
    assert not few.distinguishable
    assert few.p_value > 0.05
    assert "with 2 seeds on 4 pictures [-100.0, 100.0];" in verdict_in_points(few)
    assert "with 2 seeds [-100.0, 100.0];" in verdict_in_points(Difference(np.array([0.9, -0.2])))


def test_sentences_in_points() -> None:
    wide = Difference(np.array([0.02, -0.01, 0.015, 0.004, -0.008]))
    needed = runs_needed(wide.scores.tolist(), settle=0.005)
    assert verdict_in_points(wide) == (
        f"not distinguishable with 5 seeds [-1.2, 2.1]; about {needed - 5} more would settle a difference of 0.5 points"
    )
    better = Difference(np.array([0.012, 0.014, 0.013, 0.015]))
    assert verdict_in_points(better) == "better by 1.4 points [1.1, 1.6]"
    assert verdict_in_points(better, higher_is_better=False) == "worse by 1.4 points [-1.6, -1.1]"
    tight = Difference(np.array([0.001, -0.001, 0.0005, -0.0004]))
    assert verdict_in_points(tight).endswith("a difference of 0.5 points would have been found in 4 of 5 cases")
    assert verdict_in_points(Difference(np.full(3, 0.01))) == (
        "not distinguishable with 3 seeds; equal differences tell nothing about their spread"
    )
    draw = np.random.default_rng(4)
    few = difference(*(draw.integers(0, 2, (2, 1, 200)) * np.ones((2, 3, 1))))
    assert "not distinguishable with 3 seeds on 200 pictures [" in verdict_in_points(few)
    assert "; no number of seeds settles a difference of 0.5 points on these pictures (14.1 at best)" in verdict_in_points(few)
    one = difference(*two_runs(5, 3, 153))
    assert "not distinguishable with one run each on 153 pictures [" in verdict_in_points(one)
    several = difference(*crossed(draw, 3, 500, seeds=0, pictures=0, gain=0.2))
    assert "not covered" not in verdict_in_points(one) + verdict_in_points(several)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_difference_of_one_run_each_is_one_of_these_two_networks(share: float) -> None:
    only_a, only_b = two_runs(40, 5, 200)
    told = verdict_in_points(difference(share * only_a, share * only_b))
    assert told.startswith(f"better by {100 * share * 35 / 200:.1f} points [")
    assert told.endswith("]; of these two networks, other seeds are not covered (one run each)")
