"""Tone and channel operations against Pillow and NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import stats

from descend.augment import Pipeline
from descend.augment import apply as meaning
from descend.augment.factors import look_up

IMAGES = np.random.default_rng(9).integers(0, 256, (16, 40, 41, 3), dtype=np.uint8)
DULL = (60 + IMAGES // 4).astype(np.uint8)
IDS = np.arange(16)


def run(specs: str | list[str], images: np.ndarray = IMAGES) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    pipe = Pipeline(specs, out="uint8")
    draws = pipe.draw(IDS[: len(images)], images.shape[1:3], epoch=0)
    return pipe.apply(images, draws).numpy(), draws.parameters  # pyright: ignore[reportReturnType]


PEERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "solarize(p=1.0, threshold=100)": lambda picture: ImageOps.solarize(picture, 100),
    "posterize(p=1.0, bits=3)": lambda picture: ImageOps.posterize(picture, 3),
    "equalize(p=1.0)": ImageOps.equalize,
    "invert(p=1.0)": ImageOps.invert,
}


@pytest.mark.parametrize("images", [IMAGES, DULL], ids=["bright", "dull"])
@pytest.mark.parametrize("spec", PEERS)
def test_equals_pillow_to_the_bit(spec: str, images: np.ndarray) -> None:
    made, _ = run(spec, images)
    for picture, out in zip(images, made, strict=True):
        assert np.array_equal(out, np.asarray(PEERS[spec](Image.fromarray(picture))))


@pytest.mark.parametrize("images", [IMAGES, DULL], ids=["bright", "dull"])
def test_autocontrast_is_pillows_but_rounded_where_pillow_cuts(images: np.ndarray) -> None:
    made, _ = run("autocontrast(p=1.0)", images)
    for picture, out in zip(images, made, strict=True):
        assert np.abs(out.astype(int) - np.asarray(ImageOps.autocontrast(Image.fromarray(picture)))).max() <= 1


@pytest.mark.parametrize("spec", ["autocontrast(p=1.0)", "equalize(p=1.0)"])
def test_flat_pictures_stay(spec: str) -> None:
    flat = np.full((2, 9, 9, 3), (7, 0, 255), np.uint8)
    assert np.array_equal(run(spec, flat)[0], flat)


RESAMPLED = [
    (["random_resized_crop()"], 24),
    (["resize(size=31)"], None),
    (["resize(size=90)"], None),
    (["rotate(degrees=60.0)", "elastic()"], None),
    (["perspective(p=1.0)", "resampling(interpolation=bicubic)"], None),
]


@pytest.mark.parametrize(("geometry", "size"), RESAMPLED, ids=str)
def test_flat_channels_stay_flat_whatever_geometry_did_before(geometry: list[str], size: int | None) -> None:
    """The weights of a resampling sum to one up to rounding only, which is no contrast."""
    images = np.full((16, 48, 40, 3), (0, 255, 37), np.uint8)
    images[..., 0] = np.random.default_rng(0).integers(0, 200, (16, 48, 40))  # a channel with contrast beside two without
    pipe = Pipeline([*geometry, "autocontrast(p=1.0)"], size=size, out="uint8")
    draws = pipe.draw(IDS, (48, 40), epoch=0)
    plain = meaning.rounded(meaning.levels(torch.from_numpy(images), draws, torch.zeros(3), torch.ones(3)))
    for made in (pipe.apply(images, draws), plain):
        assert (made[..., 1] == 255).all()
        assert (made[..., 2] == 37).all()
        assert made[..., 0].min() == 0
        assert made[..., 0].max() == 255


def test_a_level_that_geometry_put_between_two_steps_is_posterized_to_one_between_theirs() -> None:
    halves = np.full((1, 8, 8, 3), 127, np.uint8)
    halves[:, :, 4:] = 128
    for specs, between in (["posterize(p=1.0, bits=1)"], False), (["posterize(p=1.0, bits=1)", "shift(fraction=0.1)"], True):
        made, _ = run(specs, halves)
        assert {0, 128} <= set(made.ravel().tolist())
        assert (np.setdiff1d(made, [0, 128]).size > 0) == between


def test_gamma_is_a_power() -> None:
    made, noted = run("gamma(gamma_range=[0.5, 2.0])")
    for picture, out, gamma in zip(IMAGES, made, noted["gamma"]["gamma"], strict=True):
        assert np.abs(out - 255 * (picture / 255.0) ** gamma).max() <= 0.51


STILL = ["solarize", "posterize", "equalize", "autocontrast", "invert", "grayscale", "channel_shuffle", "channel_drop"]


@pytest.mark.parametrize("spec", [*(f"{name}(p=0.0)" for name in STILL), "gamma(gamma_range=[1.0, 1.0])", "lighting(sigma=0.0)",
                                  "gaussian_noise(sigma_range=[0.0, 0.0])"])  # fmt: skip
def test_magnitude_zero_is_the_identity_to_the_bit(spec: str) -> None:
    assert np.array_equal(run(spec)[0], IMAGES)


@pytest.mark.parametrize("name", STILL)
def test_probability_is_the_share_of_changed_pictures(name: str) -> None:
    draws = Pipeline(f"{name}(p=0.3)").draw(np.arange(4000), (8, 8), epoch=0)
    noted = next(iter(draws.parameters[name].values()))
    changed = noted >= 0 if name == "channel_drop" else noted
    if name == "channel_shuffle":
        changed = (np.where(np.isnan(noted), np.arange(3), noted) != np.arange(3)).any(1)
    expected = 0.3 * 5 / 6 if name == "channel_shuffle" else 0.3  # one of the six orders is the old one
    assert stats.binomtest(int(changed.sum()), 4000, expected).pvalue > 1e-3


def test_tables_compose_in_the_order_of_the_list() -> None:
    made, _ = run(["posterize(p=1.0, bits=3)", "solarize(p=1.0, threshold=100)"])
    expected = [np.asarray(ImageOps.solarize(ImageOps.posterize(Image.fromarray(picture), 3), 100)) for picture in IMAGES]
    assert np.array_equal(made, np.stack(expected))


def test_tables_are_read_linearly_between_levels() -> None:
    table = np.random.default_rng(0).uniform(0, 255, (1, 3, 256)).astype(np.float32)
    at = np.array([0.0, 0.25, 100.5, 254.75, 255.0, 300.0], np.float32)
    expected = np.stack([np.interp(at, np.arange(256), row) for row in table[0]])
    assert np.allclose(look_up(table, np.broadcast_to(at, (1, 3, 6)))[0], expected, atol=1e-3)


def test_gray_pictures_hold_their_luma_in_every_channel() -> None:
    made, _ = run("grayscale(p=1.0)")
    for picture, out in zip(IMAGES, made, strict=True):
        assert np.abs(out - np.asarray(Image.fromarray(picture).convert("L"), int)[..., None]).max() <= 1


def test_channels_are_shuffled_and_dropped_as_noted() -> None:
    made, noted = run("channel_shuffle(p=1.0)")
    for picture, out, order in zip(IMAGES, made, noted["channel_shuffle"]["order"], strict=True):
        assert np.array_equal(out, picture[..., order])
    made, noted = run("channel_drop(p=0.7)")
    for picture, out, channel in zip(IMAGES, made, noted["channel_drop"]["dropped"], strict=True):
        assert np.array_equal(out, picture * (np.arange(3) != channel))


def test_lighting_adds_one_colour_along_the_published_axes() -> None:
    made, noted = run("lighting()", DULL)
    for picture, out, offset in zip(DULL, made, noted["lighting"]["offset"], strict=True):
        assert np.abs(out - (picture + offset)).max() <= 0.51
    drawn = Pipeline("lighting(sigma=0.1)").draw(np.arange(5000), (4, 4), epoch=0).parameters["lighting"]["offset"]
    axis = np.array([-0.5675, -0.5808, -0.5836])
    assert (
        stats.kstest(drawn @ axis / np.linalg.norm(axis), stats.norm(scale=25.5 * 0.2175 * np.linalg.norm(axis)).cdf).pvalue
        > 1e-3
    )


def test_noise_is_gaussian_and_independent_between_pictures_and_values() -> None:
    gray = np.full((4, 64, 64, 3), 128, np.uint8)
    pipe = Pipeline("gaussian_noise(sigma_range=[8.0, 8.0])", mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
    made = pipe(gray, ids=IDS[:4], epoch=0).double().numpy() - 128
    assert stats.kstest(made.ravel(), stats.norm(scale=8).cdf).pvalue > 1e-3
    flat = made.reshape(4, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.05
    assert abs(np.corrcoef(flat[:, :-1].ravel(), flat[:, 1:].ravel())[0, 1]) < 0.02
