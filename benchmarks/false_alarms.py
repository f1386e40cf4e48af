"""Two settings of equal quality, simulated: how often does each interval call them different? 5 % is what it promises.

Claims: ``descend.stats.paired_runs_and_items`` does so in at most 6.5 % of 1000 draws, in every world below (5 % and two standard
errors). Beside it: the interval over seeds alone (``paired``); one Student's t with Satterthwaite's degrees of freedom for the
whole variance; and the percentiles of a bootstrap that draws seeds and pictures with replacement (Owen 2007, Ann. Appl. Stat. 1,
386-411). A world has pictures of differing difficulty (spread 2 logits), settings that find other pictures hard (``own``), and
runs that turn out better or worse (``seed``), both as spreads in logits; over all pictures there could be the settings are equal.

    python benchmarks/false_alarms.py --draws 1000
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from descend.stats import paired, paired_runs_and_items
from harness import save

Scores = NDArray[np.float64]
WORLDS = {"pictures": (2.0, 0.1), "seeds": (0.0, 0.5), "both": (1.0, 0.3), "neither": (0.0, 0.0)}
N_SEEDS, N_PICTURES = (2, 3, 5, 10), (100, 500)
N_RESAMPLES = 400


def runs(draw: np.random.Generator, n_seeds: int, hard: Scores, own: float, seed: float) -> Scores:
    """Return right or wrong of one setting's runs: (n_seeds, n_pictures)."""
    logits = hard + own * draw.normal(size=hard.size) + seed * draw.normal(size=(n_seeds, 1))
    return (draw.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)


def bootstrap(draw: np.random.Generator, d: Scores) -> bool:
    """Whether the 95 % percentile interval of the bootstrap over seeds and pictures excludes zero."""
    seeds, pictures = (draw.multinomial(n, np.full(n, 1 / n), N_RESAMPLES) / n for n in d.shape)
    low, high = np.quantile(((seeds @ d) * pictures).sum(1), [0.025, 0.975])
    return bool(low > 0 or high < 0)


def satterthwaite(d: Scores) -> bool:
    """Whether one t for the whole variance excludes zero at 95 %. Satterthwaite 1946, Biometrics Bulletin 2, 110-114."""
    (s, p), by_seed, by_picture = d.shape, d.mean(1), d.mean(0)
    seeds, pictures = p * by_seed.var(ddof=1), s * by_picture.var(ddof=1)
    rest = ((d - by_seed[:, None] - by_picture + d.mean()) ** 2).sum() / ((s - 1) * (p - 1))
    total = max(seeds + pictures - rest, seeds, pictures)
    freedom = total**2 / (seeds**2 / (s - 1) + pictures**2 / (p - 1) + rest**2 / ((s - 1) * (p - 1)))
    return bool(abs(d.mean()) > stats.t.ppf(0.975, freedom) * np.sqrt(total / d.size))


def alarms(draw: np.random.Generator, n_draws: int, n_seeds: int, n_pictures: int, own: float, seed: float) -> dict[str, float]:
    """Return the share of draws, in percent, in which each interval excludes zero."""
    counts = {"paired_runs_and_items": 0, "paired": 0, "satterthwaite": 0, "bootstrap": 0}
    for _ in range(n_draws):
        hard = 1.5 + 2 * draw.normal(size=n_pictures)
        a, b = (runs(draw, n_seeds, hard, own, seed) for _ in range(2))
        counts["paired_runs_and_items"] += paired_runs_and_items(a, b).distinguishable
        counts["paired"] += paired(a.mean(1).tolist(), b.mean(1).tolist()).distinguishable
        counts["satterthwaite"] += satterthwaite(a - b)
        counts["bootstrap"] += bootstrap(draw, a - b)
    return {name: round(100 * count / n_draws, 1) for name, count in counts.items()}


def main() -> None:
    """Simulate every world and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    n_draws = parser.parse_args().draws
    rows: list[dict[str, Any]] = []
    for (world, spreads), n_seeds, n_pictures in itertools.product(WORLDS.items(), N_SEEDS, N_PICTURES):
        draw = np.random.default_rng([n_seeds, n_pictures, *(round(10 * spread) for spread in spreads)])
        shares = alarms(draw, n_draws, n_seeds, n_pictures, *spreads)
        rows.append({"chance lies in": world, "seeds": n_seeds, "pictures": n_pictures} | shares)
        print(rows[-1])
    span = {name: [min(row[name] for row in rows), max(row[name] for row in rows)] for name in list(rows[0])[3:]}
    save("false_alarms", "at most 6.5 % of equal settings are called different by paired_runs_and_items, in every world",
         {"percent of equal settings called different, lowest and highest": span, "draws": n_draws, "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()
