"""A run whose features two nodes of a Ray cluster compute; one of their workers is killed: pip install 'descend[cluster]'."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]

import descend
from descend.progress import Silent

ray = pytest.importorskip("ray")

SETTINGS: dict[str, Any] = {"transfer": "features", "size": 64, "engine": "torch", "views": 2, "augment": "flip", "threads": 1}


class Killer(Silent):
    """Kills a worker that computes features, once the first of them are there."""

    n_killed = 0

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        del note
        for process in psutil.Process().children(recursive=True) if stage == "features" and 0 < done < total else ():
            if not self.n_killed and process.cmdline()[:1] == ["ray::there"]:
                process.kill()
                self.n_killed += 1


def test_features_of_two_nodes_make_the_run_of_one_process_though_a_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    before = signal.getsignal(signal.SIGTERM)
    pictures, killer = shapes_folder(tmp_path / "shapes", n=100, side=32), Killer()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        there = descend.fit(pictures, out=tmp_path / "there", on="ray", progress=killer, report=False, **SETTINGS)
    finally:
        ray.shutdown()
        cluster.shutdown()
        signal.signal(signal.SIGTERM, before)  # Ray takes it
    assert killer.n_killed == 1
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    here = descend.fit(pictures, out=tmp_path / "here", report=False, **SETTINGS)
    for name in ("model.safetensors", "predictions.csv"):
        assert (there.folder / name).read_bytes() == (here.folder / name).read_bytes()
