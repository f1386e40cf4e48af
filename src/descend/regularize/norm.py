"""What batch normalization does while a pretrained network is trained on: the policy, said once and held.

In training mode a batch norm does two things that have nothing to do with gradients: it normalizes by the statistics of
the *batch*, and it drags its stored mean and variance towards them. On a few hundred pictures of a new task both can spoil
what was learned on a million. So the policy is explicit. For the batch norms of the part that is trained:

==================  ===============================  ==========================  ===================
policy              normalizes by                    stored mean and variance    gamma and beta
==================  ===============================  ==========================  ===================
``eval``            the stored statistics            constant                    trained
``affine-frozen``   the stored statistics            constant                    constant
``train``           the batch                        follow the batches          trained
==================  ===============================  ==========================  ===================

In a frozen part all of them are constant, whatever the policy.

Source: Ioffe & Szegedy 2015, arXiv:1502.03167; constant norms in fine-tuning: He et al. 2016, arXiv:1512.03385, section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from descend.errors import KnobError

NormPolicy = Literal["eval", "affine-frozen", "train"]


class HeldInEval:
    """Stands in for ``module.train`` of one module, which stays in evaluation mode whatever it is told.

    ``parent.train()`` calls ``train`` on every child, so a child that holds this cannot be switched back by
    anybody above it. It lives in the module's ``__dict__``: copies and pickles of the module carry their own.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.mode = False  # what the module was last told

    def __call__(self, mode: bool = True) -> nn.Module:
        """Tell ``mode`` to the children, each of which is held too unless it has been released; return the module."""
        self.mode = mode
        for child in self.module.children():
            child.train(mode)
        return self.module


def hold_in_eval(module: nn.Module) -> None:
    """Put ``module`` and everything below it into evaluation mode, for good: ``.train()`` has no effect any more."""
    module.eval()
    for part in module.modules():
        part.__dict__["train"] = HeldInEval(part)


def told_to_train(module: nn.Module) -> bool:
    """Return whether ``module`` takes part in training: by its mode, or, where it is held, by the mode it was last told."""
    held = module.__dict__.get("train")
    return held.mode if isinstance(held, HeldInEval) else module.training


def release(module: nn.Module) -> None:
    """Undo ``hold_in_eval`` for ``module`` and everything below it; the mode stays until the next ``.train()``."""
    for part in module.modules():
        part.__dict__.pop("train", None)


def batch_norms(module: nn.Module) -> Iterator[nn.Module]:
    """Yield every batch norm at or below ``module``: the norms that keep statistics of past batches."""
    return (part for part in module.modules() if isinstance(part, _BatchNorm))


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Put the running statistics of every batch norm at or below ``module`` back after the block, to the bit."""
    kept = [(buffer, buffer.clone()) for norm in batch_norms(module) for buffer in norm.buffers(recurse=False)]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)


def set_norm_policy(module: nn.Module, policy: NormPolicy) -> None:
    """Make every batch norm at or below ``module`` follow ``policy`` (see the table above). Raises KnobError.

    Setting another policy later replaces this one. What stands inside a norm (an activation, a drop layer) is not held with it.
    """
    if policy not in get_args(NormPolicy):
        raise KnobError("norm", f"the policy must be one of {', '.join(get_args(NormPolicy))}", got=policy)
    for norm in batch_norms(module):
        release(norm)
        norm.requires_grad_(policy != "affine-frozen")
        if policy != "train":
            norm.training = False
            norm.__dict__["train"] = HeldInEval(norm)
