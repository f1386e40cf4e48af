"""Accuracy against learning rate, rule by rule, and how far off the rate may be before it costs a point.

Every rule is trained at every rate of a logarithmic grid, on the same seeds, pictures and split. Its *width* is the number of
decades around its best rate within which accuracy stays within a point of the best. Curves and widths are of validation, as for
anybody who looks for a rate; test is asked only at the rate that validation chose.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from descend.comparison.candidate import Candidate
from descend.comparison.costs import share
from descend.comparison.experiment import SCHEMA, Experiment, opened
from descend.comparison.looked_at import LookedAt
from descend.comparison.loop import Settings, carried_out
from descend.comparison.rate_curves import draw_curves
from descend.comparison.runs import Fit, Made, outcomes, right
from descend.comparison.width import WITHIN, Curve, in_points
from descend.drawing import Drawing
from descend.errors import KnobError, check_count
from descend.landscape.course import at_rate
from descend.optim import Rule, knob_names
from descend.optim.wrapper import parts
from descend.pandas_frames import pandas_for
from descend.printable import columns
from descend.progress import Progress
from descend.stats import Difference, Interval, differences
from descend.stats.intervals import interval_of
from descend.technique import Search, build, knobs, parse
from descend.train.prepare import profile_of
from descend.train.recipe import Recipe, from_settings
from descend.train.resolve import resolve, sets_knob

PER_DECADE = 2  # rates of the default grid
NOISY = 0.6
"""Of what is forgiven: from such a difference by chance on, widths came out too narrow (``benchmarks/width_coverage.py``)."""


@dataclass(frozen=True, eq=False)
class WidthVerdict:
    """How much wider one rule is than the first, in decades. known: with an interval over seeds. step: of the grid, in decades.

    Rates between two of the grid were not tried, so a difference below its step is not told, however sure the seeds are.
    """

    known: Difference
    step: float

    @property
    def different(self) -> bool:
        """Whether the two are told apart."""
        return self.known.distinguishable and abs(self.known.interval.mean) >= self.step

    @property
    def text(self) -> str:
        """The verdict in words."""
        interval = self.known.interval
        span = f" [{interval.low:+.1f}, {interval.high:+.1f}]" if math.isfinite(interval.high) else ""
        decades = f"{interval.mean:+.1f} decades{span}"
        if self.different:
            return f"forgives {'more' if interval.mean > 0 else 'less'}: {decades}"
        why = f"with {self.known.n_seeds} seeds"
        if self.known.distinguishable:
            why = f"on a grid of {self.step:.1f} decades, more --rates would tell"
        return f"not distinguishable {why}: {decades}"

    def facts(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        known = self.known
        return {
            "decades": vars(known.interval), "level": known.level, "grid_step": self.step, "different": self.different,
            "text": self.text,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sensitivity(Experiment):
    """What learning rates do to several rules. grids: optimizer -> its rates. within: the loss of accuracy that is forgiven."""

    kind: ClassVar = "sensitivity"
    picture: ClassVar = "sensitivity"

    grids: dict[str, tuple[float, ...]]
    within: float = WITHIN

    def curves(self) -> list[Curve]:
        """Return the curve of every rule, over the seeds that it has run at every rate."""
        return [self._curve(optimizer) for optimizer in self.grids]

    def _curve(self, optimizer: str) -> Curve:
        rates = self.grids[optimizer]
        made: dict[tuple[float, int], Made] = {}
        for rate in rates:
            made |= {(rate, item.seed): item for item in self.comparison.made if item.name == _name(optimizer, rate)}
        seeds = sorted({seed for _, seed in made})
        seeds = [seed for seed in seeds if all((rate, seed) in made for rate in rates)]
        accuracy = np.array([[self._accuracy(made[rate, seed]) for rate in rates] for seed in seeds]).reshape(-1, len(rates))
        n_failed = sum(item.status != "finished" and not item.diverged for item in made.values())
        curve = Curve(optimizer, rates, accuracy, n_failed, None, self.within, self.comparison.level)
        if curve.width is None:
            return curve
        best = [made[curve.width.best, seed] for seed in seeds]
        return dataclasses.replace(curve, test=self._test(best))

    def _accuracy(self, item: Made) -> float:
        return self.comparison.accuracy_of(item) if item.status == "finished" else math.nan

    def _test(self, items: Sequence[Made]) -> Interval | None:
        """Return the accuracy on test of the runs at the best rate; None where there is no test split, or one diverged."""
        found = {item: right(Path(item.place), "test") for item in items if item.status == "finished"}
        if len(found) < len(items) or not all(known.answers for known in found.values()):
            return None
        (shares,) = outcomes(found).values()
        return interval_of(shares.mean(1), self.comparison.level)

    def verdicts(self) -> dict[str, WidthVerdict]:
        """Return how much wider every rule is than the first, in decades, with intervals over seeds and Holm's levels.

        Rules whose range reaches an end of the grid are left out: their width is not known.
        """
        step = max(float(np.diff(np.log10(rates)).max()) for rates in self.grids.values())
        known = {curve.optimizer: curve.width for curve in self.curves() if curve.width is not None}
        first = next(iter(self.grids))
        bounded = {name: width for name, width in known.items() if width.bounded and width.n_seeds > 1}
        if first not in bounded:
            return {}
        base, n = bounded[first].by_seed, bounded[first].n_seeds
        pairs = {name: (width.by_seed, base) for name, width in bounded.items() if name != first and width.n_seeds == n}
        known_ones = differences(pairs, self.comparison.level) if pairs else {}
        return {name: WidthVerdict(difference, step) for name, difference in known_ones.items()}

    # -------------------------------------------------------------------------------------------------------------- as text

    def lines(self) -> list[str]:
        """Return the table and what can be said of the widths as lines for a terminal."""
        curves = self.curves()
        rows = [("optimizer", "best rate", "validation", "test", "decades", "range", "diverged"), *map(_row, curves)]
        first = next(iter(self.grids))
        told = [f"{name} against {first}: {verdict.text}" for name, verdict in self.verdicts().items()]
        about = f"decades: the width of the range of rates within {in_points(self.within)} of the best"
        told += [
            f"{curve.optimizer}: rates around its best differ by about {100 * width.noise:.1f} points by chance, so it may be "
            f"wider than this; more seeds would tell"
            for curve in curves
            if (width := curve.width) is not None and width.noise > self.within * NOISY
        ]
        told += filter(None, [self.comparison.judged_by])
        failed = [line for curve in curves if curve.n_failed for line in self._failures(curve)]
        return [*columns(rows), about, *([""] if told else []), *told, *failed, *([self.ended] if self.ended else [])]

    def _failures(self, curve: Curve) -> list[str]:
        names = {_name(curve.optimizer, rate) for rate in curve.rates}
        bad = [item for item in self.comparison.made if item.name in names and item.status == "failed" and not item.diverged]
        return [f"{item.name}, seed {item.seed}, failed: {item.error}" for item in bad]

    # -------------------------------------------------------------------------------------------------- as data and picture

    def figure(self) -> Drawing:
        """Draw all curves on one picture, and the widths below."""
        return draw_curves(self.curves(), title=f"Accuracy against learning rate on {self.comparison.data}")

    @property
    def frame(self) -> Any:
        """One row per run: optimizer, lr, seed, accuracy of validation, as a pandas frame. Raises MissingExtra without pandas."""
        names = {_name(optimizer, rate): (optimizer, rate) for optimizer, rates in self.grids.items() for rate in rates}
        return pandas_for("sensitivity.frame").DataFrame(
            [
                {"optimizer": names[item.name][0], "lr": names[item.name][1], "seed": item.seed, "val": self._accuracy(item),
                 "diverged": item.diverged, "wall_s": item.wall_s}
                for item in self.comparison.made
            ]
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Return what was swept, as plain data."""
        found = self.comparison
        return {
            "schema": SCHEMA, "data": found.data, "split": found.split, "level": found.level, "within": self.within,
            "grids": {name: list(rates) for name, rates in self.grids.items()}, "ended": found.ended,
        }  # fmt: skip

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the curves, and the verdict on every rule but the first."""
        first = next(iter(self.grids))
        yield from ({"kind": "curve"} | curve.facts() for curve in self.curves())
        for name, verdict in self.verdicts().items():
            yield {"kind": "verdict", "optimizer": name, "against": first} | verdict.facts()


def load_sensitivity(path: Path | str) -> Sensitivity:
    """Read a sensitivity's folder. Raises RunError where there is none, or one of another version."""
    found, facts = opened(path, Sensitivity.kind)
    return Sensitivity(found, {name: tuple(rates) for name, rates in facts["grids"].items()}, facts["within"])


