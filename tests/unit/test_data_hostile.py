"""Paths and files that are made to stop, or happen to: each is passed over and named, or refused in one sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.oracles.data_pictures import encoded, scene

from descend.cli import main
from descend.data import find_pictures, load, tree
from descend.data.decode import decode
from descend.data.opening import LARGEST_FILE, read_file
from descend.errors import DataError, KnobError, PictureError, RunError
from descend.regular_files import MOST_TEXT, kernel_file_systems
from descend.train import prepare
from descend.train.folder import verify
from descend.train.recipe import Recipe

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc, and names of any bytes")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


def plant(root: Path, *folders: str, n: int = 8) -> Path:
    """Make folders, each with pictures that occur nowhere else."""
    for place, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for number in range(n):
            (root / folder / f"{number}.png").write_bytes(encoded(scene(6, 6, seed=100 * place + number)))
    return root


def told(root: Path) -> str:
    """Return everything that is said of a data set of sixteen pictures."""
    dataset = load(root)
    assert len(dataset) == 16
    return " ".join(example for problem in dataset.problems for example in problem.examples)


@linux_only
def test_files_and_folders_of_the_kernel_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path / "set", "cat", "dog")
    (root / "cat/k.png").symlink_to("/proc/version")
    (root / "cat/log").symlink_to("/proc/kmsg")  # reading it waits for ever
    (root / "proc").symlink_to("/proc/self")
    assert Path("/proc").stat().st_dev in kernel_file_systems()
    assert Path("/").stat().st_dev not in kernel_file_systems()
    said = told(root)
    assert "cat/k.png (a file of the kernel)" in said
    assert "proc (a folder of the kernel)" in said
    with pytest.raises(PictureError, match="a file of the kernel"):
        decode(root / "cat/k.png")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices in the file system")
def test_pipes_and_devices_are_named_whatever_leads_to_them(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", "cat", "dog")
    os.mkfifo(tmp_path / "pipe")
    (root / "cat/p.png").symlink_to(tmp_path / "pipe")
    (root / "cat/z.png").symlink_to("/dev/zero")
    said = told(root)
    assert "cat/p.png (a pipe, a socket or a device)" in said
    assert "cat/z.png (a pipe, a socket or a device)" in said
    with pytest.raises(PictureError, match="a pipe, a socket or a device"):
        decode(tmp_path / "pipe")
    with pytest.raises(DataError, match="it is a pipe, a socket or a device"):
        load(tmp_path / "pipe")


def test_an_empty_file_and_one_beyond_the_bound_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path / "set", "cat", "dog")
    for name, n_bytes in (("sparse.png", LARGEST_FILE + 1), ("zeros.png", 2**25), ("empty.png", 0)):
        with (root / "cat" / name).open("wb") as file:
            file.truncate(n_bytes)
    whole = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        assert path.stat().st_size not in (0, 2**25, LARGEST_FILE + 1)
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    said = told(root)
    assert f"cat/sparse.png (the file has {LARGEST_FILE + 1:,} bytes, more than {LARGEST_FILE:,})" in said
    assert "cat/zeros.png (not a format that Pillow reads)" in said
    assert "cat/empty.png (the file is empty)" in said


def test_a_large_file_that_is_a_picture_is_read_whole(tmp_path: Path) -> None:
    content = encoded(scene(6, 6, seed=1)) + bytes(2**24)
    (tmp_path / "x.png").write_bytes(content)
    assert read_file(tmp_path / "x.png") == content


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_that_lead_nowhere_and_trees_without_end_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path / "set", "cat", "dog")
    (root / "loop").symlink_to("loop")
    (root / "cat/long.png").symlink_to("y" * 300)
    deep = root / "cat" / "/".join(["d"] * (tree.DEEPEST + 5))
    deep.mkdir(parents=True)
    (deep / "x.png").write_bytes(encoded(scene(6, 6, seed=1)))
    said = told(root)
    assert "loop (a broken link)" in said
    assert "cat/long.png (a broken link)" in said
    assert f"(deeper than {tree.DEEPEST} folders)" in said


@linux_only
def test_a_path_longer_than_the_system_takes_stops_nothing(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", "cat", "dog")
    before = Path.cwd()
    os.chdir(root / "cat")
    try:
        for _ in range(18):
            Path("n" * 250).mkdir()
            os.chdir("n" * 250)
    finally:
        os.chdir(before)
    assert "n (file name too long)" in told(root)


def test_folders_without_permission_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path / "set", "cat", "dog", "closed")
    (root / "closed").chmod(0)
    holds_runs = tree._holds_runs

    def denied(folder: Path) -> bool:  # for root, all doors are open
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return holds_runs(folder)

    monkeypatch.setattr(tree, "_holds_runs", denied)
    try:
        assert "closed (permission denied)" in told(root)
    finally:
        (root / "closed").chmod(0o700)


def test_a_folder_that_cannot_be_listed_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tree.os, "scandir", denied)
    assert find_pictures([tmp_path]).passed_over == {f"{tmp_path}/": "permission denied"}
    with pytest.raises(DataError, match=r"must be a folder that can be read \(permission denied\)"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("", "must be a folder, a table or the name of a built-in set, got ''. Write . for the current folder."),
        (" ", "Write . for the current folder."),
        ("~nosuchuser/x", "must lie in the home of a user that exists, '~nosuchuser' has none."),
        ("x" * 3000, "... (3,000 characters): no such folder, table or built-in set"),
        ("a\0b", "no such folder, table or built-in set"),
    ],
)
def test_a_place_that_is_none_is_refused_in_one_sentence(place: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError) as caught:
        load(place)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 500
    assert main(["fit", place]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="pipes in the file system")
def test_recipes_and_run_folders_that_are_pipes_or_never_end_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/record.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "model.safetensors")
    assert main(["fit", "--recipe", str(tmp_path / "pipe.toml")]) == 1
    assert main(["predict", str(tmp_path / "run"), "x.png"]) == 1
    assert capsys.readouterr().err.count("a pipe, a socket or a device") == 2
    with pytest.raises(RunError, match="a pipe"):
        verify(tmp_path / "model.safetensors", "")
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(MOST_TEXT + 1)
    assert main(["fit", "--recipe", str(tmp_path / "huge.toml")]) == 1
    assert f"more than {MOST_TEXT:,}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--out", "o" * 5_000], ["--device", "d" * 5_000], ["--size", "99999"]])
def test_no_message_repeats_thousands_of_characters(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", "--transfer", "scratch", "--epochs", "1", *words]) in (1, 2)
    assert len(capsys.readouterr().err.splitlines()[-1]) < 1_500


def test_predict_takes_no_empty_name_for_the_current_folder() -> None:
    with pytest.raises(DataError, match=r"Write \. for the current folder"):
        find_pictures(["x.png", ""])


def test_a_table_that_names_a_path_too_long_goes_on_without_it(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", "cat", "dog", n=10)
    rows = [f"{label}/{number}.png,{label}" for label in ("cat", "dog") for number in range(10)]
    long = "\u00e9" * 3000  # not ASCII: accents are composed and looked for folder by folder
    (root / "t.csv").write_text("\n".join(["path,label", *rows, f"{long}/x.png,cat"]), encoding="utf-8")
    dataset = load(root / "t.csv")
    assert len(dataset) == 20
    assert dataset.problems[0].kind == "missing"


@linux_only
def test_a_path_that_no_recipe_can_name_is_refused_before_the_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = plant(tmp_path / os.fsdecode(b"caf\xe9"), "cat", "dog")
    assert main(["fit", str(root), "--transfer", "scratch", "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "must have a path in UTF-8" in said
    assert "ln -s FOLDER photos" in said
    assert not (tmp_path / "run").exists()
    (tmp_path / "photos").symlink_to(root)
    assert prepare._located(Recipe(data=str(tmp_path / "photos"))).data == str(tmp_path / "photos")


@pytest.mark.parametrize("verb", ["fit", "augment"])
def test_more_threads_than_a_system_starts_are_refused(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "digits", "--threads", "100000"]) == 2
    said = capsys.readouterr().err
    assert "in [1, 1024]" in said
    assert "got 100000" in said


# ----------------------------------------------------------------------------------------------- tables from anywhere


def test_a_table_reaches_out_of_its_folder_only_where_that_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, secret = plant(tmp_path / "set", "cat", "dog"), encoded(scene(6, 6, seed=999))
    (tmp_path / "secret.png").write_bytes(secret)
    rows = [f"{label}/{number}.png,{label}" for label in ("cat", "dog") for number in range(8)]
    table = root / "t.csv"
    for path in (
        "../secret.png",
        "cat/../../secret.png",
        "..\\secret.png",
        str(tmp_path / "secret.png"),
        "cat/../../set/../secret.png",
    ):
        table.write_text("\n".join(["path,label", *rows, f"{path},cat"]))
        with pytest.raises(DataError, match="pictures must lie below the table's folder") as caught:
            load(table)
        assert "--outside" in str(caught.value)
        assert len(load(table, outside=True)) == 17
    assert main(["fit", str(table), "--out", str(tmp_path / "run")]) == 1
    assert "cat/../../set/../secret.png" in capsys.readouterr().err
    inside = [f"{root}/cat/0.png,cat", "cat/../dog/0.png,dog", "./cat/1.png,cat", "..cat/2.png,cat"]
    (root / "..cat").mkdir()
    (root / "..cat/2.png").write_bytes(secret)
    table.write_text("\n".join(["path,label", *rows, *inside]))
    assert len(load(table)) == 20
    for data in (table, root):
        with pytest.raises(KnobError, match="outside: has no effect"):
            load(data, outside=True)


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("x" * 200_000 + ",cat", r"field limit .*, in line 18\)\. A cell that large is mostly a quotation mark"),
        ("cat/0.png," + "y" * 5_000, "a label must have at most 1,000 characters, that of row 18 has 5,000"),
    ],
)
def test_a_huge_cell_is_refused_in_a_short_sentence(cell: str, says: str, tmp_path: Path) -> None:
    root = plant(tmp_path / "set", "cat", "dog")
    rows = [f"{label}/{number}.png,{label}" for label in ("cat", "dog") for number in range(8)]
    (root / "t.csv").write_text("\n".join(["path,label", *rows, cell]))
    with pytest.raises(DataError, match=says) as caught:
        load(root / "t.csv")
    assert len(str(caught.value)) < 600


# --------------------------------------------------------------------------------------- splits that are given and lost


@pytest.mark.parametrize("split", ["val", "test", "validation"])
@pytest.mark.parametrize("kind", ["empty", "empty classes", "text only", "broken link", "unreadable pictures"])
def test_a_split_that_is_given_and_gives_nothing_is_an_error(split: str, kind: str, tmp_path: Path) -> None:
    root = plant(tmp_path / "set", "train/cat", "train/dog")
    if kind == "broken link":
        (root / split).symlink_to(split)
    else:
        (root / split / ("" if kind == "empty" else "cat")).mkdir(parents=True)
    if kind == "text only":
        (root / split / "cat/notes.txt").write_text("none")
    if kind == "unreadable pictures":
        (root / split / "cat/x.png").write_text("none")
    with pytest.raises(DataError, match=r"must hold .* picture") as caught:
        load(root)
    assert "remove" in str(caught.value)
    assert len(load(root, split=False)) == 16  # to be measured on, train is there


def test_a_split_inside_each_class_may_not_be_empty_either(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", "cat/train", "dog/train")
    (root / "cat/val").mkdir()
    (root / "dog/val").mkdir()
    with pytest.raises(DataError, match="'cat/val' must hold labeled pictures for validation"):
        load(root)


def test_pictures_to_classify_in_test_are_still_welcome(tmp_path: Path) -> None:
    dataset = load(plant(tmp_path / "set", "train/cat", "train/dog", "test"))
    assert {problem.kind for problem in dataset.problems} >= {"unlabeled", "carved"}


def test_a_table_whose_validation_rows_are_all_missing_is_an_error(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", "cat", "dog", n=20)
    rows = [f"{label}/{number}.png,{label},train" for label in ("cat", "dog") for number in range(20)]
    for lost in ("cat/gone.png,cat,val", "cat/gone.png,cat,test", "cat/0.png,,val"):
        (root / "t.csv").write_text("\n".join(["path,label,split", *rows, lost]))
        with pytest.raises(DataError, match=r"the rows of split '(val|test)' must name a labeled picture that exists"):
            load(root / "t.csv")
        assert len(load(root / "t.csv", split=False)) == 40
    (root / "t.csv").write_text("\n".join(["path,label,split", *rows, "cat/0.png,,test"]))  # to be classified
    assert len(load(root / "t.csv")) == 40


def test_validation_that_is_taken_out_of_train_is_told(tmp_path: Path) -> None:
    dataset = load(plant(tmp_path / "set", "train/cat", "train/dog", "test/cat", "test/dog"))
    (note,) = (problem for problem in dataset.problems if problem.kind == "carved")
    assert str(note) == f"no validation split is given: {dataset.counts()[:, 1].sum()} pictures of train are set aside for it"


def test_a_pipe_is_not_offered_in_place_of_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "photos")
    assert main(["fit", str(tmp_path / "photos")]) == 1
    told = capsys.readouterr().err
    assert "it is a pipe" in told
    assert "Did you mean" not in told
