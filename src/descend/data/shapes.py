"""What the shapes of pictures mean for a network that sees squares: how much a center crop loses, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from descend.pixels import Fit

FEW = 0.1  # of the pictures may lose more than half of their area before another fit than a crop becomes the default


class CropLoss(NamedTuple):
    """What a center crop never sees of a set of pictures.

    area: its share of their area, 0 to 1, in the mean over pictures, so that large ones count no more; 0 where all are square.
    mostly_unseen: the share of pictures that lose more than half, those longer than twice their width.
    """

    area: float
    mostly_unseen: float


SQUARE = CropLoss(0.0, 0.0)


def crop_loss(sizes: NDArray[np.int32]) -> CropLoss:
    """Return what a center crop loses. sizes: (N, 2), width and height in pixels.

    >>> import numpy as np
    >>> from descend.data.shapes import crop_loss
    >>> crop_loss(np.array([[400, 100], [75, 100]], np.int32))
    CropLoss(area=0.5, mostly_unseen=0.5)
    """
    lost = 1 - sizes.min(axis=1) / sizes.max(axis=1)
    return CropLoss(float(lost.mean()), float((lost > 0.5).mean()))


def fit_for(loss: CropLoss) -> tuple[Fit, str]:
    """Return how pictures become square by default, and why.

    Ordinary photographs are cropped: the center keeps shapes true and holds the subject (a crop of 3:2 loses 33% of the area, of
    16:9 44%). Photographs of ants and bees, cut to longer and longer shapes around what was framed, have a lower held-out loss
    by their center than squashed up to 2:1; at 3:1 the two no longer differ by more than their spread, and bars are worse up
    to there (benchmarks/fit_by_shape.py). Where more than a tenth of the pictures are longer than 2:1, what decides may stand
    where a crop never looks, and all are squashed: that costs some points where the subject is in the middle after all, and a
    crop costs everything where it is not.
    """
    if loss.area == 0:
        return "crop", "every picture is square"
    if loss.mostly_unseen > FEW:
        many = f"{loss.mostly_unseen:.0%} of the pictures" if loss.mostly_unseen < 1 else "every picture"
        return "squash", f"a center crop would lose more than half of {many}: all is seen, with bent shapes"
    return "crop", f"the center square keeps shapes true, and {1 - loss.area:.0%} of the pictures' area"
