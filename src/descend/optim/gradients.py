"""What is done to gradients between the backward pass and the rule.

A stage reads all gradients of the step together. A ``Scaling`` returns one number, which the step multiplies in
where it reads the gradient anyway, so nothing is written twice; a ``Rewrite`` returns new gradients and never touches
``parameter.grad``; ``Accumulate`` keeps them until its window is full, and what follows it sees the window's mean.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from descend.optim.tensors import foreach
from descend.technique import Search, Technique, technique


class GradientStage(Technique, family="gradient"):
    """The base of both kinds of gradient stage."""


class Scaling(GradientStage):
    """A stage that multiplies every gradient by the same number."""

    def scale(self, norm: float) -> float:
        """Return the factor for gradients whose joint Euclidean norm is ``norm``."""
        raise NotImplementedError


class Rewrite(GradientStage):
    """A stage that changes gradients one element or one tensor at a time."""

    def rewrite(self, params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """Return new gradients for ``params``; both lists are of one device and dtype, shapes as given."""
        raise NotImplementedError


@technique("clip_norm", source="Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, Algorithm 1")
class ClipNorm(Scaling):
    """Shorten the gradient of all parameters together to ``max_norm`` where it is longer; its direction stays.

    Prefer it where single batches throw training off. Costs one reading of the gradients, shared with the check that they are
    finite.

        g *= min(1, max_norm / norm(g))

    Differs from torch.nn.utils.clip_grad_norm_: no 1e-6 is added to the norm, so a clipped gradient has length max_norm exactly.
    """

    max_norm: Annotated[float, Gt(0), Search(0.1, 10.0, log=True)] = 1.0

    def scale(self, norm: float) -> float:
        """Return ``min(1, max_norm / norm)``."""
        return self.max_norm / norm if norm > self.max_norm else 1.0


@technique("clip_value", source="Mikolov 2012, Statistical Language Models Based on Neural Networks, section 3.2.2")
class ClipValue(Rewrite):
    """Cut every element of the gradient off at ``max_value``; changes its direction.

    Prefer ``clip_norm``; this one is for gradients with a few wild elements. Costs one writing of the gradients.

        g = min(max(g, -max_value), max_value)
    """

    max_value: Annotated[float, Gt(0), Search(1e-3, 1.0, log=True)] = 0.5

    def rewrite(self, params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:  # noqa: ARG002 (other stages read the weights)
        """Return the gradients, clamped."""
        return list(foreach._foreach_clamp_max(foreach._foreach_clamp_min(grads, -self.max_value), self.max_value))


@technique("adaptive_clip", source="Brock et al. 2021, arXiv:2102.06171, eq. (3)")
class AdaptiveClip(Rewrite):
    """Shorten the gradient of each unit to ``clip`` times the length of its weights, where it is longer.

    Prefer it for networks without batch norm and for large batches: what is too long depends on the layer. Costs one reading of
    the weights and one writing of the gradients. The paper leaves the last linear layer alone; this takes all.

        g_i *= min(1, clip * max(norm(p_i), eps) / norm(g_i))      i: the weights of one output; a vector is one unit

    clip: how long a step may be, relative to the weights; smaller for larger batches. eps: least length of weights, so that
    those that begin at zero can move.
    """

    clip: Annotated[float, Gt(0), Search(1e-3, 0.3, log=True)] = 0.01
    eps: Annotated[float, Gt(0), Search(1e-4, 1e-2, log=True)] = 1e-3

    def rewrite(self, params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """Return the gradients, no unit of them too long."""
        return [self._shortened(p, g) for p, g in zip(params, grads, strict=True)]

    def _shortened(self, p: Tensor, g: Tensor) -> Tensor:
        length, limit = _unit_norms(g), _unit_norms(p).clamp(min=self.eps) * self.clip
        return g * torch.where(length > limit, limit / length, torch.ones_like(length))


def _unit_norms(x: Tensor) -> Tensor:
    """Return the norm of each output's weights, shaped to be multiplied with ``x``."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)) or None, keepdim=True)


@technique("centralize", source="Yong et al. 2020, arXiv:2004.01461, eq. (1)")
class Centralize(Rewrite):
    """Take the mean of each unit's gradient away from it, so that the sum of a unit's weights stays where it began.

    Prefer it for convolutional networks with batch norm, where it regularizes and steadies. Costs one writing of the gradients.
    Vectors and scalars (norms, biases) stay as they are.

        g_i -= mean(g_i)      i: the weights of one output
    """

    def rewrite(self, params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:  # noqa: ARG002 (other stages read the weights)
        """Return the gradients, every unit's mean zero."""
        return [g if g.ndim < 2 else g - g.mean(dim=tuple(range(1, g.ndim)), keepdim=True) for g in grads]


@technique(
    "accumulate", source="common practice; Goyal et al. 2017, arXiv:1706.02677, section 2.3 (a step is the mean of its batch)"
)
class Accumulate(GradientStage):
    """Take one step for every ``n`` gradients, along their mean: a batch n times as large in the memory of one.

    Prefer it where the batch that training wants does not fit. Costs the memory of one more gradient. ``step`` is called, and
    gradients are cleared, for every batch as ever; ``optimizer.moved`` says when the window closed. Stages before this one act
    on every gradient, those after it on the mean. ``optimizer.flush()`` moves by a window that is not full, as the mean
    over the batches that it holds.

        g = (g_1 + ... + g_n) / n

    The mean is over batches: a shorter last batch weighs as much as the others.
    """

    n: Annotated[int, Ge(1), Search(2, 16, log=True)] = 4
