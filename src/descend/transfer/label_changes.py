"""Does a transform change what pictures mean? Measured before any training, on features of plain and of transformed views.

A transform can *change the label* (a mirrored arrow to the left is one to the right) or merely make pictures *harder* (a crop).
Both lower the accuracy on transformed views, so that figure alone decides nothing. Two others do:

Exchange. A head is fitted on plain views and asked, by cross-validation, about plain and transformed views of pictures it has not
seen. Where a transform makes A of B and B of A, the transformed views are answered *the other way round*: knowing the class still
tells the answer, with the sign reversed. Harder views never do that: at worst the answer no longer depends on the class. So for
each pair of classes the table (class A, B) x (answer A, B) of transformed views is tested for a negative association by Fisher's
exact test, Bonferroni over all pairs. A view that is answered B whatever it shows gives no association and no alarm.

Harm. Heads are fitted on plain views with and without transformed views beside them, and judged on plain views of held-out
pictures, paired. Where labels change, the two halves of the training views contradict one another and plain pictures are answered
worse; where views are only harder, they are not. This finds what is no exchange too, such as one class that becomes another.

Source: Fisher 1935, The Logic of Inductive Inference, J. R. Stat. Soc. 98, 39-82; intervals of paired shares: ``descend.stats``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from descend import rng
from descend.errors import DataError
from descend.stats import Interval, McNemar, mcnemar, paired
from descend.transfer.feature_axes import Doubles, Floats, axes_of
from descend.transfer.folds import folds_of
from descend.transfer.logistic import Problem, search
from descend.transfer.side_by_side import side_by_side

Ints = NDArray[np.int64]

LIMIT = 1000  # pictures that are measured: seconds, and 50 for each of 20 classes
N_AXES = 512
"""Principal axes that are kept. On photographs the accuracy is the same to 0.2% with 512 of 1,280, at a third of the time."""
LEAST_PER_CLASS = 5  # independent pictures; a class with fewer is not measured
ALPHA = 0.01
"""Chance of a false exchange among all pairs. In 168 looks at mirrored photographs (2, 5 and 10 classes, 60 to 1,000 pictures) no
adjusted p value was below 1; on arrows they were 4e-13 to 0.15 with 60 pictures, below 1e-25 with 150."""
LEAST_FALL, LEAST_CLASS_FALL = 0.02, 0.05
"""Falls of the accuracy on plain views, overall and of one class, above which the whole interval must lie. Hands seen through
middle stages, which mirroring does not rename, fell by 0.014 at most; arrows by 0.04 and more."""


@dataclass(frozen=True)
class ClassAnswers:
    """Held-out answers of a head that saw plain views only, for the n measured pictures of one class.

    n_transformed: transformed views answered right. n_changed: pictures whose plain view was right and whose transformed view got
    another class. to: the commonest of the answers to transformed views that are wrong, n_to times; None where none is.
    fall: accuracy on plain views of heads fitted without transformed views minus with them, level shared among the classes.
    """

    label: int
    n: int
    n_transformed: int
    n_changed: int
    to: int | None
    n_to: int
    fall: Interval


@dataclass(frozen=True)
class Exchange:
    """Two classes whose transformed views are answered the other way round.

    n_first_to_second of n_first: transformed views of the first class answered as the second; the other way likewise.
    p_value: of Fisher's exact test, times the number of pairs.
    """

    first: int
    second: int
    n_first: int
    n_first_to_second: int
    n_second: int
    n_second_to_first: int
    p_value: float


@dataclass(frozen=True)
class LabelChanges:
    """What a transform does to answers, measured on n independent pictures. Accuracies are shares of them, in [0, 1].

    accuracy_plain, accuracy_transformed: held-out views, head fitted on plain views. accuracy_with: plain views, head fitted on
    transformed views too. fall: accuracy without minus with, on the same pictures. loss_rise: held-out loss with minus without,
    nats. classes: those of two or more of these pictures. exchanges: pairs found beyond chance, the surest first. strength: of
    the heads' penalty.
    """

    n: int
    accuracy_plain: float
    accuracy_transformed: float
    accuracy_with: float
    fall: McNemar
    loss_rise: Interval
    classes: tuple[ClassAnswers, ...]
    exchanges: tuple[Exchange, ...]
    strength: float

    @property
    def harmful(self) -> bool:
        """Whether the transform changes labels, or teaches heads to answer plain pictures worse."""
        return bool(self.exchanges) or self.fall.difference.low > LEAST_FALL or bool(self._fallen)

    @property
    def _fallen(self) -> list[ClassAnswers]:
        return sorted((c for c in self.classes if c.fall.low > LEAST_CLASS_FALL), key=lambda c: -c.fall.mean)

    def reason(self, names: Sequence[str], transformed: str = "transformed") -> str:
        """Return the verdict in words, with figures. names: of the classes. transformed: what was done, as a participle."""
        if self.exchanges:
            pair = self.exchanges[0]
            a, b = names[pair.first], names[pair.second]
            more = f"; {len(self.exchanges) - 1} more pairs of classes" if len(self.exchanges) > 1 else ""
            return (
                f"{transformed}, {pair.n_first_to_second} of {pair.n_first} pictures of {a!r} are answered {b!r}, "
                f"and {pair.n_second_to_first} of {pair.n_second} of {b!r} {a!r}{more}"
            )
        if self._fallen:
            worst = self._fallen[0]
            text = (
                f"with {transformed} views {worst.fall.mean:.0%} more plain pictures of {names[worst.label]!r} are answered wrong"
            )
            if worst.to is None:
                return text
            return f"{text}, and {worst.n_to} of {worst.n} {transformed} ones are answered {names[worst.to]!r}"
        return (
            f"plain pictures {self.accuracy_plain:.1%} right without {transformed} views, {self.accuracy_with:.1%} with them "
            f"({self.n:,} measured)"
        )


def measure_label_changes(
    plain: Floats, transformed: Floats, labels: Ints, *, units: Ints | None = None, limit: int = LIMIT,
    n_folds: int = 5, seed: int = 0,
) -> LabelChanges | None:  # fmt: skip
    """Measure what a transform does to answers; None where fewer than two classes have five independent pictures.

    plain, transformed: (n, D) float32, features of the plain view and of one transformed view of the same pictures. labels: (n,)
    int64. units: as in ``fit_logistic``; pictures that share a unit and a class count once. limit: pictures
    that are looked at, chosen by ``balanced_sample``.
    A head can only be asked about what it can see: the last features of a network that was trained with mirrored pictures hardly
    tell left from right (65% on arrows), those of its middle stages do (99%). Ask both.
    Raises DataError for arrays that do not fit together, and features that are not finite.
    """
    if plain.shape != transformed.shape or plain.ndim != 2 or len(plain) != len(labels):
        raise DataError("measure_label_changes", "features must be two arrays (n, D), with n labels",
                        got=f"{plain.shape}, {transformed.shape} and {labels.shape}")  # fmt: skip
    if not (np.isfinite(plain).all() and np.isfinite(transformed).all()):
        raise DataError("measure_label_changes", "features must be finite numbers", got="NaN or inf")
    units = np.arange(len(labels)) if units is None else units
    rows = balanced_sample(labels, units, limit=limit, seed=seed)
    measured, y = np.unique(labels[rows], return_inverse=True)  # classes that are not measured take no part
    if len(measured) < 2:
        return None
    views = np.stack([plain[rows], transformed[rows]], 1).astype(np.float32)
    strength, held_out, without, changed, joined = _held_out(views, y, len(measured), units[rows], n_folds, seed)
    one_of_each = np.unique(np.stack([units[rows], y], 1)[held_out], axis=0, return_index=True)[1]  # of a unit and class
    counted = held_out[one_of_each]
    y, without, changed, joined = y[counted], without[counted], changed[counted], joined[counted]
    right, right_joined = without.argmax(1) == y, joined.argmax(1) == y
    answers = changed.argmax(1)
    several = np.flatnonzero(np.bincount(y) > 1).tolist()
    classes = tuple(_class_answers(k, measured, y, right, answers, right_joined) for k in several)
    return LabelChanges(
        n=len(y), accuracy_plain=float(right.mean()), accuracy_transformed=float((answers == y).mean()),
        accuracy_with=float(right_joined.mean()), fall=mcnemar(right, right_joined),
        loss_rise=paired(_losses(joined, y).tolist(), _losses(without, y).tolist()),
        classes=classes, exchanges=_exchanges(measured, y, answers), strength=strength,
    )  # fmt: skip


def balanced_sample(labels: Ints, units: Ints | None = None, *, limit: int = LIMIT, seed: int = 0) -> Ints:
    """Return the positions, in order, of about ``limit`` pictures: as many of each class as there are, up to one number for all.

    labels, units: (n,). Classes with fewer than five units are left out. Other units go before a second picture of the same.
    """
    units = np.arange(len(labels)) if units is None else units
    order = np.argsort(rng.uniform(seed, "label_changes.sample", ids=np.arange(len(labels)))[:, 0], kind="stable")
    members = [_one_of_each_first(order[labels[order] == k], units) for k in np.unique(labels)]
    members = [rows for rows in members if len(np.unique(units[rows])) >= LEAST_PER_CLASS]
    counts = np.array([len(rows) for rows in members], np.int64)
    each = LEAST_PER_CLASS
    while each < counts.max(initial=0) and np.minimum(counts, each + 1).sum() <= limit:
        each += 1
    return np.sort(np.concatenate([rows[:each] for rows in members])) if members else np.empty(0, np.int64)


def _one_of_each_first(rows: Ints, units: Ints) -> Ints:
    """Return rows with the first of every unit before the second of any."""
    seen = Counter[int]()
    turns = list[int]()
    for unit in units[rows].tolist():
        turns.append(seen[unit])
        seen[unit] += 1
    return rows[np.argsort(turns, kind="stable")]


def _held_out(
    views: Floats, y: Ints, n_classes: int, units: Ints, n_folds: int, seed: int
) -> tuple[float, Ints, Doubles, Doubles, Doubles]:
    """Return the strength, the rows that a fold holds out, and held-out probabilities, (n, K), zeros where no fold does.

    Those are of plain and of transformed views by heads that were fitted on plain views, and of plain views by heads fitted on
    both. Of many classes one fold alone is fitted (``folds_of``).
    """
    (axes,) = axes_of([views], most=N_AXES)
    both = axes.coordinates
    plain, transformed = np.ascontiguousarray(both[:, :1]), np.ascontiguousarray(both[:, 1:])
    folds = list(folds_of(y, units, n_folds, n_classes, seed))
    trials, _ = search(replace(axes, coordinates=plain), y, n_classes, folds[:2])
    strength = min(trials, key=lambda trial: trial.loss).strength
    without, changed, joined = (np.zeros((len(y), n_classes)) for _ in range(3))

    def fit_and_judge(fitted: Ints, held_out: Ints) -> None:  # no two folds hold out the same rows
        head = Problem(plain[fitted], y[fitted], n_classes, axes.variances, shared=not axes.small)
        head.solve(strength, choosing=True)
        without[held_out], changed[held_out] = head.probabilities(plain[held_out]), head.probabilities(transformed[held_out])
        head_of_both = Problem(both[fitted], y[fitted], n_classes, axes.variances, shared=not axes.small)
        head_of_both.solution = head.solution.copy()  # a start near the answer
        head_of_both.solve(strength, choosing=True)
        joined[held_out] = head_of_both.probabilities(plain[held_out])

    with side_by_side(len(folds), beside=axes.small) as run:
        run(fit_and_judge, *zip(*folds, strict=True))
    return strength, np.sort(np.concatenate([held_out for _, held_out in folds])), without, changed, joined


def _losses(probabilities: Doubles, y: Ints) -> Doubles:
    return -np.log(np.maximum(probabilities[np.arange(len(y)), y], 1e-12))


def _class_answers(
    k: int, measured: Ints, y: Ints, right: NDArray[np.bool_], answers: Ints, right_joined: NDArray[np.bool_]
) -> ClassAnswers:
    own = y == k
    given = np.bincount(answers[own], minlength=len(measured))
    n_transformed = int(given[k])
    given[k] = 0
    to = int(given.argmax()) if given.any() else None
    return ClassAnswers(
        label=int(measured[k]), n=int(own.sum()), n_transformed=n_transformed,
        n_changed=int((right & (answers != k))[own].sum()), to=None if to is None else int(measured[to]),
        n_to=0 if to is None else int(given[to]),
        fall=mcnemar(right[own], right_joined[own], 1 - 0.05 / len(measured)).difference,
    )  # fmt: skip


def _exchanges(measured: Ints, y: Ints, answers: Ints) -> tuple[Exchange, ...]:
    """Return the pairs of classes whose transformed views are answered the other way round, beyond chance."""
    k = len(measured)
    counts = np.zeros((k, k), np.int64)
    np.add.at(counts, (y, answers), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # of a class that no fold holds out nothing is known
    own = np.diag(shares)
    candidates = np.argwhere(np.triu(shares + shares.T > own[:, None] + own[None], 1))  # more often the other than itself
    found: list[Exchange] = []
    for a, b in candidates.tolist():
        table = counts[np.ix_([a, b], [a, b])]
        p = float(scipy.stats.hypergeom.cdf(table[0, 0], table.sum(), table[0].sum(), table[:, 0].sum())) * k * (k - 1) / 2
        if p <= ALPHA:
            n_a, n_b = int(counts[a].sum()), int(counts[b].sum())
            found.append(Exchange(int(measured[a]), int(measured[b]), n_a, int(table[0, 1]), n_b, int(table[1, 0]), min(p, 1.0)))
    return tuple(sorted(found, key=lambda pair: pair.p_value))
