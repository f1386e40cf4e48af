"""Layouts of folders as they are met: what is read from each, what is left out, what is refused, and why."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from tests.oracles.data_pictures import encoded, scene

from descend.data import find_pictures, load
from descend.data.dataset import Dataset
from descend.data.folder_names import split_names
from descend.errors import DataError

Tree = dict[str, int]  # folder -> number of pictures directly inside


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


def plant(root: Path, tree: Tree) -> Path:
    """Make a tree of folders, each with pictures that occur nowhere else."""
    number = 0
    for folder, n in tree.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for _ in range(n):
            number += 1
            (root / folder / f"{number}.png").write_bytes(encoded(scene(6, 6, seed=number)))
    return root


def both(*splits: str, classes: str = "cat dog", inside: str = "", n: int = 8) -> Tree:
    """Return a tree of splits, each with every class."""
    return {f"{split}/{inside}{name}": n for split in splits for name in classes.split()}


def shown(dataset: Dataset) -> tuple[list[str], list[int]]:
    return list(dataset.classes), list(dataset.summary()["splits"].values())


CAT_DOG = ["cat", "dog"]
# name -> (tree, classes, pictures in train, val and test)
READ: dict[str, tuple[Tree, list[str], list[int]]] = {
    # plain conventions
    "ImageFolder": ({"cat": 10, "dog": 10}, CAT_DOG, [14, 3, 3]),
    "torchvision train and val": (both("train", "val"), CAT_DOG, [16, 16, 0]),
    "Keras train, validation, test": (both("train", "validation", "test"), CAT_DOG, [16, 16, 16]),
    "Training and Testing": (both("Training", "Testing"), CAT_DOG, [14, 2, 16]),
    "valid": (both("train", "valid", "test"), CAT_DOG, [16, 16, 16]),
    "dev": (both("train", "dev"), CAT_DOG, [16, 16, 0]),
    "upper and lower case": (both("TRAIN", "Val", "tEST"), CAT_DOG, [16, 16, 16]),
    "training_set and test_set": (both("training_set", "test_set"), CAT_DOG, [14, 2, 16]),
    "train_images and val-images": (both("train_images", "val-images"), CAT_DOG, [16, 16, 0]),
    "trainset, valset and testset": (both("trainset", "valset", "testset"), CAT_DOG, [16, 16, 16]),
    "train2017 and val2017": (both("train2017", "val2017"), CAT_DOG, [16, 16, 0]),
    "only train": (both("train", n=10), CAT_DOG, [17, 3, 0]),
    "TRAIN, VALIDATE and TEST": (both("TRAIN", "VALIDATE", "TEST"), CAT_DOG, [16, 16, 16]),
    "traindata, valdata and testdata": (both("traindata", "valdata", "testdata"), CAT_DOG, [16, 16, 16]),
    "trainval and test": (both("trainval", "test"), CAT_DOG, [14, 2, 16]),
    # wrapped
    "one folder around classes": ({"images/cat": 10, "images/dog": 10}, CAT_DOG, [14, 3, 3]),
    "one folder around splits": (both("pets/train", "pets/val"), CAT_DOG, [16, 16, 0]),
    "a folder of the same name twice": (both("chest/chest/train", "chest/chest/val"), CAT_DOG, [16, 16, 0]),
    "seg_train/seg_train with seg_pred": (
        {**both("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred": 9}, CAT_DOG, [14, 2, 16]),
    "images inside each split": (both("train", "val", inside="images/"), CAT_DOG, [16, 16, 0]),
    "images inside each class": ({"train/cat/images": 8, "train/dog/images": 8, **both("val")}, CAT_DOG, [16, 16, 0]),
    "images beside annotations": ({"Images/cat": 10, "Images/dog": 10, "Annotation/x": 0}, CAT_DOG, [14, 3, 3]),
    "images beside masks of the same names": (
        {"images/cat": 10, "images/dog": 10, "masks/cat": 10, "masks/dog": 10}, CAT_DOG, [14, 3, 3]),
    "images and masks inside each class": (
        {"cat/images": 10, "cat/masks": 10, "dog/images": 10, "dog/masks": 10}, CAT_DOG, [14, 3, 3]),
    "a copy of the whole beside the splits": (
        {**both("train", "val", "test"), **both("chest/train", "chest/val")}, CAT_DOG, [16, 16, 16]),
    "documents beside one folder around": ({"my pets/cat": 30, "my pets/dog": 30, "docs": 2}, CAT_DOG, [42, 9, 9]),
    # unlabeled and loose pictures
    "a flat test folder": ({**both("train"), "test": 12}, CAT_DOG, [14, 2, 0]),
    "a flat test folder, val given": ({**both("train", "val"), "test": 40}, CAT_DOG, [16, 16, 0]),
    "a flat test folder inside images": ({**both("train"), "test/images": 12}, CAT_DOG, [14, 2, 0]),
    "test pictures in a folder for the loader": ({**both("train"), "test/unknown": 12}, CAT_DOG, [14, 2, 0]),
    "test1 of a competition": ({**both("train"), "test1": 12}, CAT_DOG, [14, 2, 0]),
    "asl_alphabet_train with a flat asl_alphabet_test": (
        {**both("asl_alphabet_train/asl_alphabet_train"), "asl_alphabet_test/asl_alphabet_test": 9}, CAT_DOG, [14, 2, 0]),
    "test_multiple_fruits beside Training and Test": (
        {**both("Training", "Test"), "test-multiple_fruits": 5}, CAT_DOG, [14, 2, 16]),
    "one loose picture in val": ({**both("train", "val"), "val": 1}, CAT_DOG, [16, 16, 0]),
    "loose pictures everywhere": ({"": 2, **both("train", "val"), "train": 1, "val": 2}, CAT_DOG, [16, 16, 0]),
    "predictions beside": ({**both("train", "test"), "predictions": 30}, CAT_DOG, [14, 2, 16]),
    "a few samples beside train": ({**both("train", n=30), "more": 3}, CAT_DOG, [51, 9, 0]),
    # the split inside the classes, and around
    "cat/train and cat/test": ({f"{c}/{s}": 8 for c in CAT_DOG for s in ("train", "test")}, CAT_DOG, [14, 2, 16]),
    "class folders beside a test folder of the same classes": ({"cat": 8, "dog": 8, **both("test")}, CAT_DOG, [14, 2, 16]),
    "magnifications of each class in splits": (
        {f"{s}/{c}/{x}": 4 for s in ("train", "val") for c in CAT_DOG for x in ("40X", "100X")}, CAT_DOG, [16, 16, 0]),
    "subjects of each digit in splits": (
        {f"{s}/{c}/{x}": 2 for s in ("train", "val") for c in "0123" for x in "123"}, [*"0123"], [24, 24, 0]),
    "pictures and subjects of each digit in splits": (
        {f"{s}/{c}{x}": 2 for s in ("train", "val") for c in "0123" for x in ("", "/1", "/2", "/3")}, [*"0123"], [32, 32, 0]),
    "pictures and subjects of each digit": (
        {f"{c}{x}": 4 for c in "123" for x in ("", "/1", "/2", "/3")}, [*"123"], [34, 7, 7]),
    "magnifications of each class beside a test folder": (
        {**{f"{c}/{x}": 4 for c in CAT_DOG for x in ("40X", "100X")}, **both("test")}, CAT_DOG, [14, 2, 16]),
    "what is shown and what it was taken for": (
        {f"train/{c}/{x}": 2 for c in ("cat", "cow", "dog") for x in ("cat", "cow", "dog")}, ["cat", "cow", "dog"], [15, 3, 0]),
    # classes whose names look like splits
    "vehicles": ({"car": 10, "train": 10, "val": 10}, ["car", "train", "val"], [20, 5, 5]),
    "train and plane, both flat": ({"train": 10, "plane": 10}, ["plane", "train"], [14, 3, 3]),
    "train and plane with subfolders": (
        {"train/steam": 5, "train/electric": 5, "plane/jet": 5, "plane/prop": 5}, ["plane", "train"], [14, 3, 3]),
    "train and plane with one subfolder each": ({"train/images": 10, "plane/images": 10}, ["plane", "train"], [14, 3, 3]),
    "train_station and test_tube": ({"train_station": 10, "test_tube": 10}, ["test_tube", "train_station"], [14, 3, 3]),
    "recycled and __background__": (
        {"recycled": 10, "trash": 10, "__background__": 10}, ["__background__", "recycled", "trash"], [20, 5, 5]),
    "thumbnails inside classes": (
        {"cat": 10, "dog": 10, "cat/thumbnails": 10, "dog/Thumbs": 10, "dog/.thumbnails": 5}, CAT_DOG, [14, 3, 3]),
    "what systems leave": (
        {"cat": 10, "dog": 10, "found.001": 9, "@tmp": 9, "RECYCLER": 9, "__MACOSX": 9, "$Extend": 0}, CAT_DOG, [14, 3, 3]),
    "mask and no mask": ({"mask": 10, "no mask": 10}, ["mask", "no mask"], [14, 3, 3]),
    "deep folders of different names": (
        {"cat/2019/may": 5, "cat/2020": 5, "dog/box": 5, "dog": 5}, CAT_DOG, [14, 3, 3]),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_layouts_that_are_read(name: str, tmp_path: Path) -> None:
    tree, classes, splits = READ[name]
    assert shown(load(plant(tmp_path / "set", tree))) == (classes, splits)


TWO_WAYS = "can be read in two ways: "
# name -> (tree, words of the error)
REFUSED: dict[str, tuple[Tree, str]] = {
    "train and extra with the same classes": (both("train", "extra"), TWO_WAYS + "splits 'train' with classes 'cat', 'dog'; or"),
    "train with classes beside a large flat folder": ({**both("train"), "plane": 16}, TWO_WAYS + ".*classes 'plane', 'train'"),
    "train and test of different classes": ({"train/steam": 8, "train/electric": 8, "test/tube": 8, "test/drive": 8}, TWO_WAYS),
    "cat and dog beside a flat test": ({"cat": 10, "dog": 10, "test": 10}, TWO_WAYS + "splits 'test' without labels"),
    "folds": (both("fold1", "fold2"), TWO_WAYS + "classes 'fold1', 'fold2'; or classes 'cat', 'dog', in each"),
    "domains": (both("photo", "sketch"), TWO_WAYS),
    "flat train and test": ({"train": 10, "test": 10}, r"class folders, those in 'test', 'train' lie directly there.*predict"),
    "flat train": ({"train": 10}, "class folders, those in 'train' lie directly there"),
    "flat train beside labeled test": ({"train": 10, **both("test")}, "'train' must hold class folders"),
    "YOLO": ({"train/images": 10, "train/labels": 0, "val/images": 4}, "class folders"),
    "empty val": ({**both("train"), "val": 0}, "'val' must hold labeled pictures for validation .it holds no picture.*remove"),
    "val of empty classes": ({**both("train"), "val/cat": 0, "val/dog": 0}, "'val' must hold labeled pictures"),
    "flat val": ({**both("train"), "val/images": 9}, "'val' must hold labeled pictures for validation .none of its folders"),
    "only test": (both("test"), "'train' beside 'test'"),
    "one class": ({"only": 10}, "at least two classes, got 'only'"),
    "one class in images": ({"images/only": 10}, "at least two classes, got 'only'"),
    "flat": ({"": 10}, "10 lie directly in it"),
    "folds with a split inside": (
        {f"fold{k}/{s}/{c}": 4 for k in "01" for s in ("train", "test") for c in CAT_DOG},
        TWO_WAYS + "classes 'fold0', 'fold1'; or classes 'cat', 'dog', in the splits of each",
    ),
    "a split inside some classes": (
        {**{f"{c}/{s}": 8 for c in CAT_DOG for s in ("train", "test")}, "bird": 8},
        "all of them must, .*got 'bird'. Move",
    ),
    "pictures beside a split inside a class": (
        {**{f"{c}/{s}": 8 for c in CAT_DOG for s in ("train", "test")}, "cat": 1},
        "and nothing else, got 'cat/33.png'",
    ),
    "a misspelled validation": (
        both("train", "vaildation", "test"),
        "must be called like a split, got 'vaildation'. .*'validation'",
    ),
    "a further set beside the splits": (both("train", "test", "augmented"), "must be called like a split, got 'augmented'"),
    "Pascal VOC": ({"JPEGImages": 10, "SegmentationClass": 10, "ImageSets": 0}, "those in 'JPEGImages' lie directly there"),
    "images beside ground truth": ({"imgs": 10, "gt": 10}, "those in 'imgs' lie directly there"),
    "domains with images inside": (
        {f"{domain}/images/{c}": 4 for domain in ("amazon", "dslr") for c in CAT_DOG},
        TWO_WAYS + ".*'cat', 'dog', in each",
    ),
    "a copy of all classes beside them": (
        {"yes": 8, "no": 8, "brain/yes": 8, "brain/no": 8},
        "called like the classes beside it: 'no', 'yes', got 'brain'. Move",
    ),
    "a copy of all classes in train": (
        {**both("train", "test"), "train/all/cat": 8, "train/all/dog": 8},
        "called like the classes beside it: 'cat', 'dog', got 'train/all'. Move",
    ),
    "train in train": ({**both("train", "test"), "train/train/cat": 8, "train/train/dog": 8}, "got 'train/train'. Move"),
    "val in train": ({**both("train", "test"), "train/val/cat": 8, "train/val/dog": 8}, "got 'train/val'. Move"),
    "a copy of all classes beside those of train": (
        {"cat": 8, "dog": 8, "all/cat": 8, "all/dog": 8, **both("test")},
        "'cat', 'dog', got 'all'. Move",
    ),
    "a split inside some classes of train": (
        {**both("train", "test"), "train/cow/train": 8, "train/cow/test": 8},
        "all of them must, .*got 'train/cat, train/dog'",
    ),
    "a copy of all digits in train": (
        {**both("train", "test", classes="0 1 2"), "train/all/0": 4, "train/all/1": 4, "train/all/2": 4},
        "called like the classes beside it: '0', '1', '2', got 'train/all'. Move",
    ),
    "an empty class": ({"cat": 10, "dog": 10, "cow": 0}, "'cow' holds none"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layouts_that_are_refused(name: str, tmp_path: Path) -> None:
    tree, words = REFUSED[name]
    with pytest.raises(DataError, match=words):
        load(plant(tmp_path / "set", tree))


def test_a_class_that_is_given_for_the_whole_is_told_of_the_classes_beside_it(tmp_path: Path) -> None:
    photos = plant(tmp_path / "photos", {"cat": 8, "dog": 8, "notes": 0})
    with pytest.raises(DataError, match=r"8 lie directly in it") as refused:
        load(photos / "cat")
    assert f"If this folder and 'dog' beside it are the classes, give {photos}." in str(refused.value)


# name -> (tree, classes, pictures in train, val and test)
EVALUATED: dict[str, tuple[Tree, list[str], list[int]]] = {
    "only test": (both("test"), CAT_DOG, [0, 0, 16]),
    "only val": (both("val"), CAT_DOG, [0, 16, 0]),
    "val and test": (both("val", "test"), CAT_DOG, [0, 16, 16]),
    "test, wrapped": (both("pets/test_set/test_set"), CAT_DOG, [0, 0, 16]),
    "one class": ({"cat": 5}, ["cat"], [0, 0, 5]),
    "one class with subfolders": ({"cat/2019": 5, "cat/2020": 5}, ["cat"], [0, 0, 10]),
    "images around one class": ({"images/cat": 5}, ["cat"], [0, 0, 5]),
    "flat val beside test": ({**both("test"), "val": 5}, CAT_DOG, [0, 0, 16]),
    "flat train beside test": ({**both("test"), "train": 50}, CAT_DOG, [0, 0, 16]),
    "train and a flat test": ({**both("train"), "test": 12}, CAT_DOG, [16, 0, 0]),
    "magnifications of each class": ({f"{c}/{x}": 4 for c in CAT_DOG for x in ("40X", "100X")}, CAT_DOG, [0, 0, 16]),
    "a copy of all classes beside them": (
        {"yes": 8, "no": 8, "brain/yes": 8, "brain/no": 8},
        ["brain", "no", "yes"],
        [0, 0, 32],
    ),
    "a split inside some classes": ({"cat/train": 4, "cat/test": 4, "dog": 4}, CAT_DOG, [0, 0, 12]),
}


@pytest.mark.parametrize("name", EVALUATED)
def test_layouts_to_measure_on(name: str, tmp_path: Path) -> None:
    tree, classes, splits = EVALUATED[name]
    assert shown(load(plant(tmp_path / "set", tree), split=False)) == (classes, splits)


def test_unlabelled_pictures_to_measure_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"those in 'test' lie directly there.*descend predict RUN"):
        load(plant(tmp_path / "set", {"test": 12}), split=False)


def test_classes_of_two_splits_are_compared_as_labels_are(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    tree = {f"train/{composed}": 8, "train/tea": 8, f"val/{decomposed}": 4, "val/tea ": 4}
    assert shown(load(plant(tmp_path / "set", tree))) == ([composed, "tea"], [16, 8, 0])


def test_places_that_no_file_system_could_hold(tmp_path: Path) -> None:
    for place in ("x" * 300, str(tmp_path / ("y" * 300) / "z"), "zero\0byte"):
        with pytest.raises(DataError, match="no such folder, table or built-in set"):
            load(place)
        assert find_pictures([place]).paths == [place]  # decoding it names the reason


def _problems(dataset: Dataset) -> dict[str, str]:
    return {problem.kind: str(problem) for problem in dataset.problems}


def test_what_is_left_out_is_counted_named_and_pointed_to_predict(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", {**both("train", "val"), "val": 1, "test": 12, "seg_pred/x": 3})
    problems = _problems(load(root))
    assert problems["unlabeled"] == (
        f"12 pictures in 'test' lie in no class folder and are left out; to classify them: descend predict RUN {root / 'test'}"
    )
    assert problems["ignored"].startswith("2 files or folders are no pictures in a class folder and were ignored: val/")
    assert "seg_pred/ (3 pictures)" in problems["ignored"]


def test_a_decision_against_a_name_is_told(tmp_path: Path) -> None:
    assert "'train' are read as classes" in _problems(load(plant(tmp_path / "a", {"train": 10, "plane": 10})))["layout"]
    tree = {"train/steam": 5, "train/electric": 5, "plane/jet": 5, "plane/prop": 5}
    assert "'train' is read as a class" in _problems(load(plant(tmp_path / "b", tree)))["layout"]
    tree = {"cat": 8, "dog": 8, **both("test")}
    assert "beside 'test' are read as train" in _problems(load(plant(tmp_path / "c", tree)))["layout"]


def test_system_folders_are_skipped_by_name(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", {"cat": 8, "dog": 8})
    for name in ("$RECYCLE.BIN", "lost+found", "System Volume Information", ".Trash-1000", "__MACOSX", "#recycle", ".git",
                 "@Recently-Snapshot", "~snapshot", "cat Previews.lrdata", "Photos.photoslibrary", "_gsdata_"):  # fmt: skip
        (root / name).mkdir()
        (root / name / "old.png").write_bytes(encoded(scene(5, 5, seed=500)))
    for kind in ("cat", "dog"):
        for i in range(4):
            (root / kind / "@eaDir" / f"{i}.png").mkdir(parents=True)
            (root / kind / "@eaDir" / f"{i}.png" / "SYNOPHOTO_THUMB_SM.jpg").write_bytes(
                encoded(scene(4, 4, seed=600 + i), "jpeg")
            )
        (root / kind / ".ipynb_checkpoints").mkdir()
        (root / kind / ".ipynb_checkpoints" / "0-checkpoint.png").write_bytes(encoded(scene(5, 5, seed=501)))
        (root / kind / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        (root / kind / "._1.png").write_bytes(b"\0\x05\x16\x07")
    dataset = load(root)
    assert len(dataset) == 16
    assert dataset.classes == ("cat", "dog")
    assert "cat/@eaDir/" in next(problem.examples for problem in dataset.problems if problem.kind == "ignored")


def test_masks_beside_their_pictures_are_told(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", {"benign": 8, "normal": 8})
    for name in ("benign (1).png", "benign (1)_mask.png", "benign (1)_mask_1.png", "gas_mask.png", "mask.png"):
        (root / "benign" / name).write_bytes(encoded(scene(6, 6, seed=len(name))))
    (root / "normal" / "gas.png").write_bytes(encoded(scene(6, 6, seed=77)))
    assert _problems(load(root))["masks"] == (
        "2 pictures are called like the masks of others beside them, and count as pictures; move masks away: "
        "benign/benign (1)_mask.png, benign/benign (1)_mask_1.png"
    )


def test_pictures_without_a_known_ending_are_recognized_by_content(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", {"cat": 8, "dog": 8})
    (root / "cat/scan0001").write_bytes(encoded(scene(7, 7, seed=900)))
    (root / "cat/photo.jpg_large").write_bytes(encoded(scene(7, 7, seed=901), "jpeg"))
    (root / "cat/1.png~").write_bytes(encoded(scene(7, 7, seed=902)))  # an editor's copy
    (root / "cat/1.jpg_original").write_bytes(encoded(scene(7, 7, seed=903), "jpeg"))
    (root / "cat/raw.NEF").write_bytes(encoded(scene(7, 7, seed=904), "tiff"))  # to Pillow, a TIFF of a thumbnail
    (root / "cat/BMW.txt").write_text("BM is how a bitmap begins", encoding="utf-8")
    dataset = load(root)
    names = set(dataset.names)
    assert {"cat/scan0001", "cat/photo.jpg_large"} <= names
    assert len(dataset) == 18


def test_links_pipes_and_locked_folders(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", {"cat": 8, "dog": 8})
    os.mkfifo(root / "cat/pipe.png")
    (root / "cat/loop.png").symlink_to("loop.png")
    (root / "cat/gone.png").symlink_to(root / "nothing.png")
    (root / "cat/round").symlink_to(root, target_is_directory=True)
    dataset = load(root)
    assert len(dataset) == 16
    (ignored,) = (problem for problem in dataset.problems if problem.kind == "ignored")
    assert set(ignored.examples) == {
        "cat/pipe.png (a pipe, a socket or a device)",
        "cat/loop.png (a broken link)",
        "cat/gone.png (a broken link)",
    }


def test_links_that_multiply_are_followed_once_each(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", {"cat": 8, "dog": 8})
    deep = root / "cat/a/b/c/d"
    deep.mkdir(parents=True)
    for i in range(12):  # each sees all others, at every depth: 12! ways
        (deep / f"{i}").mkdir()
        for j in range(12):
            (deep / f"{i}" / f"to{j}").symlink_to(deep / f"{j}", target_is_directory=True)
    assert len(load(root)) == 16


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train", "test"], {"train": 0, "test": 2}),
        (["seg_train", "seg_test", "seg_pred"], {"seg_train": 0, "seg_test": 2}),
        (["birdsTrain", "birdsVal"], {"birdsTrain": 0, "birdsVal": 1}),
        (["bullet_train", "plane"], {}),
        (["Train Images", "x_test"], {"Train Images": 0, "x_test": 2}),
        (["crash test", "test drive"], {}),
        (["train_val"], {}),  # says two things
        (["latest", "constrained"], {}),
    ],
)
def test_names_of_splits(names: list[str], splits: dict[str, int]) -> None:
    assert split_names(names) == splits


def test_splits_that_spell_a_class_in_other_capitals_are_told_which(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", {**both("train"), **both("val", classes="Cat dOg")})
    (root / "train/dog").rename(root / "train/Dog")
    with pytest.raises(DataError, match=r"called the same in every split.*got 'Cat and cat'.*Rename"):
        load(root)


@pytest.mark.parametrize("folders", [{"images": 8}, {"train": 8, "test": 4}])
def test_a_table_beside_pictures_without_class_folders_is_pointed_to(tmp_path: Path, folders: Tree) -> None:
    root = plant(tmp_path / "set", folders)
    (root / "labels.csv").write_text("path,label\n")
    with pytest.raises(DataError) as error:
        load(root)
    assert f"give it instead of the folder: {root / 'labels.csv'}" in str(error.value)


# files -> what the error says of them, beside the pictures of train/ and val/
FOREIGN: dict[str, str] = {
    "labels/train/1.txt": "1 file looks like annotations of YOLO: boxes",
    "train/labels/1.txt": "1 file looks like annotations of YOLO: boxes",
    "annotations/instances_train2017.json": "1 file looks like annotations of COCO: boxes",
    "train/_annotations.coco.json": "1 file looks like annotations of COCO: boxes",
    "Annotations/1.xml": "1 file looks like annotations of Pascal VOC: boxes",
    "val/val_annotations.txt": "1 file may list the labels of pictures: write them as a table path,label",
    "imagelabels.mat": "1 file may list the labels of pictures",
    "data/deep/labels.csv": "1 table lies beside the pictures",
    "bird.7z": "1 archive lies in the folder and is not opened; unpack it",
    "train.tfrecord": "1 file of another library is not read; load its pictures in Python",
    "t10k-images-idx3-ubyte.gz": "1 file of another library",
}  # fmt: skip


@pytest.mark.parametrize("file", FOREIGN)
@pytest.mark.parametrize("tree", [{"train": 8, "val": 8}, {"": 0}], ids=["flat splits", "nothing else"])
def test_what_may_hold_labels_or_pictures_is_named_where_a_folder_cannot_be_read(file: str, tree: Tree, tmp_path: Path) -> None:
    root = plant(tmp_path / "set", tree)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_bytes(b"no picture")
    with pytest.raises(DataError) as error:
        load(root)
    assert FOREIGN[file] in str(error.value)
    assert str(root / file) in str(error.value)
    assert "the folder is empty" not in str(error.value)


def test_an_archive_beside_class_folders_is_told(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", {"cat": 8, "dog": 8})
    (root / "bird.7z").write_bytes(b"7z")
    assert _problems(load(root)) == {
        "archive": f"1 archive lies in the folder and is not opened; unpack it, or give it alone: {root / 'bird.7z'}"
    }


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"siteA/cat": 8, "siteA/dog": 8, "siteB/cat": 8, "siteB/dog": 8, "siteB/bird": 8}, "lie in each of them: 'cat', 'dog'"),
        (
            {f"{split}/{site}/{c}": 4 for split in ("train", "test") for site in ("x", "y") for c in CAT_DOG},
            "'x', 'y' are read as classes; folders of the same names lie in each of them: 'cat', 'dog'",
        ),
        ({"fold_0": 8, "fold_1": 8}, "'fold_0', 'fold_1' are read as classes, and are called like the parts of one whole"),
        ({"cat": 8, "dog": 8, "samples": 8}, "by their names 'samples' may hold something else"),
        ({"raw": 8, "processed": 8}, "'raw' may only be what lies around pictures"),
        (both("train", "test", classes="images masks"), "'images', 'masks' are read as classes; 'images' may only be"),
        ({"cat": 8, "dog": 8, "dog/cat": 1, "cow": 8}, "'dog/cat' is called like a class and read as part of another, with 1 p"),
        ({**both("train", "val"), "train/dog/x/cat": 3}, "'train/dog/x/cat' is called like a class and read as part of another"),
        ({"cat": 8, "dog": 8, "dog/cat": 2, **both("test")}, "'dog/cat' is called like a class"),
        ({"cat": 8, "dog": 8, "Recycle Bin": 8}, "by their names 'Recycle Bin' may hold something else"),
        ({"cat": 8, "dog": 8, "CVS": 8, "venv": 8}, "by their names 'CVS', 'venv' may hold something else"),
        ({"cat": 8, "dog": 8, "Backup": 8}, "by their names 'Backup' may hold something else"),
        ({"cat": 8, "dog": 8, "cat_old": 8, "dog (copy)": 8}, "by their names 'cat_old', 'dog (copy)' may hold something else"),
    ],
)
def test_a_reading_that_is_in_doubt_is_told(tree: Tree, words: str, tmp_path: Path) -> None:
    assert words in _problems(load(plant(tmp_path / "set", tree)))["layout"]


@pytest.mark.parametrize("name", ["subjects of each digit in splits", "pictures and subjects of each digit"])
def test_numbers_inside_numbered_classes_are_in_no_doubt(name: str, tmp_path: Path) -> None:
    assert "layout" not in _problems(load(plant(tmp_path / "set", READ[name][0])))


@pytest.mark.parametrize(
    "classes", ["old young", "copy original", "cvs walgreens", "old_cat new_dog", "bird_cage bird", "glass paper trash"]
)
def test_names_that_only_sound_put_away_are_in_no_doubt(classes: str, tmp_path: Path) -> None:
    assert "layout" not in _problems(load(plant(tmp_path / "set", dict.fromkeys(classes.split(), 8))))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["training", "validation", "evaluation"], {"training": 0, "validation": 1, "evaluation": 2}),  # Food-11
        (["train", "eval"], {"train": 0, "eval": 2}),
        (["train", "eval", "test"], {"train": 0, "test": 2, "eval": 1}),
        (["train", "val", "test", "eval"], {"train": 0, "val": 1, "test": 2}),
        (["eval", "cat"], {}),
    ],
)
def test_evaluation_takes_the_place_that_is_free(names: list[str], expected: dict[str, int]) -> None:
    assert split_names(names) == expected


@pytest.mark.parametrize("name", ["Unlabeled", "nan", "null"])
def test_a_folder_that_stands_for_no_label_is_not_told_to_be_a_class(name: str, tmp_path: Path) -> None:
    found = load(plant(tmp_path, {"cat": 8, "dog": 8, name: 8}))
    assert list(found.classes) == CAT_DOG
    told = [str(problem) for problem in found.problems]
    assert not [text for text in told if "read as classes" in text]
    assert [text for text in told if "8 pictures lie in a folder called" in text]
