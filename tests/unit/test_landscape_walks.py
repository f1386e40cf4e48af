"""Walks: every rule on every surface, noise by seed and step, tuning, counts; against theory where there is some."""

from __future__ import annotations

import math

import numpy as np
import pytest

from descend.errors import DescendError, KnobError, SpecError
from descend.landscape import Bowl, Course, Plateau, Ravine, Saddle, Surface, race, tune
from descend.landscape.racing import TUNING_SEEDS
from descend.optim import SGD, Adam, Momentum, Nesterov, RMSProp, Rule
from descend.optim.chain import chain_of
from descend.schedule import Cosine, Exponential, Watch
from descend.technique import registered

RULES = list(registered(Rule))
KINDS = list(registered(Surface))


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("surface", [kind() for kind in KINDS], ids=str)
def test_every_rule_walks_on_every_surface(kind: type[Rule], surface: Surface) -> None:
    trace = Course(surface=surface, n_steps=12, noise=0.05, spread=0.05).walk(kind(), range(3))
    assert trace.points.shape == (13, 3, len(surface.minimum()))
    assert np.isfinite(trace.points[:2]).all()
    assert not np.array_equal(trace.points[0], trace.points[-1])
    np.testing.assert_array_equal(trace.losses[0], surface.loss(trace.points[0]))


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.name)
def test_a_walk_does_not_depend_on_its_company(kind: type[Rule]) -> None:
    course = Course(surface=Ravine(n_dims=3), n_steps=15, noise=0.1, spread=0.1)
    together = course.walk(kind(), (4, 9, 7))
    alone = course.walk(kind(), (9,))
    np.testing.assert_allclose(together.points[:, 1], alone.points[:, 0], rtol=1e-12)


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.name)
def test_walkers_take_the_steps_that_the_rule_takes_on_floats(kind: type[Rule]) -> None:
    surface, rule = Bowl(), chain_of(kind())
    if not rule.core.elementwise or rule.perturbation is not None:
        pytest.skip("declared: needs whole tensors, so there is no walk on single floats")
    x = list(surface.start())
    slots, memory = [rule.start(value) for value in x], None
    for t in range(1, 9):
        g = surface.gradient([float(rule.lookahead_point(value, kept)) for value, kept in zip(x, slots, strict=True)])
        scalars = rule.scalars(t, memory=memory)
        moved = [rule.move(value, float(part), kept, scalars) for value, part, kept in zip(x, g, slots, strict=True)]
        x, slots, memory = [p for p, _ in moved], [kept for _, kept in moved], scalars.memory
    expected = [float(rule.evaluation_weights(value, kept)) for value, kept in zip(x, slots, strict=True)]
    trace = Course(surface=surface, n_steps=8).walk(rule.rule)
    np.testing.assert_allclose(trace.points[-1, 0], expected, rtol=1e-12)


def test_sgd_on_a_ravine_is_the_matrix_power() -> None:
    surface, lr, n = Ravine(condition=64.0, n_dims=4), 0.2, 30
    trace = Course(surface=surface, n_steps=n).walk(SGD(lr=lr))
    expected = np.array(surface.start()) * (1 - lr * surface.curvatures()) ** n
    np.testing.assert_allclose(trace.points[-1, 0], expected, rtol=1e-11, atol=1e-13)


def test_noise_has_the_size_asked_for_and_is_the_same_for_every_rule() -> None:
    quiet = Course(surface=Bowl(), n_steps=1)
    noisy = Course(surface=Bowl(), n_steps=1, noise=0.3)
    seeds = range(4000)

    def kick(rule: Rule) -> np.ndarray:
        return noisy.walk(rule, seeds).points[1] - quiet.walk(rule, seeds).points[1]

    small, large = kick(SGD(lr=0.1)), kick(SGD(lr=1.0))
    np.testing.assert_allclose(small * 10, large, rtol=1e-6, atol=1e-12)
    assert large.std() == pytest.approx(0.3, rel=0.05)
    assert abs(large.mean()) < 0.02
    assert abs(np.corrcoef(large.T)[0, 1]) < 0.06


def test_noise_differs_between_steps() -> None:
    trace = Course(surface=Ravine(condition=1.0), n_steps=2, noise=1.0, start=(0.0, 0.0)).walk(SGD(lr=1.0), range(50))
    first, second = trace.points[1], trace.points[2]  # curvature 1 and rate 1: every step lands on its own noise
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.4


