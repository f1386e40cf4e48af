"""Set up a search: its network, its pictures, decoded, and its first view; what there is no time to look at is left aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from descend.data import Dataset, Decoded
from descend.models import Backbone, Classifier
from descend.search import begin, framing
from descend.search.clock import Clock, OutOfTime, Watch
from descend.search.steps import FeatureStep, PartStep, RungStep, Step, text
from descend.search.study import Study
from descend.train.checkpoint import State
from descend.train.initial_weights import keep
from descend.train.modes.auto import Auto
from descend.train.plan import Plan
from descend.train.prepare import Survey, built, decode, preprocessing
from descend.train.run_log import RunLog


def set_up(
    surveyed: Survey, known: Sequence[Step], *, deciding: bool, clock: Clock, watch: Watch, log: RunLog
) -> tuple[Study, list[Step]]:  # fmt: skip
    """Return the study of a plan, and the known steps, with the part of the pictures that is looked at, if it is a part."""
    plan, network, initial = built(surveyed, Auto(), log, watch)
    if "budget" in plan.reasons:  # a default: named in the recipe it would limit how many pictures a repetition opens
        plan = replace(plan, open_settings={"budget": None})
    dataset, backbone = surveyed.dataset.fitted(plan.fit), network.backbone
    steps: list[Step] = [*known]
    native = first_size = min(plan.size, backbone.native_size)
    backbone.look(native, of=plan.size)
    speeds = None
    if deciding:
        clock.note_start(surveyed.scan_s)
        if not steps:  # a run that has begun is not refused any more
            begin.check_time(dataset, backbone, native, clock)
        with log.timed("measure"):
            speeds = begin.speeds(dataset, plan, backbone, framing.stored_side(plan, network), clock, watch)
            if plan.engine == "auto":
                plan = plan.decided("engine", speeds.engine.name, speeds.reason)
            if log.folder is None:  # what a run has begun with, it goes on with
                plan = framing.measured(dataset, plan, network, speeds, clock, watch)
        first_size = first_view(steps, dataset, backbone, native, speeds, clock)
    pictures = _Pictures(dataset.fitted(plan.fit), plan, network, initial, watch, log)
    if speeds is None or any(isinstance(step, RungStep) for step in steps):  # their shares are of these pictures
        decoded = pictures.decoded(steps)
    else:
        try:
            with watch.pacing(speeds.decoded), watch.holding(begin.least_s(dataset, backbone, native, speeds, clock)):
                decoded = pictures.decoded(steps)
        except OutOfTime:
            watch.say("  decoding takes far longer than measured: a smaller part is looked at")
            beginning = begin.least_or_more(dataset, backbone, native, speeds.slowed(clock.slowdown), clock)
            first_size, steps = beginning.size, []
            if beginning.part is not None:
                steps.append(beginning.part)
            decoded = pictures.decoded(steps)
    study = Study(pictures.planned(steps), decoded, backbone, clock, watch, log)
    study.n_training = len(dataset.indices("train"))
    study.is_part = any(isinstance(step, PartStep) for step in steps)
    study.first_size = first_size
    if speeds is not None:
        study.note_rate("torch", native, speeds.torch)
        study.note_rate(plan.engine, native, speeds.computed)
        study.engines[native] = speeds.engine  # it may have started
    return study, steps


def first_view(
    steps: list[Step], dataset: Dataset, backbone: Backbone, native: int, speeds: begin.Speeds, clock: Clock
) -> int:  # fmt: skip
    """Return the pixels of the first view, decided with the part that is looked at, where it is only a part: it joins the steps.

    In a resumed search that was done before its first step, whatever the machine is like now.
    """
    if steps:
        looked = [step for step in steps if isinstance(step, FeatureStep)]
        whole = next((step for step in looked if step.share == 1.0), looked[-1] if looked else None)
        if whole is not None:  # what a first answer from a part looks at may be another view
            return whole.size
        return begin.first_sizes(backbone, native)[-1]  # a part is looked at in the smallest view
    beginning = begin.beginning(dataset, backbone, native, speeds, clock)
    if beginning.part is not None:
        steps.insert(0, beginning.part)
    return beginning.size


@dataclass(frozen=True)
class _Pictures:
    """The pictures of a search and what is made ready for them. initial: weights that the run must keep."""

    dataset: Dataset
    plan: Plan
    network: Classifier
    initial: State | None
    watch: Watch
    log: RunLog

    def planned(self, steps: Sequence[Step]) -> Plan:
        """Return the plan with the steps."""
        return replace(self.plan, steps=tuple(map(text, steps)) or None)

    def decoded(self, steps: Sequence[Step]) -> Decoded:
        """Return the pictures, or the part of them that the steps name, decoded; the run begins with them."""
        dataset, plan, log = self.dataset, self.planned(steps), self.log
        for step in steps:
            if isinstance(step, PartStep):
                dataset = begin.taken_part(dataset, step, plan.seed)
                self.watch.say(f"  {dataset.problems[-1]}")
        before, backbone = log.record.preprocessing, self.network.backbone
        resolution = framing.stored_side(plan, self.network, before)
        backbone.look(plan.size, of=plan.size)
        prepared = preprocessing(plan, backbone, resolution, dataset.policy)
        if before is not None:  # of the model that Ctrl-C has left, until there is another
            prepared["members"] = before["members"]
        log.begin(dataset, plan, prepared)
        keep(self.initial, log)
        return decode(dataset, plan, resolution, log, self.watch)
