"""Transforms made of transforms: one of several, or some of several, for each image apart."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from descend.augment.array_types import Bools
from descend.augment.factors import Draws
from descend.augment.random_stream import RandomStream
from descend.augment.selection import selected
from descend.augment.transform import Augmentation, Stage
from descend.errors import KnobError
from descend.technique import Probability, Search, technique


class Composition(Augmentation):
    """Several transforms, of which an image gets the ones that are drawn for it, each in its own stage."""

    neutral: ClassVar = {"p": 0.0}

    transforms: tuple[Augmentation, ...]

    @property
    def stages(self) -> frozenset[Stage]:
        """The stages of all parts."""
        return frozenset(stage for part in self.transforms for stage in part.stages)

    def draw(self, stream: RandomStream, draws: Draws) -> Draws:
        """Draw every stage in turn."""
        for stage in sorted(self.stages):
            draws = self.draw_stage(stage, stream, draws)
        return draws


def check_parts(who: str, transforms: tuple[Augmentation, ...]) -> None:
    """Refuse fewer than two parts, and parts that hold for the whole batch."""
    texts = [str(part) for part in transforms]
    if len(transforms) < 2:
        raise KnobError(who, "must have two transforms or more to choose from", got=texts)
    shared = [part.name for part in transforms if part.batch_wide]
    if shared:
        raise KnobError(who, f"cannot choose {shared[0]}, which holds for the whole batch", got=texts,
                        fix=f"Write {shared[0]} beside it in the list.")  # fmt: skip


def parts_of(transforms: tuple[Augmentation, ...], stream: RandomStream) -> list[tuple[Augmentation, RandomStream]]:
    """Return each part with its own random stream; a name that stands there a k-th time gets ``#k``."""
    return [(part, stream.branch(name)) for part, name in numbered(transforms)]


def numbered(transforms: tuple[Augmentation, ...]) -> list[tuple[Augmentation, str]]:
    """Return transforms with the names of their streams: their own, with ``#k`` where it stands in the list a k-th time."""
    seen: Counter[str] = Counter()
    named: list[tuple[Augmentation, str]] = []
    for transform in transforms:
        seen[transform.name] += 1
        k = seen[transform.name]
        named.append((transform, transform.name if k == 1 else f"{transform.name}#{k}"))
    return named


@technique("one_of", source="Buslaev et al. 2020, Albumentations, doi:10.3390/info11020125 (OneOf)")
class OneOf(Composition):
    """Apply one of several transforms to each picture, each as likely: ``one_of(rotate(), shear(), blur(p=1.0))``.

        x' = T_k(x)        k uniform over the transforms;  x' = x with probability 1 - p

    Prefer it where two transforms together are too much, or stand for the same thing: ``one_of(mixup(), cutmix())`` mixes every
    picture in one of the two ways, while two coins of 0.5 leave a quarter alone and mix a quarter twice. ``p``: the probability
    that any is applied; the ``p`` of a part still holds within its turn. Parts may belong to different stages. Parts that set
    the size of the output must agree on it.
    """

    transforms: tuple[Augmentation, ...]
    p: Probability = 1.0

    def __post_init__(self) -> None:
        check_parts("one_of", self.transforms)

    def draw_stage(self, stage: Stage, stream: RandomStream, draws: Draws) -> Draws:
        """Append the parts of a stage to the images that they were chosen for; noted is the name of the part."""
        if stage not in self.stages:
            return draws
        choice = np.floor(stream.uniform()[0] * len(self.transforms)).astype(np.int64)
        choice = np.where(stream.coin(self.p), choice, -1)
        parts = parts_of(self.transforms, stream)
        options = [
            (part.draw_stage(stage, branch, draws), choice == k) for k, (part, branch) in enumerate(parts) if stage in part.stages
        ]
        names = np.array([branch.name.rpartition("/")[2] for _, branch in parts] + ["none"])
        return selected(draws, options).note(stream.name, chosen=names[choice])


@technique("some_of", source="Buslaev et al. 2020, Albumentations, doi:10.3390/info11020125 (SomeOf)")
class SomeOf(Composition):
    """Apply ``n`` of several transforms to each picture, every selection as likely: ``some_of(gamma(), rotate(), hue(), n=2)``.

        x' = T_kn(... T_k1(x))        {k1, ..., kn} uniform over the sets of n transforms;  x' = x with probability 1 - p

    Prefer it over a long list, of which every picture would get everything. ``p``: the probability that any is applied; the
    ``p`` of a part still holds within its turn. Within a stage the order of the list holds.
    """

    transforms: tuple[Augmentation, ...]
    n: Annotated[int, Ge(1), Search(1, 4)] = 2
    p: Probability = 1.0

    def __post_init__(self) -> None:
        check_parts("some_of", self.transforms)
        if self.n > len(self.transforms):
            raise KnobError("some_of", f"n must be at most the number of transforms, {len(self.transforms)}", got=self.n)

    def draw_stage(self, stage: Stage, stream: RandomStream, draws: Draws) -> Draws:
        """Append the parts of a stage in turn, each to its images; noted is which parts they are."""
        if stage not in self.stages:
            return draws
        chosen: Bools = (stream.uniform(len(self.transforms)).argsort(0).argsort(0) < self.n) & stream.coin(self.p)
        for k, (part, branch) in enumerate(parts_of(self.transforms, stream)):
            if stage in part.stages:
                draws = selected(draws, [(part.draw_stage(stage, branch, draws), chosen[k])])
        return draws.note(stream.name, chosen=chosen.T)
