"""Multinomial logistic regression, fitted to its optimum: the head that needs no learning rate and no epochs.

    minimize over W, b:   mean_i w_i * -log softmax(W z_i + b)[y_i]  +  strength / 2 * |W|^2        z = (x - mean) / std

The problem is convex, so there is one answer, whatever the start. Five things make it quick. Where it pays, the columns are
rotated (the penalty does not see that): where they are fewer than the samples to their principal axes, elsewhere to as many
axes as there are samples (``feature_axes``). A diagonal matrix is a good preconditioner there: the curvature along axis j for
class k is about mean(p_k (1 - p_k)) * variance_j + strength. Strengths are tried from strong to weak, each from the solution of
the one before, and the last fit starts from the mean of the folds'. Folds of few pictures are solved as one problem.

Source: Cox 1958, JRSS B 20, 215-242; L-BFGS: Liu & Nocedal 1989, Mathematical Programming 45, 503-528, through SciPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from descend.errors import DataError
from descend.models import Backbone
from descend.transfer.feature_axes import Axes, Doubles, Floats, axes_of
from descend.transfer.folds import folds_of, n_cut, n_searched
from descend.transfer.logistic_problem import Problem, Stacked, go_on
from descend.transfer.side_by_side import side_by_side

STRONGEST, WEAKEST = 1.0, 1e-6
"""Strengths tried, in units of the mean loss for standardized columns: at 1 most weights are near 0, below 1e-6 none are held."""
USUAL_STRENGTH = 0.01
"""Where a choice may begin, and what is taken where there is none: without time, or where no folds can be cut."""
LEAST_GAIN = 1e-3  # nats of held-out loss: where a factor of ten in strength, or more columns, bring less, they bring nothing
TINY = 500_000
"""Rows times axes times classes of a fold, up to which all are solved as one: 15 folds of 245 pictures of ants and bees in 0.8 s
instead of 3, of 100 pictures of hands in 1 instead of 6, of 250 in 6 instead of 10; of 500 it would be 6 instead of 4."""
MANY, MOST_FOR_WIDE_SETS = 1000, 10_000  # pictures


def _unheard(trial: Trial) -> None:
    """Take no notice of a trial."""


@dataclass(frozen=True)
class Trial:
    """What one strength of the penalty reached on held-out folds. accuracy: in [0, 1], where every picture counts once.

    losses: of every picture held out, fold by fold, nats, times its class's weight; (m,) float64, where m counts a picture once
    per draw of the folds. n: pictures.
    """

    strength: float
    accuracy: float
    losses: Doubles = field(repr=False, compare=False)
    n: int

    @property
    def loss(self) -> float:
        """The mean held-out loss, nats."""
        return float(self.losses.mean())

    @property
    def se(self) -> float:
        """The standard error of the loss."""
        return float(self.losses.std() / np.sqrt(self.n))

    def clearly_worse(self, other: Trial) -> bool:
        """Return whether the loss is above that of ``other``, on the same folds, by more than the difference's standard error.

        A difference below ``LEAST_GAIN`` is none: heads that are certain of all pictures differ by how closely they were fitted.
        """
        more = self.losses - other.losses
        return bool(more.mean() > max(more.std() / np.sqrt(self.n), LEAST_GAIN))


def _best(trials: Sequence[Trial]) -> Trial | None:
    return min(trials, key=lambda trial: trial.loss, default=None)


@dataclass(frozen=True)
class LogisticFit:
    """A fitted head: logits = x @ weight.T + bias for raw features x. weight: (K, D) float32, bias: (K,) float32.

    trials: the strengths that were tried, in that order; empty where the strength was given.
    """

    weight: Floats
    bias: Floats
    strength: float
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial | None:
        """The trial of the chosen strength."""
        return _best(self.trials)


def fit_logistic(
    features: Floats, labels: NDArray[np.int64], n_classes: int, *, units: NDArray[np.int64] | None = None,
    strength: float | None = None, n_folds: int = 5, n_judged: int | None = None, seed: int = 0,
    class_weights: NDArray[np.float32] | None = None, check: Callable[[], None] = go_on,
) -> LogisticFit:  # fmt: skip
    """Fit the head to the features of n pictures.

    features: (n, V, D) float32; the V views of a picture share its label, count 1 / V each, and stay on one side of a fold. There
    the probabilities of the first ``n_judged`` are averaged: those that answers will look at, None for all. labels: (n,) int64
    below K = n_classes. units: (n,) what must stay on one side, such as copies or groups; None: every picture by itself.
    strength: of the penalty, or None to choose it by cross-validation (stratified, grouped), by the lowest held-out loss.
    class_weights: (K,), how many times a picture of each class counts, in the fit and where it is held out; None: once.
    check: called before every evaluation of the loss; what it raises ends the fit.
    Raises DataError for features that are not finite, a single class, or more than memory holds.
    """
    check()
    n_folds_searched = n_searched(len(labels), n_classes, n_cut(labels, units, n_folds, n_classes), strength)
    (axes,) = axes_of([features], n_classes=n_classes, n_folds=[n_folds_searched])
    return Searched.of(
        axes, labels, n_classes, units=units, strength=strength, n_folds=n_folds, n_judged=n_judged, seed=seed,
        class_weights=class_weights, check=check,
    ).fit()  # fmt: skip


@dataclass(frozen=True)
class Searched:
    """Features in their axes, and the strength that is best for them: all that is needed to decide whether to fit a head."""

    axes: Axes
    labels: NDArray[np.int64]
    n_classes: int
    strength: float
    trials: tuple[Trial, ...]
    check: Callable[[], None]
    start: Doubles | None = field(default=None, repr=False)  # (r + 1, K), near the solution
    class_weights: NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls, axes: Axes, labels: NDArray[np.int64], n_classes: int, *, units: NDArray[np.int64] | None = None,
        strength: float | None = None, around: float | None = None, n_folds: int = 5, n_repeats: int = 1,
        n_fitted: int | None = None, n_judged: int | None = None, seed: int = 0,
        class_weights: NDArray[np.float32] | None = None, check: Callable[[], None] = go_on,
        told: Callable[[Trial], None] = _unheard,
    ) -> Searched:  # fmt: skip
        """Search the strength; arguments as of ``fit_logistic``. Raises DataError for a single class.

        around: a strength that did well on similar features: the choice begins there, and needs fewer fits. n_repeats: how often
        the folds are drawn, for few pictures. n_fitted: the first of all folds that are fitted at most. told: called with each
        trial.
        """
        if len(np.unique(labels)) < 2:
            raise DataError("logistic", "needs pictures of two classes or more", got=np.unique(labels).tolist())
        check()
        trials: list[Trial] = []
        start: Doubles | None = None
        if strength is None:
            folds = [fold for r in range(n_repeats) for fold in folds_of(labels, units, n_folds, n_classes, seed, r)]
            trials, start = search(
                axes, labels, n_classes, folds[:n_fitted], around=around, n_judged=n_judged, class_weights=class_weights,
                check=check, told=told,
            )  # fmt: skip
            best = _best(trials)
            strength = around or USUAL_STRENGTH if best is None else best.strength
        return cls(axes, labels, n_classes, strength, tuple(trials), check, start, class_weights)

    @property
    def loss(self) -> float:
        """The lowest held-out loss, nats; infinite where no strength was tried."""
        return np.inf if self.best is None else self.best.loss

    @property
    def best(self) -> Trial | None:
        """The trial of the chosen strength."""
        return _best(self.trials)

    def fit(self) -> LogisticFit:
        """Fit the head to all pictures."""
        problem = Problem(
            self.axes.coordinates, self.labels, self.n_classes, self.axes.variances, self.check, shared=True,
            class_weights=self.class_weights,
        )  # fmt: skip
        if self.start is not None:
            problem.solution = self.start
        with side_by_side(1, beside=len(problem.parts) == 1) as run:
            (solution,) = run(problem.solve, [self.strength])
        return LogisticFit(*self.axes.to_columns(solution), self.strength, self.trials)


@dataclass(frozen=True)
class StageFit:
    """The head on the features that did best in cross-validation. stages: their name.

    trials: name of features -> the strengths that were tried on them.
    """

    stages: str
    fit: LogisticFit
    trials: dict[str, tuple[Trial, ...]]


def fit_stages(
    features: Floats, labels: NDArray[np.int64], n_classes: int, columns: Mapping[str, int], *,
    units: NDArray[np.int64] | None = None, strength: float | None = None, n_folds: int = 5, n_judged: int | None = None,
    seed: int = 0,
) -> StageFit:  # fmt: skip
    """Fit the head on several sets of features, each the last columns of all; return the best in cross-validation.

    features: (n, V, D) float32. columns: name -> how many of the last columns, from few to many, such as {"last": 1280,
    "late": 2024}. Where no strength is tried, or further columns lower the loss by less than ``LEAST_GAIN``, the first wins. The
    rest as in ``fit_logistic``.
    """
    searched: dict[str, Searched] = {}
    sets = [features[:, :, -n_columns:] for n_columns in columns.values()]
    n_folds_searched = n_searched(len(labels), n_classes, n_cut(labels, units, n_folds, n_classes), strength)
    all_axes = axes_of(sets, n_classes=n_classes, n_folds=[n_folds_searched] * len(sets))
    for name, axes in zip(columns, all_axes, strict=True):
        searched[name] = Searched.of(
            axes, labels, n_classes, units=units, strength=strength, n_folds=n_folds, n_judged=n_judged, seed=seed
        )
    best, *others = searched
    for name in others:
        if searched[name].loss < searched[best].loss - LEAST_GAIN:
            best = name
    return StageFit(best, searched[best].fit(), {name: item.trials for name, item in searched.items()})


def offered(backbone: Backbone, n: int) -> dict[str, tuple[str, ...]]:
    """Return the sets of features, name -> taps, that are worth trying for n pictures.

    Covariances and quarters of many pictures take minutes to fit; and with a thousand pictures the penalty finds by itself which
    columns do not help: late stages alone are tried there because they are quick, then all that there is.
    """
    sets = backbone.feature_sets
    names = [name for name in sets if n <= MOST_FOR_WIDE_SETS or name in ("last", "late")]
    if n >= MANY:
        names = [*names[1:2], names[-1]]
    return {name: sets[name] for name in names}


def are_tiny(n_rows: int, n_axes: int, n_classes: int) -> bool:
    """Return whether fits to folds of so many rows take longer to be called than to be computed: they are solved as one."""
    return n_rows * n_axes * n_classes <= TINY


def _judged(
    problem: Problem, coordinates: Floats, labels: NDArray[np.int64]
) -> tuple[Doubles, NDArray[np.bool_]]:  # fmt: skip
    """Return the losses of pictures that a solved fold holds out, nats times class weight, and which are answered right."""
    p = problem.probabilities(coordinates)
    losses = -np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-12))
    return losses * problem.class_weights[labels].numpy(), p.argmax(1) == labels


def search(
    axes: Axes, labels: NDArray[np.int64], n_classes: int, folds: list[tuple[NDArray[np.int64], NDArray[np.int64]]], *,
    around: float | None = None, n_judged: int | None = None, class_weights: NDArray[np.float32] | None = None,
    check: Callable[[], None] = go_on, told: Callable[[Trial], None] = _unheard,
) -> tuple[list[Trial], Doubles | None]:  # fmt: skip
    """Try strengths by factors of ten, from strong to weak, until the held-out loss rises; none without folds.

    A strong penalty is solved in few steps, and its solution is a good start for a weaker one. around: where to begin, and to go
    the way that the loss falls; None begins with the strongest, and tries the two half-way neighbors of the best at the end.
    n_judged, class_weights, check: as in ``fit_logistic``. told: called with each trial. Returns the trials, and the folds'
    mean solution (r + 1, K) at the best: a fit to all 1,234 pictures of hands took 30 evaluations from there instead of 125.
    """
    if not folds:
        return [], None
    problem_of = partial(
        Problem, n_classes=n_classes, variances=axes.variances, check=check, shared=not axes.small, class_weights=class_weights
    )
    problems = [problem_of(axes.coordinates[fitted], labels[fitted]) for fitted, _ in folds]
    views, held_out = axes.coordinates[:, :n_judged], [rows for _, rows in folds]
    n_held_out = len(np.unique(np.concatenate(held_out)))  # repeats hold the same ones out again
    trials: list[Trial] = []
    start: Doubles | None = None

    longest = max(len(each.y) for each in problems)
    stacked = [Stacked(problems)] if are_tiny(longest, axes.coordinates.shape[2], n_classes) else []

    def tried(strength: float) -> None:
        nonlocal start
        run(lambda problem: problem.solve(strength, choosing=True), stacked or problems)
        judged = run(lambda problem, rows: _judged(problem, views[rows], labels[rows]), problems, held_out)
        losses, right = map(np.concatenate, zip(*judged, strict=True))
        trials.append(Trial(strength, float(right.mean()), losses, n_held_out))
        if _best(trials) is trials[-1]:
            start = np.sum([problem.solution / len(problems) for problem in problems], 0)
        told(trials[-1])

    def walked(strength: float, factor: float) -> None:
        while WEAKEST <= strength <= STRONGEST:
            lowest = min((trial.loss for trial in trials), default=np.inf)
            tried(strength)
            if trials[-1].loss > lowest - LEAST_GAIN:
                break
            strength *= factor

    with side_by_side(len(folds), beside=axes.small) as run:
        if around is None:
            walked(STRONGEST, 1 / 10)
            best = min(trials, key=lambda trial: trial.loss).strength
            for factor in (10**0.5, 10**-0.5):
                tried(best * factor)
        else:
            for factor in (10, 1):
                tried(around * factor)
            stronger_is_better = trials[0].loss < trials[1].loss
            walked(*((around * 100, 10) if stronger_is_better else (around / 10, 1 / 10)))
    return trials, start
