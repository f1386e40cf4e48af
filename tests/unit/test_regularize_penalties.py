"""Penalties: proximal steps against their definition as minimizers, exact zeros, and what is touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.oracles import regularize_forms as oracle
from torch import nn
from torch.nn.utils import prune

from descend.errors import KnobError, ModelError
from descend.regularize import L1, L2, ElasticNet, LabelSmoothing, MaxNorm, merged_knobs, sparsity


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5)).double()


def stepped(technique, lr=0.5):
    model = net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    technique.after_step(dict(model.named_parameters()), lr)
    return before, dict(model.named_parameters())


@pytest.mark.parametrize("technique", [L1(strength=0.2), ElasticNet(l1=0.2, l2=0.5), MaxNorm(limit=0.2)])
def test_only_matrices_and_kernels_are_touched(technique):
    before, after = stepped(technique)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"0.weight", "3.weight"}


def test_frozen_parameters_are_left_alone():
    model = net()
    model[0].requires_grad_(False)
    before = model[0].weight.detach().clone()
    L1(strength=1.0).after_step(dict(model.named_parameters()), 1.0)
    assert torch.equal(model[0].weight, before)
    assert sparsity(model) == {"3.weight": 1.0, "all": 1.0}  # of the trainable weights


@pytest.mark.parametrize("technique", [L1(strength=0.2), ElasticNet(l1=0.2, l2=0.5), MaxNorm(limit=0.2)])
def test_a_norm_over_several_axes_is_left_alone(technique):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm([4, 6, 6]), nn.Flatten(), nn.Linear(144, 144))
    technique.after_step(dict(model.named_parameters()), 0.5)
    assert model[1].weight.unique().tolist() == [1.0]
    assert list(sparsity(model)) == ["0.weight", "3.weight", "all"]


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (nn.utils.parametrizations.weight_norm, "0.parametrizations.weight.original0"),
        (nn.utils.parametrizations.spectral_norm, "0.parametrizations.weight.original"),
        (nn.utils.parametrizations.orthogonal, "0.parametrizations.weight.original"),
        (nn.utils.weight_norm, "0.weight_g"),
        (nn.utils.spectral_norm, "0.weight_orig"),
        (lambda layer: prune.l1_unstructured(layer, "weight", 0.5), "0.weight_orig"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_a_weight_that_is_computed_from_others_is_refused(wrap, name):
    model = nn.Sequential(wrap(nn.Linear(4, 4)), nn.Linear(4, 2))
    for technique in (L1(), ElasticNet(), MaxNorm()):
        with pytest.raises(ModelError, match=f"penalties: weights must be parameters, not be computed from others, got '{name}'"):
            technique.after_step(dict(model.named_parameters()), 0.5)
    with pytest.raises(ModelError, match="not be computed from others"):
        sparsity(model)
    model[0].requires_grad_(False)  # what does not train is nobody's to shrink
    MaxNorm(limit=0.01).after_step(dict(model.named_parameters()), 0.5)
    assert torch.linalg.vector_norm(model[1].weight, dim=1).max() <= 0.0101


def test_l1_is_the_soft_threshold_and_its_zeros_are_exact():
    before, after = stepped(L1(strength=0.2))
    for name in ("0.weight", "3.weight"):
        expected = oracle.soft_threshold(before[name].numpy(), 0.1)
        np.testing.assert_allclose(after[name].detach().numpy(), expected, rtol=1e-12, atol=1e-16)
        assert (expected == 0).any()
        assert ((after[name].detach().numpy() == 0) == (expected == 0)).all()


def test_sparsity_is_the_share_of_exact_zeros_by_name_and_in_all():
    model = net()
    L1(strength=0.2).after_step(dict(model.named_parameters()), 0.5)
    shares = sparsity(model)
    touched = {"0.weight": model[0].weight, "3.weight": model[3].weight}
    assert list(shares) == [*touched, "all"]
    for name, p in touched.items():
        assert shares[name] == int((p == 0).sum()) / p.numel()
    together = sum(shares[name] * p.numel() for name, p in touched.items()) / sum(p.numel() for p in touched.values())
    assert 0 < shares["all"] < 1
    assert shares["all"] == pytest.approx(together, rel=1e-12)
    assert sparsity(nn.BatchNorm2d(3)) == {"all": 0.0}


def test_elastic_net_is_the_minimiser_of_its_objective():
    before, after = stepped(ElasticNet(l1=0.2, l2=0.5))
    for w, v in zip(before["3.weight"].ravel().tolist(), after["3.weight"].ravel().tolist(), strict=True):
        assert v == pytest.approx(oracle.elastic_prox(w, 0.1, 0.25), abs=1e-7)


def test_max_norm_clamps_the_long_and_leaves_the_short_to_the_bit():
    before, after = stepped(MaxNorm(limit=0.5))
    old, new = before["0.weight"].flatten(1), after["0.weight"].detach().flatten(1)
    length = old.norm(dim=1)
    assert (length > 0.5).any()
    for row, l in enumerate(length):
        if l > 0.5:
            torch.testing.assert_close(new[row], old[row] * (0.5 / l), rtol=1e-12, atol=0)
        else:
            assert torch.equal(new[row], old[row])


def test_zero_rate_or_strength_changes_nothing():
    for technique, lr in ((L1(strength=0.0), 1.0), (L1(strength=1.0), 0.0), (ElasticNet(l1=0.0, l2=0.0), 1.0)):
        before, after = stepped(technique, lr)
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_l2_and_smoothing_are_knobs_of_others_and_act_nowhere_else():
    assert L2(strength=0.01).optimizer_knobs() == {"weight_decay": 0.01}
    assert LabelSmoothing(amount=0.2).loss_knobs() == {"smoothing": 0.2}
    for technique in (L2(), LabelSmoothing()):
        before, after = stepped(technique)
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_setting_a_knob_twice_is_an_error():
    assert merged_knobs([L2(strength=0.1), L1()], "optimizer_knobs") == {"weight_decay": 0.1}
    with pytest.raises(KnobError, match="weight_decay must be set once"):
        merged_knobs([L2(strength=0.1), L2(strength=0.2)], "optimizer_knobs")
