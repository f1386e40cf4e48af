"""Networks that steps have trained, kept in the run folder until the run is finished: resuming does not train them again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialized

from descend.models import Classifier
from descend.search.finetune import HEAD_SHARE, RULE, SCHEDULE, SMOOTHING
from descend.search.steps import FineTuneStep, text
from descend.search.study import CROPS, DISTORT, FLIP
from descend.train import folder
from descend.train.run_log import RunLog

FOLDER = "search"


def save(log: RunLog, step: FineTuneStep, classifier: Classifier) -> None:
    """Keep a network that a step has trained."""
    path = _path(log, step)
    folder.make_inner(path.parent)
    state = {name: value.contiguous() for name, value in classifier.state_dict().items()}
    with folder.replacing(path) as part:
        part.write_bytes(serialized(state, _made_by(step)))


def load(log: RunLog, step: FineTuneStep, like: Callable[[], Classifier]) -> Classifier | None:
    """Return the network that the step trained in an earlier session, or None. like: makes one of the same parts, to be filled.

    One that another step left, before its time ran out or it was decided anew, is none.
    """
    path = _path(log, step)
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if file.metadata() != _made_by(step):
                return None
        state = load_file(path)
    except (SafetensorError, OSError):  # damaged: it is trained again
        return None
    classifier = like()
    try:
        classifier.load_state_dict(state)
    except RuntimeError:  # of another version
        return None
    return classifier


def clear(log: RunLog) -> None:
    """Remove what is kept: the run's model holds what it needs."""
    shutil.rmtree(_folder(log), ignore_errors=True)


def _made_by(step: FineTuneStep) -> dict[str, str]:
    """Return what a network depends on beside pictures and the head that it starts from; when it stopped is written later."""
    recipe = (RULE, SCHEDULE, SMOOTHING, HEAD_SHARE, CROPS, FLIP, DISTORT)
    return {"step": text(replace(step, stop_at=None)), "recipe": ", ".join(map(str, recipe))}


def _folder(log: RunLog) -> Path:
    assert log.folder is not None  # a search writes its run
    return log.folder / FOLDER


def _path(log: RunLog, step: FineTuneStep) -> Path:
    return _folder(log) / f"finetune-{step.draw}.safetensors"
