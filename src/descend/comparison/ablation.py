"""What each technique of a recipe buys: leave one out, add one in, on the same seeds, pictures and split.

base                    the recipe, complete
drop:X                  the recipe without X, against base: what X buys beside all others
bare                    the recipe without any of its techniques
bare add:X              bare with X alone, against bare: what X buys by itself
add:SPEC                a technique that the recipe lacks, against base

A technique may be needed by itself and idle beside the others, or the other way round; only both columns together tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar

from descend.comparison.ablation_rungs import Rung, draw_ladder
from descend.comparison.candidate import BASE, Candidate, changed
from descend.comparison.costs import metric_words, share, shares
from descend.comparison.experiment import SCHEMA, Experiment, opened
from descend.comparison.looked_at import LookedAt
from descend.comparison.loop import Settings, carried_out, shared_root
from descend.comparison.recipe_parts import Part, parts
from descend.comparison.runs import Fit, job, make
from descend.drawing import Drawing
from descend.durations import duration
from descend.errors import DescendError, KnobError, TrainingError
from descend.pandas_frames import pandas_for
from descend.printable import columns
from descend.progress import Progress
from descend.train import folder
from descend.train import recipe as recipes
from descend.train.prepare import profile_of
from descend.train.recipe import Recipe
from descend.train.resolve import resolve

BARE = "bare"


@dataclass(frozen=True, eq=False)
class Ablation(Experiment):
    """A recipe with and without each of its techniques. comparison: the runs. techniques, added: by name, in their order."""

    kind: ClassVar = "ablation"
    picture: ClassVar = "ladder"

    techniques: tuple[str, ...]
    added: tuple[str, ...] = ()

    def rungs(self) -> list[Rung]:
        """Return the rungs in order: the recipe, without each technique, without any, with each alone, with more."""
        verdicts = {verdict.name: verdict for verdict in self.comparison.verdicts()}
        return [
            Rung(name, self.comparison.opposites.get(name), self.comparison.costs(name), verdicts.get(name))
            for name in self.comparison.names
        ]

    # -------------------------------------------------------------------------------------------------------------- as text

    def lines(self) -> list[str]:
        """Return the ladder and the verdicts as lines for a terminal."""
        rungs, metrics = self.rungs(), self.comparison.metrics
        head = ("", "accuracy", *map(metric_words, metrics), "points", "runs", "time", "memory")
        rows = [head, *(_row(rung, metrics) for rung in rungs)]
        told = [rung.verdict.text for rung in rungs if rung.verdict is not None]
        told += filter(None, [self.comparison.judged_by])
        return [*columns(rows), "", *told, *self.comparison.failures(), *([self.ended] if self.ended else [])]

    # -------------------------------------------------------------------------------------------------- as data and picture

    def figure(self) -> Drawing:
        """Draw the ladder."""
        return draw_ladder(self.rungs(), title=f"What each technique buys on {self.comparison.data}", where=self.comparison.split)

    @property
    def frame(self) -> Any:
        """One row per rung, as a pandas frame. Raises MissingExtra without pandas."""
        return pandas_for("ablation.frame").json_normalize([rung.facts() for rung in self.rungs()])

    def facts(self) -> dict[str, Any]:
        """Return what was left out and added, as plain data."""
        found = self.comparison
        return {
            "schema": SCHEMA, "data": found.data, "split": found.split, "seeds": list(found.seeds), "level": found.level,
            "settle": found.settle, "techniques": list(self.techniques), "added": list(self.added), "ended": found.ended,
        }  # fmt: skip

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rungs."""
        return ({"kind": "rung"} | rung.facts() for rung in self.rungs())


def load_ablation(path: Path | str) -> Ablation:
    """Read an ablation's folder. Raises RunError where there is none, or one of another version."""
    found, facts = opened(path, Ablation.kind)
    return Ablation(found, tuple(facts["techniques"]), tuple(facts["added"]))


def _row(rung: Rung, metrics: Sequence[str]) -> tuple[str, ...]:
    costs = rung.costs
    seconds = "-" if costs.wall_s is None else duration(costs.wall_s)
    return (rung.name, share(costs.accuracy), *shares(costs, metrics), rung.points or "-", costs.runs, seconds, costs.memory)


