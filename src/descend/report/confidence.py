"""How far stated confidences can be trusted: a reliability diagram, before and after the temperature, and accuracy by coverage.

Source: DeGroot & Fienberg 1983, The Statistician 32, 12-22 (reliability diagram); Geifman & El-Yaniv 2017, arXiv:1705.08500
(accuracy of the answers that are given, by their share).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from descend.percentages import tick
from descend.report.charts import MUTED, SETTINGS, TRAIN, VAL, Chart, Line, dress, finished, limits
from descend.train import metrics
from descend.train.record import RunRecord
from descend.train.record_types import Calibration, Score

BEFORE = Line("before", "before the temperature", TRAIN, "--", 1.4)
AFTER = Line("after", "after", VAL, "-", 1.9)
SURE = Line("coverage", "right among the answers given", VAL, "-", 1.9)
_TOLD = (0.5, 0.8, 0.9, 0.95, 0.99)  # thresholds of the table
FEWEST = 10  # answers of a mark: what fewer say is chance


@dataclass(frozen=True)
class Confidence:
    """What the page tells of one split: two charts, the figures of the bins, and what thresholds of confidence leave.

    thresholds: (confidence asked for, share of answers that reach it, how many of those are right, their interval's ends).
    """

    split: str
    charts: tuple[Chart, Chart]
    ece: tuple[float, float]
    bins: list[list[float]]
    thresholds: list[tuple[float, float, float, float, float]]
    fewest: int = FEWEST


def confidence(record: RunRecord) -> Confidence | None:
    """Return what is known of a run's confidences, on the test split or else on validation; None where nothing is."""
    for split in ("test", "val"):
        known = record.calibration.get(split)
        if known is not None and known["coverage"] and known["coverage"][0][0]:
            both = known["before"]["ece"], known["after"]["ece"]
            charts = _reliability_chart(known, getattr(record, split)), _coverage_chart(known["coverage"])
            return Confidence(split, charts, both, known["after"]["bins"], _thresholds(known["coverage"], record, split))
    return None


def _reliability_chart(known: Calibration, score: Score) -> Chart:
    before, after = (joined(known[when]["bins"]) for when in ("before", "after"))
    told = "; ".join(f"{stated:.0%} stated, {right:.0%} of {n:.0f} right" for n, stated, right in after)
    alt = f"Reliability: the share that is right against stated confidence, after the temperature: {told}."
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _axes()
        axes.plot([0, 1], [0, 1], ":", color=MUTED, linewidth=0.9)
        for line, found in ((BEFORE, before), (AFTER, after)):
            _points(axes, line, found)
        for n, stated, right in after:
            found = metrics.interval_of_share(right, n, score)
            axes.plot([stated, stated], [found.low, found.high], color=AFTER.color, linewidth=1.1, clip_on=False)
        dress(axes, "stated confidence")
        axes.set_xlim(min(bin_[1] for bin_ in (*before, *after)) - 0.03, 1.02)
        axes.set_ylim(-0.02, 1.02)
        _in_percent(axes)
        return finished(figure, "Stated and true", "reliability", alt, (BEFORE, AFTER))


def joined(bins: Sequence[Sequence[float]]) -> list[tuple[float, float, float]]:
    """Return bins (answers, mean confidence, share that is right) of at least ``FEWEST`` answers, neighbors put together.

    bins: in order of confidence. All answers stay: where the last ones are too few, they join those before them.
    """
    whole: list[list[float]] = []  # answers, and the sums of confidence and of what is right
    for n, stated, right in bins:
        if not whole or whole[-1][0] >= FEWEST:
            whole.append([0.0, 0.0, 0.0])
        whole[-1] = [whole[-1][0] + n, whole[-1][1] + n * stated, whole[-1][2] + n * right]
    if len(whole) > 1 and whole[-1][0] < FEWEST:
        last = whole.pop()
        whole[-1] = [a + b for a, b in zip(whole[-1], last, strict=True)]
    return [(n, stated / n, right / n) for n, stated, right in whole]


def _points(axes: Axes, line: Line, found: Sequence[tuple[float, float, float]]) -> None:
    """Draw a mark per bin, its area by the answers in it, joined by a line."""
    n, stated, right = np.array(found, float).T
    axes.plot(stated, right, line.dashes, color=line.color, linewidth=line.width, clip_on=False)
    axes.scatter(stated, right, s=12 + 90 * n / n.sum(), color=line.color, linewidths=0, clip_on=False, zorder=3)


def _coverage_chart(coverage: Sequence[Sequence[int]]) -> Chart:
    n = coverage[0][0]
    given = np.array([[reached / n, right / reached] for reached, right in coverage if reached])
    alt = f"Accuracy by coverage: {given[0, 1]:.1%} right of all, {given[-1, 1]:.1%} of the surest {given[-1, 0]:.1%}."
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _axes()
        axes.plot(given[:, 0], given[:, 1], SURE.dashes, color=SURE.color, linewidth=SURE.width, clip_on=False)
        dress(axes, "share of pictures that are answered, the surest first")
        axes.set_xlim(0, 1)
        axes.set_ylim(*limits([float(value) for value in given[:, 1]], ceiling=1.0))
        _in_percent(axes)
        return finished(figure, "Right among the answers given", "coverage", alt, (SURE,))


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 3.0))
    FigureCanvasSVG(figure)
    return figure, figure.add_axes((0.135, 0.155, 0.815, 0.765))


def _in_percent(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(tick))


def _thresholds(
    coverage: Sequence[Sequence[int]], record: RunRecord, split: str
) -> list[tuple[float, float, float, float, float]]:
    """Return the rows of thresholds that some answers reach and some do not; intervals count copies once, as the score's do."""
    n = coverage[0][0]
    rows: list[tuple[float, float, float, float, float]] = []
    for asked in _TOLD:
        reached, right = coverage[round(asked * (len(coverage) - 1))]
        if 0 < reached < n:
            found = metrics.interval_of_share(right / reached, reached, getattr(record, split))
            rows.append((asked, reached / n, right / reached, found.low, found.high))
    return rows
