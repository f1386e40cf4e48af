"""Stochastic depth: train a network that is shorter at every step, predict with the whole of it.

A residual block computes ``shortcut(x) + f(x)``. Dropping its branch f leaves the shortcut, and the network goes on as if
the block were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from descend.regularize.dropconnect import Per
from descend.regularize.dropout import Mode
from descend.regularize.masks import MaskSource, checked_choice, checked_probability
from descend.untraced import untraced


class StochasticDepth(nn.Module):
    """Drop the residual branch that it is given, for a sample or for the whole batch, with probability p while training.

    When to prefer it: residual networks of many blocks, trained long. Per batch a dropped branch need not be computed
    (see ``residual``), which saves that share of the time; per sample draws are less noisy and save nothing.

    mode "inverted":  training ``f * m / (1 - p)``, evaluation ``f``.
    mode "classic":   training ``f * m``,           evaluation ``f * (1 - p)``; the form of the paper.

    branch: (B, ...), any float type. The mask is a function of (seed, stream, epoch, sample id, draw), or of (seed, stream,
    epoch, step, draw) per batch. p = 0 is the identity.
    Raises KnobError for p outside [0, 1) or unknown choices.

    Source: Huang, Sun, Liu, Sedra & Weinberger 2016, arXiv:1603.09382, equations 2 and 5.
    """

    def __init__(self, p: float, *, per: Per = "sample", mode: Mode = "inverted", stream: str = "stochastic_depth",
                 seed: int = 0) -> None:  # fmt: skip
        super().__init__()
        self.p = checked_probability("StochasticDepth", p)
        self.per = checked_choice("StochasticDepth", "per", per, ("sample", "batch"))
        self.mode = checked_choice("StochasticDepth", "mode", mode, ("inverted", "classic"))
        self.source = MaskSource(seed, stream)
        self.decided = False  # true while a block that has called skips() computes its branches

    def forward(self, branch: Tensor) -> Tensor:
        """Return the branch as it goes into the sum."""
        if self.p == 0:
            return branch
        if not self.training:
            return branch if self.mode == "inverted" else branch * (1 - self.p)
        if self.decided:
            return self._kept(branch)
        return branch * self._mask(branch) if branch.numel() else branch

    @untraced
    def _mask(self, branch: Tensor) -> Tensor:
        if self.per == "sample":
            draw = self.source.per_sample(branch.shape[0])
            n = branch.shape[0] // draw.ids.size
        else:
            draw, n = self.source.per_batch(), 1
        mask = draw.keep(n, self.p, branch, scale=self._scale).to(branch.dtype)
        return mask.reshape((-1,) + (1,) * (branch.ndim - 1))

    @untraced
    def skips(self) -> bool:
        """Return whether this pass goes without the branch, before it is computed; only ever true per batch in training.

        Call it once per pass: outside a context every call is a new draw.
        """
        if self.p == 0 or self.per == "sample" or not self.training:
            return False
        return not self.source.per_batch().keep(1, self.p, torch.empty(0)).item()

    @contextmanager
    def known_kept(self) -> Iterator[None]:
        """Take every branch as kept inside: for a block that has called ``skips`` and goes on to compute its branches."""
        self.decided = self.per == "batch"
        try:
            yield
        finally:
            self.decided = False

    def residual(self, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Return ``x + branch(x)`` with the branch dropped or scaled; dropped for the whole batch it is not computed."""
        if self.skips():
            return x
        with self.known_kept():
            return x + self(branch(x))

    @property
    def _scale(self) -> float:
        return 1 / (1 - self.p) if self.mode == "inverted" else 1.0

    def _kept(self, branch: Tensor) -> Tensor:
        return branch if self.mode == "classic" else branch * self._scale

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f"p={self.p:.4g}, per={self.per!r}, mode={self.mode!r}, stream={self.source.stream!r}"


def linear_decay(last: float, n_blocks: int) -> list[float]:
    """Return the drop probability of each block, rising from the first to ``last`` in the last: ``last * l / n_blocks``.

    Early blocks extract what all later ones need, so they are dropped least (equation 4). With last = 0.5 the expected
    number of blocks is (3 L - 1) / 4.
    """
    return [last * block / n_blocks for block in range(1, n_blocks + 1)]


def expected_depth(probabilities: list[float]) -> float:
    """Return the expected number of residual blocks in a training pass, in blocks."""
    return float(np.sum(1 - np.asarray(probabilities)))
