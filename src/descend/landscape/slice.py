"""The loss of a real network on a plane through its weights.

A network of a million weights has no picture; a plane through its solution has one. The plane is spanned either by two random
directions, scaled filter by filter to the weights so that pictures of different networks can be compared, or by the two principal
directions of the path that training took. What is seen is one slice: valleys in it are real, and so are walls, but what looks
like a minimum may fall in directions that the plane does not hold.

States are mappings from names to arrays, so any framework will do: ``{name: tensor.numpy()}``.
Source: Li et al. 2018, Visualizing the Loss Landscape of Neural Nets, arXiv:1712.09913, sections 4 (filter normalization) and 7.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from descend import rng
from descend.errors import DataError, KnobError, check_count
from descend.landscape.surface import Floats

State = Mapping[str, NDArray[Any]]
Direction = Mapping[str, Floats]


@dataclasses.dataclass(frozen=True)
class Plane:
    """A plane through ``center``: the state at (a, b) is ``center + a * first + b * second``.

    Entries that a direction does not name stay as they are. path: (S, 2) float64, where the training path lies on the plane.
    explained: the share of the path's squared length that each direction holds; () for random directions.
    """

    center: State
    first: Direction
    second: Direction
    path: Floats = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))
    explained: tuple[float, ...] = ()

    def at(self, a: float, b: float) -> dict[str, NDArray[Any]]:
        """Return the state at (a, b), every array in the dtype it has at the center."""
        state = {name: np.asarray(value) for name, value in self.center.items()}
        for name in self.first:
            state[name] = (state[name] + a * self.first[name] + b * self.second[name]).astype(state[name].dtype)
        return state


@dataclasses.dataclass(frozen=True)
class Slice:
    """Losses on a plane. a: (A,), b: (B,) coordinates; losses: (A, B) float64, inf where the loss was not finite."""

    plane: Plane
    a: Floats
    b: Floats
    losses: Floats


def random_plane(center: State, *, seed: int = 0) -> Plane:
    """Span a plane by two Gaussian directions with the norm of each filter of ``center``.

    A filter is an entry along the first axis of an array of two or more axes; vectors and scalars (biases, norms, running
    statistics) stay fixed, as in the paper. Raises DataError where there is no array of two axes, or one that is not finite.
    """
    weights = {name: _floats(name, value) for name, value in center.items() if np.ndim(value) > 1 and _is_float(value)}
    if not weights:
        raise DataError("random_plane", "the state must hold a float array of two or more axes", got=sorted(center)[:8])
    first, second = (
        {name: _filterwise(value, seed, f"landscape/slice/{which}/{name}") for name, value in weights.items()} for which in "ab"
    )
    return Plane(center, first, second)


def _filterwise(weights: Floats, seed: int, stream: str) -> Floats:
    drawn = ndtri(rng.uniform(seed, stream, ids=[0], n=weights.size)).reshape(weights.shape[0], -1)
    sizes = np.linalg.norm(weights.reshape(drawn.shape), axis=1, keepdims=True)
    return (drawn * (sizes / np.linalg.norm(drawn, axis=1, keepdims=True))).reshape(weights.shape)


def path_plane(states: Sequence[State], *, names: Collection[str] | None = None) -> Plane:
    """Span a plane by the two principal directions of a training path, through its last state.

    states: three or more, in order. names: the entries that training moved, default every float array; leave out running
    statistics where they may turn negative off the path. The directions have length 1, so the coordinates are Euclidean
    distances. Raises DataError where states differ in names or shapes, are not finite, or never leave a line.
    """
    if len(states) < 3:
        raise DataError("path_plane", "needs three states or more", got=len(states), fix="Keep more snapshots of the run.")
    center = states[-1]
    chosen = [name for name in center if _is_float(center[name]) and (names is None or name in names)]
    if unknown := sorted(set(names or ()) - set(chosen)):
        raise DataError("path_plane", "names must name float arrays of the states", got=unknown[0])
    last = _flat(center, center, chosen)
    steps = np.stack([_flat(state, center, chosen) for state in states]) - last
    values, vectors = np.linalg.eigh(steps @ steps.T)  # S by S: the number of states is small, that of weights is not
    if values[-2] <= 1e-12 * values[-1] or values[-1] <= 0:
        raise DataError("path_plane", "the states must not all lie on one line", fix="Take snapshots further apart.")
    axes = [steps.T @ vectors[:, -k] / np.sqrt(values[-k]) for k in (1, 2)]
    axes = [axis if steps[0] @ axis <= 0 else -axis for axis in axes]  # the path comes from the left and from below
    first, second = (_unflat(axis, center, chosen) for axis in axes)
    explained = tuple(float(values[-k] / values.sum()) for k in (1, 2))
    return Plane(center, first, second, path=np.stack([steps @ axis for axis in axes], 1), explained=explained)


def _is_float(value: Any) -> bool:
    return np.issubdtype(np.asarray(value).dtype, np.floating)


def _floats(name: str, value: Any) -> Floats:
    floats = np.asarray(value, np.float64)
    if not np.isfinite(floats).all():
        raise DataError("slice", f"{name} must be finite")
    return floats


def _flat(state: State, like: State, names: Sequence[str]) -> Floats:
    for name in names:
        if name not in state or np.shape(state[name]) != np.shape(like[name]):
            raise DataError("path_plane", f"every state must hold {name!r} in one shape", got=np.shape(state.get(name, ())))
    return np.concatenate([_floats(name, state[name]).ravel() for name in names])


def _unflat(vector: Floats, like: State, names: Sequence[str]) -> dict[str, Floats]:
    ends = np.cumsum([np.size(like[name]) for name in names])
    return {name: part.reshape(np.shape(like[name])) for name, part in zip(names, np.split(vector, ends[:-1]), strict=True)}


def slice_loss(
    loss: Callable[[dict[str, NDArray[Any]]], float],
    plane: Plane,
    *,
    n: int = 21,
    reach: float = 1.0,
    watch: Callable[[int, int], None] = lambda *_: None,
) -> Slice:
    """Evaluate ``loss`` on ``n`` by ``n`` points of ``plane``.

    loss: takes a state, returns its loss; called n * n times. reach: how far the grid goes from the center on random planes,
    in units of the weights' own size (1: as far as zero); on planes of a path the grid covers the path and ``reach`` of its
    extent more on every side. watch: told (done, total) after every point.
    Raises KnobError for n < 2 or a reach that is not positive.
    """
    check_count("slice_loss", n, knob="n", least=2)
    if not 0 < reach < np.inf:
        raise KnobError("slice_loss", "reach must be a finite number > 0", got=reach)
    a, b = (np.linspace(low, high, n) for low, high in _limits(plane, reach))
    losses = np.empty((n, n))
    for done, (i, j) in enumerate(np.ndindex(n, n)):
        losses[i, j] = loss(plane.at(float(a[i]), float(b[j])))
        watch(done + 1, n * n)
    return Slice(plane, a, b, np.where(np.isfinite(losses), losses, np.inf))


def _limits(plane: Plane, reach: float) -> list[tuple[float, float]]:
    if len(plane.path) == 0:
        return [(-reach, reach)] * 2
    low, high = plane.path.min(0), plane.path.max(0)
    return [(float(x), float(y)) for x, y in zip(low - reach * (high - low), high + reach * (high - low), strict=True)]
