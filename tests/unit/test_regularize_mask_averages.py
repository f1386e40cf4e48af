"""Test-time averages: exact where theory says exact, sampled within stated bounds, and without a trace left behind."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from tests.oracles import regularize_forms as oracle
from torch import nn
from torch.nn import functional as F

from descend.errors import KnobError, ModelError
from descend.regularize import DropBlock, Dropout, dropping, exact_average, hold_in_eval, monte_carlo


def softmax_regression(mode="inverted"):
    torch.manual_seed(0)
    return nn.Sequential(Dropout(0.5, mode=mode), nn.Linear(6, 3)).double()


def mlp(p=0.4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), Dropout(p), nn.Linear(8, 3)).double()


X5 = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_weight_scaling_is_the_geometric_mean_of_all_subnetworks_of_softmax_regression(mode):
    """Goodfellow, Bengio & Courville 2016, equations 7.54 to 7.66: exact, where the dropped units feed the softmax."""
    net, x = softmax_regression(mode), torch.randn(5, 6, dtype=torch.float64)
    exact = exact_average(net, x)
    expectation = torch.softmax(net.eval()(x), dim=1).detach()
    torch.testing.assert_close(exact.geometric, expectation, rtol=1e-12, atol=0)
    assert not torch.allclose(exact.probabilities, expectation, atol=1e-3)  # the arithmetic mean is another thing


def test_exact_average_is_the_written_out_sum():
    net = mlp()
    w1, b1, w2, b2 = (p.detach().numpy() for p in net.parameters())
    h = np.maximum(X5.numpy() @ w1.T + b1, 0)
    mean = sum(chance * oracle.softmax(h * mask / 0.6 @ w2.T + b2) for mask, chance in oracle.masks(8, 0.4))
    exact = exact_average(net, X5)
    np.testing.assert_allclose(exact.probabilities.numpy(), mean, rtol=1e-12)
    assert exact.n_masks == 256


def test_monte_carlo_approaches_the_exact_average():
    """Every probability lies in [0, 1], so the mean of n passes strays 5 * 0.5 / sqrt(n) at most once in 1.7 million."""
    net, n = mlp(), 1000
    exact, sampled = exact_average(net, X5), monte_carlo(net, X5, n)
    assert ((sampled.probabilities - exact.probabilities).abs() <= 5 * 0.5 / n**0.5).all()
    assert (sampled.probabilities - exact.probabilities).abs().max() < 0.03


def test_entropies_are_those_of_the_passes():
    net, n = mlp(), 7
    result = monte_carlo(net, X5, n, ids=[5, 6, 7, 8])
    parts = torch.stack([monte_carlo_pass(net, draw) for draw in range(n)])
    mean = parts.mean(0)
    entropy = -(mean * mean.log()).sum(1)
    own = -(parts * parts.log()).sum(2).mean(0)
    torch.testing.assert_close(result.probabilities, mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(result.predictive_entropy, entropy, rtol=1e-12, atol=0)
    torch.testing.assert_close(result.mutual_information, entropy - own, rtol=1e-8, atol=1e-12)
    assert torch.equal(result.predictions, parts.argmax(2))
    assert (result.mutual_information > 0).all()


def monte_carlo_pass(net, draw):
    from descend import rng

    with dropping(net), torch.no_grad(), rng.context(0, 0, [5, 6, 7, 8], draw):
        return torch.softmax(net(X5), dim=1)


def test_nothing_random_means_no_disagreement():
    result = monte_carlo(mlp(p=0.0), X5, 5)
    assert (result.mutual_information == 0).all()
    torch.testing.assert_close(result.probabilities, torch.softmax(mlp(p=0.0)(X5), 1).detach(), rtol=1e-12, atol=0)


def test_answers_do_not_depend_on_the_batch_and_repeat():
    net, ids = mlp(), [3, 1, 4, 159]
    whole = monte_carlo(net, X5, 6, ids=ids)
    part = monte_carlo(net, X5[1:3], 6, ids=ids[1:3])
    torch.testing.assert_close(part.probabilities, whole.probabilities[1:3], rtol=1e-12, atol=0)
    assert torch.equal(monte_carlo(net, X5, 6, ids=ids).probabilities, whole.probabilities)


class Functional(nn.Module):
    """Dropout as people write it: in the forward, by a functional call; and a frozen part below."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Dropout(0.5))
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        return self.out(F.dropout(self.frozen(x), 0.5, training=self.training))


def test_functional_and_torch_dropout_are_reached_and_everything_is_restored():
    torch.manual_seed(0)
    net = Functional().train()
    hold_in_eval(net.frozen)
    modes = [m.training for m in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    generator = torch.get_rng_state()
    result = monte_carlo(net, X5.float(), 30)
    assert (result.mutual_information > 1e-3).all()
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(monte_carlo(net, X5.float(), 30).probabilities, result.probabilities)


@pytest.mark.parametrize(("name", "settings"), [
    ("tf_efficientnet_lite0", {"drop_rate": 0.5}),  # functional, in forward_head
    ("resnet10t", {"drop_rate": 0.5}),
    ("resnet10t", {"drop_path_rate": 0.5}),
    ("resnet10t", {"drop_block_rate": 0.3}),
    ("vit_tiny_patch16_224", {"img_size": 32, "attn_drop_rate": 0.5, "weight_init": "moco"}),  # inside fused attention
])  # fmt: skip
def test_every_dropout_of_timm_is_reached_and_batch_norm_is_not(name, settings):
    torch.manual_seed(0)
    model, x = timm.create_model(name, pretrained=False, num_classes=4, **settings).eval(), torch.randn(2, 3, 32, 32)
    for p in model.get_classifier().parameters():
        nn.init.normal_(p, std=0.5)
    for part, p in model.named_parameters():  # zero-initialised last norms would hide the branches
        if part.endswith("bn2.weight"):
            nn.init.ones_(p)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = monte_carlo(model, x, 4)
    assert (result.mutual_information > 0).all()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(m.training for m in model.modules())


def test_what_cannot_be_averaged_is_an_error():
    with pytest.raises(KnobError, match="n must be a whole number >= 1"):
        monte_carlo(mlp(), X5, 0)
    with pytest.raises(ModelError, match="logits"):
        monte_carlo(nn.Sequential(Dropout(0.5), nn.Unflatten(1, (5, 1))), X5, 2)
    with pytest.raises(ModelError, match="must draw 1 to 7 bits"):
        exact_average(mlp(), X5, limit=7)
    with pytest.raises(ModelError, match="must draw"):
        exact_average(nn.Linear(5, 2).double(), X5)
    spectral = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(5, 2)), Dropout(0.5)).double()
    with pytest.raises(ModelError, match="must leave every buffer alone"):
        monte_carlo(spectral, X5, 2)


def test_exact_average_reaches_drop_block_and_restores_modes():
    net = nn.Sequential(DropBlock(0.3, size=2), nn.Flatten(), nn.Linear(6, 2)).double().eval()
    exact = exact_average(net, torch.randn(2, 1, 2, 3, dtype=torch.float64))
    assert exact.n_masks == 4  # two places for a square of 2 in a map of 2 x 3
    assert not any(m.training for m in net.modules())
