"""Augmentation speed against Albumentations 2, torchvision v2 and kornia: uint8 256 px in memory to normalized float 224 px.

    python benchmarks/augment.py [--pictures 64] [--rounds 5] [--quick]

Claim: the whole pipeline (crop + flip + rotate + jitter + erase + normalize) runs at least 3 times as fast as Albumentations and
8 times as fast as torchvision v2 on one thread, to uint8 at least 2.3 times as fast as Albumentations, through a DataLoader
without and with two workers at least twice as fast; every operation alone at least 1.5 times as fast as Albumentations, which
crops first where our neighborhood operations see what lies beyond the crop too; two threads at least 1.8 times as fast as one.
Everyone resamples bilinearly and mirrors the border where the library can; ours is given whole batches, its draws are timed
with it, and it averages over the footprint where it shrinks. Times are processor time of the process and its workers, in
turns; only the gain of a second thread is wall time. ``--quick`` shows in a minute that everything runs, and writes no result.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

os.environ.update(
    NO_ALBUMENTATIONS_UPDATE="1", **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
)

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from descend.augment import Pipeline
from harness import save, spread

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
    "sharpen": ["center_crop()", "sharpen()"],
    "noise": ["center_crop()", "gaussian_noise(sigma_range=[5.0, 5.0])"],
    "jpeg": ["center_crop()", "jpeg(p=1.0)"],
    "elastic": ["center_crop()", "elastic()"],
}
AREA, RATIO, ERASED, JITTER = (0.35, 1.0), (3 / 4, 4 / 3), (0.02, 0.33), 0.4
Run = Callable[[np.ndarray], Any]


def ours(specs: list[str], size: int | None = 224, out: Literal["float", "uint8"] = "float") -> Run:
    pipe, epoch = Pipeline(specs, size=size, out=out), iter(range(10**9))
    return lambda images: pipe(images, ids=np.arange(len(images)), epoch=next(epoch))


def composed(specs: list[str], *last: Any) -> Any:
    """Return Albumentations' form of a list."""
    import albumentations as A

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
        "sharpen()": A.Sharpen(p=1),
        "gaussian_noise(sigma_range=[5.0, 5.0])": A.GaussNoise(std_range=(5 / 255, 5 / 255), p=1),
        "jpeg(p=1.0)": A.ImageCompression(quality_range=(40, 90), p=1),
        "elastic()": A.ElasticTransform(p=1),
    }
    return A.Compose([*(parts[spec] for spec in specs), *last])


def albumentations(specs: list[str]) -> Run:
    import albumentations as A

    pipe = composed(specs, A.Normalize())
    return lambda images: [pipe(image=image)["image"] for image in images]


def torchvision(specs: list[str]) -> Run:
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


class Augmenting(Dataset[torch.Tensor]):
    """Somebody's data set that calls Albumentations."""

    def __init__(self, images: np.ndarray, specs: list[str]) -> None:
        import albumentations as A
        from albumentations.pytorch import ToTensorV2

        self.images, self.pipe = images, composed(specs, A.Normalize(), ToTensorV2())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.pipe(image=self.images[index])["image"]


