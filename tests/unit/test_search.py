"""The parts of the search, each by itself: steps as text, the clock, nested parts, weights of a mixture, the network of it."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from tests.fakes import FakeSource, make_task  # pyright: ignore[reportMissingImports]
from torch.nn.functional import interpolate

from descend.augment import Pipeline
from descend.errors import KnobError, ModelError, SpecError
from descend.files import CacheFolder
from descend.models import Classifier, Ensemble, Member, ResNet9, backbone
from descend.optim import Optimizer
from descend.progress import Silent
from descend.search import (
    begin,
    conclude,
    expected_time,
    features,
    finetune,
    label_preservation,
    mixture,
    networks,
    rungs,
    smaller_views,
    warm_up,
)
from descend.search.clock import Clock, OutOfTime, Watch
from descend.search.finetune import Visits
from descend.search.run import _has_failed
from descend.search.setup import first_view
from descend.search.steps import FeatureStep, FineTuneStep, KeepStep, PartStep, RefitStep, read, text
from descend.search.study import DISTORT, FIT_PACE, MIRROR, Answer, Study, nested
from descend.search.warm_up import WarmUp
from descend.train.calibration import fit_temperature
from descend.train.loop import Batch, Task
from descend.train.metrics import evidence_per_row
from descend.transfer import Logistic, Trial, quick_gradients, with_frozen_norms, with_quick_blocks

AT_ONCE = SimpleNamespace(used=lambda: 0.0, slowdown=1.0)  # a clock that stands still
STEPS = [
    PartStep(share=0.25),
    PartStep(share=0.25, test=1.0),
    FeatureStep(size=224),
    FeatureStep(size=288, mirrored=True, share=0.1),
    FeatureStep(size=224, mirrored=True, crops=6),
    FeatureStep(size=64, share=0.4, quick=True),
    FineTuneStep(size=160, freeze_to="block1", lr=3e-4, n_steps=400, mirrored=True),
    FineTuneStep(size=64, freeze_to=None, lr=1e-3, n_steps=7, batch_size=8, draw=2, stop_at=5),
    FineTuneStep(size=64, freeze_to=None, lr=1e-3, n_steps=7, draw=1, with_val=True, distorted=True),
    KeepStep(members=(0, 2), mirrored=False),
    KeepStep(members=(0,), head=1),
    FeatureStep(size=224, quick=True, stages="late", strength=0.1),
    FeatureStep(size=224, n_sets=1),
    RefitStep(),
]


@pytest.mark.parametrize("step", STEPS, ids=text)
def test_a_step_is_its_text(step: Any) -> None:
    assert read(text(step)) == step


def test_steps_that_are_none_are_refused() -> None:
    with pytest.raises(SpecError, match="Did you mean 'features'"):
        read("feature(size=224)")
    with pytest.raises(KnobError, match="size"):
        read("features(size=0)")
    with pytest.raises(KnobError, match="lr"):
        read("finetune(size=64, freeze_to=None, lr=-1, n_steps=1)")
    with pytest.raises(KnobError, match="has no knob 'view'"):  # of searches before networks were asked in their own size
        read("finetune(size=64, view=64, freeze_to=None, lr=1e-3, n_steps=1)")


@pytest.mark.parametrize(
    ("taken", "failed"),
    [
        ({"outcome": "in other words", "failed": True}, True),
        ({"outcome": "it failed: to be told so", "failed": False}, False),
        ({"outcome": "it failed: nobody knows"}, True),  # of a record before the field was there
        ({"outcome": "its time ran out"}, False),
    ],
)
def test_a_step_that_failed_is_known_by_its_field(taken: Any, failed: bool) -> None:
    assert _has_failed(taken) == failed


def test_the_clock_counts_earlier_sessions() -> None:
    clock = Clock(100.0, started=time.perf_counter() - 10, used_s=30)
    assert clock.used() == pytest.approx(40, abs=1)
    assert clock.left() == pytest.approx(60, abs=1)
    assert not Clock(math.inf, started=0.0).limited
    # a busy machine takes longer for its start and for its end; many pictures make only the start longer
    for took, scan_s, closing_s in ((1, 0, 3.5), (60, 58, 3.5), (20, 10, 7.0), (500, 0, 20.0)):
        clock = Clock(1000.0, started=time.perf_counter() - took, used_s=100)
        clock.note_start(scan_s)
        assert clock.closing_s == pytest.approx(closing_s, abs=0.05)


def test_news_that_comes_too_late_ends_the_work() -> None:
    watch = Watch(Silent(), Clock(5.0, started=time.perf_counter()))
    watch.update("features", 1, 10)  # nothing is held back yet
    with watch.holding(3.0):
        watch.update("features", 2, 10)
    with watch.holding(60.0):
        watch.update("features", 10, 10)  # what is done is done
        with pytest.raises(OutOfTime):
            watch.update("features", 3, 10)
    watch.update("features", 4, 10)


def test_more_must_be_left_on_a_machine_that_becomes_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured before no longer holds: what comes after a piece of work takes as many times longer as that does."""
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now.s)
    clock = Clock(140.0, started=0.0)
    watch = Watch(Silent(), clock)
    with watch.pacing(100.0), watch.holding(10.0), watch.keeping(2.0):
        for done in range(0, 1001, 100):  # as expected
            watch.update("features", done, 5000)
            now.s += 1
        assert (clock.slowdown, clock.closing_s) == (1.0, 3.5)
        assert watch.spare() == 129 - 12
        for done in range(1010, 1041, 10):  # a tenth of that
            watch.update("features", done, 5000)
            now.s += 1
        assert clock.slowdown == pytest.approx(10.0)
        assert clock.closing_s == 20.0
        now.s += 10
        with pytest.raises(OutOfTime):
            watch.check()
    with watch.pacing(100.0):
        for done in range(0, 401, 100):  # quiet again
            assert clock.slowdown == pytest.approx(1.0 if done == 400 else 10.0)
            watch.update("features", done, 5000)
            now.s += 1
    with watch.pacing(None):  # nobody knows what to expect: the first seconds tell
        for done, slowdown in ((0, 1.0), (100, 1.0), (200, 1.0), (300, 1.0), (310, 1.0), (320, 100 / 40), (330, 10.0)):
            watch.update("features", done, 5000)
            assert clock.slowdown == pytest.approx(slowdown)
            now.s += 1
    with watch.holding(10.0):
        clock.slowdown = 1.0  # held on a slow machine: what was asked for is enough
        assert watch.spare() == clock.left() - 10


def test_a_beginning_that_no_longer_fits_is_the_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise KnobError("budget", "must leave time for a first answer")

    data: Any = part_of(300, 100, 100)
    data.given_split, data.classes = False, ("a", "b", "c")
    body: Any = SimpleNamespace(fixed_size=False, min_size=32)
    nothing: Any = None
    monkeypatch.setattr(begin, "beginning", refuse)
    found = begin.least_or_more(data, body, 224, nothing, nothing)
    assert found.size == 96
    assert found.part is not None
    assert found.part.share == pytest.approx(3 * begin.LEAST_PER_CLASS / 500)


def dataset_of(labels: Any) -> Any:
    """Stand in for a data set whose pictures are all for training."""
    rows = np.arange(len(labels))
    return SimpleNamespace(
        labels=np.asarray(labels), ids=rows * 7919, indices=lambda split: rows if split == "train" else rows[:0]
    )


