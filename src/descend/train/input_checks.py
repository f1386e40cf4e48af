"""Pictures that a run, which reads all by its own scale and background, may show otherwise than it was shown its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from descend.data.traits import deep_blank, deep_narrow
from descend.pixels import (
    Picture,
    PixelPolicy,
    extremes,
    has_transparency,
    is_deep,
    is_nearly_one_color,
    is_seen_through,
    usual_scale,
)
from descend.train.record import RunRecord

_LEAST_SEEN = 0.5  # of the range of a picture's values that lies within the scale


@dataclass(frozen=True)
class Usual:
    """What a run's own pictures are like, and how it reads all.

    only_deep: they were all of more than 8 bits. known: kinds of problems that fit told of them; these are no matter for doubt.
    """

    policy: PixelPolicy
    only_deep: bool
    known: frozenset[str]

    @classmethod
    def of(cls, record: RunRecord) -> Usual:
        """Return what a run was trained on."""
        told = record.data.get("problems") or ()
        n_deep = sum(item["n"] for item in told if item["kind"] == "scale")
        only_deep = bool(n_deep) and n_deep >= record.data["n"]
        return cls(record.pixel_policy(), only_deep, frozenset(item["kind"] for item in told))


class Look:
    """A look at one picture while it is decoded; what is wrong is told in words that hold for others, too.

    why: the answer to it is doubtful, "" where it is not.
    """

    def __init__(self, usual: Usual) -> None:
        self._usual, self.why = usual, ""

    def stored(self, picture: Picture) -> None:
        """Look at the pixels as they are stored."""
        policy = self._usual.policy
        if is_deep(picture):
            self.why = self._of_values(picture)
        elif self._usual.only_deep and policy.scale is not None and policy.scale[0]:
            # a scale that begins at 0 ends where its bits do, or nearly: 8 bits show the same by theirs
            self.why = f"8 bits, and the run learned from more, whose {_ends(policy.scale)} became black and white"
        elif has_transparency(picture) and "blank" not in self._usual.known and is_nearly_one_color(picture, policy.background):
            self.why = _one_color(f", transparent on {policy.background}")

    def _of_values(self, picture: Picture) -> str:
        low, high, *_ = extremes(picture)
        if np.isnan(low):  # nothing but missing data, which is told, or refused when its levels are made
            return ""
        policy, known = self._usual.policy, self._usual.known
        scale = policy.scale or usual_scale(picture)
        span, seen = high - low, min(high, scale[1]) - max(low, scale[0])
        if (low < scale[0] or high > scale[1]) and seen <= _LEAST_SEEN * span:
            return f"values mostly beyond {_ends(scale)}, which the run shows as black and white"
        through = has_transparency(picture) and is_seen_through(picture)
        ends = np.array([low]), np.array([high]), np.array([through])
        if deep_blank(*ends, policy.background, scale).any():
            return "" if "blank" in known else _one_color(f", transparent on {policy.background}" * through)
        if "narrow" not in known and deep_narrow(*ends, scale).any():
            return f"values that span less than a tenth of {_ends(scale)}, shown as black and white: their bits may be fewer"
        return ""


def _one_color(on: str) -> str:
    return f"a single color, or nearly, as the run reads it{on}"


def _ends(scale: tuple[float, float]) -> str:
    return f"{scale[0]:g} and {scale[1]:g}"
