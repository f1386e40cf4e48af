"""The average over masks that a network with random layers stands for at test time: its expectation, exact, or sampled.

* The expectation is ``model.eval()``: one pass, every drop layer at its mean. The default everywhere.
* ``exact_average`` runs all 2^n masks of a small network and weighs each by its probability: the truth that the
  expectation stands for.
* ``monte_carlo`` averages n random passes and says how much they disagree.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from descend import rng
from descend.errors import ModelError, check_count
from descend.regularize.masks import MaskSource, forced


@dataclass(frozen=True)
class MonteCarlo:
    """The outcome of n random passes.

    probabilities: (B, K), the mean of the passes' softmax. predictive_entropy: (B,), of that mean, in nats: all the
    uncertainty there is. mutual_information: (B,), nats: the part of it that comes from the passes disagreeing; the rest is
    doubt that every pass shares. predictions: (n, B) int64, the class that each pass alone would have predicted.
    """

    probabilities: Tensor
    predictive_entropy: Tensor
    mutual_information: Tensor
    predictions: Tensor


@torch.no_grad()
def monte_carlo(model: nn.Module, x: Tensor, n: int, *, seed: int = 0, ids: ArrayLike | None = None) -> MonteCarlo:
    """Average the softmax of ``n`` passes with every kind of dropout on and everything else in evaluation form.

    That reaches our drop layers, torch's and timm's, and the functional calls (``F.dropout(..., training=self.training)``,
    attention dropout) inside anyone's forward. Normalization layers stay in evaluation mode, so nothing is updated.
    The passes are draws 0..n-1 of the samples' ids, so our layers draw the same whatever the batch; layers of others
    draw from a generator seeded for the pass, which is restored afterwards.

    x: (B, ...), the model's input. ids: (B,) int64, default 0..B-1. Costs n forward passes.
        H = -sum_k p_k log p_k of the mean p;   I = H - the mean entropy of the single passes

    Raises KnobError for n < 1; ModelError where the model's training form gives no (B, K) tensor or updates a buffer.
    Source: Gal & Ghahramani 2016, arXiv:1506.02142; mutual information: Houlsby et al. 2011, arXiv:1112.5745, eq. 2.
    """
    check_count("monte_carlo", n, knob="n")
    sample_ids = np.arange(x.shape[0]) if ids is None else np.asarray(ids, np.int64)
    mean, pass_entropy, predictions = torch.zeros(()), torch.zeros(()), []
    with dropping(model), torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        for draw in range(n):
            torch.manual_seed(rng.integer_seed(seed, f"monte_carlo/{draw}"))
            with rng.context(0, 0, sample_ids, draw):
                log_p = torch.log_softmax(_logits(model, x).double(), dim=1)
            mean = mean + (log_p.exp() - mean) / (draw + 1)
            pass_entropy = pass_entropy + (_entropy(log_p.exp()) - pass_entropy) / (draw + 1)
            predictions.append(log_p.argmax(1))
    entropy = _entropy(mean)
    return MonteCarlo(mean, entropy, (entropy - pass_entropy).clamp_min(0), torch.stack(predictions))


@contextmanager
def dropping(model: nn.Module) -> Iterator[None]:
    """Inside, every dropout of ``model`` is on and all that keeps statistics stays in evaluation mode; then all is restored.

    Raises ModelError if a pass inside changed a buffer, which no dropout does.
    """
    before = {module: module.training for module in model.modules()}
    versions = {name: buffer._version for name, buffer in model.named_buffers()}
    try:
        for module in before:  # the flag itself: train() may be overridden by frozen parts, and would reach the children
            keeps_statistics = isinstance(module, _NormBase) or hasattr(module, "running_var")
            module.training = not (keeps_statistics or isinstance(module, nn.RReLU))
        yield
    finally:
        for module, training in before.items():
            module.training = training
    changed = [name for name, buffer in model.named_buffers() if buffer._version != versions.get(name)]
    if changed:
        raise ModelError(type(model).__name__, "random passes must leave every buffer alone", got=changed[0],
                         fix="This layer updates itself in training form; Monte-Carlo averaging cannot use it.")  # fmt: skip


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    logits = model(x)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ModelError(type(model).__name__, "its training form must return (B, K) logits", got=type(logits).__name__,
                         fix="Models with extra heads in training cannot be averaged over masks.")  # fmt: skip
    return logits


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(1)


@dataclass(frozen=True)
class ExactAverage:
    """The average over all masks: of the logits (B, K), of the softmax (B, K), and its normalized geometric mean (B, K).

    The geometric mean is what weight scaling computes exactly when dropped units feed the softmax directly.
    """

    logits: Tensor
    probabilities: Tensor
    geometric: Tensor
    n_masks: int


class _Enumeration:
    """Stands in for the generator: first it notes how many bits each source draws, then it deals out every pattern."""

    def __init__(self) -> None:
        self.n_drawn: dict[MaskSource, tuple[int, float]] = {}  # bits, and the drop probability of each
        self.pattern: dict[MaskSource, Tensor] | None = None

    def __call__(self, source: MaskSource, n: int, p: float) -> Tensor:
        if self.pattern is None:
            self.n_drawn[source] = (n, p)
            return torch.ones(n)
        return self.pattern[source]

    def patterns(self) -> Iterator[float]:
        """Set each pattern in turn and yield its probability."""
        drop = torch.tensor([p for n, p in self.n_drawn.values() for _ in range(n)], dtype=torch.float64)
        sizes = [n for n, _ in self.n_drawn.values()]
        for kept in itertools.product((0.0, 1.0), repeat=len(drop)):
            row = torch.tensor(kept, dtype=torch.float64)
            self.pattern = dict(zip(self.n_drawn, row.split(sizes), strict=True))
            yield float(torch.where(row == 1, 1 - drop, drop).prod())


@torch.no_grad()
def exact_average(model: nn.Module, x: Tensor, *, limit: int = 16) -> ExactAverage:
    """Average over every mask of the model's drop layers, each weighed by its probability. For small networks.

    x: (B, ...). limit: the most random bits per sample; the cost is 2^bits forward passes. Works for all our drop layers;
    those of others stay in evaluation form. Raises ModelError above the limit, or where there is nothing random.
    """
    enumeration = _Enumeration()
    layers = [m for m in model.modules() if any(isinstance(value, MaskSource) for value in _sources(m))]
    before = {layer: layer.training for layer in layers}
    token = forced.set(enumeration)
    try:
        for layer in layers:
            layer.training = True
        _logits(model, x)
        n_bits = sum(n for n, _ in enumeration.n_drawn.values())
        if not 0 < n_bits <= limit:
            raise ModelError("exact_average", f"the model must draw 1 to {limit} bits per sample", got=n_bits,
                             fix="Use a smaller network, or monte_carlo.")  # fmt: skip
        return _averaged(model, x, enumeration)
    finally:
        forced.reset(token)
        for layer, training in before.items():
            layer.training = training


def _sources(module: nn.Module) -> Iterator[object]:
    yield getattr(module, "source", None)
    yield getattr(getattr(module, "masking", None), "source", None)


def _averaged(model: nn.Module, x: Tensor, enumeration: _Enumeration) -> ExactAverage:
    logits = probabilities = log_mean = torch.zeros((), dtype=torch.float64)
    n_masks = 0
    for weight in enumeration.patterns():
        z = _logits(model, x).double()
        log_p = torch.log_softmax(z, dim=1)
        logits, probabilities, log_mean = logits + weight * z, probabilities + weight * log_p.exp(), log_mean + weight * log_p
        n_masks += 1
    return ExactAverage(logits, probabilities, torch.softmax(log_mean, dim=1), n_masks)
