"""Blur, sharpen and JPEG against OpenCV and Pillow."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from descend.augment import Pipeline, fused
from descend.augment.factors import Neighborhood
from descend.augment.neighborhood import compiled, processed
from descend.augment.windows import seen

IMAGES = np.random.default_rng(10).integers(0, 256, (8, 30, 33, 3), dtype=np.uint8)
IDS = np.arange(8)


def run(spec: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    pipe = Pipeline(spec, out="uint8")
    draws = pipe.draw(IDS, IMAGES.shape[1:3], epoch=0)
    return pipe.apply(IMAGES, draws).numpy(), next(iter(draws.parameters.values()))  # pyright: ignore[reportReturnType]


def test_blur_is_opencvs_gaussian() -> None:
    made, noted = run("blur(p=0.7, sigma_range=[0.5, 2.0])")
    assert 0 < np.isnan(noted["sigma"]).sum() < 8
    for picture, out, sigma in zip(IMAGES, made, noted["sigma"], strict=True):
        side = 2 * max(1, round(3 * sigma)) + 1 if sigma == sigma else 1
        expected = picture if side == 1 else cv2.GaussianBlur(picture.astype(np.float64), (side, side), sigma)
        assert np.abs(out - expected).max() <= 0.51


def test_sharpness_is_pillows() -> None:
    made, noted = run("sharpen(amount=0.9)")
    for picture, out, factor in zip(IMAGES, made, noted["factor"], strict=True):
        expected = np.asarray(ImageEnhance.Sharpness(Image.fromarray(picture)).enhance(factor), int)
        assert np.abs(out - expected).max() <= 1


def test_jpeg_is_pillows_to_the_bit() -> None:
    made, noted = run("jpeg(p=0.7, quality_range=[10, 60])")
    for picture, out, quality in zip(IMAGES, made, noted["quality"], strict=True):
        file = io.BytesIO()
        if quality == quality:
            Image.fromarray(picture).save(file, "JPEG", quality=int(quality))
        expected = np.asarray(Image.open(file)) if quality == quality else picture
        assert np.array_equal(out, expected)


@pytest.mark.parametrize("spec", ["blur(p=0.0)", "blur(p=1.0, sigma_range=[0.0, 0.0])", "sharpen(amount=0.0)", "jpeg(p=0.0)"])
def test_magnitude_zero_is_the_identity_to_the_bit(spec: str) -> None:
    assert np.array_equal(run(spec)[0], IMAGES)


def test_the_input_is_left_alone() -> None:
    before = IMAGES.copy()
    run("jpeg(p=1.0)")
    assert np.array_equal(before, IMAGES)


def through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def pictures(height: int, width: int) -> list[np.ndarray]:
    """Return noise, something smooth, and pixels at the ends of the scale."""
    noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    smooth = np.clip((noise.astype(int) - 128).cumsum(0).cumsum(1) // 8 + 128, 0, 255).astype(np.uint8)
    return [noise, smooth, np.where(noise > 127, 255, 0).astype(np.uint8)]


@pytest.mark.parametrize(
    "size", [(256, 256), (1, 1), (2, 5), (1, 7), (3, 40), (17, 16), (16, 17), (47, 61), (31, 33), (90, 4)], ids=str
)
def test_jpeg_without_a_file_is_pillows_to_the_bit_whatever_size_and_quality(size: tuple[int, int]) -> None:
    for quality in (1, 5, 24, 49, 50, 51, 75, 92, 100):
        for picture in pictures(*size):
            out = np.zeros_like(picture)
            compiled(picture[None], (Neighborhood("jpeg", np.array([float(quality)])),), 0, 1, out[None])
            assert np.array_equal(out, through_jpeg(picture, quality)), quality


def test_quantization_steps_are_libjpegs() -> None:
    from descend.augment.jpeg_kernels import steps

    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
        tables = Image.open(file).quantization  # pyright: ignore[reportAttributeAccessIssue] (of JpegImageFile)
        assert np.array_equal(steps(quality), [tables[0], tables[1]])


@pytest.mark.parametrize("kind", ["blur", "sharpen", "jpeg"])
def test_a_window_is_made_as_the_whole_picture_is(kind: str) -> None:
    rng, strengths = np.random.default_rng(5), {"blur": (0.1, 0.7, 2.0, 4.5), "sharpen": (0.2, 1.9), "jpeg": (7, 60)}[kind]
    for _ in range(30):
        height, width = rng.integers(1, 70, 2)
        image = rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        steps = tuple(Neighborhood(kind, np.array([float(rng.choice(strengths))])) for _ in range(2))
        (top, bottom), (left, right) = (np.sort(rng.choice(n + 1, 2, replace=False)) for n in (height, width))
        whole, part = processed(torch.from_numpy(image), steps).numpy(), np.zeros_like(image)
        compiled(image, steps, 0, 1, part, np.array([[top, bottom, left, right]]))
        assert np.array_equal(part[:, top:bottom, left:right], whole[:, top:bottom, left:right])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "specs",
    [
        ["center_crop()"],
        ["random_resized_crop()", "flip()", "quarter_turn()"],
        ["center_crop()", "rotate(degrees=180.0)"],
        ["random_resized_crop(scale_range=[0.1, 0.3])", "shear()"],
        ["random_resized_crop(scale_range=[0.1, 0.3])", "perspective(p=0.5)"],
        ["random_resized_crop(scale_range=[0.1, 0.3])", "elastic(p=0.5)"],
    ],
    ids=str,
)
def test_pixels_that_are_not_seen_do_not_matter(specs: list[str], interpolation: str) -> None:
    images = np.random.default_rng(3).integers(0, 256, (40, 60, 75, 3), dtype=np.uint8)
    pipe = Pipeline([*specs, f"resampling(interpolation={interpolation})"], size=30, out="uint8")
    draws = pipe.draw(np.arange(40), (60, 75), epoch=0)
    others = 255 - images
    for image, other, (top, bottom, left, right) in zip(images, others, seen(draws), strict=True):
        other[top:bottom, left:right] = image[top:bottom, left:right]
    areas = np.diff(seen(draws)[:, :2]) * np.diff(seen(draws)[:, 2:])
    assert areas.min() < 60 * 75 * 0.8  # else it would hold of itself
    mean, std = torch.zeros(3), torch.ones(3)
    made = [fused.whole_levels(torch.from_numpy(which), draws, mean, std) for which in (images, others)]
    assert torch.equal(*made)
