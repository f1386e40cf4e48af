"""Several views of one picture at test time: the caller averages the answers, and what a single view got wrong evens out.

``TestTime("ten_crop", size=224).views(images, ids)`` yields batches like the training's. A technique of family "tta" says how
many views there are and how each differs from the plain one; drawing and pixels are the pipeline's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import ArrayLike

from descend import rng
from descend.augment.color import Normalize
from descend.augment.factors import Draws
from descend.augment.inputs import Images, checked, whole
from descend.augment.matrices import stack, translation
from descend.augment.pipeline import Color, Pipeline
from descend.augment.policy import expand
from descend.augment.transform import Augmentation
from descend.errors import DataError, KnobError
from descend.pixels import IMAGENET_MEAN, IMAGENET_STD
from descend.technique import Search, Technique, build, technique


class Views(Technique, family="tta"):
    """A way to look at a picture more than once: a number of views, and what makes each of them differ."""

    @property
    @abstractmethod
    def n_views(self) -> int:
        """How many views there are of each picture."""

    def drawn_from(self, trained_with: tuple[Augmentation, ...]) -> tuple[Augmentation, ...]:
        """Return the transforms that the views are drawn from, given those of the training; by default none, the plain view."""
        del trained_with
        return ()

    @abstractmethod
    def arrange(self, draws: Draws, view: int) -> Draws:
        """Turn the draw of view number ``view`` into that view."""


def mirror(draws: Draws) -> Draws:
    """Append ``x -> w - x`` for every image: left and right swapped, pixels copied."""
    return draws.warp(stack([[-1.0, 0.0, float(draws.canvas[1])], [0.0, 1.0, 0.0]], len(draws)))


def crop(draws: Draws, place: int) -> Draws:
    """Move the plain view to a place of the stored image: 0 to 3 its corners, row by row, 4 its middle, where it is already.

    Raises DataError where the stored image leaves no margin to move in.
    """
    margin = [have - want for have, want in zip(draws.source, draws.canvas, strict=True)]
    if min(margin) < 0 or max(margin) == 0:
        raise DataError("tta", f"crops of {draws.canvas} need stored pictures larger than that", got=draws.source,
                        fix="Use flip, or a run whose pictures are stored larger than its crop.")  # fmt: skip
    if place == 4:
        return draws
    down, across = divmod(place, 2)
    zero = np.zeros(len(draws))
    return draws.warp(translation(zero + across * margin[1] - margin[1] // 2, zero + down * margin[0] - margin[0] // 2))


@technique("flip", source="common practice; Simonyan & Zisserman 2015, arXiv:1409.1556, section 3.2")
class FlipViews(Views):
    """The plain view and its mirror image.

        p = (f(x) + f(mirror(x))) / 2        f: the network's probabilities

    Prefer it first: twice the cost, and the gain is most of what more views bring. It harms where left and right have meaning.
    """

    @property
    def n_views(self) -> int:
        """Two."""
        return 2

    def arrange(self, draws: Draws, view: int) -> Draws:
        """View 0 is plain, view 1 mirrored."""
        return mirror(draws) if view else draws


@technique("five_crop", source="Krizhevsky et al. 2012, section 4.1, without the reflections")
class FiveCrop(Views):
    """The four corners and the middle of the stored picture, which must be larger than the crop.

        p = (f(x_1) + ... + f(x_5)) / 5        f: the network's probabilities

    Prefer it over ``ten_crop`` where pictures must not be mirrored. It costs five times one view.
    """

    @property
    def n_views(self) -> int:
        """Five: top left, top right, bottom left, bottom right, middle."""
        return 5

    def arrange(self, draws: Draws, view: int) -> Draws:
        """Cut the crop at its place."""
        return crop(draws, view)


@technique("ten_crop", source="Krizhevsky et al. 2012, section 4.1")
class TenCrop(Views):
    """The four corners and the middle of the stored picture, and the mirror image of each.

        p = (f(x_1) + f(mirror(x_1)) + ... + f(x_5) + f(mirror(x_5))) / 10        f: the network's probabilities

    The most thorough of the fixed views, at ten times the cost of one. The stored picture must be larger than the crop. The
    middle is the plain view: where its margin is odd, torchvision's ``TenCrop`` may round another way.
    """

    @property
    def n_views(self) -> int:
        """Ten: those of ``five_crop``, then their mirror images in the same order."""
        return 10

    def arrange(self, draws: Draws, view: int) -> Draws:
        """Cut the crop at its place; the later five are mirrored."""
        placed = crop(draws, view % 5)
        return mirror(placed) if view >= 5 else placed


@technique("views", source="Shanmugam et al. 2021, arXiv:2011.11156, section 3 (the mean over random augmentations)")
class RandomViews(Views):
    """``k`` random views of the augmentation that the run was trained with, or of ``transforms`` given by position.

        p = (f(T_1(x)) + ... + f(T_k(x))) / k        f: the network's probabilities;  T_i: independent draws

    Prefer it where no fixed view fits: ``views(quarter_turn(), k=8)`` for pictures without an up. It costs ``k`` times one view.
    Strong augmentations need many views to even out. The run's mixing is left out, also where it is one of several transforms to
    choose from: a mixed picture has no single answer.
    """

    k: Annotated[int, Ge(1), Search(2, 16)] = 8
    transforms: tuple[Augmentation, ...] = ()

    def __post_init__(self) -> None:
        if any("mix" in transform.stages for transform in self.transforms):
            raise KnobError("views", "transforms must not mix pictures", got=[str(transform) for transform in self.transforms],
                            fix="A mixed picture has no single answer.")  # fmt: skip

    @property
    def n_views(self) -> int:
        """``k``."""
        return self.k

    def drawn_from(self, trained_with: tuple[Augmentation, ...]) -> tuple[Augmentation, ...]:
        """Return ``transforms``, else the training's without mixing. Raises KnobError if neither leaves anything to draw."""
        chosen = self.transforms or tuple(transform for transform in trained_with if transform.stages != {"mix"})
        if all(transform.batch_wide for transform in chosen):
            raise KnobError("views", "needs transforms to draw from, and the run was trained without any", got=str(self),
                            fix=f"Write views(flip(), k={self.k}), for example.")  # fmt: skip
        return chosen

    def arrange(self, draws: Draws, view: int) -> Draws:
        """Leave the draw as it is: its number made it differ."""
        del view
        return draws


