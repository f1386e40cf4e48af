"""Which step is worth its seconds next: the expected share of the remaining error that it removes, per second that it costs.

What a step costs is measured here, on this machine, in this run. What it brings is not known before it is tried; the shares below
are what such steps removed on sets of photographs that benchmarks know. They decide the order, and what time is left for; whether
a step *did* help is measured, and what did not help is dropped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from descend.search import label_preservation
from descend.search.begin import MARGIN
from descend.search.expected_time import features_s, trained_judging_s
from descend.search.features import crops_for
from descend.search.finetune import images_per_s
from descend.search.smaller_views import are_enlarged
from descend.search.steps import FeatureStep, FineTuneStep, RungStep, Step
from descend.search.study import Answer, Study
from descend.search.warm_up import DISTORTIONS

MIRROR_SHARE = 0.06  # of the error: mirror images, with 2,527 photographs in 6 classes and with 81 fine classes
LARGER_POWER = 0.42
"""How the error falls with the side of the view that features are computed of: by 10% from 224 to 288 px on the same two. From 96
to 224 px by 45% on hands and on ants and bees, by 0 on blurred flowers."""
DOUBT = 0.25  # of that, which is expected of a larger view where a part of the pictures gained nothing: a part is not all
CROPS_SHARE, CROPS_AT = 0.15, 10
"""Of the error: random crops of training pictures as further views, with so many pictures per class; with more, by the root less.
From 5 per class on: hands 29 and 11%, ants and bees 5 and 7, flowers 13 and 9; enlarged scans of digits lose, and the head stays
without them."""
FINETUNE_SHARE, AGAIN_SHARE = 0.35, 0.03
"""Of the error: late stages trained for five passes or more in the network's own size; a second training averaged with the first.
At two minutes the first, worth 0.33 to 0.67 of that (`_worth`), left 68% fewer test pictures wrong than the head of hands, 32 and
14 fewer of CIFAR-10 and blurred flowers than the heads of a minute, which are worse ones, and as many of ants and bees: 28% where
0.25 had expected 13 (`anytime_small_head.json`, one seed)."""
LEAST_GAIN = 5e-4  # of accuracy: a step that is expected to bring less is not taken
FEWEST_TRAINED = 100
"""Training pictures, below which late stages are left alone. On 17 to 85 of hands, flowers, ants and bees and enlarged digits, 5
and 10 per class, 15 and 60 passes beside the head changed accuracy by -2.8 to +1.3 points, in 13 of 16 cases downwards (from the
whole head: `HEAD_SHARE`)."""
AGAIN_WITH_VAL_SHARE = 0.04
"""Of the error: a training like the best one, on the pictures that were carved out for validation too, averaged with it. On 3,236
blurred flowers the second of two trainings of 607 steps at 128 px took the error from 19.6 to 19.0% (of the head alone: 23.6)."""
LEAST_OF_BEST = 0.5  # of the steps of the best training, which one that nothing can judge takes at least
MOST_PASSES = 15.0  # of fine-tuning over the training pictures
DISTORTED_PASSES, DISTORTED_STEPS, DISTORTED_SHARE = 10.0, 500, 0.03
"""From so many passes and steps on, pictures are also turned, sheared and recolored where that keeps labels; share of the error.
15 passes at 128 px: 81.2% of 1,079 blurred flowers instead of 80.4, and 0.028 nats less (`benchmarks/long_trainings.py`, from the
whole head: `HEAD_SHARE`)."""
LEAST_LOST = 2.0  # nats, by the best answer on all of validation: below, nothing could speak against a training
LEAST_STEPS, LEAST_PASSES = 150, 8.0
"""A training of so many steps, or so many passes over few pictures, is one; a shorter one is not begun. 81 steps on 2,589 blurred
flowers end at 74.0%, below their head (76), 162 at 78.1, 324 at 79.7; 77 on 1,234 hands at 95.6, their head has 98.1, and 308 at
98.7."""
SETTLED_STEPS = 250  # fewer are worth less, in proportion: 98 on 208 ants and bees (15 passes) stay below their head
SIZE_POWER, ENLARGED_POWER = 1.2, 0.75
"""How the gain of training falls with the side of pictures below the network's own: where they hold as many pixels or more, and
where they do not. 98 steps on 208 ants and bees, mean of two seeds, the network alone: 11.1% of 153 test pictures wrong at 96 px,
7.8 at 128, 6.9 at 160, 5.9 at 192, 6.9 at 224; a head of blurred flowers of 128 px is hardly worse in 96 than in 224."""
TRAINING_MARGIN = 1.05
"""Of a training's estimate: one that time cuts short in its last tenth has taken its rate down to a few percent of its peak."""
MOST_TRAININGS = 3  # of the same settings, averaged: a fourth changes little
TRAIN_SIZES = (96, 128, 160, 192, 224)
GUESSED_TRAINING = 1.0
"""Pictures trained per picture that torch computes features of, until it is measured: 0.55 to 0.65 of Lite0, from 96 to 224 px,
on a processor that multiplies bfloat16. With 2.0 sizes were timed that are too large, for seconds of a minute."""
USUAL_TRAINING = 0.35  # of the same, of networks that have no quick form
LR, LR_STEPS = 5e-4, 125
"""Peak rate of a training of so many steps; a shorter one takes it down with the root of its steps: it has less time to settle.
In 96 px, where each stage moved at four fifths of the next one's rate, 797 steps on CIFAR-10 lost 0.448 nats at 5e-4, 0.472 at
1e-3; 324 on blurred flowers 0.581 and, at 7.8e-4, 0.582; 308 on hands 0.174 at 7.8e-4, 0.180 at 4e-4."""
GENTLER = 0.25  # of that rate, for the training after one of which validation kept nothing; a third is not tried then


