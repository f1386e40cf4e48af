"""What a transform does to labels, on synthetic features whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from descend.errors import DataError
from descend.transfer import LabelChanges, balanced_sample, measure_label_changes
from descend.transfer.folds import ONE_FOLD_FROM

Arrays = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


def views(
    *, n: int, k: int, distance: float, renamed: dict[int, int] | None = None, harder: float = 0.0, alike: float = 0.7,
    d: int = 32, seed: int = 0,
) -> Arrays:  # fmt: skip
    """Return features of plain views, of transformed ones, and labels.

    Each class has a center; a picture lies around it, with unit noise. renamed: class -> the class around whose center its
    transformed views lie. harder: how far those lie from their center toward the middle of all. alike: correlation of the noise.
    """
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % k
    centres = distance * draw.normal(size=(k, d)) / np.sqrt(d)
    target = np.array([(renamed or {}).get(label, label) for label in range(k)])
    noise = draw.normal(size=(n, d))
    other = alike * noise + np.sqrt(1 - alike**2) * draw.normal(size=(n, d))
    plain = centres[labels] + noise
    transformed = (1 - harder) * centres[target][labels] + other
    return plain.astype(np.float32), transformed.astype(np.float32), labels


def measured(arrays: Arrays, seed: int = 0) -> LabelChanges:
    """Return the measurement, which there is."""
    changes = measure_label_changes(*arrays, seed=seed)
    assert changes is not None
    return changes


def test_two_classes_that_are_mirror_images_are_found_and_told_with_figures() -> None:
    changes = measured(views(n=100, k=2, distance=8, renamed={0: 1, 1: 0}))
    assert changes.harmful
    assert changes.accuracy_plain > 0.95
    assert changes.accuracy_transformed < 0.05
    assert 0.3 < changes.accuracy_with < 0.7
    assert changes.fall.difference.low > 0.2
    assert changes.loss_rise.low > 0
    told = changes.reason(["left", "right"], "mirrored")
    pair = changes.exchanges[0]
    assert told == (
        f"mirrored, {pair.n_first_to_second} of 50 pictures of 'left' are answered 'right', "
        f"and {pair.n_second_to_first} of 50 of 'right' 'left'"
    )
    left = changes.classes[0]
    assert (left.to, left.n_to) == (1, pair.n_first_to_second)
    assert left.n_changed >= 45


def test_two_of_twenty_classes_are_found_and_no_others() -> None:
    changes = measured(views(n=400, k=20, distance=7, renamed={3: 7, 7: 3}))
    assert changes.harmful
    assert [(pair.first, pair.second) for pair in changes.exchanges] == [(3, 7)]
    harmed = sorted(changes.classes, key=lambda answers: -answers.fall.mean)[:2]
    assert {answers.label for answers in harmed} == {3, 7}


def test_pictures_of_so_many_classes_that_one_fold_is_fitted_count_only_where_it_holds_them_out() -> None:
    k = 300
    assert 5 * k * k > ONE_FOLD_FROM
    changes = measured(views(n=5 * k, k=k, distance=12, d=64))
    assert changes.n == k
    assert changes.classes == ()  # one picture says nothing of its class
    assert changes.accuracy_plain > 0.9
    assert changes.accuracy_transformed > 0.9


def test_turns_that_lead_around_three_classes_are_found() -> None:
    assert measured(views(n=150, k=3, distance=8, renamed={0: 1, 1: 2, 2: 0})).harmful


def test_a_class_that_becomes_another_is_found_without_an_exchange() -> None:
    arrays = views(n=200, k=2, distance=6, renamed={0: 1})
    changes = measured(arrays)
    assert not changes.exchanges
    assert changes.harmful
    assert "more plain pictures of" in changes.reason(["sound", "faulty"], "turned")


def test_small_sets_without_any_signal_keep_the_transform() -> None:
    """60 pictures, answers at random: 2 of 200 seeds raised an alarm when this was written, 4 with views that are no kin."""
    harmful = [measured(views(n=60, k=2, distance=0, seed=seed), seed=seed).harmful for seed in range(12)]
    assert sum(harmful) <= 1


@pytest.mark.slow
def test_views_that_are_only_harder_are_kept_although_they_are_answered_worse() -> None:
    for seed in range(2):
        changes = measured(views(n=300, k=5, distance=6, harder=0.6, seed=seed))
        assert changes.accuracy_transformed < changes.accuracy_plain - 0.1
        assert not changes.harmful
        assert "right without" in changes.reason([*"abcde"])


def test_a_view_that_is_answered_one_class_whatever_it_shows_is_no_exchange() -> None:
    plain, transformed, labels = views(n=200, k=2, distance=6)
    blank = np.broadcast_to(plain[labels == 1].mean(0) * 2, transformed.shape) + 0 * transformed
    changes = measured((plain, blank.astype(np.float32), labels))
    assert changes.accuracy_transformed == pytest.approx(0.5)
    assert not changes.exchanges


def test_the_p_value_is_fishers() -> None:
    changes = measured(views(n=60, k=3, distance=3, renamed={0: 1, 1: 0}))
    pair = changes.exchanges[0]
    stayed = [changes.classes[pair.first].n_transformed, changes.classes[pair.second].n_transformed]
    table = [[stayed[0], pair.n_first_to_second], [pair.n_second_to_first, stayed[1]]]
    assert pair.p_value == pytest.approx(3 * float(np.asarray(fisher_exact(table, alternative="less"))[1]))


def test_pictures_of_one_unit_count_once() -> None:
    plain, transformed, labels = views(n=60, k=2, distance=8, renamed={0: 1, 1: 0})
    often = np.repeat(np.arange(60), 4)
    changes = measure_label_changes(plain[often], transformed[often], labels[often], units=often)
    assert changes is not None
    assert changes.n == 60
    assert [answers.n for answers in changes.classes] == [30, 30]


def test_what_cannot_be_measured_gives_no_answer() -> None:
    plain, transformed, labels = views(n=8, k=2, distance=8)
    assert measure_label_changes(plain, transformed, labels) is None
    many = np.repeat(plain, 3, axis=0)
    assert measure_label_changes(many, many, np.repeat(labels, 3), units=np.repeat(np.arange(8), 3)) is None  # four units a class


def test_the_sample_is_balanced_and_prefers_other_units() -> None:
    labels = np.repeat([0, 1, 2, 3], [500, 60, 8, 3])
    units = np.arange(571)
    units[:500] //= 10
    rows = balanced_sample(labels, units, limit=100)
    assert np.bincount(labels[rows], minlength=4).tolist() == [46, 46, 8, 0]
    assert len(np.unique(units[rows][labels[rows] == 0])) == 46
    assert (np.diff(rows) > 0).all()
    assert (balanced_sample(labels, units, limit=100, seed=1) != rows).any()


def test_arrays_that_do_not_fit_are_refused() -> None:
    plain, transformed, labels = views(n=40, k=2, distance=3)
    with pytest.raises(DataError, match=r"two arrays \(n, D\)"):
        measure_label_changes(plain, transformed[:, :5], labels)
    with pytest.raises(DataError, match="finite"):
        measure_label_changes(plain, np.full_like(plain, np.nan), labels)
