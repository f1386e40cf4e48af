"""Augmentation speed against Albumentations 2, torchvision v2 and kornia: uint8 256 px in memory to normalised float 224 px.

    python benchmarks/augment.py [--pictures 64] [--rounds 5] [--quick]

Claim: the whole pipeline (crop + flip + rotate + jitter + erase + normalise) runs at least 2.5 times as fast as
Albumentations and 6 times as fast as torchvision v2 and kornia on one thread, crop + flip + normalise at least 1.5 times
as fast as Albumentations, two threads at least 1.8 times as fast as one; an epoch of 50,000 pictures of 32 px with pad-
crop + flip + erase + normalise takes less than 1 s on two. Everyone resamples bilinearly and mirrors the border where the
library can; ours is given whole batches, its draws are timed with it, and it averages over the footprint where it
shrinks. Each thread count is a process of its own; the gain of a second thread is measured in one process, in turns. ``--quick``
shows in a minute that everything runs, and writes no result.
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
    "equalize": ["center_crop()", "equalize(p=1.0)"],
    "perspective": ["center_crop()", "perspective(p=1.0)"],
    "blur": ["center_crop()", "blur(p=1.0, sigma_range=[1.0, 1.0])"],
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
        "equalize(p=1.0)": A.Equalize(p=1),
        "perspective(p=1.0)": A.Perspective(p=1, border_mode=cv2.BORDER_REFLECT_101),
        "blur(p=1.0, sigma_range=[1.0, 1.0])": A.GaussianBlur(blur_limit=7, sigma_limit=(1, 1), p=1),
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
        "equalize(p=1.0)": v2.RandomEqualize(1.0),
        "perspective(p=1.0)": v2.RandomPerspective(0.3, p=1.0, interpolation=bilinear),
        "blur(p=1.0, sigma_range=[1.0, 1.0])": v2.GaussianBlur(7, 1.0),
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
        "equalize(p=1.0)": lambda: K.RandomEqualize(p=1.0),
        "perspective(p=1.0)": lambda: K.RandomPerspective(0.3, p=1.0),
        "blur(p=1.0, sigma_range=[1.0, 1.0])": lambda: K.RandomGaussianBlur((7, 7), (1.0, 1.0), p=1.0),
    }
    normalize = K.Normalize(torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
    pipe = K.AugmentationSequential(*(parts[spec]() for spec in specs), normalize, data_keys=["input"])
    return lambda images: pipe(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).contiguous()


PEERS = {"descend": ours, "albumentations": albumentations, "torchvision": torchvision, "kornia": kornia}


def rates(runs: dict[str, Callable[[], Any]], n: int, rounds: int) -> dict[str, list[float]]:
    """Return pictures per second of every run, interleaved in rotating order, without the first round, which warms up."""
    names, found = [*runs], {name: [] for name in runs}
    for k in range(rounds + 1):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            start = time.perf_counter()
            runs[name]()
            found[name].append(n / (time.perf_counter() - start))
    return {name: values[1:] for name, values in found.items()}


def measure(n: int, rounds: int, threads: int, n_small: int) -> dict[str, Any]:
    """Time every pipeline of every library in this process."""
    import cv2
    import torch

    from harness import spread

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    images = np.random.default_rng(0).integers(0, 256, (n, 256, 256, 3), dtype=np.uint8)
    found: dict[str, Any] = {}
    for name, specs in OPS.items():
        runs = {peer: make(specs) for peer, make in PEERS.items()}
        rate = rates({peer: (lambda run=run: run(images)) for peer, run in runs.items()}, n, rounds)
        found[name] = {peer: spread(values) for peer, values in rate.items()}
        found[name]["ratio"] = {
            peer: spread([a / b for a, b in zip(rate["descend"], values, strict=True)])
            for peer, values in rate.items()
            if peer != "descend"
        }
    if threads > 1:
        found["threads_over_one"] = scaling(images, rounds, threads)
    return {**found, "cifar10_epoch_s": epoch(n_small, rounds)}


def scaling(images: np.ndarray, rounds: int, threads: int) -> dict[str, float]:
    """Return how many times faster the whole pipeline runs with all threads than with one, in this process."""
    import torch

    from harness import spread

    run = ours(OPS["whole"])

    def with_threads(n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        run(images)

    rate = rates({str(k): (lambda k=k: with_threads(k)) for k in (1, threads)}, len(images), rounds)
    torch.set_num_threads(threads)
    return spread([many / one for many, one in zip(rate[str(threads)], rate["1"], strict=True)])


def epoch(n: int, rounds: int) -> dict[str, float]:
    """Return the seconds of one pass over n pictures of 32 px in batches of 500."""
    from harness import spread

    small = np.random.default_rng(1).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    run = ours(["pad_crop()", "flip()", "random_erasing()"], None)
    rate = rates({"descend": lambda: [run(small[k : k + 500]) for k in range(0, n, 500)]}, n, rounds)
    return spread([n / value for value in rate["descend"]])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a smoke run: eight pictures, one round, nothing written")
    parser.add_argument("--measure", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    n, rounds, n_small = (8, 1, 1000) if asked.quick else (asked.pictures, asked.rounds, 50_000)
    if asked.measure:
        print(json.dumps(measure(n, rounds, asked.measure, n_small)))
        return
    from harness import save

    result: dict[str, Any] = {}
    for threads in (1, 2):
        limits = {
            name: str(threads) for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        }
        sizes = ["--pictures", str(n), "--rounds", str(rounds), *(["--quick"] if asked.quick else [])]
        command = [sys.executable, __file__, "--measure", str(threads), *sizes]
        environment = {**os.environ, **limits, "NO_ALBUMENTATIONS_UPDATE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8", env=environment)
        result[f"threads_{threads}"] = json.loads(done.stdout.splitlines()[-1])
    result["load_average"] = os.getloadavg() if hasattr(os, "getloadavg") else None
    if asked.quick:
        print(json.dumps(result, indent=1))
        return
    save("augment", "whole pipeline >= 2.5 x Albumentations, >= 6 x torchvision v2 and kornia; crop + flip >= 1.5 x", result)


if __name__ == "__main__":
    main()
