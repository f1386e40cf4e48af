"""How many pictures each class has, and how unequal the classes are."""

from __future__ import annotations

import numpy as np

from descend.audit.material import Material
from descend.data.manifest import SPLITS
from descend.findings import Finding, Severity, counted, named

CHECK = "classes"
SKEWED, VERY_SKEWED = 3, 10  # pictures of the commonest class for each of the rarest
FEW = 10  # pictures: a class with fewer can neither be learned nor judged


def classes(material: Material) -> list[Finding]:
    """Count the pictures of each class in each split."""
    dataset = material.dataset
    counts = dataset.counts()
    n = counts.sum(axis=1)
    order = np.argsort(-n, kind="stable")
    rows = tuple(
        {"class": dataset.classes[k], **dict(zip(SPLITS, counts[k].tolist(), strict=True)), "all": int(n[k])} for k in order
    )
    ratio = float(n.max() / max(n.min(), 1))
    evidence = {"n_classes": len(n), "largest": int(n.max()), "smallest": int(n.min()), "ratio": ratio}
    severity: Severity = "finding" if ratio >= VERY_SKEWED else "note" if ratio >= SKEWED else "ok"
    what, fix = f"{len(n):,} classes of {n.min():,} to {n.max():,} pictures", ""
    if severity != "ok":
        what += f": the commonest has {ratio:.0f} times as many as the rarest"
        fix = 'Judge by --metric balanced_accuracy; --regularize "class_weights()" makes rare classes count.'
    return [Finding(CHECK, severity, what, evidence, fix, rows), *_too_small(material, n)]


def _too_small(material: Material, n: np.ndarray) -> list[Finding]:
    small = [f"{material.dataset.classes[k]} ({n[k]})" for k in np.flatnonzero(n < FEW)]
    findings = []
    if small:
        what = f"{counted(len(small), 'class has', 'classes have')} fewer than {FEW} pictures: {named(small)}"
        findings.append(Finding(CHECK, "finding", what, {"n": len(small)}, "Add pictures, or join classes."))
    findings += [
        Finding(CHECK, "finding", problem.message, {"n": problem.n}, "Add pictures, or give the split yourself.",
                tuple({"class": example} for example in problem.examples))
        for problem in material.problems("few")
        if not small
    ]  # fmt: skip
    return findings
