"""What is known of one candidate beside what it is measured against: a sentence, and plain data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from descend.stats import Difference, Interval, verdict_in_points


@dataclass(frozen=True, eq=False)
class Verdict:
    """How one candidate differs from the base. All figures are shares of pictures, in [-1, 1].

    known: the difference at the level that Holm's procedure, and the looks, leave for it; its interval excludes zero exactly
    where the candidate is called different. bootstrap: a second interval, which decides nothing; None with one seed. settle: the
    difference worth finding. lost: how many runs of either side failed, in words; such a run has no answers, so the verdict is on
    the others alone, and a candidate that diverges on every other seed is no better for what the rest reach.
    """

    name: str
    base: str
    known: Difference
    bootstrap: Interval | None
    settle: float
    lost: str = ""

    @property
    def different(self) -> bool:
        """Whether the two are told apart."""
        return self.known.distinguishable

    @property
    def text(self) -> str:
        """The verdict in one sentence."""
        limit = f"; {self.lost}: this speaks of those that finished" if self.lost else ""
        return f"{self.name} against {self.base}: {verdict_in_points(self.known, self.settle)}{limit}"

    def facts(self) -> dict[str, Any]:
        """Return the verdict as plain data. p_value: of this difference by itself."""
        plan = self.known.plan(self.settle)
        return {
            "name": self.name, "base": self.base, "interval": dataclasses.asdict(self.known.interval), "level": self.known.level,
            "p_value": self.known.p_value, "covers": self.known.covers, "different": self.different,
            "bootstrap": None if self.bootstrap is None else dataclasses.asdict(self.bootstrap), "settle": self.settle,
            "n_seeds_to_settle": plan.n_seeds, "n_pictures_to_settle": plan.n_pictures, "lost": self.lost, "text": self.text,
        }  # fmt: skip
