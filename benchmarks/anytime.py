"""The best classifier that the time allows: ``auto`` against what one would do otherwise, by wall time, on the same splits.

    python benchmarks/anytime.py hymenoptera sign-digits flowers5 cifar10
    python benchmarks/anytime.py sign-digits --budgets 30s 1m --seeds 1 --methods auto finetune

Claims: ``auto`` is first, or not distinguishable from the first, at 30 s, 1, 2, 5 and 20 minutes on every set; on ``hymenoptera``
never below ``features``; on ``sign-digits`` at least 97 % at 1 min and 98.5 % at 5 min; on ``flowers5`` at 1 min at least what
plain fine-tuning has at 5 min.

Every method is a process of its own on the same cores, in rotating order, with the same Lite0 weights, and gets the same folder
of links with ``train/ val/ test/`` (``splits.py``). Its wall time counts from its start to its end: imports, decoding, training
and the answers to all of test. One that says that more time changes nothing is not run again at a larger budget. descend's cache
is empty but for its compiled kernels. Every run stands in ``results/anytime_runs.jsonl``, with which test pictures it had right,
so that an interrupted benchmark goes on, on another machine of the same kind too: as long as nothing changes in what a method's
answers follow from (``Method.sources``: our ``src/``, a peer's script), later commits find them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from descend.comparison import PairedRuns
from descend.stats import mean
from harness import HERE, allowed, environment, in_lanes, interval, machine, save, seconds, spread
from methods import METHODS, Answer, test_pictures
from splits import NAMES, split

OURS, BUDGETS = "auto", ("30s", "1m", "2m", "5m", "20m")
Key = tuple[str, str, str, int]  # method, data, budget, seed


class Runs:
    """What has been measured of the methods as they are now, one JSON line per run.

    Found are those of this kind of machine, about the test pictures of these splits. folders: by set and seed.
    """

    def __init__(self, path: Path, folders: Mapping[tuple[str, int], Path]) -> None:
        self.path, self._writing = path, threading.Lock()
        self.commit = environment()["commit"]
        self.machine = machine() | {"vectors": torch.backends.cpu.get_cpu_capability()}
        self.asked = {key: test_pictures(folder) for key, folder in folders.items()}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.answers: dict[Key, Answer] = {}
        for row in map(json.loads, lines):
            method, name, _, seed = key = tuple(row["key"])
            pictures = self.asked.get((name, seed), [])
            same = row["pictures"] == _digest(pictures) and row["machine"] == self.machine
            if pictures and same and unchanged(method, row["commit"]):
                self.answers[key] = _unpacked(row["answer"], pictures) | {"commit": row["commit"]}

    def keep(self, key: Key, answer: Answer) -> None:
        """Add a run. One of a method with changes that are not committed yet has no commit, and is not found again."""
        commit, pictures = self.commit if unchanged(key[0], self.commit) else None, self.asked[key[1], key[3]]
        self.answers[key] = answer | {"commit": commit}
        row = {"key": key, "commit": commit, "machine": self.machine, "pictures": _digest(pictures), "answer": _packed(answer)}
        with self._writing, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def found(self, method: str, name: str, budget: str, seed: int) -> Answer | None:
        """Return what a method has answered within a budget, or would have: with more time than it needs."""
        return self.answers.get((method, name, budget, seed)) or self.complete(method, name, budget, seed)

    def complete(self, method: str, name: str, budget: str, seed: int) -> Answer | None:
        """Return the answer to which more time adds nothing, if the method has given one in no more time than the budget."""
        given = (answer for key, answer in [*self.answers.items()] if (key[0], key[1], key[3]) == (method, name, seed))
        within = (answer for answer in given if answer["wall_s"] <= allowed(seconds(budget)))
        return next((answer for answer in within if answer.get("complete")), None)


def _digest(pictures: Sequence[str]) -> str:
    """Return what tells test pictures from others by their names."""
    return hashlib.blake2b("\n".join(pictures).encode(), digest_size=8).hexdigest()


def _packed(answer: Answer) -> Answer:
    """Return an answer with a digit for each test picture in the order of their names, 1 where it is right."""
    return answer | {"right": "".join("01"[right] for right in answer["right"].values())} if "right" in answer else answer


def _unpacked(answer: Answer, pictures: Sequence[str]) -> Answer:
    """Return an answer as it was before ``_packed``."""
    if "right" not in answer:
        return answer
    return answer | {"right": {name: digit == "1" for name, digit in zip(pictures, answer["right"], strict=True)}}


@cache
def unchanged(method: str, commit: str | None) -> bool:
    """Return whether the method's sources are on disk as they were on a commit. One that is no longer a method has changed."""
    if method not in METHODS or commit is None:
        return False
    command = ["git", "diff", "--quiet", commit, "--", *METHODS[method].sources]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL, cwd=HERE.parent).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="DATA", help=f"{NAMES}, or a folder")
    parser.add_argument("--budgets", nargs="+", default=BUDGETS, metavar="B", help="default: those of the claim")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    parser.add_argument("--cores", type=int, default=2, metavar="N", help="cores that every method runs on; default 2")
    parser.add_argument("--lanes", type=int, default=1, metavar="N", help="sets, seeds and budgets measured at once; default 1")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "descend-anytime", help="kept between calls")
    parser.add_argument("--kept", action="store_true", help="measure nothing more: publish the runs that there are")
    parser.add_argument("--no-save", action="store_true", help="print the result only")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    budgets = sorted(given.budgets, key=seconds)
    folders = {(name, seed): split(name, seed, given.work) for name in given.data for seed in range(given.seeds)}
    runs = Runs(HERE / "results" / "anytime_runs.jsonl", folders)
    cells = [(seed, name, budget) for seed in range(given.seeds) for name in given.data for budget in budgets]

    def work(turn: int) -> None:
        (seed, name, _), shift = cells[turn], turn % len(given.methods)
        measure(folders[name, seed], cells[turn], [*given.methods[shift:], *given.methods[:shift]], runs)

    if not given.kept:
        in_lanes(work, range(len(cells)), lanes=given.lanes, cores=given.cores)
    seeds = range(given.seeds)
    result = {name: {budget: compared(runs, name, budget, seeds, given.methods) for budget in budgets} for name in given.data}
    if given.no_save:
        print(json.dumps(result, indent=1))
    else:
        claim = "auto is first or tied for first at every budget on every set"
        save("anytime", claim, result, seeds=given.seeds, cores=given.cores, lanes=given.lanes)


