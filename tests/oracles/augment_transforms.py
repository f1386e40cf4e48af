"""One textbook form per augmentation, named as the technique: what each image must become, given what was drawn.

``oracle(images, drawn, knobs) -> levels``. images: (B, H, W, 3) uint8. drawn: what the transform noted, name -> (B, ...), NaN
where an image was left alone. knobs: its settings. The result is (B, h, w, 3) levels as floats, before rounding, NaN where
an image is filled with noise. Where all pixels are random, ``LAWS`` holds a check ``law(images, levels, drawn, knobs)`` instead.
Written from papers and from Pillow, OpenCV, SciPy and NumPy; imports nothing of ours. Pixel ``i`` covers ``[i, i + 1)``:
positions count edges, so an image of width w spans 0..w.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import stats
from scipy.interpolate import BSpline
from tests.oracles import augment_pixels as pixels

Images = NDArray[np.uint8]
Levels = NDArray[np.float64]
Drawn = dict[str, NDArray[Any]]
Knobs = dict[str, Any]
MEAN = np.array([51.0, 102.0, 153.0])  # the levels that "mean" stands for in these tests


def each(images: Images, change: Callable[..., Any], *drawn: NDArray[Any]) -> Levels:
    """Change the images one by one, each with its own row of what was drawn; NaN says that an image was left alone."""
    rows = zip(images, *drawn, strict=True)
    return np.stack([np.asarray(image if left_alone(row) else change(image, *row), np.float64) for image, *row in rows])


def left_alone(row: Iterable[Any]) -> bool:
    """Whether a number that was noted is not a number."""
    return any(np.isnan(value).any() for value in map(np.asarray, row) if value.dtype.kind == "f")


# ------------------------------------------------------------------------------------------------------------- geometry


def about_center(linear: list[list[float]], h: int, w: int) -> Levels:
    """Return the 3 x 3 matrix of a linear map about the middle of an image."""
    to_middle, back = np.eye(3), np.eye(3)
    to_middle[:2, 2], back[:2, 2] = (-w / 2, -h / 2), (w / 2, h / 2)
    turn = np.eye(3)
    turn[:2, :2] = linear
    return back @ turn @ to_middle


def moved(x: float, y: float) -> Levels:
    """Return the matrix that reads x to the right and y below."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def turned(degrees: float, h: int, w: int) -> Levels:
    """Return where the pixels of an image turned counter-clockwise come from; OpenCV's matrix goes the other way."""
    forward = np.vstack([cv2.getRotationMatrix2D((w / 2, h / 2), float(degrees), 1.0), [0.0, 0.0, 1.0]])
    return np.linalg.inv(forward)


def slanted(x: float, y: float, h: int, w: int) -> Levels:
    """Return the matrix that reads x aside per pixel of height and y below per pixel of width."""
    return about_center([[1.0, x], [y, 1.0]], h, w)


