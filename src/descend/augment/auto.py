"""Policies from the literature: RandAugment, TrivialAugment, AutoAugment.

Their constants are the papers'; their pixels are ours: operations run in the order of the stages (geometry, tone, color), with
one resampling and one clamp, and mirror the border, which the papers paint gray (``resampling(border=constant)``).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le

from descend.augment.auto_tables import TABLES
from descend.augment.factors import Draws
from descend.augment.operations import OPERATIONS, PUBLISHED, RANDOM_OPERATIONS, WIDE, Space, run
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation
from descend.technique import Probability, Search, technique

_BINS = 31  # magnitudes 0..30 of RandAugment and TrivialAugment
_NAMES = tuple(OPERATIONS)


@technique("randaugment", source="Cubuk et al. 2020, arXiv:1909.13719, section 3")
class RandAugment(Augmentation):
    """Run ``n_operations`` operations, each uniform over fourteen, all at the same ``magnitude`` (0 to 30).

        x' = O_n(... O_1(x))        n = n_operations,  O_i uniform over fourteen operations, at the share s = magnitude / 30:
        shear by +-0.3 s, shift by +-150/331 s of a side, rotate by +-30 s degrees, posterize to 8 - round(4 s) bits,
        brightness, color, contrast, sharpness by the factor 1 +- 0.9 s, solarize from 255 (1 - s) up, or
        autocontrast, equalize, identity

    A fair coin decides each +-. The operations of a picture run in the order sharpness, geometry, tone, color. Two knobs that are
    easy to search; it dislikes tasks where any single operation destroys the answer.
    """

    stage = "geometry"
    neutral: ClassVar = {"p": 0.0}

    n_operations: Annotated[int, Ge(1), Le(8), Search(1, 4)] = 2
    magnitude: Annotated[int, Ge(0), Le(30), Search(1, 20)] = 9
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the operations in turn; noted as their names and strengths, (B, n) each."""
        u = stream.uniform(2 * self.n_operations).reshape(self.n_operations, 2, -1)
        level = np.full(len(draws), self.magnitude / (_BINS - 1))
        return _random(stream, draws, u, np.broadcast_to(level, (self.n_operations, len(draws))), PUBLISHED)


@technique("trivialaugment", source="Müller & Hutter 2021, arXiv:2103.10158, section 3 and table 1 (wide)")
class TrivialAugment(Augmentation):
    """Run one operation, uniform over fourteen, at a magnitude uniform over 0 to 30 of a wide range: nothing to tune.

        x' = O(x)        O uniform over fourteen operations, at the share s = m / 30, m uniform over 0, 1, ..., 30:
        shear by +-0.99 s, shift by +-32 s pixels, rotate by +-135 s degrees, posterize to 8 - round(6 s) bits,
        brightness, color, contrast, sharpness by the factor 1 +- 0.99 s, solarize from 255 (1 - s) up, or
        autocontrast, equalize, identity

    A fair coin decides each +-.
    """

    stage = "geometry"
    neutral: ClassVar = {"p": 0.0}

    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the operation; noted as its name and strength, (B, 1) each."""
        u = stream.uniform(3)
        level = np.floor(u[2:] * _BINS) / (_BINS - 1)
        return _random(stream, draws, u[None, :2], level, WIDE)


def _random(stream: RandomStream, draws: Draws, u: np.ndarray, level: np.ndarray, space: Space) -> Draws:
    index = np.floor(u[:, 0] * len(RANDOM_OPERATIONS)).astype(np.int64)
    sign = np.where(u[:, 1] < 0.5, -1.0, 1.0)
    strengths = np.zeros(index.shape)
    for k, row in enumerate(index):
        draws, strengths[k] = run(draws, RANDOM_OPERATIONS, row, level[k], sign[k], space)
    return draws.note(stream.name, operation=np.array(RANDOM_OPERATIONS)[index.T], strength=strengths.T)


@technique("autoaugment", source="Cubuk et al. 2019, arXiv:1805.09501, tables 7 to 9")
class AutoAugment(Augmentation):
    """Run one of 25 learned pairs of operations, each with its own probability and magnitude.

        x' = O_2(O_1(x))        (O_1, O_2) uniform over the pairs;  O_i runs with its p_i, as in randaugment at s = m_i / 9

    ``table``: the data set that the pairs were learned on; take the one most like yours.
    """

    stage = "geometry"
    neutral: ClassVar = {"p": 0.0}

    table: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the pair; noted as number of the pair (B,), names ("none": not done) and strengths, (B, 2) each."""
        pairs = TABLES[self.table]
        u = stream.uniform(5)
        pair = np.floor(u[0] * len(pairs)).astype(np.int64)
        operations, strengths = np.zeros((len(draws), 2), np.int64), np.zeros((len(draws), 2))
        for k in range(2):
            steps = [row[k] for row in pairs]
            chosen = u[1 + k] < np.array([step.p for step in steps])[pair]
            operations[:, k] = np.where(chosen, np.array([_NAMES.index(step.operation) for step in steps])[pair], -1)
            level = np.array([(step.magnitude or 0) / 9 for step in steps])[pair]
            draws, strengths[:, k] = run(draws, _NAMES, operations[:, k], level, np.where(u[3 + k] < 0.5, -1.0, 1.0), PUBLISHED)
        return draws.note(stream.name, pair=pair, operation=np.array([*_NAMES, "none"])[operations], strength=strengths)
