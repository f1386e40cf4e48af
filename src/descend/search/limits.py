"""What may be shipped: the best mixture whose answer is quick enough and whose model is small enough on this machine."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from descend.errors import KnobError
from descend.models import Ensemble, Member
from descend.quantities import n_bytes, seconds
from descend.search import mixture
from descend.search.findings import Findings
from descend.search.steps import KeepStep
from descend.search.study import Answer, Study
from descend.train.plan import Plan

MEASURED = 5  # answers timed, after one that warms up; the median counts


def check(study: Study, answer: Answer) -> None:
    """Raise KnobError where even one look at the smallest picture breaks a limit. answer: the first one of a search."""
    network = joined([replace(answer, mirrored=False)], [1.0])
    plan = study.plan
    if plan.latency is not None and (took := answer_s(network, plan.size)) > seconds(plan.latency, who="latency"):
        raise KnobError("latency", f"must allow one look at one picture: {1000 * took:.0f}ms here", got=plan.latency)
    if plan.max_size is not None and size_of(network) > n_bytes(plan.max_size, who="max_size"):
        raise KnobError("max_size", f"must allow one network: {size_of(network) / 1e6:.1f}MB", got=plan.max_size)


def choose(study: Study, findings: Findings) -> KeepStep:
    """Return which answers may be kept, and whether they may look twice: what loses least on validation within the limits."""
    for step in sorted(_options(findings), key=lambda option: _loss(findings, option)):
        if _allowed(study.plan, joined(*selected(findings, step))):
            return step
    raise AssertionError("the first answer kept the limits")  # ``check`` has seen to it


def selected(findings: Findings, step: KeepStep) -> tuple[list[Answer], list[float]]:
    """Return the answers that a step keeps, and their weights; those whose weight is negligible are left out."""
    answers = [_looking(findings.answers[place], mirrored=step.mirrored) for place in step.members]
    return mixture.with_weight(answers, mixture.weights([findings.on_val(answer) for answer in answers], findings.labels))


def joined(answers: Sequence[Answer], weights: Sequence[float]) -> Ensemble:
    """Return the mixture of answers as one network."""
    return Ensemble([Member(answer.classifier, mirrored=answer.mirrored) for answer in answers], weights).eval()


def answer_s(network: Ensemble, size: int) -> float:
    """Return the seconds that the answer to one picture takes: the median of a few."""
    picture = torch.zeros(1, 3, size, size).to(memory_format=torch.channels_last)
    walls: list[float] = []
    with torch.inference_mode():
        for _ in range(MEASURED + 1):
            started = time.perf_counter()
            network(picture)
            walls.append(time.perf_counter() - started)
    return statistics.median(walls[1:])


def size_of(network: Ensemble) -> int:
    """Return the bytes of a network's parameters and buffers: those of its file, but for names."""
    return sum(value.numel() * value.element_size() for value in network.state_dict().values())


def _options(findings: Findings) -> Iterator[KeepStep]:
    """Yield all ways to keep answers."""
    places = range(len(findings.answers))
    for n in range(1, len(places) + 1):
        for chosen in itertools.combinations(places, n):
            yield KeepStep(members=chosen)
            if any(findings.answers[place].mirrored for place in chosen):
                yield KeepStep(members=chosen, mirrored=False)


def _loss(findings: Findings, step: KeepStep) -> float:
    answers, weights = selected(findings, step)
    p = mixture.mixed([findings.on_val(answer) for answer in answers], np.array(weights))
    return float(-np.log(np.maximum(p[np.arange(len(p)), findings.labels], 1e-12)).mean())


def _looking(answer: Answer, *, mirrored: bool) -> Answer:
    return answer if mirrored or not answer.mirrored else replace(answer, mirrored=False)


def _allowed(plan: Plan, network: Ensemble) -> bool:
    if plan.max_size is not None and size_of(network) > n_bytes(plan.max_size, who="max_size"):
        return False
    return plan.latency is None or answer_s(network, plan.size) <= seconds(plan.latency, who="latency")
