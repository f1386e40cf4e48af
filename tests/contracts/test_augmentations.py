"""The same questions, asked of every registered augmentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest
import torch

from descend.augment import Augmentation, Pipeline, Stage
from descend.technique import Knob, build, knobs, registered, spec

KINDS = list(registered(Augmentation))
IMAGES = np.random.default_rng(8).integers(0, 256, (16, 20, 24, 3), dtype=np.uint8)
IDS = np.arange(16) * 11 - 40


def views(transform: Augmentation, images: np.ndarray = IMAGES, ids: np.ndarray = IDS) -> torch.Tensor:
    """Two views of every picture, as the network sees them."""
    pipe = Pipeline([transform], seed=1)
    settings: dict[str, Any] = {"targets": np.arange(len(ids)) % 3, "n_classes": 3} if pipe.mixes else {}
    made = [pipe(images, ids=ids, epoch=1, step=0, draw=draw, **settings) for draw in (0, 1)]
    return torch.cat([view[0] if isinstance(view, tuple) else view for view in made])


def other_values(knob: Knob) -> Iterator[Any]:
    """Legal values of a knob, besides its default."""
    if knob.type is bool:
        yield not knob.default
    yield from (choice for choice in knob.choices if choice != knob.default)
    if isinstance(knob.default, tuple):
        low, high = knob.default
        quarter = (high - low) // 4 if isinstance(low, int) else (high - low) / 4
        yield from ((low + quarter, high), (low, high - quarter))
    elif knob.default is None:
        yield (0.1, 0.2, 0.3) if "tuple" in str(knob.type) else 13
    elif knob.search is not None:
        for value in (knob.search.low, knob.search.high):
            if value != knob.default:
                yield round(value) if knob.type is int else float(value)
    elif knob.type is int:
        yield knob.default + 3


def variants(kind: type[Augmentation]) -> Iterator[tuple[Knob, Augmentation]]:
    """The transform with each knob changed, one at a time."""
    for knob in knobs(kind):
        for value in other_values(knob):
            yield knob, dataclasses.replace(kind(), **{knob.name: value})


VARIANTS = [variant for kind in KINDS for _, variant in variants(kind)]


@pytest.mark.parametrize("transform", [*(kind() for kind in KINDS), *VARIANTS], ids=str)
def test_spec_text_round_trips(transform: Augmentation) -> None:
    assert build(spec(transform), Augmentation) == transform


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_knob_changes_something(kind: type[Augmentation]) -> None:
    plain = views(kind())
    tried: set[str] = set()
    for knob, variant in variants(kind):
        changed = views(variant)
        assert changed.isfinite().all()
        assert changed.shape != plain.shape or not torch.equal(changed, plain), variant
        tried.add(knob.name)
    assert tried == {knob.name for knob in knobs(kind)}, "a knob has no other value to try"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.stage != "mix"], ids=lambda kind: kind.name)
def test_draws_do_not_depend_on_the_split_of_the_batch(kind: type[Augmentation]) -> None:
    """Mixing is apart: its partners come from the whole batch by definition."""
    whole = views(kind())
    parts = [views(kind(), IMAGES[k : k + 5], IDS[k : k + 5]) for k in range(0, 16, 5)]
    joined = torch.cat([part[: len(part) // 2] for part in parts] + [part[len(part) // 2 :] for part in parts])
    assert torch.equal(whole, joined)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_was_drawn_can_be_read(kind: type[Augmentation]) -> None:
    draws = Pipeline([kind()]).draw(IDS, (20, 24), epoch=0, step=0)
    assert kind.name in draws.parameters
    assert all(len(values) == len(IDS) for values in draws.parameters[kind.name].values())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_belongs_to_a_stage(kind: type[Augmentation]) -> None:
    assert kind.stage in get_args(Stage)
