"""Mixing pictures and their targets: mixup blends two, cutmix pastes a box of one into the other.

The partner is another row of the same batch, of all processes together where several train. The targets become shares of
classes, and the loss is their cross-entropy, which is linear in the target: ``CE(w a + (1 - w) b) = w CE(a) + (1 - w) CE(b)``,
the loss of the papers.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import scipy
import torch
from annotated_types import Gt
from numpy.typing import ArrayLike

from descend.augment.array_types import Floats, Ints
from descend.augment.factors import Draws, Mix
from descend.augment.inputs import whole
from descend.augment.occlude import boxes
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation
from descend.errors import DataError, KnobError
from descend.technique import Probability, Search, technique

_MISS = 1e-4  # by which shares may miss one when summed
_N_ROUNDINGS = 4  # of a number coarser than that: of the sums that a half-precision softmax or smoothing leaves
Alpha = Annotated[float, Gt(0), Search(0.1, 2.0, log=True)]


def beta(alpha: float, u: Floats) -> Floats:
    """Map uniform numbers to Beta(alpha, alpha), by the inverse of its distribution."""
    return np.clip(scipy.special.betaincinv(alpha, alpha, u), 0.0, 1.0)


@technique("mixup", source="Zhang et al. 2018, arXiv:1710.09412, equation 1")
class MixUp(Augmentation):
    """Blend each picture, and its target, with another of the batch.

        x' = w x_i + (1 - w) x_j        y' = w y_i + (1 - w) y_j        w ~ Beta(alpha, alpha)

    Prefer it for long training and noisy labels; it costs one blend, and training accuracy stops meaning much. Differs from
    the paper's code: ``w`` is drawn for each picture, not for each batch.
    """

    stage = "mix"
    neutral: ClassVar = {"p": 0.0}

    alpha: Alpha = 0.2
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the blend."""
        weight = beta(self.alpha, stream.uniform()[0])
        partner = stream.partners()
        return draws.mix(Mix(partner, weight)).note(stream.name, partner=partner, weight=weight)


@technique("cutmix", source="Yun et al. 2019, arXiv:1905.04899, equations 1 and 2")
class CutMix(Augmentation):
    """Replace a box of each picture by the same box of another, and share the target by area.

        x' = x_j in the box, x_i around it        y' = w y_i + (1 - w) y_j        w: the share of pixels around it

    Prefer it over mixup where blended pictures look like nothing real. The box covers ``1 - w``, ``w ~ Beta(alpha, alpha)``, of
    the output before it is cut at the border; the target's share counts the pixels that are left, of later boxes too.
    """

    stage = "mix"
    neutral: ClassVar = {"p": 0.0}

    alpha: Alpha = 1.0
    p: Probability = 1.0

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Append the box."""
        h, w = draws.canvas
        u, row, column = stream.uniform(3)
        side = np.sqrt(1 - beta(self.alpha, u))
        height, width = np.floor(h * side), np.floor(w * side)
        box = boxes(np.floor(row * h) - height // 2, np.floor(column * w) - width // 2, height, width, (h, w))
        weight = 1 - (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2]) / (h * w)
        partner = stream.partners()
        return draws.mix(Mix(partner, weight, box)).note(stream.name, partner=partner, weight=weight, box=box)


def soften(targets: torch.Tensor | ArrayLike, n: int, n_classes: int | None) -> torch.Tensor:
    """Return targets as shares of classes: class numbers (B,) or shares (B, K) -> (B, K) float32 that sum to one.

    Raises KnobError (class numbers without ``n_classes``) and DataError (wrong length or type, a class out of range, shares that
    do not sum to one).
    """
    given = targets if isinstance(targets, torch.Tensor) else torch.as_tensor(np.array(targets))
    if given.ndim not in (1, 2) or len(given) != n:
        raise DataError("augment", f"targets must be (B,) class numbers or (B, K) shares with B = {n}", got=tuple(given.shape))
    if given.ndim == 2:
        return _checked(given)
    if given.is_floating_point() or given.dtype == torch.bool:
        raise DataError("augment", "class numbers must be integers", got=str(given.dtype), fix="Use int64.")
    if n_classes is None:
        raise KnobError("augment", "class numbers need n_classes to become shares", got=None, fix="Pass n_classes=...")
    n_classes = whole("augment", "n_classes", n_classes)
    if n and not 0 <= int(given.min()) <= int(given.max()) < n_classes:
        raise DataError("augment", f"class numbers must lie in 0..{n_classes - 1}", got=(int(given.min()), int(given.max())))
    return torch.nn.functional.one_hot(given.long(), n_classes).to(torch.float32)


def _checked(given: torch.Tensor) -> torch.Tensor:
    """Return shares (B, K) as float32, if they sum to one as exactly as their type can say it."""
    shares = given.to(torch.float32)
    coarse = given.is_floating_point() and torch.finfo(given.dtype).eps > _MISS
    sums = shares.sum(1)
    if not torch.allclose(sums, torch.ones_like(sums), atol=_N_ROUNDINGS * torch.finfo(given.dtype).eps if coarse else _MISS):
        raise DataError("augment", "the shares of classes must sum to one in every row", got=sums.tolist()[:5])
    return shares / sums[:, None] if coarse else shares


def mix_targets(shares: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Mix shares of classes (B, K) as the images were mixed: (``kept`` or B, K)."""
    if sum(mix.boxes is not None for mix in draws.mixes) > 1:
        return _counted(shares, draws)
    for mix in draws.mixes:
        weight = _column(mix.weight, shares)
        shares = weight * shares + (1 - weight) * shares[torch.as_tensor(mix.partner, device=shares.device)]
    return shares[: draws.kept]


def _counted(shares: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Mix shares of classes where boxes may cut into boxes: by the pixels that are left of each image, (``kept`` or B, K)."""
    h, w = draws.canvas
    canvas = np.broadcast_to((0, h, 0, w), (len(draws), 4))

    def inside(n_mixes: int, rows: Ints, region: Ints) -> torch.Tensor:
        """Return what the first mixings make of rows (B,), within a region (B, 4) of each: shares (B, K) of the whole image.

        Around its box a mixing leaves an image as it is: what is in the region, less what is in the box.
        """
        if n_mixes == 0:
            area = (region[:, 1] - region[:, 0]) * (region[:, 3] - region[:, 2]) / (h * w)
            return _column(area, shares) * shares[torch.as_tensor(rows, device=shares.device)]
        mix = draws.mixes[n_mixes - 1]
        box = region if mix.boxes is None else _overlap(region, mix.boxes[rows])
        own = mix.inside if mix.inside is not None else mix.weight if mix.boxes is None else np.zeros(len(draws))
        given = _column(1 - own[rows], shares)
        exchanged = inside(n_mixes - 1, mix.partner[rows], box) - inside(n_mixes - 1, rows, box)
        return inside(n_mixes - 1, rows, region) + given * exchanged

    return inside(len(draws.mixes), np.arange(len(draws)), canvas)[: draws.kept].clamp(min=0)  # rounding


def _overlap(one: Ints, other: Ints) -> Ints:
    """Return what boxes (B, 4) have in common, (B, 4), empty where that is nothing."""
    first, last = np.maximum(one, other)[:, ::2], np.minimum(one, other)[:, 1::2]
    return np.stack([first[:, 0], np.maximum(first, last)[:, 0], first[:, 1], np.maximum(first, last)[:, 1]], 1)


def _column(values: Floats, like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)[:, None]