def rotate(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Turn about the middle by so many degrees, counter-clockwise."""
    return each(images, lambda image, angle: pixels.warp(image, turned(angle, *image.shape[:2])), drawn["degrees"])


def quarter_turn(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Turn by multiples of 90 degrees inside the old size."""
    return each(images, lambda image, angle: pixels.warp(image, np.rint(turned(angle, *image.shape[:2]))), drawn["degrees"])


def shift(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Move to the right and down."""
    return each(images, lambda image, x, y: pixels.warp(image, moved(-x, -y)), drawn["x"], drawn["y"])


def scale(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Enlarge about the middle."""

    def one(image: Images, x: float, y: float) -> Levels:
        return pixels.warp(image, about_center([[1 / x, 0.0], [0.0, 1 / y]], *image.shape[:2]))

    return each(images, one, drawn["x"], drawn["y"])


def shear(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Slant by angles in degrees."""

    def one(image: Images, x: float, y: float) -> Levels:
        return pixels.warp(image, slanted(np.tan(np.radians(x)), np.tan(np.radians(y)), *image.shape[:2]))

    return each(images, one, drawn["x"], drawn["y"])


def flip(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Mirror those that were flipped."""
    axis = 1 if knobs["axis"] == "horizontal" else 0
    return each(images, lambda image, flipped: np.flip(image, axis) if flipped else image, drawn["flipped"])


def pad_crop(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Pad by reflection and cut the old size."""
    return each(images, lambda image, x, y: pixels.reflect_crop(image, int(y), int(x), knobs["padding"]), drawn["x"], drawn["y"])


def random_resized_crop(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Stretch a box over the output."""
    size = (knobs["size"],) * 2 if knobs["size"] else images.shape[1:3]

    def one(image: Images, left: float, top: float, width: float, height: float) -> Levels:
        return pixels.stretch(image, (left, top, width, height), size)

    return each(images, one, drawn["left"], drawn["top"], drawn["width"], drawn["height"])


def resize(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Bring the shorter side to a size."""
    h, w = images.shape[1:3]
    factor = knobs["size"] / min(h, w)
    return each(images, lambda image: pixels.stretch(image, (0, 0, w, h), (round(h * factor), round(w * factor))))


def center_crop(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Cut the middle of an image, enlarged just enough if it is too small."""
    h, w = images.shape[1:3]
    side = knobs["size"]
    factor = max(side / h, side / w, 1.0)
    h, w = round(h * factor), round(w * factor)
    top, left = (h - side) // 2, (w - side) // 2

    def one(image: Images) -> Levels:
        enlarged = pixels.stretch(image, (0, 0, image.shape[1], image.shape[0]), (h, w)) if factor > 1 else image
        return enlarged[top : top + side, left : left + side]

    return each(images, one)


def squash(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Stretch over a square."""
    h, w = images.shape[1:3]
    side = knobs["size"] or min(h, w)
    return each(images, lambda image: pixels.stretch(image, (0, 0, w, h), (side, side)))


def letterbox(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Fit into a square, in the middle, and fill the rest with the mean."""
    h, w = images.shape[1:3]
    side = knobs["size"] or max(h, w)
    factor = side / max(h, w)
    tall, wide = round(h * factor), round(w * factor)
    top, left = (side - tall) // 2, (side - wide) // 2
    matrix = np.array([[w / wide, 0.0, -left * w / wide], [0.0, h / tall, -top * h / tall], [0.0, 0.0, 1.0]])
    return each(images, lambda image: pixels.warp(image, matrix, (side, side), border="constant", fill=MEAN))


def resampling(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Turn, reading pixels as it says."""
    fill = {"mean": MEAN, "black": np.zeros(3), "white": np.full(3, 255.0)}[knobs["fill"]]
    how = {"cubic": knobs["interpolation"] == "bicubic", "border": knobs["border"], "fill": fill}
    return each(
        images, lambda image, angle: pixels.warp(image, turned(angle, *image.shape[:2]), **how), drawn["rotate"]["degrees"]
    )


def perspective(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Take the four corners of the output to the drawn ones."""
    h, w = images.shape[1:3]
    start = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float32)

    def one(image: Images, corners: Levels) -> Levels:
        return pixels.warp(image, cv2.getPerspectiveTransform(start, corners.astype(np.float32)))

    return each(images, one, drawn["corners"])


def elastic(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Move every pixel by a uniform cubic B-spline over a grid of control points."""
    h, w = images.shape[1:3]
    cells = knobs["n_cells"]
    knots = np.arange(-3.0, cells + 4)
    down, across = (BSpline.design_matrix((np.arange(n) + 0.5) / n * cells, knots, 3).toarray() for n in (h, w))

    def one(image: Images, points: Levels) -> Levels:
        x, y = (min(h, w) * (down @ plane @ across.T) for plane in points)
        rows, columns = np.mgrid[:h, :w]
        return pixels.read(image, columns + x, rows + y)

    return each(images, one, drawn["shifts"])


# --------------------------------------------------------------------------------------------------------- neighborhood


def blur(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """OpenCV's Gaussian, cut at three standard deviations, rounded to whole levels."""

    def one(image: Images, sigma: float) -> Levels | Images:
        if sigma == 0:
            return image
        side = 2 * max(1, round(3 * sigma)) + 1
        return np.floor(cv2.GaussianBlur(image.astype(np.float64), (side, side), sigma, borderType=cv2.BORDER_REFLECT_101) + 0.5)

    return each(images, one, drawn["sigma"])


def sharpen(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Blend with Pillow's smoothed image, rounded to whole levels."""
    return each(images, pixels.sharpness, drawn["factor"])


def jpeg(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Pillow's JPEG of a quality."""

    def one(image: Images, quality: float) -> Images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        return np.asarray(Image.open(file))

    return each(images, one, drawn["quality"])


# -------------------------------------------------------------------------------------------------------- tone and color


def by_pillow(change: Callable[[Image.Image], Image.Image]) -> Callable[[Images, Any], Images]:
    """Return a change of the chosen images by a function of Pillow."""
    return lambda image, chosen: np.asarray(change(Image.fromarray(image))) if chosen else image


def solarize(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Pillow's."""
    return each(images, by_pillow(lambda image: ImageOps.solarize(image, knobs["threshold"])), drawn["chosen"])


def posterize(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Pillow's."""
    return each(images, by_pillow(lambda image: ImageOps.posterize(image, knobs["bits"])), drawn["chosen"])


def equalize(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Pillow's."""
    return each(images, by_pillow(ImageOps.equalize), drawn["chosen"])


def invert(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Pillow's."""
    return each(images, by_pillow(ImageOps.invert), drawn["chosen"])


def autocontrast(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Stretch each channel over 0..255; Pillow cuts the fractions off."""
    return each(images, lambda image, chosen: pixels.autocontrast(image) if chosen else image, drawn["chosen"])


def gamma(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Take levels to a power."""
    return each(images, lambda image, power: 255 * (image / 255) ** power, drawn["gamma"])


def brightness(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Multiply."""
    return each(images, lambda image, factor: pixels.brightness(image, factor), drawn["factor"])


def contrast(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Blend with the mean gray."""
    return each(images, lambda image, factor: pixels.contrast(image, factor), drawn["factor"])


def saturation(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Blend with each pixel's gray."""
    return each(images, lambda image, factor: pixels.saturation(image, factor), drawn["factor"])


def hue(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Turn chroma."""
    return each(images, lambda image, share: pixels.hue(image, share), drawn["share"])


def color_jitter(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Change four things in turn, without a clamp in between."""

    def one(image: Images, b: float, c: float, s: float, turn: float) -> Levels:
        return pixels.hue(pixels.saturation(pixels.contrast(pixels.brightness(image, b), c), s), turn)

    return each(images, one, *(drawn[name] for name in ("brightness", "contrast", "saturation", "hue")))


def grayscale(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Put luma in every channel."""
    return each(images, lambda image, chosen: pixels.saturation(image, 0.0) if chosen else image, drawn["chosen"])


def channel_shuffle(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Reorder the channels."""
    return each(images, lambda image, order: image[..., order.astype(int)], drawn["order"])


def channel_drop(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Blacken a channel."""
    return each(images, lambda image, channel: np.where(np.arange(3) == channel, 0, image), drawn["dropped"])


def lighting(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Add one color to every pixel."""
    return each(images, lambda image, offset: image + offset, drawn["offset"])


def normalize(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Standardize; the tests read levels off a pipeline whose own constants are ``MEAN`` / 255 and 1 / 255."""
    mean, std = (np.array(knobs[name] or default) for name, default in (("mean", MEAN / 255), ("std", (1 / 255,) * 3)))
    return (images / 255 - mean) / std + MEAN


# -------------------------------------------------------------------------------------------------------------- erasing


def filled(knobs: Knobs, drawn: Drawn, row: int) -> Levels:
    """Return the color (3,) that a box of an image is painted with, NaN for noise."""
    fill = knobs.get("fill", "mean")
    if fill == "noise":
        return np.full(3, np.nan)
    return drawn["color"][row] if fill == "color" else MEAN if fill == "mean" else np.zeros(3)


def painted(images: Images, drawn: Drawn, knobs: Knobs, boxes: Callable[[int], list[tuple[float, ...]]]) -> Levels:
    """Paint boxes (top, left, height, width) in pixels, which may hang over the border."""
    out = images.astype(np.float64)
    for row in range(len(images)):
        for top, left, height, width in boxes(row):
            if left_alone((top, left, height, width)):
                continue
            bottom, right = max(0, int(top + height)), max(0, int(left + width))
            out[row, max(0, int(top)) : bottom, max(0, int(left)) : right] = filled(knobs, drawn, row)
    return out


def random_erasing(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Paint one box, if it was drawn."""
    names = ("top", "left", "height", "width")
    return painted(images, drawn, knobs, lambda row: [tuple(drawn[name][row] for name in names)] if drawn["erased"][row] else [])


def cutout(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Paint one square."""
    return painted(images, drawn, knobs, lambda row: [(drawn["top"][row], drawn["left"][row], *(drawn["side"][row],) * 2)])


def coarse_dropout(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Paint several boxes, noted as top, bottom, left, right."""
    return painted(images, drawn, knobs, lambda row: [(t, x, b - t, r - x) for t, b, x, r in drawn["holes"][row]])


def hide_and_seek(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Paint patches of a grid, whose borders are rounded to whole pixels."""
    n, (h, w) = knobs["n_cells"], images.shape[1:3]

    def boxes(row: int) -> list[tuple[float, ...]]:
        cells = np.argwhere(drawn["hidden"][row].reshape(n, n))
        edges = [[round(k * side / n) for k in range(n + 1)] for side in (h, w)]
        return [
            (edges[0][i], edges[1][j], edges[0][i + 1] - edges[0][i], edges[1][j + 1] - edges[1][j]) for i, j in cells.tolist()
        ]

    return painted(images, drawn, knobs, boxes)


def grid_mask(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Paint a lattice of squares; it starts at a share of its period from the corner."""

    def boxes(row: int) -> list[tuple[float, ...]]:
        period, side, x, y = (drawn[name][row] for name in ("period", "side", "x", "y"))
        return [(np.rint((i + y) * period), np.rint((j + x) * period), side, side) for i in range(-1, 40) for j in range(-1, 40)]

    return painted(images, drawn, knobs, boxes)


# --------------------------------------------------------------------------------------------------------------- mixing


def mixup(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Blend with the partner."""
    return each(
        images, lambda image, j, weight: weight * image + (1 - weight) * images[int(j)], drawn["partner"], drawn["weight"]
    )


def cutmix(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Paste a box of the partner."""

    def one(image: Images, j: int, box: NDArray[np.int64]) -> Images:
        out, (top, bottom, left, right) = image.copy(), box.astype(int)
        out[top:bottom, left:right] = images[int(j), top:bottom, left:right]
        return out

    return each(images, one, drawn["partner"], drawn["box"])


# ------------------------------------------------------------------------------------------------------------- policies


def in_stages(image: Images, steps: list[tuple[str, float]]) -> Levels:
    """Run operations of a policy: sharpness, one resampling, autocontrast, equalize, curves, colors, one clamp at the end."""
    h, w = image.shape[:2]
    places = {
        "shear_x": lambda s: slanted(s, 0.0, h, w),
        "shear_y": lambda s: slanted(0.0, s, h, w),
        "translate_x": lambda s: moved(-s, 0.0),
        "translate_y": lambda s: moved(0.0, -s),
        "rotate": lambda s: turned(s, h, w),
    }
    curves = {
        "posterize": lambda s: np.array([v >> (8 - int(s)) << (8 - int(s)) for v in range(256)], np.float64),
        "solarize": lambda s: np.array([255.0 - v if v >= s else v for v in range(256)]),
    }
    colors = {"brightness": pixels.brightness, "contrast": pixels.contrast, "color": lambda x, f: pixels.saturation(x, f)}
    for name, strength in steps:
        image = pixels.sharpness(image, 1 + strength).astype(np.uint8) if name == "sharpness" else image
    levels = pixels.warp(image, reduce(np.matmul, (places[name](s) for name, s in steps if name in places), np.eye(3)))
    names = {name for name, _ in steps}
    levels = pixels.autocontrast(levels) if "autocontrast" in names else levels
    levels = pixels.equalize(levels) if "equalize" in names else levels
    for name, strength in steps:
        levels = np.interp(levels, np.arange(256), curves[name](strength)) if name in curves else levels
    for name, strength in steps:
        levels = colors[name](levels, 1 + strength) if name in colors else 255 - levels if name == "invert" else levels
    return levels


def policy(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Run what was noted: the names of the operations and their strengths."""
    return each(
        images, lambda image, names, s: in_stages(image, list(zip(names, s, strict=True))), drawn["operation"], drawn["strength"]
    )


randaugment = trivialaugment = autoaugment = policy


# ------------------------------------------------------------------------------------------------------------- choices

ORDER = ("blur", "rotate", "shift", "hue", "brightness", "cutout", "random_erasing", "cutmix")  # as the stages are


def in_turn(images: Images, drawn: Drawn, knobs: Knobs, chosen: dict[str, NDArray[np.bool_]]) -> Levels:
    """Run each part, by its own oracle, on the images that it was chosen for."""
    levels: Any = images
    for name, part in sorted(knobs["transforms"], key=lambda named: ORDER.index(named[0])):
        changed = np.clip(globals()[name](levels, drawn[name], part), 0, 255)
        levels = np.where(chosen[name][:, None, None, None], changed, levels)
    return levels.astype(np.float64)


def one_of(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Run the part that is named."""
    return in_turn(images, drawn, knobs, {name: drawn["chosen"] == name for name, _ in knobs["transforms"]})


def some_of(images: Images, drawn: Drawn, knobs: Knobs) -> Levels:
    """Run the parts that are marked, in the order of the list."""
    return in_turn(images, drawn, knobs, {name: drawn["chosen"][:, k] for k, (name, _) in enumerate(knobs["transforms"])})


# ----------------------------------------------------------------------------------------------------------------- laws


def _gaussian_noise(images: Images, levels: Levels, drawn: Drawn, knobs: Knobs) -> None:
    """What was added is normal with the noted standard deviation, wherever nothing was clamped."""
    noisy = drawn["sigma"] > 0  # not NaN
    assert np.abs(levels - images)[~noisy].max(initial=0.0) < 1e-4
    noise = (levels - images) / drawn["sigma"][:, None, None, None]
    middle = noisy[:, None, None, None] & (images > 60) & (images < 195)  # from there the clamp is six standard deviations away
    assert not noisy.any() or stats.kstest(noise[middle], "norm").pvalue > 1e-3


LAWS: dict[str, Callable[[Images, Levels, Drawn, Knobs], None]] = {"gaussian_noise": _gaussian_noise}
TOLERANCE = dict.fromkeys(("blur", "sharpen", "randaugment", "trivialaugment", "autoaugment"), 1.01)  # halves round either way
