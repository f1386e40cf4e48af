"""A list of transforms, ready to run on batches: draw the factors, apply them once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, get_args, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils.data import Dataset

from descend.augment import apply as meaning
from descend.augment import fused
from descend.augment.array_types import Ints
from descend.augment.color import Normalize
from descend.augment.composition import numbered
from descend.augment.factors import Draws, neutral
from descend.augment.geometry import RandomResizedCrop
from descend.augment.inputs import Images, checked, sample_ids, whole, writable
from descend.augment.matrices import fit
from descend.augment.mix import mix_targets, soften
from descend.augment.policy import expand
from descend.augment.random_stream import RandomStream
from descend.augment.transform import Augmentation, Stage
from descend.augment.wrap import Augmented, PictureTransform
from descend.errors import DataError, KnobError
from descend.pixels import IMAGENET_MEAN, IMAGENET_STD

Color: TypeAlias = tuple[float, float, float]

_STAGES: tuple[Stage, ...] = get_args(Stage)


class Pipeline:
    """Augment batches of uint8 images: geometry, tone, color, erase, mix, normalize, in one pass.

    specs: transforms, their spec text, or policy names; an empty list is the deterministic view for evaluation, which cuts the
    middle ``size`` pixels (enlarging too small an image first) and copies pixels where it can. seed: of every draw. size: the
    output in pixels, one number or (height, width); None keeps the size that the geometry yields. out: "float" gives normalized
    NCHW float32 in channels-last memory, "uint8" NHWC levels without normalization. mean, std: three numbers in the unit
    1 = full level, ImageNet's by default; ``normalize(mean=..., std=...)`` in ``specs`` overrides them.

    A draw is a function of (seed, transform, epoch, sample id, draw number). A transform that stands in the list a k-th time has
    the stream ``name#k``, so adding another transform leaves its draws as they were.

    >>> import numpy as np
    >>> from descend.augment import Pipeline
    >>> pipe = Pipeline(["random_resized_crop()", "flip()"], seed=1, size=24, out="uint8")
    >>> pipe(np.zeros((2, 32, 32, 3), np.uint8), ids=[7, 9], epoch=0).shape
    torch.Size([2, 24, 24, 3])

    Raises SpecError and KnobError on construction, DataError for batches it cannot read, and KnobError for an epoch, step or draw
    that is no whole number.
    """

    def __init__(
        self,
        specs: str | Augmentation | Iterable[str | Augmentation],
        *,
        seed: int = 0,
        size: int | tuple[int, int] | None = None,
        out: Literal["float", "uint8"] = "float",
        mean: Color = IMAGENET_MEAN,
        std: Color = IMAGENET_STD,
    ) -> None:
        self.transforms = expand(specs)
        self._named = numbered(self.transforms)
        self.seed = whole("augment", "seed", seed)
        self.size = _pair(size)
        if out not in ("float", "uint8"):
            raise KnobError("augment", "out must be 'float' or 'uint8'", got=out)
        self.out = out
        self._check_batch_wide()
        self.mean, self.std = self._constants(mean, std)
        self._check_sizes()

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with each other, so that calls need targets and a step."""
        return any("mix" in transform.stages for transform in self.transforms)

    @property
    def is_random(self) -> bool:
        """Whether chance has a part in it; without, every epoch shows the same view."""
        return any(not isinstance(transform.neutral, str) for transform in self.transforms)

    def __repr__(self) -> str:
        listing = ", ".join(repr(str(transform)) for transform in self.transforms)
        return f"Pipeline([{listing}], seed={self.seed}, size={self.size}, out={self.out!r})"

    @overload
    def __call__(
        self, images: Images, targets: None = None, *, ids: ArrayLike, epoch: int, step: int | None = None, draw: int = 0,
        local: ArrayLike | None = None,
    ) -> torch.Tensor: ...  # fmt: skip
    @overload
    def __call__(
        self,
        images: Images,
        targets: torch.Tensor | ArrayLike,
        *,
        ids: ArrayLike,
        epoch: int,
        step: int | None = None,
        n_classes: int | None = None,
        draw: int = 0,
        local: ArrayLike | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]: ...
    def __call__(
        self,
        images: Images,
        targets: torch.Tensor | ArrayLike | None = None,
        *,
        ids: ArrayLike,
        epoch: int,
        step: int | None = None,
        n_classes: int | None = None,
        draw: int = 0,
        local: ArrayLike | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Draw and apply: images (B, H, W, 3) uint8 -> images, or (images, shares (B, K) float32) if targets are given.

        targets: (B,) class numbers with ``n_classes``, or (B, K) shares. ids: (B,) sample ids. step: number of the batch in its
        epoch, from which mixing draws partners. draw: numbers the views of one image in one epoch. local: with several processes,
        the positions of this one's rows in the global batch: ids are then those of the global batch, images and targets those of
        ``needed(ids, local, ...)``, and the result holds the local rows, as a single process would have made them.
        """
        if self.mixes and targets is None:
            raise KnobError(
                "augment", "mixing pictures mixes their targets too", got=None, fix="Pass targets=..., or leave mixing out."
            )
        height, width = checked(images)
        draws = self.draw(ids, (height, width), epoch=epoch, step=step, draw=draw, local=local)
        shares = None if targets is None else mix_targets(soften(targets, len(images), n_classes), draws)
        augmented = self.apply(images, draws)
        return augmented if shares is None else (augmented, shares)

    def draw(
        self, ids: ArrayLike, source: tuple[int, int], *, epoch: int, step: int | None = None, draw: int = 0,
        local: ArrayLike | None = None,
    ) -> Draws:  # fmt: skip
        """Draw the factors of a batch: ids (B,) int64 of images stored with ``source`` = (height, width) pixels.

        local: positions of one process's rows in the global batch ``ids``; the draw is then for the rows ``needed(...)``.
        """
        epoch, draw, step = _numbers(epoch, draw, step)
        ids, places = sample_ids(ids), None
        rows, kept = ids, None
        if local is not None:
            places = self.needed(ids, local, epoch=epoch, step=step, draw=draw)
            rows, kept = ids[places], len(np.atleast_1d(local))
        draws = replace(neutral(rows, source, self.size, epoch=epoch, draw=draw, step=step), kept=kept)
        shared: dict[str, Any] = {"epoch": epoch, "draw": draw, "step": step, "batch": ids, "places": places}
        streams = [(transform, RandomStream(self.seed, name, rows, **shared)) for transform, name in self._named]
        for stage in _STAGES:
            for transform, stream in streams:
                draws = transform.draw_stage(stage, stream, draws)
            if stage == "geometry" and self.size is not None:
                draws = fit(draws, self.size)
        return draws

    def needed(self, ids: ArrayLike, local: ArrayLike, *, epoch: int, step: int | None = None, draw: int = 0) -> Ints:
        """Return which rows of a global batch a process must read: positions, the local ones first, then their partners.

        ids: (N,) of the global batch, the same in every process. local: (b,) positions of the process's rows in it. Without
        mixing these are all; with it, up to twice as many, or four times with two mixings.
        """
        epoch, draw, step = _numbers(epoch, draw, step)
        ids, rows = sample_ids(ids), sample_ids(local)
        if len(np.unique(rows)) < len(rows) or (len(rows) and not 0 <= rows.min() <= rows.max() < len(ids)):
            raise DataError("augment", f"local must be different positions in a batch of {len(ids)}", got=rows.tolist()[:9])
        draws = neutral(ids, (1, 1), epoch=epoch, draw=draw, step=step)
        for transform, name in self._named:
            draws = transform.draw_stage("mix", RandomStream(self.seed, name, ids, epoch, draw, step), draws)
        for mix in reversed(draws.mixes):
            rows = np.concatenate([rows, np.setdiff1d(mix.partner[rows], rows)])
        return rows

    def apply(self, images: Images, draws: Draws) -> torch.Tensor:
        """Apply drawn factors: images (B, H, W, 3) uint8 -> (B, 3, h, w) float32 or (B, h, w, 3) uint8 (``draws.kept`` rows)."""
        if len(draws) != len(images) or draws.source != checked(images):
            raise DataError("augment", f"the draw is for {len(draws)} pictures of {draws.source} pixels", got=tuple(images.shape))
        pixels = images if isinstance(images, torch.Tensor) else torch.from_numpy(writable(images))
        mean, std = (torch.tensor(values, dtype=torch.float32, device=pixels.device) for values in (self.mean, self.std))
        if pixels.device.type != "cpu":
            levels = meaning.levels(pixels, draws, 255 * mean, 255 * std)[: draws.kept]
            return meaning.rounded(levels) if self.out == "uint8" else meaning.normalized(levels, mean, std)
        copied = fused.copied(pixels, draws)
        if copied is not None and self.out == "uint8":
            return copied[: draws.kept]
        if self.out == "uint8":
            return fused.whole_levels(pixels, draws, 255 * mean, 255 * std)[: draws.kept]
        gain, bias = 1 / (255 * std), -mean / std
        if copied is not None:  # multiplied, then added, as the kernels do: what a picture gets does not depend on its companions
            return copied[: draws.kept].float().mul_(gain).add_(bias).permute(0, 3, 1, 2)
        return fused.levels(pixels, draws, 255 * mean, 255 * std, gain, bias)[: draws.kept].permute(0, 3, 1, 2)

    def wrap(self, dataset: Sequence[Any] | Dataset[Any], ids: ArrayLike | None = None) -> Augmented:
        """Return the data set with its pictures augmented one by one, for a DataLoader; see ``wrap.Augmented``."""
        return Augmented(dataset, self, ids)

    def transform(self) -> PictureTransform:
        """Return a function of one picture, for the places where torchvision's v2 transforms go; see ``PictureTransform``."""
        return PictureTransform(self)

    def _check_batch_wide(self) -> None:
        listed = [transform for transform in self.transforms if transform.batch_wide]
        for name in {transform.name for transform in listed}:
            same = [str(transform) for transform in listed if transform.name == name]
            if len(same) > 1:
                raise KnobError(name, "must stand in the list at most once", got=same)
        moving = any("geometry" in transform.stages for transform in self.transforms if not transform.batch_wide)
        if self.size is None and not moving and any(transform.stage == "geometry" for transform in listed):
            raise KnobError("resampling", "has no effect without a transform that moves pixels, or a size", got=str(listed[0]))

    def _constants(self, mean: Color, std: Color) -> tuple[Color, Color]:
        listed = [transform for transform in self.transforms if isinstance(transform, Normalize)]
        if listed and self.out == "uint8":
            raise KnobError(
                "normalize", "has no effect on uint8 output", got=str(listed[0]), fix="Use out='float' or leave it out."
            )
        default = Normalize(mean=_triple(mean), std=_triple(std))  # validates what the caller gave
        chosen = listed[0] if listed else default
        return chosen.mean or default.mean or mean, chosen.std or default.std or std

    def _check_sizes(self) -> None:
        sized = [transform for transform in self.transforms if isinstance(transform, RandomResizedCrop) and transform.size]
        for transform in sized:
            if self.size not in (None, (transform.size, transform.size)):
                raise KnobError("random_resized_crop", f"size must be that of the pipeline, {self.size}", got=transform.size,
                                fix="Leave size out: it takes the size of the pipeline.")  # fmt: skip


def _pair(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    try:
        height, width = (whole("augment", "size", side) for side in (size if np.ndim(size) else (size, size)))
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise KnobError("augment", "size must be a whole number of pixels > 0, two of them, or None", got=size)
    return height, width


def _numbers(epoch: int, draw: int, step: int | None) -> tuple[int, int, int | None]:
    """Return where a batch is drawn, as Python's whole numbers."""
    return (
        whole("augment", "epoch", epoch),
        whole("augment", "draw", draw),
        None if step is None else whole("augment", "step", step),
    )


def _triple(values: Color) -> Color:
    red, green, blue = map(float, values)
    return red, green, blue
