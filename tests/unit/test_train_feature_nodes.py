"""Features that the nodes of a cluster compute, with a stand-in for Ray; ``end_to_end/test_ray.py`` takes a real one."""

from __future__ import annotations

import pickle
import signal
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.fake_ray import FakeRay  # pyright: ignore[reportMissingImports]

import descend
from descend.augment import Pipeline
from descend.errors import KnobError, MissingExtra, TrainingError
from descend.files import CacheFolder
from descend.models import backbone
from descend.train import feature_nodes
from descend.train.feature_nodes import FeatureNodes, features_on
from descend.train.ray_cluster import RayCluster
from descend.train.task_builder import Views
from descend.train.world import ALONE, World, belonging_to, current
from descend.transfer import Work, extract, make_engine

N, R, S = 42, 20, 16
IMAGES = np.random.default_rng(0).integers(0, 256, (N, R, R, 3), dtype=np.uint8)
DIGESTS = np.random.default_rng(1).integers(0, 256, (N, 16), dtype=np.uint8)
IDS = np.arange(N, dtype=np.int64) * 7


class Sending(FakeRay):
    """Sends what is put, as Ray does: pickled; each fetch is another object. n_fetched: how often that was asked for."""

    n_fetched = 0

    def put(self, value: object) -> bytes:
        return pickle.dumps(value)

    def get(self, reference: object) -> object:
        if isinstance(reference, bytes):
            self.n_fetched += 1
            return pickle.loads(reference)
        return super().get(reference)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sending]:
    fake = Sending((1, 1))
    monkeypatch.setitem(sys.modules, "ray", fake)
    threads = torch.get_num_threads()
    yield fake
    torch.set_num_threads(threads)
    feature_nodes._last.clear()


@pytest.fixture
def work(tmp_path) -> Work:
    cache = CacheFolder(tmp_path / "cache", limit_bytes=10**8)
    engine = make_engine("torch", backbone("smallcnn(width=4)").build(0), size=S, cache=cache)
    pipelines = [Pipeline(items, seed=3, size=S, out="uint8") for items in ([], ["random_resized_crop", "flip"])]
    return Work(engine, lambda rows: IMAGES[rows], Views(*pipelines), IDS)


def features(work: Work, world: World) -> NDArray[np.float32]:
    def lead(divided) -> NDArray[np.float32]:
        return extract(
            work.engine, work.take, np.arange(N), digests=DIGESTS, ids=IDS, view=work.view, preparation="crop", n_views=3,
            augmentation="any", seed=3, batch=4, divided=divided,
        )  # fmt: skip

    return world.together(work, lead, np.empty)


def test_nodes_give_the_features_of_one_process_in_their_order_whichever_is_done_first(ray: Sending, work: Work) -> None:
    torch.set_num_threads(2)
    cluster = RayCluster("fit")
    there = features(work, FeatureNodes(cluster))
    assert ray.options == {"max_retries": 2, "retry_exceptions": False, "num_cpus": 1}  # no node has two
    assert ray.most == 4  # two for each processor
    assert ray.n_fetched == 3  # by one process: once for each view that is computed
    work.engine.cache.clear()
    assert np.array_equal(there, features(work, ALONE))
    assert len(np.unique(there[:, 1:].reshape(2 * N, -1), axis=0)) > N  # views of their own


def test_a_lone_part_is_computed_here(ray: Sending, work: Work) -> None:
    nodes = FeatureNodes(RayCluster("fit"))
    (computed,) = nodes.together(work, lambda divided: [*divided([np.arange(3)], 0)], np.empty)  # pyright: ignore[reportArgumentType]
    assert np.array_equal(computed, work(np.arange(3), 0))
    assert ray.n_fetched == 0


def test_what_had_come_back_is_kept_and_what_is_under_way_is_cancelled(
    ray: Sending, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.newest_first = False
    once = feature_nodes.compute_on_node

    def third(name, held, images, ids, draw):
        if ids[0] == IDS[8]:
            raise ValueError("the node\nhas burnt down")
        return once(name, held, images, ids, draw)

    nodes = FeatureNodes(RayCluster("fit"))
    with monkeypatch.context() as patch:
        patch.setattr(feature_nodes, "compute_on_node", third)
        with pytest.raises(TrainingError, match=r"features: 4 pictures must be .* 3 times at most \(RayError: the node\)"):
            features(work, nodes)
    assert ray.cancelled == 3
    asked = []

    def take(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        asked.extend(rows)
        return IMAGES[rows]

    features(Work(work.engine, take, work.view, IDS), nodes)
    assert sorted(asked) == sorted([*range(8, N), *range(N), *range(N)])


def test_what_a_node_says_that_it_lacks_is_what_is_said_here(ray: Sending, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise MissingExtra("engine openvino", "is not installed", fix="Run pip install 'descend[fast]'.")

    monkeypatch.setattr(feature_nodes, "compute_on_node", lacking)
    with pytest.raises(MissingExtra, match=r"^engine openvino: is not installed\. Run pip install 'descend\[fast\]'\.$"):
        features(work, FeatureNodes(RayCluster("fit")))
    del ray


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("version", "0.0", "must have descend 0.0, as the run has"),
        ("key", "torch-0.1", "must compute with torch-0.1, as"),
    ],
)
def test_a_node_whose_numbers_may_differ_is_told_apart(ray: Sending, work: Work, name: str, value: str, told: str) -> None:
    del ray
    facts = {
        "engine": "torch",
        "key": feature_nodes._key(work.engine),
        "prefix": work.engine.prefix,
        "view": work.view,
        "n_threads": 1,
    }
    frozen = feature_nodes.Frozen(**(facts | {"version": descend.__version__, name: value}))
    with pytest.raises(descend.RunError, match=told):
        feature_nodes.compute_on_node("name", [pickle.dumps(frozen)], IMAGES[:2], IDS[:2], 0)


def test_only_features_are_computed_there_and_only_on_ray(ray: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KnobError, match="on: has no effect: a cluster computes features of a frozen network"):
        descend.fit("digits", transfer="scratch", on="ray")
    assert not ray.is_up
    assert current() is ALONE
    with pytest.raises(KnobError, match="on: must be ray, got 'slurm'"), features_on("slurm"):
        pass
    with (
        pytest.raises(KnobError, match=r"on: computes features for a run of one process"),
        belonging_to(World()),
        features_on("ray"),
    ):
        pass
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"fit: --on ray needs Ray\. Run pip install 'descend\[cluster\]'"):
        descend.fit("digits", on="ray")


@pytest.mark.usefixtures("ray")
def test_sigterm_still_means_what_it_meant() -> None:
    before = signal.getsignal(signal.SIGTERM)
    RayCluster("fit").close()
    try:
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)
