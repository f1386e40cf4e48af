"""The decoded cache on 60,000 pictures: private memory over 3 epochs, bytes a picture, and the time of each stage.

    python benchmarks/decode_cache.py [--pictures 60000] [--repeats 3]

Claim: private memory is flat over 3 epochs and at most 1 KB a picture beyond a constant. The slope is measured in fresh
processes, one with all pictures and one with a sixth of them. Private memory is the USS; on Linux less the pages of shared
libraries, which are private or not depending on what else runs on the machine. ``cifar10.tar.xz`` is unpacked into a temporary
folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

EPOCHS, BATCH, SIDE = 3, 128, 32


def measure(root: Path, cache: Path) -> dict[str, Any]:
    """Load, decode and read all pictures below ``root`` three times in this process; report memory and time."""
    import psutil

    from descend.data import Batches, decoded, load

    process = psutil.Process()

    def private() -> int:
        if sys.platform != "linux":
            return process.memory_full_info().uss
        return sum(
            part.private_clean + part.private_dirty for part in process.memory_maps(grouped=False) if ".so" not in part.path
        )

    load("digits", cache_dir=cache)  # imports and arenas are part of the constant
    start, began = private(), time.perf_counter()
    dataset = load(root, cache_dir=cache, split=False)
    scanned = time.perf_counter()
    pixels = decoded(dataset, SIDE, cache_dir=cache)
    filled = time.perf_counter()
    batches = Batches(pixels, dataset.indices("train"), batch_size=BATCH, seed=0)
    after, seconds = [private()], []
    for epoch in range(EPOCHS):
        started, seen = time.perf_counter(), 0
        for batch in batches.epoch(epoch):
            seen += len(batch)
        assert seen == len(dataset.indices("train"))
        seconds.append(time.perf_counter() - started)
        after.append(private())
    return {
        "n": len(dataset), "private_start": start, "private_after_decode": after[0], "private_after_epoch": after[1:],
        "scan_s": scanned - began, "decode_s": filled - scanned, "epoch_s": seconds,
    }  # fmt: skip


def in_fresh_process(root: Path, cache: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", str(root), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    return json.loads(done.stdout.splitlines()[-1])


def unpack(archive: Path, root: Path, n: int) -> tuple[Path, Path]:
    """Unpack ``n`` pictures, all as train, into ``all``, and link every sixth of each class into ``sixth``."""
    whole, sixth = root / "all" / "train", root / "sixth" / "train"
    count = 0
    with tarfile.open(archive) as file:
        for member in file:
            if member.isfile() and count < n:
                _, part, kind, name = member.name.split("/")
                content = file.extractfile(member)
                assert content is not None  # it is a file
                target = whole / kind / f"{part}-{name}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
                count += 1
    for kind in sorted(whole.iterdir()):
        (sixth / kind.name).mkdir(parents=True)
        for path in sorted(kind.iterdir())[::6]:
            (sixth / kind.name / path.name).write_bytes(path.read_bytes())
    return root / "all", root / "sixth"


def summary(runs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return medians and ranges over the repeats."""
    from harness import spread

    slopes = [
        (max(run["all"]["private_after_epoch"]) - max(run["sixth"]["private_after_epoch"]))
        / (run["all"]["n"] - run["sixth"]["n"])
        for run in runs
    ]
    drift = [max(run["all"]["private_after_epoch"]) - run["all"]["private_after_epoch"][0] for run in runs]
    cold = [run["all"] for run in runs]
    return {
        "bytes_per_picture": spread(slopes),
        "drift_over_epochs_bytes": spread([float(value) for value in drift]),
        "private_above_start_bytes": spread([float(max(run["private_after_epoch"]) - run["private_start"]) for run in cold]),
        "pixels_per_picture_bytes": SIDE * SIDE * 3,
        "cold": {name: spread([run[name] for run in cold]) for name in ("scan_s", "decode_s")},
        "warm": {name: spread([run["warm"][name] for run in runs]) for name in ("scan_s", "decode_s")},
        "epoch_s": spread([value for run in cold for value in run["epoch_s"]]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    from harness import data, save  # not above: it imports torch, which has no place in a measured process

    archive = data("cifar10.tar.xz")
    with tempfile.TemporaryDirectory() as folder:
        print(f"unpacking {options.pictures:,} pictures ...", file=sys.stderr)
        whole, sixth = unpack(archive, Path(folder), options.pictures)
        time.sleep(2.5)  # files changed within 2 s are not trusted by the index
        runs = []
        for repeat in range(options.repeats):
            cache = Path(folder) / f"cache{repeat}"
            run = {"all": in_fresh_process(whole, cache), "sixth": in_fresh_process(sixth, cache)}
            run["warm"] = in_fresh_process(whole, cache)
            runs.append(run)
            print(f"repeat {repeat}: {json.dumps(run)}", file=sys.stderr)
    save(
        "decode_cache", "at most 1 KB of private memory a picture beyond a constant, flat over 3 epochs", summary(runs), runs=runs
    )


if __name__ == "__main__":
    main()
