"""How stored pixels are read: borders against NumPy, OpenCV and torchvision, bicubic against Keys and Pillow."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from tests.oracles import augment_pixels as oracle
from torchvision.transforms.v2 import functional as tv

from descend.augment import Letterbox, Pipeline, Resampling, fused
from descend.augment import apply as meaning
from descend.augment.factors import BORDERS, Sampling
from descend.augment.resampling import gathered
from descend.errors import KnobError

IMAGES = np.random.default_rng(5).integers(0, 256, (6, 24, 30, 3), dtype=np.uint8)
SMOOTH = np.stack(
    [cv2.GaussianBlur(p, (0, 0), 3) for p in np.random.default_rng(1).integers(0, 256, (6, 48, 48, 3), dtype=np.uint8)]
)
IDS = np.arange(6) + 40
NUMPY = {"reflect": "reflect", "constant": "constant", "replicate": "edge", "wrap": "wrap"}
OPENCV = {
    "reflect": cv2.BORDER_REFLECT_101,
    "constant": cv2.BORDER_CONSTANT,
    "replicate": cv2.BORDER_REPLICATE,
    "wrap": cv2.BORDER_WRAP,
}
MEAN, STD = torch.tensor([30.0, 100.0, 200.0]), torch.tensor([40.0, 50.0, 60.0])
EVERY_WAY = [(i, b) for i, b in itertools.product(("bilinear", "bicubic"), BORDERS)]


def run(
    specs: list[str], images: np.ndarray, **settings: object
) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]], np.ndarray]:
    pipe = Pipeline(specs, out="uint8", **settings)  # pyright: ignore[reportArgumentType]
    draws = pipe.draw(IDS[: len(images)], images.shape[1:3], epoch=0)
    return pipe.apply(images, draws).numpy(), draws.parameters, draws.matrix  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("border", BORDERS)
def test_a_padded_crop_is_numpys_and_torchvisions_to_the_bit(border: str) -> None:
    fill = ["resampling(border=constant, fill=[9.0, 90.0, 200.0])"] if border == "constant" else [f"resampling(border={border})"]
    made, noted, _ = run([*fill, "pad_crop(padding=11)"], IMAGES)
    for k, (image, out) in enumerate(zip(IMAGES, made, strict=True)):
        top, left = (11 + int(noted["pad_crop"][name][k]) for name in ("y", "x"))
        planes = [
            np.pad(image[..., c], 11, NUMPY[border], **({"constant_values": level} if border == "constant" else {}))
            for c, level in enumerate((9, 90, 200))
        ]
        assert np.array_equal(out, np.stack(planes, -1)[top : top + 24, left : left + 30])
        if border != "wrap":  # which torchvision does not know
            color = [9.0, 90.0, 200.0] if border == "constant" else None
            padded = tv.pad(torch.from_numpy(image).permute(2, 0, 1), [11], color, NUMPY[border])
            assert np.array_equal(out, padded.permute(1, 2, 0).numpy()[top : top + 24, left : left + 30])


@pytest.mark.parametrize("border", BORDERS)
def test_a_turned_picture_is_opencvs(border: str) -> None:
    """OpenCV counts positions in 1/32 pixels, hence smooth pictures and a tolerance of two levels."""
    fill = ", fill=[20.0, 120.0, 220.0]" if border == "constant" else ""
    made, _, matrices = run([f"resampling(border={border}{fill})", "rotate(degrees=90.0)", "shift(fraction=0.4)"], SMOOTH)
    center = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV puts pixel centers at whole numbers
    for image, out, matrix in zip(SMOOTH, made, matrices, strict=True):
        inner = (np.linalg.inv(center) @ matrix @ center)[:2]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected = cv2.warpAffine(image, inner, (48, 48), flags=flags, borderMode=OPENCV[border], borderValue=(20, 120, 220))
        gap = np.abs(out.astype(int) - expected).max(-1)
        assert np.quantile(gap, 0.95) <= 2  # beside a hard edge a 32nd of a pixel is worth more
        assert gap.max() <= 10


@pytest.mark.parametrize("border", BORDERS)
def test_bicubic_is_keys_convolution_over_a_padded_image(border: str) -> None:
    fill = ", fill=black" if border == "constant" else ""
    made, _, matrices = run(
        [f"resampling(interpolation=bicubic, border={border}{fill})", "rotate(degrees=60.0)"], IMAGES[:2, :12, :14]
    )
    for image, out, matrix in zip(IMAGES[:2, :12, :14], made, matrices, strict=True):
        expected = oracle.warp(image, matrix, cubic=True, border=border, fill=np.zeros(3))
        assert np.abs(out - np.clip(expected, 0, 255)).max() <= 0.51


@pytest.mark.parametrize("size", [(96, 96), (70, 130)])
def test_bicubic_enlargement_is_pillows_inside(size: tuple[int, int]) -> None:
    """Pillow leaves out what lies beyond the border, so only the inside is compared."""
    made, _, _ = run(["resampling(interpolation=bicubic)", "random_resized_crop(scale_range=[1.0, 1.0])"], SMOOTH, size=size)
    for image, out in zip(SMOOTH, made, strict=True):
        expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
        assert np.abs(out.astype(int) - expected)[6:-6, 6:-6].max() <= 1


def test_bicubic_reproduces_a_parabola_where_bilinear_cannot() -> None:
    """Keys: convergence of the third order, so polynomials up to the second degree are exact."""

    def parabola(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 2 * (x - 9) ** 2 + 3 * y + 10

    y, x = np.mgrid[:20, :20].astype(np.float64)
    image = parabola(x, y).astype(np.uint8)[None, ..., None].repeat(3, -1)
    gaps: dict[str, float] = {}
    for interpolation in ("bicubic", "bilinear"):
        pipe = Pipeline([f"resampling(interpolation={interpolation})", "shift()"], mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)
        draws = pipe.draw(IDS[:1], (20, 20), epoch=0)
        u, v = x + draws.matrix[0, 0, 2], y + draws.matrix[0, 1, 2]
        gap = np.abs(pipe.apply(image, draws).numpy()[0, 0] - parabola(u, v))
        gaps[interpolation] = float(gap[4:-4, 4:-4].max())
    assert gaps["bicubic"] < 1e-3
    assert gaps["bilinear"] > 0.1


LISTS = [
    ["random_resized_crop()", "flip()"],
    ["rotate(degrees=180.0)", "shift(fraction=0.5)"],
    ["perspective(p=0.7)", "elastic()"],
    ["quarter_turn()", "pad_crop(padding=9)", "random_erasing()"],
    ["letterbox()", "scale()", "equalize(p=1.0)"],
]


@pytest.mark.parametrize(("interpolation", "border"), EVERY_WAY)
@pytest.mark.parametrize("stored", [(24, 30), (1, 1), (1, 7), (3, 40)])
def test_the_kernel_equals_the_meaning(interpolation: str, border: str, stored: tuple[int, int]) -> None:
    images = np.random.default_rng(2).integers(0, 256, (6, *stored, 3), dtype=np.uint8)
    reading = f"resampling(interpolation={interpolation}, border={border})"
    for specs in LISTS:
        for size in (5, 50):
            draws = Pipeline([reading, *specs], size=size).draw(IDS, stored, epoch=0)
            plain = meaning.levels(torch.from_numpy(images), draws, MEAN, STD).float()
            fast = fused.levels(torch.from_numpy(images), draws, MEAN, STD, torch.ones(3), torch.zeros(3))
            gap = (plain - fast).abs()
            assert (gap > 0.02).double().mean() <= (0.02 if draws.flatten is not None else 0.0), (specs, size)


def test_the_slow_way_of_the_meaning_is_the_quick_one_where_both_can() -> None:
    """grid_sample reads the default; written out, the default must give the same."""
    draws = Pipeline(["rotate(degrees=180.0)", "shift()"], size=40).draw(IDS, (24, 30), epoch=0)
    quick = meaning.levels(torch.from_numpy(IMAGES), draws, MEAN, STD)
    pixels, m = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float(), torch.from_numpy(draws.matrix)[..., None, None]
    y, x = torch.arange(40.0, dtype=torch.float64)[:, None] + 0.5, torch.arange(40.0, dtype=torch.float64)[None] + 0.5
    across, down = (m[:, k, 0] * x + m[:, k, 1] * y + m[:, k, 2] - 0.5 for k in (0, 1))
    slow = gathered(pixels, across, down, Sampling(), torch.zeros(3)).permute(0, 2, 3, 1)
    assert (draws.taps == 1).all()
    assert (quick - slow).abs().max() < 0.01


def test_a_constant_border_has_the_mean_color_which_is_zero_after_normalization() -> None:
    pipe = Pipeline(["resampling(border=constant)", "shift(fraction=1.0)"])
    draws = pipe.draw(IDS, (24, 30), epoch=0)
    made = pipe.apply(IMAGES, draws)
    x, y = (draws.parameters["shift"][name] for name in ("x", "y"))
    for k in range(6):
        gone = made[k, :, :, : int(x[k])] if x[k] > 1 else made[k, :, : int(y[k])] if y[k] > 1 else torch.zeros(1)
        assert gone.abs().max() < 1e-5


# --------------------------------------------------------------------------------------------------- squash and letterbox


@pytest.mark.parametrize("stored", [(60, 92), (92, 60), (64, 64)])
def test_letterbox_is_pillows_pad_and_squash_its_resize(stored: tuple[int, int]) -> None:
    """Halving: there Pillow's box and our samples are the same mean of four pixels."""
    images = np.stack([cv2.resize(image, stored[::-1]) for image in SMOOTH])
    side = max(stored) // 2
    made, _, _ = run([f"letterbox(size={side})"], images, mean=(0.2, 0.4, 0.6))
    for image, out in zip(images, made, strict=True):
        expected = ImageOps.pad(Image.fromarray(image), (side, side), Image.Resampling.BOX, color=(51, 102, 153))
        assert np.abs(out.astype(int) - np.asarray(expected)).max() <= 1
    made, _, _ = run([f"squash(size={min(stored) // 2})"], images)
    for image, out in zip(images, made, strict=True):
        expected = Image.fromarray(image).resize((min(stored) // 2,) * 2, Image.Resampling.BOX)
        assert np.abs(out.astype(int) - np.asarray(expected))[1:-1, 1:-1].mean() <= 2


@pytest.mark.parametrize("name", ["squash", "letterbox"])
def test_they_take_their_size_the_pipelines_or_a_square(name: str) -> None:
    square = 24 if name == "squash" else 30
    cases = [
        ([f"{name}()"], None, (square, square)),
        ([f"{name}(size=17)"], None, (17, 17)),
        ([f"{name}()"], (20, 16), (20, 16)),
        ([f"{name}(size=40)", "random_resized_crop()"], 16, (16, 16)),
    ]
    for specs, size, expected in cases:
        assert run(specs, IMAGES, size=size)[0].shape == (6, *expected, 3)


def test_nothing_is_cut_away_and_points_come_back() -> None:
    for name in ("squash", "letterbox"):
        draws = Pipeline([f"{name}()", "flip()", "rotate(degrees=20.0)"], size=40).draw(IDS, (24, 30), epoch=0)
        corners = np.broadcast_to(np.array([(0.0, 0.0), (30.0, 0.0), (30.0, 24.0), (0.0, 24.0)]), (6, 4, 2))
        assert np.allclose(draws.to_source(draws.to_output(corners)), corners)
        plain = Pipeline([f"{name}()"], size=40).draw(IDS, (24, 30), epoch=0).to_output(corners)
        assert (plain >= -1e-9).all()
        assert (plain <= 40 + 1e-9).all()


def test_the_bars_follow_what_resampling_says_wherever_it_stands() -> None:
    for specs in itertools.permutations(["letterbox()", "resampling(border=constant, fill=white)"]):
        made, _, _ = run(list(specs), IMAGES)
        assert (made[:, :3] == 255).all()
        assert (made[:, -3:] == 255).all()
    mirrored, _, _ = run(["letterbox()", "resampling()"], IMAGES)
    assert np.array_equal(mirrored, np.pad(IMAGES, ((0, 0), (3, 3), (0, 0), (0, 0)), "reflect"))


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(KnobError, match="fill has no effect"):
        Resampling(border="wrap", fill="black")
    with pytest.raises(KnobError, match="at most once"):
        Pipeline(["resampling()", "rotate()", "resampling(border=wrap)"])
    for specs in (["resampling()"], ["resampling(border=wrap)", "color_jitter()"]):
        with pytest.raises(KnobError, match="without a transform that moves pixels"):
            Pipeline(specs)
    with pytest.raises(KnobError, match="cannot choose resampling"):
        Pipeline("one_of(resampling(), rotate())")
    with pytest.raises(KnobError, match="border must be one of"):
        Pipeline("resampling(border=edge)")
    with pytest.raises(KnobError, match="fill must be"):
        Pipeline("resampling(border=constant, fill=[0.0, 0.0, 256.0])")
    assert str(Letterbox(size=9)) == "letterbox(size=9)"


def test_one_of_squash_and_crop_gives_each_picture_its_own() -> None:
    made, noted, _ = run(["one_of(squash(), random_resized_crop())"], IMAGES, size=12)
    squashed, _, _ = run(["squash()"], IMAGES, size=12)
    chosen = noted["one_of"]["chosen"] == "squash"
    assert 0 < chosen.sum() < 6
    assert np.array_equal(made[chosen], squashed[chosen])
