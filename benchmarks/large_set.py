"""200,000 pictures from the first look to the last answer: as a folder of files, and as the same pictures in tar shards.

    python benchmarks/large_set.py --n 200000

Claim: as shards, a large set needs no higher peak of private memory than as a folder (within a tenth; that of training), nothing
of it is unpacked, and few files are open at once. The pictures are generated: noise of 24 px in one of ten colors, as JPEG;
below 32 px no near copies are sought. Steps, each in a process of its own: ``look`` (``descend.data.load`` with an empty cache),
``again`` (the same once more), ``fit`` (scratch, ``smallcnn(width=4)``, one epoch, with its judging and its report) and
``predict`` (every picture, into a CSV file).

Wall and processor times are of the whole process, imports included; the machine may be busy, so compare processor times.
``private`` is the peak of Linux's private memory (clean and dirty), ``files`` that of open descriptors, both sampled twice a
second. ``cache`` is what lies in the cache after all steps, by kind, ``data`` what the pictures take as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness import fresh_cache, go_on
from memory_flat import MIB, private_bytes

SIDE, N_CLASSES, PER_SHARD = 24, 10, 10_000
LOOK = "import sys; from descend.data import load; print(len(load(sys.argv[1], threads=2)))"
EVERY_S = 0.5


def generated(n: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield the name, the class and the bytes of n pictures."""
    rng = np.random.default_rng(0)
    levels = rng.integers(60, 200, (N_CLASSES, 3))
    for number in range(n):
        label = number % N_CLASSES
        pixels = np.clip(levels[label] + rng.normal(0, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG", quality=85)
        yield f"{number:07}", f"class{label}", content.getvalue()


def as_folder(root: Path, n: int) -> Path:
    """Write the pictures as files in class folders."""
    for label in range(N_CLASSES):
        (root / f"class{label}").mkdir(parents=True)
    for name, label, content in generated(n):
        (root / label / f"{name}.jpg").write_bytes(content)
    return root


def as_shards(root: Path, n: int) -> Path:
    """Write the pictures as WebDataset's shards, ``0000017.jpg`` beside ``0000017.cls``."""
    root.mkdir(parents=True)
    archive: tarfile.TarFile | None = None
    for number, (name, label, content) in enumerate(generated(n)):
        if number % PER_SHARD == 0:
            if archive is not None:
                archive.close()
            archive = tarfile.open(root / f"photos-{number // PER_SHARD:04}.tar", "w")  # noqa: SIM115 (closed above, and below)
        assert archive is not None  # opened with the first picture
        for member, held in ((f"{name}.jpg", content), (f"{name}.cls", label.encode())):
            info = tarfile.TarInfo(member)
            info.size = len(held)
            archive.addfile(info, io.BytesIO(held))
    if archive is not None:
        archive.close()
    return root


def watched(command: list[str], env: dict[str, str]) -> dict[str, float]:
    """Run a process and return its times in seconds, and the peaks of its private memory, in MiB, and of its open files."""
    before, started = os.times(), time.perf_counter()
    private, files = 0, 0
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, env=env, stdout=said, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            private = max(private, private_bytes(process.pid))
            with contextlib.suppress(OSError):  # it has just ended
                files = max(files, len([*Path(f"/proc/{process.pid}/fd").iterdir()]))
            time.sleep(EVERY_S)
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"{command} ended with {process.returncode}: {said.read().decode()[-2000:]}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": round(time.perf_counter() - started, 1), "cpu_s": round(cpu, 1), "private": round(private / MIB, 1),
            "files": files}  # fmt: skip


def bytes_below(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measured(kind: str, n: int) -> dict[str, Any]:
    """Return what every step takes on n pictures of a kind."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        data = as_folder(root / "photos", n) if kind == "folder" else as_shards(root / "photos", n)
        env, run = fresh_cache(root / "cache"), root / "run"
        descend = [sys.executable, "-m", "descend"]
        fit = ["fit", str(data), "--out", str(run), "--transfer", "scratch", "--backbone", "smallcnn(width=4)",
               "--size", str(SIDE), "--epochs", "1", "--batch-size", "512", "--augment", "flip", "--threads", "2"]  # fmt: skip
        steps = {
            "look": [sys.executable, "-c", LOOK, str(data)], "again": [sys.executable, "-c", LOOK, str(data)],
            "fit": [*descend, *fit],
            "predict": [*descend, "predict", str(run), str(data), "--out", str(root / "answers.csv"), "--threads", "2"],
        }  # fmt: skip
        result: dict[str, Any] = {}
        for step, command in steps.items():
            result[step] = watched(command, env)
            print(kind, step, result[step], flush=True)
        kinds = [path for path in (root / "cache").iterdir() if path.is_dir() and not path.is_symlink()]
        cache = {path.name: bytes_below(path) for path in kinds}
        return {"n": n, **result, "cache": cache, "data": bytes_below(data), "run": bytes_below(run)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200_000, help="pictures")
    options = parser.parse_args()
    claim = "as tar shards, 200,000 pictures need the same peak of private memory as a folder, and nothing of them is unpacked"
    go_on(
        "large_set",
        claim,
        [(f"{kind} {options.n}", lambda kind=kind: measured(kind, options.n)) for kind in ("folder", "shards")],
    )


if __name__ == "__main__":
    main()
