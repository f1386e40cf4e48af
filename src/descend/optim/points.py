"""Away from the parameters: where a rule wants its gradient, and where its weights are evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from descend.optim.chain import Chain
from descend.optim.tensors import working_dtype

Chains = Sequence[tuple[Mapping[str, Any], Chain]]
"""Parameter groups, each with the rule that its knobs make."""

Points = Iterator[tuple[Tensor, Tensor]]
"""Parameters, each with the point at which it shall be."""


@contextmanager
def held(points: Iterable[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Hold parameters at other points within the block, then put them back bit for bit."""
    kept = []
    with torch.no_grad():
        for parameter, point in points:
            kept.append((parameter, parameter.detach().clone()))
            parameter.copy_(point)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)


def evaluation_points(chains: Chains, state_of: Mapping[Tensor, dict[str, Any]]) -> Points:
    """Yield every parameter that has made a step, with the weights to evaluate; none of a rule that keeps nothing."""
    for rule, parameter, slots in _started(chains, state_of):
        yield parameter, rule.evaluation_weights(parameter, slots)


def lookahead_points(chains: Chains, state_of: Mapping[Tensor, dict[str, Any]]) -> Points:
    """Yield every parameter that has made a step by a rule that looks ahead, with the point of its next gradient."""
    for rule, parameter, slots in _started(chains, state_of):
        if rule.core.looks_ahead():
            yield parameter, rule.lookahead_point(parameter, slots)


def _started(chains: Chains, state_of: Mapping[Tensor, dict[str, Any]]) -> Iterator[tuple[Chain, Tensor, tuple[Any, ...]]]:
    for group, rule in chains:
        for parameter in group["params"]:
            state = state_of.get(parameter, {})
            if any(name in state for name in rule.slots):  # before its first move it may hold gradients, but no slots
                yield rule, parameter, tuple(state.get(name) for name in rule.slots)


def perturbed_points(chains: Chains) -> Points:
    """Yield every parameter that has a gradient, and its point of the second one; none where a gradient is not finite."""
    known = [
        (rule.perturbation, p.to(working_dtype(p.dtype)), -p.grad if group["maximize"] else p.grad, p)
        for group, rule in chains
        if rule.perturbation is not None
        for p in group["params"]
        if p.grad is not None
    ]
    norms = (torch.linalg.vector_norm(perturbation.scaled_gradient(p, g)) for perturbation, p, g, _ in known)
    norm = math.hypot(*map(float, norms))
    if math.isfinite(norm):
        yield from ((parameter, perturbation.perturbed(p, g, norm)) for perturbation, p, g, parameter in known)
