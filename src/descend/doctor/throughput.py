"""Where the time of a training step goes, which part is the bottleneck, and what to do about it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from descend.data import decode_resized
from descend.data.pool import in_order, n_threads
from descend.doctor.subject import Subject
from descend.findings import Finding
from descend.train import cadence, checkpoint
from descend.train.batch_sources import ImageSource
from descend.train.checkpoint import Best
from descend.train.loop import Position

CHECK = "throughput"
N_DECODED = 16
LARGE_SHARE = 0.5  # of a step, from which a part that trains nothing is worth a note

ADVICE = {
    "read": "The stored pictures come slowly: keep DESCEND_CACHE on a quick disk.",
    "augment": "Leave out neighborhood operations (blur, sharpen, elastic), or take a smaller size.",
    "frozen part": "transfer features computes the frozen part once per picture; the extra [fast] brings a faster engine.",
    "forward": "A smaller size or backbone; freeze_to runs early stages without gradients.",
    "backward": "A smaller size or backbone; freeze_to, or transfer features, spares most of the backward pass.",
    "step": "A larger batch_size takes fewer steps per epoch; sgd and momentum cost less than adaptive rules.",
    "checkpoint": "Write the run to a quicker disk (out).",
}


def throughput(subject: Subject) -> list[Finding]:
    """Time every part on one batch; decoding is paid once per picture and then cached, everything else in every epoch."""
    seconds = {**_feeding(subject), **subject.trial.seconds}
    whole = sum(seconds.values())
    cost_s = _checkpoint_s(subject)
    seconds["checkpoint"] = cost_s / cadence.interval_s(cost_s) * whole
    whole += seconds["checkpoint"]
    n_train, batch_size = len(subject.surveyed.dataset.indices("train")), subject.plan.batch_size
    decoded_per_s = _decoded_per_s(subject)
    rate = batch_size / max(whole, 1e-9)
    slowest = max(seconds, key=lambda part: seconds[part])
    table = tuple({"part": part, "ms": 1e3 * wall, "share": wall / max(whole, 1e-9)} for part, wall in seconds.items())
    evidence: dict[str, Any] = {
        "images_per_s": rate, "decoded_per_s": decoded_per_s, "epoch_s": n_train / rate, "decode_s": n_train / decoded_per_s,
        "bottleneck": slowest,
    }  # fmt: skip
    told = (
        f"{rate:,.0f} pictures per second, {n_train / rate:.1f} s per epoch; {slowest} takes "
        f"{seconds[slowest] / max(whole, 1e-9):.0%}. Decoding, once: {decoded_per_s:,.0f} pictures per second"
    )
    computing = ("forward", "backward")
    worth = slowest not in computing and seconds[slowest] > LARGE_SHARE * whole
    return [Finding(CHECK, "note" if worth else "ok", told, evidence, ADVICE[slowest], table)]


def _feeding(subject: Subject) -> dict[str, float]:
    """Return the seconds that one batch takes until it can be trained on: reading, augmenting, the frozen part."""
    source, builder = subject.task.source, subject.builder
    if not isinstance(source, ImageSource):
        return {"read": _median_s(lambda: next(iter(source.epoch(0))))}
    rows = builder.batches.order(0)[: builder.batches.batch_size]
    images, ids = builder.decoded.take(rows), builder.dataset.ids[rows]
    mixing: dict[str, Any] = {}
    if source.pipeline.mixes:
        mixing = {"targets": builder.dataset.labels[rows], "n_classes": subject.n_classes}
    walls = {
        "read": _median_s(lambda: builder.decoded.take(rows)),
        "augment": _median_s(lambda: source.pipeline(images, ids=ids, epoch=0, step=0, **mixing)),
    }
    prefix = source.prefix
    if prefix is not None:
        made = source.pipeline(images, ids=ids, epoch=0, step=0, **mixing)
        views = np.asarray(made[0] if source.pipeline.mixes else made)
        walls["frozen part"] = _median_s(lambda: prefix(views), n=1)
    return walls


def _median_s(work: Callable[[], object], n: int = 3) -> float:
    walls: list[float] = []
    for _ in range(n + 1):  # the first one warms up
        started = time.perf_counter()
        work()
        walls.append(time.perf_counter() - started)
    return sorted(walls[1:])[n // 2]


def _decoded_per_s(subject: Subject) -> float:
    dataset, builder = subject.builder.dataset, subject.builder
    rows = builder.train_rows[:N_DECODED]

    def work(row: int) -> None:
        decode_resized(dataset.source(row), builder.decoded.resolution, name=dataset.name_of(row), policy=dataset.policy)

    started = time.perf_counter()
    for _ in in_order(work, rows.tolist(), n_threads(subject.plan.threads)):
        pass
    return len(rows) / max(time.perf_counter() - started, 1e-6)


def _checkpoint_s(subject: Subject) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        started = time.perf_counter()
        checkpoint.save(path, subject.module, subject.task.optimizer, Position(), Best(state=checkpoint.snapshot(subject.module)))
        return time.perf_counter() - started
