"""``descend scan``: every fault that is planted in a set of made pictures is named, and a set without faults is clean."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import descend
from descend.audit import Audit, checks, files, scan
from descend.cli import main
from descend.data.corrections import Correction
from descend.errors import DataError
from descend.findings import Finding

SIDE = 72


def photograph(seed: int) -> Image.Image:
    """Return a picture with structure at every scale, as photographs have: octaves of noise in three channels."""
    generator = np.random.default_rng(seed)
    levels = np.zeros((SIDE, SIDE, 3))
    for cells in (2, 4, 9, 18, 36):
        noise = Image.fromarray((generator.random((cells, cells, 3)) * 255).astype(np.uint8))
        levels += np.asarray(noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64) / cells**0.6
    return Image.fromarray((255 * (levels - levels.min()) / np.ptp(levels)).astype(np.uint8))


def jpeg(picture: Image.Image, quality: int = 60) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def clean_set(root: Path) -> Path:
    for number, name in enumerate(("cat", "dog")):
        for part, n in (("train", 12), ("test", 10)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(n):
                photograph(1000 * number + 100 * (part == "test") + i).save(folder / f"{i:02}.png")
    return root


def plant(root: Path) -> None:
    cats, dogs, tests = root / "train" / "cat", root / "train" / "dog", root / "test"
    cat: Callable[[int], Image.Image] = lambda i: Image.open(cats / f"{i:02}.png")  # noqa: E731
    dog: Callable[[int], Image.Image] = lambda i: Image.open(dogs / f"{i:02}.png")  # noqa: E731
    (cats / "copy.png").write_bytes((cats / "00.png").read_bytes())
    (cats / "again.jpg").write_bytes(jpeg(cat(1), 40))
    (dogs / "small.jpg").write_bytes(jpeg(dog(1).resize((SIDE // 2, SIDE // 2)), 85))
    (dogs / "mirror.jpg").write_bytes(jpeg(ImageOps.mirror(dog(2)), 80))
    (tests / "cat" / "leak.jpg").write_bytes(jpeg(cat(2)))
    (tests / "dog" / "leak.png").write_bytes((dogs / "03.png").read_bytes())
    (dogs / "conflict.jpg").write_bytes(jpeg(cat(3)))
    Image.new("RGB", (SIDE, SIDE), (20, 60, 200)).save(cats / "blue.png")
    Image.fromarray(np.random.default_rng(5).integers(0, 2**16, (SIDE, SIDE)).astype(np.uint16)).save(cats / "deep.png")
    photograph(3007).convert("CMYK").save(dogs / "print.jpg")
    alpha = photograph(3008).convert("RGBA")
    alpha.putalpha(128)
    alpha.save(dogs / "alpha.png")
    (cats / "cut.jpg").write_bytes(jpeg(photograph(3009), 90)[:1500])
    (cats / "text.jpg").write_text("no picture")
    (dogs / "really.png").write_bytes(jpeg(photograph(30010)))
    (dogs / "IMG_1.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (dogs / "DSC_1.nef").write_bytes(b"raw")
    (dogs / "notes.txt").write_text("notes")
    photograph(30011).resize((300, 40)).save(cats / "long.png")
    photograph(30012).resize((12, 12)).save(cats / "thumb.png")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    root = clean_set(tmp_path_factory.mktemp("planted") / "pets")
    plant(root)
    return scan(root, deep=False, threads=1)


def of(audit: Audit, check: str, severity: str = "finding") -> Finding:
    (finding,) = [finding for finding in audit.findings if finding.check == check and finding.severity == severity]
    return finding


def named(finding: Finding, column: str = "picture") -> set[str]:
    return {row[column] for row in finding.table}


def test_a_set_without_faults_is_clean(tmp_path: Path) -> None:
    audit = scan(clean_set(tmp_path / "pets"), deep=False, threads=1)
    assert audit.clean
    assert {finding.severity for finding in audit.findings} == {"ok"}
    assert audit.material.dataset.near.pairs.shape == (0, 2)


def test_files_that_give_no_picture_are_named_with_their_reasons(planted: Audit) -> None:
    unreadable = of(planted, "unreadable")
    assert named(unreadable) == {"train/cat/cut.jpg", "train/cat/text.jpg"}
    assert all(row["why"] for row in unreadable.table)
    lost = of(planted, "passed over")
    assert named(lost) == {"train/dog/IMG_1.heic", "train/dog/DSC_1.nef"}
    assert "pip install 'descend[heic]'" in lost.fix
    assert of(planted, "passed over", "note").evidence["endings"] == {".txt": 1}


@pytest.mark.parametrize(
    ("example", "picture", "why"),
    [
        ("cats/photo (1).jpg (not a format that is read)", "cats/photo (1).jpg", "not a format that is read"),
        ("photo.jpg (cut short (at byte 7)", "photo.jpg", "cut short (at byte 7"),
        ("no ending (empty)", "no ending", "empty"),
    ],
)
def test_a_name_with_brackets_is_told_from_the_reason(example: str, picture: str, why: str) -> None:
    assert files._split_reason(example) == {"picture": picture, "why": why}


def test_a_table_with_the_strokes_of_windows_confirms_labels() -> None:
    dataset: Any = SimpleNamespace(names=("ants/1.jpg", "=x.jpg", " a.jpg"))
    kept = [Correction(path, "", "keep") for path in ("ants\\1.jpg", "'=x.jpg", "a.jpg")]
    assert checks._confirmed(dataset, kept) == {*dataset.names}
    with pytest.raises(DataError, match="labeled picture"):
        checks._confirmed(dataset, [Correction("ants/2.jpg", "", "keep")])


def test_copies_are_found_whatever_was_done_to_them(planted: Audit) -> None:
    links = {frozenset((row["picture"], row["like"])): row["by"] for row in of(planted, "copies").table}
    expected = {
        ("train/cat/00.png", "train/cat/copy.png"): "same bytes",
        ("train/cat/01.png", "train/cat/again.jpg"): "near copy",
        ("train/dog/01.png", "train/dog/small.jpg"): "near copy",
        ("train/dog/02.png", "train/dog/mirror.jpg"): "mirrored",
        ("train/cat/02.png", "test/cat/leak.jpg"): "near copy",
        ("train/dog/03.png", "test/dog/leak.png"): "same bytes",
        ("train/cat/03.png", "train/dog/conflict.jpg"): "near copy",
    }
    assert set(links) == set(map(frozenset, expected))
    assert all(links[frozenset(pair)].startswith(kind) for pair, kind in expected.items())


def test_copies_with_equal_pixels_are_called_so_without_a_likeness(tmp_path: Path) -> None:
    for number in range(12):
        picture = photograph(number).resize((24, 24))
        folder = tmp_path / "set" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{number}.png")
        if number < 2:
            picture.save(folder / f"{number} again.bmp")
    finding = of(scan(tmp_path / "set", deep=False, threads=1), "copies")
    assert [row["by"] for row in finding.table] == ["same pixels", "same pixels"]


def test_leaks_and_conflicts_are_those_copies_that_stand_on_two_sides(planted: Audit) -> None:
    leaks = of(planted, "leakage")
    assert {row["like"] for row in leaks.table} | named(leaks) >= {"test/cat/leak.jpg", "test/dog/leak.png"}
    assert leaks.evidence == {"n": 2, "known": {"val": 0, "test": 2}}
    (conflict,) = of(planted, "label conflicts").table
    assert {conflict["class"], conflict["its_class"]} == {"cat", "dog"}


def test_what_pictures_are_made_of_is_told(planted: Audit) -> None:
    assert named(of(planted, "uniform")) == {"train/cat/blue.png"}
    stored = {row["picture"]: row["stored"] for row in of(planted, "color modes", "note").table}
    assert stored["train/dog/print.jpg"] == "CMYK (for print)"
    assert stored["train/dog/alpha.png"] == "color with transparency"
    assert named(of(planted, "bit depths")) == {"train/cat/deep.png"}
    assert named(of(planted, "endings", "note")) == {"train/dog/really.png"}
    assert named(of(planted, "shapes", "note")) == {"train/cat/long.png"}
    assert named(of(planted, "sizes")) == {"train/cat/thumb.png"}


def test_every_picture_has_a_row(planted: Audit) -> None:
    frame = planted.frame()
    assert len(frame) == planted.n_pictures
    by_path = frame.set_index("path")
    assert by_path.loc["train/cat/blue.png", "uniform"]
    assert by_path.loc["train/cat/01.png", "family"] == by_path.loc["train/cat/again.jpg", "family"]
    assert by_path.loc["train/cat/01.png", "family"] != by_path.loc["train/cat/02.png", "family"]
    assert by_path.loc["train/cat/deep.png", "bits"] == 16


def test_what_reading_has_found_is_repeated(tmp_path: Path) -> None:
    root = clean_set(tmp_path / "pets")
    Image.new("L", (SIDE, SIDE), 9).save(root / "train" / "cat" / "00_mask.png")
    told = {finding.evidence.get("kind"): finding for finding in scan(root, deep=False, threads=1).findings}
    assert named(told["masks"], "name") == {"train/cat/00_mask.png"}
    assert told["masks"].severity == "note"
    lines = [f"train/{name}/{i:02}.png,{name}" + f",p{i}" * (i < 6) for name in ("cat", "dog") for i in range(12)]
    (root / "t.csv").write_text("\n".join(["path,label,group", *lines]), encoding="utf-8")
    told = {finding.evidence.get("kind"): finding for finding in scan(root / "t.csv", deep=False, threads=1).findings}
    assert (told["table"].severity, told["table"].evidence["n"]) == ("note", 12)


def test_values_that_the_scale_leaves_out_are_told(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(8):
            values = np.random.default_rng(100 * number + i).normal(0.4 + number / 10, 0.01, (32, 32)).astype(np.float32)
            values[:4, i % 4 :] = -9999
            Image.fromarray(values).save(tmp_path / "set" / name / f"{i}.tiff")
    (told,) = [each for each in scan(tmp_path / "set", deep=False, threads=1).findings if each.evidence.get("kind") == "apart"]
    assert (told.severity, told.evidence["n"]) == ("note", 16)
    assert told.what.startswith("16 pictures hold values that mean missing data")


def test_the_verb_tells_shows_and_exits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, page = clean_set(tmp_path / "<pets>"), tmp_path / "scan.html"
    assert main(["scan", str(root), "--quick"]) == 0
    assert "<pets>: clean; 44 pictures" in capsys.readouterr().out
    plant(root)
    assert main(["scan", str(root), "--quick", "--json", "--page", str(page)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "findings"
    assert {finding["check"] for finding in told["findings"]} >= {"copies", "leakage", "unreadable"}
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") > 20
    assert "&lt;pets&gt;" in html
    assert "<pets>" not in html
    assert not any(word in html for word in ("http://", "https://", "<script"))
    assert main(["scan", str(tmp_path / "nowhere"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["status"] == "unusable"


def test_pictures_in_memory_and_bad_arguments() -> None:
    assert descend.scan("digits").clean
    with pytest.raises(descend.DataError, match="needs DATA"):
        scan(None)
