"""The loss before the first step: a network that knows nothing about K classes has -log(1/K)."""

from __future__ import annotations

import math

import torch

from descend import rng
from descend.doctor.subject import Subject, plain_loss
from descend.findings import Finding
from descend.train.lr_sweep import untouched

CHECK = "initial loss"
ABOVE, BELOW = 1.3, 0.7  # times the loss of a guess


def initial_loss(subject: Subject) -> list[Finding]:
    """Compare the loss of the first batch, without smoothing and weights, with that of a guess among all classes."""
    guess = math.log(subject.n_classes)
    loss = _first_loss(subject)
    evidence = {"loss": loss, "expected": guess, "n_classes": subject.n_classes}
    told = f"{loss:.3f} nats before the first step, a guess among {subject.n_classes} classes has {guess:.3f}"
    if not math.isfinite(loss):
        return [Finding(CHECK, "finding", f"the loss is not finite before the first step: {loss}", evidence,
                        "Look at the pictures' constants (normalize) and at weights of your own.")]  # fmt: skip
    if loss > ABOVE * guess:
        return [Finding(CHECK, "finding", f"{told}: the network begins sure of wrong answers", evidence,
                        "Begin with a head of zeros or of small weights; check that inputs are normalized.")]  # fmt: skip
    if loss < BELOW * guess:
        return [Finding(CHECK, "note", f"{told}: the head knows the classes already", evidence,
                        "Expected only where its weights were trained before; else labels leak into the inputs.")]  # fmt: skip
    return [Finding(CHECK, "ok", told, evidence)]


def _first_loss(subject: Subject) -> float:
    """Return the plain loss of the first batch in training form, in nats; the subject stays as it was."""
    task, ((epoch, batch),) = subject.task, subject.batches(1)
    with untouched(task), torch.no_grad(), rng.context(epoch, batch.step, batch.ids):
        task.module.train()
        return float(plain_loss(task.module(batch.inputs), batch.targets))
