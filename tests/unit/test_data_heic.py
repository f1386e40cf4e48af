"""HEIC: read where the extra is installed, named and counted where it is not."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.oracles.data_pictures import encoded, scene

from descend.data import find_pictures, heic, load
from descend.data.decode import decode
from descend.errors import DataError

with_extra = pytest.mark.skipif(not heic.available(), reason="needs the extra heic")
without_extra = pytest.mark.skipif(heic.available(), reason="the extra heic is installed")


def _smooth() -> np.ndarray:
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([4 * x, 5 * y, 120 + 0 * x], axis=-1).astype(np.uint8)


def _heic(image: Image.Image, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "HEIF", quality=95, **options)
    return buffer.getvalue()


@with_extra
def test_a_heic_file_is_a_picture(tmp_path: Path) -> None:
    smooth = _smooth()
    for name in ("IMG_1.HEIC", "IMG_2.heif", "scan0001"):
        (tmp_path / name).write_bytes(_heic(Image.fromarray(smooth)))
    found = find_pictures([tmp_path])
    assert len(found.paths) == 3
    assert found.passed_over == {}
    for path in found.paths:
        assert np.abs(decode(path).astype(int) - smooth).max() <= 12  # a lossy format


@with_extra
def test_a_turned_heic_file_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    shown = decode(_heic(Image.fromarray(_smooth()), exif=exif.tobytes()))
    assert shown.shape == (64, 48, 3)
    assert np.abs(shown.astype(int) - np.rot90(_smooth(), -1)).max() <= 12


@without_extra
def test_without_the_extra_heic_files_are_counted_and_the_fix_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    for number, kind in enumerate("ab"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for i in range(8):
            (tmp_path / "set" / kind / f"{i}.png").write_bytes(encoded(scene(6, 6, seed=10 * number + i)))
        (tmp_path / "set" / kind / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (note,) = load(tmp_path / "set").problems
    assert str(note).startswith("2 pictures are left out: HEIC pictures need: pip install 'descend[heic]': a/IMG_1.HEIC")
    (tmp_path / "set/c").mkdir()
    (tmp_path / "set/c/IMG_2.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(DataError, match=r"'c' holds none.*3 pictures are left out: HEIC pictures need"):
        load(tmp_path / "set")


@without_extra
def test_predicting_names_what_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(encoded(scene(6, 6)))
    (tmp_path / "IMG_1.HEIC").write_bytes(bytes(40))
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    (tmp_path / ".DS_Store").write_bytes(bytes(4))
    found = find_pictures([tmp_path])
    assert found.paths == [str(tmp_path / "1.png")]
    assert found.passed_over == {str(tmp_path / "IMG_1.HEIC"): heic.ADVICE, str(tmp_path / "notes.txt"): "not a picture"}
