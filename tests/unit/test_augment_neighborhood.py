"""Blur, sharpen and JPEG against OpenCV and Pillow."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from descend.augment import Pipeline

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
