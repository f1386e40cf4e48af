"""Augmentation in anyone's code: a data set for a DataLoader, and a bare function of a picture."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.utils.data import Dataset, Sampler

from descend import rng
from descend.augment.array_types import Ints
from descend.augment.collate import Sample
from descend.augment.inputs import Picture, one_image, whole
from descend.augment.memory import lent_by
from descend.augment.shared_memory import Outbox
from descend.errors import DataError, KnobError

Index = int | tuple[int, int, int]
"""Which sample is read; by ``numbered`` with the number of its visit, and of the epoch."""
Fact = TypeVar("Fact")


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


_EPOCH, _READS, _ANNOUNCED, _BEGUN, _WARNED = range(5)  # numbers that workers share: the epoch, reads since set_epoch, switches
_FORGOTTEN = (
    "augment.wrap: every sample has been read, and reading goes on without set_epoch(epoch). If this is another epoch, announce"
    " it: draws are a function of the epoch, so a run that is resumed or repeated gets the same pictures only then. If one epoch"
    " reads samples several times, as with two loaders or RandomSampler(num_samples=...), nothing is wrong."
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
    makes that a function of the sampler alone. A loop that breaks an epoch off needs ``numbered`` too where workers are
    persistent: they finish what they had begun to read, and without it that counts as visits of the next epoch.

    Pictures: as ``Pipeline.transform`` takes them, and tensors (H, W, 3) or (H, W) besides. Mixing needs whole batches and is
    refused. Warns once where reading goes on after every sample was read, which may mean that ``set_epoch`` was forgotten.

    Raises KnobError (a pipeline that mixes, an epoch that is no whole number) and DataError (ids that do not fit, pictures of
    another kind, samples that are no tuples or lists).
    """

    def __init__(self, dataset: Sequence[Any] | Dataset[Any], pipe: BatchTransform, ids: ArrayLike | None = None) -> None:
        _refuse_mixing("augment.wrap", pipe)
        self.dataset: Any = dataset
        self.pipe = pipe
        self.ids = np.arange(len(self.dataset)) if ids is None else np.asarray(ids, np.int64)
        if self.ids.shape != (len(self.dataset),):
            raise DataError("augment.wrap", f"ids must be ({len(self.dataset)},), one for each sample", got=self.ids.shape)
        self._visits = torch.zeros(len(self.ids), dtype=torch.int64).share_memory_()  # of each sample since set_epoch
        self._state = torch.zeros(5, dtype=torch.int64).share_memory_()
        self._counting = _WorkersLock()
        self._outbox = Outbox()

    def set_epoch(self, epoch: int) -> None:
        """Announce the epoch before its first sample is read. Raises KnobError for anything but a whole number."""
        number = whole("augment.wrap", "epoch", epoch)
        self._visits.zero_()
        self._state[:_WARNED] = torch.tensor([number, 0, 1, 0])

    def numbered(self, sampler: Iterable[int]) -> NumberedVisits:
        """Return a sampler of the same samples that also tells which visit, of which epoch, each is: for loaders with workers."""
        return NumberedVisits(sampler, len(self), self._begin)

    def _begin(self) -> int:
        """Return the epoch that a numbered sampler begins; warn where it has begun already."""
        state = self._state.numpy()
        forgotten = bool(state[_BEGUN]) and self.pipe.is_random and not state[_WARNED]
        state[_BEGUN] = 1
        if forgotten:
            state[_WARNED] = 1
            warnings.warn(_FORGOTTEN, stacklevel=3)
        return int(state[_EPOCH])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Index) -> tuple[Any, ...]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[Index]) -> list[tuple[Any, ...]]:
        """Return several samples at once, which is how torch's loaders ask: pictures of one shape are augmented together.

        Those of a batch of one shape lie together in memory, and torch's default collate makes them a batch without a copy.
        """
        rows = [index[0] if isinstance(index, tuple) else index for index in indices]
        visits, epochs = zip(*self._visits_of(indices), strict=True)
        samples = [_with_array(sample) for sample in self._read(rows)]
        ids = rng.visit_ids(self.ids[rows], visits)
        augmented: list[Any] = [None] * len(rows)
        for (_, epoch), places in _alike([(sample[0].shape, epoch) for sample, epoch in zip(samples, epochs, strict=True)]):
            images = np.concatenate([samples[place][0] for place in places])
            with lent_by(self._outbox):
                pixels = self.pipe(images, ids=ids[places], epoch=epoch)
            for place, image in zip(places, pixels, strict=True):
                augmented[place] = image
        return [Sample((image, *rest)) for image, (_, *rest) in zip(augmented, samples, strict=True)]

    def _read(self, rows: Sequence[int]) -> Iterable[Any]:
        """Read samples as the data set prefers to be read."""
        together: Callable[[list[int]], list[Any]] | None = getattr(self.dataset, "__getitems__", None)
        return [self.dataset[row] for row in rows] if together is None else together(list(rows))

    def _visits_of(self, indices: Sequence[Index]) -> list[tuple[int, int]]:
        """Return which visit of each sample this is, and of which epoch, by what the sampler tells or else by counting."""
        seen, state = self._visits.numpy(), self._state.numpy()  # torch takes ten times as long to read one number
        with self._counting.lock:  # two workers that read one sample at once must not count one visit
            had_warned, epoch = state[_WARNED], int(state[_EPOCH])
            visits = [index[1:] if isinstance(index, tuple) else (self._count(seen, state, index), epoch) for index in indices]
            warn = state[_WARNED] > had_warned
        if warn:
            warnings.warn(_FORGOTTEN, stacklevel=4)
        return visits

    def _count(self, visits: Ints, state: Ints, row: int) -> int:
        """Count a visit and return its number; note that there is something to warn of, where there is."""
        state[_WARNED] |= int(self._is_over(visits, state) and self.pipe.is_random)
        n_before = int(visits[row])
        visits[row] = n_before + 1
        state[_READS] += 1
        return n_before

    def _is_over(self, visits: Ints, state: Ints) -> bool:
        """Whether by all signs an epoch is over and the next one was not announced."""
        return bool(state[_READS] == len(self)) and (not state[_ANNOUNCED] or bool((visits == 1).all()))


