"""How often ``watch()`` stops runs whose loss falls by a known share per epoch, under noise whose neighbors are alike or not.

    python benchmarks/watch_level.py         some minutes; writes benchmarks/results/watch_level.json
    python docs/schedules/build.py           then fills the tables of the page

Each curve is a straight line in log(loss) plus a stationary first-order autoregressive Gaussian process. At a fall of exactly
``worth`` the level must hold; the size of the noise does not matter there, for the test has no scale. At a fall of twice that it
should err more rarely, and a flat curve should be stopped.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from scipy.signal import lfilter

from descend.schedule import History, Watch
from descend.stats import proportion
from descend.technique import spec
from harness import save

N = 2000
N_EPOCHS, CORRELATIONS, NOISES = (12, 24, 60), (0.0, 0.5, 0.8, 0.9, 0.95), (0.01, 0.03, 0.1)
WATCH = Watch()


def curves(fall: float, noise: float, correlation: float, n_epochs: int, rng: np.random.Generator) -> np.ndarray:
    """Return N losses: (N, n_epochs)."""
    shocks = rng.standard_normal((N, n_epochs)) * math.sqrt(1 - correlation**2)
    shocks[:, 0] /= math.sqrt(1 - correlation**2)  # stationary from the first epoch on
    return np.exp(math.log1p(-fall) * np.arange(n_epochs) + noise * lfilter([1.0], [1.0, -correlation], shocks, axis=1))


def stops(fall: float, noise: float, correlation: float, n_epochs: int) -> list[float]:
    """Return after how many epochs each curve was stopped; inf where it was watched to the latest point."""
    seed = [round(1e6 * number) for number in (fall, noise, correlation, n_epochs)]
    found: list[float] = []
    for losses in curves(fall, noise, correlation, n_epochs, np.random.default_rng(seed)):
        decision = WATCH.decisions(History(n_epochs, val_loss=tuple(losses.tolist())))[-1]
        found.append(decision.epoch if decision.why.startswith("progress has stopped") else math.inf)
    return found


def share(stopped: list[float]) -> dict[str, float]:
    found = proportion(sum(map(math.isfinite, stopped)), len(stopped))
    return {"share": found.mean, "low": found.low, "high": found.high}


def levels() -> list[dict[str, Any]]:
    """Return how often runs are stopped by mistake: a row per length and correlation."""
    return [
        {
            "epochs": n_epochs,
            "correlation of neighbors": f"{correlation:g}",
            "falls by 2 % (worth): stopped": share(stops(WATCH.worth, 0.03, correlation, n_epochs)),
            "falls by 4 %: stopped": share(stops(2 * WATCH.worth, 0.03, correlation, n_epochs)),
        }
        for n_epochs in N_EPOCHS
        for correlation in CORRELATIONS
    ]


def power() -> list[dict[str, Any]]:
    """Return how often and when flat runs are stopped: a row per length, correlation and size of the noise."""
    table: list[dict[str, Any]] = []
    for n_epochs in N_EPOCHS:
        for correlation in (0.0, 0.5):
            row: dict[str, Any] = {"epochs": n_epochs, "correlation of neighbors": f"{correlation:g}"}
            for noise in NOISES:
                stopped = stops(0.0, noise, correlation, n_epochs)
                middle = float(np.median(stopped))
                row[f"noise {noise:.0%}: stopped"] = share(stopped)
                row[f"noise {noise:.0%}: median epoch"] = middle if math.isfinite(middle) else None
            table.append(row)
    return table


CLAIM = "watch() stops a run that is worth waiting for in at most about 10 % of cases, whether its noise is correlated or not"


def main() -> None:
    started = time.perf_counter()
    result = {"watch": {"levels": levels(), "power": power()}}
    save("watch_level", CLAIM, result, n_curves=N, rule=spec(WATCH, defaults=True), wall_s=round(time.perf_counter() - started))


if __name__ == "__main__":
    main()
