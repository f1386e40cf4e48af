"""Adam's relatives: what else one can divide by, and how to begin."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from descend.optim.ops import add_scaled, ema, maximum, share, sqrt
from descend.optim.rule import Decay, Penalty, Rate, Tiny, UpdateRule
from descend.technique import Search, technique


@technique(
    "amsgrad",
    source="Reddi, Kale & Kumar 2018, arXiv:1904.09237, Algorithm 2; with bias correction as torch.optim.Adam(amsgrad=True)",
)
class AMSGrad(UpdateRule):
    """Adam that divides by the largest second moment it has seen, so that a coordinate's step never grows again.

    Prefer it where Adam fails to converge; rarely better elsewhere. Costs three slots.

        m, v as in Adam      top = max(top, v)      p -= lr * m_hat / (sqrt(top / (1 - beta2**t)) + eps)
    """

    lr: Rate = 1e-3
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Tiny = 1e-8
    weight_decay: Penalty = 0.0

    slots: ClassVar = ("m", "v", "top")

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of both averages, eps, and what makes the averages unbiased."""
        return share(self.beta1), share(self.beta2), self.eps, 1 / (1 - self.beta1**t), 1 / (1 - self.beta2**t)

    @staticmethod
    def direction(p, g, m, v, top, mix1, mix2, eps, grow1, grow2):  # noqa: ARG004 (every direction takes p)
        """Return the mean gradient over the largest root mean square so far."""
        m = ema(m, g, mix1)
        v = ema(v, g * g, mix2)
        top = maximum(top, v)
        return (m * grow1) / (sqrt(top * grow2) + eps), m, v, top


