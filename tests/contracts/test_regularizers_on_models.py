"""Every technique that is installed, on models of others: it has its stated effect, or is refused in words, without a trace."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from tests.contracts.foreign_models import MODELS, SIDE, Model
from tests.oracles import regularize_forms as forms
from torch import Tensor, nn

from descend import rng
from descend.errors import ModelError
from descend.regularize import DropBlock, Dropout, GhostBatchNorm2d, Regularizer, StochasticDepth
from descend.technique import build, registered

NEVER = 1 - 1e-12  # a drop probability at which nothing is ever kept
TECHNIQUES = {
    "dropout": "dropout(p=0.5)",
    "spatial_dropout": "spatial_dropout(p=0.5)",
    "drop_block": "drop_block(p=0.3, size=2)",
    "dropconnect": "dropconnect(p=0.5)",
    "dropconnect everywhere": "dropconnect(p=0.5, layers=all, per=batch)",
    "stochastic_depth": "stochastic_depth(last=0.5)",
    "stochastic_depth per batch": "stochastic_depth(last=0.5, per=batch)",
    "ghost_batch_norm": "ghost_batch_norm(size=2)",
    "kl_sparsity": "kl_sparsity(target=0.1, strength=0.01)",
}
X = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
IDS = [5, 6, 7, 8]
ACTIVATIONS = {"ReLU", "ReLU6", "SiLU", "GELU", "GELUTanh", "Hardswish", "Hardsigmoid", "Sigmoid"}
CASES = [(model, technique) for model in MODELS for technique in TECHNIQUES]


@cache
def plain(name: str) -> nn.Module:
    """The model as it was built, in evaluation mode; no parameter is zero, or so small that it would hide a branch or a mask."""
    torch.manual_seed(0)
    model = MODELS[name].build().eval()
    for parameter, p in model.named_parameters():
        if p.ndim <= 1 or "scale" in parameter:
            nn.init.uniform_(p, 0.5, 1.0)
        elif not p.any():
            nn.init.normal_(p)
    return model


@cache
def answer(name: str) -> Tensor:
    """What the model as it was built makes of the pictures."""
    with torch.no_grad():
        return plain(name)(X)


def seen(model: nn.Module, paths: tuple[str, ...], x: Tensor = X) -> dict[str, Tensor]:
    """What modules return in a pass on ``x`` as the model is now, copied at once: later layers may overwrite it."""
    outputs: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(path).register_forward_hook(lambda _, __, out, path=path: outputs.__setitem__(path, out.clone()))
        for path in paths
    ]
    with torch.no_grad(), rng.context(1, 2, IDS):
        model(x)
    for hook in hooks:
        hook.remove()
    return outputs


def dropping(model: nn.Module) -> nn.Module:
    """Put the layers that draw into training form, and nothing else."""
    for module in model.modules():
        module.training = isinstance(module, (Dropout, DropBlock, StochasticDepth)) or "masking" in vars(module)
    return model


# ------------------------------------------------------------------------------------------- the stated effects, from outside


def effect_of_dropout(case: Model, before: nn.Module, model: nn.Module) -> None:
    """What enters the head is zero or twice what entered it."""
    entered: list[Tensor] = []
    for one in (before, dropping(model)):
        head = one.get_submodule(case.head)
        hook = head.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0].clone()))
        seen(one, ())
        hook.remove()
    zero = entered[1] == 0
    assert 0.2 < zero.float().mean() < 0.8
    torch.testing.assert_close(entered[1][~zero], 2 * entered[0][~zero], rtol=1e-4, atol=1e-5)


def effect_of_spatial_dropout(case: Model, before: nn.Module, model: nn.Module) -> None:
    """Channels are zero as a whole, the others of the first stage are twice what they were; no other slice goes at once."""
    first = case.stages[0]
    original, dropped = seen(before, (first,))[first], seen(dropping(model), case.stages)
    for name in case.stages:
        maps = dropped[name].movedim(case.axis, 1).flatten(2)
        gone = (maps == 0).all(2)
        assert 0.2 < gone.float().mean() < 0.8
        assert not (maps == 0).all(1).any()
        if name == first:
            torch.testing.assert_close(maps[~gone], 2 * original.movedim(case.axis, 1).flatten(2)[~gone], rtol=1e-4, atol=1e-5)


def effect_of_drop_block(case: Model, before: nn.Module, model: nn.Module) -> None:
    """What is zero after the last but one stage is made of squares within channels; the rest is scaled alike within a sample."""
    name = case.stages[-2]
    original, dropped = (seen(one, (name,))[name].movedim(case.axis, 1).numpy() for one in (before, dropping(model)))
    side = min(2, original.shape[2])
    for z, y in zip(original, dropped, strict=True):
        told = z != 0  # a rectifier's zeros tell nothing
        gone = (y == 0) & told
        ratio = y[told & ~gone] / z[told & ~gone]
        np.testing.assert_allclose(ratio, z.size / np.round(z.size / ratio.mean()), rtol=1e-3)
        if told.all():
            for channel in gone:
                assert (ndimage.binary_opening(channel, np.ones((side, side))) == channel).all()
    assert 0 < (dropped == 0).mean() < 0.9


def effect_of_dropconnect(before: nn.Module, model: nn.Module, scope: str) -> None:
    """Every linear layer and convolution in scope gives zeros once all its weights and biases are dropped."""
    kinds = (nn.Linear, nn.Conv2d)
    paths = [path for path, m in before.named_modules() if isinstance(m, kinds) and path.startswith(scope)]
    assert paths
    for path in paths:
        layer: Any = model.get_submodule(path)
        layer.masking.p = NEVER
        shape = (1, layer.in_channels, 16, 16) if isinstance(layer, nn.Conv2d) else (1, layer.in_features)
        assert layer.train()(torch.ones(shape)).abs().max() == 0, path
        layer.eval()


def effect_of_stochastic_depth(case: Model, before: nn.Module, model: nn.Module, instance: Regularizer) -> None:
    """With every branch dropped the network is the one whose branches end in zeros."""
    shortcuts = copy.deepcopy(before)
    ends = [p for name, p in shortcuts.named_parameters() if re.search(case.tails, name)]
    assert ends
    with torch.no_grad():
        for p in ends:
            p.zero_()
    for module in dropping(model).modules():
        if isinstance(module, StochasticDepth):
            module.p = NEVER
    with torch.no_grad(), rng.context(1, 2, IDS):
        alone = shortcuts(X)
        torch.testing.assert_close(model(X), alone, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(alone, before(X), rtol=1e-2, atol=1e-3)
    trains(model, instance)  # also where every block is skipped


def effect_of_ghost_batch_norm(model: nn.Module) -> None:
    """Every batch norm in training normalizes two samples at a time."""
    pairs: list[tuple[Any, Tensor, Tensor]] = []
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        norm.register_forward_hook(lambda m, inputs, out: pairs.append((m, inputs[0].clone(), out.clone())))
    model.double().train()
    with torch.no_grad():
        model(X.double())
    for norm, x, out in pairs[:12]:
        assert isinstance(norm, GhostBatchNorm2d)
        groups = forms.ghost_batch_norm(x.numpy(), [2, 2], norm.eps)
        y = torch.from_numpy(groups) * norm.weight.reshape(1, -1, 1, 1) + norm.bias.reshape(1, -1, 1, 1)
        torch.testing.assert_close(norm.act(y) if hasattr(norm, "act") else y, out, rtol=1e-6, atol=1e-8)


def effect_of_kl_sparsity(model: nn.Module, technique: Regularizer) -> None:
    """The extra loss is the divergence of each unit's mean activity, units being channels wherever these lie."""
    rates: list[np.ndarray] = []
    children = [list(m.children()) for m in model.modules()]
    after_linear = {b for parts in children for a, b in itertools.pairwise(parts) if isinstance(a, nn.Linear)}

    def note(layer: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        a = out.detach().double().numpy()
        a = a if type(layer).__name__ in ("Sigmoid", "Hardsigmoid") else np.maximum(a, 0) / (1 + np.maximum(a, 0))
        unit = 1 if a.ndim == 4 and layer not in after_linear else a.ndim - 1
        rates.append(np.clip(a.mean(tuple(axis for axis in range(a.ndim) if axis != unit)), 1e-6, 1 - 1e-6))

    for layer in model.modules():
        if type(layer).__name__ in ACTIVATIONS:
            layer.register_forward_hook(note)
    model.train()(X)
    extra = technique.extra_loss(model)
    assert extra is not None
    assert rates
    divergences = [(0.1 * np.log(0.1 / r) + 0.9 * np.log(0.9 / (1 - r))).sum() for r in rates]
    assert extra.item() == pytest.approx(0.01 * sum(divergences), rel=1e-3)


# ------------------------------------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize(("name", "technique"), CASES, ids=lambda value: value.replace(" ", "_"))
def test_it_has_its_effect_or_is_refused(name: str, technique: str) -> None:
    case, before, instance = MODELS[name], plain(name), build(TECHNIQUES[technique], Regularizer)
    model = copy.deepcopy(before)
    state = {module: (type(module), len(module._forward_hooks)) for module in model.modules()}
    if technique in case.refused:
        with pytest.raises(ModelError, match=f"^{instance.name}: .*"):
            instance.install(model, 3)
        assert {module: (type(module), len(module._forward_hooks)) for module in model.modules()} == state
        return
    instance.install(model, 3)
    with torch.no_grad():
        torch.testing.assert_close(model(X), answer(name), rtol=1e-4, atol=1e-5)  # evaluation is as it was
    assert list(model.state_dict()) == list(before.state_dict())
    trains(pickle.loads(pickle.dumps(model)), instance)  # a whole model may be kept and sent to another process
    effects: dict[str, Callable[[], None]] = {
        "dropout": lambda: effect_of_dropout(case, before, model),
        "spatial_dropout": lambda: effect_of_spatial_dropout(case, before, model),
        "drop_block": lambda: effect_of_drop_block(case, before, model),
        "dropconnect": lambda: effect_of_dropconnect(before, model, case.head),
        "dropconnect everywhere": lambda: effect_of_dropconnect(before, model, ""),
        "stochastic_depth": lambda: effect_of_stochastic_depth(case, before, model, instance),
        "stochastic_depth per batch": lambda: effect_of_stochastic_depth(case, before, model, instance),
        "ghost_batch_norm": lambda: effect_of_ghost_batch_norm(model),
        "kl_sparsity": lambda: effect_of_kl_sparsity(model, instance),
    }
    effects[technique]()


def trains(model: nn.Module, technique: Regularizer) -> None:
    """Two steps of training give finite gradients, whatever is skipped."""
    model.train()
    for step in range(2):
        with rng.context(0, step, IDS):
            loss = model(X).square().mean()
        extra = technique.extra_loss(model)
        (loss if extra is None else loss + extra).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)


def test_the_table_asks_of_every_technique_that_is_installed() -> None:
    installed = {cls.name for cls in registered(Regularizer) if cls.install is not Regularizer.install}
    assert {text.split("(")[0] for text in TECHNIQUES.values()} == installed
    assert len(MODELS) >= 20
