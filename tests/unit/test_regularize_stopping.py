"""Early stopping as a function of the history, and balanced sampling as a function of labels, seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from descend.errors import DataError, KnobError
from descend.optim import Optimizer
from descend.progress import Silent
from descend.regularize import BalancedSampling, EarlyStopping, balanced_rows, sample_weights
from descend.schedule import Constant
from descend.train.callbacks import RunCallback
from descend.train.checkpoint import Best
from descend.train.loop import Position, Task


def stops_after(rule, scores, metric="accuracy"):
    return next((n for n in range(len(scores) + 1) if rule.should_stop({metric: scores[:n]})), None)


def test_it_stops_after_patience_epochs_without_gain():
    scores = [0.5, 0.6, 0.6, 0.59, 0.7, 0.65, 0.7, 0.69]
    assert stops_after(EarlyStopping(patience=2), scores) == 4
    assert stops_after(EarlyStopping(patience=3), scores) == 8
    assert stops_after(EarlyStopping(patience=4), scores) is None
    assert stops_after(EarlyStopping(patience=2, min_delta=0.2), scores) == 3


def test_less_loss_is_better_and_not_a_number_is_worst():
    losses = [1.0, 0.5, float("nan"), 0.6]
    rule = EarlyStopping(patience=2, metric="loss")
    assert stops_after(rule, losses, "loss") == 4
    assert rule.chosen_epoch({"loss": losses}) == 1


def test_the_first_best_epoch_is_restored_unless_asked_not_to():
    history = {"accuracy": [0.1, 0.9, 0.9, 0.2]}
    assert EarlyStopping().chosen_epoch(history) == 1
    assert EarlyStopping(restore=False).chosen_epoch(history) is None
    assert EarlyStopping().chosen_epoch({"accuracy": []}) is None
    with pytest.raises(KnobError, match="history must hold 'accuracy'"):
        EarlyStopping().should_stop({"loss": [1.0]})


def test_it_watches_the_metric_of_the_run_unless_it_has_one_of_its_own():
    history = {"accuracy": [0.5, 0.6, 0.7, 0.8], "macro_f1": [0.9, 0.5, 0.5, 0.5], "loss": [0.1, 0.2, 0.3, 0.4]}
    rule = EarlyStopping(patience=2)
    assert not rule.should_stop(history, "accuracy")
    assert rule.should_stop(history, "macro_f1")
    assert (rule.chosen_epoch(history, "accuracy"), rule.chosen_epoch(history, "macro_f1")) == (3, 0)
    rule = EarlyStopping(patience=2, metric="loss")
    assert rule.should_stop(history, "accuracy")
    assert (rule.chosen_epoch(history, "accuracy"), rule.chosen_epoch(history)) == (3, 0)  # the run selects where there is one


@given(st.lists(st.floats(0, 1), max_size=30), st.integers(1, 5))
def test_rising_scores_never_stop_and_flat_ones_do(scores, patience):
    rising = sorted(set(scores))
    assert stops_after(EarlyStopping(patience=patience), rising) is None
    assert stops_after(EarlyStopping(patience=patience), [0.5] * (patience + 1)) == patience + 1


LABELS = np.array([0] * 900 + [1] * 90 + [2] * 10)


def test_weights_balance_the_classes():
    for power, expected in ((1.0, [1 / 3] * 3), (0.0, [0.9, 0.09, 0.01])):
        weights = sample_weights(LABELS, power=power)
        assert weights.sum() == pytest.approx(1)
        np.testing.assert_allclose(np.bincount(LABELS, weights), expected, rtol=1e-12)
    shares = np.bincount(LABELS, sample_weights(LABELS, power=0.5))
    np.testing.assert_allclose(shares / shares[2], np.sqrt([90, 9, 1]), rtol=1e-12)


def test_drawn_classes_stay_within_two_of_their_expectation():
    rows = balanced_rows(LABELS, 300, seed=0, epoch=0)
    assert rows.dtype == np.int64
    assert np.abs(np.bincount(LABELS[rows]) - 100).max() <= 2
    assert np.abs(np.bincount(LABELS[rows[:60]], minlength=3) - 20).max() <= 15  # shuffled, not sorted by class
    assert len(np.unique(rows[LABELS[rows] == 0])) > 90  # a big class is hardly repeated


def test_rows_are_a_function_of_seed_and_epoch():
    first = balanced_rows(LABELS, 100, seed=0, epoch=3)
    assert (balanced_rows(LABELS, 100, seed=0, epoch=3) == first).all()
    assert (balanced_rows(LABELS, 100, seed=0, epoch=4) != first).any()
    assert (balanced_rows(LABELS, 100, seed=1, epoch=3) != first).any()


def test_an_epoch_of_balanced_sampling_is_as_long_as_the_data():
    rows = BalancedSampling().epoch_rows(LABELS, seed=0, epoch=0)
    assert np.abs(np.bincount(LABELS[rows]) - 1000 / 3).max() <= 2
    assert rows.shape == (1000,)
    half = np.bincount(LABELS[BalancedSampling(power=0.5).epoch_rows(LABELS, seed=0, epoch=0)])
    assert np.abs(half / half.sum() - np.sqrt([0.9, 0.09, 0.01]) / np.sqrt([0.9, 0.09, 0.01]).sum()).max() < 0.003
    plain = BalancedSampling(power=0.0).epoch_rows(LABELS, seed=0, epoch=0)
    assert sorted(plain) == list(range(1000))


def test_every_row_is_drawn_as_often_as_its_weight_says():
    """Each class's rows share its draws evenly: with 400 epochs of 30 a row of the rare class strays 5 sigma at most."""
    counts = np.zeros(1000)
    for epoch in range(400):
        np.add.at(counts, balanced_rows(LABELS, 30, seed=0, epoch=epoch), 1)
    rare = counts[-10:]
    assert np.abs(rare - 400).max() < 5 * 20


