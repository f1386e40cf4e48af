"""torch's own list of optimizer settings, put to our rules: the same path in float64, errors where torch has errors."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("expecttest")  # torch's list needs it
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, OptimizerInfo, optim_db

from descend.errors import DescendError
from descend.optim import Optimizer, Rule
from descend.technique import build

STEPS = 60


class Unmapped(Exception):
    """A setting of torch's that our rules do not have; the message says why."""


NO_COUNTERPART = {
    "ASGD": "averages by a schedule of its own; descend averages with schedule_free_sgd or a wrapper",
    "LBFGS": "a line search over closures, not a rule of one gradient",
    "Rprop": "for full batches only",
    "SparseAdam": "for sparse gradients, which are refused",
}
UNMAPPED = {
    ("SGD", "dampening"): "our momentum takes the whole gradient",
    ("AdamW", "amsgrad"): "our amsgrad decays as Adam does",
    ("NAdam", "decoupled_weight_decay"): "our nadam decays as Adam does",
    ("RAdam", "decoupled_weight_decay"): "our radam decays as Adam does",
    ("Muon", "passing alternative ns_coefficients"): "they are the author's",
    ("Muon", "match_rms_adamw lr adjustment"): "the step is the author's",
    ("Muon", "spectral_unclamped lr adjustment"): "the step is the author's",
}


def number(value: Any) -> Any:
    """Knobs are plain numbers; torch's settings may be tensors and integers."""
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


RENAMED = {
    "RMSprop": {"alpha": "beta"},
    "Adadelta": {"rho": "beta"},
    "Adagrad": {"initial_accumulator_value": "start"},
    "Adafactor": {"d": "clip"},
    "Muon": {"ns_steps": "n_steps"},
}


DEFAULT_RATES = {
    "Adadelta": 1.0, "Adafactor": 0.01, "Adagrad": 0.01, "Adam": 1e-3, "Adamax": 2e-3, "AdamW": 1e-3, "Muon": 1e-3, "NAdam": 2e-3,
    "RAdam": 1e-3, "RMSprop": 0.01, "SGD": 1e-3,
}  # fmt: skip


def translated(name: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return our rule and knobs for the settings of torch's optimizer ``name``, where its defaults differ from ours too."""
    settings = {"lr": DEFAULT_RATES[name], **given}
    rule = name.lower()
    if name == "SGD":
        if settings.pop("dampening", 0):
            raise Unmapped("dampening")
        nesterov = settings.pop("nesterov", False)
        rule = "nesterov" if nesterov else "momentum" if settings.get("momentum") else "sgd"
    if settings.pop("amsgrad", False):
        if name == "AdamW":
            raise Unmapped("decoupled")
        rule = "amsgrad"
    if settings.pop("decoupled_weight_decay", False) or {"ns_coefficients", "adjust_lr_fn"} & set(settings):
        raise Unmapped(name)
    settings.setdefault("weight_decay", {"AdamW": 0.01, "Muon": 0.1}.get(name, 0.0))
    if name == "Adafactor":
        eps, floor = settings.pop("eps", (1e-30, 1e-3))
        settings |= {"eps": eps, "floor": floor, "power": -settings.pop("beta2_decay", -0.8)}
    if "betas" in settings:
        settings["beta1"], settings["beta2"] = settings.pop("betas")
    renamed = RENAMED.get(name, {})
    return rule, {renamed.get(key, key): value if key == "ns_steps" else number(value) for key, value in settings.items()}


INFOS = [info for info in optim_db if info.name in DEFAULT_RATES]


def ours(params: Any, name: str, given: dict[str, Any]) -> Optimizer:
    settings = dict(given)
    maximize = settings.pop("maximize", False)
    rule, found = translated(name, settings)
    kind: Any = type(build(rule, Rule))
    return Optimizer(params, kind(**found), maximize=maximize)


def mapped() -> Iterator[tuple[OptimizerInfo, Any]]:
    for info in INFOS:
        for given in info.optim_inputs_func(device="cpu"):
            if (info.name, given.desc) not in UNMAPPED:
                yield info, given


INPUTS = list(mapped())
IDS = [f"{info.name}-{given.desc}" for info, given in INPUTS]


def fresh(name: str) -> list[Tensor]:
    """Weights of several shapes; torch's Muon takes matrices only."""
    draw = torch.Generator().manual_seed(7)
    shapes = ((4, 3), (3, 5)) if name == "Muon" else ((4, 3), (7,), (2, 3, 2, 2), (1,))
    return [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]


def push(params: list[Tensor], t: int) -> None:
    """Set the gradients of step ``t``: of a bowl, with noise."""
    for parameter in params:
        curvature, noise = bowl(tuple(parameter.shape), t)
        parameter.grad = torch.addcmul(noise, parameter.detach(), curvature)


@cache
def bowl(shape: tuple[int, ...], t: int) -> tuple[Tensor, Tensor]:
    curvature = torch.linspace(0.2, 2.0, math.prod(shape), dtype=torch.float64).view(shape)
    return curvature, torch.randn(shape, generator=torch.Generator().manual_seed(t), dtype=torch.float64)


def test_torchs_list_is_known_from_end_to_end() -> None:
    assert {info.name for info in optim_db} <= set(DEFAULT_RATES) | set(NO_COUNTERPART)
    listed = {(info.name, given.desc) for info in INFOS for given in info.optim_inputs_func(device="cpu")}
    assert set(UNMAPPED) <= listed
    for info in INFOS:
        for given in info.optim_inputs_func(device="cpu"):
            if (info.name, given.desc) in UNMAPPED:
                with pytest.raises(Unmapped):
                    translated(info.name, given.kwargs)


def forms() -> Iterator[tuple[OptimizerInfo, Any, str]]:
    """Every setting in each of the implementations that torch has of it."""
    for info, given in INPUTS:
        yield info, given, "for-loop"
        if "foreach" in info.supported_impls and not isinstance(given.kwargs.get("lr"), Tensor):
            yield info, given, "foreach"
        if "cpu" in info.supports_fused_on:
            yield info, given, "fused"


FORMS = list(forms())


@pytest.mark.parametrize(("info", "given", "form"), FORMS, ids=[f"{i.name}-{g.desc}-{form}" for i, g, form in FORMS])
def test_every_setting_walks_torchs_path(info: OptimizerInfo, given: Any, form: str) -> None:
    looped = {"foreach": False} if "foreach" in info.supported_impls else {}
    flags = looped if form == "for-loop" else {form: True}
    mine, theirs = fresh(info.name), fresh(info.name)
    one, two = ours(mine, info.name, given.kwargs), info.optim_cls(theirs, **given.kwargs, **flags)
    for t in range(STEPS):
        push(mine, t)
        push(theirs, t)
        one.step()
        two.step()
    rtol = {"Muon": 2e-2, "NAdam": 1e-6}.get(info.name, 1e-9)  # Muon's iteration is in bfloat16, NAdam's product in float32
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol / 10)


