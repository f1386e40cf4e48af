"""Strengths of a transform, and the verdict that follows from counted flips."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from descend.augment import Augmentation, Pipeline, expand
from descend.augment.composition import Composition
from descend.augment.label_safety import Flips, Safety, Trial, each_part, strengths
from descend.technique import build, knobs, registered

SINGLE = [kind() for kind in registered(Augmentation) if not issubclass(kind, Composition)]
TRANSFORMS = [transform for transform in SINGLE if not (transform.batch_wide or "mix" in transform.stages)]
IMAGES = np.random.default_rng(5).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)


def rungs(text: str) -> list[str]:
    return [str(rung) for rung in strengths(build(text, Augmentation))]


def test_strengths_run_from_a_quarter_to_four_times_what_was_asked_and_stay_legal() -> None:
    assert rungs("rotate(degrees=20)") == [f"rotate(degrees={d})" for d in (5.0, 10.0, 20.0, 40.0, 80.0)]
    assert rungs("rotate(degrees=90)") == [f"rotate(degrees={d})" for d in (22.5, 45.0, 90.0, 180.0)]
    assert rungs("pad_crop(padding=2)") == [f"pad_crop(padding={n})" for n in (1, 2)] + ["pad_crop()", "pad_crop(padding=8)"]
    assert rungs("flip()") == ["flip(p=1.0)"]
    assert rungs("shear(degrees=15.0)") == [f"shear(degrees={d})" for d in (3.75, 7.5, 15.0, 30.0)]  # 60 folds a picture over
    assert rungs("shear(degrees=15.0, axis='vertical')")[-1] == "shear(degrees=60.0, axis='vertical')"
    assert rungs("hue(amount=0.0)") == ["hue(amount=0.0)"]


def test_intervals_about_one_grow_on_their_logarithm() -> None:
    found = [build(text, Augmentation) for text in rungs("scale(factor_range=[0.5, 2.0])")]
    for rung, factor in zip(found, (0.25, 0.5, 1.0, 2.0, 4.0), strict=True):
        low, high = vars(rung)["factor_range"]
        assert low == pytest.approx(0.5**factor, rel=0.05)
        assert high == pytest.approx(2.0**factor, rel=0.05)
    assert all("ratio_range" not in text for text in rungs("random_erasing()")), "the shape of a box is no strength"


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: transform.name)
def test_every_transform_has_strengths_that_run_and_are_always_done(transform: Augmentation) -> None:
    found = strengths(transform)
    assert len(set(found)) == len(found) >= 1
    for rung in found:
        assert vars(rung).get("p", 1.0) == 1.0
        assert {knob.name for knob in knobs(type(transform))} == set(vars(rung))
        assert Pipeline([rung], out="uint8")(IMAGES, ids=np.arange(4), epoch=0).shape[0] == 4


def test_parts_of_compositions_stand_in_their_place_however_deep() -> None:
    asked = expand(["flip()", "one_of(rotate(), some_of(hue(), blur(p=1.0), n=1), p=0.1)", "mixup()"])
    assert [str(part) for part in each_part(asked)] == ["flip()", "rotate()", "hue()", "blur(p=1.0)", "mixup()"]


def trial(text: str, *flips: tuple[int, int]) -> Trial:
    rows = tuple(Flips(f"c{at}", k, n, "c9" if k else None, k) for at, (k, n) in enumerate(flips))
    return Trial(build(text, Augmentation), rows)


def test_unsafe_is_what_surely_lies_above_the_tolerance_for_all_classes_together() -> None:
    found = trial("flip(p=1.0)", (12, 100), (8, 100), (40, 100), (0, 100))
    level = 1 - 0.05 / 4
    expected = [f"c{at}" for at, k in ((2, 40), (0, 12), (1, 8))
                if stats.binomtest(k, 100).proportion_ci(level, method="wilson").low > 0.05]  # fmt: skip
    assert [flips.label for flips in found.unsafe(0.05)] == expected
    assert "c1" not in expected
    assert [flips.label for flips in found.unsafe(0.5)] == []
    assert found.overall.mean == pytest.approx(60 / 400)
    assert found.worst.label == "c2"


def test_the_limit_is_the_strongest_rung_before_the_first_harm_with_the_own_probability() -> None:
    weak, middle, strong = "perspective(distortion=0.1, p=1.0)", "perspective(distortion=0.2, p=1.0)", "perspective(p=1.0)"
    asked = build("perspective(p=0.4)", Augmentation)
    harmless, harmful = ((0, 100), (1, 100)), ((0, 100), (60, 100))
    found = Safety(asked, (trial(weak, *harmless), trial(middle, *harmful), trial(strong, *harmless)), 0.05)
    assert str(found.limit) == "perspective(distortion=0.1, p=0.4)"
    assert "at most perspective(distortion=0.1, p=0.4)" in found.advice()
    assert "'c1' flips in 60%" in found.advice()
    assert "60 of 60 times to 'c9'" in found.advice()
    never = Safety(asked, (trial(weak, *harmful),), 0.05)
    assert never.limit is None
    assert never.advice().startswith("leave perspective out")
    always = Safety(asked, (trial(weak, *harmless), trial(strong, *harmless)), 0.05)
    assert str(always.limit) == "perspective(p=0.4)"
    assert "safe" in always.advice()
