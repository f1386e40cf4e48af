"""What people bring to ``fit`` and ``predict``, as a type checker sees it: read by basedpyright, never run."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from PIL import Image
from torch.utils.data import Subset
from torchvision.datasets import CIFAR10, ImageFolder

import descend


def fitted(
    pictures: list[Image.Image], arrays: np.ndarray, labels: list[str], table: pd.DataFrame, hub: Dataset, parts: DatasetDict
) -> list[descend.Run]:
    """Train on each kind of data that docs/how-to/python.md lists."""
    folder, cifar = ImageFolder("photos"), CIFAR10("cifar")
    return [
        descend.fit("photos"),
        descend.fit(Path("photos.csv")),
        descend.fit(table),
        descend.fit((arrays, labels)),
        descend.fit((pictures, labels)),
        descend.fit([*zip(pictures, labels, strict=True)]),
        descend.fit({"train": (arrays, labels), "val": (arrays, labels)}),
        descend.fit({"path": ["a.jpg"], "label": ["ant"]}),
        descend.fit(folder),
        descend.fit(cifar),
        descend.fit(Subset(cifar, [0, 1])),
        descend.fit(hub),
        descend.fit(parts),
    ]


def answered(
    run: descend.Run, picture: Image.Image, pixels: np.ndarray, batch: torch.Tensor, hub: Dataset
) -> list[descend.Predictions]:
    """Ask about each kind of picture."""
    return [run.predict(one) for one in ("new", Path("new"), picture, pixels, batch, hub, [picture], ["a.jpg", "b.jpg"], b"")]
