"""A default augmentation is measured before it is used: what changes labels on these pictures is left out, and the plan says why.

What was asked for by name is not looked at. The measurement is ``transfer.measure_label_changes`` on features of a sample of the
training pictures, plain and transformed, by the pretrained backbone of the plan, or by Lite0 where the network begins from random
weights. Once measured, the recipe names what is left, so a resumed or repeated run measures nothing again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from descend.augment import Augmentation, Pipeline
from descend.data import Dataset, Decoded
from descend.models import Backbone, backbone
from descend.progress import Progress
from descend.technique import knobs
from descend.train.plan import Plan
from descend.train.recipe import Recipe
from descend.train.run_log import RunLog
from descend.train.task_builder import pixels_key, views_key
from descend.transfer import Engine, LabelChanges, balanced_sample, extract, make_engine, measure_label_changes
from descend.transfer.features import View

CHECKED = {"flip": "mirrored", "rotate": "turned", "color_jitter": "recolored"}
"""Transforms of default augmentations that can change what a picture means, and what they make of it. Crops, shifts and erasing
hide or move what is seen; they do not turn it into something else."""
LEAST_SIDE = 32  # pixels: smaller pictures say too little to a network that was trained on photographs
READABLE_SIDE = 96  # pixels, to which smaller pictures are enlarged
SAMPLE, PER_CLASS, MOST = 300, 15, 1000  # pictures measured: a few seconds; more where there are many classes


def until_measured(plan: Plan, recipe: Recipe) -> Plan:
    """Return the plan with its default augmentation marked as open, where it will be measured.

    The recipe of an interrupted run must not hold it as if it had been asked for.
    """
    is_default = recipe.augment is None or recipe.augment == ("auto",)
    if not is_default or not any(item.name in CHECKED for item in plan.augment) or plan.size < LEAST_SIDE:
        return plan
    return replace(plan, open_settings={"augment": recipe.augment})


def measured(plan: Plan, decoded: Decoded, network: Backbone, log: RunLog, progress: Progress) -> Plan:
    """Return the plan without the transforms that change labels, if its augmentation is open, and write it down."""
    if "augment" not in plan.open_settings:
        return plan
    with log.timed("label check"):
        changes = _measure(plan, decoded, network, progress)
    names = decoded.dataset.classes
    told = [verdict for transform, found in changes.items() if (verdict := _told(transform, found, names))]
    unknown = "too few pictures to measure whether it changes labels: leave out what does"
    kept = tuple(item for item in plan.augment if not _harmful(changes.get(item, [])))
    plan = replace(plan, open_settings={}).decided("augment", kept, "; ".join([plan.reasons["augment"], *(told or [unknown])]))
    progress.say(f"  augment    {' '.join(map(str, kept)) or 'none'}  ({plan.reasons['augment']})")
    log.write_plan(plan)
    return plan


def _measure(plan: Plan, decoded: Decoded, network: Backbone, progress: Progress) -> dict[Augmentation, list[LabelChanges]]:
    """Return what each checked transform does, seen by middle stages and by the last; nothing where pictures are too few."""
    dataset = decoded.dataset
    rows = sampled(dataset, dataset.indices("train"), plan.seed)
    labels, units = dataset.labels[rows], dataset.evidence(rows)
    if len(np.unique(labels)) < 2:
        return {}
    network = network if network.pretrained else backbone("lite0").build(plan.seed)
    engine = _engine(plan, network)
    changes: dict[Augmentation, list[LabelChanges]] = {}
    for transform in plan.augment:
        if transform.name not in CHECKED:
            continue
        progress.say(f"  measuring whether pictures keep their label when {CHECKED[transform.name]} ...")
        features = _features(engine, plan, decoded, rows, _always(transform), progress)
        changes[transform] = list(changes_seen(features, network, engine.prefix.taps, labels, units=units, seed=plan.seed))
    return changes


def sampled(dataset: Dataset, train: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return those of the training rows, (n,) int64, that are measured."""
    limit = min(MOST, max(SAMPLE, PER_CLASS * len(dataset.classes)))
    return train[balanced_sample(dataset.labels[train], dataset.evidence(train), limit=limit, seed=seed)]


