"""Runs that are made in no time: a fit whose answers are right as often as a function of the recipe says."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from descend.comparison.runs import Fit
from descend.errors import DivergenceError, RunError
from descend.train import folder
from descend.train.recipe import Recipe
from descend.train.record import RunRecord
from descend.train.run import Run

N_PICTURES = 400


def write_answers(place: Path, name: str, seed: int, accuracy: float) -> None:
    """Write into a new run folder what a verdict reads: answers to 200 pictures, about so many of them right."""
    place.mkdir()
    right = np.random.default_rng([seed, len(name)]).random(200) < accuracy
    rows = [f"{i}.png,test,a,{'a' if good else 'b'}" for i, good in enumerate(right)]
    (place / folder.PREDICTIONS).write_text("path,split,label,predicted\n" + "\n".join(rows) + "\n")


def fake_fit(accuracy: Callable[[Recipe], float | None], made: list[Recipe]) -> dict[str, Fit]:
    """Return what stands for ``descend.fit`` and ``resume``; None: the run diverges. made: grows by every recipe that is run.

    The same pictures are hard for every recipe; a seed moves the accuracy by a point at most.
    """

    def fit(data: Any, *, recipe: Recipe, out: Path, **_: Any) -> Run:
        made.append(recipe)
        share = accuracy(recipe)
        if share is None:
            raise DivergenceError("training", "the training loss must stay finite in epoch 1", got=float("nan"))
        record = RunRecord(status="finished", seed=recipe.seed, wall_s={"training": 1.5})
        out.mkdir(parents=True)
        record.save(out)
        hard = np.linspace(0, 1, N_PICTURES) - 0.01 * np.random.default_rng(recipe.seed).random()
        with (out / folder.PREDICTIONS).open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "split", "label", "predicted"])
            for split in ("val", "test"):
                rows.writerows((f"{split}{k}", split, "a", "a" if hard[k] < share else "b") for k in range(N_PICTURES))
        return Run(out, record)

    def resume(*_: Any, **__: Any) -> Run:
        raise RunError("resume", "must not be called")

    return {"fit": fit, "resume": resume}
