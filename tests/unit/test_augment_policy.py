"""The choice of a policy by the data."""

from __future__ import annotations

import pytest

from descend.augment import POLICIES, Augmentation, expand, policy_for
from descend.augment.policy_names import ELSEWHERE
from descend.errors import KnobError, SpecError
from descend.technique import registered


def test_every_policy_is_a_list_of_transforms_and_every_choice_a_policy() -> None:
    for name in POLICIES:
        assert len(expand(name)) >= 2
    for n in (1, 100, 5_000, 60_000, 2_000_000):
        for side in (8, 32, 63, 64, 500):
            for gray in (False, True):
                name, reason = policy_for(n, side=side, gray=gray)
                assert name in POLICIES
                assert len(reason.split()) > 3


def test_fewer_pictures_never_get_a_milder_policy_and_small_ones_never_a_stronger() -> None:
    order = ["light", "medium", "strong"]
    counts = [1, 500, 1_999, 2_000, 10_000, 19_999, 20_000, 1_000_000]
    large = [order.index(policy_for(n, side=224, gray=False)[0]) for n in counts]
    small = [order.index(policy_for(n, side=32, gray=False)[0]) for n in counts]
    assert large == sorted(large, reverse=True)
    assert {0, 1, 2} == set(large)
    assert all(s <= wide for s, wide in zip(small, large, strict=True))
    assert small != large


def test_gray_pictures_are_neither_mirrored_nor_recolored() -> None:
    name, reason = policy_for(1_000, side=100, gray=True)
    assert {transform.stage for transform in expand(name)} == {"geometry"}
    assert "flip" not in {transform.name for transform in expand(name)}
    assert "mirror" in reason


@pytest.mark.parametrize(("n_train", "side", "knob"), [(0, 32, "n_train"), (10, 0, "side")])
def test_nonsense_is_refused(n_train: int, side: int, knob: str) -> None:
    with pytest.raises(KnobError, match=knob):
        policy_for(n_train, side=side, gray=False)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("RandomHorizontalFlip()", ["flip()"]),
        ("horizontal_flip", ["flip()"]),
        ("VerticalFlip(p=0.5)", ["flip(axis=vertical)"]),
        ("RandomAffine(degrees=10)", ["rotate()", "shift()", "scale()", "shear()"]),
        ("RandomRotation(degrees=10)", ["rotate()"]),
        ("GaussianBlur()", ["blur()"]),
        ("RandomPerspective()", ["'perspective'"]),
        ("OneOf()", ["'one_of'"]),
        ("TrivialAugmentWide()", ["trivialaugment()"]),
        ("rotat()", ["'rotate'"]),
    ],
)
def test_names_of_other_libraries_are_told_in_our_words(theirs: str, ours: list[str]) -> None:
    with pytest.raises(SpecError, match="must name a transform or a policy") as caught:
        expand(theirs)
    assert all(name in str(caught.value) for name in ours)
    assert "Known:" not in str(caught.value)


def test_what_stands_for_a_name_of_another_library_is_no_name_of_ours_and_can_be_built() -> None:
    own = {cls.name.replace("_", "") for cls in registered(Augmentation)}
    assert not own & set(ELSEWHERE)
    for texts in ELSEWHERE.values():
        assert expand(texts)
