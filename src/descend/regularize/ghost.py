"""Batch normalization where the batch is not what it should be: ghost batches, and statistics measured again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from descend.errors import DataError, ModelError, check_count
from descend.regularize.norm import HeldInEval
from descend.regularize.probe import evaluation_form
from descend.regularize.regularizer import Regularizer
from descend.technique import Search, technique


class GhostBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over groups of ``ghost`` samples instead of the whole batch, while training.

    When to prefer it: large batches, whose own statistics are too good: the noise of small groups regularizes. It costs a
    little more than batch normalization. Samples are grouped in the order of the batch; a last group that would be smaller
    than half a ghost joins the one before. The running statistics take one step per batch, with the mean of the groups'
    statistics (*differs from the paper*, which takes one step per group). Evaluation is that of ``nn.BatchNorm2d``, and so
    are the names of its state.

        y = (x - mean_group) / sqrt(var_group + eps) * gamma + beta

    x: (B, C, H, W). Raises KnobError for ghost < 2; ModelError for a single value per channel.
    Source: Hoffer, Hubara & Soudry 2017, arXiv:1705.08741, Algorithm 1.
    """

    def __init__(self, num_features: int, ghost: int, *, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True) -> None:  # fmt: skip
        super().__init__(num_features, eps=eps, momentum=momentum, affine=affine, track_running_stats=track_running_stats)
        check_count("GhostBatchNorm2d", ghost, knob="ghost", least=2)
        self.ghost = ghost

    def forward(self, input: Tensor) -> Tensor:
        """Return input normalized, shifted and scaled: (B, C, H, W) -> the same."""
        if not self.training:
            return super().forward(input)
        if input.numel() == self.num_features:
            raise ModelError("GhostBatchNorm2d", "a channel must hold more than one value in training", got=tuple(input.shape),
                             fix="Drop the last batch of one, or keep this layer in evaluation mode.")  # fmt: skip
        groups = _groups(input.shape[0], self.ghost)
        if len(groups) == 1:  # the whole batch: torch's own arithmetic, to the bit
            return super().forward(input)
        parts = input.split(groups)
        dtype = _statistics_dtype(input, self.weight)
        means, variances = ([input.new_zeros(self.num_features, dtype=dtype) for _ in parts] for _ in range(2))
        out = [  # with momentum 1 torch leaves each group's own mean and unbiased variance in the vectors that it is given
            F.batch_norm(part, mean, variance, self.weight, self.bias, training=True, momentum=1.0, eps=self.eps)
            for part, mean, variance in zip(parts, means, variances, strict=True)
        ]
        if self.track_running_stats:
            self._follow(torch.stack(means).mean(0), torch.stack(variances).mean(0))
        return torch.cat(out)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        running = [(self.running_mean, mean), (self.running_var, variance)]
        rate = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            rate = 1 / float(self.num_batches_tracked) if rate is None else rate
        for kept, seen in running:
            if kept is not None and rate is not None:
                kept.lerp_(seen.to(kept.dtype), rate)


class _GhostBatchNormAct2d(GhostBatchNorm2d):
    """The ghost form of timm's ``BatchNormAct2d``, which does dropout and its activation after normalizing."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


def _statistics_dtype(x: Tensor, weight: Tensor | None) -> torch.dtype:
    """Return the precision that torch wants of statistics: that of the weights, and without them no half one."""
    if weight is not None:
        return weight.dtype
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def _groups(n: int, ghost: int) -> list[int]:
    whole, rest = divmod(n, ghost)
    if whole == 0:
        return [n]
    if rest > 1 and 2 * rest >= ghost:
        return [ghost] * whole + [rest]
    return [ghost] * (whole - 1) + [ghost + rest]


@technique("ghost_batch_norm", source="Hoffer, Hubara & Soudry 2017, arXiv:1705.08741, Algorithm 1")
class GhostBatchNorm(Regularizer):
    """Make every two-dimensional batch norm of the model normalize over ``size`` samples at a time in training.

        y = weight (x - mean_g) / sqrt(var_g + eps) + bias        g: the group of ``size`` samples that x is in

    Weights, running statistics and their names stay; norms that are held in evaluation mode remain held.
    """

    neutral: ClassVar = {"size": 2**31}  # one group holds any batch
    needs_norm: ClassVar = "train"

    size: Annotated[int, Ge(2), Search(8, 128, log=True)] = 32

    def install(self, model: nn.Module, seed: int) -> nn.Module:
        """Change the class of each ``BatchNorm2d`` in place. Raises ModelError where there is none."""
        del seed
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and not isinstance(m, GhostBatchNorm2d)]
        plain = [norm for norm in norms if type(norm) is nn.BatchNorm2d]
        acting = [norm for norm in norms if type(norm).__name__ == "BatchNormAct2d"]
        unknown = next((norm for norm in norms if norm not in plain and norm not in acting), None)
        if unknown is not None:
            raise ModelError(self.name, "must know what a norm does beside normalizing", got=type(unknown).__name__,
                             fix="Leave ghost_batch_norm out.")  # fmt: skip
        if not norms:
            raise ModelError(self.name, f"{type(model).__name__} must have a BatchNorm2d", fix="Leave ghost_batch_norm out.")
        for norm in [*plain, *acting]:
            norm.__class__ = GhostBatchNorm2d if norm in plain else _GhostBatchNormAct2d
            norm.__dict__["ghost"] = self.size
        return model


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Measure the statistics of every batch norm anew on ``batches``; returns the number of batches.

    Due whenever weights changed without passing through training steps: after averaging weights, above all. Statistics are
    the plain mean over the batches, so equal batches are best. Norms held in evaluation mode stay as they are; everything
    else runs in evaluation form.

    batches: the model's inputs, (B, C, H, W) float. Raises DataError where there is no batch.
    Source: Izmailov et al. 2018, arXiv:1803.05407, section 3.1.
    """
    n = 0
    with evaluation_form(model):
        momenta = {m: m.momentum for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and _trains(m)}
        for norm in momenta:
            norm.training = True  # the flag itself: train() would switch on the drop layers that norms hold, too
        try:
            for x in batches:
                if n == 0:
                    for norm in momenta:
                        norm.reset_running_stats()
                        norm.momentum = None  # torch's word for the plain mean over all batches since the reset
                model(x)
                n += 1
        finally:
            for norm, momentum in momenta.items():
                norm.momentum = momentum
    if n == 0:
        raise DataError("reestimate_batch_norm", "there must be at least one batch", got=0)
    return n


def _trains(norm: nn.Module) -> bool:
    """Return whether a norm can be put into training mode; every module at and below it is in evaluation mode afterwards."""
    if isinstance(vars(norm).get("train"), HeldInEval):
        return False
    trains = norm.train(True).training  # a norm of others may be held by a train() of its own
    for part in norm.modules():
        part.training = False
    return trains
