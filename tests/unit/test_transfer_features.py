"""Features on disk: what is found again, what makes it void, what an interruption leaves, and what the engine is asked."""

from __future__ import annotations

import numpy as np
import pytest

from descend.files import CacheFolder
from descend.models import backbone
from descend.transfer import extract, features, make_engine, n_missing

N, R, S = 10, 20, 16


class Counting:
    """An engine that notes how many pictures it was asked for."""

    def __init__(self, cache: CacheFolder, seed: int = 0, size: int = S, stage: str | None = None) -> None:
        self.inner = make_engine("torch", backbone("smallcnn(width=4)").build(seed), size=size, stage=stage, cache=cache)
        self.key, self.prefix, self.cache, self.asked = self.inner.key, self.inner.prefix, cache, 0

    def __call__(self, images):
        self.asked += len(images)
        return self.inner(images)


IMAGES = np.random.default_rng(0).integers(0, 256, (N, R, R, 3), dtype=np.uint8)
DIGESTS = np.random.default_rng(1).integers(0, 256, (N, 16), dtype=np.uint8)
IDS = np.arange(N, dtype=np.int64) * 7


def take(rows):
    return IMAGES[rows]


def view(images, ids, draw):
    """Draw 0 is the middle; another draw is a corner that depends on the picture's id."""
    out = np.empty((len(images), S, S, 3), np.uint8)
    for i, (image, at) in enumerate(zip(images, (ids + draw) % (R - S), strict=True)):
        top = 2 if draw == 0 else at
        out[i] = image[top : top + S, 2 : 2 + S]
    return out