@technique("adamax", source="Kingma & Ba 2015, arXiv:1412.6980, Algorithm 2")
class Adamax(UpdateRule):
    """Adam with the infinity norm: divide by the largest recent gradient.

    Prefer it where gradients are sparse with rare spikes. Costs two slots.

        v = max(beta2 * v, abs(g) + eps)      p -= lr / (1 - beta1**t) * m / v

    Differs from the paper: eps, as in torch, keeps 0/0 away.
    """

    lr: Rate = 2e-3
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Tiny = 1e-8
    weight_decay: Penalty = 0.0

    slots: ClassVar = ("m", "v")

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of the mean, the memory of the maximum, eps, and what makes the mean unbiased."""
        return share(self.beta1), self.beta2, self.eps, 1 / (1 - self.beta1**t)

    @staticmethod
    def direction(p, g, m, v, mix, beta2, eps, grow):  # noqa: ARG004 (every direction takes p)
        """Return the mean gradient over the largest recent one."""
        m = ema(m, g, mix)
        v = maximum(v * beta2, abs(g) + eps)
        return (m * grow) / v, m, v


@technique(
    "nadam", source="Dozat 2016, Incorporating Nesterov Momentum into Adam, Algorithm 8; momentum schedule: section 3.1 and torch"
)
class NAdam(UpdateRule):
    """Adam with Nesterov's momentum: the step looks one step ahead.

    Prefer it where Nesterov beats Momentum. Costs two slots.

        mu_t = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)),  pi_t = mu_1 * ... * mu_t
        p -= lr * (mu_{t+1} * m / (1 - pi_{t+1}) + (1 - mu_t) * g / (1 - pi_t)) / (sqrt(v_hat) + eps)
    """

    lr: Rate = 2e-3
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Tiny = 1e-8
    momentum_decay: Annotated[float, Ge(0), Search(1e-3, 1e-1, log=True)] = 4e-3
    weight_decay: Penalty = 0.0

    slots: ClassVar = ("m", "v")
    memory: ClassVar = ("mu_product",)

    def initial(self, slot: str) -> float:
        """Return 1 for the product, 0 for the averages."""
        return 1.0 if slot == "mu_product" else 0.0

    def mu(self, t: int) -> float:
        """Return the momentum of step ``t``."""
        return self.beta1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def remember(self, t: int, *memory: float) -> tuple[float, ...]:
        """Return the product of all momenta up to step ``t``."""
        return (memory[0] * self.mu(t),)

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:
        """Return the shares of both averages, eps, the weights of mean and gradient, and what makes v unbiased."""
        (product,), ahead = memory, self.mu(t + 1)
        of_m, of_g = ahead / (1 - product * ahead), (1 - self.mu(t)) / (1 - product)
        return share(self.beta1), share(self.beta2), self.eps, of_m, of_g, 1 / (1 - self.beta2**t)

    @staticmethod
    def direction(p, g, m, v, mix1, mix2, eps, of_m, of_g, grow2):  # noqa: ARG004 (every direction takes p)
        """Return the mean gradient, one step ahead, over its root mean square."""
        m = ema(m, g, mix1)
        v = ema(v, g * g, mix2)
        return add_scaled(m * of_m, g, of_g) / (sqrt(v * grow2) + eps), m, v


@technique("radam", source="Liu et al. 2020, arXiv:1908.03265, Algorithm 2")
class RAdam(UpdateRule):
    """Adam that divides only once it has seen enough to know by what.

    Prefer it to Adam where no warm-up is wanted. Costs two slots.

        rho_t = rho - 2 * t * beta2**t / (1 - beta2**t),   rho = 2 / (1 - beta2) - 1
        rho_t > 5:  p -= lr * r_t * m_hat / ((sqrt(v) + eps) / sqrt(1 - beta2**t))       else:  p -= lr * m_hat

    Differs from the paper: the border is 5 (as in the authors' code and torch), not 4, and there is an eps.
    """

    lr: Rate = 1e-3
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Tiny = 1e-8
    weight_decay: Penalty = 0.0

    slots: ClassVar = ("m", "v")

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of both averages, the factor of the mean, and the divisor as ``of_v * sqrt(v) + rest``."""
        debias1, debias2 = 1 - self.beta1**t, 1 - self.beta2**t
        longest = 2 / (1 - self.beta2) - 1
        length = longest - 2 * t * self.beta2**t / debias2
        if length <= 5:
            return share(self.beta1), share(self.beta2), 1 / debias1, 0.0, 1.0
        known = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        return share(self.beta1), share(self.beta2), math.sqrt(known * debias2) / debias1, 1.0, self.eps

    @staticmethod
    def direction(p, g, m, v, mix1, mix2, of_m, of_v, rest):  # noqa: ARG004 (every direction takes p)
        """Return the mean gradient, divided by its root mean square once that is known."""
        m = ema(m, g, mix1)
        v = ema(v, g * g, mix2)
        return (m * of_m) / (sqrt(v) * of_v + rest), m, v


@technique("adabelief", source="Zhuang et al. 2020, arXiv:2010.07468, Algorithm 2")
class AdaBelief(UpdateRule):
    """Adam that divides by how far gradients stray from their mean: long steps where the mean can be believed.

    Prefer it to AdamW where gradients are large but steady. Costs two slots.

        s = beta2 * s + (1 - beta2) * (g - m)**2 + eps       p -= lr * m_hat / (sqrt(s_hat) + eps)       decoupled decay
    """

    lr: Rate = 1e-3
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Tiny = 1e-16
    weight_decay: Penalty = 1e-2

    slots: ClassVar = ("m", "s")
    decays: ClassVar = "decoupled"

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of both averages, eps, and what makes the averages unbiased."""
        return share(self.beta1), share(self.beta2), self.eps, 1 / (1 - self.beta1**t), 1 / (1 - self.beta2**t)

    @staticmethod
    def direction(p, g, m, s, mix1, mix2, eps, grow1, grow2):  # noqa: ARG004 (every direction takes p)
        """Return the mean gradient over its root mean straying."""
        m = ema(m, g, mix1)
        stray = g - m
        s = ema(s, stray * stray, mix2) + eps
        return (m * grow1) / (sqrt(s * grow2) + eps), m, s


@technique("adan", source="Xie et al. 2022, arXiv:2208.06677, Algorithm 1")
class Adan(UpdateRule):
    """Adam with Nesterov's momentum, kept as a mean of gradients and a mean of their differences.

    Prefer it for large batches and vision transformers. Costs four slots.

        d = g - last     m = ema(m, g, beta1)     n = ema(n, d, beta2)     v = ema(v, (g + beta2 * d)**2, beta3)
        p -= lr * (m_hat + beta2 * n_hat) / (sqrt(v_hat) + eps)

    Differs from the paper: betas are what is kept (0.98, not 0.02), averages are unbiased, as in the authors' code, and weights
    decay as in AdamW instead of by a proximal step.
    """

    lr: Rate = 1e-3
    beta1: Decay = 0.98
    beta2: Decay = 0.92
    beta3: Decay = 0.99
    eps: Tiny = 1e-8
    weight_decay: Penalty = 2e-2

    slots: ClassVar = ("m", "n", "v", "last")
    decays: ClassVar = "decoupled"

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of the averages, eps, beta2, whether there is a last gradient, and the factors of the averages."""
        grow1, grow2, grow3 = (1 / (1 - beta**t) for beta in (self.beta1, self.beta2, self.beta3))
        shares = share(self.beta1), share(self.beta2), share(self.beta3)
        return *shares, self.eps, self.beta2, float(t > 1), grow1, self.beta2 * grow2, grow3

    @staticmethod
    def direction(p, g, m, n, v, last, mix1, mix2, mix3, eps, beta2, known, of_m, of_n, grow3):  # noqa: ARG004 (every direction takes p)
        """Return the mean gradient plus its mean change, over the root mean square of the gradient ahead."""
        change = (g - last) * known
        m = ema(m, g, mix1)
        n = ema(n, change, mix2)
        ahead = add_scaled(g, change, beta2)
        v = ema(v, ahead * ahead, mix3)
        return add_scaled(m * of_m, n, of_n) / (sqrt(v * grow3) + eps), m, n, v, g