def _name(optimizer: str, rate: float) -> str:
    return f"{optimizer} at {rate:g}"


def _row(curve: Curve) -> tuple[str, ...]:
    n = curve.accuracy.size
    diverged = f"{curve.n_diverged} of {n}" if curve.n_diverged else "none"
    width = curve.width
    if width is None:
        return (curve.optimizer, "-", "-", "-", f"{curve.n_failed} failed" if curve.n_failed else "-", "-", diverged)
    return (curve.optimizer, f"{width.best:g}", share(width.accuracy), share(curve.test), width.text, width.range_text, diverged)


# ---------------------------------------------------------------------------------------------------------- carrying out


def sweep_rates(
    base: Recipe, optimizers: Sequence[str], settings: Settings, *, n_rates: int | None = None, low: float | None = None,
    high: float | None = None, within: float = WITHIN, fit: Fit, resume: Fit, out: Path | None, progress: Progress,
    arrays: Any = None,
) -> Sensitivity:  # fmt: skip
    """Train every rule at every rate of its grid, and return what came of it.

    base: the recipe; what it leaves open is decided for the data first, and for all alike. optimizers: spec texts without a rate.
    n_rates: of each rule, by default two per decade. low, high: ends of the grid, by default those of the range worth searching
    that the knob ``lr`` of each rule names. within: what is forgiven, a share of the pictures. Runs are shared as those of
    ``compare``. Raises KnobError or SpecError for what cannot be swept, and DescendErrors before the first run.
    """
    if not optimizers:
        raise KnobError("sensitivity", "needs one optimizer or more", got=list(optimizers), fix="Such as: sgd momentum adam.")
    if not 0 < within < 1:
        raise KnobError("sensitivity", "within must lie in (0, 1), a share of the pictures", got=within)
    rules = {text: _rule(text) for text in optimizers}
    if len(rules) < len(optimizers) or len({str(rule) for rule in rules.values()}) < len(rules):
        raise KnobError("sensitivity", "optimizers must differ", got=list(optimizers))
    grids = {text: grid(rule, n_rates=n_rates, low=low, high=high) for text, rule in rules.items()}
    looked = LookedAt(from_settings({"optimizer": str(next(iter(rules.values())))}, base), arrays)
    shared = looked.completed(looked.base)
    chosen = [
        Candidate(_name(text, rate), from_settings({"optimizer": str(at_rate(rules[text], rate))}, shared))
        for text, rates in grids.items()
        for rate in rates
    ]
    profile = profile_of(looked.dataset)
    for text, rule in rules.items():
        resolve(from_settings({"optimizer": str(at_rate(rule, grids[text][0]))}, shared), profile)
    found = carried_out(
        chosen, looked, settings, fit=fit, resume=resume, out=out, progress=progress, against={}, split="val"
    )  # fmt: skip
    sensitivity = Sensitivity(found, grids, within)
    sensitivity.save()
    return sensitivity


