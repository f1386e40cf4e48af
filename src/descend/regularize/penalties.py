"""Penalties: the price of large weights, paid in the optimizer, after the step, or as a hard limit.

*L2 and decoupled decay are the optimizer's* ``weight_decay``: ``l2`` sets it and is nothing else. L1 and the elastic net
act after the step by their proximal operator, which (unlike a subgradient) gives exact zeros; max-norm clamps.

Which parameters they touch: those that require a gradient, whose name ends in ``weight`` and which have two or more
dimensions (matrices and convolution kernels). Biases and the scales and shifts of normalization layers are left alone; those of
a norm over several axes are told from a matrix by a bias of the same shape. Layers that compute their weight from other
parameters (weight norm, spectral norm, pruning) are refused: to shrink those would not shrink the weight.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from descend.errors import ModelError
from descend.regularize.regularizer import Parameters, Regularizer
from descend.technique import Search, technique

COMPUTED = re.compile(r"(^|\.)(parametrizations\.\w*weight\.original\d*|\w*weight_(g|v|orig))$")
"""Names of what torch computes weights from: parametrizations, and the older weight_norm, spectral_norm and pruning."""

Strength = Annotated[float, Ge(0), Search(1e-7, 1e-3, log=True)]


def penalized(parameters: Parameters) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters that penalties touch: trainable, named ``...weight``, of two or more dimensions, no norm's.

    Raises ModelError for a trainable layer that computes its weight from other parameters.
    """
    for name, p in parameters.items():
        if p.requires_grad and COMPUTED.search(name):
            raise ModelError("penalties", "weights must be parameters, not be computed from others", got=name,
                             fix="Make them plain (remove_parametrizations, remove_weight_norm), or leave it out.")  # fmt: skip
        if p.requires_grad and p.ndim >= 2 and name.endswith("weight") and not _is_scale(name, p, parameters):
            yield name, p


def _is_scale(name: str, p: Tensor, parameters: Parameters) -> bool:
    """Return whether a weight multiplies element by element: then the bias beside it has its shape."""
    bias = parameters.get(name.removesuffix("weight") + "bias")
    return bias is not None and bias.shape == p.shape


def sparsity(model: nn.Module) -> dict[str, float]:
    """Return the share of exactly zero weights, in [0, 1]: of each penalized parameter by name, and of "all" together.

    Parameters that penalties do not touch are left out; a model without any has 0 of "all". Raises ModelError for layers that
    compute their weight from other parameters.
    """
    touched = dict(penalized(dict(model.named_parameters())))
    zeros = {name: p.numel() - int(torch.count_nonzero(p)) for name, p in touched.items()}
    total = sum(p.numel() for p in touched.values())
    return {name: zeros[name] / p.numel() for name, p in touched.items()} | {"all": sum(zeros.values()) / max(total, 1)}


@torch.no_grad()
def _shrink(parameters: Parameters, l1: float, l2: float) -> None:
    """Apply the proximal operator of ``l1 |w| + l2 w^2 / 2`` in place: sign(w) max(|w| - l1, 0) / (1 + l2)."""
    for _, p in penalized(parameters):
        p.sub_(p.clamp(-l1, l1))  # |w| <= l1 gives w - w, an exact zero
        if l2:
            p.div_(1 + l2)


@technique("l2", source="Krogh & Hertz 1992, 'A simple weight decay can improve generalization', NIPS 4, eq. 3")
class L2(Regularizer):
    """Weight decay, the optimizer's own: ``l2(strength=1e-4)`` sets ``weight_decay=1e-4`` in its rule.

        coupled:    w <- w - lr * u(g + strength * w)        u: the direction that the rule makes of a gradient
        decoupled:  w <- (1 - lr * strength) w - lr * u(g)

    Prefer it always, a little; it costs nothing. With SGD it is the gradient of ``strength/2 |w|^2``; what it is in an
    adaptive rule (coupled or decoupled) is the rule's definition. Setting both is an error.
    """

    neutral: ClassVar = {"strength": 0.0}

    strength: Annotated[float, Ge(0), Search(1e-6, 1e-1, log=True)] = 1e-4

    def optimizer_knobs(self) -> dict[str, float]:
        """Set ``weight_decay``."""
        return {"weight_decay": self.strength}


@technique("l1", source="Duchi & Singer 2009, 'Efficient online and batch learning using forward backward splitting', eq. 19")
class L1(Regularizer):
    """The lasso: after each step every weight moves ``lr * strength`` towards zero and stays there when it arrives.

    Prefer it where weights should be exactly zero (features to be dropped, see ``sparsity``); costs one pass over the
    weights per step. Each parameter group is shrunk by its own learning rate. With an adaptive rule the prox is the plain one,
    not in the rule's metric: its steps do not shrink with the gradient, so it gives next to no exact zeros. Take SGD for zeros.

        w <- sign(w) max(|w| - lr * strength, 0)
    """

    neutral: ClassVar = {"strength": 0.0}

    strength: Strength = 1e-5

    def after_step(self, parameters: Parameters, lr: float) -> None:
        """Soft-threshold the weights by ``lr * strength``."""
        _shrink(parameters, lr * self.strength, 0.0)


@technique("elastic_net", source="Zou & Hastie 2005, JRSS B 67:301, eq. 3; prox: Parikh & Boyd 2014, section 6.5.3")
class ElasticNet(Regularizer):
    """L1 and L2 together: zeros like the lasso, but correlated weights shrink together instead of one replacing the rest.

        w <- sign(w) max(|w| - lr * l1, 0) / (1 + lr * l2)

    The L2 part stands here, in the prox, and not in the optimizer: leave the rule's ``weight_decay`` at 0 with it. For exact
    zeros take SGD, as with ``l1``.
    """

    not_with: ClassVar = {"l1": "its l1 is that penalty", "l2": "its l2 is that penalty"}
    neutral: ClassVar = {"l1": 0.0, "l2": 0.0}

    l1: Strength = 1e-5
    l2: Annotated[float, Ge(0), Search(1e-6, 1e-1, log=True)] = 1e-4

    def after_step(self, parameters: Parameters, lr: float) -> None:
        """Soft-threshold by ``lr * l1``, then divide by ``1 + lr * l2``."""
        _shrink(parameters, lr * self.l1, lr * self.l2)


@technique("max_norm", source="Srivastava et al. 2014, JMLR 15:1929, section 5.1")
class MaxNorm(Regularizer):
    """A hard limit on the length of each unit's incoming weight vector; longer ones are scaled back after each step.

    Prefer it with dropout and large learning rates, which would otherwise let weights explode: inside the ball nothing is
    shrunk. A unit is one output of a layer: row o of a matrix, kernel o of a convolution, over all its inputs.

        w_o <- w_o * min(1, limit / |w_o|)
    """

    neutral: ClassVar = {"limit": 1e30}

    limit: Annotated[float, Gt(0), Search(0.5, 5.0, log=True)] = 3.0

    @torch.no_grad()
    def after_step(self, parameters: Parameters, lr: float) -> None:
        """Clamp the norm of each unit's weights to ``limit``; the learning rate plays no part."""
        del lr
        for _, p in penalized(parameters):
            norm = torch.linalg.vector_norm(p, dim=tuple(range(1, p.ndim)), keepdim=True)
            p.mul_(torch.where(norm > self.limit, self.limit / norm, 1.0))  # where: inside the ball nothing changes, to the bit
