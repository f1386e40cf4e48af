"""Rules that look at whole tensors: step lengths in proportion to weights, factored moments, orthogonal updates."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le

from descend.optim.ops import add_scaled, ema, norm, share, sqrt, trust
from descend.optim.rule import Decay, Penalty, Rate, Tiny, UpdateRule
from descend.technique import Search, technique


@technique("lars", source="You, Gitman & Ginsburg 2017, arXiv:1708.03888, Algorithm 1")
class LARS(UpdateRule):
    """Momentum in which every tensor's step is a fixed part of the length of its weights.

    Prefer it for very large batches. Costs one slot. Weights that are all zero take the plain step.

        ratio = eta * norm(p) / (norm(g) + weight_decay * norm(p))
        v = momentum * v + lr * ratio * (g + weight_decay * p)       p -= v
    """

    lr: Rate = 1.0
    momentum: Decay = 0.9
    weight_decay: Penalty = 1e-4
    eta: Annotated[float, Gt(0), Search(1e-4, 1e-1, log=True)] = 1e-3

    slots: ClassVar = ("v",)
    decays: ClassVar = "inside"
    elementwise: ClassVar = False

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return all knobs: lr stands inside the velocity."""
        return self.lr, self.momentum, self.weight_decay, self.eta

    def rate(self, t: int) -> float:  # noqa: ARG002
        """Return 1: the velocity holds the rate."""
        return 1.0

    @staticmethod
    def direction(p, g, v, lr, momentum, weight_decay, eta):
        """Return the velocity."""
        length = norm(p)
        ratio = trust(length * eta, norm(g) + length * weight_decay)
        v = add_scaled(v * momentum, add_scaled(g, p, weight_decay), lr * ratio)
        return v, v


@technique("lamb", source="You et al. 2020, arXiv:1904.00962, Algorithm 2")
class LAMB(UpdateRule):
    """AdamW in which every tensor's step is as long as its weights, times lr.

    Prefer it for very large batches with attention. Costs two slots. Weights that are all zero take Adam's step.

        u = m_hat / (sqrt(v_hat) + eps) + weight_decay * p       p -= lr * norm(p) / norm(u) * u
    """

    lr: Rate = 2e-3
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Tiny = 1e-6
    weight_decay: Penalty = 1e-2

    slots: ClassVar = ("m", "v")
    decays: ClassVar = "inside"
    elementwise: ClassVar = False

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of both averages, eps, decay, and what makes the averages unbiased."""
        grow1, grow2 = 1 / (1 - self.beta1**t), 1 / (1 - self.beta2**t)
        return share(self.beta1), share(self.beta2), self.eps, self.weight_decay, grow1, grow2

    @staticmethod
    def direction(p, g, m, v, mix1, mix2, eps, weight_decay, grow1, grow2):
        """Return Adam's direction with decay, as long as the weights."""
        m = ema(m, g, mix1)
        v = ema(v, g * g, mix2)
        u = add_scaled((m * grow1) / (sqrt(v * grow2) + eps), p, weight_decay)
        return u * trust(norm(p), norm(u)), m, v


