"""Geometry against NumPy, Pillow, OpenCV and torchvision; copies to the bit, resampling within a stated tolerance."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from tests.oracles import augment_pixels as oracle
from torchvision.transforms.v2 import functional as tv

from descend.augment import Pipeline
from descend.errors import KnobError

IDS = np.arange(1000, 1016)


def pictures(n: int = 16, h: int = 24, w: int = 32, *, smooth: bool = False) -> np.ndarray:
    made = np.random.default_rng(5).integers(0, 256, (n, h, w, 3), dtype=np.uint8)
    return np.stack([cv2.GaussianBlur(p, (0, 0), 3) for p in made]) if smooth else made


def run(spec: str | list[str], images: np.ndarray, **settings: object) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    pipe = Pipeline(spec, out="uint8", **settings)  # pyright: ignore[reportArgumentType]
    draws = pipe.draw(IDS[: len(images)], images.shape[1:3], epoch=3)
    noted = next(iter(draws.parameters.values()), {})
    return pipe.apply(images, draws).numpy(), noted  # pyright: ignore[reportReturnType]


STILL = ("rotate(degrees=0.0)", "shift(fraction=0.0)", "scale(factor_range=[1.0, 1.0])", "shear(degrees=0.0)", "flip(p=0.0)")


@pytest.mark.parametrize("spec", [*STILL, "pad_crop(padding=0)"])
def test_magnitude_zero_is_the_identity_to_the_bit(spec: str) -> None:
    images = pictures()
    made, _ = run(spec, images)
    assert np.array_equal(made, images)


def test_a_full_square_crop_is_the_identity_to_the_bit() -> None:
    images = pictures(h=32)
    made, _ = run("random_resized_crop(scale_range=[1.0, 1.0], ratio_range=[1.0, 1.0])", images)
    assert np.array_equal(made, images)


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_flip_mirrors_the_pictures_that_it_says_and_twice_is_the_identity(axis: str) -> None:
    images = pictures()
    made, noted = run(f"flip(axis={axis})", images)
    flipped = images[:, :, ::-1] if axis == "horizontal" else images[:, ::-1]
    assert 0 < noted["flipped"].sum() < len(images)
    assert np.array_equal(made, np.where(noted["flipped"][:, None, None, None], flipped, images))
    twice, _ = run([f"flip(p=1.0, axis={axis})", f"flip(p=1.0, axis={axis})"], images)
    assert np.array_equal(twice, images)


def test_slants_along_both_axes_never_press_a_picture_flat_or_turn_it_inside_out() -> None:
    for text in ("shear(degrees=44.9)", "shear(degrees=60.0, axis=horizontal)", "shear(degrees=60.0, axis=vertical)"):
        draws = Pipeline(text).draw(np.arange(4000), (24, 32), epoch=0)
        assert (np.linalg.det(draws.matrix[:, :2, :2]) > 0).all()
    for degrees in (45, 60):
        with pytest.raises(KnobError, match=rf"shear: degrees must be below 45 along both axes, .* got {degrees}"):
            Pipeline(f"shear(degrees={degrees})")


def test_pad_crop_is_numpy_reflection_and_a_slice() -> None:
    images = pictures()
    made, noted = run("pad_crop(padding=5)", images)
    for picture, out, x, y in zip(images, made, noted["x"], noted["y"], strict=True):
        assert np.array_equal(out, oracle.reflect_crop(picture, int(y), int(x), 5))


def test_pad_crop_offsets_are_uniform() -> None:
    draws = Pipeline("pad_crop(padding=4)").draw(np.arange(9000), (32, 32), epoch=0)
    for offset in draws.parameters["pad_crop"].values():
        counts = np.bincount(offset.astype(int) + 4, minlength=9)
        assert len(counts) == 9
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("stored", "size"), [((40, 50), 32), ((33, 32), 32), ((32, 32), 32)])
def test_the_evaluation_view_cuts_the_middle_to_the_bit(stored: tuple[int, int], size: int) -> None:
    images = pictures(4, *stored)
    made, _ = run([], images, size=size)
    top, left = (stored[0] - size) // 2, (stored[1] - size) // 2
    assert np.array_equal(made, images[:, top : top + size, left : left + size])


@pytest.mark.parametrize("stored", [(20, 20), (20, 28)])
def test_a_picture_smaller_than_the_output_is_enlarged_as_opencv_does(stored: tuple[int, int]) -> None:
    images = pictures(4, *stored, smooth=True)
    made, _ = run([], images, size=32)
    wide = round(stored[1] * 32 / 20)
    left = (wide - 32) // 2
    for picture, out in zip(images, made, strict=True):
        expected = cv2.resize(picture, (wide, 32), interpolation=cv2.INTER_LINEAR)[:, left : left + 32]
        assert np.abs(out.astype(int) - expected)[2:-2, 2:-2].max() <= 1


@pytest.mark.parametrize(
    "spec", ["rotate(degrees=40.0)", "shear(degrees=20.0)", "shift(fraction=0.2)", "scale(factor_range=[1.0, 1.5])"]
)
def test_resampling_is_bilinear_with_reflection(spec: str) -> None:
    images = pictures(2, 12, 14)
    pipe = Pipeline(spec, out="uint8")
    draws = pipe.draw(IDS[:2], (12, 14), epoch=0)
    made = pipe.apply(images, draws).numpy()
    for k in range(2):
        for i in range(12):
            for j in range(14):
                x, y, z = draws.matrix[k] @ (j + 0.5, i + 0.5, 1.0)
                expected = oracle.bilinear(images[k], x / z - 0.5, y / z - 0.5)
                assert np.abs(made[k, i, j] - expected).max() <= 0.51


def interior(images: np.ndarray, margin: int = 8) -> np.ndarray:
    return images[:, margin:-margin, margin:-margin].astype(int)


def test_rotate_turns_as_torchvision_does() -> None:
    images = pictures(8, 48, 48, smooth=True)
    made, noted = run("rotate(degrees=30.0)", images)
    for k, angle in enumerate(noted["degrees"]):
        turned = tv.rotate(torch.from_numpy(images[k]).permute(2, 0, 1).float(), float(angle), tv.InterpolationMode.BILINEAR)
        expected = turned.permute(1, 2, 0).numpy()[None]
        assert np.abs(interior(made[k : k + 1], 14) - interior(expected, 14)).max() <= 1


def test_random_resized_crop_stretches_its_box_as_pillow_does() -> None:
    images = pictures(8, 40, 40, smooth=True)
    made, noted = run("random_resized_crop(scale_range=[0.3, 0.7])", images, size=40)
    for k in range(8):
        left, top, width, height = (float(noted[name][k]) for name in ("left", "top", "width", "height"))
        box = (left, top, left + width, top + height)
        expected = np.asarray(Image.fromarray(images[k]).resize((40, 40), Image.Resampling.BILINEAR, box=box))
        assert np.abs(interior(made[k : k + 1], 3) - interior(expected[None], 3)).max() <= 2


def test_crop_area_and_ratio_follow_their_laws() -> None:
    spec = "random_resized_crop(scale_range=[0.1, 0.4], ratio_range=[0.5, 2.0])"  # every box fits, so the laws are undisturbed
    noted = Pipeline(spec).draw(np.arange(4000), (100, 100), epoch=0).parameters["random_resized_crop"]
    area, ratio = noted["width"] * noted["height"] / 1e4, noted["width"] / noted["height"]
    assert stats.kstest(area, stats.uniform(0.1, 0.3).cdf).pvalue > 1e-3
    assert stats.kstest(np.log(ratio), stats.uniform(np.log(0.5), np.log(4)).cdf).pvalue > 1e-3
    assert stats.kstest(noted["left"] / (100 - noted["width"]), "uniform").pvalue > 1e-3


def test_crops_stay_inside_the_picture_even_when_hardly_any_fits() -> None:
    spec = "random_resized_crop(scale_range=[0.9, 1.0], ratio_range=[3.0, 4.0])"
    noted = Pipeline(spec).draw(np.arange(500), (50, 60), epoch=0).parameters["random_resized_crop"]
    assert (noted["left"] >= 0).all()
    assert (noted["left"] + noted["width"] <= 60).all()
    assert (noted["top"] + noted["height"] <= 50).all()
    assert np.allclose(noted["width"] / noted["height"], 3.0)  # the nearest legal shape


@pytest.mark.parametrize("factor", [2, 5, 8])
def test_strong_downscaling_does_not_alias(factor: int) -> None:
    y, x = np.mgrid[: 32 * factor, : 32 * factor]
    board = np.where((x + y) % 2, 255, 0).astype(np.uint8)  # all of its energy lies above the new Nyquist frequency
    made, _ = run("resize(size=32)", np.repeat(board[None, ..., None], 3, -1))
    assert np.abs(made - 127.5).max() <= 127.5 / factor**2 + 1  # an odd box holds one square more of one color


@pytest.mark.parametrize("size", [16, 21])
def test_downscaling_is_close_to_pillows_antialiased_box(size: int) -> None:
    images = pictures(4, 64, 64, smooth=True)
    made, _ = run(f"resize(size={size})", images)
    for picture, out in zip(images, made, strict=True):
        expected = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BOX))
        assert np.abs(out.astype(int) - expected)[1:-1, 1:-1].mean() <= 2.0


def test_geometry_composes_into_one_resampling() -> None:
    """A turn there and back is exact only if nothing is interpolated in between."""
    images = pictures()
    pipe = Pipeline(["rotate(degrees=180.0)"], out="uint8")
    draws = pipe.draw(IDS, images.shape[1:3], epoch=0)
    back = draws.warp(np.linalg.inv(draws.matrix))
    assert np.abs(back.matrix - np.eye(3)).max() < 1e-12
    assert np.abs(pipe.apply(images, back).numpy().astype(int) - images).max() <= 1


def test_one_pixel_wide_pictures_are_legal() -> None:
    images = pictures(3, 1, 1)
    made, _ = run(["rotate()", "pad_crop()"], images, size=4)
    assert np.array_equal(made, np.broadcast_to(images, (3, 4, 4, 3)))
