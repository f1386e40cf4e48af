"""The end of a search: the mixture becomes one network, is judged once, and is saved."""

from __future__ import annotations

from descend.models import Ensemble, Member
from descend.search import mixture, networks
from descend.search.findings import Findings
from descend.search.study import Study
from descend.technique import spec
from descend.train.judge import judge_answers, judged_rows, save_model
from descend.train.modes.mode import with_pretrained
from descend.train.record_types import Chosen, EnsembleMember
from descend.train.run import Run


def concluded(study: Study, findings: Findings, *, finished: bool) -> Run:
    """Save the best mixture as one network, judge it on validation, and on test when the search is finished."""
    log, plan, record = study.log, study.plan, study.log.record
    kept = [(answer, float(w)) for answer, w in zip(findings.answers, findings.weights, strict=True) if w > 0]
    with log.timed("evaluate"):
        rows = judged_rows(study.dataset, finished=finished)
        if kept[0][0].share < 1:  # stopped at the first look
            rows = {"val": study.rows("val", kept[0][0].share)}
        weights = findings.weights[findings.weights > 0]
        probs = {
            split: mixture.mixed([study.probabilities(answer, chosen) for answer, _ in kept], weights)
            for split, chosen in rows.items()
        }
        ensemble = Ensemble([Member(answer.classifier, mirrored=answer.mirrored) for answer, _ in kept], [w for _, w in kept])
        save_model(log, ensemble)
        architecture = spec(with_pretrained(plan.backbone, False), defaults=True)
        assert record.preprocessing is not None  # since the beginning
        record.preprocessing["members"] = [
            EnsembleMember(architecture=architecture, taps=list(answer.classifier.backbone.taps), view=answer.view,
                           mirrored=answer.mirrored, weight=weight)
            for answer, weight in kept
        ]  # fmt: skip
        record.status = "finished" if finished else "interrupted"
        record.chosen = Chosen(
            transfer="auto", backbone=spec(plan.backbone, defaults=True), size=plan.size, engine=plan.engine, epoch=0
        )
        judge_answers(log, study.decoded, rows, probs)
        record.budget_used_s = study.clock.used()
        log.save()
    if finished:
        networks.clear(log)
    assert log.folder is not None  # a search writes its run
    return Run(log.folder, record)
