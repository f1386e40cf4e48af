"""A hub of weights that is a folder: empty, or with random weights where the hub client would have put them."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file


def empty_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Let the hub's cache be an empty folder, and asking the network an error; return the folder."""

    def unreachable(address: str) -> bool:
        raise AssertionError(f"the network must not be asked: {address}")

    monkeypatch.setattr("descend.models.hub.answers", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    return folder / "hub"


def put_into_cache(cache: Path, model: str, file: str = "model.safetensors") -> torch.nn.Module:
    """Write random weights where the hub client would have put those of ``model``."""
    repository = timm.get_pretrained_cfg(model).hf_hub_id
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123", encoding="utf-8")
    (folder / "snapshots" / "abc123").mkdir(parents=True)
    torch.manual_seed(3)
    net = timm.create_model(model, pretrained=False)
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    path = folder / "snapshots" / "abc123" / file
    save_file(state, path) if file.endswith("safetensors") else torch.save(state, path)
    return net
