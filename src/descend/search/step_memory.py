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

    It is counted once for all trainings that hold the same. The record keeps the largest need of the search. Raises TrainingError
    where more is needed than is free.
    """
    alike = replace(step, n_steps=1, lr=1.0, draw=0, stop_at=None, with_val=False)
    if alike not in study.training_bytes:
        study.training_bytes[alike] = _counted(study, alike, start)
        if (counted := study.training_bytes[alike]) is not None and counted >= LARGE:
            study.watch.say(f"    training in {step.size} px holds {in_gb(counted)} of memory or more")
    need = study.training_bytes[alike]
    if need is not None:
        refuse_too_much(need, replace(study.plan, batch_size=step.batch_size, size=step.size))
        study.log.record.memory_bytes = max(need, study.log.record.memory_bytes or 0)


def _counted(study: Study, step: FineTuneStep, start: Answer) -> int | None:
    """Return the bytes of a batch; None where the network takes only whole batches."""
    _, task = training_task(study, step, start)
    return step_bytes(task, next(iter(task.source.epoch(0))))
