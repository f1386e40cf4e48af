"""Pictures that a run, which reads all by its own scale and background, may show otherwise than it was shown its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.data.traits import NARROW
from descend.pixels import ONE_COLOR, Picture, PixelPolicy, extremes, has_transparency, is_deep, usual_scale
from descend.train.record import RunRecord

_SOME = 8  # every eighth pixel along each side is looked at first: nearly every picture shows there that it has colors
_LEAST_SEEN = 0.5  # of the range of a picture's values that lies within the scale


class Look:
    """A look at one picture while it is decoded; what is wrong is told in words that hold for others, too."""

    def __init__(self, policy: PixelPolicy, *, only_deep: bool) -> None:
        """policy: of the run. only_deep: whether it learned from pictures of more than 8 bits alone."""
        self._policy, self._only_deep = policy, only_deep
        self._why = self._on = ""

    @classmethod
    def of(cls, record: RunRecord) -> Look:
        """Return a new look by what a run was trained on."""
        data = record.data
        n_deep = sum(item["n"] for item in data.get("problems", ()) if item["kind"] == "scale")
        return cls(record.pixel_policy(), only_deep=bool(n_deep) and n_deep >= data["n"])

    def stored(self, picture: Picture) -> None:
        """Look at the pixels as they are stored."""
        if is_deep(picture):
            self._why = self._of_values(picture)
        elif self._only_deep and self._policy.scale is not None and self._policy.scale[0]:
            # a scale that begins at 0 ends where its bits do, or nearly: 8 bits show the same by theirs
            self._why = f"8 bits, and the run learned from more, whose {_ends(self._policy.scale)} became black and white"
        if has_transparency(picture):
            self._on = f", transparent on {self._policy.background}"

    def why_doubtful(self, shown: NDArray[np.uint8]) -> str:
        """Return why the answer to a picture is doubtful, "" where it is not. shown: (R, R, 3), what the network is shown."""
        if not self._why and _is_one_color(shown[::_SOME, ::_SOME]) and _is_one_color(shown):
            return f"a single color as the run reads it{self._on}"
        return self._why

    def _of_values(self, picture: Picture) -> str:
        low, high, *_ = extremes(picture)
        if np.isnan(low):  # refused when its levels are made
            return ""
        scale = self._policy.scale or usual_scale(picture)
        span, seen = high - low, min(high, scale[1]) - max(low, scale[0])
        if (low < scale[0] or high > scale[1]) and seen <= _LEAST_SEEN * span:
            return f"values mostly beyond {_ends(scale)}, which the run shows as black and white"
        whole = scale[1] - scale[0]
        if whole / 255 <= span < NARROW * whole:  # less is one color
            return f"values that span less than a tenth of {_ends(scale)}, shown as black and white: their bits may be fewer"
        return ""


def _ends(scale: tuple[float, float]) -> str:
    return f"{scale[0]:g} and {scale[1]:g}"


def _is_one_color(shown: NDArray[Any]) -> bool:
    return bool((np.ptp(shown.reshape(-1, 3), axis=0) <= ONE_COLOR).all())
