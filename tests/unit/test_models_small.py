"""The small networks: sizes and parameter counts of the papers, initialization, every size they promise to read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from descend.models import ResNet9, ResNet20, SmallCNN, Timm, backbone
from descend.models.small import BasicBlock
from descend.models.stages import covariances, pooled


@pytest.mark.parametrize(("spec", "smallest"), [("smallcnn(width=8)", 4), ("resnet9(width=4)", 8), ("resnet20(width=4)", 4)])
def test_any_square_from_the_smallest_on_can_be_read(spec, smallest):
    net = backbone(spec).build(0)
    assert net.min_size == smallest
    for size in (smallest, smallest + 1, 28, 33):
        net.check_size(size)
        assert net(torch.zeros(2, 3, size, size)).shape == (2, net.n_features)


def test_resnet20_has_the_papers_parameters():
    net = ResNet20().build(0)
    # He et al. 2016, table 6: 0.27 M with a classifier of 10 classes on 64 features
    assert sum(p.numel() for p in net.parameters()) + 65 * 10 == 269_722
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == 19


def test_resnet9_has_the_sources_parameters():
    convs = [m for m in ResNet9().build(0).modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [64, 128, 128, 128, 256, 512, 512, 512]


def test_weights_follow_the_seed_and_he_et_al():
    first, again, other = (SmallCNN(width=64).build(seed) for seed in (1, 1, 2))
    assert first.weights_id == again.weights_id != other.weights_id
    for module in first.modules():
        if isinstance(module, nn.Conv2d):
            expected = (2 / (module.out_channels * 9)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.1)


def test_the_shortcut_of_a_narrowing_block_has_no_parameters_and_keeps_every_second_pixel():
    block = BasicBlock(2, 4, stride=2).eval()
    nn.init.zeros_(block.conv.weight)
    x = torch.rand(1, 2, 6, 6)
    expected = torch.zeros(1, 4, 3, 3)
    expected[:, 1:3] = x[:, :, ::2, ::2]
    assert torch.equal(block(x), expected)


def test_tapped_stages_stand_before_the_features_in_their_order() -> None:
    body = ResNet9(width=4).build(0).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    late = body.late_stages
    outputs, value = {}, x
    with torch.no_grad():
        for name, stage in body.stages.named_children():
            value = stage(value)
            outputs[name] = value
        plain = body(x)
        body.tap(reversed(late))
        tapped = body(x)
    assert late
    assert body.taps == late
    expected = torch.cat([*(outputs[name].flatten(2).mean(2) for name in late), plain], 1)
    assert tapped.shape[1] == body.n_features
    assert torch.allclose(tapped, expected, atol=1e-6)
    body.tap(())
    assert body.n_features == plain.shape[1]


def test_quarters_and_covariances_stand_before_the_means_and_odd_sides_share_the_middle() -> None:
    body = ResNet9(width=4).build(0).eval()
    x = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))  # maps of 10 and 5 pixels, and more
    outputs, value = {}, x
    with torch.no_grad():
        for name, stage in body.stages.named_children():
            value = stage(value)
            outputs[name] = value
        body.tap(body.every_tap)
        tapped = body(x)
    parts = [name.removesuffix("/quarters") for name in body.late_quarters]
    assert parts
    assert set(parts) < set(body.late_stages)
    expected = [adaptive_avg_pool2d(outputs[name], 2).flatten(2).transpose(1, 2).flatten(1) for name in parts]
    (middle,) = (name.removesuffix("/covariances") for name in body.late_covariances)
    assert middle in body.late_stages
    expected.append(covariances_by_numpy(outputs[middle].flatten(2)))
    expected += [outputs[name].flatten(2).mean(2) for name in body.late_stages]
    assert torch.allclose(tapped, torch.cat([*expected, value], 1), atol=1e-6)
    assert body.n_features == tapped.shape[1] == body.n_columns(body.every_tap)
    for taps in body.feature_sets.values():  # fewer taps are the last columns of more
        body.tap(taps)
        with torch.no_grad():
            assert torch.equal(body(x), tapped[:, -body.n_columns(taps) :])


def covariances_by_numpy(places: torch.Tensor) -> torch.Tensor:
    """Of (B, C, N), as NumPy has them."""
    every = [np.atleast_2d(np.cov(picture.double().numpy(), bias=True)) for picture in places]
    return torch.from_numpy(np.stack([matrix[np.triu_indices(len(matrix))] for matrix in every])).float()


@pytest.mark.parametrize(("n_channels", "step"), [(1, 1), (64, 1), (65, 2), (112, 2), (192, 3), (200, 4)])
def test_covariances_are_those_of_64_channels_at_most_evenly_spaced(n_channels: int, step: int) -> None:
    x = torch.randn(3, n_channels, 7, 5, generator=torch.Generator().manual_seed(0)) + 10
    expected = covariances_by_numpy(x.flatten(2)[:, ::step])
    assert torch.allclose(covariances(x), expected, atol=1e-5)
    assert torch.allclose(covariances(x.flatten(2).transpose(1, 2)), expected, atol=1e-5)  # as tokens
    assert expected.shape[1] <= 2080


def test_tokens_have_covariances_but_no_quarters() -> None:
    body = Timm(model="vit_tiny_patch16_224", pretrained=False).build(0).eval()
    assert body.late_quarters == ()
    (tap,) = body.late_covariances
    assert body.feature_sets["covariances"] == (tap, *body.late_stages)
    assert "quarters" not in body.feature_sets
    body.tap(body.every_tap)
    with torch.no_grad():
        assert body(torch.zeros(1, 3, 224, 224)).shape == (1, body.n_features)


def test_a_stage_that_is_nothing_but_the_features_before_pooling_is_not_tapped() -> None:
    body = Timm(model="resnet18", pretrained=False).build(0)
    assert body.late_stages == ("layer2", "layer3")


def test_tokens_are_averaged() -> None:
    tokens = torch.arange(12.0).reshape(1, 3, 4)
    assert pooled(tokens).tolist() == [[4.0, 5.0, 6.0, 7.0]]
    assert pooled(tokens[0]).shape == (3, 4)
