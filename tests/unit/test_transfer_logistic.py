"""The fitted head against scikit-learn's solvers, and its cross-validation against one written out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from descend.errors import DataError
from descend.transfer import Searched, axes_of, feature_axes, fit_logistic, logistic, logistic_problem
from descend.transfer.folds import folds_of, n_cut, n_searched
from descend.transfer.logistic import USUAL_STRENGTH, Trial, fit_stages, offered
from descend.transfer.logistic_problem import Problem, Stacked


def blobs(n: int, d: int, k: int, *, views: int = 1, seed: int = 0, spread: float = 2.0) -> tuple[NDArray, NDArray]:
    """Return features (n, V, d) with columns of very different scales, and labels that overlap."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % k
    centers = draw.normal(size=(k, d)) * spread
    x = (draw.normal(size=(n, views, d)) * 3 + centers[labels][:, None]) * draw.uniform(0.01, 100, d) + draw.normal(size=d) * 50
    return x.astype(np.float32), labels


def reference(x: NDArray, labels: NDArray, strength: float) -> NDArray:
    """Return scikit-learn's probabilities for standardized columns, by its Newton solver run to convergence."""
    rows = x.reshape(-1, x.shape[2]).astype(np.float64)
    scale = rows.std(0)
    z = (rows - rows.mean(0)) / np.where(scale == 0, 1, scale)
    y = np.repeat(labels, x.shape[1])
    model = LogisticRegression(C=1 / (strength * len(z)), solver="newton-cg", tol=1e-10, max_iter=5000).fit(z, y)
    scores = z @ model.coef_.T + model.intercept_
    if scores.shape[1] == 1:  # two classes: scikit-learn holds one column w; two columns +-w/2 cost half as much penalty
        pytest.fail("use three classes or more with this reference")
    p = np.exp(scores - scores.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def probabilities(weight: NDArray, bias: NDArray, x: NDArray) -> NDArray:
    scores = x.reshape(-1, x.shape[2]).astype(np.float64) @ weight.T.astype(np.float64) + bias
    p = np.exp(scores - scores.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("n", "d", "k", "views"), [(120, 10, 3, 1), (60, 200, 4, 1), (90, 30, 5, 3)], ids=["tall", "wide", "views"]
)
@pytest.mark.parametrize("strength", [1.0, 0.01])
@pytest.mark.parametrize(("rotated", "few"), [(True, 500), (True, 0), (False, 0)])
def test_the_solution_is_the_optimum(
    monkeypatch: pytest.MonkeyPatch, n: int, d: int, k: int, views: int, strength: float, rotated: bool, few: int
) -> None:  # fmt: skip
    monkeypatch.setattr(feature_axes, "FEW_ROWS", few)
    for cost in ("ROTATION", "TRIANGLE"):
        monkeypatch.setattr(feature_axes, cost, 0.0 if rotated else math.inf)
    x, labels = blobs(n, d, k, views=views)
    fit = fit_logistic(x, labels, k, strength=strength)
    assert fit.trials == ()
    assert fit.best is None
    ours = probabilities(fit.weight, fit.bias, x)
    assert np.abs(ours - reference(x, labels, strength)).max() < 5e-3


def test_two_classes_share_the_penalty_between_two_columns() -> None:
    """Two columns w and -w hold 2 |w|^2 for a margin of 2 w: one column v = 2 w of scikit-learn, at half the strength."""
    x, labels = blobs(80, 6, 2)
    fit = fit_logistic(x, labels, 2, strength=0.02)
    rows = x[:, 0].astype(np.float64)
    z = (rows - rows.mean(0)) / rows.std(0)
    model = LogisticRegression(C=1 / (0.01 * len(z)), solver="newton-cg", tol=1e-10, max_iter=5000).fit(z, labels)
    assert np.abs(probabilities(fit.weight, fit.bias, x) - model.predict_proba(z)).max() < 5e-3


@pytest.mark.parametrize("rotated", [True, False])
def test_a_constant_column_has_no_weight(monkeypatch: pytest.MonkeyPatch, rotated: bool) -> None:
    for cost in ("ROTATION", "TRIANGLE"):
        monkeypatch.setattr(feature_axes, cost, 0.0 if rotated else math.inf)
    x, labels = blobs(60, 5, 3)
    x[:, :, 2] = 7.0
    fit = fit_logistic(x, labels, 3, strength=0.1)
    assert np.abs(fit.weight[:, 2]).max() < 1e-12
    assert np.isfinite(fit.weight).all()


def test_columns_answer_as_axes_do_where_pictures_are_fewer_and_some_are_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_axes, "FEW_ROWS", 0)  # as of many
    x, _ = blobs(60, 200, 3)
    x[30:] = x[:30]
    x[:, :, 7] = 3.0
    axes = feature_axes.Axes.of(x)
    assert axes.coordinates.shape == (60, 1, 60)
    z = ((x[:, 0] - axes.mean) / axes.scale).astype(np.float64)
    np.testing.assert_allclose(axes.coordinates[:, 0] @ axes.coordinates[:, 0].T, z @ z.T, atol=1e-2)
    solution = np.random.default_rng(0).standard_normal((61, 3))
    weight, bias = axes.to_columns(solution)
    answers = axes.coordinates[:, 0] @ solution[:-1] + solution[-1]
    np.testing.assert_allclose(x[:, 0] @ weight.T + bias, answers, atol=1e-2)
    penalty = np.linalg.norm(solution[:29])  # 30 centered rows span 29 directions
    assert np.linalg.norm(weight * axes.scale) == pytest.approx(penalty, rel=1e-3)


