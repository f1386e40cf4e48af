"""Cut the power of real runs at random moments, and go on with what the disk then holds.

    OMP_NUM_THREADS=1 python benchmarks/power_cuts.py --cuts 100 --seed 0        (as root, on Linux, with loop devices)

Claim: after a power cut, during a run or after its end, the run is new or goes on, and ends with the same bytes as one that was
never interrupted; one that had said it was finished is finished, and its model verifies.

Run folder and cache lie on an ext4 file system in a file (``noauto_da_alloc``: nothing is flushed that was not asked for; a
journal commit only every 60 s). A cut is a copy of that file, without any sync, while the process stands still: it holds what
reached the device, and nothing of what the kernel still had in memory. The copy is mounted, which replays its journal, and the
run goes on there. A copy is taken again until two in a row are equal, so that none is torn.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import interrupted
from interrupted import SETTINGS

IMAGE_BYTES = 192 * 2**20
OPTIONS = "loop,noauto_da_alloc,commit=60"
AFTER_S = 8.0  # the last cut of a run comes up to so long after its end
CUTS_OF_A_RUN = 4


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    """Mount an image while the block runs."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", OPTIONS, str(image), str(at)], check=True)
    try:
        yield at
    finally:
        for _ in range(50):  # what a killed process had open may take a moment
            if subprocess.run(["umount", str(at)], check=False, stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.2)


def formatted(image: Path) -> Path:
    """Make an empty ext4 file system in a file."""
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    return image


def cut(image: Path, copy: Path, process: int | None) -> None:
    """Copy what has reached the device, while the process stands still."""
    with contextlib.suppress(ProcessLookupError):
        if process is not None:
            os.kill(process, signal.SIGSTOP)
    again = copy.with_suffix(".again")
    subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
    for _ in range(20):
        subprocess.run(["cp", "--sparse=always", str(image), str(again)], check=True)
        if filecmp.cmp(copy, again, shallow=False):
            break
        again.replace(copy)
    again.unlink(missing_ok=True)
    with contextlib.suppress(ProcessLookupError):
        if process is not None:
            os.kill(process, signal.SIGCONT)


