"""Rules that divide each coordinate's step by the gradients it has seen: AdaGrad by all of them, RMSProp by recent ones."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from descend.optim.ops import add_scaled, ema, positive, share, sqrt
from descend.optim.rule import Decay, Penalty, Rate, Tiny, UpdateRule
from descend.technique import Search, technique


@technique("adagrad", source="Duchi, Hazan & Singer 2011, JMLR 12, section 1.1, diagonal form")
class AdaGrad(UpdateRule):
    """Divide each coordinate's step by the root of the sum of all its squared gradients.

    Prefer it for convex problems and rare features. Costs one slot. Its steps only ever shrink, so on a non-convex surface it
    may stop before it arrives.

        s = s + g * g          p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    start: what the sum begins with; more makes the first steps gentler. lr_decay: 1/t decay on top, per step.
    """

    lr: Rate = 1e-2
    eps: Tiny = 1e-10
    start: Annotated[float, Ge(0), Search(0.0, 1.0)] = 0.0
    lr_decay: Annotated[float, Ge(0), Search(1e-6, 1e-1, log=True)] = 0.0
    weight_decay: Penalty = 0.0

    slots: ClassVar = ("s",)

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return eps."""
        return (self.eps,)

    def rate(self, t: int) -> float:
        """Return lr, decayed."""
        return self.lr / (1 + (t - 1) * self.lr_decay)

    def initial(self, slot: str) -> float:  # noqa: ARG002 (there is one)
        """Return ``start``."""
        return self.start

    @staticmethod
    def direction(p, g, s, eps):  # noqa: ARG004 (every direction takes p)
        """Return the gradient over the root of its summed squares."""
        s = s + g * g
        return g / (sqrt(s) + eps), s


@technique(
    "rmsprop", source="Tieleman & Hinton 2012, Coursera lecture 6.5; centered: Graves 2013, arXiv:1308.0850, eqs. (38)-(45)"
)
class RMSProp(UpdateRule):
    """AdaGrad that forgets: divide by the root of a running mean of squared gradients.

    Prefer it to AdaGrad on non-convex surfaces: its steps grow again where gradients get small. One slot, one more
    for each of ``centered`` and ``momentum``.

        v = beta * v + (1 - beta) * g * g
        centered: m = beta * m + (1 - beta) * g, and v - m * m (the variance) stands for v below
        eps_place="outside":  u = g / (sqrt(v) + eps)      "inside":  u = g / sqrt(v + eps)
        momentum > 0:  b = momentum * b + u, and b stands for u below
        p -= lr * u

    torch.optim.RMSprop has eps outside, TensorFlow's inside; inside, eps is compared with squared gradients.
    """

    lr: Rate = 1e-2
    beta: Decay = 0.99
    eps: Tiny = 1e-8
    momentum: Decay = 0.0
    weight_decay: Penalty = 0.0
    centered: bool = False
    eps_place: Literal["outside", "inside"] = "outside"

    slots: ClassVar = ("v", "m", "b")

    def unused(self) -> frozenset[str]:
        """Return the slots of what is switched off."""
        return frozenset(({"m"} if not self.centered else set()) | ({"b"} if not self.momentum else set()))

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of the running means, eps inside and outside the root (one of them 0), and momentum."""
        inside = self.eps_place == "inside"
        return share(self.beta), self.eps if inside else 0.0, 0.0 if inside else self.eps, self.momentum

    @staticmethod
    def direction(p, g, v, m, b, mix, inside, outside, momentum):  # noqa: ARG004 (every direction takes p)
        """Return the gradient over its root mean square, or what momentum made of it."""
        v = ema(v, g * g, mix)
        size = v
        if m is not None:
            m = ema(m, g, mix)
            size = positive(v - m * m)  # rounding may leave a variance of nothing below zero
        u = g / (sqrt(size + inside) + outside)
        if b is not None:
            b = add_scaled(u, b, momentum)
            u = b
        return u, v, m, b


@technique("adadelta", source="Zeiler 2012, arXiv:1212.5701, Algorithm 1")
class Adadelta(UpdateRule):
    """RMSProp that also measures its own steps, so that a step has the unit of the weights.

    Prefer it where no rate is known: lr=1 is the paper's rule. Slow at the start. Costs two slots.

        v = beta * v + (1 - beta) * g * g       u = sqrt(d + eps) / sqrt(v + eps) * g       d = beta * d + (1 - beta) * u * u
        p -= lr * u
    """

    lr: Rate = 1.0
    beta: Decay = 0.9
    eps: Tiny = 1e-6
    weight_decay: Penalty = 0.0

    slots: ClassVar = ("v", "d")

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of both averages and eps."""
        return share(self.beta), self.eps

    @staticmethod
    def direction(p, g, v, d, mix, eps):  # noqa: ARG004 (every direction takes p)
        """Return the gradient, scaled from its own size to that of past steps."""
        v = ema(v, g * g, mix)
        u = sqrt(d + eps) / sqrt(v + eps) * g
        return u, v, ema(d, u * u, mix)
