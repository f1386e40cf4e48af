"""The pictures of a run are found again as they were split, and what others are is no error."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]

from descend import data
from descend.errors import KnobError
from descend.train.judge import save_model
from descend.train.own_data import as_in_training, of_training_or_other
from descend.train.record import RunRecord
from descend.train.record_types import GraphPart


def record_of(photos: Path, **plan: Any) -> RunRecord:
    return RunRecord(seed=3, plan=plan, data_fingerprint=data.load(photos, seed=3).fingerprint)


def test_own_pictures_have_the_split_of_the_training_and_others_have_none(tmp_path: Path) -> None:
    photos, others = shapes_folder(tmp_path / "own", n=8, side=16), shapes_folder(tmp_path / "others", n=8, side=16, seed=9)
    record = record_of(photos)
    own = as_in_training(record, photos, corrections=None, outside=False)
    assert own is not None
    assert own.splits.tolist() == data.load(photos, seed=3).splits.tolist()
    assert as_in_training(record, others, corrections=None, outside=False) is None
    found = of_training_or_other(record, others, corrections=None, outside=False)
    assert found.splits.tolist() == data.load(others, seed=3).splits.tolist()
    (tmp_path / "corrections.csv").write_text("path,label,action\n" + f"disc/{next((photos / 'disc').iterdir()).name},,drop\n")
    (others / "disc").rename(others / "dot")  # the table's pictures are not there
    found = of_training_or_other(record, others, corrections=tmp_path / "corrections.csv", outside=False)
    assert len(found) == 24


def test_the_background_that_was_asked_for_is_that_of_near_copies_and_no_error_elsewhere(tmp_path: Path) -> None:
    record = record_of(photos := shapes_folder(tmp_path / "own", n=8, side=16), background="black", fit="crop")
    assert record.split_rule["background"] == "black"
    assert "background" not in record_of(photos, background="auto", fit="pad").split_rule
    assert as_in_training(record, photos, corrections=None, outside=False) is None  # opaque: the run's were not
    with pytest.raises(KnobError, match="outside"):
        as_in_training(record, photos, corrections=None, outside=True)


def test_graphs_of_the_model_before_are_forgotten_before_there_is_another(tmp_path: Path) -> None:
    part = GraphPart(graph="x", head="head", n_columns=2, mirrored=False, weight=1.0)
    record, saved = RunRecord(graph_parts=[part]), list[bool]()
    log: Any = SimpleNamespace(
        record=record, folder=tmp_path,
        save=lambda: saved.append((tmp_path / "model.safetensors").exists() or bool(record.graph_parts)),
    )  # fmt: skip
    save_model(log, torch.nn.Linear(2, 2))
    assert saved == [False]
    assert (tmp_path / "model.safetensors").exists()