@dataclass(frozen=True)
class Rung:
    """A step that could be taken. gain: of accuracy, expected. seconds: expected, with its share of the final judging."""

    step: RungStep
    why: str
    gain: float
    seconds: float

    @property
    def gain_per_s(self) -> float:
        """What the order follows."""
        return self.gain / max(self.seconds, 0.1)


@dataclass(frozen=True)
class Training:
    """A training that fits. share: of the error that it removes; planned: with the repetition that it leaves time for."""

    step: FineTuneStep
    share: float
    planned: float
    seconds: float


Taken = Sequence[tuple[Step, Answer]]
Kind = tuple[str, int, bool, bool]  # steps that fail together: word, size, mirror images and crops, of features
FINETUNE: Kind = (FineTuneStep.word, 0, False, False)


def kind_of(step: Step) -> Kind:
    """Return which steps are not worth trying where this one has failed."""
    return (
        (step.word, step.size, step.mirrored, step.crops > 0) if isinstance(step, FeatureStep) else (step.word, 0, False, False)
    )


def next_rung(study: Study, taken: Taken, time_left: float, failed: Collection[Kind] = ()) -> Rung | str:
    """Return the rung to take, or why there is none: the one with the highest expected gain per second of those that fit.

    A first training may go before it. taken: the steps so far with their answers. time_left: seconds, without what judging the
    answer so far will take. failed: kinds of steps that are not offered any more.
    """
    error, began = remaining_error(taken), study.clock.used()
    offered = [rung for rung in _rungs(study, taken, error, time_left, failed) if kind_of(rung.step) not in failed]
    time_left -= study.clock.used() - began  # what measuring took
    rungs = [rung for rung in offered if rung.seconds <= time_left]
    worth = [rung for rung in rungs if rung.gain >= LEAST_GAIN]
    if worth:
        return _before_it_is_too_late(study, taken, worth, error, time_left)
    if time_left > 0 and study.warm_up is not None and study.warm_up.going_on():
        began = study.clock.used()
        study.warm_up.wait(time_left)
        return next_rung(study, taken, time_left - (study.clock.used() - began), failed)
    if rungs:
        return f"nothing left is expected to bring {LEAST_GAIN:.2%}: in cross-validation the best head has {error:.1%} wrong"
    return "nothing that is left fits into the time that is left"


def _before_it_is_too_late(study: Study, taken: Taken, worth: Sequence[Rung], error: float, time_left: float) -> Rung:
    """Return the rung with the highest gain per second, or a first training that would not fit after it and brings more.

    A training has a least length: the mirror images of hands, 10 s of a minute, left 18 s for one where 22 are needed. Whether
    mirror images help the head is then not known; the training learns from them wherever they keep labels.
    """
    best = max(worth, key=lambda rung: rung.gain_per_s)
    training = next((rung for rung in worth if isinstance(rung.step, FineTuneStep) and not rung.step.draw), best)
    if training.gain <= best.gain:
        return best
    shorter = [error * found.share for found in _trainings(study, taken, 0, error, time_left - best.seconds)]
    if training.gain <= best.gain + max(shorter, default=0.0):
        return best
    return replace(training, why=f"{training.why}, which would not fit later")


