"""Where a network looked for a class, as a mask for the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import from_numpy
from torch.nn.functional import interpolate

from descend.errors import ModelError
from descend.models import Ensemble
from descend.train.grad_cam import LEAST_PLACES, grad_cam
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
    places, autograd refuses it, or the class owes nothing to any place; PictureError.
    """
    network, x = run.classifier, run.transform(picture)[None]
    found = grad_cam(network, x, np.array([label]))
    if found is None:
        raise ModelError(network.name, f"keeps no map of {LEAST_PLACES} x {LEAST_PLACES} places or more (its stages give "
                         "vectors, tokens or coarser maps), so Grad-CAM cannot say where it looked")  # fmt: skip
    heat = interpolate(from_numpy(found.maps)[None], tuple(x.shape[2:]), mode="bilinear")[0, 0].numpy()
    if not np.isfinite(heat).all() or heat.max() <= 0:
        raise ModelError(found.network.name, f"finds nothing in this picture that speaks for {run.classes[label]!r}")
    height, width = found.maps.shape[1:]
    name = found.network.name.partition("(")[0]
    n_networks = len(network.members) if isinstance(network, Ensemble) else 1
    share = "" if n_networks == 1 else f", which has {found.weight:.0%} of the answer of {n_networks} networks"
    return Saliency(heat / heat.max(), f"Grad-CAM on stage {found.stage} of {name} ({width} x {height} places){share}")
