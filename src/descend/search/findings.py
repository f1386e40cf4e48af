"""What a search has found so far: every answer, how good it is, and the mixture of them that is best."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from descend.durations import duration
from descend.search import mixture
from descend.search.rungs import best_head
from descend.search.steps import FineTuneStep, Step, text
from descend.search.study import Answer, Study
from descend.stats import proportion
from descend.train import metrics
from descend.train.record_types import Score, SearchStep
from descend.transfer import Trial

NOTHING = "nothing: it learned from validation"  # what measured the answers of a step that no picture can judge


class Findings:
    """The answers of a search, in order.

    taken: every step with its answer. answers: those that take part in the mixture: the best head, every trained network, then
    those that learned from validation pictures too, which nothing can judge. weights: of those, 0 for one that is left out.
    judged_weights: of those that validation judges, among themselves. choices: how often validation decided between two. told:
    steps that the record tells of already: they are taken again.
    """

    def __init__(self, study: Study, told: Collection[str] = ()) -> None:
        self.study, self._told = study, told
        self.taken: list[tuple[Step, Answer]] = []
        self.answers: list[Answer] = []
        self.weights: NDArray[np.float64] = np.zeros(0)
        self.judged_weights: NDArray[np.float64] = np.zeros(0)
        self.choices = 0
        self._val: dict[Answer, NDArray[np.float32]] = {}
        self._once: dict[Answer, Answer] = {}

    @property
    def kept(self) -> list[Answer]:
        """The answers with a weight."""
        return mixture.with_weight(self.answers, self.weights)[0]

    @property
    def judged(self) -> list[Answer]:
        """The answers that validation judges."""
        return [answer for answer in self.answers if not answer.saw_val]

    @property
    def heads(self) -> list[Answer]:
        """The heads on frozen features, in the order in which they were fitted."""
        return [answer for _, answer in self.taken if answer.frozen]

    @property
    def best_training(self) -> tuple[FineTuneStep, Answer] | None:
        """The training that validation gives the highest weight, with its step; None where it gives none to any."""
        weight = dict(zip(self.judged, self.judged_weights, strict=True))
        kept = [(step, answer) for step, answer in self.taken if isinstance(step, FineTuneStep) and weight.get(answer, 0.0) > 0]
        return max(kept, key=lambda one: weight[one[1]], default=None)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels of the validation pictures that the answers are weighed on, (n,)."""
        return self._labels(self.answers[0].share)

    @property
    def counts(self) -> mixture.Counts:
        """How much each of these pictures counts: copies and groups as often as they are evidence."""
        return self.study.val_counts(self.answers[0].share)

    def on_val(self, answer: Answer) -> NDArray[np.float32]:
        """Return an answer's probabilities on validation, computed once."""
        if answer not in self._val:
            self._val[answer] = self.study.probabilities(answer, self.study.rows("val", answer.share))
        return self._val[answer]

    def looking_once(self, answer: Answer) -> Answer:
        """Return an answer that does not look at the mirror image, made once: what is known of it is found again."""
        if not answer.mirrored:
            return answer
        if answer not in self._once:
            self._once[answer] = replace(answer, mirrored=False)
        return self._once[answer]

    def add(self, step: Step, answer: Answer, why: str, began: float) -> list[str]:
        """Take a step's answer in, weigh all anew, and write it down; returns what came of it, in words."""
        before, taken = self._score(), [*self.taken, (step, answer)]
        head = best_head(taken)
        answers = [head, *sorted((tuned for _, tuned in taken if not tuned.frozen), key=lambda tuned: tuned.saw_val)]
        judged_weights = self._weighed([one for one in answers if not one.saw_val])
        weights = mixture.shared(judged_weights, len(answers) - len(judged_weights))
        self.taken, self.answers, self.judged_weights, self.weights = taken, answers, judged_weights, weights  # at once: Ctrl-C
        self.study.val_nats = mixture.nats(
            [self.on_val(one) for one in self.judged], self.judged_weights, self.labels, self.counts
        )
        best = self.best_training
        self.study.best_training = None if best is None else best[0]
        after = self._score()
        outcome = "; ".join(part for part in (self._fate(answer, head), answer.why) if part)
        self._record(text(step), why, began, outcome, answer)
        lines = [f"{self._measured(answer)}; {outcome}"]
        if after is not None and not answer.saw_val:
            gain = "" if before is None else f" ({100 * (after['accuracy'] - before['accuracy']):+.1f} points)"
            used = duration(self.study.clock.used())
            lines.append(f"best answer after {used}: {after['accuracy']:.1%} of validation{gain}")
        return lines

    def note_lost(self, step: str, why: str, began: float, error: str = "") -> None:
        """Write down a step that was dropped. error: what ended it, empty where its time ran out."""
        self._record(step, why, began, f"it failed: {error}" if error else "its time ran out", None, failed=bool(error))

    # ---------------------------------------------------------------------------------------------------------- private

    def _fate(self, answer: Answer, head: Answer) -> str:
        """Say what became of an answer."""
        if answer.frozen:
            return "kept" if answer is head else "dropped: another view has the lower held-out loss"
        weight = self.weights[self.answers.index(answer)]
        if answer.saw_val:
            return f"kept with weight {weight:.2f}, its share of what trainings like it have on validation"
        return f"kept with weight {weight:.2f}" if weight > 0 else "dropped: validation speaks against it"

    def _measured(self, answer: Answer) -> str:
        """Say how good an answer is by itself: a head in cross-validation, anything else on validation."""
        if answer.trial is not None:
            n = self._held_out(answer, answer.trial)
            interval = proportion(round(answer.trial.accuracy * n), n)
            return f"{answer.trial.accuracy:.1%} right in cross-validation ({interval.low:.1%} to {interval.high:.1%})"
        if answer.saw_val:
            return "not judged by itself: it learned from validation pictures too"
        return f"{self._score_of(answer)['accuracy']:.1%} of validation"

    def _record(self, step: str, why: str, began: float, outcome: str, answer: Answer | None, *, failed: bool = False) -> None:
        if step in self._told:
            return
        log, best = self.study.log, self._score()
        accuracy, loss, n, n_independent, measured = (None, None, 0, 0, "") if answer is None else self._figures(answer)
        log.record.search.append(
            SearchStep(
                step=step, why=why, began_s=round(began, 2), ended_s=round(self.study.clock.used(), 2), accuracy=accuracy,
                loss=loss, n=n, n_independent=n_independent, measured=measured, outcome=outcome, failed=failed,
                best_accuracy=None if best is None else best["accuracy"],
                best_interval=[] if best is None else best["accuracy_interval"],
            )
        )  # fmt: skip
        log.record.budget_used_s, log.record.choices_by_val = self.study.clock.used(), self.choices
        log.save()

    def _figures(self, answer: Answer) -> tuple[float | None, float | None, int, int, str]:
        """Return an answer's own accuracy and loss, on how many pictures and pieces of evidence, and measured by what."""
        trial = answer.trial
        if trial is not None:
            return trial.accuracy, trial.loss, trial.n, self._held_out(answer, trial), "cross-validation"
        if answer.saw_val:
            return None, None, 0, 0, NOTHING
        own = self._score_of(answer)
        return own["accuracy"], own["loss"], own["n"], own["n_independent"], "validation"

    def _held_out(self, answer: Answer, trial: Trial) -> int:
        """Return on how many pieces of evidence a trial's figures rest: of the pictures held out, the share that all have."""
        rows, data = self.study.rows("train", answer.share), self.study.dataset
        pieces = metrics.pieces_of_evidence(len(rows), data.copies(rows), data.evidence(rows))
        return max(1, round(trial.n * pieces / len(rows)))

    def _weighed(self, judged: Sequence[Answer]) -> NDArray[np.float64]:
        if len(judged) == 1:
            return np.ones(1)
        self.choices += 1
        share = judged[0].share
        return mixture.weights([self.on_val(answer) for answer in judged], self._labels(share), self.study.val_counts(share))

    def _labels(self, share: float) -> NDArray[np.int64]:
        return self.study.dataset.labels[self.study.rows("val", share)]

    def _score(self) -> Score | None:
        """Return the score on validation of the mixture as it is."""
        if not self.answers:
            return None
        p = mixture.mixed([self.on_val(answer) for answer in self.judged], self.judged_weights)
        return self._scored(p, self.answers[0].share)

    def _score_of(self, answer: Answer) -> Score:
        return self._scored(self.on_val(answer), answer.share)

    def _scored(self, p: NDArray[np.float32], share: float) -> Score:
        rows, data = self.study.rows("val", share), self.study.dataset
        return metrics.score(p, data.labels[rows], copies=data.copies(rows), groups=data.evidence(rows))
