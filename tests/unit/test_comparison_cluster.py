"""Jobs on a Ray cluster, with a stand-in for Ray; ``benchmarks/ray_cluster.py`` takes a real one of two nodes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from tests.fake_ray import FakeRay  # pyright: ignore[reportMissingImports]
from tests.fake_runs import fake_fit  # pyright: ignore[reportMissingImports]

from descend import comparison
from descend.comparison import cluster
from descend.comparison.candidate import Candidate
from descend.comparison.runs import Job
from descend.comparison.work import done_once
from descend.comparison.workers import workers
from descend.errors import KnobError, MissingExtra, RunError
from descend.progress import Silent
from descend.train.recipe import Recipe


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeRay]:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.chdir(tmp_path)
    yield fake
    assert not list(tmp_path.rglob(f"{cluster.TOKEN}*"))


def jobs(n: int) -> list[Job]:
    return [Job(Candidate("base", Recipe(data="digits")), seed, Path(f"shared-runs/run-{seed}")) for seed in range(n)]


def task(job: Job, *, factor: int) -> int:
    if job.seed == 3:
        raise ValueError("cannot be trained\nat all")
    job.place.mkdir(parents=True, exist_ok=True)
    (job.place / "record.json").write_text(f"{job.seed}")
    return factor * job.seed


def lost(job: Job, why: str) -> str:
    return f"{job.seed}: {why}"


def test_jobs_are_done_as_many_at_once_as_asked_and_come_in_their_order(ray: FakeRay) -> None:
    with workers(3, "ray") as working:
        assert [*working.work(task, jobs(6), lost, factor=10)] == [
            0, 10, 20, "3: on the cluster, 3 times at most: RayError: cannot be trained", 40, 50
        ]  # fmt: skip
        assert working.threads_per_job == 1  # 4 processors over 3 runs
        assert [*working.work(task, [], lost, factor=1)] == []
    assert ray.most == 3
    assert ray.options == {"max_retries": 2, "retry_exceptions": False, "num_cpus": 1}
    assert not ray.is_up
    with workers(1, "ray") as working:
        assert working.threads_per_job == 2  # no node has more


def test_a_stop_cancels_what_is_under_way_and_leaves_a_cluster_of_ones_own_up(ray: FakeRay) -> None:
    ray.is_up = True
    ray.newest_first = False
    with workers(2, "ray") as working:
        some = working.work(task, jobs(3), lost, factor=1)
        assert next(some) == 0
        some.close()  # pyright: ignore[reportAttributeAccessIssue] (it is a generator)
    assert ray.cancelled == 1
    assert ray.is_up


def test_a_run_on_a_disk_that_is_not_shared_is_sent_back(ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del ray
    node = tmp_path / "node"
    monkeypatch.setattr(cluster.Path, "cwd", lambda: node)  # where the comparison is, as the node is told
    job = jobs(2)[1]
    result, packed = cluster.run_on_node(task, job, {"factor": 7}, str(node), "no such file", cluster.descend.__version__)
    assert (result, (node / job.place / "record.json").read_text()) == (7, "1")
    assert packed is not None
    cluster._unpack(packed, tmp_path / "here")
    assert (tmp_path / "here" / "record.json").read_text() == "1"


def test_jobs_of_one_place_are_done_once_in_their_order(tmp_path: Path) -> None:
    sent: list[int] = []

    def work(task: Any, jobs: Any, _lost: Any, /, **how: Any) -> Any:
        sent.extend(job.seed for job in jobs)
        return (task(job, **how) for job in jobs)

    def touched(job: Job) -> int:
        job.place.touch()
        return job.seed

    def known(job: Job) -> Any:
        return -job.seed if job.place.exists() else None

    (tmp_path / "c").touch()
    five = [Job(Candidate("base", Recipe(data="digits")), seed, tmp_path / place) for seed, place in enumerate("abacb")]
    assert [*done_once(work, touched, known, five, lost)] == [0, 1, -2, -3, -4]
    assert sent == [0, 1]


def test_what_lies_here_is_not_made_again_on_a_disk_that_is_not_shared(
    ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del ray
    monkeypatch.setattr(cluster, "_token", lambda _: nullcontext("no such file"))
    recipe = Recipe(
        data="digits", transfer="scratch", backbone="smallcnn(width=16)", epochs=1, augment=("pad_crop(padding=1)",),
        regularize=("dropout(p=0.1)",), optimizer="sgd(lr=0.1)", schedule="constant",
    )  # fmt: skip
    made: list[Recipe] = []
    settings, how = comparison.Settings(n_seeds=2, on="ray"), dict[str, Any](fake_fit(lambda _: 0.8, made))
    for place in ("one", "two"):
        found = comparison.ablate(recipe, settings, **how, out=tmp_path / place, progress=Silent())
        assert len(found.comparison.made) == 2 * 6
        assert len(made) == 2 * 4  # without the first of two is the second alone: one run under two names


def test_what_a_node_lacks_is_said(ray: FakeRay, tmp_path: Path) -> None:
    del ray
    with pytest.raises(RunError, match=r"must have descend 0\.0, as the comparison has, got"):
        cluster.run_on_node(task, jobs(1)[0], {"factor": 1}, str(tmp_path), "token", "0.0")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="must have the folder"):
        cluster.run_on_node(task, jobs(1)[0], {"factor": 1}, str(tmp_path / "file"), "token", cluster.descend.__version__)


def test_a_cluster_out_of_reach_and_missing_ray_are_one_sentence(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    del ray
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    reach = r"on: must reach a Ray cluster \(no cluster at nowhere.*Set RAY_ADDRESS"
    with pytest.raises(KnobError, match=reach), workers(1, "ray"):
        pass
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"compare: --on ray needs Ray\. Run pip install 'descend\[cluster\]'"):
        comparison.Settings(on="ray")
    with pytest.raises(KnobError, match="on must be ray"):
        comparison.Settings(on="slurm")
