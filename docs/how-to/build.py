"""Draw the pictures of docs/how-to/judge.md.

    python docs/how-to/build.py                 # how wide an interval is
    python docs/how-to/build.py RUN             # and the figures of a run's report: descend fit hymenoptera --budget 2m

The first follows from ``descend.stats`` alone: same bytes always. The others are copied from the run's ``figures/``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from descend.drawing import COLORS, STYLE, Drawing, save
from descend.stats import proportion

FIGURES = Path(__file__).parent / "figures"
OF_RUN = ("confusion-val.svg", "reliability.svg", "coverage.svg")
SHARES = (0.95, 0.8)  # right
FEWEST, MOST = 20, 20_000  # pictures


def intervals() -> Drawing:
    """Draw the 95% interval of two accuracies against the number of pictures."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        counts = np.unique(np.geomspace(FEWEST, MOST, 200).astype(int) // 20 * 20)  # both shares are whole numbers of pictures
        for share, color in zip(SHARES, COLORS, strict=False):
            found = [proportion(round(share * n), int(n)) for n in counts]
            axes.fill_between(
                counts, [100 * one.low for one in found], [100 * one.high for one in found], color=color, alpha=0.25
            )
            axes.plot(counts, [100 * one.mean for one in found], color=color, label=f"{share:.0%} right")
        axes.set_xscale("log")
        axes.set_xlabel("pictures that judge")
        axes.set_ylabel("plausible accuracy, %")
        axes.legend(loc="lower right")
        return Drawing(figure)


def main() -> None:
    """Draw the one, and copy the others from every run that is named."""
    FIGURES.mkdir(exist_ok=True)
    save(intervals(), FIGURES / "interval.svg")
    for run in sys.argv[1:]:
        for name in OF_RUN:
            shutil.copyfile(Path(run) / "figures" / name, FIGURES / name)


if __name__ == "__main__":
    main()
