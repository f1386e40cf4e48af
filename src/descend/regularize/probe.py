"""A look into a network by running it: on small synthetic pictures, in evaluation form, leaving nothing behind."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

SIZES = (64, 96)  # pixels: small, and different at every stride up to 32


@contextmanager
def evaluation_form(model: nn.Module) -> Iterator[None]:
    """Have every module of ``model`` in evaluation mode inside, and in its own mode afterwards."""
    before = {module: module.training for module in model.modules()}
    try:
        for module in before:  # the flag itself: train() and eval() may be overridden by frozen parts
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, training in before.items():
            module.training = training


def readable_pictures(model: nn.Module, n: int = 1) -> list[Tensor]:
    """Return up to ``n`` synthetic pictures of different sizes, (1, C, S, S) float, that ``model`` can read; [] if none."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    like = next(model.parameters(), torch.zeros(()))
    pictures: list[Tensor] = []
    for size in dict.fromkeys([*SIZES, *_native_sizes(model)]):
        shape = (1, 3 if first is None else first.in_channels, size, size)
        x = torch.linspace(-2, 2, math.prod(shape), dtype=like.dtype, device=like.device).reshape(shape)
        with evaluation_form(model):
            try:
                model(x)
            except Exception:  # whatever a foreign model raises for a size that it does not read
                continue
        pictures.append(x)
        if len(pictures) == n:
            break
    return pictures


def _native_sizes(model: nn.Module) -> Iterator[int]:
    """Yield the sizes that a model says it was built for: ours, timm's and torchvision's ways to say it."""
    for module in model.modules():
        for name in ("native_size", "img_size", "image_size"):
            size = getattr(module, name, None)
            size = size[0] if isinstance(size, (tuple, list)) and size else size
            if isinstance(size, int):
                yield size
        config = getattr(module, "pretrained_cfg", None)
        if isinstance(config, dict) and "input_size" in config:
            yield int(config["input_size"][-1])
    yield 224


class Pass:
    """What every module returned in one pass on a picture, in the order in which they finished."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.outputs: list[tuple[nn.Module, object]] = []
        hooks = [module.register_forward_hook(self._note) for module in model.modules()]
        try:
            with evaluation_form(model):
                model(x)
        finally:
            for hook in hooks:
                hook.remove()

    def _note(self, module: nn.Module, inputs: object, output: object) -> None:
        del inputs
        self.outputs.append((module, output))

    def output(self, module: nn.Module) -> Tensor | None:
        """Return the tensor that ``module`` returned, None where it returned none."""
        found = next((output for other, output in reversed(self.outputs) if other is module), None)
        return found if isinstance(found, Tensor) else None

    def same_output(self, stage: nn.Module) -> list[nn.Module]:
        """Return the modules of ``stage`` whose output is its own, the last to finish (the stage itself) first."""
        whole, parts = self.output(stage), set(stage.modules())
        return [module for module, output in reversed(self.outputs) if output is whole and module in parts]