def test_impossible_requests_are_errors():
    with pytest.raises(KnobError, match="power must be"):
        sample_weights(LABELS, power=2.0)
    with pytest.raises(KnobError, match="n must be"):
        balanced_rows(LABELS, 0, seed=0, epoch=0)
    with pytest.raises(DataError, match="labels must be"):
        balanced_rows([], 3, seed=0, epoch=0)


def epochs_of_a_run(tmp_path, rule, metric, answers):
    """Let the run's callback live through epochs whose validation predictions are given; returns how many, and the kept one."""
    module = nn.Linear(1, 2)
    optimizer = Optimizer(module.parameters(), "sgd(lr=0.1)")
    task = Task(module, None, optimizer, Constant(), nn.CrossEntropyLoss(), len(answers), [rule])
    predicted, best = iter(answers), Best()
    labels = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    callback = RunCallback(tmp_path, task, best, metric, 10, Silent(), lambda: next(predicted), labels, Position())
    n = next((n + 1 for n in range(len(answers)) if not callback.after_epoch(Position(epoch=n, n_seen=10), 0.1)), len(answers))
    return n, best.epoch


def test_in_a_run_the_metric_asked_for_selects_and_early_stopping_follows_it(tmp_path):
    """First only the common class is right (accuracy 0.8, balanced 0.5), then the rare one and half of it (0.6, 0.75)."""
    common, rare = np.zeros(10, int), np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    answers = [np.eye(2, dtype=np.float32)[k] * 0.8 + 0.1 for k in (common, rare, common, common)]
    for metric, n, kept in (("accuracy", 2, 0), ("balanced_accuracy", 3, 1)):
        folder = tmp_path / metric
        folder.mkdir()
        assert epochs_of_a_run(folder, EarlyStopping(patience=1), metric, answers) == (n, kept)
    (tmp_path / "loss").mkdir()  # the loss decides when to end, the run's metric what to keep
    assert epochs_of_a_run(tmp_path / "loss", EarlyStopping(patience=1, metric="loss"), "balanced_accuracy", answers) == (2, 1)
