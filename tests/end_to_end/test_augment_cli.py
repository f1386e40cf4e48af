"""``descend augment`` on pictures made here: the page, the table, and a run that mirroring breaks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from descend import api
from descend.cli import main


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of a bright left half, twenty of a bright right half."""
    root = tmp_path_factory.mktemp("halves") / "photos"
    rng = np.random.default_rng(7)
    for label, half in (("left", slice(0, 8)), ("right", slice(8, 16))):
        (root / label).mkdir(parents=True)
        for k in range(30):
            image = rng.integers(0, 80, (16, 16, 3), dtype=np.uint8)
            image[:, half] += np.uint8(120)
            Image.fromarray(image).save(root / label / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    made = api.fit(photos, transfer="scratch", backbone="smallcnn(width=4)", augment=["shift(fraction=0.05)"], epochs=8,
                   batch_size=8, size=16, threads=1, out=out)  # fmt: skip
    assert made.record.val is not None
    assert made.record.val["accuracy"] > 0.9, "else there is nothing to flip"
    return out


def test_the_page_is_written_with_a_policy_that_suits_the_data(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["augment", str(photos), "--n", "2", "--draws", "3", "--threads", "1"]) == 0
    told = capsys.readouterr()
    assert "gallery: gallery.html" in told.out
    assert "augment: medium" in told.err
    assert (tmp_path / "gallery.html").read_text(encoding="utf-8").count("<img") == 2 * 4


def test_safety_names_the_transform_that_changes_the_meaning(
    photos: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    asked = ["augment", str(photos), "--augment", "flip()", "flip(axis=vertical)", "--safety", str(run), "--threads", "1"]
    assert main([*asked, "--out", str(page), "--n", "1", "--draws", "1"]) == 0
    told = capsys.readouterr().out
    assert "leave flip out" in told
    assert "flip(axis='vertical') is safe" in told
    assert "Which answers they flip" in page.read_text(encoding="utf-8")
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["safety"]
    assert [item["limit"] for item in found] == [None, "flip(axis='vertical')"]
    assert all(row["low"] <= row["share"] <= row["high"] for item in found for one in item["trials"] for row in one["classes"])


def test_without_a_list_the_runs_own_is_measured(photos: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["augment", str(photos), "--safety", str(run), "--per-class", "5", "--threads", "1"]) == 0
    told = capsys.readouterr()
    assert "shift(fraction=0.05)" in told.out
    assert "the run's own" in told.err


def test_settings_without_effect_and_bad_ones_are_refused(photos: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, words in (
        (["--tolerance", "0.1"], "without --safety"),
        (["--safety", str(run), "--draws", "3"], "without a page"),
        (["--augment", "fliip()"], "flip"),
        (["--size", "0"], ">= 1"),
        (["--out", "/nowhere/at/all/g.html"], "folder that exists"),
    ):
        assert main(["augment", str(photos), *more]) == 2
        assert words in capsys.readouterr().err