class TestTime:
    """The views of one technique of family "tta", for pictures stored at one size.

    spec: the technique or its text: ``flip``, ``five_crop``, ``ten_crop``, ``views(k=8)``. seed: of random views; they are drawn
    apart from the training's. size: the crop in pixels, one number or (height, width), as the network saw it; None takes the
    whole stored picture. out, mean, std: as in ``Pipeline``. augment: the run's augmentation, from which ``views(k=8)`` draws.

    >>> import numpy as np
    >>> from descend.augment import TestTime
    >>> tta = TestTime("flip", size=24)
    >>> [tuple(view.shape) for view in tta.views(np.zeros((2, 32, 32, 3), np.uint8), ids=[7, 9])]
    [(2, 3, 24, 24), (2, 3, 24, 24)]

    Raises SpecError and KnobError on construction, DataError for batches it cannot read or crop.
    """

    __test__ = False  # pytest takes a class of such a name for one of its own

    def __init__(
        self,
        spec: str | Views,
        *,
        seed: int = 0,
        size: int | tuple[int, int] | None = None,
        out: Literal["float", "uint8"] = "float",
        mean: Color = IMAGENET_MEAN,
        std: Color = IMAGENET_STD,
        augment: str | Augmentation | Iterable[str | Augmentation] = (),
    ) -> None:
        self.technique = build(spec, Views)
        # levels as uint8 are normalized by the caller, by the constants of the run: its ``normalize`` has nothing to say here
        trained_with = tuple(each for each in expand(augment) if out == "float" or not isinstance(each, Normalize))
        chosen = self.technique.drawn_from(trained_with)
        seed = rng.integer_seed(whole("tta", "seed", seed), "augment.tta")
        self.pipe = Pipeline(chosen, seed=seed, size=size, out=out, mean=mean, std=std)

    @property
    def n_views(self) -> int:
        """How many views there are of each picture: what a forward pass costs, times this."""
        return self.technique.n_views

    def __repr__(self) -> str:
        return f"TestTime({str(self.technique)!r}, size={self.pipe.size})"

    def views(self, images: Images, ids: ArrayLike) -> Iterator[torch.Tensor]:
        """Return an iterator over the views: images (B, H, W, 3) uint8 -> ``n_views`` batches as ``out`` says.

        ids: (B,) sample ids. A view is a function of (seed, id, view number), whatever else stands in the batch. Average the
        *probabilities* over the views; averaged logits let one confident view outvote the rest. Raises DataError here, before the
        first view is read.
        """
        source = checked(images)
        draws = [self._draw(ids, source, view) for view in range(self.n_views)]
        if len(draws[0]) != len(images):
            raise DataError("tta", f"ids must be one for each of the {len(images)} pictures", got=len(draws[0]))
        return (self.pipe.apply(images, draw) for draw in draws)

    def _draw(self, ids: ArrayLike, source: tuple[int, int], view: int) -> Draws:
        draws = self.pipe.draw(ids, source, epoch=0, draw=view, step=0)  # the step is asked for by a mixing inside a choice
        return self.technique.arrange(draws.changed(mixes=()), view)
