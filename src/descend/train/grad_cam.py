"""Where a network looked: what of a picture spoke for its answer, by Grad-CAM on the last stage that keeps places.

The map is ``ReLU(sum_c w_c A_c)``, with ``w_c`` the mean gradient of the answer's logit over the places of channel ``A_c``; for a
linear head on that stage's pooled output it is the class-activation map. Of an ensemble, the member that weighs most among those
with such a stage is asked. Gradients reach back to that stage only, so a map costs what an answer costs. The report and the app
both show this map.

Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2; Zhou et al. 2016, arXiv:1512.04150 (class-activation maps).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from descend.errors import ModelError
from descend.models import Classifier, Ensemble, Member
from descend.train.inference import as_trained
from descend.train.record import RunRecord

LEAST_PLACES = 4  # a side of the map: a coarser one says nothing of where
CHUNK = 4  # pictures at once
FADED = 0.35  # of a picture's contrast that is left, without its colors, where nothing spoke for the answer
MIDDLE = 128  # the level to which it fades: neither a dark picture nor a bright one looks so


@dataclass(frozen=True)
class GradCam:
    """What the logit of a class owes to each place of pictures.

    maps: (B, h, w) float32, at least 0. stage: the one that the maps are of. network: the one that was asked. weight: its share
    of the answer, in (0, 1]; 1 where there is no other.
    """

    maps: NDArray[np.float32]
    stage: str
    network: Classifier
    weight: float


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
            told = grad_cam(network, plain(part, ids=np.zeros(len(part), np.int64), epoch=0), answers[at : at + CHUNK])
        except ModelError:
            told = None
        if told is None:
            return [None] * len(images)
        found += [_lit(*pair) for pair in zip(seen[at : at + CHUNK], told.maps, strict=True)]
    return found


def grad_cam(network: Classifier | Ensemble, x: Tensor, classes: NDArray[np.int64]) -> GradCam | None:
    """Return what the logit of a class owes to each place; None where no stage of any network keeps enough places.

    x: (B, 3, S, S) float32, normalized. classes: (B,) int64, the one that is asked about in each picture. Raises ModelError for a
    network that autograd refuses.
    """
    for asked, weight in _by_weight(network):
        found = _asked(asked, x, classes)
        if found is not None:
            return GradCam(*found, asked, weight)
    return None


def _asked(network: Classifier, x: Tensor, classes: NDArray[np.int64]) -> tuple[NDArray[np.float32], str] | None:
    """Return the maps (B, h, w) of one network and the stage that they are of."""
    last: dict[str, Tensor] = {}

    def cut_at(name: str) -> Callable[[nn.Module, object, Tensor], Tensor | None]:
        def cut(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
            if output.ndim != 4 or min(output.shape[2:]) < LEAST_PLACES:
                return None
            torch.set_grad_enabled(True)  # from here on; the ``no_grad`` around it ends this too
            last.clear()
            last[name] = output.detach().requires_grad_()
            return last[name]

        return cut

    hooks = [stage.register_forward_hook(cut_at(name)) for name, stage in network.backbone.stages.named_children()]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            logits = network(x.to(next(network.parameters()).device))
            if not last or not logits.requires_grad:
                return None
            chosen = logits.gather(1, torch.from_numpy(classes)[:, None].to(logits.device)).sum()
            (gradient,) = torch.autograd.grad(chosen, list(last.values()))
    except RuntimeError as error:  # a network from anywhere may do what autograd forbids, such as changing a map in place
        where = "".join(f" after its stage {name}" for name in last)
        why = str(error).partition("\n")[0]
        raise ModelError(network.name, f"cannot be differentiated{where} ({why})") from error
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    [(stage, kept)] = last.items()
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * kept.detach()).sum(1).relu().float().cpu().numpy(), stage


def _by_weight(network: Classifier | Ensemble) -> Iterator[tuple[Classifier, float]]:
    """Yield each network with its share of the answer, the heaviest first."""
    if isinstance(network, Classifier):
        yield network, 1.0
        return
    for k in sorted(range(len(network.weights)), key=lambda k: -network.weights[k]):
        member = network.members[k]
        assert isinstance(member, Member)  # an ensemble has no others
        yield member.classifier, network.weights[k]


def _lit(seen: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    if not np.isfinite(heat).all() or heat.max() <= 0:
        return None
    light = Image.fromarray((255 * heat / heat.max()).astype(np.uint8)).resize(seen.shape[1::-1], Image.Resampling.BICUBIC)
    share = np.asarray(light, np.float32)[..., None] / 255
    levels = np.asarray(Image.fromarray(seen).convert("L"), np.float32)[..., None]
    faded = MIDDLE + FADED * (levels - MIDDLE)
    return np.rint(share * seen + (1 - share) * faded).astype(np.uint8)
