"""Augmentation speed against Albumentations 2, torchvision v2 and kornia: uint8 256 px in memory to normalised float 224 px.

    python benchmarks/augment.py [--pictures 64] [--rounds 5]

Claim: the whole pipeline (crop + flip + rotate + jitter + erase + normalise) runs at least 2.5 times as fast as
Albumentations and 6 times as fast as torchvision v2 and kornia on one thread, crop + flip + normalise at least 1.5 times
as fast as Albumentations, two threads at least 1.8 times as fast as one; an epoch of 50,000 pictures of 32 px with pad-
crop + flip + erase + normalise takes less than 1 s on two. Everyone resamples bilinearly and mirrors the border where the
library can; ours is given whole batches, its draws are timed with it, and it averages over the footprint where it
shrinks. Each thread count is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

OPS: dict[str, list[str]] = {
    "whole": ["random_resized_crop()", "flip()", "rotate()", "color_jitter()", "random_erasing(p=0.25)"],
    "crop_flip": ["random_resized_crop()", "flip()"],
    "crop": ["random_resized_crop()"],
    "flip": ["center_crop()", "flip()"],
    "rotate": ["center_crop()", "rotate()"],
    "jitter": ["center_crop()", "color_jitter()"],
    "erase": ["center_crop()", "random_erasing(p=0.25)"],
}
AREA, RATIO, ERASED, JITTER = (0.35, 1.0), (3 / 4, 4 / 3), (0.02, 0.33), 0.4
Run = Callable[[np.ndarray], Any]


def ours(specs: list[str], size: int | None = 224) -> Run:
    from descend.augment import Pipeline

    pipe, epoch = Pipeline(specs, size=size), iter(range(10**9))
    return lambda images: pipe(images, ids=np.arange(len(images)), epoch=next(epoch))


def albumentations(specs: list[str]) -> Run:
    import albumentations as A
    import cv2

    parts = {
        "random_resized_crop()": A.RandomResizedCrop((224, 224), scale=AREA, ratio=RATIO),
        "center_crop()": A.CenterCrop(224, 224),
        "flip()": A.HorizontalFlip(p=0.5),
        "rotate()": A.Rotate(15, border_mode=cv2.BORDER_REFLECT_101, p=1),
        "color_jitter()": A.ColorJitter(*3 * [(1 - JITTER, 1 + JITTER)], hue=(0, 0), p=1),
        "random_erasing(p=0.25)": A.Erasing(scale=ERASED, p=0.25),
    }
    pipe = A.Compose([*(parts[spec] for spec in specs), A.Normalize()])
    return lambda images: [pipe(image=image)["image"] for image in images]


def torchvision(specs: list[str]) -> Run:
    import torch
    from torchvision.transforms import v2

    bilinear = v2.InterpolationMode.BILINEAR
    parts = {
        "random_resized_crop()": v2.RandomResizedCrop(224, scale=AREA, ratio=RATIO, interpolation=bilinear, antialias=False),
        "center_crop()": v2.CenterCrop(224),
        "flip()": v2.RandomHorizontalFlip(0.5),
        "rotate()": v2.RandomRotation(15, interpolation=bilinear),
        "color_jitter()": v2.ColorJitter(JITTER, JITTER, JITTER),
        "random_erasing(p=0.25)": v2.RandomErasing(0.25, scale=ERASED),
    }
    to_float = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    pipe = v2.Compose([*(parts[spec] for spec in specs), *to_float])
    return lambda images: [pipe(torch.from_numpy(image).permute(2, 0, 1)).contiguous() for image in images]


def kornia(specs: list[str]) -> Run:
    import kornia.augmentation as K
    import torch

    parts = {
        "random_resized_crop()": lambda: K.RandomResizedCrop((224, 224), scale=AREA, ratio=RATIO),
        "center_crop()": lambda: K.CenterCrop(224),
        "flip()": lambda: K.RandomHorizontalFlip(p=0.5),
        "rotate()": lambda: K.RandomRotation(15.0, p=1.0),
        "color_jitter()": lambda: K.ColorJitter(JITTER, JITTER, JITTER, p=1.0),
        "random_erasing(p=0.25)": lambda: K.RandomErasing(p=0.25, scale=ERASED),
    }
    normalize = K.Normalize(torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
    pipe = K.AugmentationSequential(*(parts[spec]() for spec in specs), normalize, data_keys=["input"])
    return lambda images: pipe(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).contiguous()


PEERS = {"descend": ours, "albumentations": albumentations, "torchvision": torchvision, "kornia": kornia}


def measure(n: int, rounds: int, threads: int) -> dict[str, Any]:
    """Time every pipeline of every library in this process, interleaved, the first round to warm up."""
    import cv2
    import torch

    from harness import spread

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    images = np.random.default_rng(0).integers(0, 256, (n, 256, 256, 3), dtype=np.uint8)
    small = np.random.default_rng(1).integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
    found: dict[str, Any] = {}
    for name, specs in OPS.items():
        runs = {peer: make(specs) for peer, make in PEERS.items()}
        rates: dict[str, list[float]] = {peer: [] for peer in runs}
        for k in range(rounds + 1):
            for peer in [*runs][k % 4 :] + [*runs][: k % 4]:
                start = time.perf_counter()
                runs[peer](images)
                rates[peer].append(n / (time.perf_counter() - start))
        found[name] = {peer: spread(values[1:]) for peer, values in rates.items()}
        found[name]["ratio"] = {
            peer: spread([a / b for a, b in zip(rates["descend"][1:], values[1:], strict=True)])
            for peer, values in rates.items()
            if peer != "descend"
        }
    cifar = ours(["pad_crop()", "flip()", "random_erasing()"], None)
    epochs: list[float] = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for k in range(0, len(small), 500):
            cifar(small[k : k + 500])
        epochs.append(time.perf_counter() - start)
    return {**found, "cifar10_epoch_s": spread(epochs[1:])}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.pictures, asked.rounds, asked.measure)))
        return
    from harness import save

    result: dict[str, Any] = {}
    for threads in (1, 2):
        limits = {
            name: str(threads) for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        }
        sizes = ["--pictures", str(asked.pictures), "--rounds", str(asked.rounds)]
        command = [sys.executable, __file__, "--measure", str(threads), *sizes]
        environment = {**os.environ, **limits, "NO_ALBUMENTATIONS_UPDATE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8", env=environment)
        result[f"threads_{threads}"] = json.loads(done.stdout.splitlines()[-1])
    one, two = (result[f"threads_{threads}"]["whole"]["descend"]["median"] for threads in (1, 2))
    result["two_threads_over_one"] = two / one
    result["load_average"] = os.getloadavg() if hasattr(os, "getloadavg") else None
    save("augment", "whole pipeline >= 2.5 x Albumentations, >= 6 x torchvision v2 and kornia; crop + flip >= 1.5 x", result)


if __name__ == "__main__":
    main()
