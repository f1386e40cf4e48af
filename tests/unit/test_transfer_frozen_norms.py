"""Norms that stand still, as part of the convolutions before them: the same function, the same gradients, the same tensors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from descend.models import Classifier, backbone
from descend.transfer import FineTuning, with_frozen_norms


def network(spec: str, freeze_to: str | None) -> Classifier:
    body = backbone(spec).build(3)
    for part in body.modules():  # norms that were learned somewhere: nothing is 0 or 1
        if isinstance(part, nn.BatchNorm2d):
            generator = torch.Generator().manual_seed(part.num_features)
            assert part.running_mean is not None
            assert part.running_var is not None
            for tensor in (part.weight.data, part.running_var):
                tensor.uniform_(0.5, 2.0, generator=generator)
            for tensor in (part.bias.data, part.running_mean):
                tensor.normal_(0.0, 0.3, generator=generator)
    classifier = Classifier(body, nn.Linear(body.n_features, 5))
    FineTuning(classifier, freeze_to=freeze_to, norm="eval").thaw()
    return classifier.double()


LITE = "lite0(pretrained=False)"


@pytest.mark.parametrize(
    ("spec", "freeze_to"), [(LITE, "block1"), (LITE, None), ("timm(model=resnet18, pretrained=False)", "layer1")]
)
def test_output_and_every_gradient_are_those_of_convolution_and_norm(spec: str, freeze_to: str | None) -> None:
    plain = network(spec, freeze_to)
    copied = copy.deepcopy(plain)
    quick = with_frozen_norms(copied, torch.randn(1, 3, 64, 64).double())
    assert not any(isinstance(part, nn.BatchNorm2d) and name for name, part in quick.named_modules() if not name.endswith("norm"))
    x, labels = torch.randn(3, 3, 64, 64).double(), torch.tensor([0, 4, 2])
    outputs = []
    for module in (plain, quick):
        module.train()
        outputs.append(module(x))
        nn.functional.cross_entropy(outputs[-1], labels).backward()
    assert torch.allclose(*outputs, rtol=1e-9)
    others = dict(copied.named_parameters())
    for name, parameter in plain.named_parameters():
        expected, found = parameter.grad, others[name].grad
        assert (expected is None) == (found is None), name
        if expected is not None and found is not None:
            assert torch.allclose(found, expected, rtol=1e-7, atol=1e-10 * float(expected.abs().max())), name


def test_the_tensors_are_the_networks_own() -> None:
    plain = network(LITE, "block1")
    quick = with_frozen_norms(plain, torch.randn(1, 3, 64, 64).double())
    assert quick is not plain
    own = {id(p) for p in plain.parameters()}
    trained = {id(p) for name, p in quick.named_parameters() if not name.endswith("conv.bias")}
    assert trained <= own
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    quick.train()
    nn.functional.cross_entropy(quick(torch.randn(4, 3, 64, 64).double()), torch.tensor([0, 1, 2, 3])).backward()
    with torch.no_grad():
        for p in plain.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
    after = plain.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if "running" in name or ".block0." in name)
    assert not torch.equal(after["backbone.stages.block6.0.conv_dw.weight"], before["backbone.stages.block6.0.conv_dw.weight"])
    for module in (plain, quick):
        module.eval()
    x = torch.randn(2, 3, 64, 64).double()
    assert torch.allclose(plain(x), quick(x), rtol=1e-9)


def test_norms_that_learn_from_batches_stay_as_they_are() -> None:
    body = backbone("resnet9(width=4)").build(0)
    quick = with_frozen_norms(body.train(), torch.randn(4, 3, 32, 32))
    n_norms = [sum(isinstance(part, nn.BatchNorm2d) for part in module.modules()) for module in (body, quick)]
    assert n_norms[0] == n_norms[1] > 0
