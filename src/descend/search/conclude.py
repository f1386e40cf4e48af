"""The end of a search: the mixture becomes one network, is judged once, and is saved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from descend.search import limits, mixture, networks
from descend.search.expected_time import graphs_and_report_s
from descend.search.features import refitted
from descend.search.findings import Findings
from descend.search.steps import KeepStep
from descend.search.study import Answer, Study
from descend.technique import spec
from descend.train.graph_parts import N_CHECKED, Network, keep_graphs
from descend.train.judge import judge_answers, judged_rows, save_model
from descend.train.record import RunRecord
from descend.train.record_types import Chosen, EnsembleMember
from descend.train.run import Run

FEW = 0.5  # of the training pictures, up to which it is told that an answer has learned from no more
LATE_S = 1.5  # that graphs may end after the budget: of the 5 that every budget may be overdrawn by
IN_TIME, BY_STEPS = "Time sufficed to learn from", "The steps that were given learn from"  # how that begins


def concluded(study: Study, findings: Findings, keep: KeepStep | None, *, finished: bool, refit: bool) -> Run:
    """Save the best mixture as one network, judge it on validation, and on test when the search is finished.

    keep: what limits allow to ship, where there are any. refit: whether heads are fitted once more, with validation pictures too,
    where the search is finished. The validation figure is of the heads before that, and of the trained networks that have not
    learned from it.
    """
    log, plan, record = study.log, study.plan, study.log.record
    _forget(record, finished=finished)
    if keep is None:
        answers, weights = mixture.with_weight(findings.answers, findings.weights)
        judged = mixture.with_weight(findings.judged, findings.judged_weights)
    else:
        answers, weights = judged = limits.selected(findings, keep)
    record.choices_by_val = findings.choices + (keep is not None)
    with log.timed("evaluate"):
        rows = judged_rows(study.dataset, finished=finished)
        if answers[0].share < 1:  # made from what was done in time: nobody has looked at the rest of validation
            rows["val"] = study.rows("val", answers[0].share)
        probs = {"val": _mixed(study, *judged, rows["val"])}
        more: list[str] = []
        if finished and refit and any(answer.frozen for answer in answers):
            answers = [refitted(study, answer) if answer.frozen else answer for answer in answers]
            more.append("the head was fitted once more")
        if n_saw := sum(answer.saw_val for answer in answers):
            more.append(f"{n_saw} of {sum(not answer.frozen for answer in answers)} trained networks learned")
        if more:
            record.reasons["refit"] = f"{' and '.join(more)}, from training and validation pictures together"
        record.notes += _told_part(study, answers, len(rows["val"]))
        probs |= {split: _mixed(study, answers, weights, rows[split]) for split in rows if split != "val"}
        ensemble = limits.joined(answers, weights)
        assert record.preprocessing is not None  # since the beginning
        save_model(log, ensemble)
        record.preprocessing["members"] = [
            EnsembleMember(architecture=record.preprocessing["architecture"], taps=list(answer.classifier.backbone.taps),
                           view=answer.view, mirrored=answer.mirrored, weight=weight)
            for answer, weight in zip(answers, weights, strict=True)
        ]  # fmt: skip
        log.save()  # at once: model and record describe each other
        record.status = "finished" if finished else "interrupted"
        record.chosen = Chosen(
            transfer="auto", backbone=spec(plan.backbone, defaults=True), size=plan.size, engine=plan.engine, epoch=0
        )
        judge_answers(log, study.decoded, rows, probs, network=ensemble)
        if study.clock.left() > graphs_and_report_s(study, answers) - LATE_S:  # they make answers quicker, not other ones
            some = study.decoded.take(rows["val"][:N_CHECKED])
            keep_graphs(record, _networks(answers, weights), ensemble, some)
        if not record.search_ended:  # else its model was built again
            record.budget_used_s = study.clock.used()
        record.search_ended = record.search_ended or finished
        log.save()
    if finished:
        networks.clear(log)
    assert log.folder is not None  # a search writes its run
    return Run(log.folder, record)


def _forget(record: RunRecord, *, finished: bool) -> None:
    """Take out of the record what is not so of the answer that is judged now: Ctrl-C may have ended the judging of another."""
    record.reasons.pop("refit", None)
    record.notes = [note for note in record.notes if not note.startswith((IN_TIME, BY_STEPS))]
    if not finished:
        record.test = None
        for told in (record.per_class, record.confused, record.calibration):
            told.pop("test", None)


def _networks(answers: Sequence[Answer], weights: Sequence[float]) -> list[Network]:
    """Return the networks whose graphs answer as the members of an ensemble do."""
    return [
        Network(answer.classifier, answer.engine, f"members.{place}.classifier.head", answer.mirrored, weight / sum(weights))
        for place, (answer, weight) in enumerate(zip(answers, weights, strict=True))
    ]


def _told_part(study: Study, answers: Sequence[Answer], n_val: int) -> list[str]:
    """Return the note that an answer has learned from few of the training pictures; none where it knows more than half."""
    n, n_all = max(len(study.rows("train", answer.share)) for answer in answers), study.n_training
    if n > FEW * n_all:
        return []
    replayed = study.log.record.search_replayed
    begin, helps = (BY_STEPS, "a search without them") if replayed else (IN_TIME, "a longer --budget")
    judged = f", judged on {n_val:,} of validation" if n_val else ""
    return [f"{begin} {n:,} of {n_all:,} training pictures{judged}: {helps} learns from more."]


def _mixed(study: Study, answers: list[Answer], weights: list[float], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return mixture.mixed([study.probabilities(answer, rows) for answer in answers], np.array(weights))
