"""The run record: what happened, in one JSON file, so that a report or a comparison needs nothing else.

``record.json`` grows while the run goes on (status ``running``), so an interrupted run still says what it was doing.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from descend.errors import RunError
from descend.train import folder

SCHEMA = 1
PACKAGES = ("descend", "torch", "torchvision", "timm", "numpy", "pillow", "onnxruntime", "openvino", "scikit-learn")


@dataclass
class RunRecord:
    """Everything that is known of a run. Splits that were not looked at are None."""

    status: str = "running"  # running | interrupted | finished
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    command: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)  # the data summary
    data_fingerprint: str = ""
    classes: list[str] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)  # transfer, backbone, size, engine, epoch
    preprocessing: dict[str, Any] = field(default_factory=dict)  # resolution, size, mean, std
    parameter_groups: list[dict[str, Any]] = field(default_factory=list)
    frozen: dict[str, Any] = field(default_factory=dict)  # fingerprints before and after
    decisions: list[dict[str, Any]] = field(default_factory=list)  # of a schedule that listens: epoch, what, why
    sparsity: dict[str, float] = field(default_factory=dict)  # share of exact zeros, where a penalty makes them
    val: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    test_looks: list[dict[str, str]] = field(default_factory=list)
    per_class: dict[str, Any] = field(default_factory=dict)
    confusion: dict[str, Any] = field(default_factory=dict)
    mistakes: list[dict[str, Any]] = field(default_factory=list)
    estimate_s: float | None = None
    wall_s: dict[str, float] = field(default_factory=dict)
    images_per_s: float | None = None
    rate_of: str = ""  # what ``images_per_s`` counts: features or training
    seed: int = 0
    versions: dict[str, str] = field(default_factory=lambda: dict(versions()))
    machine: dict[str, Any] = field(default_factory=lambda: dict(machine()))
    schema: int = SCHEMA

    def save(self, run: Path) -> None:
        """Write the record into the run folder, atomically."""
        folder.write_json(run / folder.RECORD, dataclasses.asdict(self))

    def look_at_test(self, what: str) -> None:
        """Note one look at the test split: every look spends a little of its innocence."""
        self.test_looks.append({"when": datetime.now(UTC).isoformat(timespec="seconds"), "what": what})

    def add_wall(self, stage: str, seconds: float) -> None:
        """Add time to a stage; a resumed run adds up."""
        self.wall_s[stage] = round(self.wall_s.get(stage, 0.0) + seconds, 3)


def load(run: Path) -> RunRecord:
    """Read the record of a run folder. Raises RunError for a folder that holds none, or one of another version."""
    values = folder.read_json(run / folder.RECORD)
    known = {item.name for item in dataclasses.fields(RunRecord)}
    if not isinstance(values, dict) or values.get("schema") != SCHEMA or not set(values) <= known:
        found = values.get("schema") if isinstance(values, dict) else values
        raise RunError(f"run {run}", f"must have a record of schema {SCHEMA}", got=found, fix="It was made by another descend.")
    return RunRecord(**values)


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def machine() -> dict[str, Any]:
    """Return what kind of machine this is; nothing that names it or its user."""
    return {"system": platform.system(), "processor": _processor(), "n_cpus": os.cpu_count(), "python": sys.implementation.name}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
