"""What late stages, covariances of channels and quarters of maps are worth to a head on frozen features of Lite0.

    python benchmarks/feature_sets.py                     goes on where it stopped

Heads are fitted to each set of features as in ``--transfer features``, the strength of the penalty chosen by cross-validation on
training pictures; told are the held-out loss there, and loss and accuracy on test. One split, 224 px (CIFAR-10: 128).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from descend.data import load
from descend.models import Lite0
from descend.transfer import make_engine
from frozen import asked, frozen_features, head_on
from harness import go_on
from splits import KNOWN, split

SIDE, SIDES = 224, {"cifar10": 128}  # pixels of a view


def row_of(name: str, work: Path) -> dict[str, Any]:
    """Return what a head on each set of features of one data set reaches."""
    dataset, backbone, side = load(split(name, 0, work)), Lite0().build(0), SIDES.get(name, SIDE)
    engine = make_engine("auto", backbone, size=side, taps=backbone.every_tap)
    train, test = dataset.indices("train"), dataset.indices("test")
    x, x_test = (frozen_features(dataset, rows, engine, side) for rows in (train, test))
    y, y_test = dataset.labels[train], dataset.labels[test]
    found = dict[str, Any](n_train=len(y), engine=engine.name, side=side)
    for stages, taps in backbone.feature_sets.items():
        width = backbone.n_columns(taps)
        found[stages] = {"columns": width} | head_on(x[:, -width:], y, x_test[:, -width:], y_test, len(dataset.classes))
    return found


def main() -> None:
    names, work = asked(__doc__, KNOWN, "descend-feature-sets")
    claim = "covariances of channels and quarters of maps lower the loss of a head on frozen features"
    go_on("feature_sets", claim, [(name, partial(row_of, name, work)) for name in names])


if __name__ == "__main__":
    main()
