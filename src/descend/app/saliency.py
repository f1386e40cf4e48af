"""Where a network looked: Grad-CAM on the last stage that keeps places, computed by captum.

The map is ``ReLU(sum_c w_c A_c)`` with ``w_c`` the mean gradient of the class's logit over the places of channel ``A_c``. Of an
ensemble, the member that weighs most among those with such a stage is asked, because each has a map of its own.
Source: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV,
equations 1 and 2.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from descend.errors import MissingExtra, ModelError
from descend.models import Classifier, Ensemble, Member
from descend.train.run import Run

SHOWN = 384  # pixels of what is shown, picture and map


@dataclass(frozen=True)
class Saliency:
    """Where a network looked for one class.

    heat: (S, S) float32 in 0..1, what the class's logit owes to each place of what the network saw. asked: which network and
    stage.
    """

    heat: NDArray[np.float32]
    asked: str

    def describe(self) -> dict[str, Any]:
        """Return it for a page: a PNG in base64 whose opacity is the heat, a mask for what the network saw, and a sentence."""
        opacity = Image.fromarray((255 * self.heat).astype(np.uint8)).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
        mask = Image.new("LA", (SHOWN, SHOWN))
        mask.putalpha(opacity)
        buffer = io.BytesIO()
        mask.save(buffer, "PNG")
        return {"heat": base64.b64encode(buffer.getvalue()).decode(), "asked": self.asked}


def saliency(run: Run, picture: bytes, label: int) -> Saliency:
    """Return where the network of a run looks for a class.

    picture: an encoded one. label: the class's place in ``run.classes``. Raises ModelError, in words, where the network keeps no
    places or the class owes nothing to any, MissingExtra without captum, PictureError.
    """
    if importlib.util.find_spec("captum") is None:
        raise MissingExtra("Grad-CAM", "captum must be installed", fix="Install it with: pip install 'descend[app]'")
    network, share = _asked(run.classifier, run.record.preparation()["size"])
    stage = last_map(network, run.record.preparation()["size"])
    if stage is None:
        raise ModelError(network.name, "keeps no map of places (its stages give vectors or tokens), so Grad-CAM cannot say "
                         "where it looked")  # fmt: skip
    from captum.attr import LayerAttribution, LayerGradCam

    x = run.transform(picture)[None].requires_grad_()
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum's about the gradients that it asks for itself
        cam = LayerGradCam(network, network.backbone.stages.get_submodule(stage))
        try:
            found = cam.attribute(x, target=label, relu_attributions=True)
        except RuntimeError as error:  # a network from anywhere may do what autograd forbids, such as changing a map in place
            why = str(error).partition("\n")[0]
            raise ModelError(network.name, f"cannot be differentiated at its stage {stage} ({why})") from error
    assert isinstance(found, Tensor)  # a stage gives one map
    heat = LayerAttribution.interpolate(found.detach(), tuple(x.shape[2:]), "bilinear")[0, 0].numpy()
    if not np.isfinite(heat).all() or heat.max() <= 0:
        raise ModelError(network.name, f"finds nothing in this picture that speaks for {run.classes[label]!r}")
    side = found.shape[-1]
    name = network.name.partition("(")[0]
    return Saliency(heat / heat.max(), f"Grad-CAM on stage {stage} of {name} ({side} x {found.shape[-2]} places){share}")


def last_map(network: Classifier, size: int) -> str | None:
    """Return the last stage of a backbone whose output keeps places, more than one of them; None where there is none."""
    found = None
    with torch.inference_mode():
        x = torch.zeros(1, 3, size, size)
        x = x if network.backbone.view is None else torch.zeros(1, 3, *[network.backbone.view.shape[0]] * 2)
        for name, stage in network.backbone.stages.named_children():
            x = stage(x)
            if x.ndim == 4 and min(x.shape[2:]) > 1:
                found = name
    return found


def _asked(network: Classifier | Ensemble, size: int) -> tuple[Classifier, str]:
    """Return the network to ask: itself, or the heaviest member with a map, and its share of the answer in words."""
    if not isinstance(network, Ensemble):
        return network, ""
    ranked = sorted(range(len(network.weights)), key=lambda k: -network.weights[k])
    members = [member for k in ranked if isinstance(member := network.members[k], Member)]
    chosen = next((at for at, member in enumerate(members) if last_map(member.classifier, size) is not None), 0)
    if len(members) == 1:
        return members[0].classifier, ""
    weight = network.weights[ranked[chosen]]
    return members[chosen].classifier, f", which has {weight:.0%} of the answer of {len(members)} networks"
