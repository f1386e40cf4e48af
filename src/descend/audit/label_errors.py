"""Pictures whose label is likely wrong: a classifier that never saw them is confident of another class.

Confident learning: a picture with label i counts as class j where its out-of-fold probability of j is at least the mean
probability of j among the pictures labeled j, and the highest of those that are. Where j is not i, the label is likely wrong.
Thresholds of their own make it work for heads that are not sure of anything, as those are that were fitted to wrong labels too.
Source: Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 1373-1411,
equations 1 and 2, the off-diagonals of the confident joint. Differs from the paper: the pictures that look most like one must
agree (``OUTVOTED``). On 2,062 hands of ten classes, as they are, 8 are named instead of 33; of 41 swapped ones, 26 are found
instead of 31. On 398 insects with 7 swapped, 5 of them are named either way, beside 1 other instead of 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from descend.audit.material import Material
from descend.audit.outliers import nearest
from descend.findings import Finding, counted

CHECK = "labels"
NEIGHBOURS, OUTVOTED = 10, 3  # of so many pictures, the other class must have more than three times the votes of the label


def label_errors(material: Material) -> list[Finding]:
    """Name the pictures whose label is likely wrong, the surest first; nothing where no network has looked at them."""
    deep = material.deep
    if deep is None:
        return []
    labels, p = material.dataset.labels[deep.rows], deep.probabilities
    other = confident_class(p, labels)
    accuracy = float((p.argmax(axis=1) == labels).mean())
    doubtful = (other >= 0) & (other != labels)
    if material.confirmed:
        doubtful &= [material.dataset.name_of(int(row)) not in material.confirmed for row in deep.rows]
    own_votes, other_votes = votes(deep.features, material.family[deep.rows], labels, other)
    sure = np.flatnonzero(doubtful & (OUTVOTED * own_votes < other_votes))
    sure = sure[np.argsort(p[sure, labels[sure]] - p[sure, other[sure]], kind="stable")]
    evidence = {
        "n": len(sure),
        "n_doubtful": int(doubtful.sum()),
        "n_looked_at": len(labels),
        "accuracy": accuracy,
        "network": deep.network,
    }
    judge = f"a head on {deep.network} that never saw a picture gives {accuracy:.1%} of them their label"
    if not len(sure):
        return [Finding(CHECK, "ok", f"no label is likely wrong; {judge}", evidence)]
    what = f"{counted(len(sure), 'label is', 'labels are')} likely wrong of {len(labels):,}; {judge}"
    table = tuple(
        material.told(int(deep.rows[at]), rather=material.dataset.classes[other[at]], label_probability=float(p[at, labels[at]]))
        for at in sure
    )
    return [Finding(CHECK, "finding", what, evidence, "Look at each: hard pictures of the right class are among them.", table)]


def confident_class(p: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class that each sample is confidently counted as, (n,) int64; -1 where it is none.

    p: (n, K), out of fold. labels: (n,). The threshold of class j is the mean of p[:, j] over samples labeled j (equation 2).
    """
    n_classes = p.shape[1]
    counts = np.bincount(labels, minlength=n_classes)
    sums = np.bincount(labels, weights=p[np.arange(len(labels)), labels].astype(np.float64), minlength=n_classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(p >= thresholds, p, -np.inf)
    best = confident.argmax(axis=1)
    return np.where(np.isfinite(confident.max(axis=1)), best, -1).astype(np.int64)


def votes(
    features: NDArray[np.float32], units: NDArray[np.int64], labels: NDArray[np.int64], other: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many of each sample's nearest neighbors, copies aside, have its label, and how many the other class.

    Features are centered first. features: (n, D). units, labels, other: (n,). Returns (n,) int64, twice.
    """
    around = labels[nearest(features - features.mean(axis=0), units, NEIGHBOURS)[0]]
    return (around == labels[:, None]).sum(axis=1), (around == other[:, None]).sum(axis=1)
