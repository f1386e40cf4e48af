"""Files that are asked for by name: told before the work that they cannot be written, and never as a fault of the data."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from descend import outputs
from descend.cli import main
from descend.errors import KnobError, OutputError


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
