"""The techniques that a search used, step by step: its plan names the backbone alone, each step brings its own.

The report reads results and imports no training, so what every fine-tuning step has in common stands here again;
``tests/unit/test_report_search_techniques.py`` holds it to ``descend.search``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from descend.augment import Augmentation
from descend.errors import DescendError
from descend.optim import Rule
from descend.regularize import Loss
from descend.report.technique_rows import Used, of_text
from descend.schedule import Schedule
from descend.spec_text import Call, parse
from descend.technique import Technique
from descend.train.record import RunRecord
from descend.train.record_types import SearchStep
from descend.transfer import Head
from descend.transfer.logistic import STRONGEST, USUAL_STRENGTH, WEAKEST
from descend.transfer.logistic_problem import TOLERANCE

OPTIMIZER = "adamw(weight_decay=0.01)"
SCHEDULE = "then(warmup(fraction=0.05), cosine())"
HEAD_SHARE, BATCH_SIZE = 0.2, 32
FORMER_LAYER_DECAY = 0.8  # of trainings that started from the whole head; their steps tell a view
LOSS = "cross_entropy(smoothing=0.1)"
CROPS, FLIP, DISTORT = "random_resized_crop(scale_range=[0.5, 1.0])", "flip(p=0.5)", "trivialaugment()"

LBFGS = "Liu & Nocedal 1989, Mathematical Programming 45, 503-528"
DISCRIMINATIVE = "discriminative fine-tuning: Howard & Ruder 2018, arXiv:1801.06146, section 3.2"
HEAD_FIRST = "the head first: Kumar et al. 2022, arXiv:2202.10054; small outputs: Chizat, Oyallon & Bach 2019, arXiv:1812.07956"
TEMPERATURE = "Guo et al. 2017, arXiv:1706.04599, section 4.2"
MIXTURE = "linear opinion pool: Stone 1961; weights by expectation-maximization: Dempster, Laird & Rubin 1977"

Named = tuple[str, Used]  # what it is for, and the technique


def of_search(record: RunRecord) -> list[Used]:
    """Return the techniques of the steps that a search took, each value once, and of what became of their answers.

    A step that was dropped because its time ran out used none. setting: what each is for, and in which steps.
    """
    found: dict[Named, list[int]] = {}
    for number, step in enumerate(record.search, 1):
        for named in _of_step(step):
            found.setdefault(named, []).append(number)
    listed = [
        replace(item, setting=f"{what}, step{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}")
        for (what, item), numbers in found.items()
    ]
    members = (record.preprocessing or {}).get("members") or []
    if len(members) > 1:
        listed.append(Used.own("answer", "mixture", MIXTURE, {"weights": [member["weight"] for member in members]}))
    return listed


def _of_step(step: SearchStep) -> Iterator[Named]:
    if not step["measured"]:  # it was lost
        return
    try:
        call = parse(step["step"])
    except DescendError:  # of another version
        return
    if call.name == "features":
        yield from _head(call, step["outcome"])
    elif call.name == "finetune" and "lr" in call.settings:
        yield from _fine_tuning(call, step["outcome"])


def _head(call: Call, outcome: str) -> Iterator[Named]:
    """Yield what fitted a head to features."""
    quick = bool(call.settings.get("quick"))
    strength = call.settings.get("strength", USUAL_STRENGTH)
    for item in of_text("", f"logistic(strength={strength})" if quick else "logistic()", Head):
        yield (
            "head",
            replace(item, knobs=tuple(knob for knob in item.knobs if knob.name != "folds")),
        )  # of a search: by n
    tried = {} if quick else {"strengths_range": [WEAKEST, STRONGEST]}
    yield "fit of the head", Used.own("", "l_bfgs", LBFGS, {"tolerance": TOLERANCE, **tried})
    if "crops used" in outcome:
        views = f"{call.settings.get('crops')} crops of each picture for the head"
        for text in [CROPS, FLIP] if call.settings.get("mirrored") else [CROPS]:
            for item in of_text("", text, Augmentation):
                yield views, item


def _fine_tuning(call: Call, outcome: str) -> Iterator[Named]:
    """Yield what trained late stages."""
    told = call.settings
    families: list[tuple[str, str, type[Technique]]] = [
        ("optimizer", OPTIMIZER.replace("(", f"(lr={told['lr']}, "), Rule), ("schedule", SCHEDULE, Schedule),
        ("loss", LOSS, Loss), ("augment", CROPS, Augmentation),
    ]  # fmt: skip
    families += [("augment", text, Augmentation) for word, text in (("mirrored", FLIP), ("distorted", DISTORT)) if told.get(word)]
    for what, text, family in families:
        for item in of_text("", text, family):
            yield what, item
    former = "view" in told
    start = {"layer_decay": FORMER_LAYER_DECAY} if former else {"head_share": HEAD_SHARE}
    trained = {"freeze_to": told.get("freeze_to"), "norm": "eval", **start, "size": told.get("size"),
               "batch_size": told.get("batch_size", BATCH_SIZE), "n_steps": told.get("n_steps"),
               "precision": told.get("precision", "float32")}  # fmt: skip
    trained |= {name: told[name] for name in ("stop_at", "with_val") if name in told}
    yield "fine-tuning", Used.own("", "late_stages", DISCRIMINATIVE if former else HEAD_FIRST, trained)
    temperature = re.search(r"\btemperature (\d+\.\d+)", outcome)
    if temperature:
        yield "calibration", Used.own("", "temperature", TEMPERATURE, {"temperature": float(temperature[1])})
