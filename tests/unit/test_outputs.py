"""Files that are asked for by name: told before the work that they cannot be written, and never as a fault of the data."""

from __future__ import annotations

import errno
import json
import os
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from descend import outputs
from descend.cli import destinations, main
from descend.errors import KnobError, OutputError, RunError
from descend.train.recipe import Recipe


def refusing(path: Path, *_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def full(path: Path, *_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_place_is_looked_at_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs.check_output("--page", tmp_path / "a.html")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(KnobError, match=r"--page: must lie in a folder that exists, got '.*'\. Make it: mkdir -p "):
        outputs.check_output("--page", tmp_path / "no" / "a.html")
    with pytest.raises(KnobError, match="--page: must be a file, not a folder"):
        outputs.check_output("--page", tmp_path)
    monkeypatch.setattr(Path, "touch", refusing)
    told = r"a\.html: must be a file that can be written \(Permission denied\)\. Choose a place where you may write"
    with pytest.raises(OutputError, match=told):
        outputs.check_output("--page", tmp_path / "a.html")


def test_a_full_disk_is_told_with_the_file_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.html"
    outputs.write_page(path, "before")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match=r"a\.html: must be a file .*No space left on device\)\. Free some space, or choose"):
        outputs.write_page(path, "after")
    assert path.read_text() == "before"


@pytest.mark.parametrize("words", ["scan digits --page p.html", "doctor digits --out p.png", "augment digits --out p.html",
                                   "augment --page p.html", "export run --out p.onnx"])  # fmt: skip
def test_every_verb_looks_before_its_work(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "touch", refusing)
    assert main(words.split()) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("error: p.")
    assert "run folder" not in shown.err
    assert not shown.out


def test_what_a_scan_has_found_is_told_although_its_page_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Path, "write_text", full)
    assert main(["scan", "digits", "--quick", "--json", "--page", str(tmp_path / "p.html")]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["status"] in ("clean", "findings")
    assert "No space left on device" in shown.err


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two classes, a table of it and an archive, in the working directory; nothing of it may change."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a/1.png", "a/2.jpg", "b/3.png", "b/4")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (60 * number, 9, 9)).save(tmp_path / "photos" / name, "PNG" if name[-1] != "g" else None)
    Path("table.csv").write_text("path,label\nphotos/a/1.png,a\nphotos/b/3.png,b\n")
    Path("run").mkdir()
    Path("run/record.json").write_text("{}")
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.write("photos/a/1.png")
    Path("link.csv").symlink_to("table.csv")
    return tmp_path


REFUSED = {
    "predict run table.csv --out table.csv": "must be another file than those that are read",
    "predict run table.csv --out link.csv": "must be another file than those that are read",
    "predict run photos --out run/record.json": "must be another file than those that are read",
    "predict run photos --out photos/a/1.png": "must not end like a picture",
    "predict run table.csv --out new.JPG": r"must not end like a picture.*Such as new\.csv",
    "predict run table.csv --out raw.NEF": "must not end like a picture",
    "predict run photos --out photos/b/4": "must not be a file that holds pictures",
    "predict run photos.zip --out photos.zip": "must not be a file that holds pictures",
    "scan table.csv --page table.csv": "must be another file than those that are read",
    "scan photos --page photos/a/2.jpg": "must not end like a picture",
    "augment photos --out photos/a/2.jpg": "must not end like a picture",
    "augment photos --page photos/b/4": r"must end in \.html",
    "doctor photos --out photos/a/1.png": "must not be a picture of the data set",
    "doctor table.csv --out photos/b/3.png": "must not be a picture of the data set",
    "lr-find photos --out photos/a/1.png": "must not be a picture of the data set",
}


@pytest.mark.parametrize("words", REFUSED)
def test_nothing_that_is_read_is_written_over(words: str, photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in photographs.rglob("*") if path.is_file()}
    assert main(words.split()) == 2
    assert re.search(REFUSED[words], capsys.readouterr().err)
    assert before == {path: path.read_bytes() for path in photographs.rglob("*") if path.is_file()}


def test_a_file_beside_the_pictures_is_nobodys(photographs: Path) -> None:
    Path("photos/answers.csv").write_text("of an earlier call")
    destinations.check_text_file("--out", Path("photos/answers.csv"), reads=["photos"], run=Path("run"))
    destinations.check_text_file("--out", Path("run/answers.csv"), reads=["photos"], run=Path("run"))
    Image.new("RGB", (9, 9)).save("doctor.png")
    destinations.check_figure("--out", Path("doctor.png"), Recipe(data="table.csv"))  # of an earlier call, and in no row
    assert sorted(path.name for path in (photographs / "photos").iterdir()) == ["a", "answers.csv", "b"]


def test_a_file_in_the_latest_run_lies_in_the_newest_one(photographs: Path) -> None:
    with pytest.raises(RunError, match=r"runs/latest: needs a run in runs"):
        destinations.destination("runs/latest/answers.csv")
    for name in ("old", "new"):
        (photographs / "runs" / name).mkdir(parents=True)
        for file in ("record.json", "recipe.toml"):
            (photographs / "runs" / name / file).write_text("{}")
    os.utime("runs/old/recipe.toml", (1, 1))
    assert destinations.destination("runs/latest/answers.csv") == Path("runs/new/answers.csv")
    Path("runs/latest").mkdir()  # as an earlier version advised
    assert destinations.destination("runs/latest/answers.csv") == Path("runs/new/answers.csv")
    assert destinations.destination("latest") == Path("latest")  # a file of that name
    Path("runs/latest/mine.txt").touch()
    assert destinations.destination("runs/latest/answers.csv") == Path("runs/latest/answers.csv")
