"""Rules that need no decay of the learning rate, because they average weights as they go.

The paper has three points: z steps, x is the mean of all z, and gradients are taken at y = (1 - beta) z + beta x. Here the
parameters are y, and the one slot is ``ahead = z - y``, which starts at zero:

    c = weight / sum of all weights                               weight: that of this step's z in the mean, rate**2
    y <- y + c * ahead - rate * (1 - beta * (1 - c)) * s          s: the inner rule's step
    ahead <- (1 - c) * (ahead - rate * beta * s)
    x = y - (1 - beta) / beta * ahead                             evaluate this: ``with optimizer.evaluation_weights(): ...``
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Gt, Lt

from descend.optim.ops import add_scaled, ema, share, sqrt
from descend.optim.rule import Decay, Penalty, Rate, Tiny, UpdateRule
from descend.technique import Search, technique

Blend = Annotated[float, Gt(0), Lt(1), Search(0.5, 0.98)]
"""Where gradients are taken: 0 at the stepping point, 1 at the mean."""


class ScheduleFree(UpdateRule):
    """What both rules share: the weights of the mean."""

    beta: Blend

    memory: ClassVar = ("rates", "top_rate")  # the sum of all weights (squared rates), the largest rate
    decays: ClassVar = "inside"

    def pace(self, t: int) -> float:  # noqa: ARG002 (Adam's depends on it)
        """Return how far the stepping point goes at step ``t``."""
        return self.lr

    def rate(self, t: int) -> float:  # noqa: ARG002
        """Return 1: the direction holds the rate."""
        return 1.0

    def weight(self, t: int, top_rate: float) -> float:  # noqa: ARG002 (the form of a package asks for it)
        """Return the weight in the mean of where step ``t`` leads; top_rate: the largest rate so far."""
        return self.pace(t) ** 2

    def remember(self, t: int, *memory: float) -> tuple[float, ...]:
        """Return the sum of all weights and the largest rate."""
        weights, top_rate = memory
        top_rate = max(top_rate, self.pace(t))
        return weights + self.weight(t, top_rate), top_rate

    def blend(self, t: int, weights: float, top_rate: float) -> tuple[float, float, float, float]:
        """Return the factors of the step and of ``ahead`` in the direction, and the two by which ``ahead`` moves."""
        c = self.weight(t, top_rate) / weights if weights else 0.0
        return self.pace(t) * (1 - self.beta * (1 - c)), -c, -self.pace(t) * self.beta, 1 - c

    def averages(self) -> bool:
        """Return True."""
        return True

    def evaluation_weights(self, p: Any, slots: tuple[Any, ...]) -> Any:
        """Return the mean of all stepping points."""
        return add_scaled(p, slots[0], -(1 - self.beta) / self.beta)


@technique("schedule_free_sgd", source="Defazio et al. 2024, The Road Less Scheduled, arXiv:2405.15682, eqs. (3)-(5)")
class ScheduleFreeSGD(ScheduleFree):
    """SGD that averages instead of decaying: use it with a constant rate after a warm-up.

        y = (1 - beta) z + beta x                          where gradients are taken: the parameters
        z <- z - lr (g + weight_decay y)
        x <- (1 - c) x + c z,  c = lr^2 / sum of lr^2      what is evaluated

    Prefer it where the length of the run is not known. One slot. Evaluate under ``optimizer.evaluation_weights()``;
    batch-norm statistics belong to the training point and must be measured again there. Wants 10-50 times the lr of SGD with
    momentum. Differs from its authors' package (schedulefree 1.4) where lr falls: there, points count by the square of the
    largest rate so far, here by that of their own.
    """

    lr: Rate = 1.0
    beta: Blend = 0.9
    weight_decay: Penalty = 0.0

    slots: ClassVar = ("ahead",)

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:
        """Return the decay and the factors of the mean."""
        return self.weight_decay, *self.blend(t, *memory)

    @staticmethod
    def direction(p, g, ahead, weight_decay, of_step, of_ahead, drag, keep):
        """Return the update of the point where gradients are taken."""
        step = add_scaled(g, p, weight_decay)
        return add_scaled(step * of_step, ahead, of_ahead), add_scaled(ahead, step, drag) * keep


@technique("schedule_free_adamw", source="Defazio et al. 2024, The Road Less Scheduled, arXiv:2405.15682, Algorithm 1")
class ScheduleFreeAdamW(ScheduleFree):
    """AdamW that averages instead of decaying: use it with a constant rate after a warm-up.

    Prefer it where the length of the run is not known. Two slots. Evaluate under ``optimizer.evaluation_weights()``,
    as ScheduleFreeSGD.

        v = beta2 * v + (1 - beta2) * g * g
        form="paper":    s = g / (sqrt(v) + eps) + weight_decay * p                        rate = lr * sqrt(1 - beta2**t)
                         weight = rate**2
        form="package":  s = g / (sqrt(v / (1 - beta2**t)) + eps) + weight_decay * p       rate = lr
                         weight = (largest rate so far)**2

    form: the paper's counts early points less, for its rate grows over the first 1 / (1 - beta2) steps; "package" is that of its
    authors' package, schedulefree 1.4. After a few hundred steps the two are still far apart.
    """

    lr: Rate = 2.5e-3
    beta: Blend = 0.9
    beta2: Decay = 0.999
    eps: Tiny = 1e-8
    weight_decay: Penalty = 1e-2
    form: Literal["paper", "package"] = "paper"

    slots: ClassVar = ("ahead", "v")

    def pace(self, t: int) -> float:
        """Return lr, in the paper's form short while the second moment is young."""
        return self.lr * math.sqrt(1 - self.beta2**t) if self.form == "paper" else self.lr

    def weight(self, t: int, top_rate: float) -> float:
        """Return the weight in the mean of where step ``t`` leads."""
        return self.pace(t) ** 2 if self.form == "paper" else top_rate**2

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:
        """Return the shares of the second moment, what makes it unbiased, eps, the decay and the factors of the mean."""
        grow = 1.0 if self.form == "paper" else 1 / (1 - self.beta2**t)
        return share(self.beta2), grow, self.eps, self.weight_decay, *self.blend(t, *memory)

    @staticmethod
    def direction(p, g, ahead, v, mix, grow, eps, weight_decay, of_step, of_ahead, drag, keep):
        """Return the update of the point where gradients are taken."""
        v = ema(v, g * g, mix)
        step = add_scaled(g / (sqrt(v * grow) + eps), p, weight_decay)
        return add_scaled(step * of_step, ahead, of_ahead), add_scaled(ahead, step, drag) * keep, v
