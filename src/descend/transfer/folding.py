"""Fold batch normalisation into the convolution before it: in inference both are linear, so one of them is enough.

    gamma (w * x + b - mean) / sqrt(var + eps) + beta  =  w' * x + b'
    w' = w gamma / sqrt(var + eps)        b' = beta + (b - mean) gamma / sqrt(var + eps)

Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(module: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of ``module``, for inference only, in which every norm that directly follows a convolution is folded.

    example: one input, to see what follows what. If the folded copy disagrees on it (a convolution's output that is also
    used elsewhere), an unfolded copy is returned instead.
    """
    plain = copy.deepcopy(module).eval()
    made = copy.deepcopy(plain)
    names = {part: name for name, part in made.named_modules()}
    for conv, norm in _pairs(made, example):
        _replace(made, names[conv], fuse_conv_bn_eval(conv, norm))
        _replace(made, names[norm], _what_remains(norm))
    with torch.inference_mode():
        expected, found = plain(example), made(example)
    close = torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    return made if close else plain


def _pairs(module: nn.Module, example: Tensor) -> list[tuple[Any, Any]]:
    """Run ``module`` once and note which norm reads exactly what which convolution wrote."""
    written: list[tuple[Tensor, nn.Module]] = []  # holds the tensors, so that no memory is used twice
    pairs: list[tuple[Any, Any]] = []

    def after_conv(conv: nn.Module, _: Any, output: Tensor) -> None:
        written.append((output, conv))

    def before_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        pairs.extend((conv, norm) for output, conv in written if output is inputs[0])

    hooks = [part.register_forward_hook(after_conv) for part in module.modules() if isinstance(part, nn.Conv2d)]
    hooks += [part.register_forward_pre_hook(before_norm) for part in module.modules() if isinstance(part, _BatchNorm)]
    with torch.inference_mode():
        module(example)
    for hook in hooks:
        hook.remove()
    return pairs


def _replace(module: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, part)


def _what_remains(norm: nn.Module) -> nn.Module:
    """Return the activation of a timm norm, which carries one; nothing of a plain one."""
    activation = getattr(norm, "act", None)
    return activation if isinstance(activation, nn.Module) else nn.Identity()