def test_every_beginning_of_the_order_holds_all_classes_in_their_shares() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [800, 150, 49, 1]))
    order = nested(dataset_of(labels), "train", seed=3)
    assert sorted(order) == list(range(1000))
    assert not np.array_equal(order, nested(dataset_of(labels), "train", seed=4))
    for n in (4, 50, 333, 1000):
        counts = np.bincount(labels[order[:n]], minlength=4)
        assert (counts > 0).all()
        assert np.abs(counts - n * np.array([0.8, 0.15, 0.049, 0.001])).max() < 4


def likelihoods(n: int, *qualities: float, seed: int = 0) -> tuple[list[Any], Any]:
    """Return answers (n, 3) of members that give the true class about these probabilities, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    answers = []
    for quality in qualities:
        true = np.clip(rng.normal(quality, 0.15, n), 0.02, 0.97)
        p = np.repeat(((1 - true) / 2)[:, None], 3, 1)
        p[np.arange(n), labels] = true
        answers.append(p.astype(np.float32))
    return answers, labels


def test_weights_maximise_the_penalised_likelihood() -> None:
    answers, labels = likelihoods(400, 0.7, 0.6)
    p = np.stack([answer[np.arange(400), labels] for answer in answers]).astype(float)

    def loss(x: Any) -> float:
        w = np.array([x[0], 1 - x[0]])
        return -(np.log(w @ p).sum() + mixture.PRIOR * np.log(w).sum())

    best = minimize(loss, [0.5], bounds=[(1e-6, 1 - 1e-6)]).x[0]
    w = mixture.weights(answers, labels)
    expected = [best, 1 - best] if min(best, 1 - best) >= mixture.NEGLIGIBLE else [1.0, 0.0]
    np.testing.assert_allclose(w, expected, atol=2e-3)


def test_ten_copies_of_every_picture_weigh_members_as_the_pictures_alone_do() -> None:
    generator = np.random.default_rng(4)
    labels = generator.integers(3, size=20)
    answers = [generator.dirichlet(np.ones(3), 20).astype(np.float32) + 0.1 for _ in range(2)]
    alone, tenfold = mixture.weights(answers, labels), [np.repeat(answer, 10, 0) for answer in answers]
    np.testing.assert_allclose(mixture.weights(tenfold, np.repeat(labels, 10), np.full(200, 0.1)), alone, atol=1e-9)
    assert np.abs(mixture.weights(tenfold, np.repeat(labels, 10)) - alone).max() > 0.01
    one = mixture.nats(answers, alone, labels)
    assert mixture.nats(tenfold, alone, np.repeat(labels, 10), np.full(200, 0.1)) == pytest.approx(one)
    copies, videos = np.repeat(np.arange(20), 10), np.repeat(np.arange(4), 50)
    np.testing.assert_allclose(evidence_per_row(200, copies, None), 0.1)
    counts = evidence_per_row(200, None, videos)
    assert counts is not None
    assert counts.sum() == pytest.approx(4)
    assert evidence_per_row(200, None, np.arange(200)) is None


def test_a_member_that_goes_astray_is_left_out_and_few_pictures_weigh_alike() -> None:
    answers, labels = likelihoods(600, 0.9, 0.3)
    assert mixture.weights(answers, labels).tolist() == [1.0, 0.0]
    each_knows_one = [np.array([[0.9, 0.1], [0.7, 0.3]], np.float32), np.array([[0.3, 0.7], [0.1, 0.9]], np.float32)]
    few = mixture.weights([np.tile(answer, (10, 1)) for answer in each_knows_one], np.tile([0, 1], 10))
    assert few.min() > 0.4
    assert mixture.weights([answer[:0] for answer in answers], labels[:0]).tolist() == [1.0, 0.0]


def test_few_pictures_leave_out_a_training_that_is_far_worse_and_keep_one_that_is_as_good() -> None:
    """Drawn 200 times: two answers to pictures of differing difficulty. Far worse: 0.5 instead of 0.13 of loss."""

    def kept(n: int, worse: float) -> float:
        rng, n_kept = np.random.default_rng(0), 0
        for _ in range(200):
            hard = 2 * rng.normal(size=n) + 3.9
            right = [1 / (1 + np.exp(-hard - 1.2 * rng.normal(size=n) + loss)) for loss in (0.0, worse)]
            answers = [np.stack([p, 1 - p], 1).astype(np.float32) for p in right]
            n_kept += mixture.weights(answers, np.zeros(n, np.int64))[1] > 0
        return n_kept / 200

    assert kept(37, 2.5) < 0.2
    assert kept(300, 2.5) < 0.01
    assert kept(37, 0.0) > 0.8
    assert kept(1000, 0.0) > 0.9


def test_a_network_without_which_the_answer_is_likelier_is_left_out_however_few_pictures_tell_it() -> None:
    """Five pictures: the prior alone would leave it a third of the answer."""
    good, astray = (
        np.tile(np.array([[0.6, 0.3, 0.1]], np.float32), (5, 1)),
        np.tile(np.array([[1e-9, 0.5, 0.5]], np.float32), (5, 1)),
    )
    labels = np.zeros(5, np.int64)
    assert mixture.weights([good, astray], labels).tolist() == [1.0, 0.0]
    worse = np.tile(np.array([[0.2, 0.4, 0.4]], np.float32), (30, 1))
    more = [worse, *(np.tile(answer, (6, 1)) for answer in (good, astray))]
    assert mixture.weights(more, np.zeros(30, np.int64)).tolist() == [0.0, 1.0, 0.0]


def test_a_member_leaves_only_where_labels_are_likelier_without_it_by_more_than_chance_makes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = np.zeros(10, np.int64)
    knows_one = np.tile(np.array([[0.4, 0.6], [0.99, 0.01]], np.float32), (5, 1))
    knows_other = np.tile(np.array([[0.99, 0.01], [0.9, 0.1]], np.float32), (5, 1))
    p = np.stack([knows_one[:, 0], knows_other[:, 0]])
    together, alone = np.log(mixture._settled(p) @ p).sum(), np.log(p[1]).sum()
    assert mixture._settled(p).min() > mixture.NEGLIGIBLE
    assert alone > together + mixture.AGAINST
    assert mixture.weights([knows_one, knows_other], labels).tolist() == [0.0, 1.0]  # by what it loses, not for its weight
    assert mixture.weights([knows_other, knows_one], labels).tolist() == [1.0, 0.0]  # whichever stands first
    monkeypatch.setattr(mixture, "AGAINST", alone - together + 0.01)
    assert mixture.weights([knows_one, knows_other], labels).min() > 0


def test_answers_that_nothing_tells_apart_are_averaged() -> None:
    """Ten pictures that both answer nearly alike: neither has earned anything, and together they err less."""
    right = np.clip(0.97 + np.random.default_rng(0).normal(0, 0.01, (2, 10)), 0, 1)
    w = mixture.weights([np.stack([p, 1 - p], 1).astype(np.float32) for p in right], np.zeros(10, np.int64))
    np.testing.assert_allclose(w, 0.5, atol=0.01)


def test_training_starts_from_what_a_head_reads_of_means_and_the_rest_stands_at_its_mean() -> None:
    backbone = ResNet9(width=4).build(0).eval()
    backbone.tap(backbone.every_tap)
    draw = np.random.default_rng(0)
    x = draw.normal(3, 1, (20, 2, backbone.n_features)).astype(np.float32)
    head = Logistic.filled(draw.normal(size=(3, backbone.n_features)).astype(np.float32), np.float32([1, 2, 3]))
    start: Any = Answer(Classifier(backbone, head), cast(Any, None), 32, mirrored=False, share=0.5, frozen=True)
    study: Any = SimpleNamespace(
        rows=lambda split, share: np.arange(20), features=lambda engine, rows, mirrored: x[rows], _means={}
    )  # fmt: skip
    study.mean_features = Study.mean_features.__get__(study)
    classifier = finetune.reading_means(study, start)
    assert classifier.backbone.taps == backbone.late_stages
    assert backbone.taps == backbone.every_tap  # the answer's own is as it was
    images = torch.randn(4, 3, 32, 32)
    features = backbone(images)
    n_left_out = backbone.n_features - classifier.backbone.n_features
    standing = torch.cat([torch.from_numpy(x[:, 0, :n_left_out].mean(0)).expand(4, -1), features[:, n_left_out:]], 1)
    torch.testing.assert_close(classifier(images), head(standing), rtol=1e-4, atol=1e-4)
    start = replace(start, classifier=classifier)
    assert finetune.reading_means(study, start) is not classifier
    torch.testing.assert_close(finetune.reading_means(study, start)(images), classifier(images))


def test_what_nothing_can_judge_shares_the_weight_of_what_is_like_it() -> None:
    w = np.array([0.4, 0.5, 0.0, 0.1])
    assert mixture.shared(w, 0) is w
    np.testing.assert_allclose(mixture.shared(w, 1), [0.4, 0.2, 0.0, 0.2, 0.2])
    np.testing.assert_allclose(mixture.shared(w, 2).sum(), 1.0)
    assert mixture.shared(np.array([1.0, 0.0]), 1).tolist() == [1.0, 0.0, 0.0]  # trainings do not help here
    assert mixture.shared(np.ones(1), 1).tolist() == [1.0, 0.0]


def test_a_mixture_of_one_is_itself() -> None:
    answers, labels = likelihoods(50, 0.6)
    assert mixture.weights(answers, labels).tolist() == [1.0]
    np.testing.assert_allclose(mixture.mixed(answers, np.ones(1)), answers[0])


class Counting:
    """A source of three batches per epoch, each telling its epoch in its inputs."""

    n_steps = 3

    def epoch(self, epoch: int, start: int = 0) -> Any:
        for step in range(start, 3):
            yield Batch(np.zeros(1, np.int64), torch.tensor([epoch, step]), torch.zeros(1), step)


@pytest.mark.parametrize("start", [0, 2, 3, 7])
def test_visits_number_their_steps_over_passes(start: int) -> None:
    batches = list(Visits(Counting(), 8).epoch(0, start))
    assert [batch.step for batch in batches] == list(range(start, 8))
    assert [batch.inputs.tolist() for batch in batches] == [[step // 3, step % 3] for step in range(start, 8)]


def classifier(seed: int) -> Classifier:
    body = backbone("smallcnn(width=4)").build(seed)
    head = torch.nn.Linear(body.n_features, 3)
    torch.nn.init.normal_(head.weight, std=3.0, generator=torch.Generator().manual_seed(seed))
    return Classifier(body, head).eval()


def test_an_ensemble_is_the_weighted_mean_of_probabilities() -> None:
    one, two = classifier(0), classifier(1)
    two.backbone.look(24, of=32)
    x = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        small = interpolate(x, size=(24, 24), mode="bilinear", antialias=True)
        mirrored = (one(x).softmax(1) + one(torch.flip(x, [3])).softmax(1)) / 2
        expected = 0.75 * mirrored + 0.25 * two.head(two.backbone.stages(small)).softmax(1)
        network = Ensemble([Member(one, mirrored=True), Member(two, mirrored=False)], [3.0, 1.0]).eval()
        torch.testing.assert_close(network(x).exp(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(network(x).softmax(1), expected, rtol=1e-5, atol=1e-6)


def test_a_view_is_torchs_antialiased_resampling_and_leaves_other_sizes_alone() -> None:
    body = classifier(0).backbone
    x = torch.rand(2, 3, 40, 40)
    with torch.inference_mode():
        plain = body(x[:, :, :32, :32])
        body.look(28, of=40)
        resized = interpolate(x, size=(28, 28), mode="bilinear", antialias=True)
        torch.testing.assert_close(body(x), body.stages(resized), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(body(x[:, :, :32, :32]), plain)
    assert "view" not in body.state_dict()


def test_an_ensemble_needs_members_and_weights() -> None:
    with pytest.raises(ModelError, match="weight"):
        Ensemble([], [])
    with pytest.raises(ModelError, match="weight"):
        Ensemble([Member(classifier(0), mirrored=False)], [0.0])
    other = classifier(0)
    other.backbone.mean = (0.1, 0.1, 0.1)
    with pytest.raises(ModelError, match="normalized"):
        Ensemble([Member(classifier(0), mirrored=False), Member(other, mirrored=False)], [1.0, 1.0])


def test_a_warm_up_is_begun_where_nothing_is_compiled_and_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path))
    begun = WarmUp("float32")
    assert begun.going_on()
    begun.wait(0.01)
    begun.end()
    assert not begun.going_on()
    (tmp_path / "kernels").mkdir(exist_ok=True)
    (tmp_path / "kernels" / "one.bin").touch()  # another one, or what was done before it was ended
    again = WarmUp("float32")
    assert again.going_on()
    cache = CacheFolder()
    assert cache.store(warm_up._done("float32", warm_up.TRAINING), b"")
    assert not again.going_on()  # but with what long trainings take
    assert again.going_on(warm_up.DISTORTIONS)
    again.end()
    resumed = WarmUp("float32")
    assert not resumed.going_on()
    assert resumed.going_on(warm_up.DISTORTIONS)
    resumed.end()
    assert cache.store(warm_up._done("float32", warm_up.DISTORTIONS), b"")
    assert not WarmUp("float32").going_on(warm_up.DISTORTIONS)
    other = WarmUp("bfloat16")
    assert other.going_on()
    other.end()
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: "another")  # a cache that machines share
    elsewhere = WarmUp("float32")
    assert elsewhere.going_on()
    elsewhere.end()


def test_a_search_begins_with_all_pictures_in_the_largest_view_that_time_allows() -> None:
    """Then with a part in the smallest. A budget is refused only where one quick fit to that does not fit."""
    labels = np.repeat([0, 1], 2000)
    data: Any = SimpleNamespace(
        splits=np.zeros(4000, int), indices=lambda split: np.arange(4000), classes=("a", "b"), labels=labels, given_split=False
    )
    body: Any = SimpleNamespace(
        n_columns=lambda taps: 1280, feature_sets={"last": (), "late": ("a",), "quarters": ("b",)}, fixed_size=False, min_size=32
    )
    speeds = begin.Speeds(1000, 40, 40, cast(Any, SimpleNamespace(name="torch")), "")
    seconds = {"left": 9.0}
    clock: Any = SimpleNamespace(left=lambda: seconds["left"], used=lambda: 21.0, budget_s=30.0, closing_s=5.0, slowdown=1.0)

    def begun(left: float) -> begin.Beginning:
        seconds["left"] = left
        return begin.beginning(data, body, 224, speeds, clock)

    short = begun(9.0)
    assert short.part is not None
    assert (short.size, 0 < short.part.share < 0.25) == (96, True)
    assert begun(1000.0) == begin.Beginning(224)
    sizes = [beginning.size for beginning in map(begun, (35.0, 50.0, 80.0, 110.0, 140.0, 180.0)) if beginning.part is None]
    assert sizes == sorted(sizes)
    assert set(sizes) > {96, 128, 160}  # 4,000 pictures at 40 per second in 224 px, 131 in 96: a part of a picture's cost stays
    by_graph = replace(speeds, engine=cast(Any, SimpleNamespace(name="openvino")))
    seconds["left"] = 30.0
    at_once, started = (begin.beginning(data, body, 224, each, clock).part for each in (speeds, by_graph))
    assert at_once is not None
    assert started is not None
    assert started.share < at_once.share - 0.02  # an engine that reads a graph starts once more for another view
    body.fixed_size = True
    assert begun(80.0).size == 224
    assert begun(80.0).part is not None
    begin.check_time(data, body, 224, clock)
    with pytest.raises(KnobError, match=r"must leave time for a first answer: about \d+ s here") as refused:
        begun(5.0)
    seconds["left"] = 4.9
    with pytest.raises(KnobError, match=r"must leave time for a first answer: more than \d+ s here, got '30"):
        begin.check_time(data, body, 224, clock)  # closing alone takes 5: nothing is measured
    assert "Raise --budget" in str(refused.value)


def part_of(*counts: int) -> Any:
    splits = np.repeat([0, 1, 2], counts)
    return SimpleNamespace(
        splits=splits, indices=lambda split: np.flatnonzero(splits == ["train", "val", "test"].index(split)), given_split=True
    )  # fmt: skip


def test_of_a_part_a_given_test_split_is_looked_at_first_up_to_half_of_the_time() -> None:
    data = part_of(2400, 600, 1000)
    assert begin._part(data, 3300) == PartStep(share=round(2300 / 3000, 4), test=1.0)
    assert begin._part(data, 1500) == PartStep(share=0.25, test=0.75)
    data.given_split = False  # carved out here: as much of it as of the others
    assert begin._part(data, 3300) == PartStep(share=0.825)
    assert begin._part(part_of(400, 0, 3600), 2000) == PartStep(
        share=1.0, test=round(1600 / 3600, 4)
    )  # more, where the others all fit


@pytest.mark.parametrize(
    ("side", "losses", "first"),
    [
        (128, {96: 0.81, 128: 0.80}, 96),  # no worse than chance explains
        (128, {96: 1.20, 128: 0.81}, 128),
        (128, {96: 1.20, 128: 1.10}, 224),
        (300, {}, 224),  # a smaller view would lose pixels that the pictures have
    ],
)  # fmt: skip
def test_a_first_view_is_as_small_as_a_part_of_the_pictures_allows(
    monkeypatch: pytest.MonkeyPatch, side: int, losses: dict[int, float], first: int
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.4, 500)

    def head(loss: float, *, shift: int = 0) -> Any:
        trial = Trial(0.1, 0.8, loss + np.roll(noise, shift) - noise.mean(), 500)
        return SimpleNamespace(best=trial, loss=loss)

    def tried(_: object, step: FeatureStep, like: Any) -> Any:
        assert (step.share, like.loss) == (0.2, 0.8)
        return head(losses[step.size], shift=1)

    monkeypatch.setattr(smaller_views, "tried_like", tried)
    part = FeatureStep(size=224, share=0.2)
    study: Any = SimpleNamespace(
        dataset=SimpleNamespace(shorter_side=(20, side, 900)), pretrained=SimpleNamespace(fixed_size=False, min_size=32),
        tried={(part, "late"): head(0.9), (part, "quarters"): head(0.8), (FeatureStep(size=224), "late"): head(0.1)},
        watch=Silent(), first_size=224, measured_shares={}, why_smaller="",
    )  # fmt: skip
    smaller_views.find_smaller_view(study, part)
    assert study.first_size == first
    assert [*study.measured_shares] == [(first, 224)] * (first < 224)
    if first < 224:
        assert study.measured_shares[first, 224] == pytest.approx(1 - 0.8 / losses[first])
        assert study.why_smaller.startswith("not clearly worse than 224 on 500 pictures")


@pytest.mark.parametrize(
    ("time_left", "gain", "later", "first"),
    [
        (28.0, 0.0067, 0.05, "training, which would not fit later"),
        (35.0, 0.0067, 0.05, "mirror"),  # a shorter one fits then
        (35.0, 0.0067, 0.0, "training, which would not fit later"),  # and is worth nothing
        (28.0, 0.0055, 0.05, "mirror"),
        (31.5, 0.0067, 0.05, "training, which would not fit later"),  # the second that measuring took counts
    ],
)
def test_a_training_that_would_not_fit_later_goes_first_where_it_brings_more(
    monkeypatch: pytest.MonkeyPatch, time_left: float, gain: float, later: float, first: str
) -> None:
    mirror = rungs.Rung(FeatureStep(size=224, mirrored=True), "mirror", gain=0.006, seconds=10.0)
    tuning = FineTuneStep(size=96, freeze_to="block1", lr=5e-4, n_steps=180, mirrored=True)
    training = rungs.Rung(tuning, "training", gain=gain, seconds=27.0)
    shorter: Any = SimpleNamespace(share=later)
    monkeypatch.setattr(rungs, "_rungs", lambda *_: iter((mirror, training)))
    monkeypatch.setattr(rungs, "_trainings", lambda study, taken, draw, error, left: [shorter] * (left >= 21))
    study: Any = SimpleNamespace(clock=SimpleNamespace(used=iter((5.0, 6.0)).__next__))
    chosen = rungs.next_rung(study, [], time_left)
    assert isinstance(chosen, rungs.Rung)
    assert chosen.why == first


def test_the_pace_of_training_is_the_median_of_whole_steps_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [100.0, 102.0, 103.0, 104.0, 114.0]  # the first step and one in between were slow
    looks = iter(ends)
    monkeypatch.setattr(finetune.time, "perf_counter", lambda: next(looks))
    monkeypatch.setattr(finetune, "TIMED_S", 13.5)
    asked, tasks = list[FineTuneStep](), list[Task]()

    def training_task(study: Any, step: FineTuneStep, start: Any) -> tuple[None, Task]:
        asked.append(step)
        task = make_task(source=FakeSource(n_steps=step.n_steps), epochs=1, loss=lambda logits, targets: logits.sum() * math.nan)
        tasks.append(task)
        return None, task

    monkeypatch.setattr(finetune, "training_task", training_task)
    step = FineTuneStep(size=96, freeze_to="block1", lr=5e-4, n_steps=1000, batch_size=30)
    assert finetune.images_per_s(cast("Any", None), step, cast("Any", None)) == pytest.approx(30 / 1.5)  # seconds: 2, 1, 1, 10
    assert asked == [replace(step, n_steps=finetune.MOST_TIMED)]
    assert next(looks, None) is None  # it went on as long as that takes, although no loss was a number
    assert tasks[0].optimizer.nonfinite == "skip"


def test_nothing_is_waited_for_when_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rungs, "_rungs", lambda *args: iter(()))
    busy = SimpleNamespace(going_on=lambda: True, wait=lambda seconds: None)
    study: Any = SimpleNamespace(warm_up=busy, clock=SimpleNamespace(used=lambda: 30.0))
    assert rungs.next_rung(study, [], -1.0) == "nothing that is left fits into the time that is left"


def test_a_search_that_time_has_ended_says_what_it_would_go_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step most worth its seconds; nothing is measured for it, and nothing is named that would not be worth taking."""
    sizes = {"train": 245, "val": 153, "test": 0}
    study: Any = SimpleNamespace(
        native=224, first_size=224, plan=SimpleNamespace(size=288), may_mirror=False, n_classes=2, measured_shares={},
        dataset=SimpleNamespace(shorter_side=(20, 20, 20)),
        rows=lambda split: range(sizes[split]),
        rate=lambda size, engine=None: 60.0, early_stage="block3", warm_up=None, pretrained=SimpleNamespace(fixed_size=False),
        precision="float32", engine_of_trained="torch", clock=AT_ONCE, training_rate=lambda step: None,
        best_training=None, val_nats=50.0, may_distort=False, may_learn_val=False,
        training_rows=lambda *, with_val: range(sizes["train"]),
    )  # fmt: skip
    monkeypatch.setattr(rungs, "features_s", lambda *_, **__: 40.0)

    def taken(accuracy: float, *steps: FeatureStep) -> Any:
        trial = SimpleNamespace(accuracy=accuracy, loss=0.3)
        views = {"trial": trial, "frozen": True, "share": 1.0, "mirrored": False, "crops": None}
        return [(step, SimpleNamespace(view=step.size, **views)) for step in steps]

    first = FeatureStep(size=224)
    found = rungs.left_undone(study, taken(0.9, first))
    assert found is not None
    assert (found.why, found.seconds) == ("more pixels: 288 instead of 224", 40.0)
    both = {rungs.kind_of(FeatureStep(size=288)), rungs.kind_of(FeatureStep(size=224, crops=2))}
    found = rungs.left_undone(study, taken(0.9, first), both)
    assert found is not None
    assert found.why.startswith("train late stages for 8 passes")  # 1,960 visits at 0.35 of 60 pictures per second, and a margin
    assert found.seconds == pytest.approx(1.2 * 1960 / (0.35 * 60) + 1.2 * 153 / 60)
    assert rungs.left_undone(study, taken(0.9999, first)) is None
    study.val_nats = rungs.LEAST_LOST  # validation has so little to say that nothing can be judged by it
    found = rungs.left_undone(study, taken(0.9, first), {rungs.kind_of(FeatureStep(size=288))})
    assert found is not None
    assert "random crops" in found.why
    assert rungs.left_undone(study, []) is None


