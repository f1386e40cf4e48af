"""Frozen is a promise: what stands still is the same to the bit after a few steps, and what trains has moved."""

from __future__ import annotations

from descend.doctor.subject import Subject
from descend.findings import Finding, named

CHECK = "frozen parts"


def frozen_parts(subject: Subject) -> list[Finding]:
    """Compare every parameter and buffer of the network before and after the trial's steps."""
    trial = subject.trial
    evidence = {"n_fixed": trial.n_fixed, "n_training": trial.n_moving, "moved": trial.fixed_moved, "unmoved": trial.unmoved}
    found: list[Finding] = []
    if trial.fixed_moved:
        found.append(Finding(CHECK, "finding", f"must stand still, and moved: {named(trial.fixed_moved)}", evidence,
                             "Look for a technique of your own, or a hook, that writes into the network."))  # fmt: skip
    if trial.unmoved:
        found.append(Finding(CHECK, "finding", f"should train, and no step moved: {named(trial.unmoved)}", evidence,
                             "No gradient reaches it, or its rate is zero: freeze it, or connect it."))  # fmt: skip
    told = f"{trial.n_fixed} tensors stand still to the bit, {trial.n_moving} move"
    return found or [Finding(CHECK, "ok", told, evidence)]