def changes_seen(
    features: NDArray[np.float32], network: Backbone, taps: Sequence[str], labels: NDArray[np.int64], *,
    units: NDArray[np.int64], seed: int,
) -> Iterator[LabelChanges]:  # fmt: skip
    """Yield what a transform does to answers, as middle stages see it and then as the last does; none of too few pictures.

    features: (n, 2, D), of the plain and of the transformed view of the same pictures, by the network with these stages tapped.
    labels, units: (n,), as in ``measure_label_changes``.
    """
    for columns in _looks(network, taps):
        plain, transformed = features[:, 0, columns], features[:, 1, columns]
        changes = measure_label_changes(plain, transformed, labels, units=units, seed=seed)
        if changes is not None:
            yield changes


def _looks(network: Backbone, taps: Sequence[str]) -> list[slice]:
    """Return the columns of features that hold middle stages, where there are some, and those of the last."""
    middle, last = _middle_stages(network), slice(-network.n_columns(()), None)
    if not middle:
        return [last]
    first, after = taps.index(middle[0]), taps.index(middle[-1]) + 1
    return [slice(-network.n_columns(taps[first:]), -network.n_columns(taps[after:])), last]


def _middle_stages(network: Backbone) -> tuple[str, ...]:
    """Return the stages that see what a transform does.

    A network that was trained on mirrored pictures is blind to mirroring in its last stage; its middle ones see it.
    """
    late = network.late_stages
    return late[1:3] if len(late) > 3 else late[:1]


def _engine(plan: Plan, network: Backbone) -> Engine:
    """Return what computes the features, those of middle stages before the last."""
    name = "torch" if plan.engine in ("none", "auto") else plan.engine
    size = plan.size if network.fixed_size else max(plan.size, READABLE_SIDE)
    return make_engine(name, network, size=size, taps=_middle_stages(network))


def _features(
    engine: Engine, plan: Plan, decoded: Decoded, rows: NDArray[np.int64], transform: Augmentation, progress: Progress
) -> NDArray[np.float32]:
    """Return features (n, 2, D) of the plain view and of one transformed view of rows, cached."""
    dataset = decoded.dataset
    what = f"label check, {pixels_key(decoded, plan.size)}"
    return extract(
        engine, decoded.take, rows, digests=dataset.digests, ids=dataset.ids, preparation=what,
        view=measured_view(transform, seed=plan.seed, size=plan.size, side=engine.prefix.size), n_views=2,
        augmentation=views_key([transform]), seed=plan.seed, progress=progress.update,
    )  # fmt: skip


def measured_view(transform: Augmentation, *, seed: int, size: int, side: int) -> View:
    """Return what makes view 0, the plain one, and view 1, transformed, enlarged from ``size`` pixels to ``side``."""
    plain, varied = (Pipeline(items, seed=seed, size=size, out="uint8") for items in ([], [transform]))

    def view(images: NDArray[np.uint8], ids: NDArray[np.int64], draw: int) -> NDArray[np.uint8]:
        seen = (varied if draw else plain)(images, ids=ids, epoch=0, draw=draw)
        if size < side:
            levels = interpolate(seen.permute(0, 3, 1, 2).float(), size=(side, side), mode="bilinear", align_corners=False)
            seen = levels.round().to(torch.uint8).permute(0, 2, 3, 1)
        return np.ascontiguousarray(seen.numpy())

    return view


def _always(transform: Augmentation) -> Augmentation:
    """Return the transform with its probability set to 1."""
    settings = {knob.name: getattr(transform, knob.name) for knob in knobs(type(transform))}
    return type(transform)(**(settings | {"p": 1.0}))


def _harmful(found: list[LabelChanges]) -> bool:
    return any(changes.harmful for changes in found)


def _told(transform: Augmentation, found: list[LabelChanges], names: tuple[str, ...]) -> str | None:
    """Return the verdict on a transform, by the look that says most against it; None where there was none."""
    if not found:
        return None
    worst = max(found, key=lambda changes: (changes.harmful, changes.fall.difference.mean))
    if worst.harmful:
        return f"{transform.name} left out: {worst.reason(names, CHECKED[transform.name])}"
    return f"{transform.name} keeps labels here: {found[-1].reason(names, CHECKED[transform.name])}"
