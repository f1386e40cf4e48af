"""A hub that is a folder: of weights, empty or with random ones in the client's cache; or of repositories that are pushed to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

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


def folder_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Let the client's calls that push and fetch a repository work on folders OWNER/NAME below ``folder``."""

    def create_repo(_: Any, name: str, *, private: bool | None, exist_ok: bool) -> None:
        (folder / name).mkdir(parents=True, exist_ok=exist_ok)
        if private:
            (folder / name / ".private").touch()

    def upload_folder(_: Any, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        assert commit_message
        shutil.copytree(folder_path, folder / repo_id, dirs_exist_ok=True)

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: str) -> str:
        if not (folder / name).is_dir():
            raise FileNotFoundError(f"404: no repository {name}")
        assert revision in (None, "v1")
        copy, part = folder / "cache" / name, allow_patterns.removesuffix("/*")
        if (folder / name / part).is_dir():
            shutil.copytree(folder / name / part, copy / part, dirs_exist_ok=True)
        return str(copy)

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create_repo)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return folder
