"""What a comparison knows of its data before the first run, and of what its recipes become for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from descend.comparison.candidate import Candidate
from descend.data import Dataset
from descend.progress import Silent
from descend.train.prepare import Survey, prepare, survey
from descend.train.recipe import Recipe
from descend.train.run_log import RunLog


class LookedAt:
    """The data, looked at once, and what a recipe becomes for them."""

    def __init__(self, base: Recipe, arrays: Any) -> None:
        self.base, self.arrays = base, arrays
        self._surveys: dict[Recipe, Survey] = {}
        self._completed: dict[Recipe, Recipe] = {}

    @property
    def dataset(self) -> Dataset:
        """What is trained on and judged."""
        return self._survey(self.base).dataset

    @property
    def n_judged(self) -> int:
        """On how much every run is judged, copies and groups once: of test, or of validation where there is no test split."""
        return len(np.unique(self.dataset.evidence(self.dataset.indices("test" if self.has_test else "val"))))

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return bool(len(self.dataset.indices("test")))

    def completed(self, recipe: Recipe) -> Recipe:
        """Return the recipe with its open settings decided, those that are measured on the data too."""
        if recipe not in self._completed:
            plan = self._survey(recipe).plan
            if plan.open_settings:
                plan = prepare(recipe, arrays=self.arrays, log=RunLog(writes=False), progress=Silent(), who="compare").plan
            if plan.transfer == "auto" and recipe.fit == "auto" and not recipe.steps and recipe.crop_pct is None:
                plan = replace(plan, open_settings={"fit": "auto"})  # the search measures it
            self._completed[recipe] = plan.recipe()
        return self._completed[recipe]

    def unequal_modes(self, chosen: Sequence[Candidate]) -> str:
        """Say it where candidates are trained in different ways that nobody has named, such as a search and a head; else ""."""
        ways = {one.name: self._survey(one.recipe).plan.transfer for one in chosen if one.recipe.transfer == Recipe().transfer}
        if len({*ways.values()}) < 2:
            return ""
        told = ", ".join(f"{name}: {way}" for name, way in ways.items())
        return f"careful: --transfer was left open, and candidates choose it differently ({told}): name it to compare alike"

    def _survey(self, recipe: Recipe) -> Survey:
        if recipe not in self._surveys:
            log = RunLog(writes=False)
            self._surveys[recipe] = survey(recipe, arrays=self.arrays, log=log, progress=Silent(), who="compare")
        return self._surveys[recipe]
