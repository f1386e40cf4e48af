"""An example for every technique: how it is typed on the command line, and, for what loops of one's own use, in Python.

The text of a technique shows the knob that is turned first, at its default; a table holds those that need others inside.
"""

from __future__ import annotations

import dataclasses

from descend.technique import Knob, Technique, knobs, literal

COMPOSED = {
    ("augmentation", "one_of"): "one_of(rotate(), shear())",
    ("augmentation", "some_of"): "some_of(rotate(), hue(), blur(p=1.0), n=2)",
    ("augmentation", "resampling"): "resampling(border='constant')",
    ("optimizer", "ema"): "ema(adamw(lr=0.001), decay=0.999)",
    ("optimizer", "lookahead"): "lookahead(adamw(lr=0.001), k=5)",
    ("optimizer", "sam"): "sam(momentum(lr=0.01), rho=0.05)",
    ("optimizer", "swa"): "swa(adamw(lr=0.001), begin=1)",
    ("regularizer", "elastic_net"): "elastic_net(l1=1e-05, l2=0.0001)",
    ("schedule", "during"): "then(during(constant(), fraction=0.5), cosine())",
    ("schedule", "per_epoch"): "per_epoch(cosine())",
    ("schedule", "repeat"): "repeat(cosine(), n_cycles=3)",
    ("schedule", "then"): "then(warmup(fraction=0.05), cosine())",
    ("schedule", "warmup"): "then(warmup(fraction=0.05), cosine())",
    ("tta", "views"): "views(quarter_turn(), k=8)",
}  # fmt: skip
"""(family, name) -> the text, where the technique alone says nothing."""

BESIDE = {("augmentation", "resampling"): "rotate()"}
"""(family, name) -> what must stand beside a technique for it to have an effect."""

COMMANDS = {
    "augmentation": "descend augment photos/ --augment {}",
    "backbone": "descend fit photos/ --backbone {} --transfer finetune",
    "gradient": "descend fit photos/ --gradients {} --transfer finetune",
    "head": "descend fit photos/ --head {} --transfer features",
    "optimizer": "descend fit photos/ --optimizer {}",
    "regularizer": "descend fit photos/ --regularize {}",
    "schedule": "descend fit photos/ --schedule {}",
    "surface": "descend surface {} --optimizers sgd momentum adam",
    "tta": "descend predict runs/latest new.jpg --tta {}",
}
"""Family -> a command with room for the text."""

IN_PYTHON = {
    "augmentation": "descend.augment.Pipeline([{}])",
    "gradient": 'descend.optim.Optimizer(model.parameters(), "adamw", gradients=[{}])',
    "loss": "descend.technique.build({}, descend.regularize.Loss)",
    "optimizer": "descend.optim.Optimizer(model.parameters(), {})",
    "schedule": "descend.technique.build({}, descend.schedule.Schedule)",
}
"""Family -> the expression that a loop of one's own begins with."""

SCRATCH = {"drop_block", "ghost_batch_norm", "kl_sparsity", "spatial_dropout", "stochastic_depth"}
"""Regularizers whose layers stand in the backbone, which must train for that."""


def text_of(cls: type[Technique]) -> str:
    """Return the text of a technique as an example shows it."""
    if composed := COMPOSED.get((cls.family, cls.name)):
        return composed
    first = next((knob for knob in knobs(cls) if _is_telling(knob)), None)
    return f"{cls.name}({first.name}={literal(first.default)})" if first else f"{cls.name}()"


def _is_telling(knob: Knob) -> bool:
    return not any(knob.default is silent for silent in (None, True, False, dataclasses.MISSING)) and knob.default != ()


def command_of(cls: type[Technique]) -> str | None:
    """Return the command that uses a technique, or None where the command line has no place for its family."""
    template = COMMANDS.get(cls.family)
    small = cls.family == "backbone" and cls.__module__.endswith(".small")
    if template is None:
        return None
    if small or cls.name in SCRATCH:
        template = template.replace(" --transfer finetune", "") + " --transfer scratch"
    return template.format(" ".join(_quoted(cls)))


def python_of(cls: type[Technique]) -> str | None:
    """Return the expression that makes a technique in Python, or None where a command says it all."""
    template = IN_PYTHON.get(cls.family)
    return template.format(", ".join(_quoted(cls))) if template else None


def _quoted(cls: type[Technique]) -> list[str]:
    texts = [BESIDE.get((cls.family, cls.name)), text_of(cls)]
    return [f'"{text}"' for text in texts if text]
