"""What a cache at an address saves the second machine, and costs the first, in processor seconds of whole commands.

Claims: a run that finds features and pixels there computes none and is the run without them, byte for byte; leaving them there
costs the first machine next to nothing. The place is a folder (``file://``), so the time of a network is not in it.

    python benchmarks/shared_cache.py
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from descend.shared_cache import VARIABLE
from harness import data, fresh_cache, save, timed

COMMAND = [sys.executable, "-m", "descend", "fit", str(data("hymenoptera")), "--transfer", "features", "--views", "2"]
SETTINGS = ["--augment", "flip", "random_resized_crop", "--engine", "openvino", "--threads", "1"]
COMPARED = ("model.safetensors", "predictions.csv")
ROUNDS = 3


def run(root: Path, name: str, share: Path | None) -> tuple[float, dict[str, bytes]]:
    """Train with an empty cache; return processor seconds and what came of it."""
    env = fresh_cache(root / name / "cache") | ({VARIABLE: f"file://{share}"} if share else {})
    _, processor_s = timed([*COMMAND, *SETTINGS, "--out", str(root / name / "run")], env=env)
    return processor_s, {file: (root / name / "run" / file).read_bytes() for file in COMPARED}


def main() -> None:
    """Train in all ways in turn, and write what came of it."""
    os.environ.pop(VARIABLE, None)
    took: dict[str, list[float]] = {"alone": [], "first": [], "second": []}
    differ, n_bytes = set[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            root = Path(folder) / str(number)
            share = root / "share"
            expected: dict[str, bytes] | None = None
            for name, place in {"alone": None, "first": share, "second": share}.items():
                seconds, files = run(root, name, place)
                took[name].append(round(seconds, 2))
                expected = expected or files
                differ |= {f"{name}: {file}" for file in COMPARED if files[file] != expected[file]}
            n_bytes = sum(path.stat().st_size for path in share.rglob("*") if path.is_file())
    result = {"processor_s": took, "files that differ": sorted(differ), "bytes there": n_bytes}
    save("shared_cache", "a run that finds features and pixels at an address is the one that computes them", result)


if __name__ == "__main__":
    main()