def left_undone(study: Study, taken: Taken, failed: Collection[Kind] = ()) -> Rung | None:
    """Return the rung that a search which time has ended would have gone on with; None where none is worth its seconds.

    Nothing is measured any more: the seconds of a training that was not measured are those that one usually takes.
    """
    if not taken:
        return None
    error = remaining_error(taken)
    offered = [*_rungs(study, taken, error, 0.0, failed), *_unmeasured_training(study, taken, error, failed)]
    worth = [rung for rung in offered if kind_of(rung.step) not in failed and rung.gain >= LEAST_GAIN]
    return max(worth, key=lambda rung: rung.gain_per_s, default=None)


def _unmeasured_training(study: Study, taken: Taken, error: float, failed: Collection[Kind]) -> Iterator[Rung]:
    """Yield a full training of the late stages, where none was made."""
    n_train = len(study.rows("train"))
    tried = FINETUNE in failed or any(isinstance(step, FineTuneStep) for step, _ in taken)
    if tried or not _may_train(study):
        return
    step = _step(study, min(study.native, study.plan.size))
    n_visits = min(SETTLED_STEPS * step.batch_size, LEAST_PASSES * n_train)
    n_steps = max(1, round(n_visits / step.batch_size))
    step = replace(step, n_steps=n_steps, lr=peak_lr(n_steps))
    seconds = MARGIN * n_visits / (USUAL_TRAINING * study.rate(step.size, engine="torch")) + trained_judging_s(study, step)
    share = FINETUNE_SHARE * _worth(_progress(n_train, n_visits, step), step, study)
    yield Rung(step, f"train late stages for {n_visits / n_train:.0f} passes", error * share, seconds)


def remaining_error(taken: Taken) -> float:
    """Return the share of wrong answers that the best head leaves in cross-validation."""
    trials = [(answer.trial, answer) for _, answer in taken if answer.trial is not None]
    if not trials:
        return 0.5
    best = min((trial for trial, _ in trials), key=lambda trial: trial.loss)
    return max(1 - best.accuracy, 1e-4)


def _rungs(study: Study, taken: Taken, error: float, time_left: float, failed: Collection[Kind]) -> Iterator[Rung]:
    steps = [step for step, _ in taken]
    looks = [step for step in steps if isinstance(step, FeatureStep) and step.share == 1.0]
    first = next((step for step in looks if step.size == study.first_size), None)
    if study.may_mirror and first is not None and not any(step.mirrored for step in looks):
        best = best_head(taken)
        step = FeatureStep(size=best.view, mirrored=True)
        seconds = features_s(study, step, done=next(look for look in looks if look.size == best.view), instead=best)
        yield Rung(step, "the mirror image of each picture as a second view", error * MIRROR_SHARE, seconds)
    compiling = study.warm_up is not None and study.warm_up.going_on()
    if first is not None and not compiling:  # to draw crops needs a kernel
        yield from _cropped(study, taken, looks, error)
    yield from _larger(study, taken, looks, error, time_left)
    tuned = [step for step in steps if isinstance(step, FineTuneStep)]
    if _may_train(study) and first is not None and len(tuned) < MOST_TRAININGS and not compiling and FINETUNE not in failed:
        rung = _with_validation(study, taken, len(tuned), error, time_left) or _fine_tuning(
            study, taken, len(tuned), error, time_left
        )
        if rung is not None:
            yield rung


def _larger(study: Study, taken: Taken, looks: Sequence[FeatureStep], error: float, time_left: float) -> Iterator[Rung]:
    """Yield the rungs that look at larger views than any so far, the network's own and the run's: with their mirror images.

    Where there is no time for those, without: larger views bring more than mirror images (``LARGER_POWER``, ``MIRROR_SHARE``).
    """
    best, seen = best_head(taken), max((step.size for step in looks), default=study.first_size)
    for size in sorted({study.native, study.plan.size}):
        if size > seen:
            usual = 1 - (seen / size) ** LARGER_POWER
            larger_share = max(study.measured_shares.get((seen, size), usual), DOUBT * usual)
            for mirrored in (True, False) if study.may_mirror else (False,):
                step = FeatureStep(size=size, mirrored=mirrored, crops=best.crops.n if best.crops else 0)
                share = larger_share + MIRROR_SHARE * (mirrored - best.mirrored)
                needed_s = features_s(study, step, instead=best)
                alone = "" if mirrored or not study.may_mirror else ", without mirror images"
                yield Rung(step, f"more pixels: {size} instead of {seen}{alone}", error * share, needed_s)
                if not 0 < time_left < needed_s:
                    break


