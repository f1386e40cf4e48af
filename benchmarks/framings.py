"""Which part of a picture a frozen network should see: heads on features of the center, the whole center square, all of it.

    python benchmarks/framings.py                     goes on where it stopped

Heads are fitted to features of Lite0 as in ``--transfer features``: those of the last stage, by which a search compares ways to
make pictures square (``search/framing.py``), and those that also read late stages and covariances. Told are the held-out loss on
training pictures, and loss and accuracy on test. One split, 224 px (CIFAR-10: 128). Pictures that are square all have no shape
to bend: of them the ways are two.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from descend.data import load
from descend.models import Lite0
from descend.pixels import Fit
from descend.transfer import make_engine
from feature_sets import SIDE, SIDES
from frozen import asked, frozen_features, head_on
from harness import go_on
from packaged import PACKAGED
from splits import KNOWN, split

WAYS: dict[str, tuple[Fit, float]] = {
    "crop of 88%": ("crop", 0.875),
    "crop of 100%": ("crop", 1.0),
    "squash": ("squash", 1.0),
    "pad": ("pad", 1.0),
}
READ = ("last", "covariances")


def row_of(name: str, work: Path) -> dict[str, Any]:
    """Return what heads reach on one data set, by the way in which its pictures become square."""
    dataset, backbone, side = load(split(name, 0, work)), Lite0().build(0), SIDES.get(name, SIDE)
    engine = make_engine("auto", backbone, size=side, taps=backbone.every_tap)
    train, test = dataset.indices("train"), dataset.indices("test")
    y, y_test = dataset.labels[train], dataset.labels[test]
    found = dict[str, Any](n_train=len(y), engine=engine.name, side=side, cropped_away=round(dataset.crop_loss.area, 3))
    for way, (fit, crop_pct) in WAYS.items():
        if fit != "crop" and not dataset.crop_loss.area:
            continue
        data = dataset.fitted(fit)
        x, x_test = (frozen_features(data, rows, engine, side, crop_pct=crop_pct) for rows in (train, test))
        found[way] = {}
        for stages in READ:
            width = backbone.n_columns(backbone.feature_sets[stages])
            found[way][stages] = head_on(x[:, -width:], y, x_test[:, -width:], y_test, len(dataset.classes))
    return found


def main() -> None:
    names, work = asked(__doc__, [*KNOWN, *PACKAGED], "descend-framings")
    claim = "which part of a picture a frozen network should see depends on the pictures; held-out loss tells large effects"
    go_on("framings", claim, [(name, partial(row_of, name, work)) for name in names])


if __name__ == "__main__":
    main()
