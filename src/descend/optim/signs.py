"""Rules that look at the sign of the gradient alone."""

from __future__ import annotations

from typing import Any, ClassVar

from descend.optim.ops import ema, share, sign
from descend.optim.rule import Decay, Penalty, Rate, UpdateRule
from descend.technique import technique


@technique("signsgd", source="Bernstein et al. 2018, arXiv:1802.04434, Algorithms 1 (signSGD) and 2 (Signum)")
class SignSGD(UpdateRule):
    """Move every weight by lr, in the direction of its (mean) gradient's sign.

    Prefer it where gradient scales differ wildly, or where gradients are sent over a network; it is sensitive to noise. Costs one
    slot, none without momentum.

        m = momentum * m + (1 - momentum) * g      p -= lr * sign(m)
    """

    lr: Rate = 1e-3
    momentum: Decay = 0.9
    weight_decay: Penalty = 0.0

    slots: ClassVar = ("m",)
    decays: ClassVar = "decoupled"

    def unused(self) -> frozenset[str]:
        """Return the mean where it would be the gradient itself."""
        return frozenset() if self.momentum else frozenset({"m"})

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of the mean."""
        return (share(self.momentum),)

    @staticmethod
    def direction(p, g, m, mix):  # noqa: ARG004 (every direction takes p)
        """Return the sign of the mean gradient."""
        if m is not None:
            m = ema(m, g, mix)
            g = m
        return sign(g), m


@technique("lion", source="Chen et al. 2023, arXiv:2302.06675, Algorithm 2")
class Lion(UpdateRule):
    """Move every weight by lr, in the direction of the sign of a mean that leans on the newest gradient.

    Prefer it to AdamW where memory is short: one slot. Wants 3-10 times less lr and as many times more weight decay.

        p -= lr * sign(beta1 * m + (1 - beta1) * g)       m = beta2 * m + (1 - beta2) * g       decoupled decay
    """

    lr: Rate = 1e-4
    beta1: Decay = 0.9
    beta2: Decay = 0.99
    weight_decay: Penalty = 1e-1

    slots: ClassVar = ("m",)
    decays: ClassVar = "decoupled"

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of the direction and of the mean that is kept."""
        return share(self.beta1), share(self.beta2)

    @staticmethod
    def direction(p, g, m, mix1, mix2):  # noqa: ARG004 (every direction takes p)
        """Return the sign of the leaning mean."""
        return sign(ema(m, g, mix1)), ema(m, g, mix2)
