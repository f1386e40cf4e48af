"""The vocabulary of the learned and random policies, one entry per operation: how its strength becomes factors.

An operation takes a strength for every image and the images it is chosen for; the others get its neutral element, so one
chain of factors serves a batch in which every image has its own operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from descend.augment.array_types import Bools, Floats, Ints
from descend.augment.channel import inverted
from descend.augment.color import contrasted, gain, saturated
from descend.augment.factors import Draws
from descend.augment.matrices import rotation, shearing, translation
from descend.augment.tone import posterized, solarized


class Space(NamedTuple):
    """The strongest strength of each kind of operation."""

    shear: float  # tangent
    translate: float  # share of the side, or pixels if above 1
    rotate: float  # degrees
    enhance: float  # brightness, color, contrast and sharpness move their factor this far from 1
    bits: int  # posterize takes away up to this many


PUBLISHED = Space(shear=0.3, translate=150 / 331, rotate=30.0, enhance=0.9, bits=4)  # AutoAugment's table 6, RandAugment
WIDE = Space(shear=0.99, translate=32.0, rotate=135.0, enhance=0.99, bits=6)  # TrivialAugment's table 1, "wide"

Append = Callable[[Draws, Floats, Bools], Draws]


def _shear(along: int) -> Append:
    def append(draws: Draws, strength: Floats, chosen: Bools) -> Draws:
        slants = [np.zeros(len(draws)), np.zeros(len(draws))]
        slants[along] = np.where(chosen, strength, 0.0)
        return draws.warp(shearing(slants[0], slants[1], draws.canvas))

    return append


def _translate(along: int) -> Append:
    def append(draws: Draws, strength: Floats, chosen: Bools) -> Draws:
        moves = [np.zeros(len(draws)), np.zeros(len(draws))]
        moves[along] = np.where(chosen, -strength, 0.0)
        return draws.warp(translation(moves[0], moves[1]))

    return append


def _sharpness(draws: Draws, strength: Floats, chosen: Bools) -> Draws:
    return draws.around("sharpen", np.where(chosen & (strength != 0), 1 + strength, np.nan))


OPERATIONS: dict[str, Append] = {
    "identity": lambda draws, strength, chosen: draws,  # noqa: ARG005 (one signature for all)
    "shear_x": _shear(0),
    "shear_y": _shear(1),
    "translate_x": _translate(0),
    "translate_y": _translate(1),
    "rotate": lambda draws, strength, chosen: draws.warp(rotation(np.where(chosen, strength, 0.0), draws.canvas)),
    "brightness": lambda draws, strength, chosen: draws.tint(gain(np.where(chosen, 1 + strength, 1.0))),
    "color": lambda draws, strength, chosen: draws.tint(saturated(np.where(chosen, 1 + strength, 1.0))),
    "contrast": lambda draws, strength, chosen: draws.tint(contrasted(np.where(chosen, 1 + strength, 1.0))),
    "sharpness": _sharpness,
    "posterize": lambda draws, strength, chosen: draws.curve(posterized(np.where(chosen, strength, 8.0))),
    "solarize": lambda draws, strength, chosen: draws.curve(solarized(np.where(chosen, strength, 256.0))),
    "autocontrast": lambda draws, strength, chosen: draws.spread(chosen),  # noqa: ARG005 (one signature for all)
    "equalize": lambda draws, strength, chosen: draws.equalize(chosen),  # noqa: ARG005 (one signature for all)
    "invert": lambda draws, strength, chosen: draws.tint(inverted(chosen)),  # noqa: ARG005 (one signature for all)
}

RANDOM_OPERATIONS = tuple(name for name in OPERATIONS if name != "invert")  # the 14 of RandAugment and TrivialAugment


def strength(operation: str, level: Floats, sign: Floats, space: Space, canvas: tuple[int, int]) -> Floats:
    """Return the strength of an operation at ``level`` (B,) in 0..1 and ``sign`` (B,) +1 or -1, in the operation's own unit.

    shear: tangent; translate: pixels of the canvas (h, w); rotate: degrees; enhancements: factor - 1; posterize: bits kept;
    solarize: threshold in levels; the rest: 0.
    """
    match operation:
        case "shear_x" | "shear_y":
            return sign * level * space.shear
        case "translate_x" | "translate_y":
            side = canvas[1] if operation == "translate_x" else canvas[0]
            return sign * level * (space.translate * side if space.translate <= 1 else space.translate)
        case "rotate":
            return sign * level * space.rotate
        case "brightness" | "color" | "contrast" | "sharpness":
            return sign * level * space.enhance
        case "posterize":
            return 8 - np.rint(level * space.bits)
        case "solarize":
            return 255 * (1 - level)
        case _:
            return np.zeros_like(level)


def run(draws: Draws, names: tuple[str, ...], index: Ints, level: Floats, sign: Floats, space: Space) -> tuple[Draws, Floats]:
    """Append to each image the operation ``names[index]`` (B,); -1 appends none. Returns the strengths beside the draws."""
    strengths = np.zeros(len(draws))
    for k in np.unique(index[index >= 0]):
        chosen = index == k
        drawn = strength(names[k], level, sign, space, draws.canvas)
        strengths[chosen] = drawn[chosen]
        draws = OPERATIONS[names[k]](draws, drawn, chosen)
    return draws, strengths
