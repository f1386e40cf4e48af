"""Features on a Ray cluster of two nodes, with a worker killed or a node gone in the middle, against those computed here.

Claims: ``descend fit --on ray`` has the features of one process, bit for bit, so its model and predictions too, also where a
worker is killed (-9) or a node goes. The figure is the processor time of all processes together, Ray's own among them; what is
killed takes its own along.

    pip install 'descend[cluster]' && python benchmarks/ray_features.py
"""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from ray.cluster_utils import Cluster

import descend
from descend.files import SEAL_BYTES
from descend.progress import Silent
from harness import data, fresh_cache, save

SETTINGS: dict[str, Any] = {"transfer": "features", "views": 2, "augment": ["flip", "random_resized_crop"], "threads": 1}
ENGINES = ("torch", "openvino")
UNDISTURBED = {"here": None, "two nodes": "ray", "here again": None, "two nodes again": "ray"}
COMPARED = ("model.safetensors", "predictions.csv")
TASK = "ray::there"  # what Ray calls a process while it computes a part


def processor_s() -> float:
    """Return the processor seconds of this process and of all that descend from it and live."""
    seconds = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.Error):  # it has ended meanwhile
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


class Killer(Silent):
    """Kills one of the workers below this process once a third of the features is there."""

    def __init__(self) -> None:
        self.killed: list[int] = []

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Take the news of a stage."""
        del note
        if stage == "features" and total > 64 and 3 * done > total and not self.killed:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if process.cmdline()[0].startswith(TASK):
                        process.kill()
                        self.killed.append(process.pid)
                        return


class NodeRemover(Silent):
    """Takes a node from a cluster once a third of the features is there."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.n_removed = cluster, 0

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Take the news of a stage."""
        del note
        if stage == "features" and total > 64 and 3 * done > total and not self.n_removed:
            self.n_removed += 1
            self.cluster.remove_node(self.cluster.worker_nodes.copy().pop(), allow_graceful=False)


def rows(cache: Path) -> dict[tuple[str, bytes], bytes]:
    """Return all features in a cache: store and key of the row -> its bytes."""
    found = dict[tuple[str, bytes], bytes]()
    for path in cache.glob("features/*/*.segment"):
        content = io.BytesIO(path.read_bytes()[SEAL_BYTES:])
        keys, features = np.load(content), np.load(content)
        found |= {(path.parent.name, key.tobytes()): row.tobytes() for key, row in zip(keys, features, strict=True)}
    return found


def made(folder: Path, engine: str, **how: Any) -> dict[str, Any]:
    """Train with an empty cache; return features, files, the seconds that features took, and the processor's in all."""
    os.environ["DESCEND_CACHE"] = fresh_cache(folder / "cache")["DESCEND_CACHE"]
    before = processor_s()
    run = descend.fit(data("hymenoptera"), out=folder / "run", engine=engine, **SETTINGS, **how)
    took = processor_s() - before
    files = {name: (folder / "run" / name).read_bytes() for name in COMPARED}
    return {"rows": rows(folder / "cache"), "files": files, "wall_s": run.record.wall_s["features"], "processor_s": took}


def compared(root: Path, engine: str, cluster: Cluster) -> dict[str, Any]:
    """Return how the features of an engine on the cluster differ from those here, and what they took."""
    killer, remover = Killer(), NodeRemover(cluster)
    made(root / "warm", engine)
    ways = {name: made(root / name, engine, on=on) for name, on in UNDISTURBED.items()}
    ways["a worker killed"] = made(root / "killed", engine, on="ray", progress=killer)
    ways["a node gone"] = made(root / "gone", engine, on="ray", progress=remover)
    here = ways["here"]
    return {
        "views": len(here["rows"]),
        "workers killed": len(killer.killed),
        "nodes gone": remover.n_removed,
        "features that differ": {
            name: sum(way["rows"].get(key) != here["rows"].get(key) for key in way["rows"].keys() | here["rows"].keys())
            for name, way in ways.items()
        },
        "files that differ": {
            name: [file for file in COMPARED if way["files"][file] != here["files"][file]] for name, way in ways.items()
        },
        "features_wall_s": {name: round(way["wall_s"], 2) for name, way in ways.items()},
        "run_processor_s": {name: round(ways[name]["processor_s"], 2) for name in UNDISTURBED},
    }


def main() -> None:
    """Compute features in every way and write what came of it."""
    result: dict[str, Any] = {}
    for engine in ENGINES:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        try:
            with tempfile.TemporaryDirectory() as root:
                result[engine] = {"nodes": len(ray.nodes())} | compared(Path(root), engine, cluster)
        finally:
            ray.shutdown()
            cluster.shutdown()
    save("ray_features", "features of two nodes, one of them lost on the way, are those of one process, bit for bit", result)


if __name__ == "__main__":
    main()
