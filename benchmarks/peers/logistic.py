"""Logistic regression on Lite0's last pooled features of 224 px: scikit-learn, the penalty by cross-validation.

Where not all features can be computed in the time, it learns from a stratified part of ``train/`` that can. ``val/`` is unused.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from dataset import BATCH, Pictures, in_order
from numpy.typing import NDArray
from protocol import Job, job, lite0
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

SIZE, FIT_SHARE, SMALL = 224, 0.15, 2000  # px; share of the time kept for the fit; pictures up to which five folds are quick


def main() -> None:
    task = job()
    network = lite0(0).eval()
    paths, labels = task.pictures("train")
    test_paths, _ = task.pictures("test")
    order = np.random.default_rng(task.seed).permutation(len(paths))
    first = [paths[row] for row in order[:BATCH]]
    features(network, first)  # warms up
    started = time.perf_counter()
    features(network, first)
    per_picture = 1.1 * (time.perf_counter() - started) / len(first)
    rows = part(task, labels, len(test_paths), per_picture)
    model = fit(features(network, [paths[row] for row in rows]), np.array(labels)[rows], task.seed)
    answers = model.predict(features(network, test_paths))
    task.answer(answers.tolist(), size=SIZE, n_train=len(rows), complete=len(rows) == len(paths))


def part(task: Job, labels: Sequence[int], n_test: int, per_picture: float) -> NDArray[np.int64]:
    """Return the rows of ``train/`` whose features fit into the time: all, or a stratified part."""
    n = int((1 - FIT_SHARE) * task.left() / per_picture) - n_test
    every = np.arange(len(labels))
    if n >= len(labels):
        return every
    if n < 5 * len(task.classes):
        needed = n_test * per_picture
        raise SystemExit(f"no answer: features of {n_test} test pictures take {needed:.0f} s, {task.left():.0f} s are left")
    return train_test_split(every, train_size=n, stratify=labels, random_state=task.seed)[0]


def features(network: nn.Module, paths: Sequence[Path]) -> NDArray[np.float32]:
    """Return the pooled features, (n, 1280)."""
    with torch.inference_mode():
        loader = in_order(Pictures(paths, [0] * len(paths), SIZE, augment=False))
        return torch.cat([network(images.to(memory_format=torch.channels_last)) for images, _ in loader]).numpy()


def fit(x: NDArray[np.float32], y: NDArray[np.int64], seed: int):
    """Return the fitted model. A large set is divided once, since its validation part is large enough to choose by."""
    folds = 5 if len(y) <= SMALL else StratifiedShuffleSplit(1, test_size=0.2, random_state=seed)
    chosen = LogisticRegressionCV(
        Cs=np.logspace(-4, 1, 6), cv=folds, scoring="neg_log_loss", max_iter=1000, use_legacy_attributes=False, l1_ratios=(0,)
    )
    return make_pipeline(StandardScaler(), chosen).fit(x, y)


if __name__ == "__main__":
    main()