def test_only_trainings_that_seem_best_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """More time, larger pictures, or a repetition; what was measured at one size tells the others by their area."""
    sizes, measured, clock = {"train": 2000, "val": 200, "test": 0}, list[int](), SimpleNamespace(now=0.0)

    def pace(study: Any, step: FineTuneStep, start: Any) -> float:
        del study, start
        measured.append(step.size)
        clock.now += 2.0  # measuring takes time too
        return 250 * (128 / step.size) ** 2

    monkeypatch.setattr(rungs, "images_per_s", pace)

    def chosen(
        time_left: float, draw: int = 0, may_distort: bool | None = False, error: float = 0.1, side: int = 100,
        best: FineTuneStep | None = None,
    ) -> FineTuneStep | None:  # fmt: skip
        study: Any = SimpleNamespace(
            native=224, plan=SimpleNamespace(size=288), may_mirror=True, rows=lambda split: range(sizes[split]), n_classes=5,
            dataset=SimpleNamespace(shorter_side=(side, side, side)),
            rate=lambda size, engine=None: 60.0 * (224 / size) ** 2, early_stage="block1", precision="bfloat16",
            pretrained=SimpleNamespace(fixed_size=False), engine_of_trained="openvino", _training={}, warm_up=None,
            before_training=lambda step: None, best_training=best, may_learn_val=True, may_distort=may_distort,
            training_rows=lambda *, with_val: range(2200 if with_val else 2000),
            clock=SimpleNamespace(used=lambda: clock.now, slowdown=1.0),
        )  # fmt: skip
        for name in ("training_rate", "measure_training"):
            setattr(study, name, getattr(Study, name).__get__(study))
        answer = SimpleNamespace(
            view=224, trial=SimpleNamespace(accuracy=0.9, loss=0.3), frozen=True, share=1.0, mirrored=True, crops=None
        )
        measured.clear()
        taken: Any = [(FeatureStep(size=224, mirrored=True), answer)]
        rung = rungs._fine_tuning(study, taken, draw, error, time_left)
        if rung is None:
            return None
        assert rung.seconds <= time_left - 2.0 * len(measured)
        assert isinstance(rung.step, FineTuneStep)
        return rung.step

    assert chosen(5.0) is None
    assert measured == []
    found = [chosen(time_left) for time_left in (40.0, 100.0, 900.0)]
    assert all(step is not None and step.mirrored and step.precision == "bfloat16" for step in found)
    small, middle, large = (step.size for step in found if step is not None)
    assert small < middle < large == 224
    assert len(measured) <= 2
    enlarged, photographs = chosen(60.0), chosen(60.0, side=300)
    assert enlarged is not None
    assert photographs is not None
    assert photographs.size > enlarged.size  # they lose more in fewer pixels than pictures that are enlarged
    first, gentler = chosen(900.0), chosen(900.0, draw=1)  # validation kept nothing of the first
    assert first is not None
    assert gentler is not None
    assert gentler == replace(first, draw=1, lr=gentler.lr)
    assert gentler.lr == float(f"{rungs.GENTLER * first.lr:.2g}")  # two digits
    assert chosen(900.0, draw=2) is None
    for kept in (first, gentler):  # a third is like the one that is kept
        third = chosen(900.0, draw=2, best=kept)
        assert third is not None
        assert third.lr == kept.lr
    repeated, seconds = chosen(500.0), 15 * 2000 / 250  # of the most passes at 128 px; at 224 they would take 367 s
    worthless = chosen(500.0, error=0.01)  # a repetition would not be taken: none is planned
    monkeypatch.setattr(rungs, "MOST_TRAININGS", 1)
    alone = chosen(500.0)
    assert worthless == alone
    assert repeated is not None
    assert alone is not None
    assert 128 < repeated.size <= alone.size == 224
    assert repeated.n_steps < alone.n_steps
    own_s = seconds * (repeated.size / 128) ** 2 * repeated.n_steps / (15 * 2000 / 32)
    assert 0.85 * 500 < own_s * (1 + 2200 / 2000) < 500  # as many passes over validation pictures too

    checks = iter([True, False])
    monkeypatch.setattr(label_preservation, "may_distort", lambda study: next(checks))
    for expected in (True, False):  # what a check allows, once for each search
        step = chosen(900.0, may_distort=None)
        assert step is not None
        assert step.n_steps >= rungs.DISTORTED_STEPS
        assert step.distorted is expected
    short = chosen(40.0, may_distort=True)
    assert short is not None
    assert short.n_steps < rungs.DISTORTED_STEPS
    assert not short.distorted


