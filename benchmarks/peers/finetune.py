"""A careful fine-tune of Lite0 in plain PyTorch, as an experienced user would write it for a budget of time.

Channels-last, AdamW with a quicker head, one cycle, label smoothing 0.1, random crops and mirrors, two loader workers. How many
pictures per second go through is measured first; then the largest size is taken at which at least five epochs fit, answers to the
test pictures included. All of ``train/`` is trained on, to the end of the cycle: nothing is selected, so ``val/`` stays unused.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from dataset import BATCH, Pictures, in_order, shuffled
from protocol import N_CORES, Job, job, lite0
from torch import nn
from torch.nn.functional import cross_entropy

SIZES, LEAST_EPOCHS, MOST_EPOCHS = (96, 128, 160, 224), 5, 40
RATE, HEAD_RATE, WEIGHT_DECAY, SMOOTHING = 5e-4, 5e-3, 0.01, 0.1
MEASURED_AT, SAFETY = 128, 1.1


@dataclass(frozen=True)
class Pace:
    """Seconds per picture at ``MEASURED_AT`` px: decode on one core; train and infer on all of them."""

    decode: float
    train: float
    infer: float

    def training(self, size: int) -> float:
        """Return the wall seconds per picture of training at ``size``: decoding shares the cores with the network."""
        return SAFETY * (self.decode / N_CORES + self.train * (size / MEASURED_AT) ** 2)

    def answering(self, size: int) -> float:
        """Return the wall seconds per picture of answering at ``size``."""
        return SAFETY * (self.decode / N_CORES + self.infer * (size / MEASURED_AT) ** 2)


def main() -> None:
    task = job()
    torch.manual_seed(task.seed)
    network = lite0(len(task.classes))
    paths, labels = task.pictures("train")
    n_test = len(task.pictures("test")[0])
    pace = measure(network, Pictures(paths, labels, MEASURED_AT, augment=True))
    size, n_epochs = choose(pace, len(paths), n_test, task.left())
    seconds = task.left() - n_test * pace.answering(size)
    epochs = train(network, Pictures(paths, labels, size, augment=True), n_epochs, seconds)
    complete = round(epochs, 2) >= MOST_EPOCHS and size == SIZES[-1]
    task.answer(answers(network, task, size), size=size, epochs=round(epochs, 2), complete=complete)


def measure(network: nn.Module, pictures: Pictures) -> Pace:
    """Time a few pictures and three steps, on a copy of the network."""
    network, n = copy.deepcopy(network), min(24, len(pictures))
    images = torch.stack([pictures[row][0] for row in range(0, len(pictures), len(pictures) // n)][:n])
    decode = timed(lambda: [pictures[row] for row in range(n)]) / n
    images = images[torch.arange(BATCH) % n].to(memory_format=torch.channels_last)
    network.train()
    step = [timed(lambda: network(images).logsumexp(1).mean().backward()) for _ in range(3)]  # the first warms up
    network.eval()
    with torch.inference_mode():
        infer = timed(lambda: network(images))
    return Pace(decode, min(step) / BATCH, infer / BATCH)


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def choose(pace: Pace, n_train: int, n_test: int, left: float) -> tuple[int, float]:
    """Return the size, and the epochs that fit at that size."""
    fitting = {size: (left - n_test * pace.answering(size)) / (n_train * pace.training(size)) for size in SIZES}
    size = max((size for size in SIZES if fitting[size] >= LEAST_EPOCHS), default=SIZES[0])
    if fitting[size] <= 0:
        needed = n_test * pace.answering(size)
        raise SystemExit(f"no answer: {n_test} test pictures at {size} px take {needed:.0f} s, {left:.0f} s are left")
    return size, min(fitting[size], MOST_EPOCHS)


def train(network: nn.Module, pictures: Pictures, n_epochs: float, seconds: float) -> float:
    """Train for ``n_epochs``, or as far as ``seconds`` reach; return the epochs that were made.

    The cycle follows the larger of the share of steps done and the share of time gone, so that a machine that slows down ends
    with a small rate, too.
    """
    head = [*network.get_classifier().parameters()]  # pyright: ignore[reportCallIssue] (missing in timm's stub)
    body = [p for p in network.parameters() if all(p is not q for q in head)]
    groups = [{"params": body, "peak": RATE}, {"params": head, "peak": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=WEIGHT_DECAY)
    loader = shuffled(pictures)
    n_steps, step, began = max(1, int(n_epochs * len(loader))), 0, time.perf_counter()
    network.train()
    while True:
        for images, labels in loader:
            progress = max(step / n_steps, (time.perf_counter() - began) / seconds)
            if progress >= 1:
                return step / len(loader)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * one_cycle(progress)
            loss = cross_entropy(network(images.to(memory_format=torch.channels_last)), labels, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1


def one_cycle(progress: float, *, warm: float = 0.3, first: float = 1 / 25, last: float = 1e-4) -> float:
    """Return the factor of the peak rate: cosine up, cosine down, the values of torch's ``OneCycleLR``."""
    low, share = (first, progress / warm) if progress < warm else (last, (1 - progress) / (1 - warm))
    return low + (1 - low) * (1 - math.cos(math.pi * share)) / 2


def answers(network: nn.Module, task: Job, size: int) -> list[int]:
    """Return the most probable class of every test picture."""
    network.eval()
    with torch.inference_mode():
        loader = in_order(Pictures(*task.pictures("test"), size, augment=False))
        return torch.cat([network(images.to(memory_format=torch.channels_last)).argmax(1) for images, _ in loader]).tolist()


if __name__ == "__main__":
    main()
