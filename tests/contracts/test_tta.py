"""The same questions, asked of every registered way to look at a picture more than once."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from tests.oracles import augment_views as oracles

from descend import augment
from descend.augment import Views
from descend.technique import knobs, registered

KINDS = list(registered(Views))
IMAGES = np.random.default_rng(4).integers(0, 256, (5, 24, 28, 3), dtype=np.uint8)
IDS = np.array([3, -8, 21, 4, 4000])
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def views(technique: Views, rows: slice = slice(None)) -> torch.Tensor:
    """Return the views (n_views, B, 3, h, w) of some pictures."""
    tta = augment.TestTime(technique, seed=1, size=20, augment=["rotate()"])
    assert tta.n_views == technique.n_views
    return torch.stack(list(tta.views(IMAGES[rows], IDS[rows])))


@EVERY_KIND
def test_every_view_is_promised_and_differs_from_the_others(kind: type[Views]) -> None:
    found = views(kind())
    assert found.shape == (kind().n_views, len(IDS), 3, 20, 20)
    assert found.dtype == torch.float32
    for a in range(len(found)):
        for b in range(a):
            assert not torch.equal(found[a], found[b]), (a, b)


@EVERY_KIND
def test_views_agree_with_their_oracle(kind: type[Views]) -> None:
    oracle = getattr(oracles, kind.name, None)
    assert oracle, (
        f"{kind.name} has no independent oracle. Write `def {kind.name}(images, size)` in {inspect.getfile(oracles)}: the"
        " views of some images, in their order."
    )
    settings = {"transforms": (augment.Flip(p=1.0),)} if kind is augment.RandomViews else {}
    tta = augment.TestTime(kind(**settings), size=20, mean=(0.0, 0.0, 0.0), std=(1 / 255,) * 3)
    expected = oracle(IMAGES, 20)
    for view, ours in enumerate(tta.views(IMAGES, IDS)):
        assert np.abs(ours.permute(0, 2, 3, 1).numpy() - expected[view % len(expected)]).max() < 1e-3, view


@EVERY_KIND
def test_views_do_not_depend_on_the_batch_or_the_time(kind: type[Views]) -> None:
    whole = views(kind())
    assert torch.equal(whole, views(kind()))
    assert torch.equal(whole, torch.cat([views(kind(), slice(0, 2)), views(kind(), slice(2, 5))], 1))


@EVERY_KIND
def test_every_knob_changes_something(kind: type[Views]) -> None:
    other = {"k": 3, "transforms": (augment.Flip(p=1.0),)}
    for knob in knobs(kind):
        changed = views(kind(**{knob.name: other[knob.name]}))
        assert changed.shape != views(kind()).shape or not torch.equal(changed, views(kind())), knob.name
