"""Transforms with a probability, one of several, some of several: who gets what, and that nothing else changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from descend.augment import Augmentation, OneOf, Pipeline
from descend.errors import KnobError, SpecError
from descend.technique import build, spec

IMAGES = np.random.default_rng(6).integers(0, 256, (24, 20, 22, 3), dtype=np.uint8)
IDS = np.arange(24) * 5 + 2
MANY = np.arange(6000)
LEAST = 1e-3  # p-value of a test that holds, under one fixed seed
TARGETS = np.eye(24, dtype=np.float32)
PLACES = {"epoch": 3, "step": 1}


def mixed(specs: str | list[str]) -> tuple[np.ndarray, np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """Levels and shares of a batch, and what was noted."""
    pipe = Pipeline(specs, seed=4, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)
    images, shares = pipe(IMAGES, TARGETS, ids=IDS, **PLACES)
    return images.permute(0, 2, 3, 1).numpy(), shares.numpy(), pipe.draw(IDS, (20, 22), **PLACES).parameters  # pyright: ignore[reportReturnType]


def test_mixup_or_cutmix_mixes_every_picture_in_one_way_with_a_plain_partner() -> None:
    levels, shares, noted = mixed("one_of(mixup(alpha=1.0), cutmix())")
    chosen = noted["one_of"]["chosen"]
    assert set(chosen) == {"mixup", "cutmix"}
    for k, name in enumerate(chosen):
        drawn = noted[f"one_of/{name}"]
        partner, weight = int(drawn["partner"][k]), drawn["weight"][k]
        expected = weight * IMAGES[k] + (1 - weight) * IMAGES[partner]
        if name == "cutmix":
            top, bottom, left, right = drawn["box"][k].astype(int)
            expected = IMAGES[k].copy()
            expected[top:bottom, left:right] = IMAGES[partner, top:bottom, left:right]
        assert np.abs(levels[k] - expected).max() < 1e-3
        assert np.allclose(shares[k], weight * TARGETS[k] + (1 - weight) * TARGETS[partner], atol=1e-6)


def test_the_switch_leaves_none_alone_where_two_coins_leave_a_quarter() -> None:
    """Of many pictures; half of them each way. Two coins of a half mix a quarter twice and leave a quarter alone."""
    switch = Pipeline("one_of(mixup(), cutmix(), p=1.0)").draw(MANY, (8, 8), epoch=0, step=0).parameters
    assert stats.binomtest(int((switch["one_of"]["chosen"] == "mixup").sum()), len(MANY), 0.5).pvalue > LEAST
    for name in ("mixup", "cutmix"):
        assert np.array_equal(~np.isnan(switch[f"one_of/{name}"]["weight"]), switch["one_of"]["chosen"] == name)
    coins = Pipeline(["mixup(p=0.5)", "cutmix(p=0.5)"]).draw(MANY, (8, 8), epoch=0, step=0).parameters
    mixed_twice = ~np.isnan(coins["mixup"]["weight"]) & ~np.isnan(coins["cutmix"]["weight"])
    assert stats.binomtest(int(mixed_twice.sum()), len(MANY), 0.25).pvalue > LEAST


def test_the_probability_of_a_switch_is_that_of_being_mixed() -> None:
    chosen = Pipeline("one_of(mixup(), cutmix(), p=0.3)").draw(MANY, (8, 8), epoch=0, step=0).parameters["one_of"]["chosen"]
    assert stats.binomtest(int((chosen != "none").sum()), len(MANY), 0.3).pvalue > LEAST


@pytest.mark.parametrize("text", ["one_of(rotate(), hue(), blur())", "one_of(flip(p=1.0), one_of(rotate(), shear()), cutout())"])
def test_every_part_is_as_likely(text: str) -> None:
    chosen = Pipeline(text).draw(MANY, (8, 8), epoch=0).parameters["one_of"]["chosen"]
    names, counts = np.unique(chosen, return_counts=True)
    assert len(names) == 3
    assert stats.chisquare(counts).pvalue > LEAST


@pytest.mark.parametrize("n", [1, 2, 3])
def test_some_of_runs_exactly_n_and_every_selection_is_as_likely(n: int) -> None:
    pipe = Pipeline(f"some_of(rotate(), hue(), blur(p=1.0), cutout(), n={n})")
    chosen = pipe.draw(MANY, (8, 8), epoch=0).parameters["some_of"]["chosen"]
    assert (chosen.sum(1) == n).all()
    counts = [int((chosen[:, selection].all(1)).sum()) for selection in itertools.combinations(range(4), n)]
    assert sum(counts) == len(MANY)
    assert stats.chisquare(counts).pvalue > LEAST


@pytest.mark.parametrize("name", ["rotate", "hue", "sharpen", "hide_and_seek", "gamma", "elastic", "randaugment", "lighting"])
def test_a_probability_picks_that_share_and_changes_no_other_number(name: str) -> None:
    every, some = (Pipeline(f"{name}(p={p})").draw(MANY, (8, 8), epoch=0).parameters[name] for p in (1.0, 0.3))
    for quantity, values in some.items():
        if values.dtype.kind == "f":
            done = ~np.isnan(values).reshape(len(MANY), -1).any(1)
            assert stats.binomtest(int(done.sum()), len(MANY), 0.3).pvalue > LEAST
            assert np.array_equal(values[done], every[quantity][done])


def test_what_a_picture_gets_alone_it_gets_as_part_of_a_choice_to_the_bit() -> None:
    """The rows of each part, made by hand from the factors that were noted, one stage at a time."""
    text = "one_of(flip(p=1.0), invert(p=1.0), solarize(p=1.0, threshold=100))"
    pipe = Pipeline(text, out="uint8")
    draws = pipe.draw(IDS, (20, 22), epoch=0)
    made, chosen = pipe.apply(IMAGES, draws).numpy(), draws.parameters["one_of"]["chosen"]
    by_hand = {"flip": IMAGES[:, :, ::-1], "invert": 255 - IMAGES, "solarize": np.where(IMAGES < 100, IMAGES, 255 - IMAGES)}
    assert set(chosen) == set(by_hand)
    for k, name in enumerate(chosen):
        assert np.array_equal(made[k], by_hand[name][k])


RICH = "some_of(rotate(), one_of(mixup(), cutmix()), blur(p=0.5), color_jitter(), random_erasing(), elastic(), n=3, p=0.9)"


def test_a_choice_can_be_replayed_split_and_read() -> None:
    pipe = Pipeline([RICH, "flip()"], seed=2, size=16)
    draws = pipe.draw(IDS, (20, 22), **PLACES)
    whole, _ = pipe(IMAGES, TARGETS, ids=IDS, **PLACES)
    assert torch.equal(pipe.apply(IMAGES, draws), whole)
    for k, words in enumerate(draws.describe()):
        chosen = draws.parameters["some_of"]["chosen"][k]
        assert (words["some_of/rotate.degrees"] is None) == (not chosen[0])
        assert (words["some_of/one_of.chosen"] == "none") == (not chosen[1])


def test_points_follow_the_geometry_that_was_chosen_and_come_back() -> None:
    draws = Pipeline("one_of(rotate(degrees=60.0), shift(fraction=0.3), perspective(p=1.0))").draw(IDS, (20, 22), epoch=0)
    points = np.random.default_rng(0).uniform(2, 18, (24, 7, 2))
    assert np.allclose(draws.to_output(draws.to_source(points)), points)
    moved = draws.parameters["one_of"]["chosen"] == "shift"
    noted = draws.parameters["one_of/shift"]
    by_hand = points - np.stack([noted["x"], noted["y"]], -1)[:, None]
    assert np.allclose(draws.to_source(points)[moved], by_hand[moved])


@pytest.mark.parametrize("n_processes", [2, 3])
def test_processes_together_choose_as_one_does(n_processes: int) -> None:
    pipe = Pipeline([RICH, "one_of(mixup(), cutmix())"], seed=1)
    whole, shares = pipe(IMAGES, TARGETS, ids=IDS, **PLACES)
    for k in range(n_processes):
        local = np.arange(24)[k::n_processes]
        rows = pipe.needed(IDS, local, **PLACES)
        images, targets = pipe(IMAGES[rows], TARGETS[rows], ids=IDS, local=local, **PLACES)
        assert torch.equal(images, whole[local])
        assert torch.equal(targets, shares[local])


def test_a_part_draws_the_same_whatever_stands_beside_the_choice() -> None:
    alone = Pipeline("one_of(rotate(), hue())").draw(IDS, (20, 22), epoch=0).parameters
    beside = Pipeline(["rotate()", "one_of(rotate(), hue())", "cutout()"]).draw(IDS, (20, 22), epoch=0).parameters
    for name in ("one_of", "one_of/rotate", "one_of/hue"):
        for quantity, values in alone[name].items():
            assert np.array_equal(values, beside[name][quantity], equal_nan=values.dtype.kind == "f")
    same = beside["rotate"]["degrees"] == beside["one_of/rotate"]["degrees"]
    assert not same.any()


def test_a_crop_left_out_gives_the_evaluation_view() -> None:
    pipe = Pipeline("random_resized_crop(p=0.5, scale_range=[0.2, 0.5])", size=12, out="uint8")
    draws = pipe.draw(IDS, (20, 22), epoch=0)
    left_out = np.isnan(draws.parameters["random_resized_crop"]["left"])
    assert 0 < left_out.sum() < 24
    assert np.array_equal(pipe.apply(IMAGES, draws).numpy()[left_out], IMAGES[left_out, 4:16, 5:17])


def test_text_reads_and_writes_parts_within_parts() -> None:
    text = "one_of(flip(), some_of(rotate(degrees=30), hue(), n=1), p=0.8)"
    transform = build(text, Augmentation)
    assert isinstance(transform, OneOf)
    assert [part.name for part in transform.transforms] == ["flip", "some_of"]
    assert build(spec(transform), Augmentation) == transform
    assert Pipeline(text).transforms == Pipeline([transform]).transforms


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("one_of()", KnobError, "transforms must be given"),
        ("one_of(flip())", KnobError, "two transforms or more"),
        ("one_of(flip(), normalize())", KnobError, "whole batch"),
        ("some_of(flip(), hue(), n=3)", KnobError, "n must be at most the number of transforms, 2"),
        ("one_of(flip(), rotat())", SpecError, "rotate"),
        ("one_of(flip(), 2)", KnobError, "transforms"),
        ("rotate(p=1.5)", KnobError, r"p must be a finite number in \[0, 1\]"),
    ],
)
def test_what_cannot_be_chosen_is_refused(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Pipeline(text)


def test_parts_that_set_the_size_must_agree_on_it() -> None:
    with pytest.raises(KnobError, match=r"one size.*\(8, 8\), \(9, 9\)"):
        Pipeline("one_of(random_resized_crop(size=8), random_resized_crop(size=9))").draw(IDS, (20, 22), epoch=0)
    made = Pipeline("one_of(random_resized_crop(), rotate())", size=10)(IMAGES, ids=IDS, epoch=0)
    assert made.shape == (24, 3, 10, 10)


def test_a_choice_that_mixes_needs_whole_batches() -> None:
    pipe = Pipeline("one_of(flip(), cutmix())")
    assert pipe.mixes
    with pytest.raises(KnobError, match="whole batches"):
        pipe.wrap([])
