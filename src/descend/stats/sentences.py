"""Verdicts in words."""

from __future__ import annotations

from numpy.typing import ArrayLike

from descend.stats.comparison import Difference, difference
from descend.stats.intervals import Interval, all_equal
from descend.stats.one_run import McNemar
from descend.stats.power import Plan, runs_needed

_OF_TWO_NETWORKS = "other seeds are not covered"


def verdict(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> str:
    """Say in words whether ``a`` and ``b`` differ, in the unit of the scores, and if that is not known, what would tell.

    a, b: (n_seeds,), one number per seed; or (n_seeds, n_pictures) for runs that judged the same pictures. For accuracies,
    ``verdict_in_points`` says better or worse.
    """
    known = difference(a, b, level)
    if known.mcnemar is not None:
        return _on_two_networks(known, known.mcnemar)
    if known.distinguishable:
        return f"{_above(known.interval)} ({level:.0%} interval {known.interval})"
    return _unknown(known)


def _above(interval: Interval) -> str:
    return f"{'higher' if interval.mean > 0 else 'lower'} by {abs(interval.mean):.4g}"


def _unknown(known: Difference) -> str:
    """Say what would tell a difference as large as the one observed."""
    interval, told = known.interval, f"({known.level:.0%} interval {known.interval})"
    if known.n_pictures is not None:
        seeds_tell = interval.mean != 0 and known.plan(abs(interval.mean)).n_seeds is not None
        hint = "more seeds would tell" if seeds_tell else "more pictures would tell, more seeds alone would not"
        return f"not distinguishable with {_where(known)}; {hint} {told}"
    if all_equal(known.scores):
        amount = f"{interval.mean:+.4g} on each" if abs(interval.mean) > 0 else "equal on each"
        return f"not distinguishable with {interval.n} seeds: {amount}, and equal differences tell nothing about their spread"
    more = runs_needed(known.scores.tolist(), known.level) - interval.n
    hint = f", run about {more} more" if more > 0 else ""
    return f"not distinguishable with {interval.n} seeds{hint} {told}"


def _on_two_networks(known: Difference, test: McNemar) -> str:
    counts = f"{test.only_a} pictures only the first has right, {test.only_b} only the second, p = {known.p_value:.2g}"
    told = f"{counts}; {known.level:.0%} interval {known.interval}; {_OF_TWO_NETWORKS}"
    return f"{_above(known.interval) if known.distinguishable else 'not distinguishable with one run each'} ({told})"


def verdict_in_points(known: Difference, settle: float = 0.005, *, higher_is_better: bool = True) -> str:
    """Say in percentage points whether a is better than b, and if that is not known, what would settle ``settle``.

    known: of accuracies, or other shares in [0, 1]. settle: the difference that matters, 0.005 for half a point.

    "better by 1.3 points [0.4, 2.2]"; "not distinguishable with 5 seeds [-0.9, 1.7]; about 12 more would settle a difference of
    0.5 points"; where pictures are too few, which difference any number of seeds could settle, and how many pictures it takes.
    """
    interval, sign = known.interval, 1 if higher_is_better else -1
    low, high = (min(1.0, max(-1.0, end)) for end in sorted((sign * interval.low, sign * interval.high)))
    span = "" if all_equal(known.scores.ravel()) and known.n_pictures is None else f" [{_points(low)}, {_points(high)}]"
    if known.distinguishable:
        of = f"; of these two networks, {_OF_TWO_NETWORKS} (one run each)" if known.covers == "pictures" else ""
        return f"{'better' if sign * interval.mean > 0 else 'worse'} by {_points(abs(interval.mean))} points{span}{of}"
    return f"not distinguishable with {_where(known)}{span}; {_what_would_settle(known, known.plan(settle))}"


def _where(known: Difference) -> str:
    seeds = "one run each" if known.n_seeds == 1 else f"{known.n_seeds} seeds"
    return seeds if known.n_pictures is None else f"{seeds} on {known.n_pictures:,} pictures"


def _what_would_settle(known: Difference, plan: Plan) -> str:
    aim = f"a difference of {_points(plan.settle)} points"
    if plan.n_seeds is not None:
        more = plan.n_seeds - known.n_seeds
        return f"about {_about(more)} more would settle {aim}" if more > 0 else f"{aim} would have been found in 4 of 5 cases"
    if plan.n_pictures is None:
        return plan.reason
    least, pictures = _points(plan.least), f"it takes about {_about(plan.n_pictures)} pictures"
    if known.n_seeds == 1:
        return f"one run each on so many settles {least} points at best; for {aim} {pictures}"
    return f"no number of seeds settles {aim} on these pictures ({least} at best), {pictures}"


def _about(count: int) -> str:
    """Return a number that is planned, not counted: two digits of it."""
    return f"{round(count, min(0, 2 - len(str(count)))):,}"


def _points(share: float) -> str:
    return f"{100 * share:.1f}".replace("-0.0", "0.0")
