"""Files whose samples Pillow takes for others, or cuts to 8 bits: written by hand, and their levels computed by NumPy."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from descend.data import load
from descend.data.decode import decode, decode_resized
from descend.data.deep_color import is_cut
from descend.errors import PictureError
from descend.pixels import PixelPolicy

HEIGHT, WIDTH, ROWS = 12, 10, 5  # rows in a strip: the last one is shorter
WIDE = PixelPolicy(scale=(0.0, float(2**32 - 1)))


def _tiff(
    samples: NDArray[Any], order: Literal["<", ">"] = "<", *, planar: bool = False, zipped: bool = False, **tags: Any
) -> bytes:
    """Return samples, (H, W, C), as a TIFF file of strips."""
    height, width, channels = samples.shape
    planes = [samples[..., [number]] for number in range(channels)] if planar else [samples]
    stored = [plane[top : top + ROWS].astype(samples.dtype.newbyteorder(order)).tobytes()
              for plane in planes for top in range(0, height, ROWS)]  # fmt: skip
    stored = [zlib.compress(strip) for strip in stored] if zipped else stored
    begins = np.cumsum([8, *map(len, stored)]).tolist()
    kinds = {"u": 1, "i": 2, "f": 3}
    entries = {256: (width,), 257: (height,), 258: (8 * samples.itemsize,) * channels, 259: (8 if zipped else 1,),
               262: (tags.pop("photometric", 2 if channels > 1 else 1),), 273: begins[:-1], 277: (channels,), 278: (ROWS,),
               279: [*map(len, stored)], 284: (1 + planar,), 339: (kinds[samples.dtype.kind],) * channels}  # fmt: skip
    entries |= {int(name.removeprefix("tag_")): value for name, value in tags.items()}
    begin = begins[-1] + begins[-1] % 2
    behind, written = begin + 2 + 12 * len(entries) + 4, b""
    directory = struct.pack(f"{order}H", len(entries))
    for number, values in sorted(entries.items()):
        content = struct.pack(f"{order}{len(values)}I", *values)
        if len(content) > 4:
            written, content = written + content, struct.pack(f"{order}I", behind + len(written))
        directory += struct.pack(f"{order}HHI", number, 4, len(values)) + content
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", begin)
    return (header + b"".join(stored)).ljust(begin, b"\0") + directory + b"\0" * 4 + written


def _deep(channels: int, seed: int = 0) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, 65536, (HEIGHT, WIDTH, channels)).astype(np.uint16)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("channels", [3, 4])
def test_planes_of_16_bits_are_read_whole(order: Literal["<", ">"], channels: int, *, zipped: bool) -> None:
    color = _deep(channels)
    color[..., 3:] = 65535
    content = _tiff(color, order, planar=True, zipped=zipped, **({"tag_338": (2,)} if channels == 4 else {}))
    np.testing.assert_array_equal(decode(content), np.rint(color[..., :3] / 257))


def test_planes_that_are_turned_stand_upright() -> None:
    color = _deep(3)
    np.testing.assert_array_equal(decode(_tiff(color, planar=True, tag_274=(6,))), np.rot90(np.rint(color / 257), -1))


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_the_first_of_several_planes_of_gray_is_the_picture(kind: type) -> None:
    values = (np.random.default_rng(0).random((HEIGHT, WIDTH, 2)) * (1 if kind == np.float32 else 65535)).astype(kind)
    content = _tiff(values, planar=True, photometric=1, tag_338=(0,))
    shown = np.rint(values[..., 0].astype(np.float64) * (255 if kind == np.float32 else 1 / 257))
    np.testing.assert_array_equal(decode(content)[..., 0], shown)


def test_a_single_plane_of_8_bits_whose_0_is_white_is_mirrored() -> None:
    values = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH, 1)
    np.testing.assert_array_equal(decode(_tiff(values, planar=True, photometric=0))[..., 0], 255 - values[..., 0])


@pytest.mark.parametrize("planar", [False, True])
def test_16_bit_cmyk_keeps_all_bits(*, planar: bool) -> None:
    inks = _deep(4)
    unit = inks / 65535
    shown = decode(_tiff(inks, planar=planar, photometric=5))
    np.testing.assert_allclose(shown, (1 - unit[..., :3]) * (1 - unit[..., 3:]) * 255, atol=0.51)


@pytest.mark.parametrize("planar", [False, True])
def test_16_bit_colors_multiplied_by_alpha_are_divided_by_it(*, planar: bool) -> None:
    color, alpha = _deep(3).astype(np.float64), np.full((HEIGHT, WIDTH, 1), 40_000 / 65535)
    stored = np.rint(np.concatenate([color * alpha, alpha * 65535], axis=2)).astype(np.uint16)
    shown = decode(_tiff(stored, planar=planar, tag_338=(1,)))
    np.testing.assert_allclose(shown, color * alpha / 257 + 255 * (1 - alpha), atol=1.5)


@pytest.mark.parametrize("value", [-100, -20, 20, 100])
def test_signed_numbers_of_8_bits_keep_their_sign(value: int) -> None:
    content = _tiff(np.full((HEIGHT, WIDTH, 1), value, np.int8))
    shown = decode(content, policy=PixelPolicy(scale=(-128.0, 127.0)))
    assert (shown == value + 128).all()
    assert (decode(Image.open(BytesIO(content)), policy=PixelPolicy(scale=(-128.0, 127.0))) == shown).all()


@pytest.mark.parametrize("value", [10**9, 3 * 10**9])
def test_unsigned_numbers_of_32_bits_stay_above_0(value: int) -> None:
    shown = decode(_tiff(np.full((HEIGHT, WIDTH, 1), value, np.uint32)), policy=WIDE)
    assert (shown == round(value / (2**32 - 1) * 255)).all()


@pytest.mark.parametrize(("kind", "peak"), [(np.uint16, 65535), (np.float32, 1)])
def test_0_is_white_in_deep_files_that_say_so(kind: type, peak: int) -> None:
    values = (np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) * peak).astype(kind)
    straight, mirrored = (decode(_tiff(values, photometric=photometric)) for photometric in (1, 0))
    np.testing.assert_allclose(mirrored, 255.0 - straight, atol=1)
    assert mirrored[0, 0, 0] == 255
    gap = np.array([[[np.nan], [0.0], [1.0]]], np.float32)
    assert decode(_tiff(gap, photometric=0))[0, :, 0].tolist() == [0, 255, 0]  # no number is black


@pytest.mark.parametrize("most", [1000, 4095, 65535])
@pytest.mark.parametrize("kind", ["P3", "P6"])
def test_ppm_of_more_than_8_bits_keeps_them(kind: str, most: int) -> None:
    color = (_deep(3) // (65536 // (most + 1))).clip(0, most)
    header = f"{kind}\n# made by hand\n{WIDTH} {HEIGHT}\n{most}\n".encode()
    body = color.astype(">u2").tobytes() if kind == "P6" else " ".join(map(str, color.ravel())).encode()
    np.testing.assert_allclose(decode(header + body), color / most * 255, atol=0.51)
    with pytest.raises(PictureError):
        decode(header + body[: len(body) // 2])


def _code_stream(bits: int) -> bytes:
    """Return a JPEG 2000 code stream of gray-free color that says it has so many bits: Pillow's, with other numbers."""
    buffer = BytesIO()
    Image.fromarray((_deep(3) >> 8).astype(np.uint8)).save(buffer, "JPEG2000", no_jp2=True)
    content = bytearray(buffer.getvalue())
    for channel in range(3):
        content[42 + 3 * channel] = bits - 1
    return bytes(content)


