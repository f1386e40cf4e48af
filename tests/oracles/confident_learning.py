"""Confident learning, as the paper writes it, picture by picture. Northcutt, Jiang & Chuang 2021, JAIR 70, equations 1 and 2."""

from __future__ import annotations

from collections.abc import Sequence


def confident_joint(p: Sequence[Sequence[float]], given: Sequence[int]) -> list[list[list[int]]]:
    """Return, for each given label i and each class j, the pictures in the set X with label i that are confidently of class j."""
    classes = range(len(p[0]))
    thresholds = []
    for j in classes:
        own = [row[j] for row, label in zip(p, given, strict=True) if label == j]
        thresholds.append(sum(own) / len(own) if own else float("inf"))
    joint: list[list[list[int]]] = [[[] for _ in classes] for _ in classes]
    for x, (row, i) in enumerate(zip(p, given, strict=True)):
        above = [l for l in classes if row[l] >= thresholds[l]]
        if above:
            joint[i][max(above, key=lambda l: row[l])].append(x)
    return joint
