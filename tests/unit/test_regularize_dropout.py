"""Dropout: its masks are the floor's generator, its mean is its test output, and p = 0 is nothing at all."""

from __future__ import annotations

import contextlib
import copy

import numpy as np
import pytest
import torch
from tests.oracles import regularize_forms as oracle
from torch import nn

from descend import rng
from descend.errors import KnobError, ModelError
from descend.regularize import DropBlock, Dropout, StochasticDepth, exact_average, mask_kernels

IDS = [11, -7, 2**62, 5]


@pytest.mark.parametrize("n", [1, 3, 4, 5, 64, 1000])
@pytest.mark.parametrize("p", [1e-6, 0.25, 0.3, 0.5, 0.999, 1 - 1e-12])
def test_masks_are_the_events_of_the_floor(n, p):
    layer = Dropout(p, seed=3, stream="layer").train()
    with rng.context(2, 9, IDS, draw=1):
        kept = layer(torch.ones(4, n)).numpy() != 0
    assert (kept != rng.bernoulli(3, "layer", ids=IDS, p=p, n=n, epoch=2, draw=1)).all()


@pytest.mark.parametrize("n_samples", [3, 40])
@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("n", [129, 500, 2049, 4500])
def test_masks_of_many_units_and_of_later_ones_are_events_of_the_floor_too(n, p, n_samples):
    """Sixteen samples are drawn together where units are few, and sixteen groups of units where they are many."""
    ids = np.arange(n_samples) * 3 - 7
    dropped = rng.bernoulli(3, "layer", ids=ids, p=p, n=3 * mask_kernels.GROUP + n, epoch=2)
    for dtype in (np.float32, np.float64):
        for first in (0, 3):
            found = np.full((n_samples, n), 7, dtype)
            mask_kernels.fill(found, ids, rng.key(3, "layer", epoch=2), p, 2.0, first)
            start = first * mask_kernels.GROUP
            assert (found == np.where(dropped[:, start : start + n], 0, 2)).all()


def test_units_of_feature_maps_are_numbered_with_the_channel_fastest():
    layer = Dropout(0.3, seed=3, stream="maps")
    with rng.context(2, 9, IDS, draw=1):
        kept = layer(torch.ones(4, 5, 3, 2)).numpy() != 0
    dropped = rng.bernoulli(3, "maps", ids=IDS, p=0.3, n=30, epoch=2, draw=1).reshape(4, 3, 2, 5)
    assert (kept != dropped.transpose(0, 3, 1, 2)).all()


@pytest.mark.parametrize("layer", [Dropout(0.5), Dropout(0.5, kind="channel"), DropBlock(0.5), StochasticDepth(0.5)], ids=repr)
def test_an_empty_batch_passes_in_training(layer):
    x = torch.ones(0, 3, 8, 8, requires_grad=True)
    for where in (contextlib.nullcontext(), rng.context(0, 0, [])):
        with where:
            y = layer(x)
        assert y.shape == x.shape
        y.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize("kind", ["unit", "channel"])
def test_mean_over_many_passes_is_the_test_output(mode, kind):
    """The mean of n kept-or-not units strays by more than 5 standard errors once in 1.7 million tries."""
    p, n = 0.3, 4000
    layer = Dropout(p, mode=mode, kind=kind, seed=1)
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64).reshape(1, 3, 1, 1)
    layer.train()
    mean = sum(layer(x) for _ in range(n)) / n
    scale = 1 / (1 - p) if mode == "inverted" else 1.0
    error = 5 * x.abs() * scale * (p * (1 - p) / n) ** 0.5
    assert ((mean - layer.eval()(x)).abs() <= error).all()


@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_mean_over_all_masks_is_the_test_output_exactly(mode):
    p, x = 0.37, np.array([0.5, -1.25, 3.0, 0.125])
    scale = 1 / (1 - p) if mode == "inverted" else 1.0
    mean = sum(weight * x * mask * scale for mask, weight in oracle.masks(4, p))
    answer = Dropout(p, mode=mode).eval()(torch.from_numpy(x[None]))
    np.testing.assert_allclose(answer.numpy()[0], mean, rtol=1e-14)


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.parametrize(("kind", "n_masks"), [("unit", 2**8), ("channel", 2**2)])
def test_mean_of_the_layers_own_training_passes_over_all_masks_is_its_test_output(mode, kind, n_masks):
    """All that follows is linear, so that the expectation passes through it."""
    torch.manual_seed(0)
    net = nn.Sequential(Dropout(0.37, mode=mode, kind=kind), nn.Flatten(), nn.Linear(8, 3)).double()
    x = torch.randn(2, 2, 2, 2, dtype=torch.float64)
    exact = exact_average(net, x)
    assert exact.n_masks == n_masks
    torch.testing.assert_close(exact.logits, net.eval()(x).detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layer", [Dropout(0.0), Dropout(0.0, mode="classic"), DropBlock(0.0), StochasticDepth(0.0),
                                   StochasticDepth(0.0, per="batch", mode="classic")])  # fmt: skip
