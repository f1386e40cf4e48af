"""What the network is really fed: numbers of a sane size, each with the label and the pixels of its own picture."""

from __future__ import annotations

import numpy as np
import torch

from descend.doctor.subject import Subject
from descend.findings import Finding, named
from descend.train.batch_sources import ImageSource
from descend.train.loop import Batch

CHECK = "input pipeline"
N_BATCHES = 2
MEAN_RANGE, STD_RANGE = 3.0, (0.05, 5.0)  # of normalized pictures


def input_pipeline(subject: Subject) -> list[Finding]:
    """Compare what arrives with the data set: labels and pixels picture by picture, and the numbers' size."""
    batches = list(subject.batches(N_BATCHES))
    found = [*_labels(subject, batches), *_pixels(subject, batches), *_numbers(subject, batches)]
    n = sum(len(batch.ids) for _, batch in batches)
    inputs = torch.cat([batch.inputs.flatten(1) for _, batch in batches])
    shape = tuple(batches[0][1].inputs.shape)
    size = f"mean {inputs.mean():.2f}, standard deviation {inputs.std():.2f}"
    told = f"{n} pictures as {shape}: {size}; labels and pixels belong together"
    evidence = {"n": n, "shape": list(shape), "mean": float(inputs.mean()), "std": float(inputs.std())}
    return found or [Finding(CHECK, "ok", told, evidence)]


def _rows(subject: Subject, batch: Batch) -> np.ndarray:
    """Return the data set's row of each picture, (B,) int64; -1 for a repeated visit, whose id is another one."""
    dataset = subject.builder.dataset
    rows = {int(dataset.ids[row]): int(row) for row in subject.builder.train_rows}
    return np.array([rows.get(int(number), -1) for number in batch.ids], np.int64)


def _labels(subject: Subject, batches: list[tuple[int, Batch]]) -> list[Finding]:
    dataset, wrong, n = subject.builder.dataset, list[str](), 0
    for _, batch in batches:
        if batch.targets.ndim == 2:
            sums = batch.targets.sum(1)
            if not torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
                return [Finding(CHECK, "finding", "the shares of mixed targets do not add up to 1", {"sums": sums.tolist()},
                                "Look at the augmentation that mixes pictures.")]  # fmt: skip
            continue
        for row, label in zip(_rows(subject, batch).tolist(), batch.targets.tolist(), strict=True):
            n += row >= 0
            if row >= 0 and label != dataset.labels[row]:
                wrong.append(f"{dataset.name_of(row)} ({dataset.classes[dataset.labels[row]]}) as {dataset.classes[label]}")
    if not wrong:
        return []
    return [Finding(CHECK, "finding", f"{len(wrong)} of {n} pictures arrive with another label: {named(wrong)}",
                    {"wrong": len(wrong), "n": n, "examples": wrong[:10]},
                    "The order of pictures and that of labels differ somewhere: look at the batch source.")]  # fmt: skip


def _pixels(subject: Subject, batches: list[tuple[int, Batch]]) -> list[Finding]:
    """Make the same views from the stored pictures again, by the ids that arrived: they must be equal to the bit."""
    builder = subject.builder
    if not _sees_pictures(subject) or builder.pipeline().mixes:
        return []
    wrong, n = 0, 0
    for epoch, batch in batches:
        rows = _rows(subject, batch)
        known = rows >= 0
        views = builder.pipeline()(builder.decoded.take(rows[known]), ids=batch.ids[known], epoch=epoch, step=batch.step)
        arrived = batch.inputs[torch.from_numpy(known)].cpu()
        wrong += int((views != arrived).flatten(1).any(1).sum())
        n += int(known.sum())
    if not wrong:
        return []
    return [Finding(CHECK, "finding", f"{wrong} of {n} pictures arrive with pixels that are not their own",
                    {"wrong": wrong, "n": n},
                    "The order of pictures and that of ids differ somewhere: look at the batch source.")]  # fmt: skip


def _sees_pictures(subject: Subject) -> bool:
    """Return whether what trains reads pictures; behind a frozen part it reads features, whose size is their own."""
    source = subject.task.source
    return isinstance(source, ImageSource) and source.prefix is None


def _numbers(subject: Subject, batches: list[tuple[int, Batch]]) -> list[Finding]:
    inputs = torch.cat([batch.inputs.flatten(1).float() for _, batch in batches])
    evidence = {"mean": float(inputs.mean()), "std": float(inputs.std())}
    if not bool(inputs.isfinite().all()):
        return [Finding(CHECK, "finding", "some inputs are not finite", evidence, "Look at the augmentation and at normalize.")]
    if len(inputs) > 1 and bool((inputs == inputs[0]).all()):
        return [Finding(CHECK, "finding", "all pictures arrive alike", evidence, "Look at what decodes and cuts them.")]
    low, high = STD_RANGE
    if _sees_pictures(subject) and (abs(evidence["mean"]) > MEAN_RANGE or not low <= evidence["std"] <= high):
        told = f"inputs have mean {evidence['mean']:.3g} and standard deviation {evidence['std']:.3g}"
        return [
            Finding(
                CHECK, "note", f"{told}, far from 0 and 1", evidence, "Set the constants of normalize to those of the pictures."
            )
        ]
    return []