def measure(folder: Path, cell: tuple[int, str, str], methods: Sequence[str], runs: Runs) -> None:
    """Run what has not been run yet of a seed, set and budget: one method after another, on the same processors."""
    seed, name, budget = cell
    for method in methods:
        key = (method, name, budget, seed)
        if key in runs.answers:
            continue
        answer = runs.complete(method, name, budget, seed) or METHODS[method].run(folder, budget, seed)
        runs.keep(key, answer)
        told = f"{answer['accuracy']:.4f}" if "accuracy" in answer else f"no answer: {answer['no_answer']}"
        print(f"{name} seed {seed} {budget} {method}: {told} in {answer['wall_s']:.1f} s", file=sys.stderr, flush=True)


def compared(runs: Runs, name: str, budget: str, seeds: Sequence[int], methods: Sequence[str]) -> dict[str, Any]:
    """Return one set and budget: each method's accuracy and wall time, and how ours differs from each of the others."""
    found = {method: [runs.found(method, name, budget, seed) for seed in seeds] for method in methods}
    answers = {method: [row for row in rows if row is not None] for method, rows in found.items() if None not in rows}
    table: dict[str, Any] = {"methods": {method: summary(rows, budget) for method, rows in answers.items()}}
    full = {method: rows for method, rows in answers.items() if all("accuracy" in row for row in rows)}
    if OURS not in full:
        return table
    paired = as_pairs(full, seeds)
    others = [method for method in full if method != OURS]
    if len(seeds) > 1 or paired.items:
        differences = {other: paired.difference(OURS, other) for other in others}
        table["ours_above"] = {other: interval(found) for other, found in differences.items()}
        table["verdicts"] = {other: paired.verdict(OURS, other) for other in others}
        table["behind"] = [other for other, found in differences.items() if found.high < 0]
    table["best_mean"] = max(full, key=lambda method: float(np.mean(paired.scores[method])))
    return table


def as_pairs(answers: dict[str, list[Answer]], seeds: Sequence[int]) -> PairedRuns:
    """Return the runs for comparison: picture by picture where all seeds share one test split."""
    scores = {method: [row["accuracy"] for row in rows] for method, rows in answers.items()}
    walls = {method: [row["wall_s"] for row in rows] for method, rows in answers.items()}
    items = dict[str, NDArray[np.float64]]()
    if len({tuple(row["right"]) for rows in answers.values() for row in rows}) == 1:
        items = {method: np.array([[*row["right"].values()] for row in rows], np.float64) for method, rows in answers.items()}
    return PairedRuns(tuple(seeds), scores, walls, items)


def summary(rows: Sequence[Answer], budget: str) -> dict[str, Any]:
    """Return one method at one budget. late: runs whose wall time exceeds the budget by more than it may."""
    accuracies = [row["accuracy"] for row in rows if "accuracy" in row]
    return {
        "accuracy": interval(mean(accuracies)) if len(accuracies) > 1 else accuracies,
        "each": accuracies,
        "of_answered": [row["of_answered"] for row in rows if "of_answered" in row],
        "wall_s": spread([row["wall_s"] for row in rows]),
        "late": sum(row["wall_s"] > allowed(seconds(budget)) for row in rows),
        "no_answer": [row["no_answer"] for row in rows if "no_answer" in row],
        "facts": [row["facts"] for row in rows if "facts" in row],
        "commits": [row["commit"] for row in rows],
    }


if __name__ == "__main__":
    main()
