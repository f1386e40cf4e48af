"""Kill real runs of every mode, resume them, and compare them byte by byte with runs that were never interrupted.

    OMP_NUM_THREADS=1 python benchmarks/kills.py --kills 500 --seed 0

Claim: whatever ends a run, and whenever, it is either new or goes on, and ends with the same ``model.safetensors``,
``predictions.csv``, scores and metrics as the run that was never interrupted; no process outlives it; nothing half-written stays.

A chain is one run: it is interrupted up to nine times, by SIGKILL, SIGTERM or SIGINT at a random time or by SIGKILL before its
k-th operation on files (each open for writing, rename, removal, folder made, truncation), until it has ended, or is then left to
end. Its cache is new but for compiled kernels, so that decoding and extraction are interrupted too. Modes take turns; a chain is
a function of seed and number.

Processes are forks of one that has imported what a run imports; one of ten is a fresh one, which imports, and hashes, for itself.
The first process of a chain is interrupted at any time of a whole run; the next ones, which have less to do, rather early.

``auto`` searches by the clock, so no two searches need take the same steps: its runs are compared with what their own recipe,
which holds the steps, gives without an interruption.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import interrupted
from interrupted import SETTINGS, Ended, Interruption

MOST_IN_CHAIN = 9
FRESH_SHARE = 0.1
KINDS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "operation", "operation")
GRACEFUL = {"SIGTERM": 143, "SIGINT": 130}  # exit statuses, where the signal came in time


@dataclass
class Baseline:
    """A run that was not interrupted: its result, how long it took, and how many operations on files it made."""

    result: dict[str, Any]
    wall_s: float
    n_operations: int


@dataclass
class Figures:
    """What became of the chains. bad: chains that broke the claim, with what was said.

    n_fresh: how many of the processes that were to be interrupted were fresh.
    """

    n_kills: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    modes: Counter[str] = field(default_factory=Counter)
    kills_by_mode: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    in_time_s: list[float] = field(default_factory=list)
    n_fresh: int = 0
    bad: list[dict[str, Any]] = field(default_factory=list)


class Bench:
    """Pictures, caches and baselines in one folder."""

    def __init__(self, place: Path, pictures: Path, kernels: Path, seed: int, modes: list[str]) -> None:
        self.place, self.pictures, self.kernels, self.seed, self.modes = place, pictures, kernels, seed, modes
        self.baselines: dict[str, Baseline] = {}
        self.replays: dict[str, dict[str, Any]] = {}

    def cache(self, name: str) -> Path:
        """Return a new cache folder that holds compiled kernels only."""
        folder = self.place / name
        folder.mkdir()
        (folder / "kernels").symlink_to(self.kernels, target_is_directory=True)
        return folder

    def fit(self, mode: str, run: Path) -> list[str]:
        """Return the command that begins a run."""
        return ["fit", str(self.pictures), "--out", str(run), "--seed", "3", *SETTINGS[mode]]

    def baseline(self, mode: str) -> Baseline:
        """Return the run of a mode that nothing interrupts, made once. Before the first one is one that shows what to import."""
        if mode not in self.baselines:
            if not self.baselines:
                self._learn(self._ended("warm", mode))
            ended = self._ended("base", mode)
            self._learn(ended)
            result = interrupted.result_of(self.place / f"base {mode}")
            self.baselines[mode] = Baseline(result, ended.wall_s, interrupted.n_operations(ended))
        return self.baselines[mode]

    def _learn(self, ended: Ended) -> None:
        """Import what a run has imported."""
        interrupted.preload(ended.modules)
        interrupted.alone()

    def _ended(self, name: str, mode: str) -> Ended:
        cache = self.cache(f"cache {name} {mode}")
        ended = interrupted.process(self.fit(mode, self.place / f"{name} {mode}"), cache, self.place / "log")
        if ended.status:
            raise SystemExit(f"{mode}: {ended.said}")
        return ended

    def chain(self, number: int, figures: Figures, most: int) -> None:
        """Interrupt one run up to ``most`` times, let it end, and judge it."""
        chance = random.Random(f"{self.seed} {number}")
        mode = self.modes[number % len(self.modes)]
        base, run, cache = self.baseline(mode), self.place / f"run {number}", self.cache(f"cache {number}")
        history, said, before = list[str](), list[str](), figures.n_kills
        for _ in range(min(most, chance.randint(1, MOST_IN_CHAIN))):
            kind = chance.choice(KINDS)
            fresh = chance.random() < FRESH_SHARE
            share = chance.random() * (chance.random() if history else 1)
            wall_s = base.wall_s + interrupted.imports_s() * fresh
            at = 1 + int(share * base.n_operations) if kind == "operation" else 1.05 * share * wall_s
            interruption = Interruption(kind, at)
            ended = self._go_on(mode, run, cache, interruption, fresh=fresh)
            _count(figures, interruption, ended)
            history.append(f"{'fresh, ' * fresh}{interruption} -> {ended.status}")
            figures.n_fresh += fresh
            said.append(ended.said[-600:])
            if ended.orphans:
                history.append(f"orphans: {ended.orphans}")
            if ended.status == 0:
                break
        ended = self._go_on(mode, run, cache, None, fresh=chance.random() < FRESH_SHARE)
        outcome = self._outcome(mode, run, ended, base, said)
        if any("orphans" in step for step in history):
            outcome = f"orphans, {outcome}"
        figures.modes[mode] += 1
        figures.kills_by_mode[mode] += figures.n_kills - before
        figures.outcomes[outcome] += 1
        if outcome != "identical":
            said.append(ended.said[-600:])
            figures.bad.append({"chain": number, "mode": mode, "outcome": outcome, "history": history, "said": said})
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(cache, ignore_errors=True)

    def _go_on(self, mode: str, run: Path, cache: Path, interruption: Interruption | None, *, fresh: bool) -> Ended:
        """Begin the run, or go on with it where there is one."""
        words = ["fit", "--resume", str(run)] if (run / "record.json").exists() else self.fit(mode, run)
        return interrupted.process(words, cache, self.place / "log", interruption, fresh=fresh)

    def _outcome(self, mode: str, run: Path, ended: Ended, base: Baseline, said: list[str]) -> str:
        """Return what became of a run that was left to end."""
        if any("Traceback" in text for text in (*said, ended.said)):
            return "traceback"
        if ended.status and "must be unfinished" not in ended.said:  # it had finished before the last signal came
            begun = (run / "record.json").exists()
            return "stuck" if begun or "budget: must leave time" not in ended.said else "not begun: too busy for its budget"
        result = interrupted.result_of(run)
        expected = base.result if mode != "auto" else self._replayed(run)
        differing = interrupted.differences(expected, result)
        left = [path.name for path in run.rglob(".*")] + [path.name for path in run.parent.glob(".*")]
        if left:
            return f"left behind: {', '.join(left)}"
        return f"differs in {', '.join(differing)}" if differing else "identical"

    def _replayed(self, run: Path) -> dict[str, Any]:
        """Return the result of a search's own recipe, which takes the same steps without searching."""
        recipe = (run / "recipe.toml").read_text(encoding="utf-8")
        if recipe not in self.replays:
            cache = self.place / "cache base auto"
            self.replays[recipe] = interrupted.replayed(run / "recipe.toml", self.place / "again", cache, self.place / "log")
        return self.replays[recipe]


