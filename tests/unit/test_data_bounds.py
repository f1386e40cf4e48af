"""Pictures within a bound of memory, never half decoded, and nothing printed by the libraries below."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from descend.data import decode as decode_module
from descend.data.decode import decode, decode_resized
from descend.data.large_jpeg import MOST_DRAFTED, largest_draft
from descend.data.traits import traits
from descend.errors import PictureError

RNG = np.random.default_rng(0)
SMOOTH = Image.fromarray(RNG.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize((23, 17), Image.Resampling.BICUBIC)
LIMIT = 5_000  # pixels, in place of Pillow's 89 million


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


PARTIAL = {
    "pcx palette": _encoded(SMOOTH.convert("P"), "PCX"),
    "pcx gray": _encoded(SMOOTH.convert("L"), "PCX"),
    "pcx color": _encoded(SMOOTH, "PCX"),
    "pcx 1 bit": _encoded(SMOOTH.convert("1"), "PCX"),
    "jp2": _encoded(SMOOTH, "JPEG2000"),
    "j2k": _encoded(SMOOTH, "JPEG2000", no_jp2=True),
    "jp2 gray, lossy": _encoded(SMOOTH.convert("L"), "JPEG2000", irreversible=True),
}


@pytest.mark.parametrize("name", PARTIAL)
def test_a_file_cut_at_any_byte_is_refused_and_a_whole_one_is_read(name: str) -> None:
    content = PARTIAL[name]
    assert (decode(content) == np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))).all()
    for n in range(len(content)):
        with pytest.raises(PictureError):
            decode(content[:n])


def test_a_jpeg_2000_that_is_padded_or_has_a_long_box_is_whole() -> None:
    whole = decode(PARTIAL["j2k"])
    assert (decode(PARTIAL["j2k"] + bytes(7)) == whole).all()  # as in DICOM, to an even length
    content = PARTIAL["jp2"]
    at = content.index(b"jp2c") - 4
    stream = content[at + 8 :]
    for length in (b"\0\0\0\0jp2c", b"\0\0\0\1jp2c" + (len(stream) + 16).to_bytes(8, "big")):
        assert (decode(content[:at] + length + stream) == whole).all()
    for length in (b"\0\0\0\3jp2c", b"\0\0\0\1jp2c" + (len(stream) + 17).to_bytes(8, "big")):
        with pytest.raises(PictureError):
            decode(content[:at] + length + stream)


# -------------------------------------------------------------------------------------------- JPEG beyond Pillow's limit


PHOTOGRAPH = Image.fromarray(RNG.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize((150, 130), Image.Resampling.BICUBIC)
JPEGS = {
    "baseline": _encoded(PHOTOGRAPH, "JPEG"),
    "progressive": _encoded(PHOTOGRAPH, "JPEG", progressive=True),
    "gray": _encoded(PHOTOGRAPH.convert("L"), "JPEG"),
    "restarts": _encoded(PHOTOGRAPH, "JPEG", restart_marker_rows=1),
    "with a thumbnail": _encoded(PHOTOGRAPH, "JPEG", extra=b"\xff\xe1\0\x0cExif\0\0\xff\xd8\xff\xd9"),
}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("share", [0.5, 0.7, 0.99])
def test_a_jpeg_that_broke_off_and_was_filled_with_zeros_is_refused(name: str, share: float) -> None:
    content = JPEGS[name]
    n = int(share * len(content))
    for n_zeros in (1, 40, 4000):
        with pytest.raises(PictureError, match="the file is truncated"):
            decode(content[:n] + bytes(n_zeros))


@pytest.mark.parametrize("name", ["baseline", "gray", "restarts", "with a thumbnail"])
def test_a_whole_jpeg_without_the_mark_of_its_end_is_read(name: str) -> None:
    content, expected = JPEGS[name], decode(JPEGS[name])
    assert content.endswith(b"\xff\xd9")
    for kept in (content[:-2], content[:-1]):
        for n_zeros in (12, 4000):
            assert (decode(kept + bytes(n_zeros)) == expected).all()


def test_a_jpeg_without_the_mark_of_its_end_is_as_readable_as_its_decoder_finds_it() -> None:
    gray = Image.new("L", (150, 130), 128)  # its last pixel is as gray as what no data came for
    for picture in (PHOTOGRAPH.resize((8, 8)), PHOTOGRAPH.convert("L").resize((16, 16)), PHOTOGRAPH, gray):
        for quality in range(20, 96, 5):
            whole = _encoded(picture, "JPEG", quality=quality)
            for cut in (whole[:-2], whole[:-1], whole[:-2] + b"\0", whole[:-2] + bytes(4)):
                try:
                    Image.open(io.BytesIO(cut)).load()
                except OSError:
                    with pytest.raises(PictureError):
                        decode(cut)
                else:
                    assert (decode(cut) == decode(whole)).all()


@pytest.mark.parametrize("name", ["baseline", "gray", "with a thumbnail"])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.95])
def test_a_jpeg_that_was_cut_and_closed_is_refused_at_any_size(name: str, share: float) -> None:
    content = JPEGS[name]
    closed = content[: int(share * len(content))] + b"\xff\xd9"
    for read in (decode, lambda content: decode_resized(content, 16), lambda content: decode_resized(content, 150)):
        with pytest.raises(PictureError, match="the file is truncated"):
            read(closed)


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_that_something_follows_is_whole(name: str) -> None:
    whole = decode(JPEGS[name])
    for more in (b"\0", bytes(5000), b"appended" * 100, JPEGS[name], b"\r\n"):
        assert (decode(JPEGS[name] + more) == whole).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_that_is_gray_to_its_end_is_whole(mode: str, tmp_path: Path) -> None:
    square = Image.new("RGB", (160, 160), (128, 128, 128))
    square.paste(PHOTOGRAPH, (0, 0))
    for options in ({}, {"progressive": True}):
        content = _encoded(square.convert(mode), "JPEG", **options)
        assert (decode(content) == np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))).all()
        assert decode_resized(content, 8).shape == (8, 8, 3)
        (tmp_path / "gray.jpg").write_bytes(content)
        assert decode(Image.open(tmp_path / "gray.jpg")).shape == (160, 160, 3)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", LIMIT)


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("size", [(90, 70), (240, 200), (200, 480)])  # more than the limit, than twice, than sixteen times
def test_a_large_jpeg_is_shrunk_while_it_is_decoded(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    picture = SMOOTH.resize(size, Image.Resampling.BICUBIC)
    content = _encoded(picture, "JPEG", quality=95)
    assert traits(content, name="x")["size"].tolist() == list(size)
    plain = {resolution: decode_resized(np.asarray(picture), resolution) for resolution in (8, 60)}
    loaded = list[int]()
    load = ImageFile.ImageFile.load

    def noted(image: ImageFile.ImageFile) -> Any:
        loaded.append(image.width * image.height)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", noted)
    for resolution, expected in plain.items():
        assert np.abs(decode_resized(content, resolution).astype(float) - expected).mean() < 4
    assert 0 < max(loaded) <= LIMIT
    with pytest.raises(PictureError, match="must have at most 5,000 pixels"):
        decode(content)


@pytest.mark.usefixtures("limited")
def test_what_must_be_held_whole_stays_under_the_limit() -> None:
    picture = SMOOTH.resize((240, 200))
    for content in (_encoded(picture, "JPEG", progressive=True), _encoded(picture, "PNG"), _encoded(picture, "WEBP")):
        with pytest.raises(PictureError, match="pixels"):
            decode_resized(content, 16)
        with pytest.raises(PictureError, match="pixels"):
            traits(content, name="x")
    baseline = _encoded(picture, "JPEG")
    scan = baseline.index(b"\xff\xda")
    assert decode_resized(baseline, 16).shape == (16, 16, 3)
    one_by_one = baseline[: scan + 4] + b"\1" + baseline[scan + 5 :]  # a scan that says it holds one channel of three
    with pytest.raises(PictureError, match="pixels"):
        decode_resized(one_by_one, 16)


def test_what_is_held_whole_is_decoded_alone_however_small_its_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lock:
        n = 0

        def __enter__(self) -> None:
            self.n += 1

        def __exit__(self, *_: object) -> None:
            pass

    lock = Lock()
    monkeypatch.setattr(decode_module, "_alone", lock)
    monkeypatch.setattr(decode_module, "LARGE", LIMIT)
    picture = SMOOTH.resize((240, 200))
    for progressive, resolution, n in ((False, 16, 0), (True, 16, 1), (False, 150, 2), (True, 150, 3)):
        decode_resized(_encoded(picture, "JPEG", progressive=progressive), resolution)
        assert lock.n == n


def test_the_draft_is_the_largest_below_the_limit() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    assert limit is not None
    for side in (100, 9_459, 9_460, 20_000, 32_768):
        width, height = largest_draft((side, side))
        assert side // width in (1, 2, 4, 8)
        assert width == height
        assert -((-side // (side // width)) ** 2) <= limit
    assert MOST_DRAFTED == 32_768**2


# -------------------------------------------------------------------------------------------------------- nothing printed


def test_damaged_tiff_files_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for options in ({"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"compression": "tiff_deflate"}, {}):
        content = _encoded(SMOOTH, "TIFF", **options)
        for place in range(8, len(content), 5):
            damaged = bytearray(content)
            damaged[place] ^= 0xFF
            for candidate in (bytes(damaged), content[:place]):
                with contextlib.suppress(PictureError):
                    decode(candidate)
    assert capfd.readouterr() == ("", "")
