"""Mini-batches: every picture once an epoch, in an order that only (seed, epoch) decide."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.oracles.data_pictures import scene

from descend import rng
from descend.data import Batches, Dataset, Decoded, decoded, load
from descend.errors import KnobError


@pytest.fixture(scope="module")
def pixels() -> Decoded:
    pictures = np.stack([scene(4, 4, seed) for seed in range(40)])
    return decoded(load({"train": (pictures[:31], np.arange(31) % 3), "val": (pictures[31:], np.arange(9) % 3)}), 4)


@pytest.fixture(scope="module")
def dataset(pixels: Decoded) -> Dataset:
    return pixels.dataset


def test_an_epoch_shows_every_picture_once_with_its_label_and_id(pixels: Decoded, dataset: Dataset) -> None:
    batches = Batches(pixels, dataset.indices("train"), batch_size=8, seed=3)
    assert batches.n_steps == 4
    seen = list(batches.epoch(5))
    assert [batch.step for batch in seen] == [0, 1, 2, 3]
    assert [len(batch) for batch in seen] == [8, 8, 8, 7]
    rows = np.concatenate([batch.rows for batch in seen])
    np.testing.assert_array_equal(np.sort(rows), np.arange(31))
    for batch in seen:
        assert batch.images.shape == (len(batch), 4, 4, 3)
        np.testing.assert_array_equal(batch.images, pixels.pixels[batch.rows])
        np.testing.assert_array_equal(batch.targets, dataset.labels[batch.rows])
        np.testing.assert_array_equal(batch.ids, dataset.ids[batch.rows])
        assert batch.ids.dtype == batch.rows.dtype == batch.targets.dtype == np.int64


def test_the_order_is_the_permutation_of_seed_and_epoch(pixels: Decoded, dataset: Dataset) -> None:
    indices = dataset.indices("val")
    batches = Batches(pixels, indices, batch_size=4, seed=3)
    for epoch in (0, 1):
        expected = indices[rng.permutation(9, seed=3, stream="order", epoch=epoch)]
        np.testing.assert_array_equal(batches.order(epoch), expected)
        np.testing.assert_array_equal(np.concatenate([batch.rows for batch in batches.epoch(epoch)]), expected)
    assert (batches.order(0) != batches.order(1)).any()
    assert (batches.order(0) != Batches(pixels, indices, batch_size=4, seed=4).order(0)).any()


@pytest.mark.parametrize("start", range(5))
def test_resuming_at_any_step_goes_on_the_same(pixels: Decoded, dataset: Dataset, start: int) -> None:
    batches = Batches(pixels, dataset.indices("train"), batch_size=8, seed=1)
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, start_step=start))
    assert [batch.step for batch in rest] == list(range(start, 4))
    for one, two in zip(whole[start:], rest, strict=True):
        np.testing.assert_array_equal(one.images, two.images)


def test_rows_are_the_batches_without_the_pictures(pixels: Decoded, dataset: Dataset) -> None:
    batches = Batches(pixels, dataset.indices("train"), batch_size=8, seed=1)
    for read, unread in zip(batches.epoch(1, 1), batches.rows(1, 1), strict=True):
        assert read.step == unread.step
        np.testing.assert_array_equal(read.rows, unread.rows)
        np.testing.assert_array_equal(read.ids, unread.ids)
        np.testing.assert_array_equal(read.targets, unread.targets)


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "sizes"),
    [(8, False, [8, 8, 8, 7]), (8, True, [8, 8, 8]), (10, False, [10, 10, 11]), (10, True, [10, 10, 10]), (31, False, [31]),
     (100, False, [31]), (1, False, [1] * 31)],
)  # fmt: skip
def test_the_last_batch(pixels: Decoded, dataset: Dataset, batch_size: int, drop_last: bool, sizes: list[int]) -> None:
    batches = Batches(pixels, dataset.indices("train"), batch_size=batch_size, drop_last=drop_last)
    assert [len(found) for found in batches.epoch(0)] == sizes
    assert batches.n_steps == len(sizes)


def test_in_order_and_with_other_labels(pixels: Decoded, dataset: Dataset) -> None:
    batches = Batches(pixels, dataset.indices("val"), 100 + dataset.labels, batch_size=4, shuffle=False)
    np.testing.assert_array_equal(np.concatenate([batch.rows for batch in batches.epoch(7)]), dataset.indices("val"))
    assert next(iter(batches.epoch(0))).targets[0] == 100 + dataset.labels[31]


def test_wrong_sizes(pixels: Decoded) -> None:
    with pytest.raises(KnobError, match=">= 1, got 0"):
        Batches(pixels, [0, 1], batch_size=0)
    with pytest.raises(KnobError, match="2 pictures must fill a batch, got 3"):
        Batches(pixels, [0, 1], batch_size=3, drop_last=True)
    with pytest.raises(KnobError, match="0 pictures"):
        Batches(pixels, [], batch_size=3)


def test_leaving_an_epoch_early_leaves_no_thread(pixels: Decoded, dataset: Dataset) -> None:
    before = threading.active_count()
    for batch in Batches(pixels, dataset.indices("train"), batch_size=4).epoch(0):
        if batch.step == 2:
            break
    del batch
    assert threading.active_count() == before
