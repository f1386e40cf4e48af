"""Replica of Wan et al. 2013, table 1: no drop, dropout and DropConnect, with the paper's ways to answer at test time.

    python benchmarks/replica_dropconnect.py

Published, on all 60,000 digits, two hidden layers of 800 rectifiers: 1.62 % test errors without drop, 1.28 % with dropout,
1.20 % with DropConnect. Claim to replicate: DropConnect makes no more errors than dropout, both fewer than none.

One training of DropConnect is judged three ways: mean weights, Gaussian moment matching, and the average of 50 drawn masks
that both approximate. Masks are drawn per batch (per sample would take about a hundred times as long here).
"""

from __future__ import annotations

from functools import partial

from descend.comparison import PairedRuns
from descend.regularize import monte_carlo
from descend.train.metrics import log_loss
from harness import interval, save
from mnist5k import Protocol, Setting, Split, Trained, error_of, judge, options, perceptron, plain, replicate, say

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
ARMS = {
    "none": [Setting(lr=lr) for lr in RATES],
    "dropout": [Setting(lr=lr, drop_hidden=0.5) for lr in RATES],
    "DropConnect": [Setting(lr=lr, dropconnect=0.5) for lr in RATES],
}
PUBLISHED = {"none": 1.62, "dropout": 1.28, "DropConnect": 1.20}
N_MASKS = 50


def three_ways(width: int, setting: Setting, trained: Trained, test: Split) -> dict[str, float]:
    """Judge by the mean weights, by the Gaussian (where there is one) and by drawn masks (where there are some)."""
    found = plain(setting, trained, test)
    gaussian = trained.last
    if setting.dropconnect:
        gaussian = perceptron(setting, width, 0, inference="gaussian").eval()
        gaussian.load_state_dict(trained.last.state_dict())
    probs = monte_carlo(trained.last, test.x, N_MASKS, ids=test.ids).probabilities.float().numpy()
    return (
        found
        | {f"{metric}_gaussian": value for metric, value in judge(gaussian, test).items()}
        | {"error_monte_carlo": error_of(probs, test), "nll_monte_carlo": log_loss(probs, test.y.numpy())}
    )


def main() -> None:
    given, protocol = options(__doc__, Protocol(width=256))
    found = replicate(ARMS, protocol, partial(three_ways, protocol.width))
    result = found.result({"dropout": "none", "DropConnect": "none"})
    result["DropConnect - dropout, by inference"] = {
        metric: interval(runs.difference("DropConnect", "dropout")) for metric, runs in found.runs.items()
    }
    ways = {metric: runs.scores["DropConnect"] for metric, runs in found.runs.items()}
    inference = PairedRuns(protocol.seeds, ways)
    result["DropConnect, gaussian - mean weights"] = {
        metric: interval(inference.difference(f"{metric}_gaussian", metric)) for metric in ("error", "nll")
    }
    if given.quick:
        say(str(result["verdicts"]))
        return
    save("replica_dropconnect", "DropConnect makes no more test errors than dropout, and both fewer than none", result,
         published={"source": "Wan et al. 2013, ICML, table 1, rectifiers", "error": PUBLISHED})  # fmt: skip


if __name__ == "__main__":
    main()