@technique("adafactor", source="Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 4-6")
class Adafactor(UpdateRule):
    """Adam without a first moment, whose second moment is kept as the means of its rows and columns.

    Prefer it where memory is short: a matrix of n by m costs n + m numbers. Tensors of more axes are stacks of matrices; vectors
    keep all their second moments.

        R = ema(R, rowmean(g * g + eps), beta2)     C = ema(C, colmean(g * g + eps), beta2)     V = R C / mean(R)
        beta2 = 1 - t**-power      u = g / sqrt(V)      u = u / max(1, rms(u) / clip)
        p -= max(floor, rms(p)) * min(lr, 1 / sqrt(t)) * u       decoupled decay by lr, as in torch
    """

    lr: Rate = 1e-2
    power: Annotated[float, Gt(0), Le(1), Search(0.5, 1.0)] = 0.8
    eps: Tiny = 1e-30
    floor: Annotated[float, Ge(0), Search(1e-4, 1.0, log=True)] = 1e-3
    clip: Annotated[float, Gt(0), Search(0.3, 3.0)] = 1.0
    weight_decay: Penalty = 0.0

    slots: ClassVar = ("row", "col", "v")
    decays: ClassVar = "decoupled"
    elementwise: ClassVar = False

    def slot_shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape of row and column means for matrices, of the whole moment for vectors."""
        if len(shape) < 2:
            return shape if slot == "v" else None
        return {"row": (*shape[:-1], 1), "col": (*shape[:-2], 1, shape[-1]), "v": None}[slot]

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of the averages, eps, and the two limits."""
        return share(1 - t**-self.power), self.eps, self.floor, self.clip

    def rate(self, t: int) -> float:
        """Return lr, at most 1/sqrt(t)."""
        return min(self.lr, 1 / math.sqrt(t))

    @staticmethod
    def direction(p, g, row, col, v, mix, eps, floor, clip):
        """Return the gradient over the root of its factored second moment, scaled to the weights."""
        squares = g * g + eps
        if v is not None:
            v = ema(v, squares, mix)
            root = sqrt(v)
        else:
            row = ema(row, squares.mean(axis=-1, keepdims=True), mix)
            col = ema(col, squares.mean(axis=-2, keepdims=True), mix)
            root = sqrt(row) * sqrt(col / row.mean(axis=-2, keepdims=True))  # row * col of zero gradients is no float32: eps ** 2
        u = g / root
        size = math.sqrt(math.prod(p.shape))
        limit = max(1.0, float(norm(u)) / (size * clip))
        return u * (max(floor, float(norm(p)) / size) / limit), row, col, v


QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of Muon's iteration, chosen by its author for the steepest rise at zero."""


@technique("muon", source="Jordan et al. 2024, Muon: An optimizer for hidden layers, https://kellerjordan.github.io/posts/muon")
class Muon(UpdateRule):
    """Momentum whose matrix update is made orthogonal: all directions are learned at the same speed.

    Prefer it for the matrices of large networks; costs one slot and a few matrix products per step. Kernels of convolutions are
    matrices of (out, rest). Differs from the author's use: vectors are matrices of one column (their update is normalized)
    instead of going to AdamW; give them a group with a rate of their own where that matters. Arithmetic is that of the weights,
    not bfloat16.

        m = momentum * m + (1 - momentum) * g          u = (1 - momentum) * g + momentum * m   (nesterov; else u = m)
        u = orthogonal(u)  by n_steps of  X <- a X + (b A + c A A) X,  A = X X'
        p -= lr * sqrt(max(1, rows / columns)) * u         decoupled decay
    """

    lr: Rate = 2e-2
    momentum: Decay = 0.95
    weight_decay: Penalty = 1e-2
    nesterov: bool = True
    n_steps: Annotated[int, Ge(1), Le(20), Search(3, 8)] = 5

    slots: ClassVar = ("m",)
    decays: ClassVar = "decoupled"
    elementwise: ClassVar = False

    def coefficients(self, t: int, *memory: float) -> tuple[Any, ...]:  # noqa: ARG002
        """Return the shares of the mean and of the direction, and the number of iterations."""
        return share(self.momentum), (1 - self.momentum, self.momentum) if self.nesterov else (0.0, 1.0), self.n_steps

    @staticmethod
    def direction(p, g, m, mix, lean, n_steps):
        """Return the mean gradient, made orthogonal."""
        m = ema(m, g, mix)
        u = ema(g, m, lean)
        matrix = u.reshape(p.shape[0], -1) if len(p.shape) > 1 else u.reshape(-1, 1)
        stretch = math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1]))
        return orthogonal(matrix, n_steps).reshape(p.shape) * stretch, m


def orthogonal(matrix: Any, n_steps: int) -> Any:
    """Return ``matrix`` (n, m) with its singular values brought near 1 by Newton and Schulz's iteration."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (norm(x) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(n_steps):
        gram = x @ x.T
        x = x * a + (gram * b + (gram @ gram) * c) @ x
    return x.T if tall else x
