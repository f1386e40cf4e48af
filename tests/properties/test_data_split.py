"""What a split promises, for any labels, copies, groups and seeds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from descend.data.split import SHARE, TEST, TRAIN, VAL, assign, sample_ids

Data = tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64] | None, int]  # labels, digests, groups, seed


def digests(contents: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return one digest for each content number, the same for the same number: (N, 16) uint8."""
    table = np.random.default_rng(7).integers(0, 256, (int(contents.max()) + 1, 16), np.uint8)
    return table[contents]


@st.composite
def data_sets(draw: st.DrawFn) -> Data:
    """Draw labels that name every class, contents with copies, perhaps groups, and a seed."""
    n_classes = draw(st.integers(2, 5))
    rest = draw(st.lists(st.integers(0, n_classes - 1), min_size=1, max_size=80))
    labels = np.array([*range(n_classes), *rest])
    n = len(labels)
    contents = np.array(draw(st.lists(st.integers(0, n), min_size=n, max_size=n)))
    groups = draw(st.none() | st.lists(st.integers(0, 12), min_size=n, max_size=n))
    return labels, digests(contents), None if groups is None else np.array(groups), draw(st.integers(0, 1000))


def none_given(labels: NDArray[np.int64]) -> NDArray[np.int8]:
    return np.full(len(labels), -1, np.int8)


@settings(deadline=None)
@given(data_sets())
def test_copies_and_groups_stay_on_one_side(
    data: Data,
) -> None:
    labels, identity, groups, seed = data
    splits = assign(labels, identity, groups, none_given(labels), seed=seed)
    assert set(splits) <= {TRAIN, VAL, TEST}
    for key in {row.tobytes() for row in identity}:
        assert len({int(s) for s, row in zip(splits, identity, strict=True) if row.tobytes() == key}) == 1
    for group in set() if groups is None else set(groups.tolist()):
        assert len(set(splits[groups == group].tolist())) == 1


@settings(deadline=None)
@given(data_sets())
def test_the_order_of_the_files_does_not_matter(data: Data) -> None:
    labels, identity, groups, seed = data
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    before = assign(labels, identity, groups, none_given(labels), seed=seed)
    moved = None if groups is None else groups[shuffled] * 31 + 5  # the names of the groups do not matter either
    after = assign(labels[shuffled], identity[shuffled], moved, none_given(labels), seed=seed)
    np.testing.assert_array_equal(before[shuffled], after)


@settings(deadline=None)
@given(st.lists(st.integers(1, 120), min_size=2, max_size=8), st.integers(0, 1000))
def test_without_copies_and_groups_the_quotas_are_exact(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    splits = assign(labels, digests(np.arange(len(labels))), None, none_given(labels), seed=seed)
    counts = np.stack([np.bincount(splits[labels == k], minlength=3) for k in range(len(sizes))])
    for n, (train, val, test) in zip(sizes, counts, strict=True):
        assert train >= 1
        assert val >= (n >= 2)
        assert test >= (n >= 3)
        assert abs(val - SHARE * n) <= 1
        assert abs(test - SHARE * n) <= 1
    if min(sizes) >= 14:  # no class is so small that its minimum of one counts
        assert abs(counts[:, 1].sum() - SHARE * len(labels)) <= 0.5


def test_the_proportions_of_many_small_classes_hold_in_total() -> None:
    labels = np.repeat(np.arange(100), 10)
    splits = assign(labels, digests(np.arange(1000)), None, none_given(labels), seed=0)
    assert np.bincount(splits).tolist() == [700, 150, 150]


@settings(deadline=None)
@given(data_sets())
def test_another_seed_is_another_split_and_the_same_seed_the_same(
    data: Data,
) -> None:
    labels, identity, groups, seed = data
    first = assign(labels, identity, groups, none_given(labels), seed=seed)
    np.testing.assert_array_equal(first, assign(labels, identity, groups, none_given(labels), seed=seed))


def test_seeds_differ() -> None:
    labels = np.arange(200) % 2
    one, two = (assign(labels, digests(np.arange(200)), None, none_given(labels), seed=seed) for seed in (0, 1))
    assert (one != two).mean() > 0.2


@settings(deadline=None, max_examples=60)
@given(data_sets(), st.data())
def test_a_given_split_is_never_changed(data: Data, draw: st.DataObject) -> None:
    labels, identity, groups, seed = data
    words = draw.draw(st.sampled_from([[TRAIN, VAL], [TRAIN, VAL, TEST], [TRAIN, TEST], [TRAIN]]))
    given_split = np.array(draw.draw(st.lists(st.sampled_from(words), min_size=len(labels), max_size=len(labels))), np.int8)
    splits = assign(labels, identity, groups, given_split, seed=seed)
    if (given_split == VAL).any():
        np.testing.assert_array_equal(splits, given_split)
    else:
        np.testing.assert_array_equal(splits[given_split == TEST], TEST)
        assert set(splits[given_split == TRAIN].tolist()) <= {TRAIN, VAL}


def test_validation_is_carved_with_the_same_rules() -> None:
    labels = np.arange(400) % 4
    contents = np.where(np.arange(400) < 100, 0, np.arange(400) // 2)  # a hundred copies of one, then pairs
    given_split = np.where(np.arange(400) % 10 == 0, TEST, TRAIN).astype(np.int8)
    splits = assign(labels, digests(contents), None, given_split, seed=3)
    carved = splits[given_split == TRAIN]
    assert 0.1 < (carved == VAL).mean() < 0.2
    inside = contents[given_split == TRAIN]
    for content in set(inside.tolist()):
        assert len(set(carved[inside == content].tolist())) == 1


def test_equal_groups_are_dealt_in_proportion() -> None:
    labels = np.tile([0, 0, 1, 1, 1], 200)
    groups = np.repeat(np.arange(100), 10)
    splits = assign(labels, digests(np.arange(1000)), groups, none_given(labels), seed=0)
    for label in (0, 1):
        share = np.bincount(splits[labels == label], minlength=3) / (labels == label).sum()
        np.testing.assert_allclose(share, [0.7, 0.15, 0.15], atol=0.03)


def test_sample_ids_come_from_the_content() -> None:
    identity = digests(np.array([0, 1, 0]))
    ids = sample_ids(identity)
    assert ids.dtype == np.int64
    assert ids[0] == ids[2] != ids[1]
    assert int(ids[0]) == int.from_bytes(identity[0, :8].tobytes(), "little", signed=True)
