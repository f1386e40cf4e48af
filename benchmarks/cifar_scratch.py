"""Training from scratch on a sixth of CIFAR-10: the first 1,000 pictures by name of each train class, judged on all of test.

    python benchmarks/cifar_scratch.py [--keep RUN]

No claim of a figure: it shows that the mode works on real pictures, how long it takes, and leaves a report with its curves.
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
from pathlib import Path

from descend import api
from descend.cli.progress import Terminal
from harness import data, save

PER_CLASS = 1000


def unpack(archive: Path, root: Path) -> Path:
    """Unpack the first ``PER_CLASS`` pictures by name of each train class, and all of test."""
    with tarfile.open(archive) as file:
        names = sorted(member.name for member in file.getmembers() if member.isfile())
        taken, count = set(), dict[str, int]()
        for name in names:
            _, split, label, _ = name.split("/")
            count[label] = count.get(label, 0) + (split == "train")
            if split == "test" or count[label] <= PER_CLASS:
                taken.add(name)
        file.extractall(root, members=[m for m in file.getmembers() if m.name in taken], filter="data")
    return root / "cifar10"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=Path, help="leave the run folder here")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as temporary:
        root = unpack(data("cifar10.tar.xz"), Path(temporary))
        run = api.fit(root, transfer="scratch", out=keep or Path(temporary) / "run", progress=Terminal())
        note = run.record
        result = {name: getattr(note, name) for name in ("test", "val", "chosen", "wall_s", "images_per_s", "estimate_s", "plan")}
        save("cifar_scratch", "scratch mode trains on real pictures of 32 px; no figure is claimed", result)


if __name__ == "__main__":
    main()
