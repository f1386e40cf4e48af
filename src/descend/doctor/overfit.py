"""A few pictures, learned by heart: whatever cannot do that has a fault between picture and weight.

Labels that change from look to look, pictures that arrive without content, a rate that throws the weights about, a part that
does not train: all show here. Labels that are wrong but constant do not; a network learns those by heart, too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from descend.doctor.subject import Subject
from descend.doctor.trial import steps
from descend.findings import Finding
from descend.train.loop import Batch, Task

CHECK = "overfit"
SOLVED = 0.05  # nats: right, and 95% sure
MOST_STEPS, LIMIT_S = 300, 12.0
ON_ITS_WAY = 0.3  # of the first loss: a small network at a low rate takes longer; labels that change stay above
THROWN, HARDLY = 2.0, 0.9  # times the first loss


def overfit(subject: Subject) -> list[Finding]:
    """Train on a few pictures with everything off that regularizes or varies them, until the loss is next to zero."""
    task = subject.bare_task()
    started, losses = time.perf_counter(), list[float]()
    for loss in steps(task, _batches(task)):
        losses.append(loss)
        if loss <= SOLVED or not math.isfinite(loss) or time.perf_counter() - started > LIMIT_S:
            break
    n = len(next(iter(task.source.epoch(0))).ids)
    return [_judged(losses, n, lr=task.optimizer.rule.lr)]


def _batches(task: Task) -> Iterator[tuple[int, Batch]]:
    for epoch in range(MOST_STEPS):
        yield from ((epoch, batch) for batch in task.source.epoch(epoch))


def _judged(losses: list[float], n: int, *, lr: float) -> Finding:
    first, last, n_steps = losses[0], losses[-1], len(losses)
    evidence = {"n_pictures": n, "n_steps": n_steps, "first_loss": first, "last_loss": last, "lowest_loss": min(losses), "lr": lr}
    told = f"{n} pictures, nothing regularized: loss {first:.3f} -> {last:.3f} in {n_steps} steps"
    if last <= SOLVED:
        return Finding(CHECK, "ok", told, evidence)
    recent = sum(losses[-3:]) / len(losses[-3:])
    if recent < ON_ITS_WAY * first:
        return Finding(CHECK, "note", f"{told}: falling, when this check was over", evidence)
    what = f"{told}: a few pictures must be learned by heart, and are not"
    return Finding(CHECK, "finding", what, evidence, _fix(losses, lr))


def _fix(losses: list[float], lr: float) -> str:
    first = losses[0]
    if not all(loss <= THROWN * first for loss in losses):  # a loss that is not a number is not below anything
        return f"The loss jumps up: try a tenth of the learning rate ({lr:g})."
    if losses[-1] > HARDLY * first and max(losses) < first / HARDLY:
        return f"Do labels belong to their pictures (contact sheet)? If so, try ten times the learning rate ({lr:g})."
    return f"Do labels belong to their pictures (contact sheet)? If so, try a tenth of the learning rate ({lr:g})."
