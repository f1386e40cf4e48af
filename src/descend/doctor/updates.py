"""How far a step moves each weight, relative to the weight: about a thousandth is usual (Karpathy's rule of thumb, CS231n)."""

from __future__ import annotations

import math
import statistics

from descend.doctor.subject import Subject
from descend.findings import Finding, named

CHECK = "updates"
USUAL_RANGE = (1e-5, 1e-2)
TOO_FAR = 0.3  # of all that a weight is, in one step; healthy defaults reach 0.1 in their first steps
RISEN = 1.5  # times the first loss, and the loss of a guess


def updates(subject: Subject) -> list[Finding]:
    """Judge the last of a few steps, as it would be at the peak rate, per weight; weights that begin at zero are left out."""
    trial = subject.trial
    ratios, lr = trial.ratios, subject.task.optimizer.rule.lr
    if not ratios:
        return [Finding(CHECK, "ok", "all weights that train begin at zero: there is nothing to relate a step to")]
    low, high = USUAL_RANGE
    table = tuple({"layer": name, "ratio": ratio} for name, ratio in ratios.items())
    middle = statistics.median(ratios.values())
    evidence = {"median": middle, "lowest": min(ratios.values()), "highest": max(ratios.values()), "lr": lr,
                "losses": trial.losses}  # fmt: skip
    span = f"update / weight {min(ratios.values()):.1e} to {max(ratios.values()):.1e}, median {middle:.1e}"
    far = [name for name, ratio in ratios.items() if not ratio <= high]
    near = [name for name, ratio in ratios.items() if ratio < low]
    found: list[Finding] = []
    if far:
        limit = RISEN * max(trial.losses[0], math.log(subject.n_classes))
        rising = not math.isfinite(trial.losses[-1]) or trial.losses[-1] > limit
        bad = rising or not max(ratios.values()) <= TOO_FAR
        tens = min(math.floor(math.log10(1e-3 / middle)), -1) if 0 < middle < math.inf else -1  # lower, whatever most layers do
        advice = float(f"{lr * 10**tens:.1g}")
        what = f"{span}: above {high:g} in {named(far)}" + (", and the loss rises" if rising else "")
        fix = f"Lower the learning rate ({lr:g}), to {advice:g} perhaps; descend lr-find measures it." if bad else ""
        found.append(Finding(CHECK, "finding" if bad else "note", what, evidence, fix, table))
    if near:
        what = f"{span}: below {low:g} in {named(near)}, which hardly move in {subject.n_steps:,} steps"
        found.append(Finding(CHECK, "finding", what, evidence,
                             f"Raise the learning rate ({lr:g}) or layer_decay, or freeze these layers.", table))  # fmt: skip
    return found or [Finding(CHECK, "ok", span, evidence, table=table)]
