"""The words that choose how pixels become levels and squares: so that whoever only reads a recipe imports no NumPy."""

from __future__ import annotations

from typing import Literal, get_args

Background = Literal["white", "black", "gray"]
BACKGROUNDS: tuple[Background, ...] = get_args(Background)
Fit = Literal["crop", "squash", "pad"]
FITS: tuple[Fit, ...] = get_args(Fit)


def bars(fit: Fit) -> Background:
    """Return the background of opaque pictures: gray where they are padded, the least conspicuous beside photographs."""
    return "gray" if fit == "pad" else "white"
