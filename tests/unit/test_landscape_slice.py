"""Slices: what filter normalization promises, planes through paths, losses on a grid."""

from __future__ import annotations

import numpy as np
import pytest

from descend.errors import DataError, KnobError
from descend.landscape import path_plane, random_plane, slice_loss


def state(seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        "conv": draw.normal(size=(4, 3, 2, 2)).astype(np.float32), "head": draw.normal(size=(5, 4)), "bias": draw.normal(size=5),
        "steps": np.array(7),
    }  # fmt: skip


def test_every_filter_of_a_random_direction_is_as_long_as_the_weights_filter() -> None:
    center = state()
    plane = random_plane(center, seed=3)
    assert set(plane.first) == {"conv", "head"}
    for direction in (plane.first, plane.second):
        for name, values in direction.items():
            for ours, theirs in zip(values, center[name], strict=True):
                assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(theirs), rel=1e-6)
    again, other = random_plane(center, seed=3), random_plane(center, seed=4)
    np.testing.assert_array_equal(plane.first["conv"], again.first["conv"])
    assert not np.allclose(plane.first["conv"], other.first["conv"])
    assert not np.allclose(plane.first["conv"], plane.second["conv"])


def test_a_plane_moves_weights_alone_and_keeps_dtypes() -> None:
    center = state()
    moved = random_plane(center).at(0.5, -1.0)
    assert moved["conv"].dtype == np.float32
    np.testing.assert_array_equal(moved["bias"], center["bias"])
    np.testing.assert_array_equal(moved["steps"], 7)
    expected = center["head"] + 0.5 * random_plane(center).first["head"] - random_plane(center).second["head"]
    np.testing.assert_allclose(moved["head"], expected)


def test_losses_of_a_quadratic_are_exact_on_the_grid() -> None:
    center = {"w": np.ones((2, 2))}
    plane = random_plane(center)
    found = slice_loss(lambda s: float((s["w"] ** 2).sum()), plane, n=5, reach=2.0)
    assert found.losses.shape == (5, 5)
    np.testing.assert_allclose(found.a, [-2, -1, 0, 1, 2])
    assert found.losses[2, 2] == pytest.approx(4.0)
    expected = ((1 + 2 * plane.first["w"] - 1 * plane.second["w"]) ** 2).sum()
    assert found.losses[4, 1] == pytest.approx(expected)


def test_losses_that_are_not_finite_are_walls() -> None:
    told: list[tuple[int, int]] = []
    found = slice_loss(lambda _: float("nan"), random_plane({"w": np.ones((2, 2))}), n=2, watch=lambda *n: told.append(n))
    assert np.isinf(found.losses).all()
    assert told[-1] == (4, 4)


def test_a_path_in_a_plane_is_held_whole() -> None:
    draw = np.random.default_rng(1)
    end, u, v = draw.normal(size=(3, 12))
    corners = [(-3.0, 0.5), (-2.0, 1.0), (-1.0, 0.2), (0.0, 0.0)]
    states = [{"w": (end + a * u + b * v).reshape(3, 4), "n": np.array(k)} for k, (a, b) in enumerate(corners)]
    plane = path_plane(states)
    assert sum(plane.explained) == pytest.approx(1.0)
    np.testing.assert_allclose(plane.path[-1], 0, atol=1e-12)
    for place, known in zip(plane.path, states, strict=True):
        np.testing.assert_allclose(plane.at(*place)["w"], known["w"], atol=1e-10)
    assert np.vdot(plane.first["w"], plane.second["w"]) == pytest.approx(0, abs=1e-10)
    assert np.linalg.norm(plane.first["w"]) == pytest.approx(1)
    found = slice_loss(lambda s: float(s["w"].sum()), plane, n=3, reach=0.1)
    assert found.a[0] < plane.path[:, 0].min()
    assert found.a[-1] > 0


def test_only_named_entries_move() -> None:
    states = [state(seed) for seed in range(4)]
    plane = path_plane(states, names=["head"])
    assert set(plane.first) == {"head"}


def test_bad_states_are_refused() -> None:
    one = state()
    with pytest.raises(DataError, match="three states"):
        path_plane([one, one])
    with pytest.raises(DataError, match="line"):
        path_plane([{"w": np.full((2, 2), float(k))} for k in range(4)])
    with pytest.raises(DataError, match="one shape"):
        path_plane([{"w": np.ones((2, 2))}, {"w": np.ones((2, 3))}, {"w": np.zeros((2, 2))}])
    with pytest.raises(DataError, match="haed"):
        path_plane([state(k) for k in range(3)], names=["haed"])
    with pytest.raises(DataError, match="finite"):
        random_plane({"w": np.full((2, 2), np.nan)})
    with pytest.raises(DataError, match="two or more axes"):
        random_plane({"b": np.ones(3)})
    plane = random_plane({"w": np.ones((2, 2))})
    with pytest.raises(KnobError, match="n must"):
        slice_loss(lambda _: 0.0, plane, n=1)
    with pytest.raises(KnobError, match="reach"):
        slice_loss(lambda _: 0.0, plane, reach=0.0)