def test_the_pace_of_trainings_that_distort_is_their_own() -> None:
    study: Any = SimpleNamespace(_training={}, before_training=lambda step: None, clock=SimpleNamespace(slowdown=1.0))
    plain = FineTuneStep(size=128, freeze_to=None, lr=1e-3, n_steps=9)
    assert Study.training_rate(study, plain) is None
    assert Study.measure_training(study, plain, lambda: 200.0)
    assert Study.training_rate(study, replace(plain, distorted=True)) == 200.0  # until it is measured
    assert Study.measure_training(study, replace(plain, distorted=True), lambda: 150.0)
    assert not Study.measure_training(study, plain, lambda: pytest.fail("it is known"))
    assert Study.training_rate(study, plain) == 200.0
    assert Study.training_rate(study, replace(plain, distorted=True, size=256)) == 150.0 / 4
    study.clock.slowdown = 5.0  # since then
    assert Study.training_rate(study, plain) == 40.0
    assert Study.measure_training(study, replace(plain, size=64), lambda: 30.0)  # as it is now
    assert Study.training_rate(study, replace(plain, size=64)) == 30.0


def test_under_a_limit_of_size_heads_read_what_keeps_it() -> None:
    body: Any = backbone("resnet9(width=4)").build(0)
    n_bytes = sum(value.numel() * value.element_size() for value in body.state_dict().values())
    sets = {name: body.n_columns(taps) for name, taps in body.feature_sets.items()}
    study: Any = SimpleNamespace(pretrained=body, n_classes=300, plan=SimpleNamespace(max_size=None))
    study.is_small = Study.is_small.__get__(study)
    assert Study.offered(study, 100) == body.feature_sets
    study.plan.max_size = f"{(n_bytes + 4 * 300 * (sets['late'] + 1)) / 1e6 + 1e-6:.6f}MB"
    assert [*Study.offered(study, 100)] == ["last", "late"]
    assert [*Study.offered(study, 2000)] == ["late"]
    study.plan.max_size = "1KB"
    assert [*Study.offered(study, 2000)] == ["last"]  # the smallest: whether it is allowed is asked of the first answer


