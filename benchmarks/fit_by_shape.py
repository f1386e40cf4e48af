"""Which fit tells photographs of each shape apart best: the center square, the squashed whole, or the whole on gray bars.

    python benchmarks/fit_by_shape.py

Claim: the default (``descend.data.shapes.fit_for``: crop up to 2:1, squash beyond) has the lowest held-out loss at every shape,
in the median over seeds. The photographs of ants and bees are cut to a shape at a random place along their other side; the
features are Lite0's at 224 px (a crop from 256 px, as in training), the head is fitted as in ``--transfer features``. What is
compared is the cross-validated loss on train, in nats; the validation accuracy is published beside it. The cut keeps what the
photographer framed, so a center that holds the subject is taken for granted: what a crop loses where the subject stands at an
end is the business of tests/end_to_end/test_wide_pictures.py.

Missed at 3:1, where crop and squash lie within each other's spread: the default is squash there for what a crop may never see.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data import Dataset, decode_resized, load
from descend.data.shapes import crop_loss, fit_for
from descend.models import Lite0
from descend.pixels import FITS, Fit, PixelPolicy
from descend.transfer import Engine, fit_logistic, make_engine
from harness import data, save, spread

SHAPES = (Fraction(4, 3), Fraction(3, 2), Fraction(16, 9), Fraction(2), Fraction(3))
SEEDS, SIZE, STORED = 3, 224, 256


def cut(picture: NDArray[np.uint8], shape: Fraction, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Cut (H, W, 3) uint8 so that its longer side is ``shape`` times the other one, at a random place."""
    longer, shorter = max(picture.shape[:2]), min(picture.shape[:2])
    if longer < shape * shorter:
        shorter = max(1, round(longer / shape))
    else:
        longer = round(shorter * shape)
    wide = picture.shape[1] >= picture.shape[0]
    height, width = (shorter, longer) if wide else (longer, shorter)
    top, left = (
        int(generator.integers(0, have - want + 1)) for have, want in zip(picture.shape[:2], (height, width), strict=True)
    )
    return picture[top : top + height, left : left + width]


def seen(pictures: list[NDArray[np.uint8]], fit: Fit) -> NDArray[np.uint8]:
    """Return what the network sees of each picture: (N, S, S, 3) uint8."""
    side = STORED if fit == "crop" else SIZE
    margin = (side - SIZE) // 2
    policy = PixelPolicy(fit=fit, background="gray")
    stored = np.stack([decode_resized(picture, side, policy=policy) for picture in pictures])
    return np.ascontiguousarray(stored[:, margin : margin + SIZE, margin : margin + SIZE])


def judged(dataset: Dataset, engine: Engine, images: NDArray[np.uint8], seed: int) -> tuple[float, float]:
    """Return the cross-validated loss on train, nats, and the accuracy on validation."""
    features = np.concatenate([engine(part) for part in np.array_split(images, len(images) // 50)])
    train, val = dataset.indices("train"), dataset.indices("val")
    n_classes, units = len(dataset.classes), dataset.evidence(train)
    fit = fit_logistic(features[train][:, None], dataset.labels[train], n_classes, units=units, seed=seed)
    assert fit.best is not None  # strengths were tried
    answers = (features[val] @ fit.weight.T + fit.bias).argmax(1)
    return fit.best.loss, float((answers == dataset.labels[val]).mean())


def main() -> None:
    """Measure every fit at every shape on the same cuts."""
    dataset = load(data("hymenoptera"))
    engine = make_engine("onnxruntime", Lite0().build(0), size=SIZE)
    originals = [dataset.read(row) for row in range(len(dataset))]
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        losses: dict[str, list[float]] = {fit: [] for fit in FITS}
        accuracies: dict[str, list[float]] = {fit: [] for fit in FITS}
        for seed in range(SEEDS):
            generator = np.random.default_rng(seed)
            pictures = [cut(picture, shape, generator) for picture in originals]
            for fit in FITS:
                loss, accuracy = judged(dataset, engine, seen(pictures, fit), seed)
                losses[fit].append(loss)
                accuracies[fit].append(accuracy)
        default = fit_for(crop_loss(np.array([[shape.numerator * 100, shape.denominator * 100]], np.int32)))[0]
        best = min(losses, key=lambda fit: float(np.median(losses[fit])))
        row: dict[str, Any] = {"shape": f"{shape.numerator}:{shape.denominator}", "default": default, "best": best}
        row |= {f"{fit}_loss": spread(losses[fit]) for fit in FITS}
        rows.append(row | {f"{fit}_val_accuracy": spread(accuracies[fit]) for fit in FITS})
        print(row)
    held = all(row["default"] == row["best"] for row in rows)
    save("fit_by_shape", claim="the default fit has the lowest held-out loss at every shape", result={"held": held, "rows": rows})


if __name__ == "__main__":
    main()
