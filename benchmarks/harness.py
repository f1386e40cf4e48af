"""What every benchmark shares: where the data are, what machine this is, how spread is told, where results go."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from descend.files import default_root
from descend.stats import Interval
from descend.train.record import machine, versions

Job = TypeVar("Job")
Result = TypeVar("Result")

HERE = Path(__file__).parent
DATA = Path(os.environ.get("DESCEND_DATA", HERE.parent / ".." / "shared" / "data")).resolve()


def data(name: str) -> Path:
    """Return real data by name; a benchmark without its data cannot run."""
    path = DATA / name
    if not path.exists():
        raise SystemExit(f"needs {name} in DESCEND_DATA (now {DATA})")
    return path


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def timed(command: Sequence[str], *, check: bool = True, env: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Return (wall, processor) seconds of a whole process; check: raise where it fails."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=check, capture_output=True, env=env)
    wall, after = time.perf_counter() - started, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def interval(found: Interval) -> dict[str, float]:
    """Return an interval as plain data."""
    return asdict(found)


def seconds(text: str) -> float:
    """Return the seconds of a budget as ``descend fit`` takes it: ``30s``, ``5m``, ``1h``."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def allowed(budget_s: float) -> float:
    """Return the wall time that a whole process may take and still keep its budget: 5 %, or 5 s, more."""
    return budget_s + max(0.05 * budget_s, 5.0)


def fresh_cache(folder: Path) -> dict[str, str]:
    """Return an environment in which descend's cache is empty but for compiled kernels, which a first run leaves for good."""
    kernels = default_root() / "kernels"
    kernels.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True)
    (folder / "kernels").symlink_to(kernels, target_is_directory=True)
    return {**os.environ, "DESCEND_CACHE": str(folder)}


def in_lanes(work: Callable[[Job], Result], jobs: Iterable[Job], *, lanes: int, cores: int) -> list[Result]:
    """Return ``work(job)`` of every job, as many at once as there are lanes, each on ``cores`` processors of its own.

    The processes that ``work`` starts inherit its processors. What lanes share is memory's bandwidth and the processor's clock:
    results are of one machine only.
    """
    processors, free = sorted(os.sched_getaffinity(0)), SimpleQueue[list[int]]()
    if lanes * cores > len(processors):
        raise SystemExit(f"{lanes} lanes of {cores} cores need {lanes * cores} processors, got {len(processors)}")
    for lane in range(lanes):
        free.put(processors[lane * cores : (lane + 1) * cores])

    def pinned(job: Job) -> Result:
        own = free.get()
        os.sched_setaffinity(0, own)  # of this thread, on Linux
        try:
            return work(job)
        finally:
            free.put(own)

    with ThreadPoolExecutor(lanes) as pool:
        return list(pool.map(pinned, jobs))


def environment() -> dict[str, Any]:
    """Return machine, versions and commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE).stdout.strip()
    return {"machine": machine(), "versions": versions(), "commit": commit}


def go_on(name: str, claim: str, jobs: Iterable[tuple[str, Callable[[], Any]]]) -> None:
    """Do what ``benchmarks/results/NAME.json`` does not hold yet, key by key, and save after each: an interrupted one goes on."""
    path = HERE / "results" / f"{name}.json"
    rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["result"] if path.exists() else {}
    for key, job in jobs:
        if key not in rows:
            rows[key] = job()
            print(key, rows[key], flush=True)
            path.write_text(json.dumps({"claim": claim, "result": rows, **environment()}, indent=1) + "\n", encoding="utf-8")


def save(name: str, claim: str, result: dict[str, Any], **more: Any) -> None:
    """Write ``benchmarks/results/NAME.json`` and print the result."""
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"claim": claim, "result": result, **more, **environment()}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
