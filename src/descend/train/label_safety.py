"""How often augmentations flip a trained run's answers, class by class: the measurement behind ``descend augment --safety``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend import rng
from descend.augment import Augmentation, Pipeline
from descend.augment.label_safety import Flips, Safety, Trial, each_part, strengths
from descend.data import Dataset
from descend.data.pool import n_threads
from descend.errors import DataError, KnobError
from descend.progress import Update
from descend.train.evaluate import probabilities
from descend.train.folder import corrections_of
from descend.train.inference import as_trained
from descend.train.own_data import of_training_or_other
from descend.train.picture_sources import decoded_batches
from descend.train.run import Run


def measure(
    run: Run,
    data: Any,
    transforms: Sequence[Augmentation],
    *,
    per_class: int = 100,
    tolerance: float = 0.05,
    seed: int = 0,
    outside: bool = False,
    threads: int | None = None,
    progress: Update | None = None,
) -> list[Safety]:
    """Transform pictures at rising strengths and count the answers that change, for each transform by itself.

    data: labeled pictures, whatever ``fit`` takes; classes are matched by name. Those of a test split are left alone, because
    the advice is for training. per_class: pictures of each class at most, chosen by ``seed``. Only pictures that the run answers
    right as they are count, so a flip is a wrong answer that the transform caused. Every picture is drawn once at each strength.
    tolerance: the share of flips that is still acceptable. outside: a table may name pictures that do not lie below its folder.
    progress: called with ("safety", pictures done, pictures in all).
    Of ``one_of`` and ``some_of`` each part is measured by itself. Normalization, and mixing, which changes the target with the
    picture, are passed over; a ``resampling`` holds for all others.

    Raises KnobError (nothing to measure, a tolerance outside 0..1, no pictures asked for) and DataError (no picture of a known
    class, or none answered right).
    """
    measured = [transform for transform in each_part(transforms) if not (transform.batch_wide or "mix" in transform.stages)]
    reading = [transform for transform in transforms if transform.batch_wide and "normalize" not in transform.stages]
    if not measured:
        raise KnobError("safety", "needs a transform that changes pictures one by one", got=[str(item) for item in transforms])
    if per_class < 1 or not 0 <= tolerance < 1:
        raise KnobError("safety", "per_class must be >= 1 and tolerance in [0, 1)", got=f"{per_class} and {tolerance}")
    corrections = corrections_of(run.folder)
    dataset = of_training_or_other(run.record, data, corrections=corrections, outside=outside, threads=threads)
    rows = _chosen(dataset, run.classes, per_class, seed)
    rungs = {transform: strengths(transform) for transform in dict.fromkeys(measured)}
    views = {rung: as_trained(run.record, [*reading, rung], seed=seed) for steps in rungs.values() for rung in steps}
    unchanged = as_trained(run.record)
    answers = {rung: list[NDArray[np.int64]]() for rung in views}
    plain, labels = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    sources = [dataset.source(int(row)) for row in rows]
    names = [dataset.name_of(int(row)) for row in rows]
    if progress is not None:
        progress("safety", 0, len(rows))
    for images, positions in decoded_batches(sources, names, {}, record=run.record, threads=n_threads(threads)):
        kept = rows[positions]
        ids = dataset.ids[kept]
        labels.append(_as_in_run(dataset, run.classes)[dataset.labels[kept]])
        plain.append(_answers(run, unchanged, images, ids))
        for rung, view in views.items():
            answers[rung].append(_answers(run, view, images, ids))
        if progress is not None:
            progress("safety", sum(map(len, plain)), len(rows))
    truth = np.concatenate(labels)
    right = np.concatenate(plain) == truth
    if not right.any():
        raise DataError("safety", "the run must answer one picture right or more", got=f"0 of {len(right)}")
    counted = {rung: _flips(truth[right], np.concatenate(batches)[right], run.classes) for rung, batches in answers.items()}
    return [Safety(named, tuple(Trial(rung, counted[rung]) for rung in steps), tolerance) for named, steps in rungs.items()]


def _chosen(dataset: Dataset, classes: tuple[str, ...], per_class: int, seed: int) -> NDArray[np.int64]:
    """Return up to ``per_class`` rows of every class that the run knows, none of them for testing, in the order of the data."""
    rows = np.concatenate([dataset.indices("train"), dataset.indices("val")])
    rows = rows[np.argsort(rng.uniform(seed, "safety.pictures", ids=dataset.ids[rows])[:, 0], kind="stable")]
    known = [rows[dataset.labels[rows] == k][:per_class] for k, name in enumerate(dataset.classes) if name in classes]
    if not known or not sum(map(len, known)):
        raise DataError("safety", "the data must have pictures of the run's classes outside its test split",
                        got=list(dataset.classes)[:10], fix=f"The run knows {', '.join(classes[:20])}.")  # fmt: skip
    return np.sort(np.concatenate(known))


def _as_in_run(dataset: Dataset, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return for every class of the data its number in the run, -1 where the run does not know it."""
    return np.array([classes.index(name) if name in classes else -1 for name in dataset.classes], np.int64)


def _answers(run: Run, view: Pipeline, images: NDArray[np.uint8], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return probabilities(run.classifier, [view(images, ids=ids, epoch=0)]).argmax(1)


def _flips(truth: NDArray[np.int64], answers: NDArray[np.int64], classes: tuple[str, ...]) -> tuple[Flips, ...]:
    flips = list[Flips]()
    for label in np.unique(truth):
        given = answers[truth == label]
        others = Counter(given[given != label].tolist())
        to, n_to = others.most_common(1)[0] if others else (None, 0)
        flips.append(Flips(classes[label], others.total(), len(given), None if to is None else classes[to], n_to))
    return tuple(flips)
