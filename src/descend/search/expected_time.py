"""How long a step, a first look and the final judging will take, from the rates that this run has measured on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from descend.search.begin import EXPORT_S, MARGIN, QUICK_MARGIN
from descend.search.clock import CLOSING_S
from descend.search.features import fit_s, like_the_best, n_views_needed, refit_s, refitted_anyway, whole_heads
from descend.search.smaller_views import are_enlarged
from descend.search.steps import FeatureStep, FineTuneStep
from descend.search.study import Answer, Study

FIRST_LOOK_S, FIRST_LOOK_SHARE, LEAST_LEFT_S = 30.0, 0.5, 20.0
"""Seconds, and of the time left: a first answer that takes longer than either is preceded by one from fewer pictures, which takes
a quarter of that and tells which head to fit where the other's choice runs out of time. With less time left than LEAST_LEFT_S it
would take what one answer needs: half a minute for hands ended at 75% of 273 test pictures with it, at 93% of 478 without."""
REPORT_SHARE = 0.6  # of closing the run
GRAPH_S, WRITTEN_GRAPH_S = 1.6, 0.4
"""On a quiet machine, for the graph that quick answers are made from: where it is yet to be written, or an engine has left it."""
ENLARGED_LOOK_SHARE = 0.25
"""The same share for pictures that are enlarged for the network: the part also tells whether fewer pixels do. A minute for 3,238
blurred flowers, of which 18 s went into all of them in 224 px, ended at 75.4%; 96 px and mirror images have 77.7."""


def features_s(study: Study, step: FeatureStep, *, done: FeatureStep | None = None, instead: Answer | None = None) -> float:
    """Return the seconds that a step on features is expected to take.

    done: a step of the same size whose views lie in the cache. instead: of a head that the step's would replace; with what
    judging this one in the end takes more.
    """
    wall = n_views_needed(study, step, done=done) / study.rate(step.size) + fit_s(study, step)
    if instead is not None:
        looks = (1 + step.mirrored) / study.rate(step.size) - (1 + instead.mirrored) / rate_of(study, instead)
        wall += len(study.rows("test")) * max(0.0, looks)
    new = study.plan.engine != "torch" and done is None and not study.has_started(step.size)
    return MARGIN * wall + EXPORT_S * new


def judging_s(study: Study, answers: Sequence[Answer]) -> float:
    """Return the seconds that judging these answers on the test split will take, with few pictures' last fit, and closing."""
    n = len(study.rows("test"))
    views = sum((1 + answer.mirrored) / rate_of(study, answer) for answer in answers)
    heads = whole_heads(answers) if refitted_anyway(study) else []
    return study.clock.closing_s + MARGIN * n * views + sum(refit_s(study, head) for head in heads)


def graphs_and_report_s(study: Study, answers: Sequence[Answer]) -> float:
    """Return the seconds that the graphs of these answers and the report after them are expected to take."""
    graphs_s = sum(GRAPH_S if answer.engine.name == "torch" else WRITTEN_GRAPH_S for answer in answers)
    return study.clock.closing_s * (REPORT_SHARE + graphs_s / CLOSING_S[0])


def longest_first_look_s(study: Study, size: int) -> float:
    """Return the seconds that a first answer from all pictures may take without one from a part before it."""
    return min(FIRST_LOOK_S, affordable_look_s(study, size))


def affordable_look_s(study: Study, size: int) -> float:
    """Return the seconds beyond which looking at all pictures takes too large a share of the time, and fewer pixels are tried."""
    share = ENLARGED_LOOK_SHARE if are_enlarged(study, size) else FIRST_LOOK_SHARE
    return share * study.clock.left()


def first_reserve_s(study: Study, step: FeatureStep) -> float:
    """Return the seconds that must be left while the first answer is made: for one quick fit instead, and to judge that.

    Judging asks for the features of validation as soon as there is an answer, and of test at the end.
    """
    quick_s = fit_s(study, like_the_best(study, replace(step, quick=True)))
    n_judged = len(study.rows("val", step.share)) + len(study.rows("test"))
    return study.clock.closing_s + QUICK_MARGIN * quick_s + MARGIN * n_judged / study.rate(step.size)


def trained_judging_s(study: Study, step: FineTuneStep) -> float:
    """Return the seconds that the answers of a trained network for validation and test are expected to take."""
    n_judged = (len(study.rows("val")) + len(study.rows("test"))) * (1 + step.mirrored)
    engine = study.engine_of_trained
    return MARGIN * n_judged / study.rate(step.size, engine=engine) + EXPORT_S * (engine != "torch")


def rate_of(study: Study, answer: Answer) -> float:
    """Return how many pictures per second an answer looks at, once each."""
    return study.rate(answer.view, engine=answer.engine.name)
