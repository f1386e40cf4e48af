"""How often checkpoints are written: work that is lost is bounded, and so is what saving it costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from descend.errors import KnobError
from descend.quantities import TIMES, seconds
from descend.train.memory_need import state_bytes

EVERY_S = 30.0  # writing costs little, repeating an hour costs an hour
FIRST_S = 2.0
MOST_SHARE = 0.02  # of the time: where writing is slow, checkpoints are rarer
BYTES_PER_S = 1e8  # written, flushed and hashed, until it is measured: a slow disk
COPIES = 4  # of the weights in a checkpoint: the module, two slots of the optimizer, the best epoch


class Cadence:
    """Says after every step whether a checkpoint is due.

    every: ``"200"`` (steps) or ``"30s"``. None: every 30 seconds, the first after 2, or as rarely as keeps the cost below 2% of
    the time. module: what is saved; the size of its weights tells the cost of the first.
    """

    def __init__(self, every: str | None, module: nn.Module) -> None:
        self._n_steps, self._every_s = _read(every)
        self._cost_s = COPIES * state_bytes(module) / BYTES_PER_S
        self._least_s = FIRST_S
        self._steps, self._last = 0, time.perf_counter()

    def due(self) -> bool:
        """Return whether a checkpoint is due; to be asked once after each step."""
        self._steps += 1
        if self._n_steps is not None:
            return self._steps >= self._n_steps
        after_s = interval_s(self._cost_s, self._least_s) if self._every_s is None else self._every_s
        return time.perf_counter() - self._last > after_s

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Measure what a checkpoint costs, and count from its end."""
        began = time.perf_counter()
        yield
        self._steps, self._last, self._least_s = 0, time.perf_counter(), EVERY_S
        self._cost_s = self._last - began


def interval_s(cost_s: float, least_s: float = EVERY_S) -> float:
    """Return the seconds between two checkpoints that take ``cost_s`` each, where nobody asked for a cadence."""
    return max(least_s, cost_s / MOST_SHARE)


def check(every: str | None) -> None:
    """Raise KnobError unless the text is a number of steps or a time."""
    _read(every)


def _read(every: str | None) -> tuple[int | None, float | None]:
    """Return the steps or the seconds between two checkpoints; neither where nobody asked."""
    if every is None:
        return None, None
    text = every.strip()
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text), None
    try:
        return None, seconds(text, who="checkpoint_every")
    except KnobError:
        raise KnobError("checkpoint_every", f"must be a number of steps, or a time in {', '.join(TIMES)}", got=every,
                        fix="Write 200, 30s or 5m, for example.") from None  # fmt: skip
