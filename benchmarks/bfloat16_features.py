"""Features in bfloat16 beside those in float32: how quick they are, and whether heads on them are as good.

    python benchmarks/bfloat16_features.py                goes on where it stopped

Needs a processor that multiplies bfloat16, and openvino. To each set of features that a search offers a head is fitted as in
``--transfer features``; told are its held-out loss, and loss and accuracy on test: of a head on float32, of one on bfloat16, and
of that one on test features in float32, which are what an exported model computes. One split of each set.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from descend.data import load
from descend.models import Lite0
from descend.transfer import make_engine, measure
from frozen import asked, frozen_features, head_on
from harness import go_on
from splits import KNOWN, split

SIDE, SIDES, SMALL = 224, {"cifar10": 96, "flowers5": 96}, 96  # pixels of a view
FLOAT32, BFLOAT16 = "openvino", "openvino-bf16"
CHUNKS = 64  # of pictures, that tell the pace


def row_of(name: str, side: int, work: Path) -> dict[str, Any]:
    """Return pictures per second of both engines, and what heads on each set of features reach."""
    dataset, backbone = load(split(name, 0, work)), Lite0().build(0)
    train, test = dataset.indices("train"), dataset.indices("test")
    engines = {kind: make_engine(kind, backbone, size=side, taps=backbone.every_tap) for kind in (FLOAT32, BFLOAT16)}
    rates = measure(engines, n_chunks=CHUNKS)
    x, x_test = ({kind: frozen_features(dataset, rows, engines[kind], side) for kind in engines} for rows in (train, test))
    y, y_test, n_classes = dataset.labels[train], dataset.labels[test], len(dataset.classes)
    found = dict[str, Any](n_train=len(y), n_test=len(y_test), side=side, pictures_per_s=rates)
    for stages, taps in backbone.feature_sets.items():
        width = backbone.n_columns(taps)
        heads = {FLOAT32: (FLOAT32, FLOAT32), BFLOAT16: (BFLOAT16, BFLOAT16), "bf16, tested in float32": (BFLOAT16, FLOAT32)}
        found[stages] = {
            what: head_on(x[learned][:, -width:], y, x_test[told][:, -width:], y_test, n_classes)
            for what, (learned, told) in heads.items()
        }
    return found


def main() -> None:
    names, work = asked(__doc__, KNOWN, "descend-bfloat16-features")
    jobs = [(name, SIDES.get(name, SIDE)) for name in names] + [(name, SMALL) for name in names if name == "sign-digits"]
    claim = "heads on features in bfloat16 are as good as those on float32, and the features are quicker"
    go_on("bfloat16_features", claim, [(f"{name}, {side} px", partial(row_of, name, side, work)) for name, side in jobs])


if __name__ == "__main__":
    main()
