"""Some images of a batch are transformed, others are not, or otherwise: factors put together row by row.

What a row was not chosen for is neutral there, to the bit, so that one draw serves a batch in which every image has transforms of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from descend.augment.array_types import Bools, Floats
from descend.augment.factors import IDENTITY_TABLE, Draws, Mix, Neighborhood, Noise, tinted
from descend.augment.matrices import fit
from descend.errors import KnobError

T = TypeVar("T")
Option = tuple[Draws, Bools]  # what a transform made of a draw, and the rows (B,) that it was chosen for


def selected(before: Draws, options: Sequence[Option]) -> Draws:
    """Return ``before`` with each option's changes in the rows that the option was chosen for; a row has one option at most.

    Every option started from ``before``. Options that change the size of the output must agree on it; the other rows are fitted
    to that size as the evaluation view would be. Raises KnobError where they do not agree.
    """
    options = [(_fitted(option, _canvas(before, options)), chosen) for option, chosen in options]
    draws = _fitted(before, _canvas(before, options))
    n = len(draws)
    return draws.changed(
        matrix=_rows(draws.matrix, [(option.matrix, chosen) for option, chosen in options]),
        color=_per_row(draws, options, lambda d: d.color, lambda: tinted(np.broadcast_to(np.eye(3), (n, 3, 3)))),
        table=_per_row(draws, options, lambda d: d.table, lambda: np.broadcast_to(IDENTITY_TABLE, (n, 3, 256))),
        stretch=_per_row(draws, options, lambda d: d.stretch, lambda: ~draws.every),
        flatten=_per_row(draws, options, lambda d: d.flatten, lambda: ~draws.every),
        noise=_noise(draws, options),
        grain=_first(draws.grain, *(option.grain for option, _ in options)),
        sampling=_first(draws.sampling, *(option.sampling for option, _ in options)),
        bends=(*draws.bends, *_bends(draws, options)),
        neighborhood=(*draws.neighborhood, *_neighborhood(draws, options)),
        mixes=(*draws.mixes, *_mixes(draws, options)),
        parameters=_parameters(draws, options),
        **_boxes(draws, options),
    )


def _canvas(before: Draws, options: Iterable[Option]) -> tuple[int, int]:
    sizes = sorted({option.canvas for option, _ in options} - {before.canvas})
    if len(sizes) > 1:
        raise KnobError("augment", "transforms that one is chosen from must give images of one size", got=sizes)
    return sizes[0] if sizes else before.canvas


def _fitted(draws: Draws, canvas: tuple[int, int]) -> Draws:
    return draws if draws.canvas == canvas else fit(draws, canvas)


def _column(chosen: Bools, like: NDArray[Any]) -> Bools:
    return chosen.reshape(-1, *[1] * (like.ndim - 1))


def _rows(before: NDArray[Any], options: Iterable[tuple[NDArray[Any], Bools]]) -> NDArray[Any]:
    rows = before
    for after, chosen in options:
        if after is not before:
            rows = np.where(_column(chosen, after), after, rows)
    return rows


def _per_row(before: Draws, options: Sequence[Option], read: Callable[[Draws], Any], neutral: Callable[[], Any]) -> Any:
    """Choose a factor that is one array per image, or None where nobody has it."""
    values = [(read(option), chosen) for option, chosen in options]
    start = read(before)
    if start is None and all(value is None for value, _ in values):
        return None
    start = neutral() if start is None else start
    return _rows(start, [(value, chosen) for value, chosen in values if value is not None])


def _first(*values: T | None) -> T | None:
    """Return what holds for the whole batch: the first that was chosen."""
    return next((value for value in values if value is not None), None)


def _noise(before: Draws, options: Sequence[Option]) -> Noise | None:
    noises = [noise for noise in (before.noise, *(option.noise for option, _ in options)) if noise is not None]
    sigma = _per_row(before, options, lambda d: None if d.noise is None else d.noise.sigma, lambda: np.zeros(len(before)))
    return Noise(sigma, noises[0].key) if noises else None


def _new(option: Draws, before: Draws, factor: str) -> tuple[Any, ...]:
    return getattr(option, factor)[len(getattr(before, factor)) :]


def _bends(before: Draws, options: Sequence[Option]) -> list[Floats]:
    return [bend * _column(chosen, bend) for option, chosen in options for bend in _new(option, before, "bends")]


def _neighborhood(before: Draws, options: Sequence[Option]) -> list[Neighborhood]:
    steps = [(step, chosen) for option, chosen in options for step in _new(option, before, "neighborhood")]
    return [replace(step, strength=np.where(chosen, step.strength, np.nan)) for step, chosen in steps]


def _boxes(before: Draws, options: Sequence[Option]) -> dict[str, Any]:
    """Append the boxes of all options, each empty in the rows that the option was not chosen for."""
    old = 0 if before.boxes is None else before.boxes.shape[1]
    boxes = [] if before.boxes is None else [before.boxes]
    fills = [] if before.fills is None else [before.fills]
    for option, chosen in options:
        if option.boxes is not None and option.fills is not None and option.boxes.shape[1] > old:
            boxes.append(option.boxes[:, old:] * chosen[:, None, None])
            fills.append(option.fills[:, old:])
    return {"boxes": np.concatenate(boxes, 1), "fills": np.concatenate(fills, 1)} if boxes else {}


def _mixes(before: Draws, options: Sequence[Option]) -> list[Mix]:
    """Put the new mixings of all options side by side: the first of each into one, the second of each into another."""
    news = [(_new(option, before, "mixes"), chosen) for option, chosen in options]
    depth = max(len(new) for new, _ in news)
    return [_one_mix(before, [(new[k], chosen) for new, chosen in news if k < len(new)]) for k in range(depth)]


def _one_mix(before: Draws, parts: Sequence[tuple[Mix, Bools]]) -> Mix:
    """Put several mixings into one, each in its rows; a row without one is mixed with itself."""
    n, (h, w) = len(before), before.canvas
    partner = _rows(np.arange(n), [(mix.partner, chosen) for mix, chosen in parts])
    weight = _rows(np.ones(n), [(mix.weight, chosen) for mix, chosen in parts])
    if all(mix.boxes is None for mix, _ in parts):
        return Mix(partner, weight)
    boxes, inside = np.zeros((n, 4), np.int64), np.zeros(n)
    for mix, chosen in parts:
        boxes = np.where(chosen[:, None], np.array((0, h, 0, w)) if mix.boxes is None else mix.boxes, boxes)
        share = mix.inside if mix.inside is not None else mix.weight if mix.boxes is None else np.zeros(n)
        inside = np.where(chosen, share, inside)
    return Mix(partner, weight, boxes, inside)


def _parameters(before: Draws, options: Sequence[Option]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return what was noted, emptied in the rows that the option was not chosen for."""
    parameters = dict(before.parameters)
    for option, chosen in options:
        for stream, noted in option.parameters.items():
            if before.parameters.get(stream) is not noted:
                parameters[stream] = {name: _emptied(values, chosen) for name, values in noted.items()}
    return parameters


def _emptied(values: NDArray[Any], chosen: Bools) -> NDArray[Any]:
    """Say *not done* outside of ``chosen``: False of a switch, "none" of a name, NaN of a number."""
    empty = False if values.dtype == np.bool_ else "none" if values.dtype.kind == "U" else np.nan
    return np.where(_column(chosen, values), values, empty)
