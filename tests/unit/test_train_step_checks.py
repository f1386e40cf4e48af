"""Batches of one and averages that never begin are refused in words, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import descend
from descend.errors import KnobError

LABELS, N_TRAIN = np.array([0, 1] * 22), 30
IMAGES = np.random.default_rng(0).integers(0, 255, (44, 16, 16, 3), dtype=np.uint8)
TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "epochs": 2, "augment": [], "report": False}


def fit(out: Path, **settings: Any) -> Any:
    return descend.fit((IMAGES, LABELS), out=out, **TINY | settings)


def test_a_batch_of_one_is_refused_where_batch_norms_train(tmp_path: Path) -> None:
    with pytest.raises(KnobError, match=r"^batch_size: must be 2 or more where batch norms train.*got 1.*Raise --batch-size\.$"):
        fit(tmp_path / "run", batch_size=1)
    assert not (tmp_path / "run").exists()
    tuned = {"transfer": "finetune", "backbone": "lite0", "size": 32, "engine": "torch", "batch_size": 1}
    with pytest.raises(KnobError, match=r"Raise --batch-size, or --norm eval"):
        fit(tmp_path / "run", **tuned, norm="train")


def test_a_batch_of_one_is_taken_where_none_trains(tmp_path: Path) -> None:
    head = {"transfer": "features", "backbone": "lite0", "head": "linear()", "size": 32, "engine": "torch"}
    assert fit(tmp_path / "run", **head, batch_size=1).record.status == "finished"


def test_a_last_picture_alone_joins_the_batch_before(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", batch_size=N_TRAIN - 1)
    assert run.record.data["splits"]["train"] == N_TRAIN
    assert run.record.status == "finished"


@pytest.mark.parametrize(("gradients", "n_steps"), [([], 8), (["accumulate(n=3)"], 4), (["accumulate(n=500)"], 2)])
def test_an_average_that_begins_after_the_last_step_is_refused(tmp_path: Path, gradients: list[str], n_steps: int) -> None:
    """Four batches in each of two epochs; the end of an epoch closes a window."""
    settings = {"batch_size": 8, "gradients": gradients}
    with pytest.raises(KnobError, match=f"average of swa within the run's {n_steps} steps.*got 'begin={n_steps + 1}"):
        fit(tmp_path / "run", optimizer=f"swa(adamw(lr=0.01), begin={n_steps + 1})", **settings)
    averaged = fit(tmp_path / "last", optimizer=f"swa(adamw(lr=0.01), begin={n_steps})", **settings)
    assert averaged.record.status == "finished"
