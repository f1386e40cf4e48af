"""Where a network looked: what of a picture spoke for its answer, by Grad-CAM on the last stage that keeps places.

The map is ``ReLU(sum_c w_c A_c)``, with ``w_c`` the mean gradient of the answer's logit over the places of channel ``A_c``; for a
linear head on that stage's pooled output it is the class-activation map. Of an ensemble the member that weighs most is asked.
Gradients reach back to that stage only, so a map costs what an answer costs.

Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2; Zhou et al. 2016, arXiv:1512.04150 (class-activation maps).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from descend.models import Classifier, Ensemble, Member
from descend.train.inference import as_trained
from descend.train.record import RunRecord

LEAST_PLACES = 4  # a side of the map: a coarser one says nothing of where
CHUNK = 4  # pictures at once
FADED = 0.35  # of a picture's contrast that is left, without its colors, where nothing spoke for the answer
MIDDLE = 128  # the level to which it fades: neither a dark picture nor a bright one looks so


def spotlights(
    network: Classifier | Ensemble, record: RunRecord, images: NDArray[np.uint8], answers: NDArray[np.int64]
) -> list[NDArray[np.uint8] | None]:
    """Return what the network sees of each picture, faded where nothing spoke for its answer: (S, S, 3) uint8.

    images: (n, R, R, 3) uint8, stored as in training. answers: (n,) int64. None for a picture in which no place speaks for the
    answer, for all of a network whose stages keep no places (of vectors, or of tokens), and for one that autograd refuses.
    """
    plain = as_trained(record, out="float")
    size = record.preparation()["size"]
    inset = (images.shape[1] - size) // 2
    seen = images[:, inset : inset + size, inset : inset + size]
    found: list[NDArray[np.uint8] | None] = []
    for at in range(0, len(images), CHUNK):
        part = images[at : at + CHUNK]
        try:
            maps = attention(network, plain(part, ids=np.zeros(len(part), np.int64), epoch=0), answers[at : at + CHUNK])
        except RuntimeError:  # a network from anywhere may do what autograd forbids, such as changing a map in place
            maps = None
        if maps is None:
            return [None] * len(images)
        found += [_lit(*pair) for pair in zip(seen[at : at + CHUNK], maps, strict=True)]
    return found


def attention(network: Classifier | Ensemble, x: Tensor, answers: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Return what an answer owes to each place, (B, h, w) float32, at least 0; None where no stage keeps places.

    x: (B, 3, S, S) float32, normalized. answers: (B,) int64, the class whose logit is asked about.
    """
    asked = _asked(network)
    last: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
        if output.ndim != 4 or min(output.shape[2:]) < LEAST_PLACES:
            return None
        torch.set_grad_enabled(True)  # from here on; the ``no_grad`` around it ends this too
        last[:] = [output.detach().requires_grad_()]
        return last[0]

    hooks = [stage.register_forward_hook(cut) for stage in asked.backbone.stages]
    was_training = asked.training
    asked.eval()
    try:
        with torch.no_grad():
            logits = asked(x.to(next(asked.parameters()).device))
            if not last or not logits.requires_grad:
                return None
            chosen = logits.gather(1, torch.from_numpy(answers)[:, None].to(logits.device)).sum()
            (gradient,) = torch.autograd.grad(chosen, last)
    finally:
        asked.train(was_training)
        for hook in hooks:
            hook.remove()
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * last[0].detach()).sum(1).relu().float().cpu().numpy()


def _asked(network: Classifier | Ensemble) -> Classifier:
    if isinstance(network, Classifier):
        return network
    heaviest = network.members[int(np.argmax(network.weights))]
    assert isinstance(heaviest, Member)  # an ensemble has no others
    return heaviest.classifier


def _lit(seen: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    if not np.isfinite(heat).all() or heat.max() <= 0:
        return None
    light = Image.fromarray((255 * heat / heat.max()).astype(np.uint8)).resize(seen.shape[1::-1], Image.Resampling.BICUBIC)
    share = np.asarray(light, np.float32)[..., None] / 255
    levels = np.asarray(Image.fromarray(seen).convert("L"), np.float32)[..., None]
    faded = MIDDLE + FADED * (levels - MIDDLE)
    return np.rint(share * seen + (1 - share) * faded).astype(np.uint8)
