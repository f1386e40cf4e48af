"""Averages of weights along the way, kept by any rule: of the recent past, of chosen steps, and of two speeds.

Steps are those of the whole optimizer: a parameter that has no gradient at some of them (a block that stochastic depth skips, a
layer frozen on the way) stays where it is, and that counts. Averages are of what the rule's own step has reached. A technique
that acts on the weights after that, as ``max_norm`` and proximal ``l1`` do, changes where the next step begins, not what goes
into the average of this one: a mean holds few exact zeros, and its rows may be a little longer than ``max_norm`` allows.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le

from descend.optim.adam import AdamW
from descend.optim.ops import ema, share
from descend.optim.rule import Decay, Rule
from descend.optim.wrapper import Wrapper
from descend.technique import Search, technique

WARMUP_POWER = 2 / 3
"""How the memory of ``ema`` grows with warm-up, as in timm: about t**(2/3) steps at step t."""


class Average(Wrapper):
    """What wrappers share that evaluate at an average of weights and leave the path of the inner rule as it is."""

    slots: ClassVar = ("mean",)

    def averages(self) -> bool:
        """Return True."""
        return True

    def evaluation_weights(self, p: Any, slots: tuple[Any, ...]) -> Any:
        """Return the average; before there is one, what the inner rule evaluates at."""
        return p if slots[0] is None else slots[0]

    @staticmethod
    def after_step(p, mean, mix):
        """Take the weights into the average."""
        return p, ema(mean, p, mix)


@technique(
    "ema", source="Polyak & Juditsky 1992; exponential form: Tarvainen & Valpola 2017, arXiv:1703.01780; warm-up as in timm"
)
class EMA(Average):
    """Keep a running average of the weights, and evaluate at it; the path of the inner rule stays as it is.

    Prefer it wherever the rate does not decay to zero: the average is better than any of the points in it. Costs one
    slot, and no further pass over the weights. Evaluate under ``optimizer.evaluation_weights()``; batch-norm statistics belong
    to the weights that are trained and must be measured again there.

        mean_t = keep_t * mean_{t-1} + (1 - keep_t) * p_t          keep_1 = 0: the average begins at the first point reached
        warmup:  keep_t = min(decay, 1 - t**(-2/3)),  so that early points are soon forgotten;  off: keep_t = decay

    decay: what the average keeps at each step; 0.999 remembers about a thousand steps.
    """

    inner: Rule = AdamW()
    decay: Decay = 0.999
    warmup: bool = True

    def coefficients(self, t: int) -> tuple[Any, ...]:
        """Return the shares of the average and of the weights."""
        grown = 1 - t**-WARMUP_POWER
        return (share(min(self.decay, grown) if self.warmup or t == 1 else self.decay),)


@technique("swa", source="Izmailov et al. 2018, arXiv:1803.05407, Algorithm 1")
class SWA(Average):
    """Average the weights of chosen steps, all with the same weight, and evaluate at that average.

    Prefer it for the last quarter of a run, with a rate that stays high or cycles. Costs one slot, from the first
    sample on, and at other steps nothing. Evaluate under ``optimizer.evaluation_weights()``; batch-norm
    statistics must be measured again there.

        mean = (n * mean + p) / (n + 1)     at steps begin, begin + every, begin + 2 * every, ...

    begin: the first step that is taken into the average (from 1, the average of the whole path, as Polyak's). every: steps from
    one sample to the next; an epoch's, or a cycle's, in the paper.
    """

    inner: Rule = AdamW()
    begin: Annotated[int, Ge(1), Search(1, 10_000, log=True)] = 1
    every: Annotated[int, Ge(1), Search(1, 1_000, log=True)] = 1

    def coefficients(self, t: int) -> tuple[Any, ...] | None:
        """Return the shares of the average and of the weights, at steps that are sampled."""
        since, left = divmod(t - self.begin, self.every)
        return None if since < 0 or left else (share(since / (since + 1)),)

    def begun(self, t: int) -> bool:
        """Return whether the first sample has been taken by step ``t``."""
        return t >= self.begin


@technique("lookahead", source="Zhang et al. 2019, arXiv:1907.08610, Algorithm 1")
class Lookahead(Wrapper):
    """Let the inner rule run ``k`` steps ahead, go a part of the way after it, and start it again from there.

    Prefer it to calm a rule with a high rate; the inner rule keeps its slots. Costs one slot, and every k-th pass is longer.

        every k steps:  slow = slow + alpha * (p - slow),  p = slow          slow begins at the first parameters

    Between these steps the parameters are the fast ones; evaluate after a multiple of k to meet the slow ones, as the paper does.
    """

    inner: Rule = AdamW()
    k: Annotated[int, Ge(1), Search(2, 10)] = 5
    alpha: Annotated[float, Gt(0), Le(1), Search(0.2, 0.8)] = 0.5

    slots: ClassVar = ("slow",)

    def coefficients(self, t: int) -> tuple[Any, ...] | None:
        """Return the shares of the slow and the fast weights, at every k-th step."""
        return None if t % self.k else ((1 - self.alpha, self.alpha),)

    @staticmethod
    def after_step(p, slow, mix):
        """Pull the slow weights after the fast ones, and these back to them."""
        slow = ema(slow, p, mix)
        return slow, slow
