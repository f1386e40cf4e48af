"""Everything timm knows: any of its models as a backbone, with its pretrained weights or with random ones."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from descend import rng
from descend.errors import ModelError
from descend.models.architecture import Architecture
from descend.models.layouts import stages_of
from descend.models.stages import Backbone
from descend.technique import technique


@technique("timm", source="Wightman, PyTorch Image Models, doi:10.5281/zenodo.4414861")
class Timm(Architecture):
    """Any backbone of timm by its name: ``timm(model="resnet18")``, or just ``resnet18`` where a backbone is due.

    Its pretrained weights are fetched by timm into timm's own cache; without a network that is an error. Stages are
    known for the usual families; any other model is one stage named ``all``, to be frozen whole or not at all.
    """

    model: str = "resnet18"
    pretrained: bool = True

    def build(self, seed: int) -> Backbone:
        """Return the backbone; ``seed`` matters only without the pretrained weights. Raises ModelError."""
        model = create(self.model, seed, pretrained=self.pretrained)
        model.reset_classifier(0)
        return staged(str(self), model, pretrained=self.pretrained)

    @property
    def native_size(self) -> int | None:
        """The size that timm notes for the model's weights; None for a name that timm does not know."""
        import timm

        config = timm.get_pretrained_cfg(self.model)
        return None if config is None else config.input_size[-1]

    @property
    def fixed_size(self) -> bool:
        """Whether timm notes that the model reads that size only."""
        import timm

        config = timm.get_pretrained_cfg(self.model)
        return config is not None and bool(config.fixed_input_size)


def create(name: str, seed: int, *, pretrained: bool = False) -> Any:
    """Make a timm model with 1,000 classes; random weights are drawn from ``seed`` without touching torch's state."""
    import timm

    if not timm.is_model(name):
        raise ModelError("timm", "model must be a name timm knows", got=name, fix="See timm.list_models().")
    with rng.torch_drawn(seed, f"init/{name}"):
        return _fetched(name) if pretrained else timm.create_model(name, pretrained=False)


def _fetched(name: str) -> nn.Module:
    """Let timm fetch weights; whatever goes wrong underneath (hub, network, disk) becomes the one error that helps."""
    import timm

    fix = (f"Use --backbone lite0, whose weights come with pip, or random weights: --transfer scratch --backbone {name} "
           f'("timm(model=\'{name}\', pretrained=False)" in Python).')  # fmt: skip
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise ModelError(name, "timm must have pretrained weights for it", fix=fix)
    try:
        with _no_retries_when_offline():
            return timm.create_model(name, pretrained=True)
    except Exception as error:
        raise ModelError(name, f"its pretrained weights must be in timm's cache or within reach ({type(error).__name__})",
                         fix=fix) from error  # fmt: skip


@contextlib.contextmanager
def _no_retries_when_offline() -> Iterator[None]:
    """Let the hub client look into its cache only, when the hub is out of reach: its own retries take 46 s."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _within_reach(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _within_reach(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except urllib.error.HTTPError:  # an answer, if not a friendly one
        return True
    except OSError:
        return False


def staged(name: str, model: Any, *, pretrained: bool) -> Backbone:
    """Return a timm model without its classifier as a backbone, cut into its stages."""
    config = model.pretrained_cfg
    size = config["input_size"][-1]
    stages = stages_of(model, size)
    with torch.inference_mode():
        n_features = nn.Sequential(*stages.values()).eval()(torch.zeros(1, 3, size, size)).shape[1]
    net = Backbone(name, stages, n_features=n_features, native_size=size, mean=tuple(config["mean"]),
                   std=tuple(config["std"]), min_size=32, fixed_size=bool(config.get("fixed_input_size")),
                   pretrained=pretrained)  # fmt: skip
    theirs = {id(value): own for own, value in model.state_dict(keep_vars=True).items()}
    ours = net.state_dict(keep_vars=True)
    net.timm_names = {own: theirs[id(value)] for own, value in ours.items() if id(value) in theirs}
    return net.train()
