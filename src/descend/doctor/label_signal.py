"""Whether labels have to do with pictures at all: the nearest other picture must have the same label more often than by chance.

This is what shows labels that are shuffled for good, in a table with a slipped column for example: a network learns those by
heart, and every other check is content.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch.nn.functional import adaptive_avg_pool2d

from descend.doctor.subject import Subject
from descend.findings import Finding

CHECK = "labels"
PIXELS = 16  # side to which pictures are averaged where no pretrained network looks at them
CHANCE = 0.01  # how often labels without any relation may pass for related


def label_signal(subject: Subject) -> list[Finding]:
    """Ask each picture of the handful for its nearest neighbor, copies and pictures of its own group aside.

    Neighbors are sought among features of the pretrained backbone, or else among pixels. No relation is a note: a handful of
    hard pictures shows none either.
    """
    dataset, rows = subject.builder.dataset, subject.builder.train_rows
    pretrained = subject.classifier.backbone.pretrained
    features = _features(subject) if pretrained else _pixels(subject)
    right, chance, n = agreement(features, dataset.labels[rows], dataset.evidence(rows))
    if chance == 0:
        return [Finding(CHECK, "ok", "no two pictures that could be compared share a label: nothing to see", {"n": n})]
    p = binomtest(right, n, chance, alternative="greater").pvalue
    seen = "features" if pretrained else "pixels"
    evidence = {"right": right, "n": n, "chance": chance, "p": float(p), "seen": seen}
    told = f"the nearest neighbor by {seen} has the same label for {right} of {n} pictures; chance gives {chance * n:.0f}"
    if p < CHANCE:
        return [Finding(CHECK, "ok", told, evidence)]
    fix = "Are labels shuffled? Look at the contact sheet; hard pictures need more than a handful to tell."
    return [Finding(CHECK, "note", f"{told}: labels and pictures show no relation", evidence, fix)]


def agreement(features: NDArray[np.float32], labels: NDArray[np.int64], units: NDArray[np.int64]) -> tuple[int, float, int]:
    """Count how many samples have their label from their nearest neighbor of another unit.

    features: (n, D). labels, units: (n,). Returns (how many, the share that chance would give, of how many).
    """
    scaled = features.astype(np.float64) - features.mean(0)
    scaled /= np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    near = scaled @ scaled.T
    other = units[:, None] != units[None, :]
    asked = other.any(1)
    nearest = np.where(other, near, -np.inf).argmax(1)
    same = labels[nearest] == labels
    alike = (labels[:, None] == labels[None, :]) & other
    chance = float((alike.sum(1) / np.maximum(other.sum(1), 1))[asked].mean()) if asked.any() else 0.0
    return int(same[asked].sum()), chance, int(asked.sum())


def _features(subject: Subject) -> NDArray[np.float32]:
    builder = subject.builder
    engine = builder.backbone_engine()
    return builder.extract(engine, builder.train_rows)[:, 0].reshape(len(builder.train_rows), -1)


def _pixels(subject: Subject) -> NDArray[np.float32]:
    builder = subject.builder
    views = torch.cat([part.cpu() for part in builder.image_inputs(builder.train_rows)])
    side = min(PIXELS, views.shape[-1])
    return adaptive_avg_pool2d(views, side).flatten(1).numpy()
