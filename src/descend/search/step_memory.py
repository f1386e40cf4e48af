"""What a training of late stages needs of memory, counted and told before it is taken, or before its speed is measured."""

from __future__ import annotations

from dataclasses import replace

from descend.available_memory import in_gb
from descend.search.finetune import training_task
from descend.search.steps import FineTuneStep
from descend.search.study import Answer, Study
from descend.train.memory_need import LARGE, refuse_too_much, step_bytes


def check(study: Study, step: FineTuneStep, start: Answer) -> None:
    """Note in the record what a batch of this training holds beside the weights, and say it where it is much.

    The record keeps the largest need of the search. Raises TrainingError where more is needed than is free.
    """
    _, task = training_task(study, replace(step, n_steps=1), start)
    batch = next(iter(task.source.epoch(0)))
    need = step_bytes(task, batch)
    if need is None:
        return
    refuse_too_much(need, replace(study.plan, batch_size=len(batch.ids), size=step.size))
    if need >= LARGE:
        study.watch.say(f"    training in {step.size} px holds {in_gb(need)} of memory or more")
    study.log.record.memory_bytes = max(need, study.log.record.memory_bytes or 0)
