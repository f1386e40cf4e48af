"""Every registered optimizer, stage of gradients, schedule, augmentation and regularizer: a killed run goes on to the same bits.

All but a few are slow together; ``test_techniques_in_runs`` asks the same of those that reach into the loop in every test run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contracts.test_techniques import example
from tests.end_to_end.test_resume_exact import KillAt, Killed  # pyright: ignore[reportMissingImports]

import descend
from descend.progress import Silent
from descend.technique import Technique, registered, spec
from descend.train import folder, state_file
from descend.train.run import Run

LABELS = (np.arange(36) % 3 == 0).astype(np.int64)  # skewed, or class weights would have no effect
NOISE = np.random.default_rng(0).integers(0, 60, (36, 16, 16, 3))
ARRAYS = (NOISE + 150 * LABELS[:, None, None, None]).astype(np.uint8), LABELS
TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "resnet9(width=4)", "size": 16, "epochs": 3, "batch_size": 8,
                        "augment": [], "threads": 1, "checkpoint_every": "1"}  # fmt: skip
SETTINGS = {"optimizer": "optimizer", "schedule": "schedule", "gradient": "gradients", "augmentation": "augment",
            "regularizer": "regularize"}  # fmt: skip
EPOCHS = {"watch": 10}  # fewer looks than it needs fit into three
ALL = [cls for cls in registered() if cls.family in SETTINGS]
TIMES = ("wall_s", "seconds", "images_per_s")  # of metrics: what no two runs share
QUICK = {"accumulate", "schedule_free_adamw", "watch", "mixup", "l2"}  # one a family


def metrics(run: Run) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics, less what no two runs share."""
    rows = folder.read_lines(run.folder / folder.METRICS)
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def test_the_quick_ones_are_registered() -> None:
    assert {cls.name for cls in ALL} >= QUICK
    assert {cls.family for cls in ALL if cls.name in QUICK} == set(SETTINGS)


@pytest.mark.parametrize(
    "cls", [pytest.param(cls, id=f"{cls.family}-{cls.name}", marks=[] if cls.name in QUICK else pytest.mark.slow) for cls in ALL]
)
def test_a_killed_run_goes_on_to_the_same_bits(cls: type[Technique], tmp_path: Path) -> None:
    text = spec(example(cls))
    name = SETTINGS[cls.family]
    epochs = EPOCHS.get(cls.name, TINY["epochs"])
    settings = TINY | {"epochs": epochs, name: text if name in ("optimizer", "schedule") else [text]}
    whole = descend.fit(ARRAYS, out=tmp_path / "whole", progress=Silent(), **settings)
    with pytest.raises(Killed):
        descend.fit(ARRAYS, out=tmp_path / "killed", progress=KillAt(5), **settings)
    position = state_file.read(tmp_path / "killed" / folder.CHECKPOINT)["position"]
    assert (position["epoch"], position["step"]) == (1, 1)  # within the second epoch
    resumed = descend.resume(tmp_path / "killed", data=ARRAYS)
    assert (whole.record.status, resumed.record.status) == ("finished", "finished")
    for file in (folder.MODEL, folder.PREDICTIONS):
        assert (resumed.folder / file).read_bytes() == (whole.folder / file).read_bytes()
    assert metrics(resumed) == metrics(whole)
