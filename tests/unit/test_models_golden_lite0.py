"""Lite0 as it was trained: the logits of its own ImageNet classifier on one drawn picture.

Wrong padding, a wrong epsilon or a wrong normalisation would each leave a network that runs and is worse; they move these
numbers by much more than the tolerance, which the last tests show.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from descend.models import backbone, to_input
from descend.models.pretrained import lite0_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "lite0_logits.json"


def drawn_picture() -> np.ndarray:
    """A red disc with a green stalk on a blue gradient: (224, 224, 3) uint8, the same on every machine."""
    y, x = np.mgrid[:224, :224]
    picture = np.stack([40 + y // 4, 80 + x // 4, 200 - (x + y) // 8], axis=-1)
    picture[(x - 112) ** 2 + (y - 130) ** 2 < 70**2] = (200, 40, 30)
    picture[(abs(x - 116) < 5) & (y > 30) & (y < 70)] = (60, 140, 40)
    return picture.astype(np.uint8)


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    net = backbone("lite0").build(0).eval()
    weights = lite0_weights()
    x = to_input(torch.from_numpy(drawn_picture())[None], net.mean, net.std)
    with torch.inference_mode():
        return nn.functional.linear(net(x), weights["_fc.weight"], weights["_fc.bias"])[0]


def test_the_logits_are_the_golden_ones(logits):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    np.testing.assert_allclose(logits[:: golden["every"]].numpy(), golden["logits"], atol=golden["atol"])
    assert logits.argsort(descending=True)[:5].tolist() == golden["top5"]


@pytest.mark.parametrize(
    ("name", "eps", "mean"),
    [("efficientnet_lite0", 1e-3, 0.5), ("tf_efficientnet_lite0", 1e-5, 0.5), ("tf_efficientnet_lite0", 1e-3, 0.45)],
    ids=["padding", "eps", "mean"],
)
def test_a_wrong_padding_eps_or_mean_would_show(logits, name, eps, mean):
    wrong = timm.create_model(name, pretrained=False)
    wrong.load_state_dict(dict(zip(wrong.state_dict(), lite0_weights().values(), strict=True)))
    for module in wrong.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
    with torch.inference_mode():
        found = wrong.eval()(to_input(torch.from_numpy(drawn_picture())[None], (mean,) * 3, (0.5,) * 3))[0]
    assert (found - logits).abs().max() > 0.05
