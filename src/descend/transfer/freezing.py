"""Frozen is a promise: no parameter and no buffer changes, whatever is trained around it and whoever calls ``.train()``."""

from __future__ import annotations

from torch import nn

from descend.models.stages import fingerprint
from descend.regularize.norm import NormPolicy, hold_in_eval, release, set_norm_policy


def freeze(module: nn.Module) -> str:
    """Freeze every parameter and buffer at or below ``module``; returns its fingerprint, to be checked after training.

    Parameters ask for no gradient; the module is in evaluation mode and ``.train()`` on it, on a parent or on a child
    cannot undo that, so batch statistics stand still and dropout is off. The guard survives copying and pickling; a
    ``state_dict`` does not hold it, so whoever rebuilds a model freezes it again.

    >>> import torch
    >>> from descend.transfer import freeze
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.BatchNorm1d(2))
    >>> _ = freeze(model)
    >>> model.train()[1].training
    False
    """
    module.requires_grad_(False)
    hold_in_eval(module)
    return fingerprint(module)


def thaw(module: nn.Module, norm: NormPolicy = "train") -> None:
    """Make every parameter at or below ``module`` trainable again; its batch norms follow the policy ``norm``."""
    release(module)
    module.requires_grad_(True)
    module.train()
    set_norm_policy(module, norm)