def _may_train(study: Study) -> bool:
    """Return whether there are pictures enough to train on, and some that could speak against what comes of it."""
    return len(study.rows("train")) >= FEWEST_TRAINED and len(study.rows("val")) > 0 and study.val_nats > LEAST_LOST


def _cropped(study: Study, taken: Taken, looks: Sequence[FeatureStep], error: float) -> Iterator[Rung]:
    """Yield the rung that learns from crops too, in the size of the best head so far."""
    n, size = len(study.rows("train")), best_head(taken).view
    n_crops = crops_for(n)
    done = max((step for step in looks if step.size == size), key=lambda step: step.mirrored, default=None)
    if n_crops and done is not None and not any(step.size == size and step.crops for step in looks):
        step = FeatureStep(size=size, mirrored=study.may_mirror, crops=n_crops)
        gain = error * CROPS_SHARE * (CROPS_AT * study.n_classes / n) ** 0.5
        seconds = features_s(study, step, done=done, instead=best_head(taken))
        yield Rung(step, f"{n_crops} random crops of each training picture to learn from", gain, seconds)


def _fine_tuning(study: Study, taken: Taken, draw: int, error: float, time_left: float) -> Rung | None:
    """Return the fine-tuning that makes most of the time that is left, in a size that balances pixels, passes and a repetition.

    Only the pace of the size that seems best is measured, and then that of the one that seems best by it: a few steps each.
    """
    start, began = best_head(taken), study.clock.used()
    while True:
        left = time_left - (study.clock.used() - began)
        found = max(_trainings(study, taken, draw, error, left), key=lambda item: item.planned, default=None)
        if found is None:
            return None
        step = found.step
        measured = replace(step, distorted=bool(study.may_distort))  # what distorts is compiled when it is decided that it may
        if study.measure_training(step, lambda measured=measured: images_per_s(study, measured, start)):
            continue
        if step.distorted and study.may_distort is None:
            study.may_distort = _may_distort(study, left)
            continue
        again = "" if not draw else " at a gentler rate" if study.best_training is None else " once more, to average"
        passes = step.n_steps * step.batch_size / len(study.rows("train"))
        which = f"the stages after {step.freeze_to}" if step.freeze_to else "all stages"
        why = f"train {which} for {passes:.1f} passes at {step.size} px"
        return Rung(step, why + again, error * found.share, found.seconds)


def _may_distort(study: Study, time_left: float) -> bool:
    """Return whether training pictures may be distorted: labels allow it, and a quarter of the time suffices to compile it."""
    if study.warm_up is not None and not study.dataset.is_gray:
        study.warm_up.wait(time_left / 4, DISTORTIONS)
        if study.warm_up.going_on(DISTORTIONS):
            return False
    return label_preservation.may_distort(study)


def _with_validation(study: Study, taken: Taken, draw: int, error: float, time_left: float) -> Rung | None:
    """Return the best training once more, on validation pictures too; None where they are not ours, or too few steps fit."""
    best = study.best_training
    if best is None or not study.may_learn_val or time_left <= 0:
        return None
    began, start = study.clock.used(), best_head(taken)
    if study.training_rate(best) is None:  # in a resumed search
        study.measure_training(best, lambda: images_per_s(study, best, start))
    rate, judged_s = study.training_rate(best), trained_judging_s(study, best)
    assert rate is not None
    time_left -= study.clock.used() - began
    n = len(study.training_rows(with_val=True))
    passes = best.n_steps * best.batch_size / len(study.rows("train"))
    passes = min(passes, (time_left - judged_s) * rate / TRAINING_MARGIN / n)
    n_steps = round(passes * n / best.batch_size)
    if n_steps < LEAST_OF_BEST * (best.stop_at or best.n_steps):
        return None
    step = replace(best, n_steps=n_steps, draw=draw, stop_at=None, with_val=True)
    why = f"train the same for {passes:.1f} passes on validation pictures too, to average"
    return Rung(step, why, error * AGAIN_WITH_VAL_SHARE, passes * n / rate + judged_s)