def _with_array(sample: Any) -> tuple[Any, ...]:
    """Return a sample (picture, target, ...) with its picture as an array (1, H, W, 3) uint8.

    Raises DataError for anything else: a picture by itself could be unpacked too, into rows or channels, a dictionary into keys.
    """
    listed = isinstance(sample, (tuple, list))
    if not listed or not sample:
        raise DataError("augment.wrap", "a sample must be a tuple or list that begins with the picture",
                        got=sample if listed else type(sample).__name__,
                        fix="Have the data set return (picture, target), or (picture,) where there is no target.")  # fmt: skip
    picture, *rest = sample
    return one_image("augment.wrap", picture, channels_last=True), *rest


def _alike(facts: Sequence[Fact]) -> Iterable[tuple[Fact, list[int]]]:
    """Return every fact with the places at which it stands."""
    groups: dict[Fact, list[int]] = {}
    for place, fact in enumerate(facts):
        groups.setdefault(fact, []).append(place)
    return groups.items()


class NumberedVisits(Sampler[tuple[int, int, int]]):
    """The samples of a sampler, each with the number of its visit in this epoch, from 0, and with the epoch.

    begin: is asked for the epoch whenever one begins. n: samples.
    """

    def __init__(self, sampler: Iterable[int], n: int, begin: Callable[[], int]) -> None:
        self.sampler, self.n, self.begin = sampler, n, begin

    def __len__(self) -> int:
        return len(self.sampler)  # pyright: ignore[reportArgumentType] (as with any sampler, one without a length raises)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        visits, epoch = np.zeros(self.n, np.int64), self.begin()
        for index in self.sampler:
            yield int(index), int(visits[index]), epoch
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
