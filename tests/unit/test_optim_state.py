"""Saved state: whose it is, and which parameter gets which part of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from descend.errors import KnobError
from descend.optim import Optimizer, parameter_groups

TORCHS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9}), ("AdamW", {}), ("RMSprop", {}), ("Adagrad", {}), ("Adadelta", {}), ("NAdam", {}),
    ("Adafactor", {}), ("Muon", {}),
]  # fmt: skip


@pytest.mark.parametrize("rule", ["sgd", "signsgd"])
@pytest.mark.parametrize(("name", "settings"), TORCHS, ids=[name for name, _ in TORCHS])
def test_state_of_torch_is_refused_also_by_rules_without_knobs_of_their_own(
    name: str, settings: dict[str, Any], rule: str
) -> None:
    if not hasattr(torch.optim, name):
        pytest.skip(f"this torch has no {name}")
    layer = nn.Linear(4, 8, bias=False)
    theirs = getattr(torch.optim, name)(layer.parameters(), **settings)
    layer(torch.ones(1, 4)).sum().backward()
    theirs.step()
    optimizer = Optimizer(layer.parameters(), rule)
    with pytest.raises(KnobError, match=r"optim\.from_torch"):
        optimizer.load_state_dict(theirs.state_dict())
    assert not optimizer.state


def test_state_that_has_lost_its_mark_is_known_by_its_settings() -> None:
    layer = nn.Linear(2, 2)
    optimizer = Optimizer(layer.parameters(), "momentum")
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        del group["rule"]
    again = Optimizer(layer.parameters(), "momentum")
    again.load_state_dict(saved)
    assert torch.equal(again.state[layer.weight]["v"], optimizer.state[layer.weight]["v"])


class Parts(nn.Module):
    """Layers of one shape, made in some order."""

    def __init__(self, *order: str) -> None:
        super().__init__()
        for number, name in enumerate(order):
            self.add_module(name, nn.LayerNorm(3) if name.startswith("norm") else nn.Linear(3, 3))
            nn.init.constant_(self.get_parameter(f"{name}.weight"), float(number))


def _saved(*order: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the state after a step in which each parameter has a gradient of its own, and these gradients."""
    model, gradients = Parts(*order), dict[str, float]()
    for number, (name, parameter) in enumerate(sorted(model.named_parameters())):
        gradients[name] = number + 1.0
        parameter.grad = torch.full_like(parameter, gradients[name])
    optimizer = Optimizer(parameter_groups(model), "momentum(lr=0.1, momentum=0.9)")
    optimizer.step()
    return optimizer.state_dict(), gradients


@pytest.mark.parametrize("order", [("a", "b", "norm"), ("b", "a", "norm"), ("norm", "b", "a")])
def test_each_parameter_gets_the_state_of_its_name(order: tuple[str, ...]) -> None:
    saved, gradients = _saved("a", "b", "norm")
    model = Parts(*order)
    optimizer = Optimizer(parameter_groups(model), "momentum")
    optimizer.load_state_dict(saved)
    for name, parameter in model.named_parameters():
        assert optimizer.state[parameter]["v"].unique().tolist() == [gradients[name]]
    for group in optimizer.param_groups:
        assert all(model.get_parameter(name) is p for name, p in zip(group["param_names"], group["params"], strict=True))
        assert group["name"] == ("all" if group["params"][0].ndim > 1 else "all/no_decay")


def test_names_that_stand_elsewhere_are_refused_and_new_names_are_not() -> None:
    saved, gradients = _saved("a", "b")
    model = Parts("a", "c")
    renamed = Optimizer(parameter_groups(model), "momentum")
    renamed.load_state_dict(saved)
    assert renamed.state[model.c.weight]["v"].unique().tolist() == [gradients["b.weight"]]
    assert renamed.param_groups[0]["param_names"] == ["a.weight", "c.weight"]
    other = Optimizer(parameter_groups(Parts("b", "c")), "momentum")
    with pytest.raises(KnobError, match=r"the state of 'b\.weight' must stand in its place, 0, got 'place 1'\."):
        other.load_state_dict(saved)


def test_an_open_window_needs_a_stage_that_closes_it() -> None:
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = Optimizer([parameter], "sgd(lr=1.0)", gradients="accumulate(n=2)")
    parameter.grad = torch.ones(1)
    optimizer.step()
    saved = optimizer.state_dict()
    with pytest.raises(KnobError, match=r"a stage must accumulate, for the state holds an open window, got '1 pending'"):
        Optimizer([parameter], "sgd").load_state_dict(saved)
    again = Optimizer([parameter], "sgd(lr=1.0)", gradients="accumulate(n=4)")
    again.load_state_dict(saved)
    assert again.flush()
    assert parameter.item() == -1.0
    Optimizer([parameter], "sgd").load_state_dict(again.state_dict())