class Bench:
    """A folder with pictures, images and the runs that nothing interrupts."""

    def __init__(self, place: Path, pictures: Path, kernels: Path, seed: int, modes: list[str]) -> None:
        self.place, self.pictures, self.kernels, self.seed, self.modes = place, pictures, kernels, seed, modes
        self.baselines: dict[str, tuple[dict[str, Any], float]] = {}

    def words(self, mode: str, disk: Path) -> list[str]:
        """Return the command that begins a run on a disk, or goes on with it."""
        run = disk / "run"
        if (run / "record.json").exists():
            return ["fit", "--resume", str(run)]
        return ["fit", str(self.pictures), "--out", str(run), "--seed", "3", *SETTINGS[mode]]

    def cache(self, disk: Path) -> Path:
        """Return the cache on a disk; compiled kernels lie elsewhere."""
        folder = disk / "cache"
        folder.mkdir(exist_ok=True)
        if not os.path.lexists(folder / "kernels"):
            (folder / "kernels").symlink_to(self.kernels, target_is_directory=True)
        return folder

    def baseline(self, mode: str) -> tuple[dict[str, Any], float]:
        """Return the result of the run that nothing interrupts, and its wall time in seconds."""
        if mode not in self.baselines:
            for name in ("base",) if self.baselines else ("warm", "base"):  # the first one shows what to import
                disk = self.place / f"{name} {mode}"
                disk.mkdir()
                ended = interrupted.process(self.words(mode, disk), self.cache(disk), self.place / "log")
                if ended.status:
                    raise SystemExit(f"{mode}: {ended.said}")
                interrupted.preload(ended.modules)
                interrupted.alone()
                self.baselines[mode] = interrupted.result_of(disk / "run"), ended.wall_s
        return self.baselines[mode]

    def cuts(self, number: int, n: int) -> Iterator[tuple[str, str, float]]:
        """Run once, cut the power ``n`` times, and yield (when, what became of it, seconds into the run) of each."""
        chance = random.Random(f"{self.seed} {number}")
        mode = self.modes[number % len(self.modes)]
        wall_s = self.baseline(mode)[1]
        moments = sorted(chance.uniform(0, wall_s) for _ in range(n - 1))
        late_s = chance.uniform(0, AFTER_S)
        image, copies = formatted(self.place / "disk"), [self.place / f"cut {k}" for k in range(n)]
        with mounted(image, self.place / "mounted") as disk:
            started, when = time.perf_counter(), list[str]()
            child = interrupted.begun(self.words(mode, disk), self.cache(disk), self.place / "log")
            for moment, copy in zip(moments, copies, strict=False):
                while time.perf_counter() - started < moment:
                    time.sleep(0.01)
                over = interrupted.has_ended(child)
                cut(image, copy, None if over else child)
                when.append("after the end" if over else "during the run")
            os.waitpid(child, 0)
            time.sleep(late_s)
            moments.append(time.perf_counter() - started)
            cut(image, copies[-1], None)
            when.append("after the end")
            if not (disk / "run/report.html").exists():
                raise SystemExit((self.place / "log").read_text(encoding="utf-8"))
        for moment, copy, at in zip(moments, copies, when, strict=True):
            with mounted(copy, self.place / "after the cut") as disk:
                yield at, self._outcome(mode, disk, over=at == "after the end"), moment
            copy.unlink()

    def _outcome(self, mode: str, disk: Path, *, over: bool) -> str:
        words = self.words(mode, disk)
        ended = interrupted.process(words, self.cache(disk), self.place / "log")
        if over and words[1] == "--resume" and "must be unfinished" not in ended.said:
            return f"finished, and not so on disk: {ended.said[-300:]}"
        if ended.status and "must be unfinished" not in ended.said:
            return f"stuck: {ended.said[-300:]}"
        expected = self.baseline(mode)[0] if mode != "auto" else self._replayed(disk)
        differing = interrupted.differences(expected, interrupted.result_of(disk / "run"))
        if differing:
            return f"differs in {', '.join(differing)}"
        if over and words[1] != "--resume":
            return "finished, and lost"
        return "identical, begun anew" if words[1] != "--resume" else "identical"

    def _replayed(self, disk: Path) -> dict[str, Any]:
        """Return what the recipe of a search gives, which holds the steps that it took: no two searches need take the same."""
        base = self.place / "base auto"
        return interrupted.replayed(disk / "run/recipe.toml", self.place / "again", self.cache(base), self.place / "log")


def run(bench: Bench, n_cuts: int, tell: Callable[[str], None], limit_s: float) -> Iterator[dict[str, Any]]:
    """Cut until there were so many cuts, or the time is over; yield the figures so far."""
    outcomes, bad, started, number = dict[str, Counter[str]](), list[dict[str, Any]](), time.perf_counter(), 0
    n = 0
    while n < n_cuts and time.perf_counter() - started < limit_s:
        for when, outcome, moment in bench.cuts(number, min(CUTS_OF_A_RUN, n_cuts - n)):
            outcomes.setdefault(when, Counter())[outcome.partition(":")[0]] += 1
            n += 1
            if not outcome.startswith("identical"):
                bad.append({"run": number, "when": when, "at_s": moment, "outcome": outcome})
        number += 1
        tell(f"{n} cuts of {number} runs, {time.perf_counter() - started:.0f} s: {outcomes}")
        yield {
            "seed": bench.seed, "cuts": n, "runs": number, "modes": sorted(bench.baselines), "mount": OPTIONS,
            "outcomes": {when: dict(counts) for when, counts in outcomes.items()}, "bad": list(bad),
            "wall_s": round(time.perf_counter() - started),
        }  # fmt: skip


def main() -> None:
    options = interrupted.arguments(__doc__, "cuts", n=100, per_class=10).parse_args()
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        raise SystemExit("needs root, loop devices and mkfs.ext4")

    def batch(place: Path, pictures: Path, kernels: Path) -> Iterator[dict[str, Any]]:
        return run(Bench(place, pictures, kernels, options.seed, options.modes), options.cuts, interrupted.tell, options.limit)

    claim = "a run whose power is cut is new, goes on or stays finished, and ends with the same bytes"
    interrupted.measure("power_cuts", claim, "cuts", options, batch)


if __name__ == "__main__":
    main()