def test_a_schedule_multiplies_the_rate() -> None:
    surface = Ravine(condition=1.0)
    trace = Course(surface=surface, n_steps=4, schedule=Cosine()).walk(SGD(lr=0.5))
    expected = np.prod([1 - 0.5 * Cosine().factor(k / 4) for k in range(4)]) * np.array(surface.start())
    np.testing.assert_allclose(trace.points[-1, 0], expected, rtol=1e-12)


def test_both_forms_of_nesterov_walk_the_same_path() -> None:
    course = Course(surface=Ravine(), n_steps=60)
    ahead = course.walk(Nesterov(lr=0.02, form="lookahead"))
    here = course.walk(Nesterov(lr=0.02))
    assert not np.allclose(ahead.points, here.points)
    rule, p = chain_of(Nesterov(lr=0.02, form="lookahead")), np.array([course.surface.start()])
    slots = rule.start(p)
    for t in range(1, 61):
        p, slots = rule.move(p, course.surface.gradient(rule.lookahead_point(p, slots)), slots, rule.scalars(t))
    np.testing.assert_allclose(rule.lookahead_point(p, slots)[0], here.points[-1, 0], rtol=1e-9, atol=1e-12)


def test_a_rule_that_looks_ahead_does_so_at_the_rate_of_the_step() -> None:
    surface, decay, n = Ravine(), Exponential(final=0.001), 12
    p = np.array(surface.start())
    v = np.zeros_like(p)
    for t in range(n):
        lr = 0.02 * decay.factor(t / n)
        v = surface.gradient(p - lr * 0.9 * v) + 0.9 * v
        p = p - lr * v
    rule = Nesterov(lr=0.02, momentum=0.9, form="lookahead")
    trace = Course(surface=surface, n_steps=n, schedule=decay).walk(rule)
    np.testing.assert_allclose(trace.points[-1, 0], p, rtol=1e-9)


def test_friction_stops_momentum_where_the_geometric_series_says() -> None:
    surface, lr, rho = Plateau(width=1000.0), 0.05, 0.9
    points = Course(surface=surface, n_steps=400).walk(Momentum(lr=lr, momentum=rho)).points[:, 0, 0]
    foot = int(np.argmax(points > 0))
    arriving = points[foot] - points[foot - 1]
    assert points[-1] - points[foot] == pytest.approx(arriving * rho / (1 - rho), rel=1e-2)


def test_a_walk_on_the_ridge_itself_never_leaves_without_noise() -> None:
    surface = Saddle(sharpness=0.5)
    on_the_line = Course(surface=surface, n_steps=500, start=(-1.5, 0.0))
    for rule in (SGD(lr=0.5), Momentum(lr=0.1), RMSProp(lr=0.1), Adam(lr=0.1)):
        assert not on_the_line.walk(rule).escaped().any()
    assert Course(surface=surface, n_steps=500, start=(-1.5, 0.0), noise=0.01).walk(SGD(lr=0.5), range(20)).escaped().all()


@pytest.mark.parametrize("settings", [{}, {"noise": 0.1}, {"spread": 0.3}, {"noise": 0.1, "spread": 0.3}], ids=str)
def test_the_picture_shows_one_of_the_walks_that_are_counted(settings: dict[str, float]) -> None:
    course = Course(surface=Saddle(sharpness=0.5), n_steps=200, **settings)
    for outcome in race(course, ["sgd(lr=0.1)", "adam(lr=0.01)"], n_seeds=7 if course.random else 1):
        shown = outcome.picture
        assert shown.seeds == (0,)
        assert shown.steps_to(course.goal)[0] == outcome.steps[0]
        assert shown.losses[-1, 0] == outcome.final[0]
        np.testing.assert_array_equal(shown.points, course.walk(outcome.rule, (0,)).points)


@pytest.mark.parametrize("lr", [0.001, 0.01, 0.1, 0.5, 1.0, 1.5, 1.9])
def test_at_the_defaults_sgd_does_not_leave_the_saddle_at_any_rate(lr: float) -> None:
    """On the ridge the distance from it grows by 1 + lr sharpness per step, and lr < 2 where the walk must not diverge."""
    course = Course(surface=Saddle())
    assert not course.walk(SGD(lr=lr)).escaped().any()
    assert 1e-6 * (1 + lr * Saddle().sharpness) ** course.n_steps < 0.5


