"""Reduce on plateau: the rule that torch knows, as a pure function of progress and of the history that ``History`` carries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

from annotated_types import Ge, Lt

from descend.schedule.history import Decision, History, Monitor
from descend.schedule.shapes import Drop, Floor, Schedule
from descend.technique import Search, technique


@technique(
    "plateau", source="He et al. 2016, arXiv:1512.03385, section 3.4; the rule: torch.optim.lr_scheduler.ReduceLROnPlateau"
)
class Plateau(Schedule):
    """Multiply the rate by ``gamma`` whenever ``monitor`` has not improved for more than ``patience`` epochs.

        factor <- max(gamma * factor, floor)        where no loss of the last patience + 1 epochs is < best - threshold * |best|

    Prefer ``watch()``: this has no notion of noise, and what is dropped too early never comes back. To improve is to pass the
    best value so far by ``threshold``, relative to it; a value that is not finite never does. patience, cooldown: epochs; during
    the cooldown after a drop none is counted as bad. floor: the factor below which nothing falls. Starts after the first epoch;
    costs nothing.
    """

    monitor: Monitor = "val_loss"
    gamma: Drop = 0.1
    patience: Annotated[int, Ge(0), Search(1, 10)] = 3
    threshold: Annotated[float, Ge(0), Lt(1), Search(0.001, 0.1, log=True)] = 1e-4
    cooldown: Annotated[int, Ge(0), Search(1, 5)] = 0
    floor: Floor = 0.0

    def needs_history(self) -> bool:
        """Return True."""
        return True

    def factor_at(self, progress: float, history: History | None) -> float:  # noqa: ARG002 (only whole epochs count)
        """Return the factor after the drops so far."""
        return min((factor for *_, factor in self._drops(self.required(history))), default=1.0)

    def decisions(self, history: History) -> list[Decision]:
        """Return one decision per drop."""
        first, verb = history.epochs.start, "risen above" if self.monitor == "val_metric" else "fallen below"
        behind = f"by {self.threshold:.2%} in the last {self.patience + 1} epochs that count"
        return [
            Decision(
                epoch=first + number,
                what=f"rate drops to {factor:g} of where it began",
                why=f"{self.monitor} has not {verb} {best:.4g} {behind}",
            )
            for number, best, factor in self._drops(history)
        ]

    def _drops(self, history: History) -> Iterator[tuple[int, float, float]]:
        """Yield (epochs finished, best value so far, new factor) of every drop, in torch's order of events."""
        sign = -1.0 if self.monitor == "val_metric" else 1.0  # lower is better from here on
        best, factor, n_bad, n_cooling = sign * math.inf, 1.0, 0, 0
        for number, value in enumerate(history.monitored(self.monitor, self.name), 1):
            if math.isfinite(value) and (math.isinf(best) or sign * value < sign * best - self.threshold * abs(best)):
                best, n_bad = value, 0
            else:
                n_bad += 1
            if n_cooling:
                n_cooling, n_bad = n_cooling - 1, 0
            if n_bad > self.patience:
                n_bad, n_cooling = 0, self.cooldown
                if factor > self.floor:
                    factor = max(factor * self.gamma, self.floor)
                    yield number, best, factor
