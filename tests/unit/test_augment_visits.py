"""A sample that an epoch shows several times gets other pixels each time, as a function of seed and epoch."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader, RandomSampler, WeightedRandomSampler

from descend import rng
from descend.augment import Augmented, Pipeline
from descend.data import Batches, Decoded, decoded, load
from descend.errors import KnobError
from descend.regularize import BalancedSampling, Dropout
from descend.train.batch_sources import FeatureSource, ImageSource

IMAGES = np.random.default_rng(3).integers(0, 256, (30, 12, 12, 3), dtype=np.uint8)
LABELS = np.array([0] * 27 + [1] * 3)
SAMPLES = list(zip(IMAGES, range(30), strict=True))
PIPE = Pipeline(["rotate()", "color_jitter()"], seed=3)
SKEWED = [1.0] * 27 + [40.0] * 3
FORK = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def test_visits_are_counted_as_a_loop_counts_them() -> None:
    order, seen = np.random.default_rng(0).integers(0, 40, 500), Counter[int]()
    expected = []
    for row in order.tolist():
        expected.append(seen[row])
        seen[row] += 1
    assert rng.visit_numbers(order).tolist() == expected
    assert rng.visit_numbers([]).size == 0


def test_a_first_visit_draws_by_the_id_and_later_ones_by_ids_that_are_nobodys() -> None:
    ids = np.arange(-500, 500)
    drawn_by = np.stack([rng.visit_ids(ids, np.full(1000, k)) for k in range(6)])
    assert np.array_equal(drawn_by[0], ids)
    assert len(np.unique(drawn_by)) == drawn_by.size
    assert np.array_equal(rng.visit_ids(ids[::-1], np.arange(1000) % 6), drawn_by[np.arange(1000) % 6, np.arange(1000)[::-1]])
    assert stats.kstest(drawn_by[1] / 2.0**63, stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.fixture(scope="module")
def stored() -> Decoded:
    return decoded(load({"train": (IMAGES, LABELS), "val": (IMAGES[::-1].copy(), LABELS)}), 12)


def balanced(stored: Decoded, batch_size: int = 8) -> Batches:
    """A training set of 27 to 3, as the trainer visits it under `balanced_sampling`."""
    rows = stored.dataset.indices("train")
    labels = stored.dataset.labels[rows]
    return Batches(
        stored, rows, batch_size=batch_size, positions=lambda e: BalancedSampling().epoch_rows(labels, seed=1, epoch=e)
    )


def by_row(batches: Batches, values: list[torch.Tensor], epoch: int) -> dict[int, torch.Tensor]:
    """The values of each row, one for each of its visits."""
    rows, all_values = batches.order(epoch), torch.cat(values).flatten(1)
    return {row: all_values[torch.from_numpy(rows == row)] for row in np.unique(rows).tolist()}


def test_balanced_sampling_shows_rare_pictures_differently_each_time(stored: Decoded) -> None:
    batches = balanced(stored)
    source = ImageSource(batches, PIPE, 2, torch.device("cpu"))
    shown = by_row(batches, [batch.inputs for batch in source.epoch(4)], 4)
    assert max(map(len, shown.values())) >= 4
    for visits in shown.values():
        assert len(visits.unique(dim=0)) == len(visits)
    again = by_row(batches, [batch.inputs for batch in source.epoch(4)], 4)
    assert all(torch.equal(shown[row], again[row]) for row in shown)


def test_cached_views_and_masks_differ_from_visit_to_visit_too(stored: Decoded) -> None:
    batches = balanced(stored)
    features = np.arange(30 * 50, dtype=np.float32).reshape(30, 50, 1)  # each view tells its number
    place = np.full(len(stored.dataset), -1)
    place[batches.indices] = np.arange(30)
    layer, masks, views = Dropout(p=0.5), list[torch.Tensor](), list[torch.Tensor]()
    for batch in FeatureSource(batches, features, place, torch.device("cpu")).epoch(2):
        views.append(batch.inputs)
        with rng.context(2, batch.step, batch.ids):
            masks.append(layer.train()(torch.ones(len(batch.ids), 64)))
    often = max(by_row(batches, views, 2).values(), key=len)
    assert len(often.unique()) > len(often) / 2  # of 50 views, some may come twice
    for visits in by_row(batches, masks, 2).values():
        assert len(visits.unique(dim=0)) == len(visits)


@pytest.mark.parametrize("start", [1, 3])
def test_an_epoch_that_is_resumed_counts_the_visits_before(stored: Decoded, start: int) -> None:
    batches = balanced(stored)
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, start))
    for one, two in zip(whole[start:], rest, strict=True):
        assert np.array_equal(one.ids, two.ids)
        assert np.array_equal(two.ids, next(iter(batches.rows(2, two.step))).ids)


def test_the_batch_size_changes_no_visit(stored: Decoded) -> None:
    ids = [np.concatenate([rows.ids for rows in balanced(stored, size).rows(0)]) for size in (5, 30)]
    assert np.array_equal(*ids)


# ----------------------------------------------------------------------------------------------------------- in a loader


def loaded(n_workers: int, *, numbered: bool, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """One epoch of a weighted sampler: the images and the samples that they are of."""
    wrapped = PIPE.wrap(SAMPLES)
    sampler = WeightedRandomSampler(SKEWED, 90, generator=torch.Generator().manual_seed(epoch))
    loader = DataLoader(
        wrapped, 10, sampler=wrapped.numbered(sampler) if numbered else sampler, num_workers=n_workers,
        multiprocessing_context="fork" if n_workers else None,
    )  # fmt: skip
    wrapped.set_epoch(epoch)
    images, samples = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(samples)


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("n_workers", [0, 2])
@FORK
def test_a_weighted_sampler_shows_other_pixels_each_time(n_workers: int, numbered: bool) -> None:
    images, samples = loaded(n_workers, numbered=numbered)
    assert samples.bincount().max() >= 15
    assert len(images.flatten(1).unique(dim=0)) == 90
    plain = PIPE(IMAGES, ids=np.arange(30), epoch=0)
    for sample in samples.unique():
        assert any(torch.equal(image, plain[sample]) for image in images[samples == sample])  # its first visit


@FORK
def test_numbered_visits_do_not_depend_on_workers_and_follow_the_epoch() -> None:
    images, samples = loaded(0, numbered=True)
    assert torch.equal(images, loaded(0, numbered=False)[0])
    with_workers = loaded(2, numbered=True)
    assert torch.equal(with_workers[0], images)
    assert torch.equal(with_workers[1], samples)
    assert not torch.equal(loaded(0, numbered=True, epoch=1)[0], images)


def test_what_workers_finish_of_an_epoch_that_was_broken_off_counts_for_that_one() -> None:
    wrapped = PIPE.wrap(SAMPLES)
    sampler = wrapped.numbered([4, 4, 7])
    wrapped.set_epoch(0)
    late = list(sampler)  # what persistent workers have fetched before the loop broke off
    wrapped.set_epoch(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old = wrapped.__getitems__(late)
        new = wrapped.__getitems__(list(sampler))
        both = wrapped.__getitems__([late[0], (4, 0, 1)])
    for epoch, found in enumerate((old, new)):
        assert torch.equal(found[0][0], PIPE(IMAGES[[4]], ids=[4], epoch=epoch)[0])
        assert torch.equal(found[2][0], PIPE(IMAGES[[7]], ids=[7], epoch=epoch)[0])
        assert torch.equal(both[epoch][0], found[0][0])
        assert not torch.equal(found[0][0], found[1][0])


def test_a_new_epoch_counts_anew() -> None:
    wrapped = PIPE.wrap(SAMPLES)
    wrapped.set_epoch(7)
    first, second = wrapped[4][0], wrapped[4][0]
    wrapped.set_epoch(7)
    assert torch.equal(wrapped[4][0], first)
    assert not torch.equal(first, second)
    assert len(list(wrapped)) == 30


def warned(wrapped: Augmented, n_epochs: int, *, announced: bool = False, **settings: Any) -> list[str]:
    """Read some epochs; return what was warned of."""
    loader = DataLoader(wrapped, 8, **{"shuffle": True, **settings})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for epoch in range(n_epochs):
            if announced:
                wrapped.set_epoch(epoch)
            for _ in loader:
                pass
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("drop_last", [False, True])
def test_forgetting_the_epoch_warns_once(drop_last: bool) -> None:
    (message,) = warned(PIPE.wrap(SAMPLES), 4, drop_last=drop_last)
    assert "set_epoch" in message


def test_forgetting_later_epochs_warns_too_also_under_a_sampler_that_repeats() -> None:
    for numbered in (False, True):
        wrapped = PIPE.wrap(SAMPLES)
        wrapped.set_epoch(0)
        sampler = {"sampler": wrapped.numbered(WeightedRandomSampler(SKEWED, 90)), "shuffle": False} if numbered else {}
        (message,) = warned(wrapped, 3, **sampler)
        assert "set_epoch" in message


def test_nobody_is_warned_who_announces_or_draws_nothing() -> None:
    assert warned(PIPE.wrap(SAMPLES), 3, announced=True) == []
    assert warned(PIPE.wrap(SAMPLES), 3, announced=True, sampler=WeightedRandomSampler(SKEWED, 200), shuffle=False) == []
    assert warned(Pipeline(["center_crop(size=8)"]).wrap(SAMPLES), 3) == []
    assert warned(PIPE.wrap(SAMPLES), 1) == []


def test_samples_that_one_epoch_reads_again_are_no_certain_second_epoch() -> None:
    """Two loaders, or a sampler of twice the length, look like a forgotten ``set_epoch``: the warning says "if"."""
    wrapped = PIPE.wrap(SAMPLES)
    (message,) = warned(wrapped, 1, announced=True, sampler=RandomSampler(SAMPLES, num_samples=60), shuffle=False)
    assert "If this is another epoch, announce it" in message
    assert "several times" in message


@pytest.mark.parametrize("epoch", [1.5, True, None, "2"])
def test_an_epoch_is_a_whole_number(epoch: Any) -> None:
    wrapped = PIPE.wrap(SAMPLES)
    with pytest.raises(KnobError, match=r"augment\.wrap: epoch must be a whole number"):
        wrapped.set_epoch(epoch)
    wrapped.set_epoch(np.int64(3))  # pyright: ignore[reportArgumentType]
    assert torch.equal(wrapped[0][0], PIPE(IMAGES[:1], ids=[0], epoch=3)[0])
