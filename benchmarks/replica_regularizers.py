"""Replica of Srivastava et al. 2014, table 9: six regularizers in one perceptron, ranked by their test errors.

    python benchmarks/replica_regularizers.py

Published, on all 60,000 digits: 1.62 % test errors with L2, 1.60 % with L2 and L1 towards the end, 1.55 % with L2 and
KL-sparsity, 1.35 % with max-norm, 1.25 % with dropout and L2, 1.05 % with dropout and max-norm. Claim to replicate: the same
order (a rank correlation above zero).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy import stats

from descend.stats import mean
from harness import interval, save
from mnist5k import Protocol, Replica, Setting, options, replicate, say

RATES = (0.02, 0.05, 0.1)
PUBLISHED = {"L2": 1.62, "L2 + L1 at the end": 1.60, "L2 + KL-sparsity": 1.55, "max-norm": 1.35, "dropout + L2": 1.25,
             "dropout + max-norm": 1.05}  # fmt: skip


def dropped(lr: float, regularizer: str) -> Setting:
    """Return a setting with the paper's drop probabilities."""
    return Setting(lr=lr, drop_input=0.2, drop_hidden=0.5, regularizers=(regularizer,))


ARMS = {
    "L2": [Setting(lr=lr, regularizers=(f"l2(strength={s})",)) for lr in RATES for s in (1e-4, 1e-3)],
    "L2 + L1 at the end": [
        Setting(lr=lr, regularizers=("l2(strength=0.001)",), late=(f"l1(strength={s})",)) for lr in RATES for s in (1e-5, 1e-4)
    ],
    "L2 + KL-sparsity": [
        Setting(lr=lr, regularizers=("l2(strength=0.001)", f"kl_sparsity(target=0.1, strength={s})"))
        for lr in RATES
        for s in (1e-4, 1e-3)
    ],
    "max-norm": [Setting(lr=lr, regularizers=(f"max_norm(limit={c})",)) for lr in RATES for c in (2.0, 3.5)],
    "dropout + L2": [dropped(lr, f"l2(strength={s})") for lr in RATES for s in (1e-5, 1e-4)],
    "dropout + max-norm": [dropped(lr, f"max_norm(limit={c})") for lr in RATES for c in (2.0, 3.5)],
}


def ranking(found: Replica, metric: str) -> dict[str, Any]:
    """Return Spearman's correlation with the published errors: of the means, with its exact p-value, and seed by seed."""
    runs, published = found.runs[metric], list(PUBLISHED.values())
    means = [runs.mean(name).mean for name in PUBLISHED]

    def rho(errors: Sequence[float]) -> float:
        found: Any = stats.spearmanr(published, errors)
        return float(found.statistic)

    exact: Any = stats.permutation_test((means,), rho, permutation_type="pairings", alternative="greater", n_resamples=10_000)
    each = [rho([runs.scores[name][i] for name in PUBLISHED]) for i in range(len(runs.seeds))]
    return {"of_means": float(exact.statistic), "p_value_one_sided": float(exact.pvalue), "each_seed": interval(mean(each)),
            "order": sorted(PUBLISHED, key=lambda name: runs.mean(name).mean)}  # fmt: skip


def main() -> None:
    given, protocol = options(__doc__, Protocol(width=256, seeds=tuple(range(6))))
    found = replicate(ARMS, protocol)
    result = found.result({name: "L2" for name in ARMS if name != "L2"})
    if given.quick:
        say(str(result["verdicts"]))
        return
    result["rank_correlation"] = {metric: ranking(found, metric) for metric in ("error", "error_best_epoch")}
    save("replica_regularizers", "six regularizers rank as published: a rank correlation above zero", result,
         published={"source": "Srivastava et al. 2014, JMLR 15:1929, table 9", "error": PUBLISHED})  # fmt: skip


if __name__ == "__main__":
    main()
