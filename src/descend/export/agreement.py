"""Does the exported file answer what the network answers? Measured on real pictures, with the tolerances stated.

What counts is the answer. A file that resizes by itself sees single levels of single pixels differently, and a network that is
steep at one picture makes much of that without changing its mind; so the probabilities are held to the tolerance in the mean over
the pictures, and no clear answer may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from descend.errors import ModelError

Answers = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (B, H, W, 3) uint8 -> (B, K) probabilities

SAME_PIXELS = 1e-3  # mean difference of a probability when both see the same pixels: float32 sums in another order
OWN_PIXELS = 0.05  # ... when the file resizes by itself
CLEAR, CLEAR_BY_ITSELF = 0.05, 2 * OWN_PIXELS
"""Lead of the first class over the second, in probability, above which an answer must not change, and where the file resizes by
itself: a difference that is tolerated moves both."""


@dataclass(frozen=True)
class AgreementReport:
    """How far the file's probabilities are from torch's, over ``n`` pictures.

    same_pixels: the mean over pictures of the largest difference, on pictures that are resized already; own_pixels: on pictures
    in their own size, None for a file that does not resize; worst: the largest of those. n_changed: pictures whose first class
    differs, in either form, although torch's lead over the second is clear.
    """

    n: int
    same_pixels: float
    own_pixels: float | None
    worst: float
    n_changed: int

    @property
    def agrees(self) -> bool:
        """Whether no clear answer changed, and both mean differences are within tolerance."""
        return self.n_changed == 0 and self.same_pixels <= SAME_PIXELS and (self.own_pixels or 0.0) <= OWN_PIXELS

    def __str__(self) -> str:
        own = "" if self.own_pixels is None else (
            f" and by {self.own_pixels:.1e} with the file's own resize (tolerance {OWN_PIXELS:g})"
        )  # fmt: skip
        return (
            f"{self.n} pictures: {self.n_changed} clear answers changed; probabilities differ by {self.same_pixels:.1e} in the "
            f"mean on the same pixels (tolerance {SAME_PIXELS:g}){own}, {self.worst:.1e} at most"
        )


def compared(pictures: Iterable[NDArray[np.uint8]], resized: Iterable[NDArray[np.uint8]], *, file: Answers,
             network: Answers, resizes: bool = True) -> AgreementReport:  # fmt: skip
    """Ask both about every picture: (H, W, 3) uint8 as it is, and (R, R, 3) uint8 as the decode policy resizes it.

    The network sees the resized form both times. resizes: whether the file takes pictures of any size. Raises ModelError if there
    is no picture.
    """
    same, resized_by_file = list[float](), list[float]()
    n_changed = 0
    for picture, small in zip(pictures, resized, strict=True):
        expected = network(small[None])[0]
        answers = [file(small[None])[0], *([file(picture[None])[0]] if resizes else [])]
        for differences, answer in zip((same, resized_by_file), answers, strict=False):
            differences.append(float(np.abs(answer - expected).max()))
        second, first = np.sort(expected)[-2:]
        others = [answer.argmax() != expected.argmax() for answer in answers]
        n_changed += any(other and first - second > clear for other, clear in zip(others, (CLEAR, CLEAR_BY_ITSELF), strict=False))
    if not same:
        raise ModelError("export", "needs one picture or more to check the file with")
    own = float(np.mean(resized_by_file)) if resizes else None
    return AgreementReport(len(same), float(np.mean(same)), own, max(resized_by_file or same), n_changed)