@pytest.mark.parametrize("training", [True, False])
def test_p_zero_is_the_identity_to_the_bit(layer, training):
    x = torch.tensor([[[[0.0, -0.0, float("inf"), float("nan")]]]])
    layer.train(training)
    assert layer(x) is x


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan"), True, "0.5", None])
@pytest.mark.parametrize("make", [Dropout, DropBlock, StochasticDepth])
def test_p_out_of_range_is_an_error(make, p):
    with pytest.raises(KnobError, match=r"p must be a number in \[0, 1\)"):
        make(p)


def test_unknown_choices_are_errors():
    for wrong in ({"mode": "scaled"}, {"kind": "pixel"}):
        with pytest.raises(KnobError, match="must be one of"):
            Dropout(0.5, **wrong)


@pytest.mark.parametrize("kind", ["unit", "channel"])
def test_masks_do_not_depend_on_how_the_batch_is_cut_or_ordered(kind):
    layer, x = Dropout(0.5, kind=kind).train(), torch.ones(4, 6, 3, 2)
    with rng.context(1, 0, IDS):
        whole = layer(x)
    with rng.context(1, 5, IDS[2:]):
        assert torch.equal(layer(x[:2]), whole[2:])
    with rng.context(1, 1, IDS[::-1]):
        assert torch.equal(layer(x), whole.flip(0))


def test_every_coordinate_matters_and_nothing_else():
    layer, x = Dropout(0.5, seed=1, stream="a").train(), torch.ones(4, 64)

    def drawn(layer=layer, epoch=0, step=0, ids=IDS, draw=0):
        with rng.context(epoch, step, ids, draw):
            return layer(x)

    reference = drawn()
    assert torch.equal(drawn(), reference)
    assert torch.equal(drawn(step=8), reference)  # per sample, the step plays no part
    assert torch.equal(drawn(copy.deepcopy(layer)), reference)
    others = [drawn(epoch=1), drawn(draw=1), drawn(ids=[1, 2, 3, 4]), drawn(Dropout(0.5, seed=2, stream="a")),
              drawn(Dropout(0.5, seed=1, stream="b"))]  # fmt: skip
    assert all(not torch.equal(other, reference) for other in others)


def test_outside_a_context_calls_are_counted():
    x = torch.ones(2, 64)
    first, second = Dropout(0.5), Dropout(0.5)
    a, b = first(x), first(x)
    assert not torch.equal(a, b)
    assert not torch.equal(a[0], a[1])
    assert torch.equal(second(x), a)


def test_torch_state_is_neither_read_nor_moved():
    before = torch.get_rng_state()
    Dropout(0.5)(torch.ones(8, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_channels_are_dropped_whole_and_share_is_p():
    layer = Dropout(0.4, kind="channel")
    y = layer(torch.ones(50, 40, 3, 3)).flatten(2)
    assert ((y == 0).all(2) | (y != 0).all(2)).all()
    share = float((y[:, :, 0] == 0).float().mean())
    assert abs(share - 0.4) < 5 * (0.4 * 0.6 / 2000) ** 0.5


def test_memory_format_and_type_are_kept_and_do_not_change_the_mask():
    layer = Dropout(0.5)
    x = torch.ones(2, 8, 5, 5)
    with rng.context(0, 0, [1, 2]):
        plain = layer(x)
        last = layer(x.contiguous(memory_format=torch.channels_last))
        half = layer(x.bfloat16())
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, last)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half != 0, plain != 0)


