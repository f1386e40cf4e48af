"""Stochastic gradient descent, and the two ways to give it inertia."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from descend.optim.ops import add_scaled
from descend.optim.rule import Decay, Penalty, Rate, UpdateRule
from descend.technique import technique


@technique("sgd", source="Robbins & Monro 1951, A Stochastic Approximation Method, eq. (8)")
class SGD(UpdateRule):
    """Step against the gradient of the mini-batch.

    Costs no memory. Crawls along ravines, zigzags across them, and stops at saddle points.

        p -= lr * g

    lr: step per unit of gradient. weight_decay: coupled L2, added to the gradient as ``weight_decay * p``.
    """

    lr: Rate = 1e-1
    weight_decay: Penalty = 0.0

    @staticmethod
    def direction(p, g):  # noqa: ARG004 (every direction takes p)
        """Return the gradient."""
        return (g,)


@technique(
    "momentum", source="Polyak 1964; Sutskever et al. 2013, On the importance of initialization and momentum, eqs. (1)-(2)"
)
class Momentum(UpdateRule):
    """Let gradients push a velocity: a ball that rolls, with friction ``1 - momentum``.

    Prefer it to SGD wherever the loss has ravines or small bumps; it costs one slot and overshoots.

        form="lr_outside":  v = momentum * v + g          p -= lr * v
        form="lr_inside":   v = momentum * v + lr * g     p -= v

    The two walk the same path while lr is constant. When lr drops, the first slows at once, the second keeps the speed it has.
    torch.optim.SGD is the first.
    """

    lr: Rate = 1e-2
    momentum: Decay = 0.9
    weight_decay: Penalty = 0.0
    form: Literal["lr_outside", "lr_inside"] = "lr_outside"

    slots: ClassVar = ("v",)

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the friction and what a gradient adds to the velocity."""
        return self.momentum, self.lr if self.form == "lr_inside" else 1.0

    def rate(self, t: int) -> float:  # noqa: ARG002
        """Return lr, or 1 where the velocity already holds it."""
        return 1.0 if self.form == "lr_inside" else self.lr

    @staticmethod
    def direction(p, g, v, momentum, push):  # noqa: ARG004 (every direction takes p)
        """Return the velocity."""
        v = add_scaled(v * momentum, g, push)
        return v, v


@technique(
    "nesterov",
    source="Nesterov 1983; Sutskever et al. 2013, eqs. (3)-(4); change of variables: Bengio et al. 2013, arXiv:1212.0901",
)
class Nesterov(UpdateRule):
    """Momentum that looks where it is going before it takes the gradient.

    Prefer it to Momentum on smooth ravines, where it overshoots less; same cost.

        form="lookahead":  v = momentum * v + h(p - lr * momentum * v)     p -= lr * v
        form="current":    v = momentum * v + h(p)                         p -= lr * (h(p) + momentum * v)
        h(x) = g(x) + weight_decay * x, the gradient of the loss with its L2 penalty

    The first is the definition, and needs a closure because it takes the gradient elsewhere. The second is the first
    seen from the look-ahead point (its p is the other's p - lr * momentum * v), and needs only the gradient at hand; while lr
    and momentum are constant both walk the same path. torch.optim.SGD(nesterov=True) is the second.

    weight_decay: coupled L2, taken where the gradient is taken.
    """

    lr: Rate = 1e-2
    momentum: Decay = 0.9
    weight_decay: Penalty = 0.0
    form: Literal["current", "lookahead"] = "current"

    slots: ClassVar = ("v",)

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the friction, and the shares of the gradient and of the velocity in the direction.

        Looking ahead, L2 belongs to the look-ahead point q = p - lr * momentum * v as the gradient does. A step adds
        weight_decay * p, so the rest, -weight_decay * lr * momentum * v, is taken from the friction.
        """
        if self.looks_ahead():
            return self.momentum * (1 - self.lr * self.weight_decay), 0.0, 1.0
        return self.momentum, 1.0, self.momentum

    def looks_ahead(self) -> bool:
        """Return whether the gradient is wanted at the look-ahead point."""
        return self.form == "lookahead"

    def lookahead_point(self, p: Any, slots: tuple[Any, ...]) -> Any:
        """Return where the velocity alone would carry the parameters."""
        return add_scaled(p, slots[0], -self.lr * self.momentum) if self.looks_ahead() else p

    @staticmethod
    def direction(p, g, v, momentum, of_g, of_v):  # noqa: ARG004 (every direction takes p)
        """Return the velocity, ahead of itself by one gradient where the form asks for it."""
        v = add_scaled(g, v, momentum)
        return add_scaled(g * of_g, v, of_v), v
