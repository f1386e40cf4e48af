"""A penalty costs something: the loss rises by it, or the weights are smaller after a step than without it.

Penalties on activations are part of the loss; those on weights act in the optimizer (``l2`` is its weight decay) or right after
the step (``l1``, ``elastic_net``, ``max_norm``), so that the loss that is printed does not hold them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from descend import rng
from descend.doctor.subject import Subject
from descend.doctor.trial import steps
from descend.findings import Finding
from descend.regularize import ElasticNet, Regularizer
from descend.regularize.penalties import penalized
from descend.train.loop import Task
from descend.train.lr_sweep import untouched

CHECK = "penalties"
N_STEPS = 2  # a weight that begins at zero cannot shrink in the first
PROBE_SHRINKS = 0.1  # a probe penalty takes a tenth off every weight per step


def penalties(subject: Subject) -> list[Finding]:
    """Look at every penalty of the recipe, or at a probe where it has none."""
    task = subject.task
    found = [_in_the_loss(subject, item) for item in task.regularizers if _overrides(item, "extra_loss")]
    acting = [item for item in task.regularizers if _overrides(item, "after_step")]
    decays = any(group.get("weight_decay", 0) > 0 for group in task.optimizer.param_groups)
    if decays:
        found.append(_judged("weight decay", _size_after(subject, task, decay=False), _size_after(subject, task)))
    for item in acting:
        without = replace(task, regularizers=tuple(other for other in task.regularizers if other is not item))
        found.append(_judged(str(item), _size_after(subject, without), _size_after(subject, task)))
    return found or [_probe(subject)]


def _overrides(item: Regularizer, moment: str) -> bool:
    return getattr(type(item), moment) is not getattr(Regularizer, moment)


def _in_the_loss(subject: Subject, item: Regularizer) -> Finding:
    """Return whether a penalty on activations makes the loss larger."""
    task = subject.task
    ((epoch, batch),) = subject.quick_batches(1)
    with untouched(task), rng.context(epoch, batch.step, batch.ids):
        task.module.train()
        loss = float(task.loss(task.module(batch.inputs), batch.targets).detach())
        extra = item.extra_loss(task.module)
    added = 0.0 if extra is None else float(extra.detach())
    evidence = {"penalty": str(item), "loss": loss, "with_penalty": loss + added}
    told = f"{item}: loss {loss:.4f} without it, {loss + added:.4f} with it"
    if not math.isfinite(added) or added < 0:
        return Finding(CHECK, "finding", f"{told}: a penalty must not make the loss smaller", evidence,
                       "Look at the sign of its extra_loss, and at logarithms of zero in it.")  # fmt: skip
    return Finding(CHECK, "ok", told, evidence)


def _judged(name: str, plain: float, shrunk: float) -> Finding:
    """Return whether a penalty on weights makes them smaller: their length after the same steps without and with it."""
    evidence = {"penalty": name, "size": plain, "with_penalty": shrunk}
    told = f"{name}: weights of length {plain:.6g} after {N_STEPS} steps without it, {shrunk:.6g} with it"
    if not shrunk <= plain:
        return Finding(CHECK, "finding", f"{told}: a penalty must not make weights larger", evidence,
                       "Look at the sign of what it does to weights, and at the learning rate.")  # fmt: skip
    if shrunk == plain:
        return Finding(CHECK, "note", f"{told}: it changes nothing so far", evidence)
    return Finding(CHECK, "ok", told, evidence)


def _probe(subject: Subject) -> Finding:
    task = subject.task
    probe = ElasticNet(l1=0.0, l2=PROBE_SHRINKS / max(task.optimizer.rule.lr, 1e-12))
    probed = replace(task, regularizers=(*task.regularizers, probe))
    found = _judged("probe", _size_after(subject, task), _size_after(subject, probed))
    return replace(found, what=f"the recipe has none; {found.what}")


def _size_after(subject: Subject, task: Task, *, decay: bool = True) -> float:
    """Return the length of all weights that penalties touch, after a few steps; the task stays as it was."""
    with untouched(task):
        for group in task.optimizer.param_groups if not decay else ():
            group["weight_decay"] = 0.0
        for _ in steps(task, subject.quick_batches(N_STEPS)):
            pass
        with torch.no_grad():
            touched = penalized(dict(task.module.named_parameters()))
            return math.sqrt(sum(float(p.double().pow(2).sum()) for _, p in touched))
