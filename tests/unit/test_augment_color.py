"""Color against textbook formulas and torchvision; the laws of the draws; the single clamp."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from tests.oracles import augment_pixels as oracle
from torchvision.transforms.v2 import functional as tv

from descend.augment import Pipeline

IMAGES = np.random.default_rng(2).integers(60, 180, (12, 10, 9, 3), dtype=np.uint8)
IDS = np.arange(12)


def run(specs: str | list[str], images: np.ndarray = IMAGES) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    pipe = Pipeline(specs, out="uint8")
    draws = pipe.draw(IDS[: len(images)], images.shape[1:3], epoch=0)
    return pipe.apply(images, draws).numpy(), draws.parameters  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_magnitude_zero_is_the_identity_to_the_bit(name: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 33, 17, 3), dtype=np.uint8)
    assert np.array_equal(run(f"{name}(amount=0.0)", images)[0], images)
    assert np.array_equal(run("color_jitter(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)", images)[0], images)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_each_change_is_its_formula_and_torchvisions(name: str) -> None:
    made, noted = run(f"{name}(amount=0.3)")
    for k, factor in enumerate(noted[name]["factor"]):
        expected = getattr(oracle, name)(IMAGES[k].astype(np.float64), factor)
        assert np.abs(made[k] - np.clip(expected, 0, 255)).max() <= 0.51
        peer = getattr(tv, f"adjust_{name}")(torch.from_numpy(IMAGES[k]).permute(2, 0, 1).float() / 255, float(factor))
        assert np.abs(made[k] - 255 * peer.permute(1, 2, 0).numpy()).max() <= 0.6


def test_hue_turns_chroma_and_keeps_luma() -> None:
    made, noted = run("hue(amount=0.1)")
    for k, share in enumerate(noted["hue"]["share"]):
        expected = oracle.hue(IMAGES[k].astype(np.float64), share)
        assert np.abs(made[k] - np.clip(expected, 0, 255)).max() <= 0.51


def test_a_chain_is_the_formulas_in_turn_with_one_clamp_at_the_end() -> None:
    images = np.random.default_rng(2).integers(0, 256, (12, 10, 9, 3), dtype=np.uint8)
    made, noted = run("color_jitter(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)", images)
    drawn = noted["color_jitter"]
    clipped = 0
    for k in range(12):
        x = oracle.brightness(images[k].astype(np.float64), drawn["brightness"][k])
        x = oracle.contrast(x, drawn["contrast"][k])
        x = oracle.hue(oracle.saturation(x, drawn["saturation"][k]), drawn["hue"][k])
        clipped += int(((x < 0) | (x > 255)).sum())
        assert np.abs(made[k] - np.clip(x, 0, 255)).max() <= 0.52
    assert clipped > 100  # otherwise the clamp was not on trial


def test_a_list_of_changes_equals_the_same_changes_in_turn() -> None:
    made, noted = run(["contrast(amount=0.2)", "brightness(amount=0.2)", "contrast(amount=0.2)"])
    for k in range(12):
        x = oracle.contrast(IMAGES[k].astype(np.float64), noted["contrast"]["factor"][k])
        x = oracle.contrast(oracle.brightness(x, noted["brightness"]["factor"][k]), noted["contrast#2"]["factor"][k])
        assert np.abs(made[k] - np.clip(x, 0, 255)).max() <= 0.52


@pytest.mark.parametrize(("amount", "low", "high"), [(0.4, 0.6, 1.4), (1.5, 0.0, 2.5)])
def test_factors_are_uniform(amount: float, low: float, high: float) -> None:
    drawn = Pipeline(f"brightness(amount={amount})").draw(np.arange(3000), (4, 4), epoch=1).parameters["brightness"]["factor"]
    assert stats.kstest(drawn, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_normalisation_is_torchvisions_and_its_constants_can_be_given() -> None:
    expected = tv.normalize(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255, [0.2, 0.3, 0.4], [0.5, 0.6, 0.7])
    in_list = Pipeline("normalize(mean=[0.2, 0.3, 0.4], std=[0.5, 0.6, 0.7])")(IMAGES, ids=IDS, epoch=0)
    by_name = Pipeline([], mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))(IMAGES, ids=IDS, epoch=0)
    assert torch.allclose(in_list, expected, atol=1e-6)
    assert torch.equal(in_list, by_name)
    assert in_list.is_contiguous(memory_format=torch.channels_last)
    assert in_list.dtype == torch.float32
