"""How pictures that are not square become squares: against Pillow's own geometry, and the choice by the shapes found."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.oracles.data_pictures import encoded, scene, timm_eval

from descend.data import decoded, load
from descend.data.decode import decode_resized
from descend.data.shapes import SQUARE, CropLoss, crop_loss, fit_for
from descend.errors import KnobError
from descend.pixels import BACKGROUNDS, FITS, Fit, PixelPolicy

LEVEL = {"white": 255, "black": 0, "gray": 128}
SIZES = [(300, 400), (400, 300), (256, 256), (257, 511), (30, 200), (1000, 333), (24, 96), (97, 24)]
SQUASH = PixelPolicy(fit="squash")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


def squashed(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def padded(picture: np.ndarray, side: int, level: int) -> np.ndarray:
    return np.asarray(ImageOps.pad(Image.fromarray(picture), (side, side), Image.Resampling.BICUBIC, color=(level,) * 3))


# ---------------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("side", [32, 33])
@pytest.mark.parametrize("size", SIZES)
def test_squashed_and_padded_pictures_are_pillows(size: tuple[int, int], side: int) -> None:
    picture = scene(*size)
    np.testing.assert_array_equal(decode_resized(encoded(picture), side, policy=SQUASH), squashed(picture, side))
    for background in BACKGROUNDS:
        ours = decode_resized(encoded(picture), side, policy=PixelPolicy(fit="pad", background=background))
        np.testing.assert_array_equal(ours, padded(picture, side, LEVEL[background]))


@pytest.mark.parametrize("fit", FITS)
def test_a_square_is_the_same_in_every_fit(fit: Fit) -> None:
    for picture in (scene(50, 50), scene(32, 32)):
        ours = decode_resized(picture, 32, policy=PixelPolicy(fit=fit))
        np.testing.assert_array_equal(ours, timm_eval(picture, 32, 1.0))


def test_gray_pictures_get_bars_of_the_same_color() -> None:
    gray = scene(20, 80)[:, :, 2]
    ours = decode_resized(encoded(gray), 40, policy=PixelPolicy(fit="pad", background="gray"))
    np.testing.assert_array_equal(ours, padded(np.repeat(gray[:, :, None], 3, 2), 40, 128))


def test_a_picture_whose_longer_side_has_the_size_is_padded_without_interpolation() -> None:
    picture = scene(9, 32)
    ours = decode_resized(picture, 32, policy=PixelPolicy(fit="pad", background="black"))
    np.testing.assert_array_equal(ours[12:21], picture)  # 23 rows of bars: 11.5 above, rounded to even
    assert not ours[:12].any()
    assert not ours[21:].any()


@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 2)])
def test_a_ribbon_keeps_a_line_and_needs_no_memory(size: tuple[int, int], fit: Fit) -> None:
    black = np.zeros((*size, 3), np.uint8)
    ours = decode_resized(black, 64, policy=PixelPolicy(fit=fit))
    assert (ours == 0).all(axis=2).sum() == (64 * 64 if fit == "squash" else 64)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_drafted_and_turned_jpeg_keeps_its_geometry(turn: int, fit: Fit) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    y, x = np.mgrid[0:401, 0:1603]  # sides that are no multiples of the draft's scale
    smooth = np.stack([255 * x / 1602, 255 * y / 400, 127 + 100 * np.sin(x / 40) * np.cos(y / 50)], axis=-1).astype(np.uint8)
    content = encoded(smooth, "jpeg", quality=95, exif=exif)
    policy = PixelPolicy(fit=fit, background="gray")
    exact = decode_resized(Image.open(BytesIO(content)), 48, policy=policy).astype(int)  # an opened image is never drafted
    ours = decode_resized(content, 48, policy=policy).astype(int)
    assert np.abs(ours - exact).max() <= 3
    assert (ours != exact).any(), "the decoder shrinks it"


def test_a_jpeg_is_drafted_only_where_both_sides_leave_enough() -> None:
    content = encoded(scene(100, 1600), "jpeg", quality=92)  # 16 times as long as it will be, but hardly higher
    exact = Image.open(BytesIO(content)).resize((96, 96), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(decode_resized(content, 96, policy=SQUASH), np.asarray(exact))


# ---------------------------------------------------------------------------------------------------------------- shapes


def _sizes(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, np.int32)


def test_what_a_crop_never_sees_is_counted_by_area() -> None:
    for width, height in [(400, 300), (300, 450), (1920, 1080), (97, 97), (40, 10)]:
        seen = np.zeros((height, width), bool)
        side = min(width, height)
        top, left = (height - side) // 2, (width - side) // 2
        seen[top : top + side, left : left + side] = True
        assert crop_loss(_sizes((width, height))).area == pytest.approx(1 - seen.mean())
    assert crop_loss(_sizes((100, 100), (7, 7))) == SQUARE
    mixed = crop_loss(_sizes((4000, 1000), (10, 10)))
    assert mixed == CropLoss(area=0.375, mostly_unseen=0.5)  # a large picture counts no more than a small one


@pytest.mark.parametrize(
    ("sizes", "fit"),
    [
        (_sizes((64, 64)), "crop"),
        (_sizes((640, 480), (480, 640)), "crop"),
        (_sizes((600, 400)), "crop"),
        (_sizes((1920, 1080)), "crop"),
        (_sizes((200, 100)), "crop"),  # the center still holds half
        (_sizes((400, 100)), "squash"),
        (_sizes((100, 400)), "squash"),
        (_sizes(*[(640, 480)] * 19, (400, 100)), "crop"),  # one panorama among photographs
        (_sizes(*[(640, 480)] * 4, (400, 100)), "squash"),
    ],
)
def test_the_default_keeps_the_centre_of_photographs_and_squashes_extreme_shapes(sizes: np.ndarray, fit: Fit) -> None:
    chosen, reason = fit_for(crop_loss(sizes))
    assert chosen == fit
    assert reason


def _folder(root: Path, *sizes: tuple[int, int]) -> Path:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            height, width = sizes[i % len(sizes)]
            (root / name / f"{i}.png").write_bytes(encoded(scene(height, width, seed=i + 100 * (name == "b"))))
    return root


def test_the_scan_tells_what_a_crop_never_sees(tmp_path: Path) -> None:
    wide, square = load(_folder(tmp_path / "wide", (10, 40), (30, 40))), load(_folder(tmp_path / "square", (12, 12)))
    assert "  a center crop never sees 50% of the pictures' area" in wide.describe()
    assert wide.summary()["unseen_by_crop"] == pytest.approx(0.5)
    assert not any("crop" in line for line in square.describe())
    assert square.crop_loss == SQUARE


def test_pictures_left_out_do_not_count(tmp_path: Path) -> None:
    dataset = load(_folder(tmp_path / "set", (10, 40), (10, 10)))
    wide = [row for row in range(len(dataset)) if dataset.sizes[row, 0] == 40]
    assert dataset.without(dict.fromkeys(wide, "broken")).crop_loss == SQUARE


# ----------------------------------------------------------------------------------------------- one policy for a data set


def test_the_cache_does_not_mix_fits_up(tmp_path: Path) -> None:
    root = _folder(tmp_path / "set", (12, 48), (40, 20))
    stored = {fit: decoded(load(root, fit=fit, background="auto"), 16) for fit in FITS}
    assert len({pixels.path for pixels in stored.values()}) == 3
    dataset = load(root)
    for fit, pixels in stored.items():
        for row in (0, 1, 2):
            expected = decode_resized(dataset.source(row), 16, policy=replace(dataset.policy, fit=fit, background="gray"))
            np.testing.assert_array_equal(pixels.take([row])[0], expected)
    assert decoded(dataset, 16).path == stored["crop"].path
    assert decoded(dataset.fitted("squash"), 16).path == stored["squash"].path
    assert dataset.fitted("crop") is dataset


def test_bars_are_gray_unless_pictures_are_transparent_or_a_color_is_asked_for(tmp_path: Path) -> None:
    opaque = _folder(tmp_path / "opaque", (10, 40))
    assert load(opaque, fit="pad").policy == PixelPolicy(fit="pad", background="gray")
    assert load(opaque, fit="pad", background="white").policy.background == "white"
    for fit in ("crop", "squash"):
        with pytest.raises(KnobError, match="background: has no effect: no picture is transparent"):
            load(opaque, fit=fit, background="white")
    clear = _folder(tmp_path / "clear", (10, 40))
    rgba = np.concatenate([scene(10, 40), np.full((10, 40, 1), 90, np.uint8)], axis=2)
    (clear / "a" / "0.png").write_bytes(encoded(rgba))
    assert load(clear, fit="pad").policy.background == "white"  # bars of the color that shows through pictures
    assert not load(opaque, fit="pad").problems
    with pytest.raises(KnobError, match="fit: must be one of crop, squash, pad, got 'stretch'"):
        load(opaque, fit="stretch")  # pyright: ignore[reportArgumentType] (refused in words)
