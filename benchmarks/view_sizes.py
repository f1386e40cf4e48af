"""Few pixels of many pictures, or many pixels of few? Heads on frozen features of Lite0, by the side of the view and the share.

    python benchmarks/view_sizes.py                       hymenoptera, sign-digits and flowers5; goes on where it stopped

What a search may assume when not all pictures fit into its time: computing features takes time in proportion to the area, so at
half the side four times as many pictures fit. Features of late stages, the head fitted as in ``--transfer features``, on all
training pictures, a half, a quarter and an eighth of every class; means over three draws of the part, on one split.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from descend.data import load
from descend.models import Lite0
from descend.transfer import Engine, fit_logistic, make_engine
from frozen import asked, frozen_features
from harness import go_on
from splits import split

SETS, SIDES = ("hymenoptera", "sign-digits", "flowers5"), (64, 96, 128, 160, 192, 224)
SHARES, DRAWS = (1.0, 0.5, 0.25, 0.125), 3


def engine_of(side: int) -> Engine:
    """Return the engine of the network with its late stages, for pictures of a side."""
    backbone = Lite0().build(0)
    return make_engine("torch", backbone, size=side, taps=backbone.late_stages)


def row_of(name: str, side: int, work: Path) -> dict[str, Any]:
    """Return the test accuracy of heads on each share of the training pictures: share -> mean over draws."""
    dataset, engine = load(split(name, 0, work)), engine_of(side)
    train, test = dataset.indices("train"), dataset.indices("test")
    x, y = frozen_features(dataset, train, engine, side), dataset.labels[train]
    x_test, y_test = frozen_features(dataset, test, engine, side), dataset.labels[test]
    found = {}
    for share in SHARES:
        accuracies = []
        for draw in range(DRAWS if share < 1 else 1):
            order = np.random.default_rng(draw).permutation(len(y))
            kept = np.concatenate(
                [rows[: max(2, round(share * len(rows)))] for c in np.unique(y) for rows in [order[y[order] == c]]]
            )
            fit = fit_logistic(x[kept][:, None], y[kept], len(dataset.classes), n_folds=3)
            accuracies.append(float(((x_test @ fit.weight.T + fit.bias).argmax(1) == y_test).mean()))
        found[f"{share:g}"] = round(float(np.mean(accuracies)), 4)
    return found | {"n_train": len(y), "n_test": len(y_test)}


def main() -> None:
    names, work = asked(__doc__, SETS, "descend-view-sizes")
    jobs = [(f"{name} {side}", partial(row_of, name, side, work)) for name in names for side in SIDES]
    go_on("view_sizes", "accuracy by the side of the view and the share of the pictures", jobs)


if __name__ == "__main__":
    main()
