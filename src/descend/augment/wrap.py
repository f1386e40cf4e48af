"""Augmentation in anyone's code: a data set for a DataLoader, and a bare function of a picture."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset, Sampler

from descend import rng
from descend.augment.collate import Sample
from descend.augment.inputs import Picture, one_image
from descend.augment.memory import lent_by
from descend.augment.outbox import Outbox
from descend.augment.points import Ints
from descend.errors import DataError, KnobError


class BatchTransform(Protocol):
    """What is wrapped: a pipeline, as seen from here. images: (B, H, W, 3) uint8; ids: (B,) int64."""

    out: str

    @property
    def mixes(self) -> bool:
        """Whether samples of a batch are mixed."""
        ...

    @property
    def is_random(self) -> bool:
        """Whether anything is drawn."""
        ...

    def __call__(self, images: Any, /, *, ids: ArrayLike, epoch: int) -> torch.Tensor:
        """Augment a batch."""
        ...


_EPOCH, _READS, _ANNOUNCED, _WARNED = range(4)  # numbers that workers share: the epoch, reads since set_epoch, and two switches
_FORGOTTEN = (
    "augment.wrap: a second epoch has begun without set_epoch(epoch). Call it before every epoch: draws are a function of the"
    " epoch, so a run that is resumed or repeated gets the same pictures only then."
)


def _new_lock() -> Any:
    return multiprocessing.get_context("spawn").Lock()  # forked processes inherit it, spawned ones are handed it


class _WorkersLock:
    """A lock that worker processes share, however they are started; a copy or a pickled one begins with a lock of its own."""

    def __init__(self) -> None:
        self.lock = _new_lock()

    def __getstate__(self) -> dict[str, Any]:
        starting = multiprocessing.context.get_spawning_popen() is not None  # else a lock cannot be pickled
        return {"lock": self.lock if starting else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.lock = state["lock"] or _new_lock()


class Augmented(Dataset[tuple[Any, ...]]):
    """Wrap a map-style data set of (picture, target, ...) so that its pictures come augmented; the rest passes through.

    The draw of sample i is that of ``ids[i]`` (by default i) in the epoch that ``set_epoch`` announced, whatever the number of
    workers, their start method, or the order of reading; the epoch lies in shared memory, so persistent workers see it too.
    A sample that is read again before the next ``set_epoch``, because a sampler repeats it, gets another draw each time: that of
    its first, second, ... visit. With several workers, which of two visits comes first depends on who is quicker; ``numbered``
    makes that a function of the sampler alone.

    Pictures: as ``Pipeline.transform`` takes them, and tensors (H, W, 3) or (H, W) besides. Mixing needs whole batches and is
    refused. Warns once where a second epoch begins and ``set_epoch`` was forgotten.

    Raises KnobError (a pipeline that mixes) and DataError (ids that do not fit, pictures of another kind).
    """

    def __init__(self, dataset: Sequence[Any] | Dataset[Any], pipe: BatchTransform, ids: ArrayLike | None = None) -> None:
        _refuse_mixing("augment.wrap", pipe)
        self.dataset: Any = dataset
        self.pipe = pipe
        self.ids = np.arange(len(self.dataset)) if ids is None else np.asarray(ids, np.int64)
        if self.ids.shape != (len(self.dataset),):
            raise DataError("augment.wrap", f"ids must be ({len(self.dataset)},), one for each sample", got=self.ids.shape)
        self._visits = torch.zeros(len(self.ids), dtype=torch.int64).share_memory_()  # of each sample since set_epoch
        self._state = torch.zeros(4, dtype=torch.int64).share_memory_()
        self._counting = _WorkersLock()
        self._outbox = Outbox()

    def set_epoch(self, epoch: int) -> None:
        """Announce the epoch before its first sample is read."""
        self._visits.zero_()
        self._state[_EPOCH], self._state[_READS], self._state[_ANNOUNCED] = int(epoch), 0, 1

    def numbered(self, sampler: Iterable[int]) -> NumberedVisits:
        """Return a sampler of the same samples that also tells which visit each is, for a DataLoader with workers."""
        return NumberedVisits(sampler, len(self))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Any, ...]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int | tuple[int, int]]) -> list[tuple[Any, ...]]:
        """Return several samples at once, which is how torch's loaders ask: pictures of one shape are augmented together.

        Those of a batch of one shape lie together in memory, and torch's default collate makes them a batch without a copy.
        """
        rows, told = zip(*(index if isinstance(index, tuple) else (index, None) for index in indices), strict=True)
        samples = [(one_image("augment.wrap", picture, channels_last=True), *rest) for picture, *rest in self._read(rows)]
        ids = rng.visit_ids(self.ids[list(rows)], self._visits_of(rows, told))
        augmented: list[Any] = [None] * len(rows)
        for places in _by_shape([sample[0] for sample in samples]):
            images = np.concatenate([samples[place][0] for place in places])
            with lent_by(self._outbox):
                pixels = self.pipe(images, ids=ids[places], epoch=int(self._state[_EPOCH]))
            for place, image in zip(places, pixels, strict=True):
                augmented[place] = image
        return [Sample((image, *rest)) for image, (_, *rest) in zip(augmented, samples, strict=True)]

    def _read(self, rows: Sequence[int]) -> Iterable[Any]:
        """Read samples as the data set prefers to be read."""
        together: Callable[[list[int]], list[Any]] | None = getattr(self.dataset, "__getitems__", None)
        return [self.dataset[row] for row in rows] if together is None else together(list(rows))

    def _visits_of(self, rows: Sequence[int], told: Sequence[int | None]) -> list[int]:
        """Return which visit of each sample this is, by what the sampler tells or else by counting."""
        seen, state = self._visits.numpy(), self._state.numpy()  # torch takes ten times as long to read one number
        with self._counting.lock:  # two workers that read one sample at once must not count one visit
            counted = [self._count(seen, state, row, number) for row, number in zip(rows, told, strict=True)]
        visits, warn = zip(*counted, strict=True)
        if any(warn):
            warnings.warn(_FORGOTTEN, stacklevel=4)
        return list(visits)

    def _count(self, visits: Ints, state: Ints, row: int, told: int | None) -> tuple[int, bool]:
        """Count a visit; returns its number, and whether to warn."""
        if told:
            return told, False
        n_before = int(visits[row])
        over = n_before > 0 if told == 0 else self._is_over(visits, state)  # a first visit comes once in an epoch
        warn = over and self.pipe.is_random and not state[_WARNED]
        state[_WARNED] |= int(warn)
        visits[row] = n_before + 1
        state[_READS] += 1
        return (n_before if told is None else told), bool(warn)

    def _is_over(self, visits: Ints, state: Ints) -> bool:
        """Whether by all signs an epoch is over and the next one was not announced."""
        return bool(state[_READS] == len(self)) and (not state[_ANNOUNCED] or bool((visits == 1).all()))


def _by_shape(images: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
    """Return the places of images of one shape, shape by shape."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault(image.shape, []).append(place)
    return list(groups.values())