def test_the_held_out_loss_is_that_of_models_that_never_saw_the_fold() -> None:
    x, labels = blobs(90, 12, 3, spread=0.7)
    fit = fit_logistic(x, labels, 3, n_folds=3, seed=4)
    trial = min(fit.trials, key=lambda one: abs(np.log10(one.strength)))
    rows = x[:, 0].astype(np.float64)
    z = (rows - rows.mean(0)) / rows.std(0)
    losses = np.zeros(90)
    for fitted, held_out in folds_of(labels, None, 3, 3, 4):
        assert not set(fitted) & set(held_out)
        model = LogisticRegression(C=1 / (trial.strength * len(fitted)), solver="newton-cg", tol=1e-10, max_iter=5000)
        p = model.fit(z[fitted], labels[fitted]).predict_proba(z[held_out])
        losses[held_out] = -np.log(p[np.arange(len(held_out)), labels[held_out]])
    assert trial.loss == pytest.approx(losses.mean(), abs=2e-3)
    assert trial.se == pytest.approx(losses.std() / 90**0.5, abs=2e-3)
    assert fit.strength == min(fit.trials, key=lambda one: one.loss).strength


def test_views_beyond_those_that_answers_look_at_are_fitted_but_not_judged() -> None:
    x, labels = blobs(90, 12, 3, views=3, spread=0.7)
    fit = fit_logistic(x, labels, 3, n_folds=3, n_judged=1, seed=4)
    trial = min(fit.trials, key=lambda one: abs(np.log10(one.strength)))
    x64 = x.astype(np.float64)
    z = (x64 - x64.mean((0, 1))) / x64.std((0, 1))
    losses = np.zeros(90)
    for fitted, held_out in folds_of(labels, None, 3, 3, 4):
        model = LogisticRegression(C=1 / (trial.strength * 3 * len(fitted)), solver="newton-cg", tol=1e-8, max_iter=5000)
        p = model.fit(z[fitted].reshape(-1, 12), labels[fitted].repeat(3)).predict_proba(z[held_out, 0])
        losses[held_out] = -np.log(p[np.arange(len(held_out)), labels[held_out]])
    assert trial.loss == pytest.approx(losses.mean(), abs=2e-3)


def test_noise_asks_for_a_strong_penalty_and_clean_classes_for_a_weak_one() -> None:
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(120, 1, 40)).astype(np.float32)
    labels = np.arange(120) % 3
    clean, _ = blobs(120, 40, 3, spread=4.0)
    assert fit_logistic(noise, labels, 3).strength > 10 * fit_logistic(clean, labels, 3).strength


def test_copies_stay_on_one_side() -> None:
    labels = np.arange(60) % 2
    units = np.arange(60) // 6
    for fitted, held_out in folds_of(labels, units, 3, 2, 0):
        assert not set(units[fitted]) & set(units[held_out])


@pytest.mark.parametrize(("n_units", "n"), [(1, 0), (2, 2), (3, 3), (4, 4), (7, 5)])
def test_fewer_units_than_folds_lower_their_number_and_one_alone_leaves_none(n_units: int, n: int) -> None:
    labels = np.arange(80) % 2
    units = np.arange(80) // 2 % n_units
    folds = list(folds_of(labels, units, 5, 2, 0))
    assert len(folds) == n == n_cut(labels, units, 5, 2) == n_searched(80, 2, n_cut(labels, units, 5, 2))
    assert all(not set(units[fitted]) & set(units[held_out]) for fitted, held_out in folds)
    features = (np.random.default_rng(0).normal(size=(80, 1, 4)) + labels[:, None, None]).astype(np.float32)
    fits = [fit_logistic(features, labels, 2, units=units), fit_stages(features, labels, 2, {"all": 4}, units=units).fit]
    for fit in fits:
        assert bool(fit.trials) == (n > 0)
        assert n > 0 or fit.strength == USUAL_STRENGTH


