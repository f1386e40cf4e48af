"""A trained classifier as the timm model that it was built from: for whoever loads its weights without descend."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from descend.errors import ModelError
from descend.models.architecture import Architecture
from descend.models.lite import Lite
from descend.models.pretrained import Timm
from descend.models.stages import Classifier

TOLERANCE = 1e-4  # of the logits on noise: float32 sums in another order


def as_timm(classifier: nn.Module, architecture: Architecture, *, size: int, n_classes: int) -> Any:
    """Return the timm model with the weights of ``classifier`` (K classes), its logits compared on noise of ``size`` pixels.

    Raises ModelError where timm has no such model: an ensemble, a head of several layers or on several stages, layers that a
    regularizer has put in, a network of descend's own.
    """
    from descend.models.timm_package import timm

    name, knobs = _name(architecture)
    if not isinstance(classifier, Classifier) or not isinstance(classifier.head, nn.Linear) or classifier.backbone.taps:
        raise ModelError("timm", "has networks of one backbone with one linear layer on its last stage")
    model: Any = timm.create_model(name, pretrained=False, num_classes=n_classes, **knobs)
    last = model.pretrained_cfg.get("classifier")
    names = classifier.backbone.timm_names
    if not isinstance(last, str) or not names:
        raise ModelError("timm", f"must name the tensors of {name}")
    state = {names.get(own, own): value for own, value in classifier.backbone.state_dict().items()}
    state |= {f"{last}.{own}": value for own, value in classifier.head.state_dict().items()}
    missing = model.state_dict().keys() - state.keys()
    if missing:
        raise ModelError("timm", f"must find every tensor of {name}", got=sorted(missing)[:3])
    model.load_state_dict({own: state[own] for own in model.state_dict()})
    _check(model.eval(), classifier.eval(), size)
    return model


def _name(architecture: Architecture) -> tuple[str, dict[str, Any]]:
    if isinstance(architecture, Lite):
        return f"tf_efficientnet_lite{architecture.level}", {}
    if isinstance(architecture, Timm):
        return architecture.model, {} if architecture.img_size is None else {"img_size": architecture.img_size}
    raise ModelError("timm", "must know the network", got=str(architecture))


def _check(model: nn.Module, classifier: nn.Module, size: int) -> None:
    noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        difference = float((model(noise) - classifier(noise)).abs().max())
    if not difference <= TOLERANCE:
        raise ModelError("timm", f"must answer as the run does, to {TOLERANCE:g} of a logit", got=difference)
