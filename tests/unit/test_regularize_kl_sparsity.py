"""KL sparsity against Ng's own formulas, and that watching a model changes nothing about it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import timm
import torch
from tests.oracles import regularize_forms as oracle
from torch import nn

from descend.errors import ModelError
from descend.models import Classifier, ResNet20
from descend.regularize import KLSparsity, monte_carlo
from descend.regularize.kl_sparsity import activity, kl_divergence

X = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def net(act=None):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), act or nn.Sigmoid(), nn.Linear(7, 3)).double()


def test_value_and_gradient_are_the_papers():
    model = KLSparsity(target=0.1, strength=0.3).install(net(), 0)
    model(X)
    loss = KLSparsity(target=0.1, strength=0.3).extra_loss(model)
    loss.backward()
    w, b = (p.detach().numpy() for p in model[0].parameters())
    value, gradient = oracle.sparse_sigmoid_gradient(X.numpy(), w, b, 0.1, 0.3)
    assert loss.item() == pytest.approx(value, rel=1e-12)
    assert model[0].weight.grad is not None
    np.testing.assert_allclose(model[0].weight.grad.numpy(), gradient, rtol=1e-10, atol=1e-15)
    assert model[2].weight.grad is None


@pytest.mark.parametrize("act", [nn.Sigmoid, nn.Tanh, nn.ReLU, nn.GELU])
def test_gradcheck(act):
    technique = KLSparsity(strength=0.5)
    model = technique.install(net(act()), 0)

    def penalty(x):
        model(x)
        return technique.extra_loss(model)

    assert torch.autograd.gradcheck(penalty, (X.clone().requires_grad_(),))


def test_activity_is_a_share_whatever_the_layer():
    x = torch.tensor([[-3.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(activity(nn.ReLU(), x.relu()), torch.tensor([0.0, 0.25], dtype=torch.float64))
    torch.testing.assert_close(activity(nn.Tanh(), x.tanh()), ((1 + x.tanh()) / 2).mean(0))
    torch.testing.assert_close(activity(nn.Sigmoid(), x.sigmoid()), x.sigmoid().mean(0))
    assert activity(nn.ReLU(), torch.ones(2, 3, 4, 5)).shape == (3,)
    assert activity(nn.ReLU(), torch.ones(2, 4, 6)).shape == (6,)
    assert activity(nn.ReLU(), torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.float32


def test_the_divergence_is_zero_at_the_target_and_finite_for_dead_and_saturated_units():
    rates = torch.tensor([0.05, 0.0, 1.0, 0.5], dtype=torch.float64, requires_grad=True)
    value = kl_divergence(0.05, rates)
    assert value[0].abs() < 1e-15
    assert torch.isfinite(value).all()
    assert (value[1:] > 0).all()
    value.sum().backward()
    assert rates.grad is not None
    assert torch.isfinite(rates.grad).all()


def test_training_with_it_brings_the_rates_to_the_target():
    technique = KLSparsity(target=0.2, strength=1.0)
    model = technique.install(net(), 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(200):
        model(X)
        optimizer.zero_grad()
        technique.extra_loss(model).backward()
        optimizer.step()
    assert (model[1](model[0](X)).mean(0) - 0.2).abs().max() < 0.01


def test_evaluation_and_sampling_are_left_alone():
    plain, model = net(), KLSparsity().install(net(), 0)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert torch.equal(model(X), plain(X))
    assert KLSparsity().extra_loss(model) > 0
    assert torch.equal(model.eval()(X), plain.eval()(X))
    monte_carlo(model, X, 2)
    with pytest.raises(ModelError, match="must take part in the training pass"):
        KLSparsity().extra_loss(model)


def test_a_pass_in_flight_can_be_copied_and_pickled_and_is_not_shared():
    technique = KLSparsity()
    model = technique.install(net(), 0)
    model(X)
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    loss = technique.extra_loss(model)
    for twin in twins:
        with pytest.raises(ModelError, match="must take part"):
            technique.extra_loss(twin)
        twin(X)
        torch.testing.assert_close(technique.extra_loss(twin), loss, rtol=1e-12, atol=0)


def test_a_new_pass_forgets_the_last_and_a_layer_used_twice_counts_twice():
    technique = KLSparsity()
    model = technique.install(net(), 0)
    model(X[:3])
    model(X)
    fresh = technique.install(net(), 0)
    fresh(X)
    assert torch.equal(technique.extra_loss(model), technique.extra_loss(fresh))
    act = nn.ReLU()
    twice = technique.install(nn.Sequential(nn.Linear(5, 7), act, act).double(), 0)
    once = technique.install(nn.Sequential(twice[0], nn.ReLU()), 0)
    twice(X)
    once(X)
    torch.testing.assert_close(technique.extra_loss(twice), 2 * technique.extra_loss(once), rtol=1e-12, atol=0)


def test_named_layers_are_the_ones_that_count():
    backbone = ResNet20(width=4).build(0)
    model = Classifier(backbone, nn.Linear(backbone.n_features, 3))
    technique = KLSparsity(layers=("backbone.stages.stem.act",))
    technique.install(model, 0)
    model(torch.randn(4, 3, 16, 16))
    technique.extra_loss(model).backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None}
    assert touched == {"backbone.stages.stem.conv.weight", "backbone.stages.stem.norm.weight", "backbone.stages.stem.norm.bias"}


def test_it_watches_timms_activations():
    model = timm.create_model("resnet10t", pretrained=False, num_classes=3)
    KLSparsity().install(model, 0)
    model(torch.randn(2, 3, 64, 64))
    KLSparsity().extra_loss(model).backward()
    assert model.conv1[0].weight.grad is not None


def test_what_cannot_be_watched_is_an_error():
    with pytest.raises(ModelError, match="must have an activation"):
        KLSparsity().install(nn.Linear(2, 2), 0)
    with pytest.raises(ModelError, match="layers must name modules"):
        KLSparsity(layers=("nowhere",)).install(net(), 0)
    with pytest.raises(ModelError, match="must be watched by one"):
        KLSparsity().install(KLSparsity(target=0.1).install(net(), 0), 0)
    with pytest.raises(ModelError, match="must take part"):
        KLSparsity(target=0.3).extra_loss(KLSparsity().install(net(), 0))
