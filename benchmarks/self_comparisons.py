"""Compare a recipe with itself on real runs: ``descend compare`` should hardly ever call the two sides different.

Claim: at most 4 of 40 comparisons on digits do (two are expected at level 95 %; five or more come in 5 % of cases by luck alone).
Each comparison has a split of its own; both sides are the same recipe on it, five runs each, all on different seeds, so that they
differ as two settings of equal quality do. Every run, pairing and verdict goes through the code of ``descend compare``. Scaled
down: a small network and 3 epochs.

    python benchmarks/self_comparisons.py --comparisons 40 --seeds 5
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import descend
from descend.comparison import Candidate, Comparison, Made
from descend.comparison.runs import job, make
from descend.stats import proportion
from descend.train.recipe import Recipe
from harness import interval, save

ALLOWED = 0.1  # of the comparisons
RECIPE = Recipe(data="digits", epochs=3, backbone="smallcnn(width=16)", batch_size=32, threads=1)


def runs(name: str, split_seed: int, first_seed: int, n_seeds: int, root: Path) -> list[Made]:
    """Return the runs of one side, numbered from 0, so that those of equal number are paired."""
    side = Candidate(name, RECIPE)
    jobs = [job(side, first_seed + k, split_seed, root, "digits") for k in range(n_seeds)]
    return [dataclasses.replace(make(item, fit=descend.fit, resume=descend.resume), seed=k) for k, item in enumerate(jobs)]


def compared(number: int, n_seeds: int, root: Path) -> dict[str, Any]:
    """Compare the recipe with itself on a split of its own."""
    first = 2 * n_seeds * number
    made = [*runs("one", number, first, n_seeds, root), *runs("other", number, first + n_seeds, n_seeds, root)]
    found = Comparison(root, "digits", ("one", "other"), {}, made)
    (verdict,) = found.verdicts()
    known = verdict.known
    accuracies = {name: [round(score, 4) for score in found.paired("other").scores[name]] for name in found.names}
    return {
        "split_seed": number, "false": verdict.different, "p_value": round(known.p_value, 4),
        "difference": interval(known.interval), "n_pictures": known.n_pictures, "accuracies": accuracies,
    }  # fmt: skip


def main() -> None:
    """Make the comparisons and write what came of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, help="a folder for the runs, which are kept and taken again")
    options = parser.parse_args()
    started, rows = time.process_time(), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(options.comparisons):
            rows.append(compared(number, options.seeds, options.runs or Path(temporary)))
            print(number, "FALSE" if rows[-1]["false"] else "equal", f"p = {rows[-1]['p_value']:.3f}", flush=True)
    n_false = sum(row["false"] for row in rows)
    claim = f"at most {ALLOWED:.0%} of comparisons of a recipe with itself call the two sides different"
    result = {
        "comparisons": len(rows), "seeds of each side": options.seeds, "false verdicts": n_false,
        "share": interval(proportion(n_false, len(rows))), "holds": n_false <= ALLOWED * len(rows),
    }  # fmt: skip
    save("self_comparisons", claim, result, recipe=dataclasses.asdict(RECIPE), processor_s=round(time.process_time() - started),
         each=rows)  # fmt: skip


if __name__ == "__main__":
    main()
