"""What a loaded data set takes of private memory per picture, measured on indexes that are generated.

    python benchmarks/index_memory.py --sizes 100000 1000000 10000000

Claim: the index that training holds takes at most 100 bytes per picture. Each size is loaded in a process of its own by
``descend.data.load`` itself, on a generated list of files (``n01440764/n01440764_10026.JPEG``, 30 characters, 1,000 classes) and
generated digests and sizes: only the looks at files are left out, and near copies, for which pictures of 8 px are too small.
Held is private memory (Linux's ``smaps_rollup``) after loading less that before the list was made, the list freed; the peak
is how far resident memory rose meanwhile, the source's own list of names included. ``looked_at`` is the size on disk and in
memory of what a scan remembers of each file. Times are wall times.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

N_CLASSES = 1_000
LIMIT = 100.0


def generated(n: int) -> tuple[Any, Any]:
    """Return a manifest and what a look at its n files gave."""
    from descend.data.manifest import Manifest
    from descend.data.scan import DIGEST_BYTES, Scan
    from descend.data.traits import TRAITS

    rng = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.int64) % N_CLASSES
    names = [f"n{label:08}/n{label:08}_{number:05}.JPEG" for number, label in enumerate(labels.tolist())]
    classes = tuple(f"n{label:08}" for label in range(N_CLASSES))
    traits = np.zeros(n, TRAITS)
    traits["size"] = 8
    digests = rng.integers(0, 256, (n, DIGEST_BYTES), np.uint8)
    return Manifest("generated", Path("/generated"), classes, names, labels, np.full(n, -1, np.int8)), Scan(digests, traits, {})


def measured(n: int) -> dict[str, float]:
    """Load a generated index of n pictures in this process: bytes per picture held, at the peak, and seconds."""
    from descend.data import load, loading
    from memory_flat import private_bytes

    dataset = None
    before, resident, wall, peak = 0, 0, 0.0, 0
    for size in (10 * N_CLASSES, n):  # the first one loads what is imported on the way
        dataset = None
        gc.collect()
        _forget_peak()
        before, resident = private_bytes(os.getpid()), _status("VmRSS")
        manifest, seen = generated(size)
        loading.read, loading.scan = (lambda *_, found=manifest, **__: found), (lambda *_, found=seen, **__: found)
        del manifest, seen
        started = time.perf_counter()
        dataset = load("generated")
        wall, peak = time.perf_counter() - started, _status("VmHWM")
        loading.read = loading.scan = lambda *_, **__: None  # lets go of the list
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free and not yet given back is no memory of the index
    assert dataset is not None
    held = private_bytes(os.getpid()) - before
    return {"held": round(held / n, 1), "peak": round((peak - resident) / n, 1), "load_s": round(wall, 1)}


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew


def _status(what: str) -> int:
    """Return a line of what Linux says of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], metavar="N")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one)))
        return
    from descend.data.scan import DIGEST_BYTES
    from descend.data.traits import TRAITS
    from harness import save

    result: dict[str, Any] = {"looked_at": 2 * DIGEST_BYTES + TRAITS.itemsize}
    for n in options.sizes:
        command = [sys.executable, __file__, "--one", str(n)]
        result[str(n)] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(n, result[str(n)], flush=True)
    result["held"] = all(result[str(n)]["held"] <= LIMIT for n in options.sizes)
    save("index_memory", f"the index that training holds takes at most {LIMIT:.0f} bytes per picture", result)


if __name__ == "__main__":
    main()
