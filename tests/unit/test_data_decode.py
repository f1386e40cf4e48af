"""The decode policy, on the odd files that real folders hold."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import time
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps, PngImagePlugin
from tests.oracles.data_pictures import encoded, on_white, png_16_bits, scene, timm_eval

from descend.data import decode as decoding
from descend.data.decode import DRAFT_GAP, decode, decode_resized
from descend.data.formats import is_picture_name
from descend.data.traits import traits
from descend.errors import DataError, KnobError, PictureError
from descend.pixels import PixelPolicy

# -------------------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (256, 256), (257, 511), (375, 500), (90, 121), (1000, 333), (263, 300)])
def test_a_224_crop_of_256_is_timms_evaluation_picture(size: tuple[int, int]) -> None:
    picture = scene(*size)
    ours = decode_resized(picture, 256)
    assert ours.shape == (256, 256, 3)
    np.testing.assert_array_equal(ours[16:240, 16:240], timm_eval(picture, 224, 0.875))


def test_the_whole_square_is_timms_with_crop_pct_1() -> None:
    picture = scene(321, 240)
    np.testing.assert_array_equal(decode_resized(encoded(picture), 160), timm_eval(picture, 160, 1.0))


def test_gray_files_are_resized_like_their_rgb_form() -> None:
    gray = scene(200, 150)[:, :, 2]
    np.testing.assert_array_equal(decode_resized(encoded(gray), 64), timm_eval(np.repeat(gray[:, :, None], 3, 2), 64, 1.0))


@pytest.mark.parametrize("side", [1, 8, 28, 32])
def test_a_picture_that_has_the_size_is_not_interpolated(side: int) -> None:
    picture = scene(side, side)
    np.testing.assert_array_equal(decode_resized(encoded(picture), side), picture)
    wide = scene(side, side + 7)
    left = round(7 / 2)
    np.testing.assert_array_equal(decode_resized(encoded(wide), side), wide[:, left : left + side])


@pytest.mark.parametrize("size", [(2, 4000), (4000, 3), (100, 1000)])
def test_a_ribbon_is_resized_only_where_the_crop_is(size: tuple[int, int]) -> None:
    picture = scene(*size)
    ours = decode_resized(picture, 32).astype(int)
    assert np.abs(ours - timm_eval(picture, 32, 1.0)).max() <= 1  # the same samples; coordinates are float32 inside Pillow


def test_a_very_long_ribbon_needs_no_memory() -> None:
    assert decode_resized(scene(1, 60_000), 256).shape == (256, 256, 3)  # the full resize would take 12 GB


def test_a_large_jpeg_is_drafted_within_tolerance() -> None:
    content = encoded(scene(1536, 2048), "jpeg", quality=92)
    exact = decode_resized(Image.open(BytesIO(content)), 128).astype(int)  # an opened image is never drafted
    ours = decode_resized(content, 128).astype(int)
    assert 0 < np.abs(ours - exact).mean() <= 0.5
    assert np.abs(ours - exact).max() <= 6


def test_a_jpeg_below_the_draft_size_is_exact() -> None:
    side = 128
    content = encoded(scene(2 * DRAFT_GAP * side - 1, 700), "jpeg", quality=92)
    np.testing.assert_array_equal(decode_resized(content, side), decode_resized(Image.open(BytesIO(content)), side))


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_drafted_and_turned_jpeg_keeps_its_geometry(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    y, x = np.mgrid[0:801, 0:1203]
    smooth = np.stack([255 * x / 1202, 255 * y / 800, 127 + 100 * np.sin(x / 40) * np.cos(y / 50)], axis=-1).astype(np.uint8)
    content = encoded(smooth, "jpeg", quality=95, exif=exif)  # its sides are no multiples of the draft's 4
    exact = decode_resized(Image.open(BytesIO(content)), 64).astype(int)
    assert np.abs(decode_resized(content, 64).astype(int) - exact).max() <= 3


def test_resolution_must_be_positive() -> None:
    with pytest.raises(KnobError, match="resolution"):
        decode_resized(scene(4, 4), 0)


# ----------------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    content = encoded(scene(12, 20), kind, exif=exif)
    expected = np.array(ImageOps.exif_transpose(Image.open(BytesIO(content))).convert("RGB"))
    assert expected.shape[:2] == ((12, 20) if turn < 5 else (20, 12))
    np.testing.assert_array_equal(decode(content), expected)
    np.testing.assert_array_equal(decode_resized(content, 8), decode_resized(expected, 8))


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0\0\x08\0\x09broken", b"Exif\0\0nonsense", b"Exif\0\0"])
def test_damaged_metadata_around_sound_pixels_is_no_reason_to_lose_a_picture(exif: bytes) -> None:
    plain = encoded(scene(10, 10), "jpeg")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    np.testing.assert_array_equal(decode(plain[:2] + segment + plain[2:]), decode(plain))


# --------------------------------------------------------------------------------------------------------- transparency


def _rgba() -> np.ndarray:
    alpha = np.linspace(0, 255, 15 * 20).reshape(15, 20, 1).astype(np.uint8)
    return np.concatenate([scene(15, 20), alpha], axis=2)


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP"])
def test_much_text_in_a_png_is_no_reason_to_lose_a_picture(kind: str) -> None:
    """Of what editors and generators write about a picture; the orientation in another chunk still counts."""
    picture, large, text = scene(12, 8), "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), PngImagePlugin.PngInfo()
    if kind != "iCCP":
        (text.add_text if kind == "zTXt" else text.add_itxt)("prompt", large, zip=True)
    exif, buffer = Image.Exif(), BytesIO()
    exif[0x0112] = 6
    profile = large.encode() if kind == "iCCP" else None
    Image.fromarray(picture).save(buffer, "PNG", pnginfo=text, exif=exif, icc_profile=profile)
    with pytest.raises(ValueError, match="too large"):
        Image.open(BytesIO(buffer.getvalue()))
    assert np.array_equal(decode(buffer.getvalue()), np.rot90(picture, -1))
    assert sorted(traits(buffer.getvalue(), name="x.png")["size"].tolist()) == [8, 12]


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_alpha_shows_white(kind: str) -> None:
    rgba = _rgba()
    np.testing.assert_allclose(decode(encoded(rgba, kind)), on_white(rgba), atol=1)
    assert (decode(encoded(np.zeros((3, 3, 4), np.uint8), kind)) == 255).all()


def test_gray_with_alpha_shows_white() -> None:
    pair = Image.fromarray(_rgba()).convert("LA")
    np.testing.assert_allclose(decode(encoded(pair)), on_white(np.array(pair.convert("RGBA"))), atol=1)


def test_palette_with_transparency_shows_white() -> None:
    palette = Image.new("P", (4, 1))
    palette.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    palette.putdata([0, 1, 2, 3])
    per_color = decode(encoded(palette, transparency=bytes([0, 128, 255])))
    np.testing.assert_allclose(per_color[0], [[255, 255, 255], [227, 127, 127], [0, 200, 0], [0, 0, 200]], atol=1)
    one_color = decode(encoded(palette, transparency=1))
    np.testing.assert_array_equal(one_color[0], [[10, 20, 30], [255, 255, 255], [0, 200, 0], [0, 0, 200]])


def test_a_transparent_color_key_shows_white() -> None:
    rgb = Image.new("RGB", (2, 1), (9, 8, 7))
    rgb.putpixel((1, 0), (1, 2, 3))
    np.testing.assert_array_equal(decode(encoded(rgb, transparency=(9, 8, 7)))[0], [[255, 255, 255], [1, 2, 3]])
    wide = Image.fromarray(np.array([[514, 65535, 257]], np.uint16))
    np.testing.assert_array_equal(decode(encoded(wide, transparency=514))[0, :, 0], [255, 255, 1])


# ------------------------------------------------------------------------------------------------------------ deep pixels


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bits_are_scaled_not_saturated(kind: str) -> None:
    values = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    shown = decode(encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(shown[:, :, 0], np.rint(values / 257))
    assert (shown == shown[:, :, :1]).all()


def test_16_bit_netpbm_is_scaled() -> None:
    values = np.array([[0, 256, 32768, 65535]], ">u2")
    np.testing.assert_array_equal(decode(b"P5 4 1 65535\n" + values.tobytes())[0, :, 0], [0, 1, 128, 255])


def test_16_bit_color_png_is_scaled() -> None:
    values = np.array([[[0, 32768, 65535], [257, 25700, 65280]]], np.uint16)
    np.testing.assert_allclose(decode(png_16_bits(values)), values.astype(float) / 257, atol=1)


@pytest.mark.parametrize("kind", ["png", "lzw", "deflate", "raw"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_color_keeps_all_bits_as_opencv_reads_them(kind: str, channels: int) -> None:
    cv2 = pytest.importorskip("cv2")
    values = np.random.default_rng(0).integers(0, 4096, (13, 17, channels)).astype(np.uint16)  # 12 bits of the 16
    values[..., 3:] = 65535
    compressions = {"raw": 1, "lzw": 5, "deflate": 8}
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compressions[kind]] if kind != "png" else []
    _, buffer = cv2.imencode(".png" if kind == "png" else ".tiff", values, options)
    theirs = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)[:, :, 2::-1]
    policy = PixelPolicy(scale=(0.0, 4095.0))
    for source in (buffer.tobytes(), Image.open(BytesIO(buffer.tobytes()))):
        np.testing.assert_array_equal(decode(source, policy=policy), np.rint(theirs / 4095 * 255))


def test_16_bit_gray_with_alpha_keeps_all_bits() -> None:
    pair = np.array([[[0, 65535], [2048, 65535], [4095, 65535], [4095, 0], [0, 32768]]], np.uint16)
    shown = decode(png_16_bits(pair), policy=PixelPolicy(scale=(0.0, 4095.0), background="black"))
    np.testing.assert_array_equal(shown[0, :, 1], [0, 128, 255, 0, 0])
    white = decode(png_16_bits(pair), policy=PixelPolicy(scale=(0.0, 4095.0)))
    np.testing.assert_allclose(white[0, :, 1], [0, 128, 255, 255, 127], atol=1)


def test_one_scale_and_one_background_for_a_picture_of_any_kind() -> None:
    dark = PixelPolicy(scale=(960.0, 1140.0), background="black")
    wide = np.array([[960, 1050, 1140, 65535, 0]], np.uint16)
    for content in (encoded(Image.fromarray(wide)), encoded(Image.fromarray(wide.astype(np.float32)), "tiff"),
                    encoded(Image.fromarray(wide.astype(np.int32)), "tiff"), wide):  # fmt: skip
        np.testing.assert_array_equal(decode(content, policy=dark)[0, :, 0], [0, 128, 255, 255, 0])
        np.testing.assert_array_equal(decode_resized(content, 1, policy=dark)[0, 0], [255] * 3)  # the middle one
    np.testing.assert_array_equal(decode(np.uint8([[7, 200]]), policy=dark)[0, :, 0], [7, 200])  # 8 bits are levels already
    clear = np.zeros((2, 2, 4), np.uint8)
    for background, level in (("white", 255), ("gray", 128), ("black", 0)):
        assert (decode(encoded(clear), policy=PixelPolicy(background=background)) == level).all()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
def test_the_memory_of_a_deep_picture_is_bounded(tmp_path: Path) -> None:
    side = 5000
    Image.fromarray(np.zeros((side, side), np.uint16)).save(tmp_path / "wide.png", compress_level=1)
    script = (
        "import resource, sys\n"
        "from descend.data.decode import decode_resized\n"
        "decode_resized(sys.argv[1] + '/wide.png', 8) if sys.argv[2] == 'decode' else None\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    idle, busy = (
        int(subprocess.run([sys.executable, "-c", script, tmp_path, what], check=True, capture_output=True).stdout) * 1024
        for what in ("idle", "decode")
    )
    assert busy - idle < 3.2 * side**2 + 64 * 2**20  # 0.4 GB at Pillow's limit; float64 took 2.4 GB


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LARGE", 100)
    inside, most = [0], [0]
    original = decoding._upright

    def slow(*arguments: Any) -> Image.Image:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        inside[0] -= 1
        return original(*arguments)

    monkeypatch.setattr(decoding, "_upright", slow)
    content = encoded(scene(20, 20))
    threads = [threading.Thread(target=decode, args=(content,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_16_bit_big_endian_tiff_is_scaled() -> None:
    image = Image.frombytes("I;16B", (3, 1), struct.pack(">3H", 0, 32768, 65535))
    np.testing.assert_array_equal(decode(image)[0, :, 0], [0, 128, 255])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 200.0], [0, 100, 200]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
    ],
)
def test_float_pictures_take_the_smallest_usual_range(values: list[float], expected: list[int]) -> None:
    content = encoded(Image.fromarray(np.array([values], np.float32)), "tiff")
    np.testing.assert_array_equal(decode(content)[0, :, 0], expected)


@pytest.mark.parametrize("peak", [1.0, 1.0001, 1.04])
def test_a_little_beyond_a_usual_range_is_still_that_range(peak: float) -> None:
    values = np.linspace(0, 1, 2000, dtype=np.float32).reshape(20, 100)
    values[0, 0] = 0.5
    values[5] *= peak
    assert decode(encoded(Image.fromarray(values), "tiff"))[0, 0, 0] == 128
    values[7, 7] = 1e6  # one hot pixel
    shown = decode(encoded(Image.fromarray(values), "tiff"))
    assert (shown[0, 0, 0], shown[7, 7, 0]) == (128, 255)


def test_32_bit_integers_are_scaled() -> None:
    inside = Image.fromarray(np.array([[0, 257, 65535]], np.int32))
    np.testing.assert_array_equal(decode(encoded(inside, "tiff"))[0, :, 0], [0, 1, 255])
    beyond = Image.fromarray(np.array([[0, 500_000, 1_000_000]], np.int32))
    np.testing.assert_array_equal(decode(encoded(beyond, "tiff"))[0, :, 0], [0, 128, 255])


def test_a_pixel_that_is_no_number_is_black_and_leaves_the_others_alone() -> None:
    with_nan = np.array([[0, 0.5, 1, np.nan, np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(with_nan), "tiff"))[0, :, 0], [0, 128, 255, 0, 255, 0])
    with pytest.raises(PictureError, match="finite"):
        decode(encoded(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "tiff"))


# ------------------------------------------------------------------------------------------------- colors and animations


def test_cmyk_becomes_rgb() -> None:
    content = encoded(Image.fromarray(scene(16, 16)).convert("CMYK"), "jpeg", quality=95)
    assert Image.open(BytesIO(content)).mode == "CMYK"
    shown = decode(content)
    np.testing.assert_array_equal(shown, np.array(Image.open(BytesIO(content)).convert("RGB")))
    assert np.abs(shown.astype(int) - scene(16, 16)).mean() < 12  # not inverted


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "HSV", "RGBX"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = Image.fromarray(scene(16, 16)).convert(mode)
    np.testing.assert_array_equal(decode(image), np.array(image.convert("RGB")))


def test_lab_becomes_rgb() -> None:
    white = Image.new("LAB", (2, 2), (255, 128, 128))
    assert decode(white).min() >= 250


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    frames = [Image.new("RGB", (6, 6), color) for color in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "webp" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert getattr(Image.open(BytesIO(content)), "n_frames", 1) == 3
    assert (decode(content) == (255, 0, 0)).all()


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
@pytest.mark.parametrize("n_blank", [1, 3])
def test_frames_of_one_color_before_the_first_picture_do_not_count(kind: str, n_blank: int) -> None:
    shown = Image.radial_gradient("L").resize((24, 24)).convert("RGB")
    frames = [
        *(Image.new("RGB", (24, 24), (level, level, level)) for level in (0, 60, 120)[:n_blank]),
        shown,
        ImageOps.mirror(shown),
    ]
    options = {"lossless": True} if kind == "webp" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(BytesIO(content)) as image:
        image.seek(n_blank)
        expected = np.asarray(image.convert("RGB"))
    assert np.ptp(expected) > 100
    assert (decode(content) == expected).all()
    assert (decode_resized(content, 24) == expected).all()


def test_a_page_of_16_bits_after_an_empty_one_keeps_its_bits() -> None:
    pages = [
        Image.fromarray(np.full((8, 9), 700, np.uint16)),
        Image.fromarray(np.arange(72, dtype=np.uint16).reshape(8, 9) * 900),
    ]
    content = encoded(pages[0], "tiff", save_all=True, append_images=pages[1:])
    assert (decode(content)[:, :, 0] == np.rint(np.asarray(pages[1]) / 257)).all()


def test_a_transparent_first_frame_does_not_count_and_of_blank_frames_the_first_does() -> None:
    disc = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    disc.paste((250, 20, 30, 255), (4, 4, 12, 12))
    content = encoded(Image.new("RGBA", (16, 16), (9, 9, 9, 0)), "webp", save_all=True, append_images=[disc], lossless=True)
    assert decode(content)[8, 8].tolist() == [250, 20, 30]
    plain = [Image.new("RGB", (6, 6), color) for color in ("red", "blue")]
    assert (decode(encoded(plain[0], "tiff", save_all=True, append_images=plain[1:])) == (255, 0, 0)).all()


def test_a_damaged_later_frame_leaves_the_first() -> None:
    shown = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    content = encoded(Image.new("RGB", (64, 64), "navy"), "gif", save_all=True, append_images=[shown, ImageOps.mirror(shown)])
    cut = content[: len(content) // 4]
    assert (decode(cut) == (0, 0, 128)).all()


@pytest.mark.parametrize(
    ("kind", "options"), [("tiff", {"compression": "tiff_deflate"}), ("png", {}), ("webp", {"lossless": True})]
)
def test_a_damaged_first_frame_is_no_black_picture(kind: str, options: dict[str, Any]) -> None:
    """Pillow forgets after the first attempt that pixels are missing; alone, the frame is refused at once."""
    shown = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for others in ([ImageOps.mirror(shown), ImageOps.flip(shown)], []):
        content = bytearray(encoded(shown, kind, save_all=True, append_images=others, **options))
        content[500:560] = b"\xff" * 60
        for read in (decode, lambda source: decode_resized(source, 16), lambda source: traits(source, name="x")):
            if others or read is decode:  # of one frame alone, the first look sees the header
                with pytest.raises(PictureError, match="must be a readable picture"):
                    read(bytes(content))


# ------------------------------------------------------------------------------------------------------------ bad files


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "tiff", "webp", "ppm", "tga"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_an_error_that_names_it(kind: str, part: float, tmp_path: Path) -> None:
    content = encoded(scene(64, 64), kind)
    path = tmp_path / f"höhle 1.{kind}"
    path.write_bytes(content[: int(part * len(content))])
    for read in (decode, lambda source: decode_resized(source, 16)):
        with pytest.raises(PictureError, match=f"höhle 1.{kind}: must be a readable picture"):
            read(path)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("dear diary", encoding="utf-8")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "page.jpg").write_bytes(encoded(scene(8, 8), "eps"))
    for name, why in {
        "empty": "the file is empty",
        "text": "not a format",
        "folder": "",
        "page": "not a format",
        "none": "No such",
    }.items():
        with pytest.raises(PictureError, match=rf"{name}\.jpg: must be a readable picture \(.*{why}"):
            decode(tmp_path / f"{name}.jpg")


def test_a_full_memory_is_no_fault_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = encoded(scene(8, 8), "gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", full)
    for content in (encoded(scene(8, 8)), shown):
        with pytest.raises(MemoryError):
            decode(content)


def test_the_error_gives_the_name_it_was_told() -> None:
    with pytest.raises(PictureError, match=r"^ants/x\.jpg: "):
        decode(b"junk", name="ants/x.jpg")


@pytest.mark.parametrize("limit", [99, 40])  # Pillow only warns up to twice its limit
def test_a_decompression_bomb_is_an_error(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(PictureError, match="pixels"):
            decode(encoded(scene(10, 10)))
    assert not seen


def test_pillows_warnings_do_not_leak() -> None:
    odd = b"MM\0*\0\0\0\x08\x00\x03" + b"\x01\x00\x00\x03\x00\x00\x00\x09\x00\x02\x00\x00" * 3 + b"\0\0\0\0"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(PictureError):
            decode(odd)
    assert not seen


def test_pillow_must_not_be_told_to_accept_truncated_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DataError, match="LOAD_TRUNCATED_IMAGES"):
        decode(encoded(scene(8, 8)))


_SOUND = {kind: encoded(scene(24, 24), kind) for kind in ("jpeg", "png", "gif", "tiff", "webp", "bmp")}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(_SOUND)), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=6))
def test_damage_gives_a_picture_or_a_picture_error(kind: str, flips: list[tuple[int, int]]) -> None:
    content = bytearray(_SOUND[kind])
    for place, value in flips:
        content[place % len(content)] = value
    try:
        shown = decode_resized(bytes(content), 16)
    except PictureError:
        return
    assert shown.shape == (16, 16, 3)
    assert shown.dtype == np.uint8


# -------------------------------------------------------------------------------------------------------------- sources


def test_every_kind_of_source_gives_the_same_picture(tmp_path: Path) -> None:
    picture = scene(9, 14)
    path = tmp_path / "a b.png"
    path.write_bytes(encoded(picture))
    with path.open("rb") as file:
        sources = [path, str(path), path.read_bytes(), file, Image.open(BytesIO(path.read_bytes())), picture]
        for source in sources:
            shown = decode(source)
            np.testing.assert_array_equal(shown, picture)
            assert shown.dtype == np.uint8
            shown[:] = 0  # ours to write on
    np.testing.assert_array_equal(picture, scene(9, 14))
    assert traits(path.read_bytes(), name="x")["size"].tolist() == [14, 9]


def test_arrays() -> None:
    gray = scene(5, 6)[:, :, 0]
    np.testing.assert_array_equal(decode(gray)[:, :, 1], gray)
    np.testing.assert_array_equal(decode(gray[:, :, None])[:, :, 2], gray)
    np.testing.assert_array_equal(decode(gray > 100)[:, :, 0], np.where(gray > 100, 255, 0))
    np.testing.assert_array_equal(decode(gray.astype(np.uint16) * 257)[:, :, 0], gray)
    np.testing.assert_array_equal(decode(scene(6, 6)[::2, ::-1]), scene(6, 6)[::2, ::-1])
    for wrong in (gray.astype(np.float32), gray[:, :, None, None], np.zeros((0, 4), np.uint8), np.zeros((4, 4, 2), np.uint8)):
        with pytest.raises(PictureError, match="an array must be"):
            decode(wrong)


@pytest.mark.parametrize(
    ("name", "counts"),
    [("a.jpg", True), ("a.JPEG", True), ("b/ü é.PnG", True), ("x.webp", True), ("x.tiff", True), ("x.gif", True), ("x.mpo", True),
     (".hidden.jpg", False), ("Thumbs.db", False), (".DS_Store", False), ("notes.txt", False), ("a.eps", False), ("a.pdf", False),
     ("jpg", False), ("a.npy", False), ("b.jpg/c", False)],
)  # fmt: skip
def test_which_files_count_as_pictures(name: str, counts: bool) -> None:
    assert is_picture_name(name) is counts


def test_nothing_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encoded(scene(4, 4)))
    decode(path)
    os.replace(path, tmp_path / "y.png")  # noqa: PTH105 (fails on Windows while a handle is open)
