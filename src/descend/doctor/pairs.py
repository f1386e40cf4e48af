"""Techniques that are each right and work against each other: a table of pairs, each with its reason and its source.

Pairs that can only be wrong are refused when a run is resolved (``not_with`` of a regularizer); these may be meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from descend.doctor.subject import Subject
from descend.findings import Finding
from descend.optim import EMA, SWA
from descend.optim.chain import chain_of
from descend.optim.schedule_free import ScheduleFree
from descend.regularize import batch_norms
from descend.regularize.penalties import ElasticNet
from descend.train.task_builder import class_counts, class_weights

CHECK = "pairs"
DROPPED_MAPS = ("spatial_dropout", "drop_block")
FEW_EPOCHS = 10
SMALL_BATCH = 8
MEMORIES = 3  # of an average, that a run must last for it to forget its beginning


@dataclass(frozen=True)
class Pair:
    """Two techniques that work against each other.

    given: whether a subject has both. why: what happens, in words. fix: what to do. source: who showed or derived it.
    severity: ``finding`` where harm follows from the definitions, ``note`` where it depends on the data. figures: what it comes
    to with this subject, where that can be computed.
    """

    first: str
    second: str
    given: Callable[[Subject], bool]
    why: str
    fix: str
    source: str
    severity: Literal["note", "finding"] = "note"
    figures: Callable[[Subject], dict[str, float]] = lambda _: {}


def _both(*names: str) -> Callable[[Subject], bool]:
    return lambda subject: {*names} <= _regularizers(subject)


def _regularizers(subject: Subject) -> set[str]:
    return {item.name for item in subject.plan.regularize}


def _mixes(subject: Subject) -> bool:
    return any("mix" in item.stages for item in subject.plan.augment)


def _decays(subject: Subject) -> bool:
    return any(group.get("weight_decay", 0.0) > 0 for group in subject.task.optimizer.param_groups)


def _norms_train(subject: Subject) -> bool:
    return subject.plan.norm == "train" and any(True for _ in batch_norms(subject.module))


def _falls(subject: Subject) -> bool:
    schedule = subject.plan.schedule
    return not schedule.needs_history() and schedule.factor(1.0, None) < 0.1


def _coupled(subject: Subject) -> bool:
    core = chain_of(subject.plan.optimizer).core
    return _decays(subject) and core.decays == "coupled" and "v" in core.slots  # divided by the root of squared gradients


def _two_decays(subject: Subject) -> bool:
    return _decays(subject) and any(isinstance(item, ElasticNet) and item.l2 > 0 for item in subject.plan.regularize)


def _long_memory(subject: Subject) -> bool:
    averages = [item for item in chain_of(subject.plan.optimizer).wrappers if isinstance(item, EMA) and not item.warmup]
    return any(subject.n_steps * (1 - item.decay) < MEMORIES for item in averages)


def _averages(subject: Subject) -> bool:
    chain = chain_of(subject.plan.optimizer)
    return isinstance(chain.core, ScheduleFree) or any(isinstance(item, (EMA, SWA)) for item in chain.wrappers)


def _sure_of_the_commonest(subject: Subject) -> dict[str, float]:
    """Return the best probability that a picture of the commonest class may give it, by torch's weighted smoothing and by ours.

    torch's loss of such a picture is ``- sum_k w_k q_k log p_k``, whose best p is w q, scaled to sum 1; ours has p = q.
    """
    dataset, smoothing = subject.surveyed.dataset, subject.plan.loss().smoothing
    weights = class_weights(subject.plan, dataset)
    assert weights is not None  # the pair has class weights
    common = int(class_counts(dataset).argmax())
    q = torch.full_like(weights, smoothing / len(weights))
    q[common] += 1 - smoothing
    return {"best_p_in_torch": float((weights * q / (weights * q).sum())[common]), "best_p_here": float(q[common])}


PAIRS = (
    Pair(
        "class_weights", "label_smoothing", _both("class_weights", "label_smoothing"),
        "elsewhere (torch) the weight of a rare class multiplies its smoothing in every picture, and everything is called rare; "
        "here a picture weighs what its own class weighs, so answers stay right, but confidence is changed twice",
        "Keep one where probabilities matter; another loss than descend's must not combine them.",
        "cross_entropy's definition; Szegedy et al. 2016, arXiv:1512.00567, section 7", figures=_sure_of_the_commonest,
    ),
    Pair(
        "mixing", "label_smoothing", lambda s: _mixes(s) and "label_smoothing" in _regularizers(s),
        "mixing softens targets already; smoothing on top makes answers less sure than they are right",
        "Leave label_smoothing out, or mix less.",
        "Carratino et al. 2020, arXiv:2006.06049: mixing includes a kind of label smoothing",
    ),
    Pair(
        "focal", "label_smoothing", _both("focal", "label_smoothing"),
        "focal lowers the weight of the true class where it is likely, smoothing keeps the full weight of all others: "
        "together they hold confidence far below accuracy",
        "Keep one.",
        "Mukhoti et al. 2020, arXiv:2002.09437: focal loss by itself regularizes the entropy",
    ),
    Pair(
        "dropped feature maps", "batch_norm", lambda s: _norms_train(s) and bool({*DROPPED_MAPS} & _regularizers(s)),
        "the variance that batch norms learn from dropped maps is not the one they meet in evaluation (variance shift)",
        "Use dropout before the head, or stochastic_depth.",
        "Li et al. 2018, arXiv:1801.05134",
    ),
    Pair(
        "weight decay", "adaptive rule", _coupled,
        "the decay goes through the moments and is divided by the size of gradients: weights with large ones hardly decay",
        "Use adamw, whose decay is decoupled.",
        "Loshchilov & Hutter 2019, arXiv:1711.05101, section 2",
    ),
    Pair(
        "elastic_net", "weight_decay", _two_decays,
        "both shrink every weight towards zero: the decay is the sum of two settings",
        "Set weight_decay=0 in the optimizer, or use l1 instead.",
        "the definition of elastic_net", "finding",
    ),
    Pair(
        "l1", "adaptive rule", lambda s: "l1" in _regularizers(s) and "v" in chain_of(s.plan.optimizer).core.slots,
        "steps of an adaptive rule do not shrink with the gradient: next to no weight becomes exactly zero",
        "Use sgd or momentum where zeros are wanted.",
        "the definition of l1: its prox is the plain one",
    ),
    Pair(
        "schedule-free rule", "falling schedule",
        lambda s: isinstance(chain_of(s.plan.optimizer).core, ScheduleFree) and _falls(s),
        "the rule averages its path so that the rate need not fall; with a falling rate the average looks back at the beginning",
        'Add --schedule "warmup()" or constant.',
        "Defazio et al. 2024, arXiv:2405.15682",
    ),
    Pair(
        "early_stopping", "falling schedule", lambda s: "early_stopping" in _regularizers(s) and _falls(s),
        "the best epochs are those at the lowest rates, at the end; stopping before cuts them off",
        "Leave early_stopping out: the best epoch is kept anyway.",
        "the definition of the schedule",
    ),
    Pair(
        "mixing", "few epochs", lambda s: _mixes(s) and s.plan.epochs < FEW_EPOCHS,
        "mixed pictures are harder, and learning from them takes more epochs",
        "Train for longer, or leave mixing out.",
        "He et al. 2019, arXiv:1812.01187, section 5.3: 200 epochs instead of 120",
    ),
    Pair(
        "ema without warmup", "short run", _long_memory,
        "the average remembers most of the run, its bad beginning included",
        "Lower its decay, or leave warmup on.",
        "Tarvainen & Valpola 2017, arXiv:1703.01780, section 3.4: a shorter memory early on", "finding",
    ),
    Pair(
        "max_norm", "averaged weights", lambda s: "max_norm" in _regularizers(s) and _averages(s),
        "the average is of weights before they are held: its rows, which are saved, may be longer than the limit",
        "Leave the average out where the limit must hold.",
        "the definition of the average",
    ),
    Pair(
        "zeros by l1", "averaged weights", lambda s: bool({"l1", "elastic_net"} & _regularizers(s)) and _averages(s),
        "a weight is exactly zero in the average, which is saved, only where it was in all of its steps: next to none is",
        "Leave the average out where zeros are wanted.",
        "the definition of the average",
    ),
    Pair(
        "batch_norm", "small batches", lambda s: _norms_train(s) and s.plan.batch_size < SMALL_BATCH,
        "mean and variance of so few pictures are noise",
        "Raise the batch size, or hold the norms (--norm eval) where they are pretrained.",
        "Wu & He 2018, arXiv:1803.08494, figure 1",
    ),
)  # fmt: skip


def pairs(subject: Subject) -> list[Finding]:
    """Return what of the table the recipe has."""
    found = [
        Finding(CHECK, pair.severity, f"{pair.first} with {pair.second}: {pair.why}",
                {"first": pair.first, "second": pair.second, "source": pair.source, **pair.figures(subject)}, pair.fix)
        for pair in PAIRS if pair.given(subject)
    ]  # fmt: skip
    return found or [Finding(CHECK, "ok", f"none of {len(PAIRS)} pairs that work against each other", {"n": len(PAIRS)})]
