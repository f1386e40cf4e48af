"""Surfaces: gradients against finite differences, minima against what is known, critical points against theory."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
from scipy import optimize
from scipy.special import ndtri
from tests.oracles import landscape_surfaces as oracles

from descend import rng
from descend.errors import KnobError
from descend.landscape import Beale, Bowl, LocalMinimum, Plateau, Rastrigin, Ravine, Rosenbrock, Saddle, Surface, critical_points
from descend.technique import knobs, registered

KINDS = list(registered(Surface))
SURFACES: list[Surface] = [
    *(kind() for kind in KINDS), Ravine(condition=1e3, n_dims=7, angle=30.0), Bowl(n_dims=4), Rastrigin(ruggedness=2.0, n_dims=3),
    Saddle(sharpness=4.0), Saddle(sharpness=0.01), Plateau(width=12.0), LocalMinimum(ridge=-0.1), Rosenbrock(steepness=5.0),
]  # fmt: skip


def places(surface: Surface, n: int = 40) -> np.ndarray:
    """Return points around the minimum and the start: (n, D)."""
    centre, start = np.array(surface.minimum()), np.array(surface.start())
    scatter = ndtri(rng.uniform(3, "test", ids=np.arange(n), n=centre.size))
    along = np.linspace(-0.1, 1.1, n)[:, None]
    return centre + along * (start - centre) + 0.3 * scatter


def test_all_surfaces_are_here() -> None:
    names = {kind.name for kind in KINDS}
    assert names == {"ravine", "saddle", "plateau", "local_minimum", "rosenbrock", "beale", "rastrigin", "bowl"}


def check_oracle(surface: Surface) -> None:
    """Compare a surface with the formula of its name; its absence is a failure that says where one goes."""
    oracle = getattr(oracles, surface.name, None)
    assert oracle is not None, (
        f"{surface.name} has no independent oracle. Write `def {surface.name}(x, ...)`, the loss at a point, from its source's"
        f" formula in {inspect.getfile(oracles)}, which imports nothing of descend."
    )
    settings = {knob.name: getattr(surface, knob.name) for knob in knobs(type(surface))}
    expected = [oracle(point, **settings) for point in places(surface).tolist()]
    np.testing.assert_allclose(surface.loss(places(surface)), expected, rtol=1e-10, atol=1e-12, err_msg="not its oracle")


@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_losses_agree_with_their_oracle(surface: Surface) -> None:
    check_oracle(surface)


def test_a_new_surface_without_an_oracle_is_told_where_to_put_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trough(Bowl):
        """Not registered, so that no other test meets it."""

    Trough.name = "trough"
    with pytest.raises(AssertionError, match=r"trough has no independent oracle.*def trough.*landscape_surfaces\.py"):
        check_oracle(Trough())
    monkeypatch.setattr(oracles, "trough", oracles.bowl, raising=False)
    check_oracle(Trough())
    monkeypatch.setattr(oracles, "trough", lambda x, n_dims: 1.001 * oracles.bowl(x, n_dims), raising=False)
    with pytest.raises(AssertionError, match="not its oracle"):
        check_oracle(Trough())


@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_gradients_agree_with_finite_differences(surface: Surface) -> None:
    x = places(surface)
    exact = surface.gradient(x)
    step = 1e-6
    for d in range(x.shape[1]):
        ahead, behind = x.copy(), x.copy()
        ahead[:, d] += step
        behind[:, d] -= step
        slope = (surface.loss(ahead) - surface.loss(behind)) / (2 * step)
        np.testing.assert_allclose(exact[:, d], slope, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(exact).max())))


@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_the_minimum_is_one_and_nothing_lies_below_it(surface: Surface) -> None:
    minimum = np.array(surface.minimum())
    assert surface.loss(minimum) == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(surface.gradient(minimum), 0, atol=1e-12)
    left, right, bottom, top = surface.window()
    points = np.tile(minimum, (200, 200, 1))
    points[..., 0], points[..., -1] = np.meshgrid(np.linspace(left, right, 200), np.linspace(bottom, top, 200))
    assert surface.loss(points).min() >= -1e-12
    found = optimize.minimize(surface.loss, minimum + 0.05, jac=surface.gradient, tol=1e-12)
    np.testing.assert_allclose(found.x, minimum, atol=1e-4)


@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_shapes_follow_the_points(surface: Surface) -> None:
    x = places(surface, 6)
    boxed = x.reshape(2, 3, -1)
    assert surface.loss(boxed).shape == (2, 3)
    assert surface.gradient(boxed).shape == boxed.shape
    assert surface.escaped(boxed).shape == (2, 3)
    np.testing.assert_array_equal(surface.loss(boxed).ravel(), surface.loss(x))
    assert len(surface.start()) == len(surface.minimum()) == x.shape[1]


@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_walks_begin_in_the_picture_above_the_target_and_inside_the_trap(surface: Surface) -> None:
    start = np.array(surface.start())
    left, right, bottom, top = surface.window()
    assert left < start[0] < right
    assert bottom < start[-1] < top
    assert surface.loss(start) > surface.target()
    if surface.trap():
        assert not surface.escaped(start)
        assert surface.escaped(np.array(surface.minimum()))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_knob_changes_the_surface(kind: type[Surface]) -> None:
    for knob in knobs(kind):
        assert knob.search is not None, f"{kind.name}.{knob.name} has no range"
        other = dataclasses.replace(kind(), **{knob.name: type(knob.default)(knob.search.high)})  # pyright: ignore[reportArgumentType]
        if knob.name == "n_dims":
            assert len(other.start()) == knob.search.high
        else:
            x = places(kind())
            assert not np.allclose(other.loss(x), kind().loss(x))


def test_the_ravine_has_the_condition_number_it_is_asked_for() -> None:
    surface = Ravine(condition=400.0, n_dims=5, angle=20.0)
    hessian = np.array([surface.gradient(row) for row in np.eye(5)])  # linear gradient: its values on the axes are the columns
    values = np.linalg.eigvalsh(hessian)
    assert values[-1] / values[0] == pytest.approx(400.0)
    np.testing.assert_allclose(values, surface.curvatures(), rtol=1e-12)
    start = np.array(surface.start())
    assert surface.loss(start) == pytest.approx(Ravine(condition=400.0, n_dims=5).loss(Ravine(n_dims=5).start()))


def test_saddles_curve_down_as_sharply_as_asked() -> None:
    for sharpness in (0.01, 0.5, 4.0):
        surface, step = Saddle(sharpness=sharpness), 1e-5
        down = surface.gradient([0.0, step])[1] / step
        assert down == pytest.approx(-sharpness, rel=1e-6)
        assert surface.gradient([step, 0.0])[0] / step == pytest.approx(1.0)


def test_known_values_of_the_classics() -> None:
    assert Rosenbrock().loss([-1.2, 1.0]) == pytest.approx(24.2)
    assert Beale().loss([1.0, 1.0]) == pytest.approx(14.203125)
    assert Rastrigin().loss([1.0, -2.0]) == pytest.approx(5.0)


def test_the_plateau_is_flat_and_the_local_minimum_is_one() -> None:
    plateau = Plateau()
    assert abs(plateau.gradient([1.0, 0.0])[0]) < 0.005
    assert plateau.gradient([-2.0, 0.0])[0] == pytest.approx(-4.0, abs=0.01)
    dent = LocalMinimum()
    np.testing.assert_allclose(dent.gradient([-1.0, 0.0]), 0, atol=1e-12)
    assert dent.loss([-1.0, 0.0]) > dent.loss([1.0, 0.0])
    assert dent.loss([dent.ridge, 0.0]) > dent.loss([-1.0, 0.0])


def test_critical_points_keep_the_exact_results() -> None:
    one, two = critical_points(1, 4000), critical_points(2, 40_000)
    assert one.saddles == 0
    assert two.saddles == pytest.approx(0.5, abs=0.02)  # as many saddles as extrema: Euler's characteristic of the torus
    three = critical_points(3, 40_000)
    assert three.share(1) == pytest.approx(three.share(2), abs=0.03)  # the field and its negative are alike
    assert three.saddles > two.saddles
    assert sum(three.share(k) for k in range(4)) == pytest.approx(1.0)


@pytest.mark.parametrize(("n_dims", "n_samples"), [(0, 5), (2, 0), (2.0, 5), (True, 5)])
def test_critical_points_refuse_nonsense(n_dims: int, n_samples: int) -> None:
    with pytest.raises(KnobError, match="whole number"):
        critical_points(n_dims, n_samples)
