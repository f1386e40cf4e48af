"""Pictures for a ``DataLoader``, through torchvision's transforms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protocol import opened
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

MEAN = STD = (0.5, 0.5, 0.5)  # what Lite0's weights were trained with
CROP = 0.875
BATCH, N_WORKERS = 32, 2


class Pictures(Dataset[tuple[Tensor, int]]):
    """Normalized float images (3, side, side) with their labels: random crops and mirrors to train on, else the center."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], side: int, *, augment: bool) -> None:
        self.paths, self.labels, self.side = paths, labels, side
        bicubic = transforms.InterpolationMode.BICUBIC
        random = [transforms.RandomResizedCrop(side, scale=(0.35, 1.0)), transforms.RandomHorizontalFlip()]
        centre = [transforms.Resize(round(side / CROP), bicubic), transforms.CenterCrop(side)]
        last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        self.transform = transforms.Compose([*(random if augment else centre), *last])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(opened(self.paths[row], self.side)), self.labels[row]


def in_order(pictures: Pictures) -> DataLoader[tuple[Tensor, int]]:
    """Return batches of all pictures in their order."""
    return DataLoader(pictures, BATCH, num_workers=N_WORKERS)


def shuffled(pictures: Pictures) -> DataLoader[tuple[Tensor, int]]:
    """Return whole batches in a new order every epoch, from workers that stay."""
    batch = min(BATCH, len(pictures))
    return DataLoader(pictures, batch, shuffle=True, drop_last=True, num_workers=N_WORKERS, persistent_workers=True)
