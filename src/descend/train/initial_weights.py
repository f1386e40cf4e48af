"""The weights that a backbone begins with, where they come from a file of one's own; the run folder needs the file only once.

An unfinished run keeps them as ``initial.safetensors``, so that it goes on without the file; a finished run's model holds them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from safetensors.torch import save as serialized

from descend.errors import ModelError
from descend.models import Backbone, load_weights
from descend.train import folder
from descend.train.checkpoint import State, snapshot
from descend.train.plan import Plan
from descend.train.recipe import Recipe
from descend.train.record_types import LoadedWeights
from descend.train.run import Run
from descend.train.run_log import RunLog


def check_file(recipe: Recipe, of: Run | None) -> None:
    """Raise ModelError where the recipe names a file that is not there, before anything else is done."""
    if recipe.weights is not None and not _source(recipe.weights, of).is_file():
        raise ModelError("weights", "must be a file that exists", got=recipe.weights)


def load_initial(backbone: Backbone, plan: Plan, of: Run | None, log: RunLog) -> Plan:
    """Load the plan's weights into the backbone and note in the record how they were matched; return the plan with its reason.

    of: the run that was made by this plan before; its folder holds what the file held then. Raises ModelError.
    """
    if plan.weights is None:
        return plan
    source = _source(plan.weights, of)
    if of is not None and source.parent == of.folder:
        folder.verify(source, f"Train anew: {folder.train_anew(of.folder)}.")
    report = load_weights(backbone, source)
    if of is not None:
        reason = log.record.reasons.get("weights", "those that the run began with")
    else:
        values: dict[str, Any] = {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(report).items()}
        log.record.weights = LoadedWeights(**values)
        reason = report.summary()
    return plan.decided("weights", plan.weights, reason)


def initial_state(backbone: Backbone, plan: Plan) -> State | None:
    """Return a copy of the backbone's weights where the run must keep them."""
    return None if plan.weights is None else snapshot(backbone)


def keep(state: State | None, log: RunLog) -> None:
    """Write the state into the run folder, if the run has one and the state is not there. Raises RunError."""
    if state is None or log.folder is None or (log.folder / folder.INITIAL).exists():
        return
    with folder.replacing(log.folder / folder.INITIAL) as part:
        part.write_bytes(serialized({name: value.contiguous() for name, value in state.items()}))


def _source(file: str, of: Run | None) -> Path:
    """Return where the weights are: in the run's folder, else in the file."""
    if of is None:
        return Path(file)
    return next((path for name in (folder.INITIAL, folder.MODEL) if (path := of.folder / name).exists()), Path(file))
