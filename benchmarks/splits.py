"""One split for every method: a folder with ``train/ val/ test/`` around class folders of links, a function of the seed.

Data come by name from ``DESCEND_DATA`` (archives are unpacked first) or from a package (``packaged.py``), or as any folder of
class folders, divided here, or of ``train/`` and ``test/`` (or ``val/``, which is the test then), kept as it is.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import DATA, data
from packaged import PACKAGED

VAL_SHARE, TEST_SHARE = 0.15, 0.25


@dataclass(frozen=True)
class Part:
    """How a data set arrives, and what of a given split is used.

    n_train: pictures per class, drawn by the seed. n_test: pictures per class, the same for every seed. None for all.
    """

    archive: str | None = None
    n_train: int | None = None
    n_test: int | None = None


KNOWN: Mapping[str, Part] = {
    "hymenoptera": Part(),
    "sign-digits": Part(),
    "flowers5": Part("flowers5.tar.xz"),
    "cifar10": Part("cifar10.tar.xz", n_train=1000, n_test=200),
}
NAMES = ", ".join([*KNOWN, *PACKAGED])


def source(name: str, work: Path) -> Path:
    """Return the folder of a data set; an archive is unpacked, a package linked, below ``work``, once."""
    if name in PACKAGED and not Path(name).is_dir():
        return packaged(name, work)
    part = KNOWN.get(name, Part())
    if part.archive is None:
        return Path(name).resolve() if Path(name).is_dir() and not (DATA / name).is_dir() else data(name)
    folder = work / "unpacked" / name
    if not folder.is_dir():
        with tarfile.open(data(part.archive)) as file:
            file.extractall(unfinished(folder), filter="data")
        (unfinished(folder) / name).rename(folder)
    return folder


def packaged(name: str, work: Path) -> Path:
    """Return a folder of links to the pictures of a package, made where it is not there yet."""
    folder = work / "packaged" / name
    if not folder.is_dir():
        with making(folder) as begun:
            for label, pictures in PACKAGED[name]().items():
                link(pictures, begun / label)
    return folder


def unfinished(folder: Path) -> Path:
    """Return where a folder is made, so that one that was interrupted is not taken for whole."""
    return folder.with_name(f"{folder.name}.part")


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Give the place where a folder is made anew; it gets its name when the block has ended."""
    begun = unfinished(folder)
    shutil.rmtree(begun, ignore_errors=True)
    yield begun
    begun.rename(folder)


def split(name: str, seed: int, work: Path) -> Path:
    """Return the folder of links of one data set and seed, made where it is not there yet."""
    root = source(name, work)
    target = work / "splits" / f"{'_'.join(root.parts[1:])}-{seed}"  # two sets may share their last name
    if target.is_dir():
        return target
    part, rng, same = KNOWN.get(name, Part()), np.random.default_rng(seed), np.random.default_rng(0)
    given = next((word for word in ("test", "val") if (root / "train").is_dir() and (root / word).is_dir()), None)
    with making(target) as begun:
        for label in sorted(path.name for path in (root / "train" if given else root).iterdir() if path.is_dir()):
            if given:
                parts = {"train": some(root / "train" / label, part.n_train, rng)}
                parts["test"] = some(root / given / label, part.n_test, same)
                if given == "test" and (root / "val").is_dir():
                    parts["val"] = some(root / "val" / label, None, rng)
            else:
                parts = divided(some(root / label, None, rng))
            for word, pictures in parts.items():
                link(pictures, begun / word / label)
    return target


def some(folder: Path, n: int | None, rng: np.random.Generator) -> list[Path]:
    """Return ``n`` pictures of a class, or all, in random order."""
    pictures = sorted(path for path in folder.iterdir() if path.is_file())
    return [pictures[row] for row in rng.permutation(len(pictures))[:n]]


def divided(pictures: list[Path]) -> dict[str, list[Path]]:
    """Divide the pictures of one class 60/15/25."""
    n_test, n_val = round(TEST_SHARE * len(pictures)), round(VAL_SHARE * len(pictures))
    return {"test": pictures[:n_test], "val": pictures[n_test : n_test + n_val], "train": pictures[n_test + n_val :]}


def link(pictures: list[Path], folder: Path) -> None:
    """Make a class folder of links to pictures."""
    folder.mkdir(parents=True)
    for picture in pictures:
        (folder / picture.name).symlink_to(picture.resolve())
