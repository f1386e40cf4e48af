"""Sparse activity: a penalty on hidden units that are on too often, paid in the loss.

The layers that are watched get a hook, which notes each unit's mean activation in a training pass. Nothing is added to the
model's state, and nothing happens in evaluation or where no gradient is taken.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from descend.errors import ModelError
from descend.regularize.regularizer import Regularizer
from descend.technique import Search, technique

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish, nn.Softplus, nn.Sigmoid,
               nn.Hardsigmoid, nn.Tanh)  # fmt: skip
EDGE = 1e-6  # rates are kept this far from 0 and 1, where the divergence is infinite


def kl_divergence(target: float, rates: Tensor) -> Tensor:
    """Return ``target log(target/rate) + (1-target) log((1-target)/(1-rate))`` for each rate: (C,) float in [0, 1] -> (C,).

    Rates nearer than 1e-6 to 0 or 1 count as that near, and have no gradient.
    Source: Lee, Ekanadham & Ng 2008; Ng 2011, 'Sparse autoencoder', CS294A lecture notes, section 3.
    """
    rates = rates.clamp(EDGE, 1 - EDGE)
    return target * (target / rates).log() + (1 - target) * ((1 - target) / (1 - rates)).log()


def activity(layer: nn.Module, output: Tensor) -> Tensor:
    """Return what share of its full activity each unit has, in [0, 1], averaged over samples and places: (C,) float.

    output: (B, C), (B, C, H, W) or tokens (B, T, C). Sigmoids count as they are, tanh as (1 + a) / 2, all others, whose
    activity has no upper end, as the probability of which it is the odds: a / (1 + a) with a = max(output, 0).
    """
    a = output.float() if output.dtype in (torch.float16, torch.bfloat16) else output
    if isinstance(layer, nn.Tanh):
        a = (1 + a) / 2
    elif not isinstance(layer, (nn.Sigmoid, nn.Hardsigmoid)):
        a = a.clamp_min(0)
        a = a / (1 + a)
    unit = 1 if a.ndim == 4 else a.ndim - 1
    return a.mean([dim for dim in range(a.ndim) if dim != unit])


class _Watch:
    """The hook on one layer; it holds the rates of the pass under way, which no copy or pickle takes along."""

    def __init__(self, penalty: KLSparsity) -> None:
        self.penalty = penalty
        self.rates: list[Tensor] = []

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        del inputs
        if layer.training and output.requires_grad:
            self.rates.append(activity(layer, output))

    def __getstate__(self) -> dict[str, Any]:
        return {"penalty": self.penalty, "rates": []}  # a graph's tensors cannot be copied, and belong to the original

    def taken(self) -> list[Tensor]:
        """Return what was noted since the last time, and forget it."""
        rates, self.rates = self.rates, []
        return rates


class _Begin:
    """The hook on the whole model: a new pass forgets what an earlier one left behind, so that nothing piles up."""

    def __call__(self, model: nn.Module, inputs: tuple[Any, ...]) -> None:
        del inputs
        for _, watch in _watches(model):
            watch.rates = []


def _watches(model: nn.Module) -> list[tuple[nn.Module, _Watch]]:
    return [(m, hook) for m in model.modules() for hook in m._forward_hooks.values() if isinstance(hook, _Watch)]


@technique(
    "kl_sparsity", source="Lee, Ekanadham & Ng 2008, 'Sparse deep belief net model for visual area V2'; Ng 2011, CS294A notes"
)
class KLSparsity(Regularizer):
    """Keep hidden units off most of the time: the divergence of each unit's mean activity from ``target``, added to the loss.

    Prefer it where hidden units should be few and readable at a time, or as an alternative to dropout in wide, fully connected
    networks. It costs one more pass over the watched activations. Large strengths switch units off for good.

        rate_j  = mean over the batch of unit j's activity, in [0, 1] (see ``activity``)
        loss   += strength * sum_j  target log(target / rate_j) + (1 - target) log((1 - target) / (1 - rate_j))

    target: the share of full activity that a unit should have. strength: per unit, in the loss's nats.
    layers: names of modules as in ``model.named_modules()``; () watches every activation that is a module of its own
    (rectifiers, sigmoids and their kin). Functional ones (``F.relu``) cannot be seen: name the module before or after them.
    *Differs from the paper:* the mean is over the batch instead of over all training data; a rectifier's activity, which
    has no upper end, is mapped to [0, 1).
    """

    neutral: ClassVar = {"strength": 0.0}

    target: Annotated[float, Gt(0), Lt(1), Search(0.01, 0.3, log=True)] = 0.05
    strength: Annotated[float, Ge(0), Search(1e-5, 1e-1, log=True)] = 1e-3
    layers: tuple[str, ...] = ()

    def install(self, model: nn.Module, seed: int) -> nn.Module:
        """Hook the layers; the model's parameters, state and answers stay. Raises ModelError where there is none to watch."""
        del seed
        modules = dict(model.named_modules())
        missing = next((name for name in self.layers if name not in modules), None)
        if missing is not None:
            raise ModelError(self.name, "layers must name modules of the model", got=missing,
                             fix=f"It has {', '.join(name for name in list(modules)[1:6])}, ...")  # fmt: skip
        found = [modules[name] for name in self.layers] or [m for m in modules.values() if isinstance(m, ACTIVATIONS)]
        if not found:
            raise ModelError(type(model).__name__, "must have an activation that is a module of its own",
                             fix="Name modules in layers, or leave kl_sparsity out: it acts on hidden units.")  # fmt: skip
        if _watches(model):
            raise ModelError(type(model).__name__, "must be watched by one kl_sparsity", fix="Install it once.")
        for layer in found:
            layer.register_forward_hook(_Watch(self))
        model.register_forward_pre_hook(_Begin())
        return model

    def extra_loss(self, model: nn.Module) -> Tensor | None:
        """Return the penalty of the training pass that ``model`` has just made, a scalar with gradient; asked once per pass.

        None at strength 0. Raises ModelError where no watched layer took part: the technique would have no effect.
        """
        rates = [rate for _, watch in _watches(model) if watch.penalty == self for rate in watch.taken()]
        if not rates:
            raise ModelError(self.name, "a watched layer must take part in the training pass",
                             fix="Hidden layers of a frozen part cannot be penalised: train them, or leave it out.")  # fmt: skip
        if self.strength == 0:  # not even a zero gradient is added
            return None
        return self.strength * torch.stack([kl_divergence(self.target, rate).sum() for rate in rates]).sum()