def test_rows_in_turn_belong_to_their_sample():
    """Windowed attention folds each sample into several rows; the draws must stay the sample's own."""
    layer = Dropout(0.5)
    with rng.context(0, 0, [4, 9]):
        folded = layer(torch.ones(6, 10))
    with rng.context(0, 0, [9]):
        assert torch.equal(layer(torch.ones(3, 10)), folded[3:])
    with rng.context(0, 0, [4, 9, 12, 13]), pytest.raises(ModelError, match="rows for each of 4 samples"):
        layer(torch.ones(6, 10))


@pytest.mark.parametrize(("layer", "shape"), [
    (Dropout(0.5), (3, 7)),
    (Dropout(0.5, mode="classic", kind="channel"), (3, 4, 2, 2)),
    (DropBlock(0.3, size=2), (3, 2, 3, 4)),
    (StochasticDepth(0.5), (3, 4)),
    (StochasticDepth(0.5, per="batch", mode="classic"), (3, 4)),
])  # fmt: skip
def test_gradient_is_the_mask(layer, shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def f(x):
        with rng.context(0, 0, [1, 2, 3]):
            return layer(x)

    assert torch.autograd.gradcheck(f, (x,))


def test_train_and_eval_reach_it_and_its_state_is_empty():
    model = nn.Sequential(nn.Linear(4, 4), Dropout(0.5))
    assert not model.eval()[1].training
    assert set(model.state_dict()) == {"0.weight", "0.bias"}
    x = torch.randn(3, 4)
    assert torch.equal(model(x), model[0](x))


@pytest.mark.parametrize("make", [lambda layout: Dropout(0.5, kind="channel", layout=layout),
                                  lambda layout: DropBlock(0.3, size=2, layout=layout)])  # fmt: skip
def test_maps_with_the_channel_last_lose_the_same_units(make):
    """(B, H, W, C), as in Swin: the mask is that of the same maps with the channel first."""
    x = torch.randn(4, 5, 6, 3, generator=torch.Generator().manual_seed(0))
    with rng.context(0, 0, IDS):
        first = make("NCHW")(x.permute(0, 3, 1, 2).contiguous())
    with rng.context(0, 0, IDS):
        last = make("NHWC")(x)
    assert torch.equal(last, first.permute(0, 2, 3, 1))
    assert (last == 0).any()
    assert last.is_contiguous()


def test_a_layout_without_effect_is_an_error():
    with pytest.raises(KnobError, match="layout has no effect with kind='unit'"):
        Dropout(0.5, layout="NHWC")
    with pytest.raises(KnobError, match="layout must be one of"):
        DropBlock(0.5, layout="CHW")


# ---------------------------------------------------------------------------------------------------------- DropBlock


def test_drop_block_is_the_papers_algorithm_on_the_floors_draws():
    p, size, (c, h, w) = 0.2, 3, (2, 7, 9)
    layer = DropBlock(p, size=size, seed=5, stream="block")
    x = np.random.default_rng(0).normal(size=(2, c, h, w))
    with rng.context(3, 0, [8, 1]):
        ours = layer(torch.from_numpy(x)).numpy()
    gamma = p / size**2 * h * w / ((h - size + 1) * (w - size + 1))
    starts = rng.bernoulli(5, "block", ids=[8, 1], p=gamma, n=c * 5 * 7, epoch=3).reshape(2, 5, 7, c).transpose(0, 3, 1, 2)
    assert starts.any()
    for i in range(2):
        np.testing.assert_allclose(ours[i], oracle.drop_block(x[i], starts[i], size), rtol=1e-12)


def test_drop_block_drops_about_p_and_keeps_each_samples_mean_activation():
    layer = DropBlock(0.1, size=3)
    y = layer(torch.ones(40, 16, 14, 14))
    share = float((y == 0).float().mean())
    assert 0.085 < share < 0.1  # squares overlap, so a little less than p
    torch.testing.assert_close(y.mean((1, 2, 3)), torch.ones(40), rtol=1e-5, atol=0)
    assert layer.eval()(y) is y


def test_drop_block_larger_than_the_map_drops_whole_channels():
    y = DropBlock(0.5, size=9)(torch.ones(20, 8, 3, 4))
    kept = (y != 0).flatten(2)
    assert (kept.all(2) | ~kept.any(2)).all()
    assert kept.any()
    assert not kept.all()


def test_drop_block_refuses_what_it_cannot_do():
    with pytest.raises(KnobError, match="size must be"):
        DropBlock(0.1, size=0)
    with pytest.raises(ModelError, match=r"\(B, C, H, W\)"):
        DropBlock(0.1)(torch.ones(2, 3))
