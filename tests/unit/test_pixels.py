"""The policy for pixels: one scale for deep pictures, one background for transparent ones, whatever holds them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tests.oracles.data_pictures import on_white, scene

from descend import pixels, value_range
from descend.errors import PictureError
from descend.pixels import (
    Background,
    DeepColor,
    PixelPolicy,
    extremes,
    flattened,
    has_transparency,
    is_nearly_one_color,
    is_one_color,
    rgb,
    shared_scale,
)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_gives_levels_of_one_s_own(mode: str) -> None:
    image = Image.fromarray(scene(6, 9)).convert(mode)
    shown = rgb(image)
    np.testing.assert_array_equal(shown, np.array(image.convert("RGB")))
    shown[:] = 0
    assert np.array(image.convert("RGB")).any()


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (31, 20, 1)).astype(np.uint8)
    rgba = np.concatenate([scene(31, 20), alpha], axis=2)
    deep = np.random.default_rng(1).integers(0, 65536, (31, 20)).astype(np.uint16)
    color = np.random.default_rng(2).integers(0, 65536, (31, 20, 4)).astype(np.uint16)
    pictures = [Image.fromarray(rgba), Image.fromarray(deep), deep, color, Image.fromarray(deep.astype(np.float32))]
    whole = [(rgb(picture), None if picture is pictures[0] else extremes(picture)) for picture in pictures]
    monkeypatch.setattr(pixels, "_STRIP", 70)
    for picture, (shown, ends) in zip(pictures, whole, strict=True):
        np.testing.assert_array_equal(rgb(picture), shown)
        assert ends is None or extremes(picture) == ends
    np.testing.assert_allclose(whole[0][0], on_white(rgba), atol=1)


def test_16_bit_color_arrays_with_alpha_show_the_background() -> None:
    color = np.array([[[65535, 0, 257, 65535], [65535, 0, 257, 0]]], np.uint16)
    np.testing.assert_array_equal(rgb(color, PixelPolicy(background="gray"))[0], [[255, 0, 1], [128, 128, 128]])
    upper, lower = (Image.fromarray((color >> shift & 255).astype(np.uint8)) for shift in (8, 0))
    np.testing.assert_array_equal(rgb(DeepColor(upper, lower)), rgb(color))


@pytest.mark.parametrize(
    ("lows", "highs", "floats", "expected"),
    [
        ([0, 12], [4000, 3000], False, (0, 4095)),
        ([0], [255], False, (0, 255)),  # 8 bits in a 16-bit file
        ([3], [1020], False, (0, 1023)),
        ([0], [65520], False, (0, 65535)),
        ([960, 1000], [1140, 1130], False, (960, 1140)),  # less than a quarter of the range
        ([0], [500_000], False, (0, 500_000)),
        ([-1024], [3071], False, (-1024, 3071)),
        ([0.1], [0.9], True, (0, 1)),
        ([0.0], [1.01], True, (0, 1.01)),  # one that passes 1 does not make all others black
        ([-0.02], [1.0], True, (-0.02, 1.0)),
        ([0.0], [200.5], True, (0, 255)),
        ([7], [7], False, (0, 255)),  # between its own ends, 7 would be black
    ],
)
def test_the_shared_scale(lows: list[float], highs: list[float], floats: bool, expected: tuple[float, float]) -> None:
    assert shared_scale(lows, highs, floats=floats) == expected


def test_extremes_leave_out_a_thousandth_and_count_what_is_no_number() -> None:
    values = np.linspace(0, 1, 5000, dtype=np.float32).reshape(50, 100)
    values[0, 0], values[1, 1], values[2, 2] = 1e9, np.nan, -np.inf
    low, high, n_missing, _ = extremes(Image.fromarray(values))
    assert 0 <= low < 0.002
    assert 0.998 < high <= 1
    assert n_missing == 2
    assert np.isnan(extremes(Image.fromarray(np.full((2, 2), np.nan, np.float32)))[0])
    transparent = np.array([[[5, 65535], [9, 1], [700, 0]]], np.uint16)  # alpha is no brightness, and nobody sees 700
    upper, lower = (Image.fromarray((transparent >> shift & 255).astype(np.uint8)) for shift in (8, 0))
    assert extremes(DeepColor(upper, lower))[:2] == (5, 9)


def test_values_of_8_bits_in_a_16_bit_container_are_those_of_8_bits() -> None:
    values = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    wide = values.astype(np.uint16)
    assert (rgb(wide) == values).all()
    assert (rgb(Image.fromarray(wide[..., 0]))[..., 1] == values[..., 0]).all()
    assert rgb(wide, PixelPolicy(scale=(0.0, 65535.0))).max() <= 1  # a data set's scale is what it is
    wide[0, 0, 0] = 256
    assert rgb(wide).max() <= 1


@pytest.mark.parametrize("side", [8, 16, 28, 31, 64])
@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_one_hot_or_dead_pixel_sets_no_scale_whatever_the_size(side: int, kind: type) -> None:
    values = np.random.default_rng(side).integers(1000, 1100, (side, side)).astype(kind)
    odd = values.copy()
    odd[side // 2, side // 3], odd[1, 2] = 65535, 0
    low, high, *_ = extremes(Image.fromarray(odd))
    assert 1000 <= low < high < 1100


_NARROW_BODY = np.random.default_rng(0).normal(1000, 20, 900)


@pytest.mark.parametrize(
    ("odd", "body", "apart"),
    [
        (-9999, _NARROW_BODY, True),
        (float(np.finfo("f4").min), _NARROW_BODY, True),
        (1e20, _NARROW_BODY, True),
        (65535, _NARROW_BODY, True),  # a border that was drawn in
        (-5000, _NARROW_BODY, True),
        (-9999, _NARROW_BODY * 5, True),  # heights in meters: known to mean missing data
        (-9999, np.full(900, 0.5), True),
        (0, _NARROW_BODY, False),  # black is black
        (65535, np.linspace(0, 16383, 900), False),  # what is bright among much else
        (65535, np.full(900, 0.0), False),  # black and white
        (1300, _NARROW_BODY, False),
    ],
)
def test_values_that_stand_apart_are_left_out(odd: float, body: np.ndarray, apart: bool) -> None:
    values = np.append(body, [odd] * 124).astype(np.float32).reshape(32, 32)
    low, high, _, n_apart = extremes(Image.fromarray(values))
    assert (n_apart > 0) == apart
    assert (low <= odd <= high) == (not apart)
    assert body.min() - 0.1 <= (high if apart else max(low, body.min())) <= body.max() + 0.1


def test_missing_data_at_both_ends_and_with_a_border_is_left_out() -> None:
    values = np.concatenate([_NARROW_BODY[:750], [-9999] * 100, [65535] * 174]).astype(np.float32).reshape(32, 32)
    low, high, _, n_apart = extremes(Image.fromarray(values))
    assert 900 < low < high < 1100
    assert n_apart == 274


def test_the_no_data_value_of_a_tiff_file_is_left_out_wherever_it_lies() -> None:
    values = np.append(_NARROW_BODY, [0] * 124).astype(np.float32).reshape(32, 32)
    content = BytesIO()
    Image.fromarray(values).save(content, "tiff", tiffinfo={42113: "0"})
    low, high, _, n_apart = extremes(Image.open(content))
    assert 900 < low < high < 1100
    assert n_apart == 124


def test_a_picture_of_missing_data_alone_sets_no_scale() -> None:
    assert shared_scale([-9999, 0.1, 0.2], [-9999, 0.8, 0.9], floats=True) == (0, 1)
    assert shared_scale([65535, 960], [65535, 1140], floats=False) == (960, 1140)
    assert shared_scale([0, 3000], [0, 4000], floats=False) == (0, 4095)  # black is black
    assert shared_scale([-5], [-5], floats=True) == (-5, 0)


def test_a_handful_of_pixels_keeps_its_own_extremes() -> None:
    assert extremes(Image.fromarray(np.array([[0, 7, 65535]], np.uint16)))[:2] == (0, 65535)


def test_the_extremes_of_a_large_picture_come_from_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_SAMPLE", 400)
    values = np.arange(10_000, dtype=np.uint16).reshape(100, 100)
    low, high, *_ = extremes(Image.fromarray(values))
    assert (low, high) == (5, 95 * 100 + 90)  # every fifth row and column, less one at either end


def test_some_values_show_that_none_stands_apart_and_all_are_asked_where_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    least_half, n_looked = value_range._least_half, list[int]()
    rng = np.random.default_rng(0)
    usual, skewed = rng.normal(1000, 50, 32_000), np.append(rng.normal(10, 1, 31_800), np.linspace(20, 60_000, 200))

    def looked(values: np.ndarray, low: float, high: float) -> int:
        n_looked.append(values.size)
        return least_half(values, low, high)

    monkeypatch.setattr(value_range, "_least_half", looked)
    found = [value_range.ends(values) for values in (usual, skewed)]
    assert n_looked == [2000, 2000, 32_000]
    monkeypatch.setattr(value_range, "_SOME", 1)
    assert [value_range.ends(values) for values in (usual, skewed)] == found


def test_what_shows_one_color_on_each_background() -> None:
    icon = np.zeros((4, 4, 4), np.uint8)
    icon[1:3, 1:3] = 255  # white on nothing
    image = Image.fromarray(icon)
    assert has_transparency(image)
    assert [is_one_color(image, background) for background in ("white", "black", "gray")] == [True, False, False]
    assert not has_transparency(Image.fromarray(scene(4, 4)))
    assert is_one_color(Image.fromarray(np.uint8([[3, 11]])), "white")
    assert not is_one_color(Image.fromarray(np.uint8([[3, 12]])), "white")


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_one_pixel_of_another_color_is_found_in_a_large_picture(mode: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = np.full((300, 500), 90, np.uint8)
        assert is_one_color(Image.fromarray(values).convert(mode), "white")
        values[rng.integers(300), rng.integers(500)] = 200
        assert not is_one_color(Image.fromarray(values).convert(mode), "white")


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
@pytest.mark.parametrize(
    ("side", "mark", "level", "nearly"),
    [(32, 1, 0, True), (32, 2, 0, False), (512, 8, 0, False), (32, 5, 245, True), (32, 16, 230, False), (2, 1, 0, False)],
)
def test_a_picture_that_is_blank_but_for_a_speck(mode: str, side: int, mark: int, level: int, nearly: bool) -> None:
    values = np.full((side, side), 255, np.uint8)
    values[:mark, :mark] = level
    image = Image.fromarray(values).convert(mode)
    assert is_nearly_one_color(image, "white") == nearly
    assert not is_one_color(image, "white")


@pytest.mark.parametrize("background", ["white", "black", "gray"])
def test_every_color_of_every_opacity_is_laid_on_a_background_as_pillow_composites_it(background: Background) -> None:
    color, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    image = Image.fromarray(np.stack([color, color[::-1], color[:, ::-1], alpha], axis=-1))
    ground = Image.new("RGBA", image.size, (*[pixels.GROUND_LEVEL[background]] * 3, 255))
    expected = Image.alpha_composite(ground, image).convert("RGB")
    np.testing.assert_array_equal(rgb(image, PixelPolicy(background=background)), np.asarray(expected))


def test_a_plain_image_is_not_copied_and_other_arrays_are_refused() -> None:
    image = Image.fromarray(scene(4, 4))
    assert flattened(image) is image
    with pytest.raises(PictureError, match="an array must be"):
        rgb(np.zeros((2, 2), np.float32))


@pytest.mark.parametrize("kind", [np.int32, np.uint16, np.float32])
def test_levels_of_8_bits_in_a_deeper_container_are_those_levels(kind: type[np.generic]) -> None:
    gray = np.array(Image.fromarray(scene(20, 30)).convert("L"))
    np.testing.assert_array_equal(rgb(Image.fromarray(gray.astype(kind)))[:, :, 0], gray)


@pytest.mark.parametrize("value", [-1, 256])
def test_one_whole_number_that_8_bits_do_not_hold_tells_a_deeper_picture(value: int) -> None:
    gray = np.full((40, 40), 200, np.int32)
    gray[0, 0] = value
    assert rgb(Image.fromarray(gray))[1, 1, 0] in (0, 1, 254, 255)  # of 65536 levels nearly none; of -1..200 nearly all