def processor_time() -> float:
    """Return the seconds of this process and of workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def times(
    runs: dict[str, Callable[[], Any]], n: int, rounds: int, clock: Callable[[], float] = processor_time
) -> dict[str, list[float]]:
    """Return milliseconds per picture of every run, interleaved in rotating order, without the first round, which warms up."""
    names, taken = [*runs], {name: [] for name in runs}
    for k in range(rounds + 1):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            start = clock()
            runs[name]()
            taken[name].append(1000 * (clock() - start) / n)
    return {name: values[1:] for name, values in taken.items()}


def against(runs: dict[str, Callable[[], Any]], n: int, rounds: int) -> dict[str, Any]:
    """Return milliseconds per picture, and how many times as fast as each peer ours is."""
    taken = times(runs, n, rounds)
    ratios = {peer: [b / a for a, b in zip(taken["descend"], values, strict=True)] for peer, values in taken.items()}
    result: dict[str, Any] = {f"{peer}_ms": spread(values) for peer, values in taken.items()}
    return {**result, "ratio": {peer: spread(values) for peer, values in ratios.items() if peer != "descend"}}


def operations(images: np.ndarray, rounds: int) -> dict[str, Any]:
    """Time every list in every library that has its operations."""
    result = {}
    for name, specs in OPS.items():
        runs: dict[str, Callable[[], Any]] = {}
        for peer, make in PEERS.items():
            try:
                run = make(specs)
            except KeyError:  # the list is not written for this one
                continue
            runs[peer] = lambda run=run: run(images)
        result[name] = against(runs, len(images), rounds)
    return result


def whole_levels(images: np.ndarray, rounds: int) -> dict[str, Any]:
    """Time the whole pipeline to uint8."""
    run, peer = ours(OPS["whole"], out="uint8"), composed(OPS["whole"])
    runs = {"descend": lambda: run(images), "albumentations": lambda: [peer(image=image)["image"] for image in images]}
    return against(runs, len(images), rounds)


def loaders(images: np.ndarray, rounds: int, n_workers: int) -> dict[str, Any]:
    """Time the whole pipeline in a DataLoader."""
    wrapped = Pipeline(OPS["whole"], size=224).wrap([(image,) for image in images])
    datasets: dict[str, Any] = {"descend": wrapped, "albumentations": Augmenting(images, OPS["whole"])}
    epoch = iter(range(10**9))

    def run(dataset: Any) -> None:
        wrapped.set_epoch(next(epoch))
        for _ in DataLoader(dataset, 32, num_workers=n_workers):
            pass

    return against({peer: (lambda dataset=dataset: run(dataset)) for peer, dataset in datasets.items()}, len(images), rounds)


def scaling(images: np.ndarray, rounds: int) -> dict[str, float]:
    """Return how many times faster the whole pipeline runs with two threads than with one: wall time, in turns."""
    run = ours(OPS["whole"])

    def with_threads(n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        run(images)

    runs = {"one": lambda: with_threads(1), "two": lambda: with_threads(2)}
    taken = times(runs, len(images), rounds, time.perf_counter)
    torch.set_num_threads(1)
    return spread([one / two for one, two in zip(taken["one"], taken["two"], strict=True)])


def of_the_machine(rounds: int) -> dict[str, Any]:
    """Return how many times as much two threads do as one: vectors computed in the second cache, and memory copied."""
    vectors, sheets = np.ones((2, 50_000), np.float32), np.ones((2, 2, 4_000_000), np.float32)
    works = {
        "vectors": lambda k: [np.sqrt(vectors[k], out=vectors[k]) for _ in range(400)],
        "copies": lambda k: [np.copyto(sheets[k, 0], sheets[k, 1]) for _ in range(4)],
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            for name, work in works.items():
                walls = []
                for places in ((0,), (0, 1)):
                    began = time.perf_counter()
                    list(pool.map(work, places))
                    walls.append(time.perf_counter() - began)
                found[name].append(2 * walls[0] / walls[1])
    return {name: spread(values) for name, values in found.items()}


def small(n: int, rounds: int) -> dict[str, Any]:
    """Return microseconds per picture of 32 px in batches of 500, and those of its draws."""
    images, ids, specs = np.random.default_rng(1).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), np.arange(500), SMALL
    run, pipe = ours(specs, None), Pipeline(specs)
    runs = {
        "all": lambda: [run(images[k : k + 500]) for k in range(0, n, 500)],
        "draws": lambda: [pipe.draw(ids, (32, 32), epoch=k) for k in range(0, n, 500)],
    }
    return {f"{name}_us": spread([1000 * value for value in values]) for name, values in times(runs, n, rounds).items()}


SMALL = ["pad_crop()", "flip()", "random_erasing()"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a smoke run: eight pictures, one round, nothing written")
    given = parser.parse_args()
    n, rounds, n_small = (8, 1, 1000) if given.quick else (given.pictures, given.rounds, 10_000)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    images = np.random.default_rng(0).integers(0, 256, (n, 256, 256, 3), dtype=np.uint8)
    result: dict[str, Any] = {
        **operations(images, rounds),
        "whole_uint8": whole_levels(images, rounds),
        "loader_0_workers": loaders(np.tile(images, (4, 1, 1, 1)), rounds, 0),
        "loader_2_workers": loaders(np.tile(images, (4, 1, 1, 1)), rounds, 2),
        "threads_two_over_one": scaling(images, rounds),
        "threads_two_over_one_128_pictures": scaling(np.tile(images, (2, 1, 1, 1)), rounds),
        "two_threads_of_this_machine": of_the_machine(rounds),
        "small": small(n_small, rounds),
        "load_average": os.getloadavg(),
    }
    if given.quick:
        print(json.dumps(result, indent=1))
        return
    save("augment", "whole >= 3 x Albumentations and >= 8 x torchvision v2; loaders >= 2 x, every operation >= 1.5 x", result)


if __name__ == "__main__":
    main()
