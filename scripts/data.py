"""Fetch the sets of pictures that pages, benchmarks and tests use, each from the place of those who made it.

    scripts/data                          # what there is, and where from
    scripts/data hymenoptera sign-digits  # into DESCEND_DATA, or --to FOLDER

A set is fetched once, unpacked as ``descend fit ADDRESS`` would, counted, and appears as a whole or not at all.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from descend.data.archives import unpacked
from descend.errors import DescendError
from descend.files import CacheFolder

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_PARTS = {"train": [f"data_batch_{n}.bin" for n in range(1, 6)], "test": ["test_batch.bin"]}
CIFAR_RECORD = 1 + 3 * 32 * 32  # bytes: the class, then the red, the green and the blue plane
ENDINGS = {".jpg", ".jpeg", ".png", ".gif"}


def as_they_lie(held: Path, folder: Path) -> None:
    """Copy a folder of class folders."""
    shutil.copytree(held, folder)


def from_cifar(held: Path, folder: Path) -> None:
    """Write CIFAR's binary batches as PNG files: ``train/cat/00017.png``, numbered in the order of the batches."""
    for part, batches in CIFAR_PARTS.items():
        records = np.concatenate([np.fromfile(held / name, np.uint8).reshape(-1, CIFAR_RECORD) for name in batches])
        for name in CIFAR_CLASSES:
            (folder / part / name).mkdir(parents=True)
        for number, record in enumerate(records):
            pixels = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / part / CIFAR_CLASSES[record[0]] / f"{number:05}.png")


@dataclass(frozen=True)
class Source:
    """Where a set comes from. inside: the folder of the archive that holds it. n: how many pictures it must have."""

    address: str
    inside: str
    n: int
    what: str
    write: Callable[[Path, Path], None] = as_they_lie


SOURCES = {
    "hymenoptera": Source(
        "https://download.pytorch.org/tutorial/hymenoptera_data.zip", "hymenoptera_data", 398,
        "photographs of ants and bees from ImageNet, of PyTorch's tutorial on transfer learning",
    ),
    "sign-digits": Source(
        "https://github.com/ardamavi/Sign-Language-Digits-Dataset/archive/refs/heads/master.zip",
        "Sign-Language-Digits-Dataset-master/Dataset", 2062, "hands that show the digits 0 to 9, by Arda Mavi and his school",
    ),
    "cifar10": Source(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "cifar-10-batches-bin", 60_000,
        "CIFAR-10, by Alex Krizhevsky, as PNG files", from_cifar,
    ),
}  # fmt: skip


def fetch(source: Source, folder: Path, tell: Callable[[str], None] = print) -> None:
    """Make ``folder`` of a source. Raises OSError, DescendError, or SystemExit where other pictures came than should."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as place:
        archive = Path(place, source.address.rsplit("/", 1)[1])
        tell(f"fetching {source.address}")
        with urllib.request.urlopen(source.address, timeout=60) as answer, archive.open("wb") as file:
            shutil.copyfileobj(answer, file)
        whole = Path(place, folder.name)
        source.write(unpacked(archive, CacheFolder(Path(place, "cache"))) / source.inside, whole)
        n = sum(path.suffix.lower() in ENDINGS for path in whole.rglob("*"))
        if n != source.n:
            raise SystemExit(f"{folder.name}: must have {source.n} pictures, got {n} from {source.address}: it has changed there")
        whole.replace(folder)
    tell(f"{folder}: {n} pictures")


def main(argv: list[str] | None = None) -> int:
    """Fetch the sets that are named, or list them. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SOURCES, []], metavar="NAME", help="none: list what there is")
    parser.add_argument("--to", type=Path, default=Path(os.environ.get("DESCEND_DATA", "../shared/data")), metavar="FOLDER",
                        help="default: DESCEND_DATA, else ../shared/data")  # fmt: skip
    options = parser.parse_args(argv)
    for name, source in SOURCES.items() if not options.names else ():
        print(f"{name:<12} {source.n:>6,} pictures: {source.what}\n{'':<12} {source.address}")
    for name in options.names:
        folder = options.to / name
        if folder.exists():
            print(f"{folder}: is there")
            continue
        try:
            fetch(SOURCES[name], folder)
        except (OSError, DescendError) as error:
            print(f"{name}: cannot be fetched from {SOURCES[name].address} ({error})", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