class NumberedVisits(Sampler[tuple[int, int]]):
    """The samples of a sampler, each with the number of its visit in this epoch, from 0."""

    def __init__(self, sampler: Iterable[int], n: int) -> None:
        self.sampler, self.n = sampler, n

    def __len__(self) -> int:
        return len(self.sampler)  # pyright: ignore[reportArgumentType] (as with any sampler, one without a length raises)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        visits = np.zeros(self.n, np.int64)
        for index in self.sampler:
            yield int(index), int(visits[index])
            visits[index] += 1


class PictureTransform:
    """One picture in, its augmented form out: stands where a torchvision v2 transform stands.

    Takes a Pillow image of any mode, a (1, H, W), (3, H, W) or (4, H, W) tensor, or an (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)
    array; tensors and arrays hold uint8, uint16 or bool. It is read by the same policy as a file: 16 bits are scaled to 8,
    transparent pixels show white, EXIF orientation is applied. Gives a (3, h, w) tensor, float32 or uint8 as the pipeline does.
    The draw comes from torch's generator, so ``torch.manual_seed`` repeats it and DataLoader workers differ. Unlike
    ``Pipeline.wrap`` it depends on their number and on the order of reading.

    Raises KnobError (a pipeline that mixes) and DataError (pictures of another kind).
    """

    def __init__(self, pipe: BatchTransform) -> None:
        _refuse_mixing("augment.transform", pipe)
        self.pipe = pipe

    def __repr__(self) -> str:
        return f"{self.pipe!r}.transform()"

    def __call__(self, picture: Picture) -> torch.Tensor:
        """Augment one picture."""
        sample = torch.randint(2**63 - 1, (1,))
        augmented = self.pipe(one_image("augment.transform", picture), ids=sample, epoch=0)[0]
        return augmented.permute(2, 0, 1) if self.pipe.out == "uint8" else augmented


def _refuse_mixing(who: str, pipe: BatchTransform) -> None:
    if pipe.mixes:
        raise KnobError(who, "mixing needs whole batches", got=str(pipe), fix="Call the pipeline on batches instead.")