@pytest.fixture
def cache(tmp_path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache", limit_bytes=10**8)


def get(engine, rows=None, **changes):
    settings = {
        "digests": DIGESTS,
        "ids": IDS,
        "view": view,
        "preparation": "crop",
        "augmentation": "corner",
        "batch": 4,
    } | changes
    return extract(engine, take, np.arange(N) if rows is None else np.array(rows), **settings)


def test_each_view_of_each_picture_is_the_engines_answer(cache):
    engine = Counting(cache)
    found = get(engine, n_views=3)
    assert found.shape == (N, 3, 16)
    for draw in range(3):
        assert np.array_equal(found[:, draw], engine.inner(view(IMAGES, IDS, draw)))


def test_a_second_run_computes_nothing_and_gets_the_same_bits(cache):
    first = get(Counting(cache), n_views=2)
    again = Counting(cache)
    assert np.array_equal(get(again, n_views=2), first)
    assert again.asked == 0


def test_only_what_is_new_is_computed_in_any_order(cache):
    get(Counting(cache), rows=[1, 2, 3])
    engine = Counting(cache)
    found = get(engine, rows=[5, 3, 1, 0, 2])
    assert engine.asked == 2
    assert np.array_equal(found[:, 0], engine.inner(view(IMAGES, IDS, 0))[[5, 3, 1, 0, 2]])


def test_what_is_missing_is_counted_before_it_is_computed(cache):
    engine, where = Counting(cache), {"digests": DIGESTS, "preparation": "crop", "augmentation": "corner"}
    assert n_missing(engine, np.arange(N), n_views=3, **where) == 3 * N
    get(engine, rows=[0, 1, 2])
    assert n_missing(engine, np.arange(N), n_views=3, **where) == 3 * N - 3
    assert n_missing(engine, np.arange(N), n_views=3, **where | {"preparation": "squash"}) == 3 * N
    assert n_missing(engine, np.array([5, 5, 5]), **where) == 1, "copies are computed once"
    get(engine, n_views=3)
    assert n_missing(engine, np.arange(N), n_views=3, **where) == 0
    assert n_missing(engine, np.arange(N), n_views=3, **where, seed=1) == 2 * N, "the plain view serves every seed"


def test_identical_pictures_are_computed_once(cache):
    digests = DIGESTS.copy()
    digests[4] = digests[9]
    engine = Counting(cache)
    found = get(engine, digests=digests)
    assert engine.asked == N - 1
    assert np.array_equal(found[4], found[9])


@pytest.mark.parametrize(
    ("changes", "engine", "recomputed"),
    [
        ({}, {}, 0),
        ({"preparation": "another crop"}, {}, 2 * N),
        ({"augmentation": "another corner"}, {}, N),  # the plain views serve every augmentation
        ({"seed": 1}, {}, N),
        ({}, {"seed": 1}, 2 * N),
        ({}, {"stage": "block1"}, 2 * N),
        ({"digests": DIGESTS + np.uint8(1)}, {}, 2 * N),
    ],
    ids=["same", "preparation", "augmentation", "seed", "weights", "stage", "pictures"],
)
def test_whatever_decides_a_feature_makes_the_old_one_void(cache, changes, engine, recomputed):
    get(Counting(cache), n_views=2)
    other = Counting(cache, **engine)
    get(other, n_views=2, **changes)
    assert other.asked == recomputed


def test_the_engines_version_is_part_of_the_key(cache, monkeypatch):
    get(Counting(cache))
    monkeypatch.setattr("torch.__version__", "99.0")
    engine = Counting(cache)
    get(engine)
    assert engine.asked == N


def test_maps_keep_their_shape(cache):
    engine = Counting(cache, stage="block1")
    assert get(engine, n_views=2).shape == (N, 2, 8, 8, 8)


def test_what_was_computed_some_seconds_ago_survives_a_kill(cache, monkeypatch):
    engine, now, kept = Counting(cache), [0.0], []
    monkeypatch.setattr(features.time, "perf_counter", lambda: now[0])

    def slow(images, ids, draw):
        kept.append(len([*(cache.root / "features").rglob("[!.]*.segment")]))  # what is on the disk when a batch begins
        now[0] += 3.0
        return view(images, ids, draw)

    get(engine, view=slow)  # three batches: two take longer than five seconds together
    assert kept == [0, 0, 1]


def test_an_interruption_keeps_what_was_finished(cache):
    engine = Counting(cache)

    def interrupted(images, ids, draw):
        if engine.asked >= 8:
            raise KeyboardInterrupt
        return view(images, ids, draw)

    with pytest.raises(KeyboardInterrupt):
        get(engine, view=interrupted)
    rest = Counting(cache)
    get(rest)
    assert rest.asked == N - 8


def test_progress_counts_what_is_computed_and_is_silent_about_what_was_found(cache):
    get(Counting(cache), rows=range(6))
    seen = []
    get(Counting(cache), n_views=2, progress=lambda stage, done, total: seen.append((done, total)))
    assert seen[0] == (0, 2 * N - 6)
    assert seen[-1] == (2 * N - 6, 2 * N - 6)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    found = []
    get(Counting(cache), n_views=2, progress=lambda *news: found.append(news))
    assert not found


def test_a_full_or_forbidden_disk_costs_the_cache_only(tmp_path, monkeypatch):
    expected = get(Counting(CacheFolder(tmp_path / "a")))
    small = CacheFolder(tmp_path / "b", limit_bytes=10)
    assert np.array_equal(get(Counting(small)), expected)
    assert not small.entries()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert np.array_equal(get(Counting(CacheFolder(tmp_path / "c"))), expected)
    again = Counting(CacheFolder(tmp_path / "c"))
    assert np.array_equal(get(again), expected)
    assert again.asked == 0, "what the disk refused stays in memory, as far as there is space"
    monkeypatch.setattr(features, "REFUSED_BYTES", 0)
    for _ in range(2):
        again = Counting(CacheFolder(tmp_path / "d"))
        assert np.array_equal(get(again), expected)
        assert again.asked == N


def test_a_large_answer_is_mapped_not_held(cache, monkeypatch):
    expected = get(Counting(cache))
    monkeypatch.setattr(features, "IN_MEMORY_BYTES", 100)
    found = get(Counting(cache))
    assert np.array_equal(found, expected)
    assert isinstance(found.base, np.memmap)
    assert {entry.kind for entry in cache.entries()} == {"features"}


def test_a_large_answer_is_held_where_the_disk_lacks_the_space(cache, monkeypatch):
    """To write to a map of a file with holes, once the disk is full, ends the process."""

    def full(*_):
        raise OSError(28, "No space left on device")

    expected = get(Counting(cache))
    monkeypatch.setattr(features, "IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(features.os, "posix_fallocate", full, raising=False)
    found = get(Counting(cache))
    assert np.array_equal(found, expected)
    assert not isinstance(found.base, np.memmap)


def test_two_runs_may_fill_one_store(cache):
    engine = Counting(cache)
    outer = Counting(cache)

    def meanwhile(images, ids, draw):
        if outer.asked == 0:
            get(engine, rows=range(5))
        return view(images, ids, draw)

    found = get(outer, view=meanwhile)
    assert np.array_equal(found[:, 0], engine.inner(view(IMAGES, IDS, 0)))
    assert np.array_equal(get(Counting(cache)), found)
