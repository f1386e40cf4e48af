"""What a comparison says of candidates that cannot be compared, of too few pictures, and of processes that die."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats
from tests.fake_runs import fake_fit  # pyright: ignore[reportMissingImports]

import descend
from descend.comparison import Candidate, Settings, loop, workers
from descend.comparison.runs import Job, lost
from descend.errors import DataError, KnobError
from descend.progress import Silent
from descend.stats import least_difference
from descend.train.recipe import Recipe

QUICK: dict[str, Any] = {
    "transfer": "scratch", "epochs": 1, "backbone": "smallcnn(width=4)", "batch_size": 16, "threads": 1, "augment": [], "size": 8,
}  # fmt: skip


class Listener(Silent):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines = list[str]()

    def say(self, text: str) -> None:
        self.lines.append(text)


def arrays(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % 2
    noise = np.random.default_rng(0).random((n, 8, 8))
    return (noise * 100 + labels[:, None, None] * 100).astype(np.uint8), labels


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["base", "snapshots=9"], r"snapshots: must be at most 2.*\n  in candidate snapshots=9"),
        (["base", "layer_decay=0.5"], r"layer_decay.*\n  in candidate layer_decay=0.5"),
        (["base", "batch_size=16"], "differ in what they train, got \"'base' and 'batch_size=16'\""),
    ],
)
def test_what_is_wrong_with_a_candidate_names_it(texts: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(KnobError, match=words):
        descend.compare(arrays(), texts, out=tmp_path / "c", **QUICK)
    assert not (tmp_path / "c").exists()


def test_too_few_pictures_are_said_before_anything_is_trained(tmp_path: Path) -> None:
    listener, texts = Listener(), ["base", "optimizer=sgd(lr=1e30)"]
    descend.compare(arrays(), texts, seeds=1, settle=0.02, out=tmp_path / "c", progress=listener, **QUICK)
    z = scipy_stats.norm.ppf(0.975) + scipy_stats.norm.ppf(0.8)
    assert f"18 pictures settle differences from about {100 * z * (0.1 / 18) ** 0.5:.1f} points on" in listener.lines[0]
    assert "2 points are asked for" in listener.lines[0]


def test_seeds_that_can_hardly_tell_and_looks_that_nobody_planned_are_said_beforehand(tmp_path: Path) -> None:
    base, texts = Recipe(data="digits", transfer="scratch", epochs=1), ["base", "batch_size=16"]

    def told(seeds: int, out: str, **settings: Any) -> str:
        listener = Listener()
        how = fake_fit(lambda _: 0.8, [])
        loop.compare(texts, base, Settings(seeds, **settings), **how, out=tmp_path / out / "c", progress=listener)
        return "\n".join(listener.lines)

    assert "careful: 2 seeds can hardly tell 2 candidates apart: take 3 or more (--seeds 3)" in told(2, "a")
    more = told(3, "a")
    assert "can hardly tell" not in more
    assert f"careful: verdicts after 2 seeds lie in {tmp_path / 'a' / 'c'}: adding seeds until one pleases" in more
    assert "careful" not in told(3, "a")
    assert "careful" not in told(5, "a", until_decided=True)
    assert "careful" not in told(1, "b")  # of two networks, whatever the seeds


def test_the_least_difference_has_the_power_that_it_promises() -> None:
    n, apart = 2000, 0.1
    gain, draw = least_difference(n, apart), np.random.default_rng(0)
    only_a, only_b, _ = draw.multinomial(n, [(apart + gain) / 2, (apart - gain) / 2, 1 - apart], 4000).T
    p = scipy_stats.binom.sf(np.maximum(only_a, only_b) - 1, only_a + only_b, 0.5) * 2
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.04)
    for n_pictures, share in ((0, 0.1), (10, 0.0), (10, 1.5)):
        with pytest.raises(DataError, match="needs a picture or more"):
            least_difference(n_pictures, share)


class Pool:
    """Processes that are not there: a job on seed 13 kills its process, and those beside it."""

    def __init__(self, n: int, mp_context: object, initializer: Callable[[], None]) -> None:
        self.n, self.dead = n, False
        assert initializer is workers.end_with_parent

    def submit(self, call: Callable[[Job], Any], job: Job) -> Future[Any]:
        future = Future[Any]()
        self.dead = self.dead or job.seed == 13
        if self.dead:
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(call(job))
        return future

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        """Do nothing."""


def seed_of(job: Job, *, plus: int) -> int:
    return job.seed + plus


def test_a_process_that_dies_costs_its_own_job_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(workers, "ProcessPoolExecutor", Pool)
    jobs = [Job(Candidate("a", Recipe()), seed, tmp_path / str(seed)) for seed in (1, 13, 2, 3)]
    with workers.workers(2) as working:
        assert [*working.work(seed_of, jobs, lambda job, why: -job.seed, plus=100)] == [101, -13, 102, 103]
        again = working.work(seed_of, jobs[:1], lambda job, why: -job.seed, plus=100)
        assert [*again] == [101]  # the next seed has processes again


def test_a_run_whose_process_died_is_a_failure_with_a_log(tmp_path: Path) -> None:
    made = lost(Job(Candidate("a", Recipe()), 4, tmp_path / "r"), "killed")
    assert (made.status, made.seed, made.error) == ("failed", 4, "killed")
    assert (tmp_path / "r" / "failed.txt").read_text() == "killed"