# ---------------------------------------------------------------------------------------------------------- carrying out


def ablate(
    base: Recipe, settings: Settings, *, add: Sequence[str] = (), fit: Fit, resume: Fit, out: Path | None, progress: Progress,
    arrays: Any = None,
) -> Ablation:  # fmt: skip
    """Leave every technique of a recipe out, add every one to none, and return what came of it.

    base: the recipe; what it leaves open is decided for the data first, by a search where ``auto`` is asked for. add: techniques
    that it lacks. Runs are shared as those of ``compare``. Raises KnobError where there is nothing to leave out or to add, and
    DescendErrors for what can be refused before the first run.
    """
    looked = LookedAt(base, arrays)
    full = looked.completed(base)
    if full.transfer == "auto" and not full.steps:
        full = _searched(looked, full, out, fit=fit, resume=resume, progress=progress)
    known = parts(full)
    if not known and not add:
        raise KnobError("ablate", "the recipe must have techniques to leave out", got=_told(full),
                        fix="Ask for some, such as --augment flip --regularize dropout, or try more with --add.")  # fmt: skip
    chosen, against = _ladder(full, known, add)
    profile = profile_of(looked.dataset)
    for candidate in chosen:
        try:
            resolve(candidate.recipe, profile)
        except DescendError as error:
            error.add_lines(f"  in {candidate.name}")
            raise
    found = carried_out(
        chosen, looked, settings, fit=fit, resume=resume, out=out, progress=progress, against=against
    )  # fmt: skip
    ablation = Ablation(found, tuple(part.name for part in known), tuple(add))
    ablation.save()
    return ablation


def _ladder(full: Recipe, known: Sequence[Part], add: Sequence[str]) -> tuple[list[Candidate], dict[str, str]]:
    """Return the candidates, and what each is measured against."""
    recipes_of: dict[str, Recipe] = {BASE: full}
    against: dict[str, str] = {}
    for part in known:
        recipes_of[f"drop:{part.name}"], against[f"drop:{part.name}"] = part.without(full), BASE
    if len(known) > 1:  # the recipe without its only technique is bare
        recipes_of[BARE], against[BARE] = _without(full, known), BASE
        for part in known:
            name = f"{BARE} add:{part.name}"
            recipes_of[name], against[name] = _without(full, [other for other in known if other is not part]), BARE
    for text in add:
        name, recipe = f"add:{text}", changed(f"add:{text}", full, lambda complete: complete)
        if recipe in recipes_of.values():
            raise KnobError("ablate", "add must name techniques that differ from each other", got=list(add))
        recipes_of[name], against[name] = recipe, BASE
    return [Candidate(name, recipe) for name, recipe in recipes_of.items()], against


def _without(recipe: Recipe, left_out: Sequence[Part]) -> Recipe:
    return reduce(lambda changed_, part: part.without(changed_), left_out, recipe)


def _told(recipe: Recipe) -> Mapping[str, Any]:
    shown = ("transfer", "augment", "regularize", "gradients", "schedule", "optimizer", "head", "steps")
    return {name: getattr(recipe, name) for name in shown if getattr(recipe, name)}


def _searched(looked: LookedAt, full: Recipe, out: Path | None, *, fit: Fit, resume: Fit, progress: Progress) -> Recipe:
    """Return the recipe that a search has written; its run lies with the others, and is made once."""
    base, dataset = looked.base, looked.dataset
    split_seed = None if dataset.given_split else base.seed
    item = job(Candidate("auto", full), base.seed, split_seed, shared_root(out), dataset.fingerprint)
    progress.say(f"searching first, as descend fit does, for {full.budget}; its run lies in {item.place}")
    made = make(item, fit=fit, resume=resume, data=looked.arrays)
    if made.status == "interrupted":
        raise KeyboardInterrupt
    if made.status != "finished":
        raise TrainingError("ablate", f"the search must find an answer ({made.error})")
    return dataclasses.replace(recipes.read(item.place / folder.RECIPE), data=base.data, seed=base.seed)  # pyright: ignore[reportArgumentType] (a record is a dataclass)
