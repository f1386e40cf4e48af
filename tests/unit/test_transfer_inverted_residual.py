"""Quick inverted residual blocks: what torch computes of the same blocks, forwards and backwards, whatever sizes and threads."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from descend.models import Classifier, backbone
from descend.transfer import FineTuning, with_frozen_norms, with_quick_blocks
from descend.transfer.inverted_residual import Pointwise, QuickBlock, _ClippedDepthwise, _geometry
from descend.transfer.inverted_residual_kernels import Geometry, backward, forward

LITE, MOBILE = "lite0(pretrained=False)", "timm(model=mobilenetv2_100, pretrained=False)"


def network(spec: str, freeze_to: str | None, size: int) -> tuple[Classifier, nn.Module]:
    torch.manual_seed(4)
    body = backbone(spec).build(3)
    for part in body.modules():  # norms that were learned somewhere: nothing is 0 or 1
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.uniform_(0.7, 1.5)
            part.bias.data.normal_(0.0, 0.3)
    body.eval()
    with torch.no_grad():  # maps of the usual size in every depth, so that both ends of the clipping are met
        body.train()(torch.randn(16, 3, size, size))
        body.eval()
    body.tap(body.late_stages)
    classifier = Classifier(body, nn.Linear(body.n_features, 5))
    FineTuning(classifier, freeze_to=freeze_to, norm="eval").thaw()
    example = torch.randn(1, 3, size, size)
    classifier = classifier.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in torch's stub)
    return classifier, with_frozen_norms(classifier, example)


def gradients(module: nn.Module, owner: nn.Module | None, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    owner = owner or module
    owner.zero_grad()
    out = module.train()(x)
    functional.cross_entropy(out, torch.arange(len(x)) % 5).backward()
    return out.detach(), {name: p.grad.clone() for name, p in owner.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("spec", "freeze_to", "size"), [(LITE, "block1", 64), (LITE, None, 72), (MOBILE, None, 64)])
def test_outputs_and_gradients_are_those_of_the_plain_network(spec: str, freeze_to: str | None, size: int) -> None:
    classifier, plain = network(spec, freeze_to, size)
    quick = with_quick_blocks(plain, torch.randn(1, 3, size, size), torch.float32)
    assert any(isinstance(part, QuickBlock) for part in quick.modules())
    x = torch.randn(6, 3, size, size).contiguous(memory_format=torch.channels_last)
    torchs, found = gradients(plain, classifier, x), gradients(quick, classifier, x)
    exact = gradients(copy.deepcopy(classifier).double(), None, x.double())
    torch.testing.assert_close(found[0], torchs[0], rtol=1e-3, atol=1e-4)
    assert found[1].keys() == torchs[1].keys()
    for name, grad in exact[1].items():  # float32 decides otherwise at an edge of the clipping now and then: torch's too
        errors = [float((each[1][name].double() - grad).norm() / grad.norm()) for each in (found, torchs)]
        assert errors[0] <= 3 * max(errors[1], 5e-3), name


def test_bfloat16_gives_gradients_that_point_the_same_way() -> None:
    classifier, plain = network(LITE, "block1", 64)
    quick = with_quick_blocks(plain, torch.randn(1, 3, 64, 64), torch.bfloat16)
    x = torch.randn(6, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    expected, found = gradients(plain, classifier, x)[1], gradients(quick, classifier, x)[1]
    whole = [torch.cat([grads[name].flatten() for name in expected]) for grads in (expected, found)]
    assert float(functional.cosine_similarity(*whole, dim=0)) > 0.98
    assert all(grad.dtype == torch.float32 for grad in found.values())


def test_the_tensors_are_the_networks_own() -> None:
    classifier, plain = network(LITE, "block1", 64)
    quick = with_quick_blocks(plain, torch.randn(1, 3, 64, 64), torch.float32)
    own = {id(p) for p in classifier.parameters()}
    assert {id(p) for name, p in quick.named_parameters() if not name.endswith("conv.bias")} <= own
    assert any(isinstance(part, Pointwise) for part in quick.modules())  # the convolution behind the last block


@pytest.mark.parametrize("spec", ["timm(model=mobilenetv3_small_050, pretrained=False)", "resnet9(width=4)"])
def test_other_blocks_stay_as_they_are(spec: str) -> None:
    body = backbone(spec).build(0).eval()
    example = torch.randn(1, 3, 64, 64)
    module = with_frozen_norms(body, example)
    assert with_quick_blocks(module, example, torch.float32) is module


def test_blocks_whose_norms_learn_stay_as_they_are() -> None:
    body = backbone(LITE).build(0).train()
    assert with_quick_blocks(body, torch.randn(1, 3, 64, 64), torch.float32) is body


def convolution(side: int, stride: int, padding: int | str, channels: int) -> Any:
    from timm.layers.conv2d_same import Conv2dSame  # TensorFlow's padding: more zeros behind than before

    if padding == "tensorflow":
        return Conv2dSame(channels, channels, side, stride, groups=channels)
    return nn.Conv2d(channels, channels, side, stride, padding, groups=channels)


CASES = [(3, 1, 1, 8), (3, 2, 1, 9), (5, 1, 2, 7), (5, 2, "tensorflow", 8), (5, 2, "tensorflow", 7), (3, 2, "tensorflow", 16),
         (7, 1, 3, 6), (3, 1, 0, 5), (5, 1, 2, 2)]  # fmt: skip


@pytest.mark.parametrize(("side", "stride", "padding", "size"), CASES)
@pytest.mark.parametrize("limits", [(0.0, 6.0, 6.0), (-math.inf, math.inf, 6.0), (0.0, math.inf, math.inf)])
def test_a_clipped_convolution_is_torchs(side, stride, padding, size, limits) -> None:
    torch.manual_seed(1)
    conv = convolution(side, stride, padding, 32)
    x = (3 * torch.randn(5, 32, size, size + 1)).requires_grad_()
    expected = conv(x.clamp(*limits[:2])).clamp(0, limits[2])
    towards = torch.randn_like(expected)
    expected.backward(towards)
    wanted = [x.grad, conv.weight.grad, conv.bias.grad]
    x.grad = conv.weight.grad = conv.bias.grad = None
    last = x.permute(0, 2, 3, 1)
    found = _ClippedDepthwise.apply(
        last, conv.weight[:, 0].permute(1, 2, 0), conv.bias, _geometry(conv, size, size + 1), limits
    ).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    found.backward(towards)
    for one, other in zip([x.grad, conv.weight.grad, conv.bias.grad], wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_rounded_as_torch_rounds_it() -> None:
    conv: Any = nn.Conv2d(16, 16, 3, padding=1, groups=16)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    conv.weight.data[:, 0, 1, 1] = 1.1  # one tap, so that no sum is rounded
    x = (4 * torch.randn(3, 9, 9, 16)).bfloat16()
    weight = conv.weight[:, 0].permute(1, 2, 0)
    found = _ClippedDepthwise.apply(x, weight, conv.bias, _geometry(conv, 9, 9), (-math.inf, math.inf, math.inf))
    assert torch.equal(found, (x.float() * weight[1, 1]).clamp(min=0).bfloat16())


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_the_number_of_threads_changes_no_bit(dtype) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(11, 9, 9, 32)).astype(np.float32)
    grad = rng.normal(size=(11, 9, 9, 32)).astype(np.float32)
    if dtype is np.int16:
        x, grad = ((array.view(np.int32) >> 16).astype(np.int16) for array in (x, grad))
    weight, bias = rng.normal(size=(5, 5, 32)).astype(np.float32), rng.normal(size=32).astype(np.float32)
    geometry, limits = Geometry(5, 1, 9, 9, 9, 9, 2, 2), (0.0, 6.0, 6.0)
    made = [forward(x, weight, bias, geometry, limits, n) for n in (1, 3, 64)]
    assert all(np.array_equal(y, made[0]) for y in made)
    sums = [backward(x, made[0], grad, weight, geometry, limits, n) for n in (1, 3, 64)]
    assert all(np.array_equal(a, b) for each in sums for a, b in zip(each, sums[0], strict=True))


def test_what_is_not_a_number_is_seen_behind_the_block() -> None:
    _, plain = network(LITE, "block1", 64)
    quick = with_quick_blocks(plain, torch.randn(1, 3, 64, 64), torch.float32)
    x = torch.randn(2, 3, 64, 64)
    x[1, 0, 5, 5] = math.nan
    out = quick(x)
    assert bool(out[0].isfinite().all())
    assert bool(out[1].isnan().any())


class InvertedResidual(nn.Sequential):
    """A block of somebody else's, with nothing of timm's but the name."""


def test_blocks_of_others_stay_as_they_are_whatever_their_name() -> None:
    body = nn.Sequential(InvertedResidual(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())).eval()
    example = torch.randn(1, 3, 16, 16)
    module = with_frozen_norms(body, example)
    assert with_quick_blocks(module, example, torch.float32) is module
