"""Parameter groups: everything trainable once, nothing else, nothing decayed that should not be."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from descend.errors import KnobError
from descend.optim import Optimizer, parameter_groups


def net() -> nn.Sequential:
    model = nn.Sequential()
    model.add_module("stem", nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    model.add_module("blocks", nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    model.add_module("head", nn.Linear(4, 2))
    return model


def test_every_trainable_parameter_stands_in_exactly_one_group() -> None:
    model = net()
    model.stem[0].weight.requires_grad_(False)
    groups = parameter_groups(model)
    names = [name for group in groups for name in group["param_names"]]
    assert sorted(names) == sorted(name for name, p in model.named_parameters() if p.requires_grad)
    for group in groups:
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            assert parameter is model.get_parameter(name)
            assert ("weight_decay" in group) == (parameter.ndim <= 1)
    assert {group["name"] for group in groups} == {"all", "all/no_decay"}


def test_norms_and_biases_of_several_axes_are_not_decayed() -> None:
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(1, 3))

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm([4, 6, 6]), nn.RMSNorm([4, 6, 6]), Biased(), nn.GroupNorm(2, 4))
    decayed = [group["param_names"] for group in parameter_groups(model) if "weight_decay" not in group]
    assert decayed == [["0.weight", "3.weight"]]


def test_stages_have_rates() -> None:
    groups = parameter_groups(net(), rates={"stem": 0.1, "blocks": 0.5})
    scales = {group["name"]: group["lr_scale"] for group in groups}
    assert scales == {
        "stem": 0.1, "stem/no_decay": 0.1, "blocks": 0.5, "blocks/no_decay": 0.5, "head": 1.0, "head/no_decay": 1.0,
    }  # fmt: skip


def test_stage_of_decides() -> None:
    groups = parameter_groups(net(), no_decay=False, rates={"new": 2.0}, stage_of=lambda name: "new" if "head" in name else "old")
    assert [(group["name"], len(group["params"]), group["lr_scale"]) for group in groups] == [("old", 8, 1.0), ("new", 2, 2.0)]


def test_tied_weights_count_once() -> None:
    model = net()
    model.blocks[1].weight = model.blocks[0].weight
    params = [parameter for group in parameter_groups(model) for parameter in group["params"]]
    assert len(params) == len({id(parameter) for parameter in params})


def test_the_optimizer_takes_the_groups() -> None:
    model = net()
    optimizer = Optimizer(parameter_groups(model, rates={"stem": 0.1}), "adamw(weight_decay=0.3)")
    decays = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decays["head"] == 0.3
    assert decays["head/no_decay"] == 0.0
    assert optimizer.state_dict()["param_groups"][0]["lr_scale"] == 0.1


def test_rates_of_stages_hold_in_ones_own_loop() -> None:
    model, twin = net(), net()
    twin.load_state_dict(model.state_dict())
    ours = Optimizer(parameter_groups(model, rates={"stem": 0.1, "blocks": 0.0}), "sgd(lr=0.5)")
    theirs = torch.optim.SGD(
        [{"params": twin.stem.parameters(), "lr": 0.05}, {"params": twin.blocks.parameters(), "lr": 0.0},
         {"params": twin.head.parameters()}], lr=0.5,
    )  # fmt: skip
    assert sorted({group["lr"] for group in ours.param_groups}) == [0.0, 0.05, 0.5]
    for each, optimizer in ((model, ours), (twin, theirs)):
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for _ in range(3):
            optimizer.zero_grad()
            sum(parameter.square().sum() for parameter in each.parameters()).backward()
            optimizer.step()
            scheduler.step()
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_a_rate_that_is_given_to_a_group_stays() -> None:
    parameter = nn.Parameter(torch.ones(1))
    assert Optimizer([{"params": [parameter], "lr_scale": 0.1, "lr": 0.3}], "sgd").param_groups[0]["lr"] == 0.3
    optimizer = Optimizer([{"params": [parameter], "lr_scale": 0.1}], "ema(sgd)", lr=0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr_scale": 2.0})
    assert optimizer.param_groups[1]["lr"] == pytest.approx(1.0)
    with pytest.raises(KnobError, match=r"sgd: lr must be a finite number >= 0, got -0\.1"):
        Optimizer([{"params": [nn.Parameter(torch.ones(1))], "lr_scale": -1.0}], "sgd")


def test_every_parameter_has_the_learning_rate_of_its_group() -> None:
    model = net()
    optimizer = Optimizer(parameter_groups(model, rates={"stem": 0.1, "blocks": 0.5}), "adamw(lr=0.02)")
    for group in optimizer.param_groups:
        group["lr"] *= 0.5  # as a schedule does
    rates = {name: optimizer.learning_rates()[parameter] for name, parameter in model.named_parameters()}
    expected = {"stem": 0.001, "blocks": 0.005, "head": 0.01}
    assert rates == pytest.approx({name: expected[name.split(".")[0]] for name in rates})


@pytest.mark.parametrize(
    ("rates", "message"), [({"hed": 0.1}, "Did you mean 'head'"), ({"head": -1.0}, "must be a finite number >= 0, got -1.0")]
)
def test_wrong_rates_are_errors(rates: dict[str, float], message: str) -> None:
    with pytest.raises(KnobError, match=message):
        parameter_groups(net(), rates=rates)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(KnobError, match="trainable"):
        parameter_groups(net().requires_grad_(False))
