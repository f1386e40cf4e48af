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
from descend.search.steps import KeepStep, text
from descend.search.study import Answer, Study
from descend.train.memory_need import state_bytes
from descend.train.plan import Plan

MEASURED = 5  # answers timed, after one that warms up; the median counts
DOUBT = 1.25  # times the limit, up to which members that were timed alone are timed together


def check(study: Study, answer: Answer) -> None:
    """Raise KnobError where even one look at one picture breaks a limit. answer: the first one, as small as the limit demands."""
    network = joined([replace(answer, mirrored=False)], [1.0])
    plan = study.plan
    if plan.latency is not None and (took := answer_s(network, plan.size)) > seconds(plan.latency, who="latency"):
        raise KnobError("latency", f"must allow one look at one picture: {1000 * took:.0f}ms here", got=plan.latency,
                        fix="Raise --latency, or name a smaller --backbone or --size.")  # fmt: skip
    if not _is_small(plan, network):
        raise KnobError("max_size", f"must allow one network: {state_bytes(network) / 1e6:.1f}MB", got=plan.max_size,
                        fix="Raise --max-size, or name a smaller --backbone.")  # fmt: skip


def kept(study: Study, findings: Findings, asked: KeepStep | None, *, finished: bool, lost: bool) -> KeepStep | None:
    """Return what may be shipped; None where nothing limits it.

    asked: what the recipe keeps. finished: whether its steps were all taken. lost: whether a training that it names is not there:
    places among the answers then mean others, and what is kept is chosen anew. Raises KnobError for what is too large.
    """
    if asked is None or (lost and study.plan.limited):
        return choose(study, findings) if study.plan.limited else None
    found = among_found(findings, asked)
    if finished:
        check_kept(study, findings, found)
    return found


def choose(study: Study, findings: Findings) -> KeepStep:
    """Return which answers may be kept, and whether they may look twice: what loses least on validation within the limits.

    Where a machine that has become busier allows none, the quickest: the first head was allowed once (``check``).
    """
    options = sorted(_options(findings), key=lambda option: _loss(findings, option))
    taken_s: dict[Answer, float] = {}  # by a member alone
    for step in options:
        answers, weights = selected(findings, step)
        if _is_quick(study.plan, answers, taken_s) and _allowed(study.plan, joined(answers, weights)):
            return step
    study.log.record.notes.append(
        "The limits could be kept when the search began, and not by any answer when it ended: the quickest is kept."
    )
    small = [option for option in options if _is_small(study.plan, joined(*selected(findings, option)))]
    return min(small or options, key=lambda option: _sum_s(study.plan, selected(findings, option)[0], taken_s))


def check_kept(study: Study, findings: Findings, step: KeepStep) -> None:
    """Raise KnobError where what a recipe keeps is larger than the run that takes it again allows."""
    network = joined(*selected(findings, step))
    if not _is_small(study.plan, network):
        must = f"must allow what the recipe's {text(step)} ships, {state_bytes(network) / 1e6:.1f}MB"
        raise KnobError("max_size", must, got=study.plan.max_size,
                        fix="Delete that step from the recipe: what is kept is chosen anew.")  # fmt: skip


def among_found(findings: Findings, step: KeepStep) -> KeepStep:
    """Return what a step keeps of the answers that there are: of a replay that was stopped."""
    members = tuple(place for place in step.members if place < len(findings.answers))
    head = step.head if step.head is not None and step.head < len(findings.heads) else None
    return replace(step, members=members or (0,), head=head)


def selected(findings: Findings, step: KeepStep) -> tuple[list[Answer], list[float]]:
    """Return the answers that a step keeps, and their weights; those whose weight is negligible are left out."""
    offered = findings.answers if step.head is None else [findings.heads[step.head], *findings.answers[1:]]
    answers = [offered[place] if step.mirrored else findings.looking_once(offered[place]) for place in step.members]
    judged = [findings.on_val(answer) for answer in answers]
    return mixture.with_weight(answers, mixture.weights(judged, findings.labels, findings.counts))


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


def _options(findings: Findings) -> Iterator[KeepStep]:
    """Yield all ways to keep answers: with the best head, with another one that saw as many pictures, or without."""
    places, best = range(len(findings.judged)), findings.answers[0]  # those that nothing judges stand last
    others = [place for place, head in enumerate(findings.heads) if head is not best and head.share == best.share]
    for n in range(1, len(places) + 1):
        for chosen in itertools.combinations(places, n):
            for head in [None, *others] if 0 in chosen else [None]:
                step = KeepStep(members=chosen, head=head)
                yield step
                if any(answer.mirrored for answer in selected(findings, step)[0]):
                    yield replace(step, mirrored=False)


def _loss(findings: Findings, step: KeepStep) -> float:
    answers, weights = selected(findings, step)
    return mixture.nats([findings.on_val(answer) for answer in answers], np.array(weights), findings.labels, findings.counts)


def _is_quick(plan: Plan, answers: Sequence[Answer], taken_s: dict[Answer, float]) -> bool:
    """Return whether members that were timed one by one may be quick enough together: many mixtures need not be built then."""
    return plan.latency is None or _sum_s(plan, answers, taken_s) <= DOUBT * seconds(plan.latency, who="latency")


def _sum_s(plan: Plan, answers: Sequence[Answer], taken_s: dict[Answer, float]) -> float:
    """Return the seconds that answers take one after the other. taken_s: of those that have been timed."""
    for answer in answers:
        if answer not in taken_s:
            taken_s[answer] = answer_s(joined([answer], [1.0]), plan.size)
    return sum(taken_s[answer] for answer in answers)


def _is_small(plan: Plan, network: Ensemble) -> bool:
    return plan.max_size is None or state_bytes(network) <= n_bytes(plan.max_size, who="max_size")


def _allowed(plan: Plan, network: Ensemble) -> bool:
    if not _is_small(plan, network):
        return False
    return plan.latency is None or answer_s(network, plan.size) <= seconds(plan.latency, who="latency")
