"""A comparison on a Ray cluster of two nodes, one of whose workers is killed, against the same comparison in two processes here.

Claim: ``--on ray`` makes the same runs as ``--jobs 2``, byte for byte, also where a worker is killed (-9) while it makes one.

    pip install 'descend[cluster]' && python benchmarks/ray_cluster.py
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

import descend
from descend.train.lock import LOCK
from harness import save

CANDIDATES = ["optimizer=sgd(lr=0.1)", "optimizer=adam(lr=0.002)"]
SETTINGS: dict[str, Any] = {"seeds": 2, "epochs": 3, "jobs": 2, "transfer": "scratch", "threads": 1, "augment": []}
COMPARED = ("model.safetensors", "predictions.csv")


def answers(root: Path) -> dict[str, bytes]:
    """Return what the runs below a folder have made, by the name of the run and of the file."""
    runs = [run for run in (root / "shared-runs").iterdir() if (run / COMPARED[0]).exists()]
    return {f"{run.name}/{name}": (run / name).read_bytes() for run in runs for name in COMPARED}


def kill_one(root: Path, killed: list[int], give_up: threading.Event) -> None:
    """Kill the first process that holds the lock of a run below a folder."""
    while not give_up.is_set() and not killed:
        for lock in (root / "shared-runs").glob(f"*/{LOCK}"):
            with suppress(OSError, ValueError, KeyError):
                owner = int(json.loads(lock.read_text(encoding="utf-8"))["pid"])
                os.kill(owner, signal.SIGKILL)
                killed.append(owner)
                return
        time.sleep(0.05)


def main() -> None:
    """Compare in both ways and write what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        here, there = Path(folder) / "here", Path(folder) / "there"
        descend.compare("digits", CANDIDATES, out=here / "one", **SETTINGS)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        killed: list[int] = []
        give_up = threading.Event()
        killer = threading.Thread(target=kill_one, args=(there, killed, give_up))
        killer.start()
        began = time.perf_counter()
        try:
            n_nodes = len(ray.nodes())
            found = descend.compare("digits", CANDIDATES, out=there / "one", on="ray", **SETTINGS)
        finally:
            give_up.set()
            killer.join()
            ray.shutdown()
            cluster.shutdown()
        mine, theirs = answers(here), answers(there)
        result = {
            "nodes": n_nodes, "workers killed": len(killed), "runs": len(found.made), "files": len(theirs),
            "failed": [made.failure for made in found.made if made.status != "finished"],
            "files that differ": sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)),
            "wall_s": round(time.perf_counter() - began, 1),
        }  # fmt: skip
    save("ray_cluster", "runs on a cluster of two nodes, one worker killed, are those of two processes, byte for byte", result)


if __name__ == "__main__":
    main()
