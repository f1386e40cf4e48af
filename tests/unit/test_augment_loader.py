"""Batches from a DataLoader: what arrives is what was made, however long it is held and however often a loop breaks off."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from descend.augment import Pipeline
from descend.augment.collate import Sample, together

IMAGES = np.random.default_rng(12).integers(0, 256, (80, 20, 20, 3), dtype=np.uint8)
PIPES = {"float": Pipeline(["rotate()", "flip()"], size=210), "uint8": Pipeline(["rotate()", "flip()"], size=420, out="uint8")}
PIPE = PIPES["float"]  # two pictures are a megabyte: less does not lie in a slot
forked = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
warns_of_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def wrapped(n: int, pipe: Pipeline = PIPE) -> Any:
    return pipe.wrap([(image, k) for k, image in enumerate(IMAGES[:n])])


def loader(dataset: Any, **settings: Any) -> DataLoader[Any]:
    return DataLoader(dataset, 2, num_workers=2, multiprocessing_context="fork", **settings)


def n_slots(dataset: Any) -> int:
    """How many slots have had an owner."""
    return int((dataset._outbox._owner > 0).sum())


@forked
@warns_of_threads
@pytest.mark.parametrize("out", PIPES)
@pytest.mark.parametrize("persistent", [False, True])
def test_pictures_that_are_held_stay_what_they_are(out: str, persistent: bool) -> None:
    dataset, held = wrapped(12, PIPES[out]), []
    batches = loader(dataset, persistent_workers=persistent)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        held.append([batch for batch, _ in batches])
    assert n_slots(dataset) > 0
    for epoch, pictures in enumerate(held):
        assert torch.equal(torch.cat(pictures), PIPES[out](IMAGES[:12], ids=np.arange(12), epoch=epoch))
    assert type(held[0][0]) is torch.Tensor


@forked
@warns_of_threads
def test_more_batches_than_there_are_slots_arrive_all_the_same() -> None:
    dataset = wrapped(80)
    held = [batch for batch, _ in loader(dataset)]
    assert n_slots(dataset) == 32 < len(held)
    assert torch.equal(torch.cat(held), PIPE(IMAGES, ids=np.arange(80), epoch=0))


@forked
@warns_of_threads
def test_slots_of_batches_that_were_let_go_or_never_asked_for_serve_again() -> None:
    dataset = wrapped(12)
    for epoch in range(12):
        dataset.set_epoch(epoch)
        batch, _ = next(iter(loader(dataset)))  # the workers end with batches in the queue
        assert torch.equal(batch, PIPE(IMAGES[:2], ids=np.arange(2), epoch=epoch))
    assert n_slots(dataset) <= 16


def twice(batch: list[Any]) -> Any:
    pictures, targets = default_collate(batch)
    return 2 * pictures, copy.deepcopy(pictures), pictures, pictures, targets


def as_it_is(batch: list[Any]) -> list[Any]:
    return batch


@forked
@warns_of_threads
def test_a_collate_of_ones_own_gets_samples_and_tensors_like_any() -> None:
    expected = PIPE(IMAGES[:4], ids=np.arange(4), epoch=0)
    double, copied, *same, targets = (torch.cat(part) for part in zip(*loader(wrapped(4), collate_fn=twice), strict=True))
    assert torch.equal(double, 2 * expected)
    assert all(torch.equal(pictures, expected) for pictures in (copied, *same))
    assert targets.tolist() == [0, 1, 2, 3]
    samples = [sample for batch in loader(wrapped(4), collate_fn=as_it_is) for sample in batch]
    assert torch.equal(torch.stack([picture for picture, _ in samples]), expected)


def test_the_batch_is_the_memory_that_the_pictures_lie_in() -> None:
    samples = wrapped(6).__getitems__([3, 1, 2])
    pictures, targets = default_collate(samples)
    assert pictures.data_ptr() == samples[0][0].data_ptr()
    assert pictures.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pictures, torch.stack([picture for picture, _ in samples]))
    assert targets.tolist() == [3, 1, 2]


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 0], [0, 2]])
def test_pictures_that_do_not_follow_each_other_are_stacked_as_ever(order: list[int]) -> None:
    samples = wrapped(3).__getitems__([0, 1, 2])
    chosen = [samples[k] for k in order]
    assert together([picture for picture, _ in chosen]) is None
    assert torch.equal(default_collate(chosen)[0], torch.stack([picture for picture, _ in chosen]))
    others = [Sample((picture.clone(), 0)) for picture, _ in samples]
    assert torch.equal(default_collate(others)[0], torch.stack([picture for picture, _ in samples]))


def test_samples_of_different_length_are_refused_as_torch_refuses_them() -> None:
    first, second = wrapped(2).__getitems__([0, 1])
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([first, Sample((*second, "more"))])


def test_copies_have_an_outbox_of_their_own_and_only_workers_write_to_one() -> None:
    dataset, expected = wrapped(2), PIPE(IMAGES[1:2], ids=[1], epoch=0)[0]
    for other in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert other._outbox.number != dataset._outbox.number
        assert torch.equal(other[1][0], expected)
    assert dataset._outbox.take(1 << 20) is None
