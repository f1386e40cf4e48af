"""What a search's trained networks answer by themselves, before a temperature or a mixture changes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from descend.search import run as search_run
from descend.search.mixture import nats
from descend.search.study import Answer, Probabilities, Study


@dataclass(frozen=True)
class Alone:
    """A trained network's answers to test pictures: probabilities (n, K), labels (n,)."""

    probabilities: Probabilities
    labels: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which pictures it answers right, (n,)."""
        return self.probabilities.argmax(1) == self.labels

    @property
    def loss(self) -> float:
        """Nats per picture."""
        return nats([self.probabilities], np.ones(1), self.labels) / len(self.labels)


@contextmanager
def trained_alone() -> Iterator[list[Alone]]:
    """Gather what every network that a search trains within the block and judges answers, in their order."""
    found: list[Alone] = []
    fitted_temperature = search_run.fitted_temperature

    def noted(study: Study, answer: Answer) -> float:
        rows = study.rows("test")
        found.append(Alone(study.probabilities(answer, rows), study.dataset.labels[rows]))
        return fitted_temperature(study, answer)

    with patch.object(search_run, "fitted_temperature", noted):
        yield found
