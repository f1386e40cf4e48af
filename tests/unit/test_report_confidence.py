"""The part of the report on confidences: its figures are those of the answers, and old records go without."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from descend.report.confidence import FEWEST, confidence, joined
from descend.stats import proportion
from descend.train.calibration import coverage, reliability

pytestmark = pytest.mark.charts


def record(n: int, *, n_independent: int | None = None, split: str = "test") -> tuple[Any, np.ndarray, np.ndarray]:
    """Stand in for a record: n answers of two classes whose confidence is right on average; with each confidence and truth."""
    draw = np.random.default_rng(0)
    sure = draw.uniform(0.5, 1.0, n)
    right = draw.uniform(size=n) < sure
    p = np.stack([sure, 1 - sure], 1).astype(np.float32)
    labels = np.where(right, 0, 1)
    known = {"before": reliability(p, labels), "after": reliability(p, labels), "coverage": coverage(p, labels)}
    score = {"n": n, "n_independent": n_independent or n}
    return SimpleNamespace(calibration={split: known}, **{split: score}), p[:, 0], right


def test_thresholds_leave_the_answers_that_reach_them() -> None:
    made, sure, right = record(400)
    found = confidence(made)
    assert found is not None
    assert [row[0] for row in found.thresholds] == [0.8, 0.9, 0.95, 0.99]  # all reach 0.5: nothing is left out there
    for asked, share, accuracy, low, high in found.thresholds:
        kept = sure >= np.float32(asked)
        assert share == pytest.approx(kept.mean())
        assert accuracy == pytest.approx(right[kept].mean())
        expected = proportion(int(right[kept].sum()), int(kept.sum()))
        assert (low, high) == pytest.approx((expected.low, expected.high))


def test_copies_widen_the_intervals_and_move_no_share() -> None:
    plain, copied = confidence(record(400)[0]), confidence(record(400, n_independent=40)[0])
    assert plain is not None
    assert copied is not None
    for one, other in zip(plain.thresholds, copied.thresholds, strict=True):
        assert one[:3] == other[:3]
        assert other[4] - other[3] > 2 * (one[4] - one[3])


def test_charts_tell_their_numbers_and_validation_stands_in_for_a_test() -> None:
    made, _, right = record(300, split="val")
    found = confidence(made)
    assert found is not None
    assert found.split == "val"
    assert f"{right.mean():.1%} right of all" in found.charts[1].svg
    told = re.findall(r"of (\d+) right", str(found.charts[0].svg))
    assert sum(map(int, told)) == 300


def test_bins_of_few_answers_are_put_together_and_none_is_lost() -> None:
    assert joined([[1, 0.55, 0.0], [2, 0.65, 0.5], [8, 0.75, 1.0], [40, 0.97, 1.0], [3, 0.999, 1.0]]) == [
        (11, pytest.approx((0.55 + 1.3 + 6.0) / 11), pytest.approx(9 / 11)),
        (43, pytest.approx((38.8 + 2.997) / 43), 1.0),
    ]
    assert joined([[3, 0.6, 1 / 3]]) == [(3, pytest.approx(0.6), pytest.approx(1 / 3))]
    found = confidence(record(300)[0])
    assert found is not None
    told = [int(n) for n in re.findall(r"of (\d+) right", str(found.charts[0].svg))]
    assert sum(told) == 300
    assert min(told) >= FEWEST


def test_a_mark_has_the_interval_of_its_answers_copies_counted_once() -> None:
    for made, part in ((record(300)[0], 1.0), (record(300, n_independent=150)[0], 0.5)):
        found = confidence(made)
        assert found is not None
        drawn = [line.get_ydata() for line in found.charts[0].figure.axes[0].lines if len(set(line.get_xdata())) == 1]
        bins = joined(found.bins)
        assert len(drawn) == len(bins)
        for (low, high), (n, _, right) in zip(drawn, bins, strict=True):
            n_told = round(part * n)
            wilson = binomtest(round(right * n_told), n_told).proportion_ci(method="wilson")
            assert (low, high) == pytest.approx((wilson.low, wilson.high))


def test_a_record_without_calibration_has_no_such_part() -> None:
    assert confidence(SimpleNamespace(calibration={})) is None  # pyright: ignore[reportArgumentType]
