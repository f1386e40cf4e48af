"""What runs of a comparison show beside its verdicts: lines, a picture, and a file of JSON lines in the comparison's folder."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from descend.comparison.result import Comparison, load
from descend.drawing import Drawing, save
from descend.errors import RunError
from descend.plain_data import finite
from descend.train import folder

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Experiment(ABC):
    """Runs that answer one question. comparison: the runs. kind: the word for it; picture: the pictures' name, without ending."""

    kind: ClassVar[str]
    picture: ClassVar[str]

    comparison: Comparison

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.comparison.folder

    @property
    def ended(self) -> str:
        """Why there are no more seeds; empty where all were run."""
        return self.comparison.ended

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it; the same command goes on."""
        return self.comparison.interrupted

    @abstractmethod
    def lines(self) -> list[str]:
        """Return it as lines for a terminal."""

    @abstractmethod
    def figure(self) -> Drawing:
        """Draw it."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what was asked, as plain data that ``opened`` gives back."""

    @abstractmethod
    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield what came of it, as plain data with its ``kind``: the lines of the file after the first."""

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_svg_(self) -> str:
        return self.figure().bytes(".svg").decode()

    def save(self) -> None:
        """Write the JSON lines and the pictures, beside the comparison's own file with all runs."""
        lines = [{"kind": self.kind} | self.facts(), *self.rows()]
        folder.write_text(self.folder / file_of(self.kind), "".join(json.dumps(finite(line)) + "\n" for line in lines))
        drawing = self.figure()
        for ending in (".svg", ".png"):
            save(drawing, self.folder / (self.picture + ending))

    def places(self) -> list[str]:
        """Return where picture and results lie, as lines for a terminal."""
        picture, results = self.folder / f"{self.picture}.png", self.folder / file_of(self.kind)
        return [f"Picture: {picture}", f"Results: {results}"]


def file_of(kind: str) -> str:
    """Return the name of the file of JSON lines."""
    return f"{kind}.jsonl"


def opened(path: Path | str, kind: str) -> tuple[Comparison, dict[str, Any]]:
    """Return the runs and the facts of what lies in a folder. Raises RunError where there is none, or one of another version."""
    path, found = Path(path), load(path)
    try:
        facts = json.loads((path / file_of(kind)).read_text(encoding="utf-8").splitlines()[0])
    except (OSError, ValueError, IndexError) as error:
        raise RunError(f"{kind} {path}", f"must be a folder with {file_of(kind)} ({error})") from None
    if facts["schema"] != SCHEMA:
        raise RunError(f"{kind} {path}", f"must have schema {SCHEMA}", got=facts["schema"], fix="Make it again.")
    return found, facts