@pytest.mark.parametrize("check", [label_preservation.may_mirror, label_preservation.may_distort])
@pytest.mark.parametrize(("exchanged", "is_gray"), [(False, False), (True, False), (False, True)])
def test_a_transform_that_exchanges_classes_is_left_out_and_gray_pictures_stay_as_they_are(
    check: Any, exchanged: bool, is_gray: bool
) -> None:
    n, asked, said = 120, list[tuple[str, ...]](), list[str]()
    labels = np.arange(n) % 2
    plain = np.random.default_rng(0).normal(0, 0.3, (n, 6)).astype(np.float32) + labels[:, None]

    def transformed(engine: Any, rows: NDArray[np.int64], augment: tuple[str, ...]) -> NDArray[np.float32]:
        del engine
        asked.append(augment)
        return np.stack([plain[rows], 1 - plain[rows] if exchanged else plain[rows]], 1)

    study: Any = SimpleNamespace(
        dataset=SimpleNamespace(is_gray=is_gray, labels=labels, classes=["a", "b"], evidence=lambda rows: rows),
        rows=lambda split: np.arange(n), plan=SimpleNamespace(seed=0), first_size=224, frozen_engine=lambda view: None,
        pretrained=SimpleNamespace(late_stages=[], every_tap=(), n_columns=lambda taps: 6), transformed=transformed,
        log=SimpleNamespace(record=SimpleNamespace(reasons={}), timed=lambda stage: contextlib.nullcontext()),
        watch=SimpleNamespace(say=said.append),
    )  # fmt: skip
    allowed = check(study)
    assert allowed == (not exchanged and not is_gray)
    word = "mirrored" if check is label_preservation.may_mirror else "distorted"
    ((what, why),) = study.log.record.reasons.items()
    (line,) = said
    assert line.split() == [what, *("allowed" if allowed else "left out").split(), *f"({why})".split()]
    assert ("gray" in why) == is_gray
    assert why.startswith(f"{word}, ") == exchanged
    assert asked == ([] if is_gray else [MIRROR if word == "mirrored" else (DISTORT,)])


