"""What there is to say of data that a run is measured on."""

from __future__ import annotations

import dataclasses

import numpy as np

from descend.data import load
from descend.data.problems import Problem
from descend.train.evaluation_notes import notes


def test_what_holds_for_another_scale_or_split_is_not_told() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    data = load((pictures, [*"ab"] * 6), split=False)
    kinds = ("apart", "scale", "blank", "carved", "few", "unreadable", "no number", "ignored")
    data = dataclasses.replace(data, problems=tuple(Problem(kind, f"about {kind}", 1, ("a.png",)) for kind in kinds))
    assert notes(data) == [
        {"kind": kind, "message": f"about {kind}", "n": 1, "examples": ["a.png"]} for kind in ("no number", "ignored")
    ]
