"""One scale and one background for a data set: found in the scan, told, and the same for every picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.oracles.data_pictures import encoded, png_16_bits, scene

from descend.data import Dataset, decoded, load
from descend.data.decode import decode
from descend.data.deep_color import encode_deep_color
from descend.errors import KnobError
from descend.pixels import Background, PixelPolicy

Save = Callable[[Path, int, int], None]  # (path without ending, class, number)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


def _tree(root: Path, save: Save, n: int = 12) -> Path:
    for number, name in enumerate(("a", "b")):
        (root / name).mkdir(parents=True)
        for i in range(n):
            save(root / name / str(i), number, i)
    return root


def _notes(dataset: Dataset) -> dict[str, str]:
    return {problem.kind: str(problem) for problem in dataset.problems}


def _values(number: int, i: int) -> np.ndarray:
    """Class means of 1000 and 1100 with noise of 10: of 12 bits."""
    return np.random.default_rng(1000 * number + i).normal(1000 + 100 * number, 10, (32, 32)).clip(0, 4095)


_HOLDERS: dict[str, Callable[[np.ndarray], tuple[str, bytes]]] = {
    "16-bit PNG": lambda v: (".png", encoded(Image.fromarray(v.astype(np.uint16)))),
    "stretched to 16 bits": lambda v: (".png", encoded(Image.fromarray(v.astype(np.uint16) * np.uint16(16)))),
    "16-bit TIFF": lambda v: (".tiff", encoded(Image.fromarray(v.astype(np.uint16)), "tiff")),
    "32-bit TIFF": lambda v: (".tiff", encoded(Image.fromarray(v.astype(np.int32)), "tiff")),
    "float TIFF": lambda v: (".tiff", encoded(Image.fromarray(v.astype(np.float32) / 4095), "tiff")),
    "16-bit color": lambda v: (".png", png_16_bits(np.repeat(v.astype(np.uint16)[..., None], 3, 2))),
}


@pytest.mark.parametrize("holder", _HOLDERS)
def test_twelve_bits_are_told_apart_in_every_container(tmp_path: Path, holder: str) -> None:
    def save(path: Path, number: int, i: int) -> None:
        suffix, content = _HOLDERS[holder](_values(number, i))
        path.with_suffix(suffix).write_bytes(content)

    dataset = load(_tree(tmp_path / "set", save))
    pixels = decoded(dataset, 32).take(np.arange(24)).astype(float).mean(axis=(1, 2, 3))
    assert pixels[dataset.labels == 1].min() - pixels[dataset.labels == 0].max() > 100  # 16 bits scaled by 257 gave 0.4
    assert "24 pictures hold more than 8 bits: stored values" in _notes(dataset)["scale"]
    summary = json.loads(json.dumps(dataset.summary()))
    assert summary["scale"] == list(dataset.policy.scale or ())


def test_the_scale_is_a_usual_one_where_the_pictures_use_it(tmp_path: Path) -> None:
    def save(path: Path, number: int, i: int) -> None:
        values = np.linspace(0, 4000 - i, 64).reshape(8, 8).astype(np.uint16)
        path.with_suffix(".png").write_bytes(encoded(Image.fromarray(values)))

    dataset = load(_tree(tmp_path / "set", save))
    assert dataset.policy.scale == (0, 4095)
    np.testing.assert_array_equal(dataset.read(0)[7, 7], [round(4000 / 4095 * 255)] * 3)


@pytest.mark.parametrize("peak", [1.0, 1.0001, 1.3])
def test_one_pixel_beyond_one_leaves_all_others_as_they_are(tmp_path: Path, peak: float) -> None:
    def save(path: Path, number: int, i: int) -> None:
        values = np.linspace(0, 1, 2048, dtype=np.float32).reshape(32, 64)
        values[0, 0], values[0, 1] = 0.5, (number + 2 * i) / 255
        if i == 3:
            values[-1, -1] = peak  # the scale of this picture alone would be 0 to 255
        path.with_suffix(".tiff").write_bytes(encoded(Image.fromarray(values), "tiff"))

    dataset = load(_tree(tmp_path / "set", save))
    grays = {int(dataset.read(row)[0, 0, 0]) for row in range(len(dataset))}
    assert grays == {128}


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_told_and_lose_no_picture(tmp_path: Path, odd: float) -> None:
    def save(path: Path, number: int, i: int) -> None:
        values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
        values[4, 4] = odd if i == 3 else 0.25
        path.with_suffix(".tiff").write_bytes(encoded(Image.fromarray(values), "tiff"))

    dataset = load(_tree(tmp_path / "set", save))
    assert len(dataset) == 24
    assert _notes(dataset)["no number"] == "2 pictures have pixels that are no numbers, shown black: a/3.tiff, b/3.tiff"
    assert dataset.policy.scale == (0, 1)


def test_a_picture_without_any_number_is_unreadable(tmp_path: Path) -> None:
    def save(path: Path, number: int, i: int) -> None:
        values = np.full((8, 8), np.nan if (number, i) == (0, 0) else 0.5 + i / 30, np.float32)
        path.with_suffix(".tiff").write_bytes(encoded(Image.fromarray(values), "tiff"))

    dataset = load(_tree(tmp_path / "set", save))
    assert _notes(dataset)["unreadable"].endswith("a/0.tiff (it holds no finite number)")


@pytest.mark.parametrize(("no_data", "kind"), [(-9999, np.float32), (-1, np.float32), (0, np.uint16)])
def test_a_picture_of_nothing_but_missing_data_is_blank_and_says_nothing_about_the_scale(
    no_data: int, kind: type[np.generic], tmp_path: Path
) -> None:
    def save(path: Path, number: int, i: int) -> None:
        values = np.linspace(1000, 1500 + i, 64).reshape(8, 8) + number
        Image.fromarray(values.astype(kind)).save(path.with_suffix(".tiff"), tiffinfo={42113: str(no_data)})

    root = _tree(tmp_path / "set", save)
    before = load(root)
    for path in (root / "a/empty.tiff", root / "b/void.tiff"):
        Image.fromarray(np.full((9, 9), no_data, kind)).save(path, tiffinfo={42113: str(no_data)})
    dataset = load(root)
    assert len(dataset) == len(before) + 2
    assert dataset.policy == before.policy
    notes = _notes(dataset)
    assert "unreadable" not in notes
    assert "a/empty.tiff, b/void.tiff" in notes["blank"]
    for policy in (dataset.policy, PixelPolicy()):
        assert np.ptp(decode(root / "a/empty.tiff", policy=policy)) == 0
    for path in root.rglob("[0-9]*.tiff"):
        Image.fromarray(np.full((9, 9), no_data, kind)).save(path, tiffinfo={42113: str(no_data), 270: path.name})
    assert load(root).policy.scale == ((0, 1) if kind is np.float32 else (0, 255))


def test_another_scale_is_another_entry_of_the_cache(tmp_path: Path) -> None:
    def save(path: Path, number: int, i: int) -> None:
        path.with_suffix(".png").write_bytes(encoded(Image.fromarray(np.full((8, 8), 1000 + i, np.uint16))))

    root = _tree(tmp_path / "set", save)
    first = decoded(load(root), 8).path
    (root / "b/wide.png").write_bytes(encoded(Image.fromarray(np.full((8, 8), 50_000, np.uint16))))
    second = load(root)
    assert second.policy.scale == (0, 65535)
    (root / "b/wide.png").unlink()
    assert decoded(load(root), 8).path == first
    assert "blank" in _notes(second)  # one level in all: each picture is one gray by itself


@pytest.mark.parametrize("odd", [-9999, float(np.finfo("f4").min), 65535])
def test_padding_and_missing_data_leave_the_classes_apart_and_are_told(tmp_path: Path, odd: float) -> None:
    def save(path: Path, number: int, i: int) -> None:
        values = np.random.default_rng(100 * number + i).normal(0.4 + number / 10, 0.01, (32, 32)).astype(np.float32)
        values[:4, i % 4 :] = odd
        path.with_suffix(".tiff").write_bytes(encoded(Image.fromarray(values), "tiff"))

    root = _tree(tmp_path / "set", save)
    Image.fromarray(np.full((32, 32), odd, np.float32)).save(root / "a/nothing.tiff")
    dataset = load(root)
    middle = np.array([dataset.read(row)[16:].mean() for row in range(25)])
    classes = [middle[[i for i, name in enumerate(dataset.names) if name[0] == part and "no" not in name]] for part in "ab"]
    assert classes[1].min() - classes[0].max() > 15
    assert _notes(dataset)["apart"].startswith("24 pictures hold values that mean missing data")
    assert _notes(dataset)["blank"].endswith("or nearly, as it is read: a/nothing.tiff")
    assert "near conflict" not in _notes(dataset)


def test_pictures_of_8_bits_among_deep_ones_are_told_to_look_otherwise(tmp_path: Path) -> None:
    def save(path: Path, number: int, i: int) -> None:
        values = _values(number, i).astype(np.uint16)
        Image.fromarray(values if i % 2 else (values // 16).astype(np.uint8)).save(path.with_suffix(".png"))

    assert (
        "the other 12, of 8 bits, stay as they are: where both kinds show the same things, one may look darker"
        in _notes(load(_tree(tmp_path / "set", save)))["scale"]
    )


# ----------------------------------------------------------------------------------------------------------- background


def _icons(root: Path, fills: Sequence[tuple[int, int, int, int]], n: int = 12) -> Path:
    """Save discs and crosses of the colors in turn, on nothing."""

    def save(path: Path, number: int, i: int) -> None:
        image = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
        draw, fill = ImageDraw.Draw(image), fills[i % len(fills)]
        if number == 0:
            draw.ellipse((4 + i % 5, 6, 22, 24), fill=fill)
        else:
            draw.line((4 + i % 5, 6, 22, 24), fill=fill, width=4)
        image.save(path.with_suffix(".png"))

    return _tree(root, save, n)


_WHITE, _BLACK, _OFF_WHITE, _RED = (255, 255, 255, 255), (0, 0, 0, 255), (250, 250, 250, 255), (200, 0, 0, 255)


@pytest.mark.parametrize(
    ("fills", "expected"),
    [([_WHITE], "black"), ([_OFF_WHITE], "black"), ([_WHITE, _BLACK], "gray"), ([_BLACK], "white"), ([_RED], "white"),
     ([_WHITE, _RED], "black")],
)  # fmt: skip
def test_symbols_do_not_vanish_in_their_background(
    tmp_path: Path, fills: Sequence[tuple[int, int, int, int]], expected: Background
) -> None:
    dataset = load(_icons(tmp_path / "set", fills))
    assert dataset.policy == PixelPolicy(background=expected)
    assert dataset.summary()["background"] == expected
    assert all(np.ptp(dataset.read(row)) > 100 for row in range(len(dataset)))
    assert ("background" in _notes(dataset)) == (expected != "white")
    assert "blank" not in _notes(dataset)


@pytest.mark.parametrize("speck", ["one pixel", "a pale shadow"])
def test_a_speck_does_not_keep_white_symbols_on_white(tmp_path: Path, speck: str) -> None:
    def save(path: Path, number: int, i: int) -> None:
        image = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
        ImageDraw.Draw(image).rectangle((4 + i, 6, 20, 20 + 6 * number), fill=_WHITE)
        if speck == "one pixel":
            image.putpixel((18, 18), (90, 90, 90, 255))
        else:
            ImageDraw.Draw(image).line((6, 30, 26, 30), fill=(238, 238, 238, 255))
        image.save(path.with_suffix(".png"))

    dataset = load(_tree(tmp_path / "set", save))
    assert dataset.policy.background == "black"
    assert "24 of 24 transparent pictures would be blank on white" in _notes(dataset)["background"]
    assert _notes(load(tmp_path / "set", background="white"))["blank"].startswith("24 pictures")


@pytest.mark.parametrize(
    ("color", "behind", "scale"),
    [(65535, 65535, (0, 65535)), (65535, 0, (0, 65535)), (4095, 0, (0, 4095)), (64_000, 64_000, (0, 65535))],
)
def test_white_symbols_of_16_bits_do_not_vanish(tmp_path: Path, color: int, behind: int, scale: tuple[float, float]) -> None:
    def save(path: Path, number: int, i: int) -> None:
        alpha = np.zeros((32, 32), np.uint16)
        alpha[4 + i : 14 + i, 6 + 10 * number : 20] = 65535
        pixels = np.dstack([np.where(alpha > 0, color, behind).astype(np.uint16)] * 3 + [alpha])
        path.with_suffix(".png").write_bytes(encode_deep_color(pixels))

    dataset = load(_tree(tmp_path / "set", save))
    assert dataset.policy == PixelPolicy(scale=scale, background="black")
    assert all(np.ptp(dataset.read(row)) > 200 for row in range(len(dataset)))
    assert not {"blank", "narrow"} & _notes(dataset).keys()
    assert _notes(load(tmp_path / "set", background="white"))["blank"].startswith("24 pictures")


def test_the_background_can_be_chosen_and_what_vanishes_is_named(tmp_path: Path) -> None:
    root = _icons(tmp_path / "set", [_WHITE, _RED])
    dataset = load(root, background="white")
    assert dataset.policy.background == "white"
    assert _notes(dataset)["blank"].startswith("12 pictures show a single color, or nearly, as they are read: a/0.png, a/2.png")
    assert "background" not in _notes(dataset)
    assert load(root, background="gray").policy.background == "gray"
    with pytest.raises(KnobError, match="must be auto, white, black, gray"):
        load(root, background="green")  # pyright: ignore[reportArgumentType]


def test_a_background_that_nothing_shows_is_refused(tmp_path: Path) -> None:
    root = _tree(tmp_path / "set", lambda path, number, i: Image.fromarray(scene(8, 8, i)).save(path.with_suffix(".png")))
    with pytest.raises(KnobError, match="background: has no effect: no picture is transparent, got 'black'"):
        load(root, background="black")


def test_one_blank_picture_among_many_keeps_the_background_white(tmp_path: Path) -> None:
    root = _icons(tmp_path / "set", [_BLACK], n=60)
    Image.new("RGBA", (32, 32), _WHITE).save(root / "a/blank.png")
    dataset = load(root)
    assert dataset.policy.background == "white"
    assert _notes(dataset)["blank"].endswith(": a/blank.png")


def test_a_palette_with_transparency_counts(tmp_path: Path) -> None:
    root = _icons(tmp_path / "set", [_WHITE])
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            palette = Image.fromarray(np.array(image.getchannel("A")) // 255)  # 0 outside, 1 in the symbol
        palette.putpalette([0, 0, 0, 255, 255, 255])
        palette.save(path.with_suffix(".gif"), transparency=0)
        path.unlink()
    assert load(root).policy.background == "black"


def test_pictures_of_fewer_bits_than_the_others_are_told(tmp_path: Path) -> None:
    for number in range(16):
        (tmp_path / "set" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        most = 65_000 if number == 5 else 4_000
        values = np.random.default_rng(number).integers(0, most, (24, 24)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / "set" / "ab"[number % 2] / f"{number}.png")
    data = load(tmp_path / "set")
    assert data.policy.scale == (0.0, 65535.0)
    (told,) = (item for item in data.problems if item.kind == "narrow")
    assert told.n == 15
    assert not any(name.rpartition("/")[2] == "5.png" for name in told.examples)