def test_rare_classes_lower_the_number_of_folds() -> None:
    labels = np.array([0] * 30 + [1] * 3)
    folds = list(folds_of(labels, None, 5, 2, 0))
    assert len(folds) == 3
    assert all((labels[held_out] == 1).sum() == 1 for _, held_out in folds)


@pytest.mark.parametrize(
    ("n", "n_classes", "n_folds"), [(2549, 10, 3), (2550, 10, 2), (5099, 10, 2), (5100, 10, 1), (4000, 100, 2), (4001, 100, 1)]
)
def test_of_many_pictures_fewer_folds_are_held_out(n: int, n_classes: int, n_folds: int) -> None:
    folds = list(folds_of(np.arange(n) % n_classes, None, 3, n_classes, 0))
    assert len(folds) == n_folds
    assert all(abs(len(held_out) - n / 3) <= n_classes for _, held_out in folds)


def test_the_first_folds_alone_may_be_fitted() -> None:
    draw, labels = np.random.default_rng(0), np.arange(60) % 2
    features = (draw.normal(size=(60, 1, 4)) + labels[:, None, None]).astype(np.float32)
    held_out = [rows for _, rows in folds_of(labels, None, 3, 2, 0)]
    (axes,) = axes_of([features])
    for n_fitted, n in ((None, 60), (2, len(held_out[0]) + len(held_out[1]))):
        searched = Searched.of(axes, labels, 2, n_folds=3, n_fitted=n_fitted)
        assert [trial.n for trial in searched.trials] == [n] * len(searched.trials)
        assert searched.trials


@pytest.mark.parametrize(
    ("sets", "few", "many", "very_many"),
    [
        (["last"], ["last"], ["last"], ["last"]),
        (["last", "late"], ["last", "late"], ["late"], ["late"]),
        (["last", "late", "covariances"], ["last", "late", "covariances"], ["late", "covariances"], ["late"]),
        (
            ["last", "late", "covariances", "quarters"],
            ["last", "late", "covariances", "quarters"],
            ["late", "quarters"],
            ["late"],
        ),
    ],
)
def test_of_many_pictures_late_stages_and_all_that_there_is_are_offered(
    sets: list[str], few: list[str], many: list[str], very_many: list[str]
) -> None:
    backbone: Any = SimpleNamespace(feature_sets={name: (name,) for name in sets})
    for n, expected in ((999, few), (1000, many), (10_000, many), (10_001, very_many)):
        assert offered(backbone, n) == {name: (name,) for name in expected}


def test_one_picture_per_class_is_fitted_without_folds() -> None:
    x, _ = blobs(12, 6, 3)
    fit = fit_logistic(x, np.arange(12), 12)
    assert fit.trials == ()
    assert ((x[:, 0] @ fit.weight.T + fit.bias).argmax(1) == np.arange(12)).all()


def test_the_same_seed_gives_the_same_bytes() -> None:
    x, labels = blobs(60, 20, 3)
    one, two = (fit_logistic(x, labels, 3, seed=1) for _ in range(2))
    assert one.weight.tobytes() == two.weight.tobytes()
    assert one.trials == two.trials


def test_a_fit_can_be_ended_in_its_middle() -> None:
    x, labels = blobs(60, 20, 3)
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls >= 7:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        fit_logistic(x, labels, 3, check=check)
    assert 7 <= calls < 7 + 5  # each of the five folds that are fitted beside each other asks once more at most


def test_bad_features_are_explained() -> None:
    x, labels = blobs(20, 4, 2)
    with pytest.raises(DataError, match="two classes"):
        fit_logistic(x, np.zeros(20, np.int64), 2)
    x[3, 0, 1] = np.nan
    with pytest.raises(DataError, match="finite"):
        fit_logistic(x, labels, 2)


def test_more_features_than_memory_holds_are_refused_with_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = blobs(60, 20, 3)
    counted = 8 * 60 * 20 + 16 * 20**2
    monkeypatch.setattr(feature_axes, "available_bytes", lambda: counted)
    fit_logistic(x, labels, 3)
    monkeypatch.setattr(feature_axes, "available_bytes", lambda: counted - 1)
    with pytest.raises(DataError, match=r"fit into memory: 60 views of 20 numbers need 0\.0 MB or more.*--feature-stages last"):
        fit_logistic(x, labels, 3)


