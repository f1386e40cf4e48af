"""Where a network looked: the map is that of the textbook's formula, and networks without places get none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from descend.errors import ModelError
from descend.models import Backbone, Classifier, Ensemble, Member
from descend.train import report_examples
from descend.train.grad_cam import GradCam, grad_cam, spotlights
from descend.train.record import RunRecord


class Pool(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def network(*, side: int = 4, head: nn.Module | None = None) -> Classifier:
    torch.manual_seed(0)
    stages = {"stem": nn.Conv2d(3, 5, 8 // side * 4, stride=8 // side * 4), "block": nn.Conv2d(5, 6, 1), "pool": Pool()}
    return Classifier(Backbone("small", stages, n_features=6, native_size=32), head or nn.Linear(6, 3))


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)


def asked(net: Classifier | Ensemble, x: torch.Tensor, answers: np.ndarray) -> GradCam:
    found = grad_cam(net, x, answers)
    assert found is not None
    return found


def pictures(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_for_a_linear_head_the_map_is_the_class_activation_map() -> None:
    net, x, answers = network(), pictures(), np.array([0, 2, 1])
    found = asked(net, x, answers).maps
    assert isinstance(net.head, nn.Linear)
    with torch.no_grad():
        maps = net.backbone.stages[:2](x)  # Zhou et al. 2016, equation 2, with the mean's 1 / 16
        expected = torch.einsum("bc,bchw->bhw", net.head.weight[answers], maps).relu() / 16
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-6)
    assert found.max() > 0


def test_for_any_head_it_is_grad_cam() -> None:
    net, x, answers = network(head=nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))), pictures(), np.array([1, 1, 0])
    maps = net.backbone.stages[:2](x).detach().requires_grad_()
    logits = net.head(maps.mean((2, 3)))
    (gradient,) = torch.autograd.grad(logits[range(3), answers].sum(), maps)
    expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu().detach().numpy()
    found = asked(net, x, answers).maps
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_an_ensemble_is_asked_by_its_heaviest_member() -> None:
    light, heavy, x, answers = network(), network(head=nn.Linear(6, 3)), pictures(), np.array([0, 1, 2])
    joined = Ensemble([Member(light, mirrored=False), Member(heavy, mirrored=True)], [0.3, 0.7])
    found = asked(joined, x, answers)
    assert found.network is heavy
    assert found.weight == pytest.approx(0.7)
    np.testing.assert_array_equal(found.maps, asked(heavy, x, answers).maps)


def test_of_an_ensemble_a_member_without_places_is_passed_over() -> None:
    coarse, fine, x, answers = network(side=2), network(), pictures(), np.array([0, 1, 2])
    found = asked(Ensemble([Member(coarse, mirrored=False), Member(fine, mirrored=False)], [0.8, 0.2]), x, answers)
    assert found.network is fine
    assert found.weight == pytest.approx(0.2)
    np.testing.assert_array_equal(found.maps, asked(fine, x, answers).maps)


def test_a_network_that_autograd_refuses_is_told_with_the_stage() -> None:
    net = network()
    net.backbone.stages.add_module("block", Doubled())
    with pytest.raises(ModelError, match="small: cannot be differentiated after its stage stem "):
        grad_cam(net, pictures(), np.zeros(3, np.int64))


def test_nothing_is_left_behind() -> None:
    net = network().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    asked(net, pictures(), np.zeros(3, np.int64))
    assert net.training
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(stage._forward_hooks for stage in net.backbone.stages)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_too_few_places_say_nothing() -> None:
    assert grad_cam(network(side=2), pictures(), np.zeros(3, np.int64)) is None


def record() -> RunRecord:
    prepared = {"architecture": "small", "resolution": 40, "size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "scale": None,
                "background": "white", "fit": "crop", "taps": [], "members": []}  # fmt: skip
    return RunRecord(preprocessing=prepared)  # pyright: ignore[reportArgumentType]


def test_a_spotlight_leaves_the_picture_where_the_network_looked_and_fades_the_rest_to_a_flat_gray() -> None:
    net = network()
    images = np.random.default_rng(0).integers(60, 250, (6, 40, 40, 3), dtype=np.uint8)
    found = spotlights(net, record(), images, np.array([0, 1, 2, 0, 1, 2]))
    seen = images[:, 4:36, 4:36]
    lit = [(spot, picture) for spot, picture in zip(found, seen, strict=True) if spot is not None]
    assert lit
    for spot, picture in lit:
        assert spot.shape == (32, 32, 3)
        colors, kept = (np.ptp(pixels.astype(int), axis=2) for pixels in (picture, spot))
        assert (kept <= colors + 1).all()
        share = kept[colors > 60] / colors[colors > 60]
        assert share.max() > 0.95
        assert share.min() < 0.3
        gray = np.asarray(Image.fromarray(picture).convert("L"), float)[..., None]
        low, high = np.minimum(picture, 128 + 0.35 * (gray - 128)), np.maximum(picture, 128 + 0.35 * (gray - 128))
        assert ((spot >= low - 1) & (spot <= high + 1)).all()
    assert spotlights(network(side=2), record(), images, np.zeros(6, np.int64)) == [None] * 6


@pytest.mark.parametrize("spots", [[None, np.full((32, 32, 3), 7, np.uint8)], [None, None]])
def test_mistakes_carry_what_was_found(spots: list[np.ndarray | None]) -> None:
    probs, labels = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], np.float32), np.array([1, 1, 1])
    asked: list[np.ndarray] = []

    def looked(images: np.ndarray, answers: np.ndarray) -> list[np.ndarray | None]:
        asked.append(answers)
        assert images.shape == (2, 300, 300, 3)
        return spots

    answers = report_examples.Answers(
        ["a", "b", "c"], ["val"] * 3, labels, probs, ("x", "y"), lambda _: np.zeros((300, 300, 3), np.uint8), looked
    )
    found = report_examples.mistakes(answers)
    assert [("looked" in item) for item in found] == [spot is not None for spot in spots]
    assert asked[0].tolist() == [0, 0]  # where it looked for what it answered