def _trainings(study: Study, taken: Taken, draw: int, error: float, time_left: float) -> Iterator[Training]:
    """Yield a training for every size that fits, as long as time allows, and one that leaves time to repeat it if that pays."""
    n_train, fixed = len(study.rows("train")), study.pretrained.fixed_size
    nothing_kept = draw > 0 and study.best_training is None
    if nothing_kept and draw > 1:
        return
    sizes = [] if fixed else [size for size in TRAIN_SIZES if size <= study.plan.size]
    in_vain = any(isinstance(step, FeatureStep) and step.mirrored and not answer.mirrored for step, answer in taken)
    n_repeated = len(study.training_rows(with_val=study.may_learn_val))
    repeat_share = AGAIN_WITH_VAL_SHARE if study.may_learn_val else AGAIN_SHARE
    for size, repeats in itertools.product(sizes or [study.plan.size], range(1 if draw else min(2, MOST_TRAININGS))):
        step = replace(_step(study, size), mirrored=study.may_mirror and not in_vain, draw=draw)
        rate = study.training_rate(step) or GUESSED_TRAINING * study.rate(size, engine="torch")
        judged_s = trained_judging_s(study, step)
        fitting = (time_left - (1 + repeats) * judged_s) * rate / TRAINING_MARGIN / (n_train + repeats * n_repeated)
        passes = min(MOST_PASSES, fitting)
        progress = _progress(n_train, passes * n_train, step)
        if progress >= 1:
            n_steps = max(1, round(passes * n_train / step.batch_size))
            lr = peak_lr(n_steps, GENTLER if nothing_kept or _is_gentle(study.best_training) else 1.0)
            long = passes >= DISTORTED_PASSES and n_steps >= DISTORTED_STEPS
            distorted = long and study.may_distort is not False
            step = replace(step, n_steps=n_steps, lr=lr, distorted=distorted)
            worth = _worth(progress, step, study)
            repeated = repeat_share * (1.0 if study.may_learn_val else worth)
            if repeats and error * repeated < LEAST_GAIN:
                continue  # it would not be taken
            share = (AGAIN_SHARE if draw else FINETUNE_SHARE + DISTORTED_SHARE * distorted) * worth
            planned = share + repeats * repeated
            yield Training(step, share, planned, passes * n_train / rate + judged_s)


def _step(study: Study, size: int) -> FineTuneStep:
    """Return a training of the late stages in a size; its steps, with the rate that goes with them, are yet to be found."""
    return FineTuneStep(
        size=size, freeze_to=study.early_stage, lr=LR, n_steps=1, batch_size=min(32, len(study.rows("train"))),
        precision=study.precision,
    )  # fmt: skip


def peak_lr(n_steps: int, share: float = 1.0) -> float:
    """Return a share of the peak rate of a training of so many steps, with two digits."""
    return float(f"{LR * min(1.0, (n_steps / LR_STEPS) ** 0.5) * share:.2g}")


def _is_gentle(step: FineTuneStep | None) -> bool:
    """Return whether a training that is kept had the rate for which validation had rejected the usual one."""
    return step is not None and step.lr < peak_lr(step.n_steps)


def _worth(progress: float, step: FineTuneStep, study: Study) -> float:
    """Return which share of what a training can bring this one does: by its progress, its steps and its size."""
    settled = min(1.0, step.n_steps / SETTLED_STEPS)
    power = ENLARGED_POWER if are_enlarged(study, study.native) else SIZE_POWER
    return (1 - math.exp(-progress)) * settled * min(1.0, step.size / study.native) ** power


def _progress(n_train: int, n_visits: float, step: FineTuneStep) -> float:
    """Return how much of the least training visits to pictures are, by steps or by passes."""
    return max(n_visits / step.batch_size / LEAST_STEPS, n_visits / n_train / LEAST_PASSES)


def best_head(taken: Taken) -> Answer:
    """Return the answer with the lowest held-out loss among the heads on frozen features of all pictures.

    Of one size the last one stands: each was chosen beside those before it.
    """
    heads = [answer for _, answer in taken if answer.frozen]
    largest = max(answer.share for answer in heads)
    last: dict[int, Answer] = {}
    for answer in heads:
        if answer.share == largest and not (answer.trial is None and answer.view in last):
            last[answer.view] = answer
    return min(last.values(), key=lambda answer: float("inf") if answer.trial is None else answer.trial.loss)
