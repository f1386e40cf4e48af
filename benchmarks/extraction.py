"""Frozen extraction: each of our engines against the same timm backbone in torch eager, channels last, on the same pictures.

Claims: at least 2.4 times the peer with the core install (ONNX Runtime), 3 times with the extra [fast] (OpenVINO), at 224 px
and 2 threads. Every round times all candidates in rotating order on the same uint8 pictures, normalization included; the
figure is the median over rounds of the ratio within a round. The peer gets the batch size of its own that suits it best; as
a second peer stands the batch of 32 that loops commonly use, and on processors that compute in bfloat16 a third, the peer in
autocast to it. Also measured: seconds to export the graph and start the engine with an empty cache, and how far the features
are apart.

    python benchmarks/extraction.py --pictures 64 --rounds 7
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch loads

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from descend.errors import MissingExtra
from descend.files import CacheFolder
from descend.models import backbone, to_input
from descend.models.lite import packaged_weights
from descend.transfer import ENGINES, bfloat16_pays, make_engine

RESULTS = Path(__file__).parent / "results"
PEER, COMMON, HALF = "timm eager channels-last", "the same, batches of 32", "the same in bfloat16"
BATCHES = (1, 4, 8, 16, 32)
PACKAGES = ("timm", "torch", "onnxruntime", "openvino")
AIMS = {"onnxruntime": 2.4, "openvino": 3.0}  # ratios; what OpenVINO has in its best precision counts
Extract = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def timm_eager(images: NDArray[np.uint8]) -> dict[str, Extract]:
    """The peers: timm's own model and forward pass, in the batch size that is quickest on ``images``, and in batches of 32."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(dict(zip(model.state_dict(), packaged_weights(0).values(), strict=True)))
    model.reset_classifier(0)
    model = model.eval().to(memory_format=torch.channels_last)
    mean, std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]

    def extract(images: NDArray[np.uint8], batch: int, *, half: bool) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            parts = torch.from_numpy(images).split(batch)
            return torch.cat([model(to_input(part, mean, std)) for part in parts]).float().numpy()

    peers: dict[str, Extract] = {COMMON: lambda images: extract(images, 32, half=False)}
    for name, half in [(PEER, False), (HALF, True)][: 1 + bfloat16_pays()]:
        times = {n: min(timed(lambda x, n=n, half=half: extract(x, n, half=half), images) for _ in range(3)) for n in BATCHES}
        best = min(times, key=lambda batch: times[batch])
        print(f"{name}: batch {best}, from", {batch: round(len(images) / wall, 1) for batch, wall in times.items()}, "pictures/s")
        peers[name] = lambda images, best=best, half=half: extract(images, best, half=half)
    return peers


def timed(extract: Extract, images: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    extract(images)
    return time.perf_counter() - start


def started(size: int) -> tuple[dict[str, Extract], dict[str, float]]:
    """Return the engines that are installed, started with an empty cache each, and the seconds that took."""
    net, engines, cold = backbone("lite0").build(0), dict[str, Extract](), dict[str, float]()
    for name in ENGINES:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            try:
                engine = make_engine(name, net, size=size, cache=CacheFolder(folder))
            except MissingExtra as error:
                print(error)
                continue
            engine.start()
            engines[name], cold[name] = engine, round(time.perf_counter() - begin, 2)
    return engines, cold


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pictures", type=int, default=64)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--size", type=int, default=224)
    options.add_argument("--no-save", action="store_true")
    options.add_argument("--name", default="extraction", help="of the file in results/")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    images = np.random.default_rng(0).integers(0, 256, (given.pictures, given.size, given.size, 3), dtype=np.uint8)
    engines, cold = started(given.size)
    candidates = {**timm_eager(images), **engines}
    reference = candidates[PEER](images)
    agreement = {name: cosine(extract(images), reference) for name, extract in engines.items()}
    walls: dict[str, list[float]] = {name: [] for name in candidates}
    names = [*candidates]
    for turn in range(given.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            walls[name].append(timed(candidates[name], images))
    rows = {}
    for name, wall in walls.items():
        ratios = [peer / own for peer, own in zip(walls[PEER], wall, strict=True)]
        rows[name] = {
            "images_per_s": round(given.pictures / statistics.median(wall), 1),
            "ratio": round(statistics.median(ratios), 2), "ratio_low": round(min(ratios), 2), "ratio_high": round(max(ratios), 2),
            "ratio_to_batches_of_32": round(statistics.median(b / a for a, b in zip(wall, walls[COMMON], strict=True)), 2),
        }  # fmt: skip
        if HALF in walls:
            in_half = [peer / own for peer, own in zip(walls[HALF], wall, strict=True)]
            rows[name]["ratio_to_bfloat16"] = round(statistics.median(in_half), 2)
        print(f"{name:26} {rows[name]}")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    result = {
        "claim": "frozen extraction: onnxruntime >= 2.4x, openvino >= 3x of the same timm backbone in torch eager channels-last",
        "reached": {kind: max((row["ratio"] for name, row in rows.items() if name.startswith(kind)), default=0) >= aim
                    for kind, aim in AIMS.items()},
        "settings": vars(given) | {"backbone": "lite0"}, "candidates": rows, "cold_start_s": cold,
        "least_cosine_to_peer": agreement, "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        "versions": {name: version(name) for name in PACKAGES if find_spec(name)},
        "commit": commit,
    }  # fmt: skip
    print(json.dumps(result["cold_start_s"]), json.dumps(agreement))
    if not given.no_save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{given.name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
