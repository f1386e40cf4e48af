"""Going through what a scan has found: each picture is kept, relabeled or dropped, and the decisions are a table for ``fit``."""

from __future__ import annotations

import io
import shlex
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from descend.app.jobs import Job
from descend.app.places import Places
from descend.data.corrections import ACTIONS, Correction, read_corrections, settled, write_corrections
from descend.data.decode import decode
from descend.data.manifest import natural
from descend.data.sources import read
from descend.errors import DataError, KnobError, nearest
from descend.pixels import USUAL

CHECKS = {
    "labels": "likely wrong label",
    "label conflicts": "one picture, two classes",
    "leakage": "the same picture on both sides of the split",
    "copies": "the same picture twice",
    "outliers": "unlike all others",
}
"""Checks of a scan that are about single pictures or pairs, in the order in which they are gone through."""
LARGEST_VIEW = 640  # pixels


class Review:
    """The pictures of one data set and the decisions about them. table: the file that holds them, rewritten at each decision.

    Raises what reading the data raises, and DataError where the table exists and is none of corrections, or of other data.
    """

    def __init__(self, data: str, table: Path, *, deep: bool, places: Places) -> None:
        self.data, self.table, self.places = data, table, places
        self.manifest = read(data)
        self._rows = {name: row for row, name in enumerate(self.manifest.names)}
        before = settled(self.manifest, read_corrections(table), who=str(table)) if table.exists() else []
        self.decisions = {item.path: item for item in before}
        self._deciding = threading.Lock()
        title = f"scanning {self.manifest.name}"
        self.job = Job("scan", title, {"data": data, "deep": deep})

    def describe(self) -> dict[str, Any]:
        """Return the review as plain data: its cards once the scan has ended, and the decisions."""
        result, shown = self.job.result or {}, self.places.shown
        return {
            "id": self.job.id, "data": shown(self.data), "name": self.manifest.name, "table": shown(self.table),
            "n_pictures": len(self.manifest.names), "classes": list(self.manifest.classes), "deep": result.get("deep"),
            "running": self.job.running, "stopped": result.get("status") == "stopped", "error": self.job.error,
            "cards": [*self._cards(result.get("findings", []))],
            "also": [{"check": item["check"], "what": item["what"], "fix": item["fix"]} for item in result.get("findings", [])
                     if item["severity"] == "finding" and item["check"] not in CHECKS],
            "decisions": self.decided(),
            "command": shlex.join(["descend", "fit", shown(self.data), "--corrections", shown(self.table)]),
        }  # fmt: skip

    def decided(self) -> list[dict[str, str]]:
        """Return the decisions, by picture."""
        return [{"path": item.path, "label": item.label, "action": item.action} for item in self.decisions.values()]

    def decide(self, path: str, action: str, label: str) -> None:
        """Take one decision, or take it back (``undo``), and write the table. Raises KnobError and DataError."""
        if path not in self._rows:
            raise DataError("corrections", "must be of a picture of the data", got=path)
        if action == "undo":
            given = None
        elif action not in ACTIONS:
            raise KnobError("action", f"must be one of {', '.join(ACTIONS)}", got=action, fix=nearest(action, ACTIONS))
        else:
            if action == "relabel" and not label:
                raise DataError("corrections", "must say the label of a picture that is relabeled", got=path)
            given = Correction(path, label if action == "relabel" else "", ACTIONS[action])
            [given] = settled(self.manifest, [given], who="corrections")
        with self._deciding:  # two tabs may decide at once
            after = dict(self.decisions)
            if given is None:
                after.pop(path, None)
            else:
                after[path] = given
            write_corrections(self.table, sorted(after.values(), key=lambda item: natural(item.path)))
            self.decisions = after

    def picture(self, row: int) -> bytes:
        """Return a picture as JPEG, whole. Raises DataError for a row that there is not, PictureError for one unreadable."""
        if not 0 <= row < len(self.manifest.names):
            raise DataError("the app", f"has {len(self.manifest.names)} pictures of these data", got=row)
        name = self.manifest.names[row]
        source = self.manifest.source(row)
        if isinstance(source, Path):
            assert self.manifest.root is not None  # of files
            place = self.manifest.root.resolve()
            unpacked = not place.is_relative_to(self.places.root)  # an archive below the root lies in the cache
            source = (Places(place) if unpacked else self.places).below(str(source))  # a link may lead anywhere
        image = Image.fromarray(np.ascontiguousarray(decode(source, name=name, policy=USUAL)))
        if max(image.size) < LARGEST_VIEW // 4:
            factor = LARGEST_VIEW // 4 // max(image.size) + 1
            image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        image.thumbnail((LARGEST_VIEW, LARGEST_VIEW))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=88)
        return buffer.getvalue()

    def _cards(self, findings: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield what to look at: each likely label error, and each pair once, under the worst that is said of it."""
        tables = {item["check"]: item["table"] for item in findings if item["severity"] != "ok"}
        seen = set[frozenset[str]]()
        for check, title in CHECKS.items():
            for row in tables.get(check, ()):
                names = [row["picture"], *([row["like"]] if "like" in row else [])]
                if frozenset(names) in seen or any(name not in self._rows for name in names):
                    continue
                seen.add(frozenset(names))
                yield self._card(check, title, row)

    def _card(self, check: str, title: str, row: Mapping[str, Any]) -> dict[str, Any]:
        sides = [(row["picture"], row["class"], row["split"])]
        if "like" in row:
            sides.append((row["like"], row["its_class"], row["its_split"]))
        pictures = [{"path": path, "row": self._rows[path], "label": label, "split": split} for path, label, split in sides]
        return {"check": check, "title": title, "pictures": pictures, "rather": row.get("rather"),
                "p": row.get("label_probability"), "by": row.get("by")}  # fmt: skip