def test_features_are_standardized_alike_however_many_stand_together(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = blobs(60, 20, 3)
    whole = feature_axes.Axes.of(x).coordinates.tobytes()
    monkeypatch.setattr(feature_axes, "ROWS_AT_ONCE", 7)
    assert feature_axes.Axes.of(x).coordinates.tobytes() == whole


def test_sets_are_rotated_where_it_saves_more_than_it_takes() -> None:
    """Rows, columns, classes, folds -> what took less (`benchmarks/head_axes.py`, and more classes and hands measured as there).

    Four of its rows are missed by 0.8 s or less: 300 x 2,024, 1,444 x 1,280, 3,000 and 6,500 x 2,024.
    """
    quicker = {
        (1444, 2024, 10, 3): True, (1444, 3720, 10, 3): True, (3000, 2024, 10, 3): True, (2000, 2024, 80, 3): True,
        (80, 3720, 10, 5): True, (3000, 5316, 10, 3): True, (6500, 2024, 10, 1): False, (6500, 3720, 10, 1): False,
        (6500, 5316, 10, 3): False, (1444, 2024, 10, 0): True, (3000, 2024, 10, 0): False,
    }  # fmt: skip
    assert {key: feature_axes.axes_cost(*key).rotated for key in quicker} == quicker


def test_axes_of_several_sets_are_those_of_each_alone() -> None:
    x, labels = blobs(60, 20, 3)
    whole, last = axes_of([x, x[:, :, -5:]])
    assert np.array_equal(whole.coordinates, axes_of([x])[0].coordinates)
    assert last.coordinates.shape == (60, 1, 5)
    heard: list[float] = []
    searched = Searched.of(last, labels, 3, told=lambda trial: heard.append(trial.strength))
    assert heard == [trial.strength for trial in searched.trials]
    again = fit_logistic(x[:, :, -5:], labels, 3)
    assert np.array_equal(searched.fit().weight, again.weight)


@pytest.mark.parametrize("around", [1e-3, 0.1, 10.0])
def test_a_choice_that_begins_near_goes_the_way_that_the_loss_falls(around: float) -> None:
    x, labels = blobs(60, 20, 3)
    (axes,) = axes_of([x])
    everything, near = Searched.of(axes, labels, 3), Searched.of(axes, labels, 3, around=around)
    assert everything.best is not None
    assert near.best is not None
    assert near.best.loss < everything.best.loss + 0.02
    tried = [trial.strength for trial in near.trials]
    assert tried[:2] == [10 * around, around]
    losses = [trial.loss for trial in near.trials]
    assert all((strength > around) == (losses[0] < losses[1]) for strength in tried[2:])


@pytest.mark.parametrize(
    ("d", "spread", "strengths"),
    [(60, 0.2, (1.0, 0.1)), (60, 0.2, (1.0, 0.1, 1e-2, 1e-3)), (300, 0.4, (1.0, 0.1, 1e-2, 1e-3, 1e-4))],
    ids=["strong", "weak", "separable"],
)
def test_a_fit_that_helps_to_choose_is_as_close_as_that_needs(d: int, spread: float, strengths: tuple[float, ...]) -> None:
    x, labels = blobs(600, d, 6, spread=spread)
    fitted, held_out = np.arange(400), np.arange(400, 600)
    (axes,) = axes_of([x])
    losses, counts = list[float](), list[int]()
    for choosing in (False, True):
        n_evaluations = 0

        def count() -> None:
            nonlocal n_evaluations
            n_evaluations += 1

        problem = Problem(axes.coordinates[fitted], labels[fitted], 6, axes.variances, count)
        for strength in strengths:
            problem.solve(strength, choosing=choosing)
        p = problem.probabilities(axes.coordinates[held_out])
        losses.append(float(-np.log(np.maximum(p[np.arange(200), labels[held_out]], 1e-12)).mean()))
        counts.append(n_evaluations)
    assert abs(losses[1] - losses[0]) < 2e-3
    assert counts[1] < counts[0]


@pytest.mark.parametrize("class_weights", [None, np.array([0.5, 2.0, 1.0], np.float32)])
def test_small_problems_that_are_solved_as_one_have_the_solutions_that_each_has_alone(
    class_weights: NDArray[np.float32] | None,
) -> None:
    """Also of different lengths; each strength begins where the one before ended, and threads change no bit."""
    x, labels = blobs(90, 30, 3, spread=1.5)
    (axes,) = axes_of([x])
    rows = [np.arange(90), np.arange(20, 90), np.r_[:40, 55:90]]

    def problems() -> list[Problem]:
        coordinates = axes.coordinates
        return [Problem(coordinates[some], labels[some], 3, axes.variances, class_weights=class_weights) for some in rows]

    alone, together, before = problems(), problems(), torch.get_num_threads()
    try:
        found = []
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            found.append(Stacked(problems()).solve(0.1))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0], found[1])
    stacked = Stacked(together)
    for strength in (1.0, 0.1, 0.01):
        stacked.solve(strength)
        for each, other in zip(alone, together, strict=True):
            expected = each.solve(strength)
            np.testing.assert_allclose(other.solution, expected, atol=3e-3 * np.abs(expected).max())