def test_the_best_training_is_taken_again_on_validation_pictures_too_where_half_of_it_fits() -> None:
    best = FineTuneStep(size=160, freeze_to="block1", lr=1e-3, n_steps=500, mirrored=True, stop_at=480)
    rows = {"train": 1000, "val": 200, "test": 300}

    def rung(time_left: float, **changed: Any) -> Any:
        study: Any = SimpleNamespace(
            best_training=best, may_learn_val=True, clock=AT_ONCE, engine_of_trained="torch",
            measure_training=lambda step, measure: False, training_rate=lambda step: 100.0, rate=lambda size, engine: 1e9,
            rows=lambda split: range(rows[split]), training_rows=lambda *, with_val: range(1200 if with_val else 1000),
        )  # fmt: skip
        head = SimpleNamespace(view=224, trial=SimpleNamespace(loss=0.3), frozen=True, share=1.0)
        vars(study).update(changed)
        return rungs._with_validation(study, cast(Any, [(FeatureStep(size=224), head)]), 1, 0.1, time_left)

    whole = rung(500.0)
    assert whole.step == replace(best, n_steps=600, draw=1, stop_at=None, with_val=True)  # as many passes, over more pictures
    assert whole.seconds == pytest.approx(16 * 1200 / 100, abs=1e-3)
    shorter = rung(100.0)
    assert 250 <= shorter.step.n_steps < 350
    assert rung(75.0) is None
    assert rung(-1.0) is None
    assert rung(500.0, best_training=None) is None
    assert rung(500.0, may_learn_val=False) is None


@pytest.mark.slow
def test_what_a_warm_up_compiles_is_what_training_calls(tmp_path: Path) -> None:
    kernels = Path(os.environ["DESCEND_CACHE"]) / "kernels"
    for transform, n in (("random_resized_crop()", 1), ("trivialaugment()", 256)):
        Pipeline([transform], size=8)(np.zeros((n, 9, 9, 3), np.uint8), ids=np.arange(n), epoch=0)
    weight = torch.nn.Parameter(torch.zeros(500_000))
    weight.grad = torch.zeros(500_000)
    Optimizer([weight], "adamw()").step()
    body, example = backbone("lite0(pretrained=False)").build(0).eval(), torch.randn(1, 3, 64, 64)
    plain = with_frozen_norms(body, example)
    with_quick_blocks(plain, example, torch.bfloat16)(example).sum().backward()
    with quick_gradients(plain):
        plain(example).sum().backward()
    (tmp_path / "kernels").mkdir()
    for file in kernels.iterdir():
        shutil.copy(file, tmp_path / "kernels")
    before = {*(tmp_path / "kernels").iterdir()}
    command = [sys.executable, "-m", "descend.search.warm_up", "bfloat16"]
    subprocess.run(command, check=True, env=os.environ | {"DESCEND_CACHE": str(tmp_path)}, timeout=300)
    done = {warm_up._done("bfloat16", what).name for what in (warm_up.TRAINING, warm_up.DISTORTIONS)}
    assert {file.name for file in {*(tmp_path / "kernels").iterdir()} - before} == done


def test_a_resumed_search_does_not_decide_again_how_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise KnobError("budget", "must leave time for a first answer")

    monkeypatch.setattr(begin, "beginning", refuse)
    body: Any = SimpleNamespace(fixed_size=False, min_size=32)
    nothing: Any = None

    def size(*known: object) -> int:
        return first_view([*known], nothing, body, 224, nothing, nothing)

    assert size(FeatureStep(size=160), FeatureStep(size=224)) == 160
    assert size(PartStep(share=0.5)) == 96
    with pytest.raises(KnobError):
        size()


