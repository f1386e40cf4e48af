"""A table of corrections: what it changes, what it refuses, and that a run keeps and repeats it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]

import descend
from descend.data import load
from descend.data.corrections import Correction, read_corrections, settled, write_corrections
from descend.data.sources import read
from descend.errors import DataError, DescendError, KnobError, RunError
from descend.train import folder
from descend.train.recipe import read as read_recipe

SMALL = {"transfer": "scratch", "backbone": "smallcnn(width=2)", "size": 24, "epochs": 1, "augment": []}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return shapes_folder(tmp_path / "photos", n=8, side=30)


def table(place: Path, *rows: str) -> Path:
    path = place / "corrections.csv"
    path.write_text("path,label,action\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def test_it_drops_and_relabels_and_says_so(photos: Path, tmp_path: Path) -> None:
    corrections = table(tmp_path, "disc/00.png,square,relabel", "disc/01.png,,drop", "stripes/00.png,stripes,keep")
    plain, data = load(photos), load(photos, corrections=corrections)
    names = {data.name_of(row): data.classes[data.labels[row]] for row in range(len(data))}
    assert len(data) == len(plain) - 1
    assert "disc/01.png" not in names
    assert names["disc/00.png"] == "square"
    assert names["stripes/00.png"] == "stripes"
    assert data.fingerprint != plain.fingerprint
    [note] = [problem for problem in data.problems if problem.kind == "corrected"]
    assert (note.n, note.message) == (2, "corrections: 1 relabeled, 1 dropped (corrections.csv)")


def test_it_is_applied_to_arrays_by_number(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (12, 8, 8), np.uint8)
    data = load((images, ["a", "b"] * 6), corrections=table(tmp_path, "arrays[0],b,relabel", "arrays[3],,drop"))
    assert len(data) == 11
    assert data.classes[data.labels[[data.name_of(row) for row in range(11)].index("arrays[0]")]] == "b"
    assert data.pictures is not None
    assert (data.read(2)[:, :, 0] == images[2]).all()
    assert (data.read(3)[:, :, 0] == images[4]).all()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("disc/99.png,,drop", "Did you mean 'disc/0"),
        ("../photos/disc/00.png,,drop", "every path must be that of a labeled picture"),
        ("disc/00.png,squares,relabel", "Did you mean 'square'?"),
        ("disc/00.png,disc,relabel", "Its action is keep"),
        ("disc/00.png,square,keep", "Its action is relabel"),
        ("disc/00.png,,relabel", "must say the label, row 2"),
        ("disc/00.png,disc,drop", "has no label, row 2"),
        ("disc/00.png,,remove", "that of row 2 is none"),
        (",disc,keep", "row 2 names none"),
        ("disc/00.png,,drop\ndisc/00.png,square,relabel", "row 3 names one again"),
        ("disc\\00.png,,drop\ndisc/00.png,square,relabel", "must name each picture once"),
    ],
)
def test_rows_that_cannot_be_meant_are_refused_in_words(photos: Path, tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(DataError) as refused:
        load(photos, corrections=table(tmp_path, row))
    assert says in str(refused.value)


def test_tables_that_are_none_are_refused(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "table.csv"
    other.write_text("path,label\ndisc/00.png,disc\n")
    for place, says in ((other, "path,label,action"), (tmp_path / "none.csv", "exists"), (photos, ".csv")):
        with pytest.raises(DataError, match=says):
            load(photos, corrections=place)


def test_a_table_without_effect_and_an_emptied_class_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(KnobError, match="has no effect"):
        load(photos, corrections=table(tmp_path, "disc/00.png,disc,keep"))
    everything = [f"disc/{path.name},,drop" for path in (photos / "disc").iterdir()]
    with pytest.raises(DataError, match="disc"):
        load(photos, corrections=table(tmp_path, *everything))


def test_hostile_names_survive_a_round_trip(photos: Path, tmp_path: Path) -> None:
    for name in ("=cmd.png", "a,b;\"c'.png", "ünïcode.png"):
        shutil.copy(photos / "disc" / "00.png", photos / "disc" / name)
    (photos / "disc").rename(photos / "@SUM(1)")
    written = [Correction(f"@SUM(1)/{name}", "square", "relabel") for name in ("=cmd.png", "a,b;\"c'.png", "ünïcode.png")]
    write_corrections(tmp_path / "c.csv", written)
    assert "'@SUM" in (tmp_path / "c.csv").read_text(encoding="utf-8")
    assert settled(read(photos), read_corrections(tmp_path / "c.csv"), who="test") == written
    with pytest.raises(DataError, match="one line of Unicode"):
        write_corrections(tmp_path / "c.csv", [Correction("a\nb.png", "", "drop")])


def test_names_that_begin_or_end_with_a_blank_survive_a_round_trip(photos: Path, tmp_path: Path) -> None:
    (photos / "disc").rename(photos / " disc")
    shutil.copytree(photos / " disc", photos / "disc")
    names = [" disc/00.png", "disc/00.png"]
    written = [Correction(name, "", "drop") for name in names]
    write_corrections(tmp_path / "c.csv", written)
    assert settled(read(photos), read_corrections(tmp_path / "c.csv"), who="test") == written
    shutil.rmtree(photos / "disc")
    bare = table(tmp_path, " disc/00.png,,drop", "disc/01.png ,,drop", " disc\\02.png,,drop")  # as older tables have it
    found = settled(read(photos), read_corrections(bare), who="test")
    assert [item.path for item in found] == [f" disc/0{number}.png" for number in range(3)]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_given_split_may_not_lose_all_its_pictures(split: str, tmp_path: Path) -> None:
    for number, name in enumerate(("train", "val", "test")):
        shapes_folder(tmp_path / "set" / name, n=4, side=30 + number)
    root = tmp_path / "set"
    rows = [f"{path.relative_to(root)},,drop" for path in sorted((root / split).rglob("*.png"))]
    with pytest.raises(DataError, match=rf"every split that is given must keep a picture.*got \['{split}'\]"):
        load(root, corrections=table(tmp_path, *rows))
    all_but_one = [row for at, row in enumerate(rows) if at % 4]  # of each class
    assert load(root, corrections=table(tmp_path, *all_but_one)).given_split


def test_a_run_keeps_its_corrections_and_repeats_them(photos: Path, tmp_path: Path) -> None:
    corrections = table(tmp_path, "disc/00.png,square,relabel", "disc/01.png,,drop")
    run = descend.fit(photos, corrections=str(corrections), out=tmp_path / "run", **SMALL)
    assert read_recipe(run.folder / folder.RECIPE).corrections == str(corrections)
    assert (run.folder / folder.CORRECTIONS).read_bytes() == corrections.read_bytes()
    assert run.evaluate(photos)["n"] == run.record.test["n"]  # its own split of the corrected data, not all pictures
    again = descend.fit(recipe=run.folder / folder.RECIPE, out=tmp_path / "again")
    assert again.record.data_fingerprint == run.record.data_fingerprint
    (run.folder / folder.CORRECTIONS).write_text("path,label,action\ndisc/02.png,,drop\n")
    with pytest.raises(RunError, match=r"corrections\.csv: must be intact"):
        run.evaluate(photos)


def test_an_interrupted_run_goes_on_with_the_table_that_it_began_with(photos: Path, tmp_path: Path) -> None:
    from tests.conftest import StopAfter  # pyright: ignore[reportMissingImports]

    corrections = table(tmp_path, "disc/00.png,square,relabel")
    settings = SMALL | {"epochs": 3}
    run = descend.fit(photos, corrections=str(corrections), out=tmp_path / "cut", progress=StopAfter(1), **settings)
    assert run.record.status == "interrupted"
    corrections.write_text("path,label,action\ndisc/05.png,,drop\n")
    whole = descend.resume(run.folder)
    assert whole.record.status == "finished"
    assert whole.record.data_fingerprint == run.record.data_fingerprint
    cut = descend.fit(photos, corrections=str(corrections), out=tmp_path / "cut2", progress=StopAfter(1), **settings)
    (cut.folder / folder.CORRECTIONS).unlink()
    with pytest.raises(RunError, match="must have corrections"):
        descend.resume(cut.folder)


def test_a_scan_applies_them_and_does_not_doubt_what_was_kept(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "disc" / "00.png", photos / "square" / "copy.png")
    conflicts = {finding.check: finding.severity for finding in descend.scan(photos, deep=False).findings}
    assert conflicts["label conflicts"] == "finding"
    mended = descend.scan(photos, deep=False, corrections=table(tmp_path, "square/copy.png,,drop"))
    assert {finding.check: finding.severity for finding in mended.findings}["label conflicts"] == "ok"
    kept = descend.scan(photos, deep=False, corrections=table(tmp_path, "square/copy.png,square,keep"))
    assert kept.material.confirmed == {"square/copy.png"}
    with pytest.raises(DescendError, match="labeled picture"):
        descend.scan(photos, deep=False, corrections=table(tmp_path, "square/none.png,square,keep"))