def _count(figures: Figures, interruption: Interruption, ended: Ended) -> None:
    """Count a kill where it came before the process's own end; a graceful one by its status and the time that it took."""
    came_late = ended.status in (0, 1, 2) and interruption.kind != "operation"
    if came_late or (interruption.kind == "operation" and ended.status != -9):
        figures.kinds["came after the end"] += 1
        return
    figures.n_kills += 1
    figures.kinds[interruption.kind] += 1
    figures.statuses.setdefault(interruption.kind, Counter())[ended.status] += 1
    if interruption.kind in GRACEFUL:
        figures.in_time_s.append(ended.wall_s - interruption.at)


def run(bench: Bench, n_kills: int, tell: Callable[[str], None], limit_s: float) -> Iterator[dict[str, Any]]:
    """Make chains until there were so many kills, or the time is over; yield the figures so far."""
    figures, started, number = Figures(), time.perf_counter(), 0
    while figures.n_kills < n_kills and time.perf_counter() - started < limit_s:
        bench.chain(number, figures, n_kills - figures.n_kills)
        number += 1
        tell(f"{number} runs, {figures.n_kills} kills, {time.perf_counter() - started:.0f} s: {dict(figures.outcomes)}")
        yield _told(bench, figures, number, time.perf_counter() - started)


def _told(bench: Bench, figures: Figures, number: int, wall_s: float) -> dict[str, Any]:
    waits = sorted(figures.in_time_s)
    return {
        "seed": bench.seed, "runs": number, "kills": figures.n_kills, "by_kind": dict(figures.kinds),
        "exit_statuses": {kind: {str(status): n for status, n in counts.items()} for kind, counts in figures.statuses.items()},
        "modes": dict(figures.modes), "kills_by_mode": dict(figures.kills_by_mode),
        "outcomes": dict(figures.outcomes), "bad": figures.bad,
        "fresh_processes": figures.n_fresh,
        "graceful_end_s": {"median": waits[len(waits) // 2], "max": waits[-1]} if waits else None,
        "operations_of_a_run": {mode: base.n_operations for mode, base in bench.baselines.items()},
        "pictures": sum(1 for path in bench.pictures.rglob("*") if path.is_file()),
        "wall_s": round(wall_s),
    }  # fmt: skip


def main() -> None:
    options = interrupted.arguments(__doc__, "kills", n=500, per_class=10).parse_args()

    def batch(place: Path, pictures: Path, kernels: Path) -> Iterator[dict[str, Any]]:
        bench = Bench(place, pictures, kernels, options.seed, options.modes)
        return run(bench, options.kills, interrupted.tell, options.limit)

    claim = "a run that is killed at any moment is new or goes on, and ends with the same bytes"
    interrupted.measure("kills", claim, "kills", options, batch)


if __name__ == "__main__":
    main()
