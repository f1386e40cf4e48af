"""The one loss: cross-entropy with hard or soft targets, label smoothing, class weights and focal weighting."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le, Lt
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from descend.errors import DataError, KnobError
from descend.technique import Search, Technique, technique


def cross_entropy(logits: Tensor, targets: Tensor, *, smoothing: float = 0.0, class_weights: Tensor | None = None,
                  focal: float = 0.0) -> Tensor:  # fmt: skip
    """Return the mean loss of a batch, a scalar, by the formula of ``CrossEntropy``.

    A mixed target is smoothed after mixing, which is the same as mixing smoothed targets; and its loss is the mix of the weighted
    losses of its classes, so that each class keeps the total that its weight gives it, whatever it is mixed with. *Differs from
    torch* where class weights meet smoothing: torch's ``cross_entropy`` multiplies the smoothed target by w_k, so that a weight
    of 100 multiplies the rare class's smoothing mass in every sample, and "rare" becomes the best prediction for all of them.
    Here the smoothing mass of a sample weighs what its own target weighs, and with one class to a sample its best prediction
    stays p = q. They differ in the mean too: here it is over the samples, also where targets are class numbers, of which torch
    divides by the sum of the batch's weights. That would cancel them in a batch of one and weaken them in small ones, so that
    the mean over parts of a batch would not be the loss of the batch. With focal = 0, all else is torch's.

    logits: (B, K) float; of half precision, the loss is summed, and returned, in float32: sums of weights go beyond 65,504.
    targets: (B,) int64, or (B, K) float rows that sum to 1. class_weights: (K,) float, >= 0, whose mean over the training samples
    should be 1, for the loss's scale.
    A logit of -inf takes its class out: it weighs nothing where its target is 0 (but in torch's own loss of rows of targets).
    Raises DataError for shapes or types that do not fit, and for class numbers outside 0..K-1, torch's -100 among them. On a GPU
    those are looked at with weights or focal only, for to look is to wait; without, -100 is left out there, as torch does.

    Source: smoothing, Szegedy et al. 2016, arXiv:1512.00567, section 7; focal, Lin et al. 2017, arXiv:1708.02002, eq. 4.
    """
    _check(logits, targets, class_weights, looks=focal > 0 or class_weights is not None)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    n_classes, hard = logits.shape[1], targets.ndim == 1
    if focal == 0 and class_weights is None:
        return F.cross_entropy(logits, targets if hard else targets.to(logits.dtype), label_smoothing=smoothing)
    t = (F.one_hot(targets, n_classes) if hard else targets).to(logits.dtype)
    weighed = t if class_weights is None else t * class_weights.to(logits)
    mass = (1 - smoothing) * weighed + smoothing / n_classes * weighed.sum(1, keepdim=True)
    log_p = F.log_softmax(logits, dim=1)
    if focal:
        miss = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)  # 1 - p; at 0 a power below 1 has no slope
        mass = mass * miss**focal
    return -(mass * log_p.masked_fill(mass == 0, 0.0)).sum(1).mean()  # 0 * -inf is NaN, forwards and backwards


def _check(logits: Tensor, targets: Tensor, class_weights: Tensor | None, *, looks: bool) -> None:
    """Raise DataError for what does not fit; looks: at class numbers on a GPU too."""
    if logits.ndim != 2 or not logits.is_floating_point():
        raise DataError("cross_entropy", "logits must be (B, K) float", got=(tuple(logits.shape), logits.dtype))
    hard = targets.shape == logits.shape[:1] and targets.dtype == torch.int64
    soft = targets.shape == logits.shape and targets.is_floating_point()
    if not (hard or soft):
        raise DataError("cross_entropy", "targets must be (B,) int64 or (B, K) float", got=(tuple(targets.shape), targets.dtype),
                        fix=f"The logits are {tuple(logits.shape)}.")  # fmt: skip
    if hard and not torch.compiler.is_compiling() and (looks or targets.device.type == "cpu"):
        odd = targets[(targets < 0) | (targets >= logits.shape[1])]
        if odd.numel():
            raise DataError("cross_entropy", f"class numbers must be in 0..{logits.shape[1] - 1}", got=int(odd[0]),
                            fix="Leave out the rows of samples without a class.")  # fmt: skip
    if class_weights is not None and class_weights.shape != logits.shape[1:]:
        raise DataError("cross_entropy", f"class_weights must be ({logits.shape[1]},)", got=tuple(class_weights.shape))


class Loss(Technique, family="loss"):
    """A loss as a record of its knobs; calling it gives the mean loss of a batch."""

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return a scalar. logits (B, K) float; targets (B,) int64 or (B, K) float; weights (K,) float, per class."""
        raise NotImplementedError


@technique("cross_entropy", source="Szegedy et al. 2016, arXiv:1512.00567, section 7; Lin et al. 2017, arXiv:1708.02002, eq. 4")
class CrossEntropy(Loss):
    """Cross-entropy, the one loss: with hard or soft targets, label smoothing, class weights and focal weighting.

    With t the target distribution (one-hot for hard targets), p = softmax(logits) and w the weights of the classes:

        v_i    = sum_k  w_k  t_ik                           a sample weighs what its own target weighs, before smoothing
        q_ik   = (1 - smoothing) w_k t_ik + smoothing v_i / K          smoothed once, whatever the target is
        loss_i = - sum_k  q_ik  (1 - p_ik)^focal  log p_ik
        loss   = mean_i loss_i                                         over samples; the mean of v over the training data is 1

    smoothing: the share of the target spread evenly over all classes; better calibrated, less over-confident; it also
    erases what the teacher knows about similar classes, so prefer 0 when the model is to be distilled.
    focal: the exponent that turns attention from easy samples to hard ones; for skewed classes with many easy negatives.
    class_weights: "balanced" multiplies each sample, and each part of a mixed one, by the weight that the call gives its class,
    so that rare classes count; see ``balanced_class_weights``.
    """

    smoothing: Annotated[float, Ge(0), Lt(1), Search(0.0, 0.2)] = 0.0
    focal: Annotated[float, Ge(0), Le(10), Search(0.0, 3.0)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of a batch, a scalar; weights (K,) are due exactly when ``class_weights`` is "balanced".

        Raises KnobError where weights are missing or would have no effect.
        """
        if (weights is not None) != (self.class_weights == "balanced"):
            state = "be given" if weights is None else "not be given"
            raise KnobError(self.name, f"weights must {state} with class_weights={self.class_weights!r}",
                            fix="balanced_class_weights(counts) makes them.")  # fmt: skip
        return cross_entropy(logits, targets, smoothing=self.smoothing, class_weights=weights, focal=self.focal)


def balanced_class_weights(counts: ArrayLike, *, beta: float = 1.0) -> Tensor:
    """Return the weight of each class, whose mean over the samples is 1: counts (K,) whole -> (K,) float32.

    A class's weight is proportional to 1 / E_k with the effective number ``E_k = (1 - beta^n_k) / (1 - beta)``, beta in [0, 1]:
    at 1, its limit, that is n_k, and the weight N / (K n_k); at 0 all weights are 1.
    Raises DataError where a class has no sample; KnobError for beta outside [0, 1].
    Source: Cui et al. 2019, arXiv:1901.05555, equation 2.
    """
    if not 0 <= beta <= 1:
        raise KnobError("balanced_class_weights", "beta must be a number in [0, 1]", got=beta)
    n = np.asarray(counts)
    if n.ndim != 1 or n.size == 0 or (n <= 0).any():
        raise DataError("balanced_class_weights", "every class must have at least one sample", got=n.tolist(),
                        fix="Drop the empty class, or train without class weights.")  # fmt: skip
    effective = n.astype(np.float64) if beta == 1 else -np.expm1(n * np.log(beta)) / (1 - beta) if beta > 0 else np.ones(n.size)
    return torch.from_numpy(n.sum() / (effective * (n / effective).sum())).to(torch.float32)
