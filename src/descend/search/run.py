"""The search itself: one step after another while time is left, the best answer so far always at hand, then judged once.

    survey -> how fast, how many pictures -> a first answer -> the rung that pays most, again and again -> judged

Decisions that look at a clock become steps in the run's recipe before they are acted on. Resuming takes the steps that are
written there again, from what is cached and saved, and then goes on; a new run of the recipe takes them, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from descend.durations import duration
from descend.errors import RunError
from descend.models import Classifier
from descend.printable import shortened
from descend.progress import Progress
from descend.quantities import seconds
from descend.search import expected_time, label_preservation, limits, networks, rungs, step_memory
from descend.search.clock import Clock, OutOfTime, Watch
from descend.search.conclude import concluded
from descend.search.features import fitted, like_the_best, refit_s, refitted_anyway, whole_heads
from descend.search.findings import Findings
from descend.search.finetune import answered, calibrated, fine_tuned, fitted_temperature, reading_means
from descend.search.setup import set_up
from descend.search.smaller_views import find_smaller_view, why_this_view
from descend.search.steps import (
    FeatureStep,
    FineTuneStep,
    KeepStep,
    RefitStep,
    RungStep,
    Step,
    check_order,
    gone_through,
    read,
    text,
)
from descend.search.study import Answer
from descend.search.warm_up import WarmUp
from descend.train.failure import in_words
from descend.train.prepare import Survey
from descend.train.record_types import NextStep, SearchStep
from descend.train.run import Run
from descend.train.run_log import RunLog

MORE = 1.5  # times as many pictures, from which one quick fit is better than one that was chosen by cross-validation
MIRROR_CHECK_S = 10.0  # that must be left when the check of mirror images ends: with less no step follows


def search(surveyed: Survey, log: RunLog, progress: Progress, *, started: float) -> Run:
    """Make the run of a plan whose transfer is ``auto``.

    started: reading of ``time.perf_counter`` when the command began. Ctrl-C leaves the best answer so far, judged on validation;
    before there is one, KeyboardInterrupt passes through. Raises KnobError for a budget that allows no answer.
    """
    return Search(surveyed, log, progress, started).run()


class Search:
    """One search: the steps that are known beforehand, those that it decides, and what they found."""

    def __init__(self, surveyed: Survey, log: RunLog, progress: Progress, started: float) -> None:
        plan, record = surveyed.plan, log.record
        self.log, self.progress = log, progress
        self.told = {taken["step"] for taken in record.search if taken["measured"]}  # in an earlier session; lost ones are not
        self.known: list[Step] = [read(item) for item in plan.steps or ()]
        if log.folder is None:
            record.search_replayed = any(isinstance(step, RungStep) for step in self.known)  # it takes those and no other
        self.deciding = not record.search_replayed and not record.search_ended
        if self.deciding:
            self.known = gone_through(self.known, self.told)
        check_order(self.known)
        self.keep = next((step for step in self.known if isinstance(step, KeepStep)), None)
        budget_s = seconds(plan.budget, who="budget") if plan.budget and self.deciding else math.inf
        begun = any(isinstance(step, RungStep) for step in self.known)  # what was used up without an answer is given again
        self.clock = Clock(budget_s, started=started, used_s=log.record.budget_used_s if begun else 0.0)
        self.watch = Watch(progress, self.clock)
        self.place = 0  # among those, of the step that is taken now
        self.taking: RungStep | None = None  # that step, or the part of it that there was time for
        self.study, self.known = set_up(
            surveyed, self.known, deciding=self.deciding, clock=self.clock, watch=self.watch, log=log
        )  # fmt: skip
        self.written = [text(step) for step in self.known]
        self.findings = Findings(self.study, told={text(step) for step in self.known} & self.told)
        self.study.before_training = lambda step: step_memory.check(self.study, step, rungs.best_head(self.findings.taken))
        self.failed = {rungs.kind_of(read(taken["step"])) for taken in record.search if _has_failed(taken)}

    def run(self) -> Run:
        """Search, and judge what was found."""
        try:
            finished = self._searched()
            try:
                return self._concluded(finished=finished)
            except KeyboardInterrupt:
                if not finished:
                    raise
                self.progress.say("stopped: the best answer so far is kept")
                return self._concluded(finished=False)
        finally:
            if self.study.warm_up is not None:
                self.study.warm_up.end()

    def _concluded(self, *, finished: bool) -> Run:
        """Judge and save what may be shipped."""
        if self.study.warm_up is not None:
            self.study.warm_up.stop()
        keep = self._limits(finished=finished)
        refit = finished and self._may_refit(self.findings.kept if keep is None else limits.selected(self.findings, keep)[0])
        return concluded(self.study, self.findings, keep, finished=finished, refit=refit)

    def _searched(self) -> bool:
        """Take the steps that are known, then those that are decided; returns False where Ctrl-C ended it with an answer."""
        try:
            for step in self.known:
                if isinstance(step, RungStep):
                    self._take(step, "as the recipe says")
            if self.deciding:
                self.study.warm_up = WarmUp(self.study.precision)
                self._first_answers()
                self._climb()
        except KeyboardInterrupt:
            if not self.findings.answers:
                raise
            self.progress.say("stopped: the best answer so far is kept")
            return False
        return True

    def _limits(self, *, finished: bool) -> KeepStep | None:
        """Return what may be shipped, decided once and written down; None where nothing limits it."""
        lost = any(isinstance(step, FineTuneStep) and not self._has(step) for step in self.known)
        keep = limits.kept(self.study, self.findings, self.keep, finished=finished, lost=lost)
        if keep is not None and self.keep is None and (finished or self.deciding):
            self.keep = keep
            self.written.append(text(keep))
            self._write()
        return keep

    def _may_refit(self, shipped: Sequence[Answer]) -> bool:
        """Return whether heads are fitted once more, with validation pictures: they were carved out here, and time is left."""
        heads = whole_heads(shipped)
        if self.study.dataset.given_val or not heads:
            return False
        if refitted_anyway(self.study):
            return True
        step = RefitStep()
        if self.deciding and self.clock.limited and step not in self.known and len(self.study.rows("val")):
            needed = expected_time.judging_s(self.study, shipped) + sum(refit_s(self.study, head) for head in heads)
            if needed < self.clock.left():
                self.known.append(step)
                self.written.append(text(step))
                self._write()
        return step in self.known

    # ---------------------------------------------------------------------------------------------------------- steps

    def _first_answers(self) -> None:
        """Fit a head to the features of all pictures; where that takes long, to those of a few before."""
        self._compare_views_again()
        step = FeatureStep(size=self.study.first_size)
        if self._has(step) or self._has(replace(step, quick=True)):
            return
        reserve = expected_time.first_reserve_s(self.study, step)
        expected = expected_time.features_s(self.study, step)
        affordable = expected_time.affordable_look_s(self.study, step.size)
        left, longest = self.clock.left(), expected_time.longest_first_look_s(self.study, step.size)
        if expected > longest and left > expected_time.LEAST_LEFT_S and not self.findings.answers:
            n = len(self.study.rows("train"))
            share = max(longest / 4 / expected, min(1.0, 2 * self.study.n_classes / n))
            if share < 0.5:
                part = FeatureStep(size=step.size, share=round(share, 4))
                self._take(part, "a first answer, from a part", reserve=reserve)
                if self.findings.answers and expected > affordable:
                    self._try_smaller_views(part, reserve)
                    step = replace(step, size=self.study.first_size)
                reserve = expected_time.first_reserve_s(self.study, step)  # the best head there may be wider than the usual one
        self._take(step, why_this_view(self.study, step.size), reserve=reserve)

    def _compare_views_again(self) -> None:
        """In a resumed search, find again what a part had told of smaller views: its features lie in the cache."""
        looked = [step for step, _ in self.findings.taken if isinstance(step, FeatureStep)]
        part = next((step for step in looked if step.share < 1 and not step.quick), None)
        if part is None or part.size != self.study.native:
            return
        whole, step = next((step for step in looked if step.share == 1), None), FeatureStep(size=part.size)
        takes_long = expected_time.features_s(self.study, step) > expected_time.affordable_look_s(self.study, step.size)
        if (whole is None and takes_long) or (whole is not None and whole.size < part.size):
            self._try_smaller_views(part, expected_time.first_reserve_s(self.study, step))
        self.study.first_size = self.study.first_size if whole is None else whole.size

    def _try_smaller_views(self, part: FeatureStep, reserve: float) -> None:
        """Let a part of the pictures tell in which view all of them are looked at first."""
        try:
            with self.watch.holding(reserve):
                find_smaller_view(self.study, part)
        except OutOfTime:
            return
        except Exception as error:
            self._tell_failure("comparing smaller views", error)

    def _climb(self) -> None:
        """Take the most promising step, again and again, while one fits and is worth it."""
        self._look_in_the_mirror()
        while True:
            left = self.clock.left() - expected_time.judging_s(self.study, self.findings.kept)
            rung = self._next_rung(left)
            if isinstance(rung, str):
                self.progress.say(f"search ends after {duration(self.clock.used())}: {rung}")
                self.log.record.reasons["search"] = rung
                undone = rungs.left_undone(self.study, self.findings.taken, self.failed)
                self.log.record.next_step = undone and NextStep(why=undone.why, seconds=round(undone.seconds, 1))
                return
            self.progress.say(f"  {rung.why}: about {duration(rung.seconds, estimated=True)}")
            self._take(rung.step, rung.why, reserve=expected_time.judging_s(self.study, self.findings.kept))

    def _next_rung(self, left: float) -> rungs.Rung | str:
        """Return the next rung, or why there is none; where fine-tuning cannot even be measured, one of another kind."""
        began = self.clock.used()
        try:
            return rungs.next_rung(self.study, self.findings.taken, left, self.failed)
        except Exception as error:
            if rungs.FINETUNE in self.failed:
                raise
            self.failed.add(rungs.FINETUNE)
            self._tell_failure("measuring how fast fine-tuning is", error)
            return self._next_rung(left - (self.clock.used() - began))

    def _look_in_the_mirror(self) -> None:
        """Measure whether pictures may be mirrored, where the time that is left can be used for more than that."""
        reserve = expected_time.judging_s(self.study, self.findings.kept) + MIRROR_CHECK_S
        try:
            with self.watch.holding(reserve):
                if self.clock.left() > reserve:
                    self.study.may_mirror = label_preservation.may_mirror(self.study)
        except OutOfTime:
            return
        except Exception as error:
            self._tell_failure("measuring what mirror images mean", error)

    def _take(self, step: RungStep, why: str, *, reserve: float = -math.inf) -> None:
        """Take a step and keep what it brings; it is dropped where its time runs out.

        reserve: seconds that must be left all the while; by default the step is taken whatever the clock says.
        """
        began = self.clock.used()
        if text(step) not in self.written:
            self.written.append(text(step))
            self._write()
        self.place, self.taking = self.written.index(text(step)), step
        try:
            with self.watch.holding(reserve), self.log.timed(step.word):
                answer = self._answer(step)
            if not answer.saw_val and (not answer.frozen or rungs.best_head([*self.findings.taken, (step, answer)]) is answer):
                self.findings.on_val(answer)  # what follows needs it, and it may fail as well
        except OutOfTime:
            self.written.pop(self.place)  # as it stands there: one that time cut short was written anew
            self._write()
            self.findings.note_lost(text(step), why, began)
            self.progress.say("    its time ran out: dropped")
            self._take_what_is_done(step)
            return
        except Exception as error:
            if not self.findings.answers:
                raise  # nothing could be delivered
            self._drop(step, why, began, error)
            return
        assert self.taking is not None
        if not self.findings.taken and self.keep is None and text(step) not in self.told:  # else it was checked, or chosen
            limits.check(self.study, answer)
        for line in self.findings.add(self.taking, answer, why, began):
            self.progress.say(f"    {line}")
        self.log.save()

    def _drop(self, step: RungStep, why: str, began: float, error: Exception) -> None:
        """Go on without a step that has failed, and without others of its kind; the best answer so far stays."""
        self.failed.add(rungs.kind_of(step))
        self.written.pop(self.place)
        self._write()
        told = self._tell_failure(text(step), error)
        self.findings.note_lost(text(step), why, began, error=told)

    def _tell_failure(self, what: str, error: Exception) -> str:
        """Say that a part of the search has failed, now and at the end; returns the error's first line."""
        told = str(in_words(error, self.study.plan)).partition("\n")[0]
        self.progress.say(f"    it failed and is dropped: {told}")
        self.log.record.notes.append(f"A step of the search failed and was dropped: {shortened(what)} ({shortened(told)})")
        return told

    def _take_what_is_done(self, step: RungStep) -> None:
        """Fit a head once to the features that are there, where there is no answer yet or one from far fewer pictures."""
        if not isinstance(step, FeatureStep) or step.size != self.study.first_size or step.mirrored:
            return
        done = min(step.share, self.study.share_done(step.size))
        if done > MORE * max((answer.share for answer in self.findings.answers), default=0.0):
            quick = like_the_best(self.study, replace(step, share=done, quick=True))
            self._take(quick, "from what was done in time")

    def _answer(self, step: RungStep) -> Answer:
        if isinstance(step, FeatureStep):
            return fitted(self.study, step, told=lambda taken: self._cut(taken, "the rest of it is left out"))
        start = rungs.best_head(self.findings.taken)
        trained = networks.load(self.log, step, lambda: reading_means(self.study, start))
        if trained is None:
            self.study.before_training(step)
            trained = fine_tuned(
                self.study, step, start, after_s=self._after_training_s(step), told=lambda stop: self._stopped(step, stop)
            )
            self._keep_trained(step, trained)
        answer = answered(self.study, step, trained)
        like = self.findings.best_training if step.with_val else None
        return calibrated(answer, fitted_temperature(self.study, answer) if like is None else like[1].temperature)

    def _after_training_s(self, step: FineTuneStep) -> float:
        """Return the seconds that must be left after a training, so that what it makes and what is kept can still be judged."""
        if not self.clock.limited:
            return -math.inf
        return expected_time.judging_s(self.study, self.findings.kept) + expected_time.trained_judging_s(self.study, step)

    def _keep_trained(self, step: FineTuneStep, trained: Classifier) -> None:
        """Keep a trained network for a resumed search; a disk that does not take it costs no more than that."""
        try:
            networks.save(self.log, step, trained)
        except RunError as error:
            self.progress.say(f"    a resumed search will have to train it again: {str(error).splitlines()[0]}")

    def _stopped(self, step: FineTuneStep, stop_at: int) -> None:
        """Write down that a training ends early, before it does."""
        self._cut(replace(step, stop_at=stop_at), f"slower than measured: stopped before step {stop_at + 1} of {step.n_steps}")

    def _cut(self, step: RungStep, why: str) -> None:
        """Write down the part of a step that there was time for."""
        self.taking = step
        self.written[self.place] = text(step)
        self._write()
        self.progress.say(f"    {why}")

    def _has(self, step: Step) -> bool:
        return any(taken == step for taken, _ in self.findings.taken)

    def _write(self) -> None:
        """Write the steps into the run's recipe."""
        self.study.plan = replace(self.study.plan, steps=tuple(self.written) or None)
        self.log.write_plan(self.study.plan)


def _has_failed(taken: SearchStep) -> bool:
    """Return whether an error ended a step, whose kind is not tried again; older records tell that only in words."""
    return taken.get("failed", taken["outcome"].startswith("it failed: "))