def test_divergence_is_a_result() -> None:
    trace = Course(surface=Ravine(), n_steps=2000).walk(SGD(lr=1.0))
    assert trace.diverged().all()
    assert not trace.escaped().any()
    assert math.isinf(trace.steps_to(1e-3)[0])


def test_steps_to_counts_the_first_arrival() -> None:
    trace = Course(surface=Ravine(condition=1.0), n_steps=20, start=(1.0, 0.0)).walk(SGD(lr=0.5))
    np.testing.assert_allclose(trace.losses[:3, 0], [0.5, 0.125, 0.03125])
    assert trace.steps_to(0.2)[0] == 1
    assert trace.steps_to(0.5)[0] == 0


def test_tuning_finds_the_best_rate_of_a_quadratic() -> None:
    course = Course(surface=Ravine(condition=1.0), n_steps=20, target=1e-12)
    assert tune(course, SGD()).lr == 1.0  # one step arrives
    best = tune(Course(surface=Ravine(condition=100.0), n_steps=300, target=1e-12), SGD()).lr
    assert best == pytest.approx(2 / (10 + 0.1), rel=0.35)  # 2 / (largest + smallest curvature), within the grid's ratio


def test_races_tune_only_what_has_no_rate_and_count_on_other_seeds() -> None:
    course = Course(surface=Saddle(sharpness=0.5), n_steps=80, noise=0.05)
    given, tuned, taken = race(course, ["sgd(lr=0.1)", "sgd", SGD(lr=0.2)], n_seeds=25)
    assert (given.tuned, given.rule.lr) == (False, 0.1)
    assert (taken.tuned, taken.rule.lr) == (False, 0.2)
    assert tuned.tuned
    assert tuned.rule == tune(course, SGD())
    trace = course.walk(given.rule, range(25))
    assert given.n_escaped == int(trace.escaped().sum())
    assert given.n_reached == int(np.isfinite(trace.steps_to(course.goal)).sum())
    assert given.label == "sgd(lr=0.1)"
    assert not set(TUNING_SEEDS) & set(range(25))
    assert race(Course(surface=Bowl(), n_steps=5), ["sgd(lr=0.1)"], n_seeds=1)[0].n_escaped is None


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"n_steps": 0}, "n_steps"), ({"noise": -1.0}, "noise"), ({"noise": math.nan}, "noise"), ({"spread": -0.1}, "spread"),
        ({"start": (1.0,)}, "start must be 2 numbers"), ({"start": (math.nan, 1.0)}, "start"), ({"target": -1.0}, "target"),
        ({"schedule": Watch()}, r"schedule must not need the history of epochs: a walk has none, got .watch\(\)."),
    ],
)  # fmt: skip
def test_bad_courses_are_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(KnobError, match=match):
        Course(surface=Ravine(), **settings)  # pyright: ignore[reportArgumentType]


def test_bad_races_are_refused() -> None:
    course = Course(surface=Bowl(), n_steps=3, noise=0.1)
    for call in (
        lambda: race(course, []), lambda: race(course, ["sgd"], n_seeds=0), lambda: course.walk(SGD(), ()),
        lambda: tune(course, SGD(), rates=()),
        lambda: race(Course(surface=Bowl()), ["sgd(lr=0.1)"], n_seeds=2),
    ):  # fmt: skip
        with pytest.raises(KnobError):
            call()
    with pytest.raises(SpecError, match="momentum"):
        race(course, ["mometum"])
    with pytest.raises(DescendError, match="lr"):
        race(course, ["sgd(lr=-1)"])


@pytest.mark.parametrize(("text", "tuned"), [("lookahead(inner=sgd(lr=0.2))", False), ("lookahead(sgd(lr=0.2))", False),
                                             ("lookahead(inner=sgd)", True), ("sgd(weight_decay=0.1)", True)])  # fmt: skip
def test_a_rate_given_inside_a_wrapper_is_kept(text: str, tuned: bool) -> None:
    outcome = race(Course(surface=Bowl(), n_steps=3), [text], n_seeds=1, rates=(0.5,))[0]
    assert (outcome.tuned, outcome.rule.lr) == (tuned, 0.5 if tuned else 0.2)
