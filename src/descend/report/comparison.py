"""From a comparison to ``report.html``: what is known of the differences, what each candidate took, and how it was done."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from matplotlib.axes import Axes

from descend.comparison.picture import Drawn, Palette, draw_differences, draw_scores, one
from descend.report import words
from descend.report.charts import GRID, INK, MUTED, TRAIN, VAL, inline, render
from descend.report.page import environment
from descend.train import folder

if TYPE_CHECKING:
    from descend.comparison import Comparison, Verdict
    from descend.comparison.runs import Made
    from descend.comparison.tuning import Tuning

LOG = "failed.txt"
MOST_LOG = 6000  # characters of a log, from its end
_PALETTE = Palette(ink=INK, muted=MUTED, grid=GRID, known=VAL, open=TRAIN)


def write_comparison(found: Comparison) -> Path:
    """Write ``report.html`` into the folder of a comparison, atomically, and return its path.

    The page needs no network, no script and no other file; the runs of the comparison must still be there. Raises RunError where
    one of them is gone, or where the folder cannot be written to.
    """
    page = environment().get_template("comparison.html").render(_context(found))
    path = found.folder / folder.REPORT
    folder.write_text(path, page)
    return path


def _context(found: Comparison) -> dict[str, Any]:
    verdicts, drawn = found.verdicts(), found.drawn()
    return {
        "found": found,
        "opposite": drawn.opposite,
        "headline": _headline(drawn.opposite, verdicts),
        "judged": words.SPLITS[found.split],
        "n_pictures": found.n_pictures if found.seeds else None,
        "verdicts": [_row(verdict) for verdict in verdicts],
        "drawings": _drawings(drawn, verdicts) if any(drawn.scores.values()) else {},
        "scores": _scores(found, drawn),
        "costs": [(name, found.costs(name)) for name in found.names],
        "target": found.target,
        "tunings": [_tuning(tuning) for tuning in found.tunings],
        "failures": [(item, _log(item)) for item in found.made if item.status == "failed"],
        "words": words,
        "memory": lambda cost: cost.memory.replace("-", "\N{EN DASH}").replace(" ", "\N{NO-BREAK SPACE}"),
    }


def _headline(opposite: str, verdicts: list[Verdict]) -> str:
    """Return what came of it in one sentence."""
    if not verdicts:
        return f"Nothing can be said yet: no candidate has finished a run on a seed that {opposite} has finished too."
    if len(verdicts) == 1:
        return f"{verdicts[0].text}."
    told_apart = [verdict for verdict in verdicts if verdict.different]
    if not told_apart:
        return f"None of {len(verdicts)} candidates is told apart from {opposite}."
    are = "is" if len(told_apart) == 1 else "are"
    one_run = " by one run each: other seeds are not covered" if any(each.known.n_seeds == 1 for each in told_apart) else ""
    lost = "; runs that failed are left out" if any(each.lost for each in told_apart) else ""
    return f"{len(told_apart)} of {len(verdicts)} candidates {are} told apart from {opposite}{one_run}{lost}."


def _row(verdict: Verdict) -> dict[str, Any]:
    known, beside = verdict.known, verdict.bootstrap
    return {
        "name": verdict.name, "text": verdict.text, "different": verdict.different, "points": _points(known.interval.mean),
        "interval": _span(known.interval), "level": f"{100 * known.level:.4g}%", "p": f"{known.p_value:.2g}",
        "bootstrap": None if beside is None else _span(beside), "covers": known.covers,
    }  # fmt: skip


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def _span(interval: Any) -> str:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return "open"
    return f"{_points(interval.low)} to {_points(interval.high)}"


def _drawings(drawn: Drawn, verdicts: list[Verdict]) -> dict[str, Markup]:
    """Draw differences and scores in colors that the page sets."""
    kinds: dict[str, tuple[Callable[[Axes, Drawn, Palette], None], str]] = {
        "differences": (draw_differences, "; ".join(verdict.text for verdict in verdicts)),
        "scores": (draw_scores, "; ".join(f"{name} {_range(list(known.values()))}" for name, known in drawn.scores.items())),
    }
    return {name: inline(render(one(drawn, draw, _PALETTE)), name, alt) for name, (draw, alt) in kinds.items()}


def _range(scores: list[float]) -> str:
    return f"{min(scores):.1%} to {max(scores):.1%}" if scores else "has no finished run"


def _scores(found: Comparison, drawn: Drawn) -> dict[str, Any]:
    """Return the accuracy of every run as a table: seeds as columns."""
    seeds = sorted({item.seed for item in found.made})
    return {"seeds": seeds, "rows": [(name, [known.get(seed) for seed in seeds]) for name, known in drawn.scores.items()]}


def _tuning(tuning: Tuning) -> dict[str, Any]:
    return {
        "text": tuning.text, "space": [str(each) for each in tuning.space], "names": [each.name for each in tuning.space],
        "chosen": tuning.chosen, "trials": tuning.trials, "metric": words.METRICS.get(tuning.metric, tuning.metric),
        "seed": tuning.seed,
    }  # fmt: skip


def _log(item: Made) -> str:
    """Return the end of the log of a failed run; what stopped it where the log is gone."""
    try:
        text = (Path(item.place) / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return item.error
    return text if len(text) <= MOST_LOG else "...\n" + text[-MOST_LOG:]
