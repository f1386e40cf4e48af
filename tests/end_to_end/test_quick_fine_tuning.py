"""Fine-tuning by the quick form of a network ends where it ends without, and is left out where something random stands in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from descend import api
from descend.train.modes import finetune

SETTINGS: dict[str, Any] = {
    "transfer": "finetune", "epochs": 1, "size": 64, "batch_size": 8, "augment": (), "optimizer": "sgd(lr=0.002)", "threads": 2,
}  # fmt: skip


def weights(shapes: Path, out: Path, **settings: Any) -> dict[str, Tensor]:
    return load_file(api.fit(shapes, out=out, **SETTINGS | settings).folder / "model.safetensors")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes for every training whether its network got a quick form."""
    found: list[bool] = []
    original = finetune.quick_training

    def noted(module: nn.Module, example: Tensor) -> nn.Module:
        quick = original(module, example)
        found.append(quick is not module)
        return quick

    monkeypatch.setattr(finetune, "quick_training", noted)
    return found


@pytest.mark.parametrize("freeze_to", [None, "block2"])
def test_it_ends_where_it_ends_without(
    shapes: Path, tmp_path: Path, made: list[bool], monkeypatch: pytest.MonkeyPatch, freeze_to: str | None
) -> None:
    quick = weights(shapes, tmp_path / "quick", freeze_to=freeze_to)
    assert made == [True]
    monkeypatch.setattr(finetune, "quick_training", lambda module, example: module)
    plain = weights(shapes, tmp_path / "plain", freeze_to=freeze_to)
    assert quick.keys() == plain.keys()
    for name, weight in plain.items():
        torch.testing.assert_close(quick[name], weight, rtol=1e-3, atol=1e-4 * float(weight.abs().max()), msg=name)


def test_a_network_with_something_random_in_it_is_trained_as_it_is(shapes: Path, tmp_path: Path, made: list[bool]) -> None:
    weights(shapes, tmp_path / "run", regularize="dropout(p=0.5)")
    assert made == []