def errors() -> Iterator[tuple[OptimizerInfo, Any]]:
    for info in INFOS:
        for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float64):
            if not TORCH_ONLY & set(error.optimizer_error_input.kwargs) and error.optimizer_error_input.desc not in ALLOWED:
                yield info, error


TORCH_ONLY = {"foreach", "fused", "capturable", "differentiable", "adjust_lr_fn"}
"""Settings by which torch chooses among its own implementations and variants."""

ALLOWED = {
    "only support 2D parameters",  # our Muon takes any shape, as its docstring says
    "betas must be either both floats or both Tensors",  # a tensor of one element is a number to us
}
ERRORS = list(errors())


@pytest.mark.parametrize(("info", "error"), ERRORS, ids=[f"{i.name}-{e.optimizer_error_input.desc}" for i, e in ERRORS])
def test_what_torch_refuses_is_refused(info: OptimizerInfo, error: Any) -> None:
    given = error.optimizer_error_input
    params = given.params if given.params is not None else fresh(info.name)
    if error.error_type is UserWarning:
        with pytest.warns(UserWarning, match=error.error_regex):
            ours(params, info.name, given.kwargs)
    elif error.error_on is OptimizerErrorEnum.STEP_ERROR:
        optimizer = ours(params, info.name, given.kwargs)
        with pytest.raises(DescendError, match="complex"):
            optimizer.step()
    elif given.kwargs:
        with pytest.raises(DescendError, match=r" must be .* got "):
            ours(params, info.name, given.kwargs)
    else:  # about parameters alone, in torch's own words
        with pytest.raises(error.error_type, match=error.error_regex):
            ours(params, info.name, given.kwargs)


@pytest.mark.parametrize(("info", "given"), INPUTS, ids=IDS)
def test_every_setting_goes_the_right_way_with_torchs_schedulers(info: OptimizerInfo, given: Any) -> None:
    for schedulers in info.scheduler_inputs:
        params = fresh(info.name)
        optimizer = ours(params, info.name, {**given.kwargs, "weight_decay": 0.0})
        made = [make(optimizer) for make in schedulers]
        sign = -1.0 if given.kwargs.get("maximize") else 1.0
        losses = []
        for _ in range(30):
            loss = sum((parameter.square().sum() for parameter in params), torch.zeros(()))
            optimizer.zero_grad()
            (sign * loss).backward()
            optimizer.step()
            losses.append(loss.item())
            for scheduler in made:
                if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                    scheduler.step(losses[-1])
                else:
                    scheduler.step()
        assert losses[-1] < losses[0]


@pytest.mark.parametrize(("info", "given"), INPUTS, ids=IDS)
def test_nothing_moves_without_gradients_and_state_survives_a_file(info: OptimizerInfo, given: Any) -> None:
    params = fresh(info.name)
    optimizer = ours(params, info.name, given.kwargs)
    before = copy.deepcopy(params)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(params, before, strict=True))
    assert not optimizer.state_dict()["state"]
    for t in range(3):
        push(params, t)
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twins = [parameter.detach().clone().requires_grad_() for parameter in params]
    twin = ours(twins, info.name, given.kwargs)
    twin.load_state_dict(torch.load(file, weights_only=True))
    for t in range(3, 6):
        for each, mover in ((params, optimizer), (twins, twin)):
            push(each, t)
            mover.step()
    assert all(torch.equal(a, b) for a, b in zip(params, twins, strict=True))


def test_hooks_of_torch_are_called() -> None:
    params = fresh("Adam")
    optimizer = ours(params, "Adam", {})
    calls: list[str] = []
    hooks: list[Callable[..., Any]] = [
        optimizer.register_step_pre_hook, optimizer.register_step_post_hook, optimizer.register_state_dict_pre_hook,
        optimizer.register_load_state_dict_post_hook,
    ]  # fmt: skip
    for place, register in enumerate(hooks):
        register(lambda *_, place=place: calls.append(["before", "after", "save", "load"][place]))
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["before", "after", "save", "load"]
    assert "lr: 0.001" in repr(optimizer)
    assert math.isclose(optimizer.defaults["lr"], 1e-3)
