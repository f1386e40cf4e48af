"""What the names of folders say: the split they stand for, whether they only wrap others, whether they stand aside."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from descend.data.manifest import SPLIT_WORDS
from descend.data.places import is_file, is_folder
from descend.data.split import TEST, TRAIN, VAL

_SPLIT_TOKENS = SPLIT_WORDS | {
    "trainset": 0, "traindata": 0, "trainingset": 0, "valset": 1, "validset": 1, "validationset": 1, "devset": 1,
    "testset": 2, "testdata": 2, "testingset": 2, "holdout": 2, "trn": 0, "trains": 0, "trainval": 0, "traindataset": 0,
    "trainimages": 0, "vals": 1, "valids": 1, "validate": 1, "valdata": 1, "valdataset": 1, "valimages": 1, "tst": 2, "tests": 2,
    "testdataset": 2, "testimages": 2,
}  # fmt: skip
_EVALUATIONS = frozenset({"eval", "evaluation"})
_WRAPPERS = frozenset({"image", "images", "img", "imgs", "picture", "pictures", "pics", "photo", "photos", "jpg", "jpeg", "jpegs",
                       "png", "data", "dataset", "datasets", "raw", "all", "files", "jpegimages"})  # fmt: skip
_FILLERS = _WRAPPERS | {"set", "sets", "split", "folder", "dir", "x", "cropped", "resized", "small", "full", "new", "final",
                        "original", "images", "v"}  # fmt: skip
_ASIDE = frozenset({"pred", "preds", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "unsup", "unsupervised",
                    "sample", "samples", "example", "examples", "submission", "doc", "docs", "figure", "figures", "figs",
                    "assets", "annotation", "annotations", "label", "labels", "mask", "masks", "segmentation",
                    "segmentations", "bbox", "meta", "metadata", "thumb", "thumbs", "thumbnails", "logs", "results", "outputs",
                    "models", "checkpoints", "code", "scripts", "notebooks", "parts", "attributes", "gt", "groundtruth",
                    "trimaps"})  # fmt: skip
_THUMBNAILS = frozenset({"thumb", "thumbs", "thumbnail", "thumbnails", "preview", "previews"})
_PARTITIONS = frozenset({"fold", "part", "batch", "split", "set", "chunk", "shard", "subset", "cv", "session", "day", "run",
                         "round", "group", "domain", "site"})  # fmt: skip

_LEFT_OVER = frozenset({"backup", "backups", "bak", "trash", "recycle bin", "tmp", "temp", "venv", "old", "copy"})
_OFTEN_CLASSES = frozenset({"old", "copy", "trash"})  # where nothing beside them is called alike
_CVS = "CVS"  # of that program; in other letters a class


def tokens(name: str) -> list[str]:
    """Return the words of a name in lower case: ``seg_train``, ``segTrain`` and ``seg-train2`` are seg and train."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W\d_]+", parted.casefold())


def is_split_word(name: str) -> bool:
    """Return whether a name is a split's own: ``train``, ``Valid``, ``TEST``."""
    return name.strip().casefold() in SPLIT_WORDS


def split_names(names: Iterable[str]) -> dict[str, int]:
    """Return the names, of folders side by side, that may stand for a split, each with its number.

    A split's own word does (``train``); one among words that say nothing does too (``training_set``, ``test_images``); and so do
    names that differ in such a word only (``seg_train``, ``seg_test``). ``train_station`` alone does not. ``evaluation`` beside
    ``train`` is the test split where none is called so, or else validation where none is.
    """
    names = list(names)
    numbers: dict[str, int] = {}
    others: dict[str, tuple[str, ...]] = {}
    for name in names:
        if is_split_word(name):
            numbers[name] = SPLIT_WORDS[name.strip().casefold()]
            continue
        words = tokens(name)
        splits = {_SPLIT_TOKENS[word] for word in words if word in _SPLIT_TOKENS}
        if len(splits) == 1:
            numbers[name] = splits.pop()
            others[name] = tuple(word for word in words if word not in _SPLIT_TOKENS)
    for name, rest in others.items():
        kin = {numbers[other] for other, words in others.items() if words == rest and other in numbers}
        if not set(rest) <= _FILLERS and len(kin) < 2:
            del numbers[name]
    lacking = [number for number in (TEST, VAL) if number not in numbers.values()]
    evaluations = [name for name in names if name.strip().casefold() in _EVALUATIONS]
    if TRAIN in numbers.values() and len(evaluations) == 1 and lacking:
        numbers[evaluations[0]] = lacking[0]
    return numbers


def holds_closed_split(inside: Iterable[Path]) -> bool:
    """Return whether one of the paths in a folder is called like a split and leads to nothing that can be entered or read."""
    return any(is_split_word(path.name) and not is_file(path) and not is_folder(path) for path in inside)


def is_wrapper(name: str, around: str) -> bool:
    """Return whether a folder only wraps others, by its name or because it repeats that of the folder around it."""
    return name.casefold() == around.casefold() or (set(tokens(name)) <= _WRAPPERS and bool(tokens(name)))


def stands_aside(name: str) -> bool:
    """Return whether a folder's name says that it holds something else: predictions, samples, masks, documents."""
    return bool(_ASIDE & set(tokens(name)))


def left_over(names: Iterable[str]) -> list[str]:
    """Return which names of folders side by side say that what they hold was put away: ``backup``, ``cat_old`` beside ``cat``.

    Some of them may be classes all the same. ``old`` beside ``young`` says nothing, nor does ``trash``, which is one of waste.
    """
    names = list(names)
    words = {name: tokens(name) for name in names}
    found = list[str]()
    for name in names:
        rest = [word for word in words[name] if word not in _LEFT_OVER]
        of_another = rest != words[name] and bool(rest) and any(rest == words[other] for other in names if other != name)
        alone = name == _CVS or name.casefold() in _LEFT_OVER - _OFTEN_CLASSES
        found += [name] * (of_another or alone)
    return found


def holds_thumbnails(name: str) -> bool:
    """Return whether a folder's name says that it holds the pictures around it once more, small."""
    return bool(_THUMBNAILS & set(tokens(name)))


def are_partitions(names: Iterable[str]) -> bool:
    """Return whether names number the parts of one thing: ``fold1``, ``fold2``; ``part_a``, ``part_b``."""
    return all(_PARTITIONS & set(tokens(name)) for name in names)
