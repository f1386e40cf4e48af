"""The temperature and the calibration error, against the formulas written anew and against a grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from descend.train.calibration import calibrated, coverage, cross_fitted, fit_temperature, reliability, suggested_threshold
from descend.train.metrics import score
from descend.train.record import RunRecord
from descend.train.record_types import Calibration


def answers(n: int, *, scale: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return probabilities (n, 3) whose logits are ``scale`` times those that the labels (n,) are drawn from."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 3))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in true])
    powers = np.exp(scale * logits)
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32), labels


def test_the_temperature_undoes_overconfidence_and_is_the_optimum_of_its_formula() -> None:
    probs, labels = answers(4000, scale=2.5)
    found = fit_temperature(probs, labels)
    assert found == pytest.approx(2.5, rel=0.08)
    grid = np.linspace(0.5, 5, 901)
    logits = torch.log(torch.from_numpy(probs).double())
    losses = [
        float(torch.nn.functional.cross_entropy(logits / t, torch.from_numpy(labels), reduction="sum")) + np.log(t) ** 2 / 0.5
        for t in grid
    ]
    assert found == pytest.approx(grid[int(np.argmin(losses))], abs=0.006)


def test_weights_count_pictures() -> None:
    probs, labels = answers(50, scale=2.0)
    twice = fit_temperature(np.concatenate([probs, probs]), np.concatenate([labels, labels]))
    assert fit_temperature(probs, labels, weights=np.full(50, 2.0)) == pytest.approx(twice, rel=1e-4)


def test_few_pictures_that_are_all_right_ask_for_no_endless_confidence() -> None:
    probs = np.tile(np.array([[0.9, 0.1]], np.float32), (8, 1))
    found = fit_temperature(probs, np.zeros(8, np.int64))
    assert 0.4 < found < 1
    assert fit_temperature(probs[:0], np.zeros(0, np.int64)) == 1.0


def test_probabilities_at_a_temperature_are_the_softmax_of_divided_logits_and_keep_their_order() -> None:
    logits = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) * 6
    probs = torch.softmax(logits, 1).numpy()
    for t in (0.5, 1.7):
        np.testing.assert_allclose(calibrated(probs, t), torch.softmax(logits / t, 1), atol=2e-6)
        assert (calibrated(probs, t).argmax(1) == probs.argmax(1)).all()
    assert calibrated(probs, 1.0) is probs
    certain = calibrated(np.array([[1.0, 0.0]], np.float32), 3.0)
    assert np.isfinite(certain).all()


def test_the_calibration_error_is_the_papers_and_its_interval_holds_the_truth() -> None:
    probs, labels = answers(3000, scale=2.5)
    found = reliability(probs, labels)
    confidence, right = probs.max(1).astype(float), probs.argmax(1) == labels
    wanted = 0.0
    for low in range(15):
        inside = (confidence >= low / 15) & ((confidence < (low + 1) / 15) | (low == 14))
        if inside.any():
            wanted += inside.sum() / len(labels) * abs(right[inside].mean() - confidence[inside].mean())
    assert found["ece"] == pytest.approx(wanted, abs=1e-9)
    assert sum(row[0] for row in found["bins"]) == 3000
    low, high = found["rms_interval"]
    assert 0 < low < found["rms_error"] < high < 0.3
    assert found["ece"] < high  # the root mean square is never below the mean
    after = reliability(calibrated(probs, fit_temperature(probs, labels)), labels)
    assert after["ece"] < found["ece"] / 4


def test_pictures_of_a_unit_are_drawn_together_so_copies_are_no_evidence() -> None:
    probs, labels = answers(60, scale=2.5)
    ten = np.repeat(np.arange(60), 10)
    copied = reliability(probs[ten], labels[ten], units=ten)
    plain = reliability(probs, labels)
    assert copied["ece"] == pytest.approx(plain["ece"])
    assert copied["rms_interval"] == pytest.approx(plain["rms_interval"])


def test_cross_fitting_changes_no_answer_and_is_no_better_than_the_fit_itself() -> None:
    probs, labels = answers(60, scale=4.0)
    held = cross_fitted(probs, labels)
    assert (held.argmax(1) == probs.argmax(1)).all()
    own = calibrated(probs, fit_temperature(probs, labels))
    rows = np.arange(60)
    assert -np.log(held[rows, labels]).mean() >= -np.log(own[rows, labels]).mean() - 1e-3


def test_what_validation_says_of_sure_answers() -> None:
    probs = np.array([[0.95, 0.05], [0.85, 0.15], [0.3, 0.7], [0.45, 0.55]], np.float32)
    curve = coverage(probs, np.array([0, 1, 1, 0]))
    assert curve[0] == [4, 2]
    assert curve[80] == [2, 1]
    assert curve[100] == [0, 0]
    nothing = reliability(probs, np.array([0, 1, 1, 0]))
    record = RunRecord(calibration={"val": Calibration(before=nothing, after=nothing, coverage=curve)})
    assert "50.0% of the answers are that sure, and 50.0% of those are right" in record.sure_answers(0.8)
    assert "(95% interval 9.5% to 90.5%)" in record.sure_answers(0.8)  # Wilson, 1 of 2
    record.val = score(np.repeat(probs, 4, 0), np.repeat([0, 1, 1, 0], 4), groups=np.repeat(np.arange(4), 4))
    record.calibration["val"]["coverage"] = [[4 * n, 4 * right] for n, right in curve]
    assert "(95% interval 9.5% to 90.5%)" in record.sure_answers(0.8)  # four pictures of each patient say no more
    assert record.sure_answers(1.0) == "on validation, no answer is that sure"
    assert "not calibrated" in RunRecord().sure_answers(0.8)


def test_the_suggested_threshold_halves_the_share_of_wrong_answers_and_leaves_most_of_them() -> None:
    def curve(*reached: tuple[int, int, int]) -> list[list[int]]:
        """Return a curve of 101 thresholds. reached: (threshold in percent, answers that reach it, right ones), rising."""
        return [next([n, right] for least, n, right in reversed(reached) if step >= least) for step in range(101)]

    assert suggested_threshold(curve((0, 100, 80), (40, 95, 79), (60, 80, 72), (70, 60, 57))) == 0.6
    assert suggested_threshold(curve((0, 100, 80), (60, 80, 71), (70, 60, 57))) == 0.7
    assert suggested_threshold(curve((0, 100, 80), (60, 80, 71), (70, 50, 50))) is None, "half of the answers are too few"
    assert suggested_threshold(curve((0, 100, 98), (60, 80, 80))) is None, "two mistakes tell nothing"
    assert suggested_threshold(curve((0, 100, 97), (60, 80, 80))) == 0.6
    assert suggested_threshold([]) is None
    assert suggested_threshold(curve((0, 0, 0))) is None


def test_of_several_views_each_is_divided_before_they_are_averaged() -> None:
    """Against a fine grid of the formula, in torch."""
    rng_ = np.random.default_rng(3)
    labels = rng_.integers(3, size=80)
    logits = torch.from_numpy(4.0 * (rng_.normal(size=(80, 2, 3)) + np.eye(3)[labels][:, None]))

    def loss(t: float) -> float:
        p = torch.softmax(logits / t, 2).mean(1)[torch.arange(80), torch.from_numpy(labels)]
        return float(-p.log().sum()) + float(np.log(t)) ** 2 / (2 * 0.5**2)

    best = min(np.linspace(0.5, 8.0, 7501), key=loss)
    assert fit_temperature(torch.softmax(logits, 2).float().numpy(), labels) == pytest.approx(best, abs=0.003)
