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
from descend.regularize.dropout import Layout
from descend.regularize.feature_maps import layout_of
from descend.regularize.norm import told_to_train
from descend.regularize.probe import Pass, readable_pictures
from descend.regularize.regularizer import Regularizer
from descend.technique import Search, technique

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish, nn.Softplus, nn.Sigmoid,
               nn.Hardsigmoid, nn.Tanh)  # fmt: skip
NAMES = ("relu", "elu", "silu", "swish", "mish", "sigmoid", "tanh")  # gelu ends in elu
EDGE = 1e-6  # rates are kept this far from 0 and 1, where the divergence is infinite


def is_activation(module: nn.Module) -> bool:
    """Return whether a module is an activation: one of torch's, or one of another package that is called like one."""
    foreign = not type(module).__module__.startswith("torch.nn") and next(module.children(), None) is None
    return isinstance(module, ACTIVATIONS) or (foreign and type(module).__name__.lower().endswith(NAMES))


def kl_divergence(target: float, rates: Tensor) -> Tensor:
    """Return ``target log(target/rate) + (1-target) log((1-target)/(1-rate))`` for each rate: (C,) float in [0, 1] -> (C,).

    Rates nearer than 1e-6 to 0 or 1 count as that near, and have no gradient.
    Source: Lee, Ekanadham & Ng 2008; Ng 2011, 'Sparse autoencoder', CS294A lecture notes, section 3.
    """
    rates = rates.clamp(EDGE, 1 - EDGE)
    return target * (target / rates).log() + (1 - target) * ((1 - target) / (1 - rates)).log()


def activity(layer: nn.Module, output: Tensor, layout: Layout = "NCHW") -> Tensor:
    """Return what share of its full activity each unit has, in [0, 1], averaged over samples and places: (C,) float.

    output: (B, C), tokens (B, T, C), or maps, (B, C, H, W) or (B, H, W, C) as ``layout`` says. Sigmoids count as they are, tanh
    as (1 + a) / 2, all others, whose activity has no upper end, as the probability of which it is the odds: a / (1 + a) with
    a = max(output, 0).
    """
    a = output.float() if output.dtype in (torch.float16, torch.bfloat16) else output
    kind = type(layer).__name__.lower()
    if kind == "tanh":
        a = (1 + a) / 2
    elif kind not in ("sigmoid", "hardsigmoid"):
        a = a.relu()  # not clamp_min, which would need the output in the backward pass: an in-place layer may overwrite it
        a = a / (1 + a)
    unit = 1 if a.ndim == 4 and layout == "NCHW" else a.ndim - 1
    return a.mean([dim for dim in range(a.ndim) if dim != unit])


class _Watch:
    """The hook on one layer; it holds the rates of the pass under way, which no copy or pickle takes along."""

    def __init__(self, penalty: KLSparsity, layout: Layout) -> None:
        self.penalty = penalty
        self.layout: Layout = layout
        self.rates: list[Tensor] = []

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        del inputs
        if told_to_train(layer) and output.requires_grad:
            self.rates.append(activity(layer, output, self.layout))

    def __getstate__(self) -> dict[str, Any]:
        return {
            "penalty": self.penalty,
            "layout": self.layout,
            "rates": [],
        }  # a graph's tensors cannot be copied, and belong to the original

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
        """Hook the layers; the model's parameters, state and outputs stay. Raises ModelError where there is none to watch."""
        del seed
        modules = dict(model.named_modules())
        missing = next((name for name in self.layers if name not in modules), None)
        if missing is not None:
            raise ModelError(self.name, "layers must name modules of the model", got=missing,
                             fix=f"It has {', '.join(name for name in list(modules)[1:6])}, ...")  # fmt: skip
        watched = [modules[name] for name in self.layers] or [m for m in modules.values() if is_activation(m)]
        if not watched:
            raise ModelError(self.name, f"{type(model).__name__} must have an activation that is a module of its own",
                             fix="Name modules in layers, or leave kl_sparsity out: it acts on hidden units.")  # fmt: skip
        if _watches(model):
            raise ModelError(self.name, f"{type(model).__name__} must be watched by one kl_sparsity", fix="Install it once.")
        passes = [Pass(model, x) for x in readable_pictures(model, 2)]
        for layer in watched:
            layout: Layout = layout_of([seen.output(layer) for seen in passes]) or "NCHW"
            layer.register_forward_hook(_Watch(self, layout))
        model.register_forward_pre_hook(_Begin())
        return model

    def extra_loss(self, model: nn.Module) -> Tensor | None:
        """Return the penalty of the training pass that ``model`` has just made, a scalar with gradient; asked once per pass.

        None at strength 0. Raises ModelError where no watched layer took part: the technique would have no effect.
        """
        rates = [rate for _, watch in _watches(model) if watch.penalty == self for rate in watch.taken()]
        if not rates:
            raise ModelError(self.name, "a watched layer must take part in the training pass",
                             fix="Hidden layers of a frozen part cannot be penalized: train them, or leave it out.")  # fmt: skip
        if self.strength == 0:  # not even a zero gradient is added
            return None
        return self.strength * torch.stack([kl_divergence(self.target, rate).sum() for rate in rates]).sum()
