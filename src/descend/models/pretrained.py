"""Everything timm knows: any of its models as a backbone, with its pretrained weights or with random ones."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from descend import rng
from descend.errors import ModelError
from descend.models import hub
from descend.models.architecture import Architecture
from descend.models.layouts import stages_of
from descend.models.stages import Backbone, Conversion
from descend.technique import literal, spec, technique


@technique("timm", source="Wightman, PyTorch Image Models, doi:10.5281/zenodo.4414861")
class Timm(Architecture):
    """Any backbone of timm by its name: ``timm(model="resnet18")``, or just ``resnet18`` where a backbone is due.

        features = f(x)        f: the model as timm has it, without its classifier

    Its pretrained weights are fetched by timm into timm's own cache; without a network that is an error. Stages are
    known for the usual families; any other model is one stage named ``all``, to be frozen whole or not at all. A vision
    transformer reads one size only: ``img_size`` builds it for another than its own, the positions of its weights, of the
    hub or of a file, interpolated as timm does.
    """

    model: str = "resnet18"
    img_size: Annotated[int, Ge(32)] | None = None
    pretrained: bool = True

    def build(self, seed: int) -> Backbone:
        """Return the backbone; ``seed`` matters only without the pretrained weights. Raises ModelError."""
        model = create(self.model, seed, pretrained=self.pretrained, img_size=self.img_size)
        model.reset_classifier(0)
        net = staged(str(self), model, pretrained=self.pretrained, size=self.img_size)
        net.conversion = partial(conversion, self.model, self.img_size)
        net.at_size = self._at_size if net.fixed_size else None
        return net

    def _at_size(self, size: int) -> str:
        return str(replace(self, img_size=size, pretrained=True))

    def __str__(self) -> str:
        """Return the spec text; the model's name always stands in it, for without it nobody knows what is meant."""
        others = spec(replace(self, model=type(self).model)).removeprefix("timm(")
        return f"timm(model={literal(self.model)}{', ' * (others != ')')}{others}"

    @property
    def native_size(self) -> int | None:
        """The size that it is built for, or that timm notes for its weights; None for a name that timm does not know."""
        from descend.models.timm_package import timm

        config = timm.get_pretrained_cfg(self.model)
        return self.img_size or (None if config is None else config.input_size[-1])

    @property
    def fixed_size(self) -> bool:
        """Whether timm notes that the model reads that size only."""
        from descend.models.timm_package import timm

        config = timm.get_pretrained_cfg(self.model)
        return config is not None and bool(config.fixed_input_size)


def create(name: str, seed: int, *, pretrained: bool = False, img_size: int | None = None) -> Any:
    """Make a timm model with 1,000 classes; random weights are drawn from ``seed`` without touching torch's state."""
    from descend.models.timm_package import timm

    if not timm.is_model(name):
        raise ModelError("timm", "model must be a name timm knows", got=name, fix="See timm.list_models().")
    knobs: dict[str, Any] = {} if img_size is None else {"img_size": img_size}
    with rng.torch_drawn(seed, f"init/{name}"):
        if pretrained:
            return _fetched(name, knobs)
        try:
            return timm.create_model(name, pretrained=False, **knobs)
        except TypeError:
            if img_size is None:
                raise
            raise ModelError(
                name, "reads pictures of any size: img_size must be left out", got=img_size, fix="Use --size."
            ) from None


def conversion(name: str, img_size: int | None) -> Conversion:
    """Return timm's conversion of a file's tensors for one of its models, as it converts those of its hub."""
    model = create(name, 0, img_size=img_size)
    model.reset_classifier(0)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)

    def converted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        try:
            with warnings.catch_warnings(action="ignore"):  # of what timm asks of torch
                named = {} if convert is None else convert(dict(tensors), model)
        except Exception:  # of any kind: it looks up and reshapes what it expects, and is asked about dictionaries of all sorts
            return {}
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}

    return converted


def _fetched(name: str, knobs: dict[str, Any]) -> nn.Module:
    """Let timm fetch weights; whatever goes wrong underneath (hub, network, disk) becomes the one error that helps."""
    from descend.models.timm_package import timm

    fix = (f"Use --backbone lite0, whose weights come with pip, or random weights: --transfer scratch --backbone {name} "
           f'("timm(model=\'{name}\', pretrained=False)" in Python).')  # fmt: skip
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise ModelError(name, "timm must have pretrained weights for it", fix=fix)
    try:
        with hub.offline_where_possible(name):
            return timm.create_model(name, pretrained=True, **knobs)
    except Exception as error:
        raise ModelError(name, f"its pretrained weights must be in timm's cache or within reach ({type(error).__name__})",
                         fix=fix) from error  # fmt: skip


def staged(name: str, model: Any, *, pretrained: bool, size: int | None = None) -> Backbone:
    """Return a timm model without its classifier as a backbone, cut into its stages. size: that it was built for, pixels."""
    config = model.pretrained_cfg
    side: int = size or config["input_size"][-1]
    stages = stages_of(model, side)
    with torch.inference_mode():
        n_features = nn.Sequential(*stages.values()).eval()(torch.zeros(1, 3, side, side)).shape[1]
    # above 1 timm frames the picture in black, which no crop does
    crop_fraction = min(float(config.get("crop_pct") or 0.875), 1.0)
    net = Backbone(name, stages, n_features=n_features, native_size=side, mean=tuple(config["mean"]),
                   std=tuple(config["std"]), crop_fraction=crop_fraction, min_size=32,
                   fixed_size=bool(config.get("fixed_input_size")), pretrained=pretrained)  # fmt: skip
    theirs = {id(value): own for own, value in model.state_dict(keep_vars=True).items()}
    ours = net.state_dict(keep_vars=True)
    net.timm_names = {own: theirs[id(value)] for own, value in ours.items() if id(value) in theirs}
    return net.train()