def test_folds_of_few_pictures_choose_as_they_would_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = blobs(120, 40, 4, spread=1.5)
    (axes,) = axes_of([x])
    found = list[Searched]()
    for tiny in (0, 10**6):
        n_evaluations = 0

        def count() -> None:
            nonlocal n_evaluations
            n_evaluations += 1

        monkeypatch.setattr(logistic, "TINY", tiny)
        found.append(Searched.of(axes, labels, 4, n_repeats=3, check=count))
        if tiny:
            assert n_evaluations < 200  # of 15 folds
    assert found[0].strength == found[1].strength
    for one, other in zip(found[0].trials, found[1].trials, strict=True):
        assert abs(one.loss - other.loss) < 2e-3


def test_features_that_tell_nothing_give_the_shares_of_the_classes() -> None:
    labels = np.array([0] * 30 + [1] * 10)
    fit = fit_logistic(np.full((40, 1, 3), 7.0, np.float32), labels, 2, strength=0.1)
    assert not fit.weight.any()
    np.testing.assert_allclose(np.diff(fit.bias), -np.log(3), atol=1e-3)


def test_rounding_does_not_prolong_a_fit() -> None:
    """Summed with 24 bits, the loss told L-BFGS of falls that were none, and its line search went on: 45 evaluations."""
    x, labels = blobs(300, 40, 4, spread=0.3)
    n_evaluations = 0

    def count() -> None:
        nonlocal n_evaluations
        n_evaluations += 1

    (axes,) = axes_of([x])
    solution = Problem(axes.coordinates, labels, 4, axes.variances, count).solve(1.0)
    assert n_evaluations < 12
    weight, bias = axes.to_columns(solution)
    assert np.abs(probabilities(weight, bias, x) - reference(x, labels, 1.0)).max() < 1e-4


def test_a_loss_that_threads_share_has_the_same_solution_and_its_bits_do_not_depend_on_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, labels = blobs(6000, 40, 4)  # of a part torch's own operations would use several threads
    (axes,) = axes_of([x])
    alone = Problem(axes.coordinates, labels, 4, axes.variances)
    monkeypatch.setattr(logistic_problem, "PART", 40_000)
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            shared = Problem(axes.coordinates, labels, 4, axes.variances, shared=True)
            assert len(shared.parts) == 6
            found.append(shared.solve(0.1))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    np.testing.assert_allclose(found[0], alone.solve(0.1), atol=1e-3 * np.abs(found[0]).max())


def test_a_fit_after_a_choice_starts_near_its_end_and_ends_at_the_optimum() -> None:
    x, labels = blobs(300, 40, 4, spread=2.0)
    n_evaluations = 0

    def count() -> None:
        nonlocal n_evaluations
        n_evaluations += 1

    (axes,) = axes_of([x])
    searched = Searched.of(axes, labels, 4, check=count)
    n_evaluations = 0
    replace(searched, start=None).fit()
    n_from_nothing, n_evaluations = n_evaluations, 0
    fit = searched.fit()
    assert n_evaluations < 0.7 * n_from_nothing
    ours = probabilities(fit.weight, fit.bias, x)
    assert np.abs(ours - reference(x, labels, searched.strength)).max() < 5e-3


def test_what_two_certain_heads_differ_by_is_no_difference() -> None:
    certain, hardly_less = np.full(40, 1e-6), np.full(40, 2e-4)
    doubtful = np.full(40, 5e-3)
    trials = [Trial(0.1, 1.0, losses, 40) for losses in (certain, hardly_less, doubtful)]
    assert not trials[1].clearly_worse(trials[0])
    assert trials[2].clearly_worse(trials[0])