def test_sets_whose_axes_would_take_longer_than_is_left_are_left_out_before_they_begin() -> None:
    """Nothing can stop an eigenproblem: 10 s for quarters, 1.6 for late stages, by numbers of columns."""
    columns = {("late",): 2024, ("late", "parts"): 3720}
    body: Any = SimpleNamespace(n_columns=lambda taps: columns[tuple(taps)])
    late_s, quarters_s = (features.axes_s(body, 5000, 40, 3, FIT_PACE, taps=taps) for taps in columns)
    assert 1.0 < late_s < 2.0
    assert quarters_s == pytest.approx(late_s * (3720 / 2024) ** 3)
    assert features.axes_s(body, 1000, 40, 3, FIT_PACE, taps=("late",)) == pytest.approx(0.073, rel=0.05)  # of a triangle
    clock = Clock(math.inf, started=0.0)
    clock.left = lambda: 12.0
    watch = Watch(Silent(), clock)
    assert watch.spare() == math.inf
    with watch.holding(3.0), watch.keeping(2.0):
        assert watch.spare() == 7.0
        assert late_s < watch.spare() < quarters_s


def test_one_quick_fit_is_that_of_the_best_head_that_the_budget_can_pay() -> None:
    columns = {"last": 1280, "late": 2024, "quarters": 3720}
    body: Any = SimpleNamespace(
        feature_sets={name: (name,) for name in columns}, n_columns=lambda taps: columns[next(iter(taps), "last")]
    )
    study: Any = SimpleNamespace(
        best_trials={}, is_small=lambda taps: True, rows=lambda split, share: range(8000), pretrained=body, n_classes=10,
        fit_pace=FIT_PACE, clock=SimpleNamespace(budget_s=45.0),
    )  # fmt: skip
    quick = FeatureStep(size=96, quick=True)
    assert features.like_the_best(study, quick) == replace(quick, stages="late", strength=0.1)
    for stages, strength, loss in (("late", 0.03, 0.7), ("quarters", 0.3, 0.6)):
        study.best_trials[96, stages] = SimpleNamespace(loss=loss, strength=strength)
    assert features.like_the_best(study, quick) == replace(quick, stages="late", strength=0.03)  # quarters take 6.5 s
    study.clock.budget_s = 300.0
    assert features.like_the_best(study, quick) == replace(quick, stages="quarters", strength=0.3)
    study.clock.budget_s = 20.0
    assert features.like_the_best(study, quick) == replace(quick, stages="last", strength=0.1)
    study.clock.budget_s, body.feature_sets = 45.0, {"last": ()}
    assert features.like_the_best(study, replace(quick, size=128)) == replace(quick, size=128, stages="last", strength=0.1)


def test_where_the_first_view_is_small_the_networks_own_follows_and_then_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    study: Any = SimpleNamespace(native=224, first_size=96, plan=SimpleNamespace(size=288), may_mirror=False, measured_shares={})
    monkeypatch.setattr(rungs, "features_s", lambda *_, **__: 1.0)

    def offered(*sizes: int) -> dict[int, float]:
        looks = [FeatureStep(size=size) for size in sizes]
        answer = SimpleNamespace(view=96, trial=None, frozen=True, share=1.0, mirrored=False, crops=None)
        taken: Any = [(step, answer) for step in looks]
        found = rungs._larger(study, taken, looks, 0.2, 100.0)
        return {rung.step.size: rung.gain for rung in found if isinstance(rung.step, FeatureStep)}

    both = offered(96)
    assert [*both] == [224, 288]
    assert 0 < both[224] < both[288] < 0.2
    assert [*offered(96, 224)] == [288]
    assert offered(96, 224)[288] == pytest.approx(0.02, rel=0.05)  # a tenth of what is wrong
    assert offered(96, 224, 288) == {}
    study.measured_shares[96, 224] = 0.2  # as a part of the pictures told
    assert offered(96)[224] == pytest.approx(0.04)
    assert offered(96)[288] == both[288]  # nothing was measured there
    study.measured_shares[96, 224] = -0.1
    assert offered(96)[224] == pytest.approx(both[224] / 4)  # a part is not all


def test_a_larger_view_comes_without_mirror_images_where_there_is_no_time_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    study: Any = SimpleNamespace(native=224, first_size=224, plan=SimpleNamespace(size=288), may_mirror=True, measured_shares={})
    monkeypatch.setattr(rungs, "features_s", lambda study, step, *, instead: 10.0 * (1 + step.mirrored))
    answer: Any = SimpleNamespace(view=224, trial=None, frozen=True, share=1.0, mirrored=False, crops=None)

    def offered(time_left: float) -> list[tuple[bool, float]]:
        looks = [FeatureStep(size=224)]
        found = rungs._larger(study, [(looks[0], answer)], looks, 0.2, time_left)
        return [(rung.step.mirrored, rung.gain) for rung in found if isinstance(rung.step, FeatureStep)]

    assert [mirrored for mirrored, _ in offered(25.0)] == [True]
    (_, more), (without, less) = offered(15.0)
    assert not without
    assert more - less == pytest.approx(0.2 * rungs.MIRROR_SHARE)
    answer.mirrored = True
    assert offered(15.0)[1][1] < less  # they would be given up
    study.may_mirror = answer.mirrored = False
    assert [mirrored for mirrored, _ in offered(15.0)] == [False]


def test_mirror_images_are_offered_in_the_view_of_the_best_head(monkeypatch: pytest.MonkeyPatch) -> None:
    study: Any = SimpleNamespace(
        native=224, first_size=224, plan=SimpleNamespace(size=288), may_mirror=True, measured_shares={}, warm_up=None,
        rows=lambda split: range(1000), val_nats=0.0,
    )  # fmt: skip
    monkeypatch.setattr(rungs, "features_s", lambda *_, **__: 1.0)

    def offered(best: int) -> list[str]:
        def answer(size: int) -> Any:
            trial = SimpleNamespace(loss=0.1 if size == best else 0.2, accuracy=0.9)
            return SimpleNamespace(view=size, trial=trial, frozen=True, share=1.0, mirrored=False, crops=None)

        taken: Any = [(FeatureStep(size=size), answer(size)) for size in (224, 288)]
        return [text(rung.step) for rung in rungs._rungs(study, taken, 0.2, 100.0, ())]

    assert offered(288) == [text(FeatureStep(size=288, mirrored=True))]
    assert offered(224) == [text(FeatureStep(size=224, mirrored=True))]


def test_distortion_waits_for_its_kernels_and_is_left_out_where_they_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = list[float]()
    warm_up_of = {"ready": False, "late": True}
    monkeypatch.setattr(label_preservation, "may_distort", lambda study: True)

    def allowed(how: str, *, is_gray: bool = False) -> bool:
        waiting = SimpleNamespace(wait=lambda seconds, what: waited.append(seconds), going_on=lambda what: warm_up_of[how])
        study: Any = SimpleNamespace(warm_up=waiting, dataset=SimpleNamespace(is_gray=is_gray))
        return rungs._may_distort(study, 40.0)

    assert allowed("ready")
    assert not allowed("late")
    assert waited == [10.0, 10.0]
    assert allowed("late", is_gray=True)  # it will say no by itself, without a kernel
    assert len(waited) == 2


def test_the_start_of_an_engine_is_no_part_of_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now, noted = SimpleNamespace(s=0.0), {}
    monkeypatch.setattr(time, "perf_counter", lambda: now.s)

    def passes(seconds: float) -> None:
        now.s += seconds

    def extract(engine: Any, rows: Any, *, n_views: int) -> None:
        del engine
        passes(2.0)
        extraction.n_computed += n_views * len(rows)

    extraction = SimpleNamespace(n_computed=0)
    builder: Any = SimpleNamespace(extraction=extraction, extract=extract, n_missing=lambda engine, rows, *, n_views: len(rows))
    engine: Any = SimpleNamespace(name="other", prefix=SimpleNamespace(seen_size=224), start=lambda: passes(100.0))
    clock = Clock(math.inf, started=0.0)
    study: Any = SimpleNamespace(
        builder=builder,
        clock=clock,
        watch=Watch(Silent(), clock),
        _rates={},
        note_rate=lambda name, view, rate: noted.update({(name, view): rate}),
    )
    Study._extracted(study, builder, engine, np.arange(40), 1)
    assert noted == {("other", 224): 20.0}
    assert now.s == 102.0
    noted.clear()
    clock.slowdown = 5.0  # what is known of a quiet machine stays
    Study._extracted(study, builder, engine, np.arange(40), 1)
    assert noted == {}


