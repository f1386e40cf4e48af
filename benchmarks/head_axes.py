"""What rotating features to their principal axes brings the fit of a head: seconds and evaluations of the loss, with and without.

    python benchmarks/head_axes.py

Features of Lite0 of CIFAR-10 in 96 px, some pictures and some of the last columns (1,280 of the last stage, 2,024 of late ones
too, 5,316 with covariances and quarters). Without rotation the columns are standardized only. The strength is chosen by
cross-validation as the product does, then the head is fitted to all pictures. Processor seconds of one thread.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from descend.data import load
from descend.models import Lite0
from descend.transfer import Axes, Searched, make_engine
from frozen import frozen_features
from harness import save
from splits import source

PARTS = ((300, 2024), (1444, 1280), (1444, 2024), (3000, 2024), (3000, 5316), (6500, 2024), (6500, 5316))  # pictures, columns
SIZE, N_CLASSES, N_FOLDS = 96, 10, 3
Floats = NDArray[np.float32]


def features_of(work: Path) -> tuple[Floats, NDArray[np.int64]]:
    """Return features (n, 1, D), and labels (n,), in random order."""
    dataset, backbone = load(source("cifar10", work), near_up_to=0, open_up_to=9000), Lite0().build(0)
    rows = np.random.default_rng(0).permutation(dataset.indices("train"))[: max(n for n, _ in PARTS)]
    engine = make_engine("torch", backbone, size=SIZE, taps=backbone.every_tap)
    return frozen_features(dataset, rows, engine, SIZE)[:, None], dataset.labels[rows]


def measured(x: Floats, labels: NDArray[np.int64], *, rotated: bool) -> dict[str, Any]:
    """Return the seconds of each part, and the evaluations of the loss."""
    n_evaluations = 0

    def count() -> None:
        nonlocal n_evaluations
        n_evaluations += 1

    times = [time.process_time()]
    axes = Axes.of(x, rotated)
    times.append(time.process_time())
    found = Searched.of(axes, labels, N_CLASSES, n_folds=N_FOLDS, check=count)
    n_searched, _ = n_evaluations, times.append(time.process_time())
    replace(found, start=None).fit()  # from nothing, as where no strength was tried
    times.append(time.process_time())
    axes_s, search_s, fit_s = np.diff(times).round(3).tolist()
    return {
        "axes_s": axes_s, "search_s": search_s, "fit_s": fit_s, "n_searched": n_searched, "n_fitted": n_evaluations - n_searched,
        "strength": found.strength, "held_out_loss": found.loss,
    }  # fmt: skip


def main() -> None:
    result: dict[str, Any] = {}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        features, labels = features_of(Path(work))
    for n, n_columns in PARTS:
        for name in ("rotated", "standardized"):
            row = measured(features[:n, :, -n_columns:], labels[:n], rotated=name == "rotated")
            result[f"{n} x {n_columns}, {name}"] = row
            print(n, n_columns, name, row, flush=True)
    save("head_axes", "rotated features are fitted in fewer evaluations; whether that repays the rotation", result)


if __name__ == "__main__":
    main()
