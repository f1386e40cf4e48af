"""Durations in words: exact ones, and estimates as a person says them."""

from __future__ import annotations

import pytest

from descend.durations import duration


@pytest.mark.parametrize(
    ("seconds", "exact", "estimated"),
    [
        (0.0, "0.00 s", "1 s"), (0.42, "0.42 s", "1 s"), (9.4, "9.40 s", "9 s"), (17.24, "17.2 s", "20 s"),
        (94, "1 min 34 s", "90 s"), (200, "3 min 20 s", "3 min"), (3599.7, "1 h 00 min", "60 min"), (7530, "2 h 05 min", "2.1 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, exact: str, estimated: str) -> None:
    assert (duration(seconds), duration(seconds, estimated=True)) == (exact, estimated)
