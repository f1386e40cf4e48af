"""Replica of Srivastava et al. 2014, table 2: no regularization, dropout, dropout with max-norm, in a plain perceptron.

    python benchmarks/replica_dropout.py

Published, on all 60,000 digits: 1.60 % test errors for a standard net, 1.25 % with dropout and rectifiers, 1.06 % with max-norm
in addition. Claim to replicate: dropout makes fewer errors than none, and max-norm takes away some more.
"""

from __future__ import annotations

from harness import save
from mnist5k import Protocol, Setting, options, replicate, say

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


def dropped(lr: float, *regularizers: str) -> Setting:
    """Return a setting with the paper's drop probabilities."""
    return Setting(lr=lr, drop_input=0.2, drop_hidden=0.5, regularizers=regularizers)


ARMS = {
    "none": [Setting(lr=lr) for lr in RATES],
    "dropout": [dropped(lr) for lr in RATES],
    "dropout + max-norm": [dropped(lr, f"max_norm(limit={limit})") for lr in RATES[2:5] for limit in (2.0, 3.5)],
}
PUBLISHED = {"none": 1.60, "dropout": 1.25, "dropout + max-norm": 1.06}


def main() -> None:
    given, protocol = options(__doc__, Protocol())
    found = replicate(ARMS, protocol)
    result = found.result({"dropout": "none", "dropout + max-norm": "dropout"})
    if given.quick:
        say(str(result["verdicts"]))
        return
    save("replica_dropout", "fewer test errors with dropout than without, fewer still with max-norm", result,
         published={"source": "Srivastava et al. 2014, JMLR 15:1929, table 2", "error": PUBLISHED})  # fmt: skip


if __name__ == "__main__":
    main()
