"""Adam and its relatives: a running mean of gradients over a running size of them."""

from __future__ import annotations

from typing import Any, ClassVar

from descend.optim.ops import ema, share, sqrt
from descend.optim.rule import Decay, Penalty, Rate, Tiny, UpdateRule
from descend.technique import technique


@technique("adam", source="Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1")
class Adam(UpdateRule):
    """Momentum, with each coordinate's step divided by the size its gradient usually has.

    Works over a wide range of rates and scales; costs two slots. Its L2 decay is divided by that size too, which is
    why AdamW exists.

        m = beta1 * m + (1 - beta1) * g           v = beta2 * v + (1 - beta2) * g * g
        p -= lr * m_hat / (sqrt(v_hat) + eps)     m_hat = m / (1 - beta1**t),  v_hat = v / (1 - beta2**t)

    debias: divide by what the averages, which start from zero, are still missing. Off, the first step is
    ``(1 - beta1) / sqrt(1 - beta2)`` times as long (3.2 times, at the defaults), and the following ones longer still.
    weight_decay: coupled L2.
    """

    lr: Rate = 1e-3
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Tiny = 1e-8
    weight_decay: Penalty = 0.0
    debias: bool = True

    slots: ClassVar = ("m", "v")

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of both averages, eps, and what makes the averages unbiased."""
        grow1, grow2 = (1 / (1 - self.beta1**t), 1 / (1 - self.beta2**t)) if self.debias else (1.0, 1.0)
        return share(self.beta1), share(self.beta2), self.eps, grow1, grow2

    @staticmethod
    def direction(p, g, m, v, mix1, mix2, eps, grow1, grow2):  # noqa: ARG004 (every direction takes p)
        """Return the mean gradient over its root mean square."""
        m = ema(m, g, mix1)
        v = ema(v, g * g, mix2)
        return (m * grow1) / (sqrt(v * grow2) + eps), m, v


@technique("adamw", source="Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2")
class AdamW(UpdateRule):
    """Adam whose weight decay acts on the weights themselves; the default of descend.

    Prefer it to Adam wherever weights decay at all. Same cost.

        p -= lr * weight_decay * p
        p -= lr * m_hat / (sqrt(v_hat) + eps)     with m_hat and v_hat as in Adam

    Differs from the paper: the decay is multiplied by lr (as in torch), not by the schedule alone.
    """

    lr: Rate = 1e-3
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Tiny = 1e-8
    weight_decay: Penalty = 1e-2

    slots: ClassVar = ("m", "v")
    decays: ClassVar = "decoupled"

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of both averages, eps, and what makes the averages unbiased."""
        return share(self.beta1), share(self.beta2), self.eps, 1 / (1 - self.beta1**t), 1 / (1 - self.beta2**t)

    direction = staticmethod(Adam.direction)
