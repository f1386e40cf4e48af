"""Study 5: what each step of a search buys, alone and beside the others: ``descend ablate`` over what ``auto`` chose.

    python benchmarks/auto_steps.py                       flowers, hands, ants and bees; goes on where it was stopped
    python benchmarks/auto_steps.py sign-digits --search 1m --seeds 2
    python docs/studies/build.py                          then fills the table and draws the ladders

One search of two minutes for each set; its steps are then taken again with three seeds, on the same split and with fixed numbers
of training steps, without each step but the first look, and each alone. Accuracy is of the test split (of ants and bees: their
validation folder). Seeds draw the crops, the order and the folds of cross-validation; intervals cover further seeds and pictures.
Scaled down: two minutes, three seeds, three sets of photographs. The seconds of a run depend on what its neighbors have left in
the cache of features, so they tell what training costs and little of looking.
"""

from __future__ import annotations

import argparse
import tempfile
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import descend
from harness import go_on
from splits import NAMES, split

SETS = ("flowers5", "sign-digits", "hymenoptera")


def rungs(name: str, search: str, seeds: int, work: Path) -> dict[str, Any]:
    """Return the steps that a search chose on a set, and what every rung of the ladder measured."""
    folder = split(name, 0, work)
    chosen = work / "searches" / folder.name
    if not (chosen / "model.safetensors").exists():
        descend.fit(folder, transfer="auto", budget=search, out=chosen)
    found = descend.ablate(folder, recipe=chosen, seeds=seeds, out=work / "ablations" / folder.name)
    steps = tomllib.loads((chosen / "recipe.toml").read_text(encoding="utf-8"))["steps"]
    return {"steps": steps, "techniques": list(found.techniques), "rungs": [rung.facts() for rung in found.rungs()]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {NAMES}, or a folder; default {', '.join(SETS)}")
    parser.add_argument("--search", default="2m", metavar="B", help="budget of the search; default 2m")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "descend-auto-steps", help="kept between calls"
    )
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    jobs = [(name, partial(rungs, name, given.search, given.seeds, given.work)) for name in given.sets or SETS]
    go_on("auto_steps", "each step that a search chose helps, or is not distinguishable from nothing", jobs)


if __name__ == "__main__":
    main()