def test_what_pillow_cuts_to_8_bits_is_told(tmp_path: Path) -> None:
    for row in range(8):
        path = tmp_path / "ab"[row % 2] / f"{row}.j2k"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_code_stream(16 if row else 8))
    (told,) = (item for item in load(tmp_path).problems if item.kind == "cut")
    assert told.n == 7
    assert "save as PNG or TIFF" in told.message


def test_a_file_of_sgi_says_how_many_bytes_it_has() -> None:
    buffer = BytesIO()
    Image.fromarray((_deep(3) >> 8).astype(np.uint8)).save(buffer, "SGI", bpc=1)
    assert not is_cut(Image.open(BytesIO(buffer.getvalue())))
    buffer = BytesIO()
    Image.fromarray((_deep(3) >> 8).astype(np.uint8)).save(buffer, "SGI", bpc=2)
    assert is_cut(Image.open(BytesIO(buffer.getvalue())))


@pytest.mark.parametrize("offset", [0, 32768])
def test_fits_of_16_bits_is_signed_with_an_offset(offset: int) -> None:
    values = np.linspace(-2000, 2000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.int64) + offset
    cards = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": WIDTH, "NAXIS2": HEIGHT} | ({"BZERO": offset} if offset else {})
    header = "".join(f"{name:<8}= {value:>20}".ljust(80) for name, value in cards.items()) + "END".ljust(80)
    body = (values - offset)[::-1].astype(">i2").tobytes()  # from the bottom up
    content = header.ljust(2880).encode() + body.ljust(2880, b"\0")
    shown = decode(content, policy=PixelPolicy(scale=(offset - 2000.0, offset + 2000.0)))[..., 0]
    np.testing.assert_allclose(shown, (values - offset + 2000) / 4000 * 255, atol=0.51)


def _animation(kind: str) -> tuple[bytes, NDArray[np.uint8]]:
    shown = (_deep(3) >> 8).astype(np.uint8)
    buffer = BytesIO()
    options: dict[str, Any] = {"lossless": True} if kind == "webp" else {}
    blank = Image.new("RGB", (WIDTH, HEIGHT), "white")
    blank.save(buffer, kind, save_all=True, append_images=[Image.fromarray(shown)], **options)
    return buffer.getvalue(), shown


@pytest.mark.parametrize("kind", ["tiff", "png", "webp"])
def test_an_image_that_nobody_has_touched_is_its_file(kind: str) -> None:
    content, shown = _animation(kind)
    image = Image.open(BytesIO(content))
    np.testing.assert_array_equal(decode(image), shown)
    np.testing.assert_array_equal(decode_resized(image, 8), decode_resized(content, 8))
    assert image.tell() == 0  # its owner goes on where they were
    image.load()
    assert (decode(image) == 255).all()  # a frame that was loaded is the one that is meant
    image.seek(1)
    np.testing.assert_array_equal(decode(image), shown)


@pytest.mark.parametrize("photometric", [0, 1])
def test_images_in_a_list_are_their_files(photometric: int) -> None:
    files = [_tiff(_deep(1, row), photometric=photometric) for row in range(8)]
    opened, given = (load((pictures, list("ab") * 4)) for pictures in ([Image.open(BytesIO(file)) for file in files], files))
    for row in range(8):
        np.testing.assert_array_equal(opened.read(row), given.read(row))
    colors = [_tiff(_deep(3, row)) for row in range(8)]
    kept = load(([Image.open(BytesIO(file)) for file in colors], list("ab") * 4))
    np.testing.assert_array_equal(kept.read(3), np.rint(_deep(3, 3) / 257))


def test_an_image_whose_file_is_closed_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    with Image.open(path) as image:
        pass
    with pytest.raises(PictureError, match=r"its file was closed before its pixels were read\)\. Call image\.load\(\)"):
        decode(image)
    with Image.open(path) as image:
        image.load()
    assert decode(image).shape == (8, 8, 3)
