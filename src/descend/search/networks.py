"""Networks that steps have trained, kept in the run folder until the run is finished: resuming does not train them again."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialized

from descend.models import Classifier
from descend.search.steps import FineTuneStep
from descend.train import folder
from descend.train.run_log import RunLog

FOLDER = "search"


def save(log: RunLog, step: FineTuneStep, classifier: Classifier) -> None:
    """Keep a network that a step has trained."""
    path = _path(log, step)
    folder.make_inner(path.parent)
    state = {name: value.contiguous() for name, value in classifier.state_dict().items()}
    with folder.replacing(path) as part:
        part.write_bytes(serialized(state))


def load(log: RunLog, step: FineTuneStep, like: Classifier) -> Classifier | None:
    """Return the network that the step trained in an earlier session, or None. like: a network of the same parts."""
    path = _path(log, step)
    if not path.exists():
        return None
    classifier = copy.deepcopy(like)
    try:
        classifier.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError):  # damaged: it is trained again
        return None
    return classifier


def clear(log: RunLog) -> None:
    """Remove what is kept: the run's model holds what it needs."""
    shutil.rmtree(_folder(log), ignore_errors=True)


def _folder(log: RunLog) -> Path:
    assert log.folder is not None  # a search writes its run
    return log.folder / FOLDER


def _path(log: RunLog, step: FineTuneStep) -> Path:
    return _folder(log) / f"finetune-{step.draw}.safetensors"