@pytest.mark.parametrize(("verdict", "rate"), [({"torch": 30.0, "openvino": 90.0}, 90.0), ({"torch": 30.0}, 77.0), (None, 77.0)])
def test_an_engine_that_is_named_is_planned_with_at_its_own_pace(
    verdict: dict[str, float] | None, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {"torch": 31.0, "openvino": 77.0}
    monkeypatch.setattr(begin, "_decoded_per_s", lambda *_: 500.0)
    monkeypatch.setattr(begin, "make_engine", lambda name, *_, **__: SimpleNamespace(name=name, start=lambda: None))
    monkeypatch.setattr(begin, "measure", lambda engines, **_: {name: rates[name] for name in engines})
    known = None if verdict is None else SimpleNamespace(images_per_s=verdict)
    monkeypatch.setattr(begin, "remembered", lambda *_, **__: known)
    plan: Any = SimpleNamespace(threads=None, engine="openvino", size=224)
    data: Any = SimpleNamespace(splits=np.zeros(50))
    clock: Any = SimpleNamespace()
    speeds = begin.speeds(data, plan, cast(Any, SimpleNamespace(every_tap=())), 224, clock, Silent())
    assert (speeds.engine.name, speeds.torch, speeds.computed) == ("openvino", 31.0, rate)


@pytest.mark.parametrize(
    ("torch_rate", "left", "n_classes", "chosen"),
    [
        (40.0, 50.0, 2, True),
        (2.0, 50.0, 2, False),
        (2.0, 500.0, 2, True),
        (40.0, 50.0, 1000, False),
        (40.0, 500.0, 1000, True),
        (40.0, 22.0, 2, False),
    ],
)  # a quiet machine; a busy one; with time; 8,000 pictures to decode for a first answer take 16 s, and a head to fit more; and
# little time: torch can look at 1,700 pictures in 96 px, another engine at 600 when it has been chosen and has started
def test_engines_are_measured_only_where_that_leaves_time_for_an_answer(
    torch_rate: float, left: float, n_classes: int, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast: Any = SimpleNamespace(
        images_per_s={"openvino": 3 * torch_rate, "torch": torch_rate}, engine=SimpleNamespace(name="openvino")
    )
    monkeypatch.setattr(begin, "_decoded_per_s", lambda *_: 500.0)
    monkeypatch.setattr(begin, "make_engine", lambda name, *_, **__: SimpleNamespace(name=name, chunk=16))
    monkeypatch.setattr(begin, "measure", lambda engines, **_: dict.fromkeys(engines, torch_rate))
    monkeypatch.setattr(begin, "remembered", lambda *_, **__: None)
    monkeypatch.setattr(begin, "choose", lambda *_, **__: fast)
    data: Any = SimpleNamespace(
        splits=np.zeros(40_000, int), indices=lambda _: np.arange(40_000), classes=tuple(range(n_classes)), given_split=False
    )
    plan: Any = SimpleNamespace(threads=None, engine="auto", size=224)
    body: Any = SimpleNamespace(
        every_tap=(), native_size=224, fixed_size=False, min_size=32, n_columns=lambda taps: 1280, feature_sets={"last": ()}
    )
    clock: Any = SimpleNamespace(left=lambda: left, closing_s=5.0, slowdown=1.0)
    found = begin.speeds(data, plan, body, 224, clock, Silent())
    assert (found.engine.name, found.computed) == (("openvino", 3 * torch_rate) if chosen else ("torch", torch_rate))
    assert ("takes too long here now" in found.reason) == (not chosen)


@pytest.mark.parametrize(
    ("side", "left", "longest"), [(128, 40.0, 10.0), (224, 40.0, 20.0), (128, 400.0, 30.0), (224, 400.0, 30.0)]
)
def test_pictures_that_are_enlarged_are_looked_at_in_part_sooner(side: int, left: float, longest: float) -> None:
    study: Any = SimpleNamespace(
        dataset=SimpleNamespace(shorter_side=(side, side, side)), clock=SimpleNamespace(left=lambda: left)
    )
    assert expected_time.longest_first_look_s(study, 224) == longest


def temperature_of(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature for logits (n, V, K) of validation pictures."""
    study: Any = SimpleNamespace(
        rows=lambda split: np.arange(len(labels)), dataset=SimpleNamespace(labels=labels),
        logits=lambda answer, rows: torch.from_numpy(logits).float(), val_counts=lambda: None,
    )  # fmt: skip
    return finetune.fitted_temperature(study, cast(Any, None))


def test_pictures_that_are_all_answered_right_do_not_make_an_answer_as_sure_as_it_can_be() -> None:
    labels = np.arange(37) % 2
    few = temperature_of(2.0 * np.eye(2)[labels][:, None], labels)
    assert 0.3 < few < 0.6
    assert temperature_of(np.tile(2.0 * np.eye(2)[labels][:, None], (30, 1, 1)), np.tile(labels, 30)) < few  # more evidence


@pytest.mark.parametrize(("n", "told"), [(6, True), (50, True), (51, False), (100, False)])
def test_time_that_sufficed_for_half_of_the_training_pictures_or_fewer_is_told(n: int, told: bool) -> None:
    log = SimpleNamespace(record=SimpleNamespace(search_replayed=False))
    study: Any = SimpleNamespace(n_training=100, log=log, rows=lambda _, share: range(round(100 * share)))
    answers: Any = [SimpleNamespace(share=0.01), SimpleNamespace(share=n / 100)]
    sentence = f"Time sufficed to learn from {n} of 100 training pictures, judged on 3 of validation: a longer --budget learns "
    assert conclude._told_part(study, answers, 3) == ([f"{sentence}from more."] if told else [])


def test_the_temperature_of_one_view_is_that_of_the_runs_own_calibration() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=60)
    logits = 3.0 * generator.normal(size=(60, 3)) + 2.0 * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert temperature_of(logits[:, None], labels) == pytest.approx(
        fit_temperature(probabilities.astype(np.float32), labels), rel=1e-3
    )


def test_a_network_is_taken_up_again_only_for_the_step_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: Any = SimpleNamespace(folder=tmp_path)
    trained, like = (Classifier(backbone("smallcnn()").build(seed), torch.nn.Linear(128, 3)) for seed in (0, 1))
    step = FineTuneStep(size=32, freeze_to=None, lr=1e-3, n_steps=7)
    networks.save(log, step, trained)
    for same in (step, replace(step, stop_at=5)):  # when it stopped is written after it was trained
        again = networks.load(log, same, lambda: like)
        assert again is not None
        for name, value in trained.state_dict().items():
            torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    assert networks.load(log, replace(step, lr=2e-3), lambda: like) is None
    assert networks.load(log, replace(step, size=64), lambda: like) is None
    monkeypatch.setattr(networks, "HEAD_SHARE", 1.0)  # of another version
    assert networks.load(log, step, lambda: like) is None
