"""Flips of a network whose answer is known in advance: it says which half of a picture is brighter."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from descend.augment import expand
from descend.errors import DataError, KnobError
from descend.train.label_safety import measure
from descend.train.record import RunRecord
from descend.train.run import Run

SIDE = 12


class BrighterHalf(nn.Module):
    """InferenceResult 0 for left, 1 for right; what the halves say of class 2 is never asked."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[..., : SIDE // 2].mean((1, 2, 3)), x[..., SIDE // 2 :].mean((1, 2, 3))
        return torch.stack([left, right, torch.full_like(left, -9.0)], 1)


def run(classes: tuple[str, ...] = ("left", "right", "up")) -> Run:
    prepared = {"resolution": SIDE, "size": SIDE, "mean": [0.5] * 3, "std": [0.5] * 3}
    record = RunRecord(
        preprocessing={"architecture": "", "scale": None, "background": "white", "fit": "crop", "members": [], **prepared}
    )
    return cast(Run, SimpleNamespace(folder=Path("none"), classes=classes, classifier=BrighterHalf(), record=record))


def pictures(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = np.array(["left", "right"])[np.arange(n) % 2]
    images = rng.integers(0, 60, (n, SIDE, SIDE, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, slice(0, SIDE // 2) if label == "left" else slice(SIDE // 2, SIDE)] += np.uint8(150)
    return images, labels


def found(specs: list[str], data: Any = None, **settings: Any) -> dict[str, Any]:
    return {str(item.transform): item for item in measure(run(), data or pictures(), expand(specs), threads=1, **settings)}


def test_mirroring_flips_every_answer_and_turning_upside_down_none() -> None:
    safety = found(["flip()", "flip(axis=vertical)", "mixup()", "normalize()"])
    assert set(safety) == {"flip()", "flip(axis='vertical')"}, "what changes no single picture is passed over"
    for flips in safety["flip()"].trials[0].classes:
        assert (flips.k, flips.to, flips.n_to) == (flips.n, {"left": "right", "right": "left"}[flips.label], flips.n)
        assert flips.n > 15
    assert safety["flip()"].limit is None
    assert all(flips.k == 0 for flips in safety["flip(axis='vertical')"].trials[0].classes)


@pytest.mark.parametrize(
    "spec",
    ["one_of(flip(p=0.1), rotate(degrees=40, p=0.1), mixup())", "some_of(one_of(flip(), mixup()), rotate(degrees=40), p=0.1)"],
)
def test_parts_of_a_choice_are_measured_by_themselves_always_and_at_every_strength(spec: str) -> None:
    safety = {item.transform.name: item for item in measure(run(), pictures(), expand(spec), threads=1)}
    assert set(safety) == {"flip", "rotate"}
    (mirrored,) = safety["flip"].trials
    assert all(flips.k == flips.n for flips in mirrored.classes), "every answer is the other one, not a tenth of them"
    assert safety["flip"].limit is None
    assert [str(one.transform) for one in safety["rotate"].trials][::4] == ["rotate(degrees=10.0)", "rotate(degrees=160.0)"]
    assert vars(safety["rotate"].limit)["degrees"] == 80


def test_rotation_is_safe_up_to_the_angle_at_which_halves_change_places() -> None:
    safety = found(["rotate(degrees=40)"])["rotate(degrees=40.0)"]
    shares = [one.overall.mean for one in safety.trials]
    assert [str(one.transform) for one in safety.trials][-1] == "rotate(degrees=160.0)"
    assert shares[:4] == [0.0] * 4, "up to 80 degrees the brighter half stays where it was"
    assert 70 / 160 - 0.2 < shares[4] < 70 / 160 + 0.2, "beyond 90 degrees it does not: 70 of 160"
    assert str(safety.limit) == "rotate(degrees=80.0)"


def test_only_pictures_answered_right_count_and_only_so_many() -> None:
    images, labels = pictures()
    wrong = labels.copy()
    wrong[:10] = np.where(labels[:10] == "left", "right", "left")
    one = found(["flip(axis=vertical)"], (images, wrong))["flip(axis='vertical')"].trials[0]
    everything = found(["flip(axis=vertical)"])["flip(axis='vertical')"].trials[0]
    assert 0 < sum(flips.n for flips in one.classes) < sum(flips.n for flips in everything.classes)
    few = found(["flip(axis=vertical)"], per_class=7)["flip(axis='vertical')"].trials[0]
    assert [flips.n for flips in few.classes] == [7, 7]


def test_the_same_seed_counts_the_same_and_progress_ends_at_the_end() -> None:
    told: list[tuple[int, int]] = []
    first = found(["rotate(degrees=180)"], progress=lambda stage, done, total: told.append((done, total)))
    assert first == found(["rotate(degrees=180)"])
    assert first != found(["rotate(degrees=180)"], seed=3)
    assert told[-1][0] == told[-1][1]


def test_bad_input_is_explained() -> None:
    for specs, settings in (["mixup()"], {}), (["flip()"], {"per_class": 0}), (["flip()"], {"tolerance": 1.5}):
        with pytest.raises(KnobError, match="safety"):
            found(specs, **settings)
    with pytest.raises(DataError, match="run's classes"):
        measure(run(("cats", "dogs", "cows")), pictures(), expand("flip()"), threads=1)
    images, labels = pictures()
    with pytest.raises(DataError, match="one picture right"):
        found(["flip()"], (images, np.where(labels == "left", "right", "left")))
