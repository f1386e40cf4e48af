"""The methods of ``anytime.py``: each a command that gets a split, a budget and a seed, and answers every test picture."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import fresh_cache, seconds

PEERS = Path(__file__).parent / "peers"
PATIENCE_S = 1800.0  # beyond the budget, before a method is stopped

Answer = dict[str, Any]
"""accuracy, of_answered (n and accuracy of the test pictures with an answer), right (``class/file`` -> bool), facts, complete
(more time changes nothing); or no_answer, the reason. And wall_s."""


Run = Callable[[Path, str, int], Answer]
"""What answers the test pictures of a folder within a budget, from a seed."""


@dataclass(frozen=True)
class Method:
    """What is compared. sources: the files and folders, from the repository's root, that its answers follow from."""

    run: Run
    sources: tuple[str, ...]


def descend(settings: list[str], *, complete: bool) -> Method:
    """Return ``descend fit`` as a command of its own, its cache empty. settings: ``BUDGET`` stands for the budget."""

    def run(folder: Path, budget: str, seed: int) -> Answer:
        with tempfile.TemporaryDirectory() as work:
            out, given = Path(work) / "run", [budget if word == "BUDGET" else word for word in settings]
            command = [sys.executable, "-m", "descend.cli", "fit", str(folder), *given, "--seed", str(seed), "--json"]
            text, answer = finished([*command, "--out", str(out)], budget, env=fresh_cache(Path(work) / "cache"))
            if text is None:
                return answer
            with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
            predicted = {f"{row['label']}/{Path(row['path']).name}": row["predicted"] for row in rows}
            record = json.loads((out / "record.json").read_text(encoding="utf-8"))
            steps = [
                f"{step['step']} {step['began_s']:.0f}-{step['ended_s']:.0f} s: {step['outcome']}" for step in record["search"]
            ]
            facts = (json.loads(text)["chosen"] or {}) | {"steps": steps, "used_s": round(record["budget_used_s"], 1)}
            return answer | judged(folder, predicted, facts, complete=complete)

    return Method(run, ("src",))


def peer(script: str) -> Method:
    """Return a peer's script as a command (see ``peers/protocol.py``)."""

    def run(folder: Path, budget: str, seed: int) -> Answer:
        command = [sys.executable, str(PEERS / script), str(folder), "--seed", str(seed)]
        text, answer = finished([*command, "--deadline", f"{time.time() + seconds(budget):.3f}"], budget)
        if text is None:
            return answer
        told = json.loads(text)
        complete = told["facts"].pop("complete")
        return answer | judged(folder, told["predicted"], told["facts"], complete=complete)

    return Method(run, tuple(f"benchmarks/peers/{name}" for name in (script, "protocol.py", "dataset.py")))


def finished(command: list[str], budget: str, env: dict[str, str] | None = None) -> tuple[str | None, Answer]:
    """Run a command; return the last line that it printed, or None where it failed, and its wall time, or why it failed."""
    started = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=seconds(budget) + PATIENCE_S)
    except subprocess.TimeoutExpired:
        return None, {"no_answer": "stopped", "wall_s": time.perf_counter() - started}
    wall_s = round(time.perf_counter() - started, 2)
    if done.returncode or not done.stdout.strip():
        return None, {"no_answer": "\n".join(done.stderr.strip().splitlines()[-3:]), "wall_s": wall_s}
    return done.stdout.strip().splitlines()[-1], {"wall_s": wall_s}


def test_pictures(folder: Path) -> list[str]:
    """Return the test pictures of a split, ``class/file``, sorted."""
    return sorted(f"{path.parent.name}/{path.name}" for path in (folder / "test").glob("*/*"))


def judged(folder: Path, predicted: dict[str, str], facts: dict[str, Any], *, complete: bool) -> Answer:
    """Return how right the answers are. A test picture that a method left unanswered counts as wrong but in ``of_answered``."""
    pictures = test_pictures(folder)
    right = {name: predicted.get(name) == name.split("/")[0] for name in pictures}
    n_right = sum(right.values())
    answered = {"n": len(predicted), "accuracy": n_right / max(len(predicted), 1)}
    return {"accuracy": n_right / len(right), "of_answered": answered, "right": right, "facts": facts, "complete": complete}


METHODS: dict[str, Method] = {
    "auto": descend(["--transfer", "auto", "--budget", "BUDGET"], complete=False),
    "features": descend(["--transfer", "features"], complete=True),
    "logistic": peer("logistic.py"),
    "finetune": peer("finetune.py"),
    "fastai": peer("fastai_finetune.py"),
}
