"""Ghost batches against the written-out normalization, and batch-norm statistics measured again."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from tests.oracles import regularize_forms as oracle
from torch import nn

from descend.errors import DataError, KnobError, ModelError
from descend.regularize import Dropout, GhostBatchNorm, GhostBatchNorm2d, StochasticDepth, hold_in_eval, reestimate_batch_norm
from descend.regularize.install import drop_output
from descend.regularize.norm import set_norm_policy, told_to_train


def pictures(n, c=3, seed=0):
    return torch.randn(n, c, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 + 1


@pytest.mark.parametrize(("n", "groups"), [(12, [4, 4, 4]), (14, [4, 4, 4, 2]), (13, [4, 4, 5]), (3, [3]), (1, [1])])
def test_each_group_is_normalised_alone(n, groups):
    norm, x = GhostBatchNorm2d(3, 4).double(), pictures(n)
    np.testing.assert_allclose(norm(x).detach().numpy(), oracle.ghost_batch_norm(x.numpy(), groups, 1e-5), rtol=1e-10, atol=1e-12)


def test_one_group_is_torchs_batch_norm_in_output_statistics_and_gradient():
    ghost, plain = GhostBatchNorm2d(3, 8).double(), nn.BatchNorm2d(3).double()
    plain.load_state_dict(ghost.state_dict())
    for seed in range(3):
        x, y = (pictures(8, seed=seed).requires_grad_() for _ in range(2))
        a, b = ghost(x), plain(y)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
        a.square().sum().backward()
        b.square().sum().backward()
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-10, atol=1e-12)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ghost.state_dict()[name], value, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(ghost.eval()(x), plain.eval()(y), rtol=1e-12, atol=1e-14)


def test_running_statistics_take_one_step_with_the_groups_mean():
    norm, x = GhostBatchNorm2d(3, 4, momentum=0.25).double(), pictures(8)
    norm(x)
    groups = x.numpy().reshape(2, 4, 3, 20).transpose(0, 2, 1, 3).reshape(2, 3, 80)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.25 * groups.mean(2).mean(0), rtol=1e-12)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.75 + 0.25 * groups.var(2, ddof=1).mean(0), rtol=1e-12)
    assert norm.num_batches_tracked == 1


def test_gradcheck():
    norm = GhostBatchNorm2d(2, 2, track_running_stats=False).double()
    x = torch.randn(5, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,), fast_mode=True)


def test_a_single_value_per_channel_and_a_ghost_of_one_are_errors():
    with pytest.raises(ModelError, match="more than one value"):
        GhostBatchNorm2d(3, 4)(torch.ones(1, 3, 1, 1))
    with pytest.raises(KnobError, match="ghost must be"):
        GhostBatchNorm2d(3, 1)


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0"])
def test_installed_it_changes_training_only_and_respects_held_norms(name):
    torch.manual_seed(0)
    model, x = timm.create_model(name, pretrained=False, num_classes=3).eval(), torch.randn(8, 3, 32, 32)
    names, reference = list(model.state_dict()), model(x)
    held = model.bn1 if name.startswith("resnet") else model.blocks[0]
    hold_in_eval(held)
    held_before = {key: value.clone() for key, value in held.state_dict().items()}
    GhostBatchNorm(size=4).install(model, 0)
    assert list(model.state_dict()) == names
    assert torch.equal(model(x), reference)
    ghosts = [m for m in model.modules() if isinstance(m, GhostBatchNorm2d)]
    assert len(ghosts) == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    model.train()(x).sum().backward()
    assert all(torch.equal(value, held_before[key]) for key, value in held.state_dict().items())
    with pytest.raises(ModelError, match="must have a BatchNorm2d"):
        GhostBatchNorm().install(nn.Linear(2, 2), 0)


def test_reestimation_is_the_mean_over_the_batches():
    model = nn.Sequential(Dropout(0.5), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).double().train()
    batches = [pictures(4, seed=seed) for seed in range(5)]
    parameters = [p.clone() for p in model.parameters()]
    assert reestimate_batch_norm(model, iter(batches)) == 5
    means = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    variances = torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0)
    torch.testing.assert_close(model[1].running_mean, means, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(model[1].running_var, variances, rtol=1e-12, atol=1e-14)
    assert model[1].momentum == 0.1
    assert all(m.training for m in model.modules())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), parameters, strict=True))


def test_reestimation_leaves_held_norms_and_needs_a_batch():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)).double()
    hold_in_eval(model[0])
    before = model[1].running_mean.clone()
    with pytest.raises(DataError, match="at least one batch"):
        reestimate_batch_norm(model, [])
    assert torch.equal(model[1].running_mean, before)
    reestimate_batch_norm(model, [pictures(4)])
    assert torch.equal(model[0].running_mean, torch.zeros(3).double())
    assert not torch.equal(model[1].running_mean, before)


def test_reestimation_switches_no_drop_layer_on_that_a_norm_holds():
    plain = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).double()
    dropping = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).double()
    dropping.load_state_dict(plain.state_dict())
    drop_output(dropping[0], StochasticDepth(0.5))
    for model in (plain, dropping):
        reestimate_batch_norm(model, [pictures(4, seed=seed) for seed in range(3)])
    for name, value in plain.state_dict().items():
        assert torch.equal(dropping.state_dict()[name], value), name
    set_norm_policy(dropping[0], "eval")
    before = dropping[0].running_mean.clone()
    reestimate_batch_norm(dropping, [pictures(4)])
    torch.testing.assert_close(dropping[2].running_mean, dropping[1](dropping[0].eval()(pictures(4))).mean((0, 2, 3)))
    assert torch.equal(dropping[0].running_mean, before)


def test_reestimation_leaves_no_word_with_held_parts():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)).double()
    hold_in_eval(model[0])
    model.train()
    reestimate_batch_norm(model, [pictures(4)])
    assert told_to_train(model[0])


@pytest.mark.parametrize("affine", [True, False])
def test_half_precision_inputs_are_measured_in_the_precision_of_the_weights(affine):
    norm = GhostBatchNorm2d(3, 4, momentum=1.0, affine=affine)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(pictures(8).bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(norm.running_mean, pictures(8).bfloat16().float().mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