def _rule(text: str) -> Rule:
    """Return the rule whose rate is to be swept. Raises KnobError where it has none, or where text sets one."""
    rule = build(text, Rule)
    if "lr" not in knob_names(rule):
        raise KnobError("sensitivity", "sweeps the learning rate, and this optimizer has none", got=text)
    if sets_knob(parse(text), "lr"):
        raise KnobError("sensitivity", "sweeps lr, so it cannot be set", got=text, fix="Leave lr out; --low and --high bound it.")
    return rule


def grid(
    rule: Rule, *, n_rates: int | None = None, low: float | None = None, high: float | None = None
) -> tuple[float, ...]:  # fmt: skip
    """Return rates at equal distances in the logarithm, rounded to two digits; see ``sweep_rates``.

    >>> from descend.comparison import grid
    >>> from descend.optim import Adam
    >>> grid(Adam(), n_rates=3, low=1e-3, high=1e-1)
    (0.001, 0.01, 0.1)
    """
    if n_rates is not None:
        check_count("sensitivity", n_rates, knob="rates", least=2)
    search = _range_of(rule)
    low, high = low if low is not None else search.low, high if high is not None else search.high
    if not (0 < low < high and math.isfinite(high)):
        raise KnobError("sensitivity", "the rates must rise from above 0: low < high", got=(low, high))
    n_rates = n_rates or max(2, round(PER_DECADE * math.log10(high / low)) + 1)
    rates = [float(f"{rate:.2g}") for rate in np.geomspace(low, high, n_rates)]
    if len(set(rates)) < len(rates):
        raise KnobError("sensitivity", "rates must differ in their first two digits", got=rates[:8], fix="Lower --rates.")
    return tuple(rates)


def _range_of(rule: Rule) -> Search:
    """Return the range worth searching that the knob lr names."""
    for part in parts(rule):
        for knob in knobs(type(part)):
            if knob.name == "lr" and knob.search is not None:
                return knob.search
    raise KnobError("sensitivity", f"{rule.name} names no range of rates worth searching", fix="Give --low and --high.")
