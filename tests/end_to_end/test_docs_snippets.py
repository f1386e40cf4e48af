"""Every Python snippet of README and docs runs as it stands there, page by page, on small pictures.

What a snippet takes for granted (pictures in ``photos``, a model, a loader's data set) is there. Settings of a training are
checked as they are written, and then a small network is trained instead. Of the optimizers' page ``test_optim_page`` takes care.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import descend
from descend.augment import Rotate
from descend.data.corrections import read_corrections
from descend.optim import Optimizer
from descend.train.recipe import from_settings, read

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SMALL: dict[str, Any] = {
    "transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 16, "epochs": 1, "batch_size": 8, "augment": [],
}  # fmt: skip
LEFT_OUT = {*SMALL, "budget"}  # of what a snippet asks for: checked, not trained
PAGES = {
    path.relative_to(ROOT).as_posix(): BLOCK.findall(path.read_text(encoding="utf-8"))
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if path.name != "optimizers.md"
}


def _small(call: Callable[..., Any], own: set[str]) -> Callable[..., Any]:
    """Return ``call`` for a small network. own: arguments that are no settings of a training."""
    made: dict[str, Any] = {}

    def small(data: Any, **given: Any) -> Any:
        settings = {name: value for name, value in given.items() if name not in own}
        from_settings(settings)  # raises what is wrong with them
        kept = {name: value for name, value in given.items() if name not in LEFT_OUT}
        place = data if Path(data).exists() else "photos"
        key = repr((place, kept))
        if key not in made:
            made[key] = call(place, **SMALL, **kept)
        return made[key]

    return small


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names that snippets take for granted, in a folder that holds ``photos`` and some new pictures."""
    monkeypatch.chdir(tmp_path)
    shapes_folder(tmp_path / "photos", n=6, side=40)
    for name in ("new", "new1", "new2"):
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(f"{name}.jpg")
    monkeypatch.setattr(descend, "fit", _small(partial(descend.fit, report=False), {"on_epoch", "tracker"}), raising=False)
    monkeypatch.setattr(
        descend, "MLflow", lambda experiment: descend.TensorBoard(Path("tb") / experiment), raising=False
    )  # an extra
    monkeypatch.setattr(descend, "diagnose", _small(descend.diagnose, {"out"}), raising=False)
    monkeypatch.setattr(descend, "scan", partial(descend.scan, deep=False), raising=False)
    classifier = descend.ImageClassifier
    small = {"epochs": 1, "backbone": SMALL["backbone"]}
    monkeypatch.setattr(descend, "ImageClassifier", lambda **given: classifier(**given | small), raising=False)
    X, y = sklearn.datasets.load_digits(return_X_y=True)
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda **_: (X[:60], y[:60] % 2))
    images = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), np.uint8)
    labels = torch.arange(4)
    given = {
        "descend": descend, "Rotate": Rotate, "nn": nn, "F": functional, "DataLoader": _loader, "images": images,
        "labels": labels, "ids": np.arange(4), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "epoch": 0, "step": 0,
        "sample_ids": np.arange(3), "x": torch.randn(3, 784), "y": torch.tensor([0, 1, 2]), "n_steps": 5,
        "dataset": TensorDataset(torch.from_numpy(images).permute(0, 3, 1, 2), labels), "test": ["new1.jpg", "new2.jpg"],
        "model": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), "wandb": SimpleNamespace(log=dict),
    }  # fmt: skip
    return given | {"optimizer": Optimizer(given["model"].parameters(), "sgd")}


def _loader(data: Any, *, batch_size: int, num_workers: int, shuffle: bool, persistent_workers: bool) -> Any:
    """Return a loader that needs no processes of its own."""
    assert num_workers
    assert persistent_workers
    return DataLoader(data, batch_size=batch_size, shuffle=shuffle)


@pytest.mark.parametrize("page", [page for page, blocks in PAGES.items() if blocks])
def test_every_snippet_of_the_page_runs(page: str, scope: dict[str, Any]) -> None:
    if page.endswith("judge.md"):
        scope["labels"] = np.array(["disc", "square"])
    for block in PAGES[page]:
        exec(compile(block, page, "exec"), scope)


def blocks_of(language: str) -> list[str]:
    """Return the code blocks of a language on all pages."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [block for page in pages for block in re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)]


@pytest.mark.parametrize("block", blocks_of("toml"))
def test_every_recipe_of_the_pages_is_one(block: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(block, encoding="utf-8")
    assert dataclasses.asdict(read(tmp_path / "recipe.toml")).items() >= {"data": "photos/"}.items()


@pytest.mark.parametrize("block", blocks_of("csv"))
def test_every_table_of_the_pages_is_one_of_corrections(block: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(block, encoding="utf-8")
    assert len(read_corrections(tmp_path / "table.csv")) == len(block.splitlines()) - 1


def test_a_setting_that_there_is_not_would_be_found(scope: dict[str, Any]) -> None:
    with pytest.raises(descend.KnobError):
        scope["descend"].fit("photos", sise=3)
    with pytest.raises(descend.DescendError):
        scope["descend"].fit("photos", regularize=["dropuot()"])
