"""Does the exported file answer what the network answers? Measured on real pictures, with the tolerance stated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from descend.errors import ModelError

Answers = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (B, H, W, 3) uint8 -> (B, K) probabilities

SAME_PIXELS = 1e-3  # largest difference of a probability when both see the same pixels: float32 sums in another order
OWN_PIXELS = 0.05  # ... when the file resizes by itself: single levels of single pixels differ


@dataclass(frozen=True)
class AgreementReport:
    """How far the file's probabilities are from torch's, over ``n`` pictures.

    same_pixels: the largest difference on pictures that are resized already; own_pixels: on pictures in their own size.
    n_changed: pictures whose first class differs although torch's lead over the second is above the tolerance.
    """

    n: int
    same_pixels: float
    own_pixels: float
    n_changed: int

    @property
    def agrees(self) -> bool:
        """Whether both differences are within tolerance and no clear answer changed."""
        return self.same_pixels <= SAME_PIXELS and self.own_pixels <= OWN_PIXELS and self.n_changed == 0

    def __str__(self) -> str:
        return (
            f"{self.n} pictures: probabilities differ by at most {self.same_pixels:.1e} on the same pixels (tolerance "
            f"{SAME_PIXELS:g}) and {self.own_pixels:.1e} with the file's own resize (tolerance {OWN_PIXELS:g}); "
            f"{self.n_changed} clear answers changed"
        )


def compared(pictures: Sequence[NDArray[np.uint8]], resized: Sequence[NDArray[np.uint8]], *, file: Answers,
             network: Answers) -> AgreementReport:  # fmt: skip
    """Ask both about every picture: (H, W, 3) uint8 as it is, and (R, R, 3) uint8 as the decode policy resizes it.

    The network sees the resized form both times. Raises ModelError if there is no picture.
    """
    if not pictures:
        raise ModelError("export", "needs one picture or more to check the file with")
    same = own = 0.0
    n_changed = 0
    for picture, small in zip(pictures, resized, strict=True):
        expected = network(small[None])[0]
        own_answer = file(picture[None])[0]
        same = max(same, float(np.abs(file(small[None])[0] - expected).max()))
        own = max(own, float(np.abs(own_answer - expected).max()))
        lead = np.diff(np.sort(expected)[-2:])[0]
        n_changed += int(own_answer.argmax() != expected.argmax() and lead > OWN_PIXELS)
    return AgreementReport(len(pictures), same, own, n_changed)
