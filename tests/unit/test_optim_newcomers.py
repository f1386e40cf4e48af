"""What people write first, coming from torch.optim: it works, or the error shows how to write it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from descend.errors import DescendError, KnobError
from descend.optim import EMA, SAM, SGD, Adadelta, Adam, AdamW, ClipNorm, Momentum, Optimizer, RMSProp
from descend.technique import build


def params() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2))]


Anything: Any = None  # wrong arguments are what is tested
MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: Optimizer(params(), Anything or AdamW), "Write AdamW()."),
    (lambda: Optimizer(params(), Anything or torch.optim.AdamW), "Write Optimizer(params, 'adamw', lr=...)."),
    (lambda: Optimizer(params(), Anything or torch.optim.AdamW(params())), "Write Optimizer(params, 'adamw', lr=...)."),
    (lambda: Optimizer(params(), Anything or torch.optim.LBFGS), "Rules: adabelief, "),
    (lambda: Optimizer(params(), Anything or 1e-3), "Write Optimizer(params, 'adamw', lr=0.001)."),
    (lambda: Optimizer(params(), Anything or []), "must be a technique or its text, got []"),
    (lambda: Optimizer("adamw", Anything or params()), "Write Optimizer(params, rule)."),
    (lambda: Optimizer(AdamW(), Anything or params()), "Write Optimizer(params, rule)."),
    (lambda: Optimizer(nn.Linear(2, 1), "adamw"), "Pass model.parameters()."),
    (lambda: Optimizer(params(), "AdamW"), "Did you mean 'adamw'?"),
    (lambda: Optimizer(params(), "adamw", lrr=1e-3), "has no knob 'lrr'. Did you mean 'lr'?"),
    (lambda: Optimizer(params(), "adamw", lr=-1.0), "lr must be a finite number >= 0, got -1.0"),
    (lambda: Optimizer(params(), "adamw", fused=True), "adamw: has no knob 'fused'. Leave it out"),
    (lambda: Optimizer(params(), "adagrad", betas=(0.9, 0.95)), "adagrad: has no knob 'betas'. Its knobs: lr, eps"),
    (lambda: Optimizer(params(), "adamw", betas=(0.9,)), "must be 2 numbers, got (0.9,)"),
    (lambda: Optimizer(params(), "adamw", gradients=Anything or ClipNorm), "Write ClipNorm()."),
    (lambda: Optimizer(params(), "adamw", gradients=Anything or 1.0), "must be a technique or its text, got 1.0"),
    (lambda: Optimizer(params(), "adamw(betas=(.9, .95))"), "adamw: has no knob 'betas'. Write beta1=0.9, beta2=0.95."),
    (lambda: Optimizer(params(), "ema(adamw(betas=(.9, .95)))"), "Write beta1=0.9, beta2=0.95."),
    (lambda: Optimizer(params(), "adan(betas=(.9, .95, .99))"), "Write beta1=0.9, beta2=0.95, beta3=0.99."),
    (lambda: Optimizer(params(), "schedule_free_adamw(betas=(.9, .95))"), "Write beta=0.9, beta2=0.95."),
    (lambda: Optimizer(params(), "adam(debias=false)"), "debias must be True or False. Write debias=False."),
    (lambda: Optimizer(params(), "nesterov(form=none)"), "form must be one of 'current', 'lookahead', got 'none'"),
    (lambda: AdamW(params(), lr=1e-3), "A rule holds no parameters: write Optimizer(params, AdamW(lr=...))."),
    (lambda: AdamW(1e-3), "Write AdamW(lr=0.001)."),
    (lambda: SAM(AdamW()), "Write SAM(inner=AdamW(...))."),
    (lambda: Adam(betas=(0.9, 0.95)), "Write beta1=0.9, beta2=0.95."),
    (lambda: Adam(amsgrad=True), "It is a rule of its own, amsgrad."),
    (lambda: SGD(lr=0.1, momentum=0.9), "It is a rule of its own, momentum."),
    (lambda: Momentum(nesterov=True), "It is a rule of its own, nesterov."),
    (lambda: RMSProp(alpha=0.9), "It is called beta."),
    (lambda: Adadelta(rho=0.9), "It is called beta."),
    (lambda: AdamW(maximize=True), "Write Optimizer(params, rule, maximize=True)."),
]


@pytest.mark.parametrize(("write", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_the_error_shows_how_to_write_it(write: Callable[[], Any], message: str) -> None:
    with pytest.raises(DescendError, match=re.escape(message)):
        write()


@pytest.mark.parametrize("rule", ["adamw", AdamW(), "adamw(lr=0.5)", "ema(adamw)"], ids=str)
def test_knobs_may_be_given_as_to_torch(rule: Any) -> None:
    ours, theirs = params(), params()
    one = Optimizer(ours, rule, lr=0.02, betas=(0.8, 0.95), weight_decay=0.3)
    two = torch.optim.AdamW(theirs, lr=0.02, betas=(0.8, 0.95), weight_decay=0.3)
    for parameter, optimizer in ((ours[0], one), (theirs[0], two)):
        for slope in (1.0, -2.0, 0.5):
            parameter.grad = torch.tensor([slope, 3.0])
            optimizer.step()
    torch.testing.assert_close(ours[0], theirs[0])
    assert one.defaults["lr"] == 0.02
    assert (one.defaults["betas"], one.defaults["beta1"]) == ((0.8, 0.95), 0.8)


def test_the_default_rule_takes_knobs_too() -> None:
    assert Optimizer(params(), lr=0.02).rule == AdamW(lr=0.02)


def test_words_of_other_languages_stay_words_where_words_are_legal() -> None:
    assert build("momentum(form=lr_inside)", Momentum) == Momentum(form="lr_inside")


def test_the_optimizer_shows_its_rule_and_stages() -> None:
    text = repr(Optimizer(params(), EMA(inner=AdamW(lr=0.02)), gradients="clip_norm(max_norm=2.0)"))
    first, second, third, *_ = text.splitlines()
    assert (first, second) == ("Optimizer (", "rule: ema(inner=adamw(lr=0.02))")
    assert third == "gradients: clip_norm(max_norm=2.0)"
    assert "    lr: 0.02" in text
    assert "gradients" not in repr(Optimizer(params(), "sgd"))


def test_a_group_without_the_knob_is_told_the_nearest() -> None:
    with pytest.raises(KnobError, match="has no knob 'betas'"):
        Optimizer([{"params": params(), "betas": (0.9, 0.95)}], "sgd")
