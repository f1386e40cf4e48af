"""What a search can do, step by step, as text that replays it.

A step holds everything that was decided by looking at a clock or at measurements of speed: what is left to decide (which stages,
which views, which penalty) follows from the data alone. So the steps of a finished search, taken again, end in the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from descend.errors import KnobError, SpecError, nearest
from descend.spec_text import parse
from descend.technique import knobs, record
from descend.transfer import USUAL_STRENGTH


@record("part step")
class PartStep:
    """Leave all but a share of the pictures aside: of every class and split, what the time allows to look at.

    test: the share of a given test split, which is looked at first; None for that of the others.
    """

    word: ClassVar[str] = "part"

    share: Annotated[float, Gt(0), Le(1)]
    test: Annotated[float | None, Gt(0), Le(1)] = None


@record("features step")
class FeatureStep:
    """Fit a head to the features of pictures looked at in ``size`` pixels.

    mirrored: whether mirror images are offered too; the data decide whether they are used. crops: random crops of each training
    picture that are offered as further views to learn from. share: of the pictures of every class and split that are used; below
    1 for a first answer within seconds. quick: the head is fitted once, to the features of these ``stages`` with this
    ``strength`` of the penalty: nothing is chosen by cross-validation. n_sets: of features that it is chosen from, the
    first ones; None for all that are offered. Fewer where time ran out before the others were tried.
    """

    word: ClassVar[str] = "features"

    size: Annotated[int, Ge(8)]
    mirrored: bool = False
    crops: Annotated[int, Ge(0)] = 0
    share: Annotated[float, Gt(0), Le(1)] = 1.0
    quick: bool = False
    stages: Literal["last", "late", "covariances", "quarters"] = "last"
    strength: Annotated[float, Gt(0)] = USUAL_STRENGTH
    n_sets: Annotated[int, Ge(1)] | None = None


@record("finetune step")
class FineTuneStep:
    """Train the stages after ``freeze_to`` from the best head so far, on augmented pictures of ``size`` pixels.

    lr: peak rate. n_steps: of ``batch_size`` pictures each. stop_at: the step before which time ran out, None where all were
    taken. distorted: whether each picture also goes through an operation of TrivialAugment. precision: of maps and products while
    it trains; weights are float32 always. with_val: whether validation pictures are learned from too; nothing is left then that
    could judge the result by itself.
    """

    word: ClassVar[str] = "finetune"

    size: Annotated[int, Ge(8)]
    freeze_to: str | None
    lr: Annotated[float, Gt(0)]
    n_steps: Annotated[int, Ge(1)]
    batch_size: Annotated[int, Ge(1)] = 32
    mirrored: bool = False
    distorted: bool = False
    draw: Annotated[int, Ge(0)] = 0  # which of several trainings: each has its own order and augmentation
    stop_at: Annotated[int, Ge(1)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    with_val: bool = False


@record("keep step")
class KeepStep:
    """Ship these answers, by their places among the best head and the trained networks: others would break a limit.

    mirrored: whether those that look at the mirror image too may do so. head: which head stands in the place of the best, by its
    place among all that were fitted; None for the best itself.
    """

    word: ClassVar[str] = "keep"

    members: tuple[int, ...]
    mirrored: bool = True
    head: Annotated[int, Ge(0)] | None = None


@record("refit step")
class RefitStep:
    """In the end, fit the heads that are kept once more, to training and validation pictures together."""

    word: ClassVar[str] = "refit"


RungStep = FeatureStep | FineTuneStep  # one after another; the others are of the beginning and of the end
Step = PartStep | RungStep | KeepStep | RefitStep
STEPS: dict[str, type[Step]] = {cls.word: cls for cls in (PartStep, FeatureStep, FineTuneStep, KeepStep, RefitStep)}


def text(step: Step) -> str:
    """Return a step as text: every knob that differs from its default."""
    values = {knob.name: getattr(step, knob.name) for knob in knobs(type(step)) if getattr(step, knob.name) != knob.default}
    shown = [f"{name}={_written(value)}" for name, value in values.items()]
    return f"{step.word}({', '.join(shown)})"


def _written(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def read(text_: str) -> Step:
    """Return the step that text stands for. Raises SpecError for another word, KnobError for a knob or value it has not."""
    call = parse(text_)
    if call.name not in STEPS:
        raise SpecError("steps", f"must be one of {', '.join(STEPS)}", got=call.name, fix=nearest(call.name, STEPS))
    return STEPS[call.name](**call.settings)


def gone_through(known: Sequence[Step], told: Collection[str]) -> list[Step]:
    """Return the steps of a stopped search that it had gone through: in the middle of one, it decides anew by what is left.

    What was shipped when it was stopped says nothing of what will be. told: texts of the steps that its record measured.
    """
    steps: list[Step] = [step for step in known if not isinstance(step, (KeepStep, RefitStep))]
    while steps and isinstance(steps[-1], RungStep) and text(steps[-1]) not in told:
        steps.pop()
    return steps


def check_order(steps: Sequence[Step]) -> None:
    """Raise KnobError where steps that somebody wrote train before there is a head to start from."""
    rung = next((step for step in steps if isinstance(step, RungStep)), None)
    if isinstance(rung, FineTuneStep):
        raise KnobError("steps", "must fit a head before the first training", got=text(rung),
                        fix='Begin with "features(size=224)", for example.')  # fmt: skip
