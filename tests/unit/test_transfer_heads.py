"""Heads: shapes, starts, seeds, and what each knob changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from descend import rng
from descend.errors import KnobError
from descend.models import fingerprint
from descend.technique import build
from descend.transfer import MLP, Head, Linear


@pytest.mark.parametrize("spec", ["linear", "mlp(hidden=16, dropout=0.5)"])
def test_a_head_starts_undecided_and_leaves_torchs_generator_alone(spec):
    before = torch.get_rng_state()
    head = build(spec, Head).build(12, 5, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    logits = head.eval()(torch.randn(4, 12))
    assert logits.shape == (4, 5)
    assert torch.equal(logits, torch.zeros(4, 5))


@pytest.mark.parametrize("spec", ["linear", "mlp(hidden=64)"])
def test_a_head_learns_separable_features(spec):
    head = build(spec, Head).build(8, 3, seed=0)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    x = torch.randn(60, 8, generator=generator) + 3 * nn.functional.one_hot(labels, 8)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for step in range(80):
        with rng.context(0, step, np.arange(60)):
            loss = nn.functional.cross_entropy(head(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (head.eval()(x).argmax(1) == labels).float().mean() > 0.95


def test_the_mlps_weights_follow_its_seed_and_he_et_al():
    prints = [fingerprint(MLP().build(1280, 4, seed)) for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]
    first = MLP(hidden=64).build(1280, 4, 0)[0]  # pyright: ignore[reportIndexIssue] (a Sequential)
    assert first.weight.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.05)


def test_dropout_is_drawn_from_its_own_stream_and_scales_by_what_it_keeps():
    x, ids = torch.randn(6, 10), np.arange(6)

    def out(dropout: float, epoch: int = 0) -> torch.Tensor:
        head = MLP(hidden=32, dropout=dropout).build(10, 2, 7)
        with rng.context(epoch, 0, ids):
            return head.train()[:3](x)

    plain, dropped = out(0.0), out(0.5)
    kept = dropped != 0
    assert torch.allclose(dropped[kept], 2 * plain[kept])
    assert torch.equal(out(0.5), dropped)
    assert not torch.equal(out(0.5, epoch=1), dropped)


def test_knobs_outside_their_interval_are_refused():
    for bad in ("mlp(hidden=0)", "mlp(dropout=1.0)", "mlp(dropout=-0.1)"):
        with pytest.raises(KnobError):
            build(bad, Head)
    assert str(Linear()) == "linear()"
