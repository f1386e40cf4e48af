"""Models of timm and torchvision, small, with random weights, and what is known of each from its own source.

head: the layer that makes logits. stages: where feature maps change scale, and ``axis`` their channel axis. tails: a pattern of
the last parameters of each residual branch; set to zero they leave the shortcuts alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
from timm.models.metaformer import MetaFormer, SepConv
from timm.models.mlp_mixer import MlpMixer
from torch import nn
from torchvision import models as tv
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import SwinTransformer

SIDE = 64


@dataclass(frozen=True)
class Model:
    build: Callable[[], nn.Module]
    head: str
    stages: tuple[str, ...] = ()
    axis: int = 1
    tails: str = ""
    refused: tuple[str, ...] = ()  # techniques, as written in the test, that say no


def from_timm(name: str, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, num_classes=5, **settings)


def layers(prefix: str, numbers: range) -> tuple[str, ...]:
    return tuple(f"{prefix}{i}" for i in numbers)


NO_DEPTH = ("stochastic_depth", "stochastic_depth per batch")
NO_MAPS = ("spatial_dropout", "drop_block")
NO_NORM = ("ghost_batch_norm",)
NARROW = (16, 24, 32, 48)
SMALL_SWIN = {"img_size": SIDE, "window_size": 4, "embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 2)}

MODELS = {
    "timm resnet10t": Model(from_timm("resnet10t", channels=NARROW), "fc", layers("layer", range(1, 5)), tails=r"\.bn2\."),
    "timm resnet14t": Model(from_timm("resnet14t", channels=NARROW), "fc", layers("layer", range(1, 5)), tails=r"\.bn3\."),
    "timm resnetv2_18": Model(from_timm("resnetv2_18", channels=NARROW), "head.fc", layers("stages.", range(4)),
                              tails=r"blocks.*\.conv2\."),
    "timm resnetv2_50": Model(from_timm("resnetv2_50", layers=(1, 1, 1, 1), channels=(32, 48, 64, 96)), "head.fc",
                              layers("stages.", range(4)), tails=r"blocks.*\.conv3\."),
    "timm regnetx_002": Model(from_timm("regnetx_002"), "head.fc", ("s1", "s2", "s3", "s4"), tails=r"conv3\.bn\."),
    "timm lite0": Model(from_timm("tf_efficientnet_lite0"), "classifier", tuple(f"blocks.{i}" for i in (0, 1, 2, 4, 6)),
                        tails=r"blocks\.[1-5]\.[1-9]\.bn3\."),
    "timm mobilenetv3": Model(from_timm("mobilenetv3_small_050"), "classifier", ("blocks.0", "blocks.1", "blocks.3", "blocks.5"),
                              tails=r"blocks\.(1\.1|2\.[12]|3\.[01]|4\.[12])\.bn3\."),
    "timm convnext": Model(from_timm("test_convnext"), "head.fc", layers("stages.", range(4)), tails=r"\.mlp\.fc2\.",
                           refused=NO_NORM),
    "timm densenet": Model(from_timm("densenet121", growth_rate=8, block_config=(2, 2, 2, 2)), "classifier",
                           (*layers("features.denseblock", range(1, 4)), "features.norm5"), refused=NO_DEPTH),
    "timm poolformer": Model(lambda: MetaFormer(num_classes=5, depths=(1, 1, 1, 1), dims=(16, 24, 32, 48),
                                                layer_scale_init_values=1.0), "head.fc", layers("stages.", range(4)),
                             tails=r"layer_scale[12]\.scale", refused=NO_NORM),
    "timm metaformer": Model(lambda: MetaFormer(num_classes=5, depths=(1, 1, 1, 1), dims=(16, 24, 32, 48), token_mixers=SepConv,
                                                res_scale_init_values=1.5), "head.fc", layers("stages.", range(4)),
                             tails=r"token_mixer\.pwconv2\.|mlp\.fc2\.", refused=NO_NORM),
    "timm nfnet": Model(from_timm("test_nfnet"), "head.fc", (*layers("stages.", range(3)), "final_act"),
                        tails=r"stages.*\.conv3\.(gain|bias)$",
                        refused=(*NO_NORM, "dropconnect everywhere", "stochastic_depth per batch")),
    "timm vit": Model(from_timm("test_vit", img_size=SIDE), "head", tails=r"attn\.proj\.|mlp\.fc2\.",
                      refused=(*NO_MAPS, *NO_NORM)),
    "timm swin": Model(from_timm("swin_tiny_patch4_window7_224", **SMALL_SWIN), "head.fc", layers("layers.", range(4)), axis=3,
                       tails=r"attn\.proj\.|mlp\.fc2\.", refused=NO_NORM),
    "timm mixer": Model(lambda: MlpMixer(num_classes=5, img_size=SIDE, patch_size=16, num_blocks=2, embed_dim=32), "head",
                        tails=r"\.fc2\.", refused=(*NO_MAPS, *NO_NORM)),
    "torchvision resnet18": Model(lambda: tv.resnet18(num_classes=5), "fc", layers("layer", range(1, 5)), tails=r"\.bn2\."),
    "torchvision mobilenet_v2": Model(lambda: tv.mobilenet_v2(num_classes=5, width_mult=0.25), "classifier.1",
                                      ("features.1", "features.3", "features.6", "features.13", "features.18"),
                                      tails=r"features\.(3|5|6|8|9|10|12|13|15|16)\.conv\.3\."),
    "torchvision mobilenet_v3": Model(lambda: tv.mobilenet_v3_small(num_classes=5), "classifier.3",
                                      ("features.1", "features.3", "features.8", "features.12"),
                                      tails=r"features\.(3|5|6|8|10|11)\.block\.[23]\.1\."),
    "torchvision efficientnet": Model(lambda: tv.efficientnet_b0(num_classes=5), "classifier.1",
                                      ("features.1", "features.2", "features.3", "features.5", "features.8"),
                                      tails=r"features\.[2-7]\.[1-9]\.block\.3\.1\."),
    "torchvision convnext": Model(lambda: tv.convnext.ConvNeXt([CNBlockConfig(16, 24, 1), CNBlockConfig(24, 32, 1),
                                                                CNBlockConfig(32, None, 1)], num_classes=5), "classifier.2",
                                  ("features.1", "features.3", "features.5"), tails=r"layer_scale", refused=NO_NORM),
    "torchvision swin": Model(lambda: SwinTransformer([4, 4], 24, [1, 1, 1], [1, 2, 2], [4, 4], num_classes=5), "head",
                              ("features.1", "features.3", "features.5"), axis=3, tails=r"attn\.proj\.|mlp\.3\.",
                              refused=NO_NORM),
    "torchvision vit": Model(lambda: tv.VisionTransformer(SIDE, 16, 2, 2, 32, 64, num_classes=5), "heads.head",
                             tails=r"out_proj\.|mlp\.3\.", refused=(*NO_MAPS, *NO_NORM, "dropconnect everywhere")),
    "torchvision regnet": Model(lambda: tv.regnet_x_400mf(num_classes=5), "fc", layers("trunk_output.block", range(1, 5)),
                                tails=r"\.f\.c\.1\."),
    "torchvision densenet": Model(lambda: tv.DenseNet(8, (2, 2, 2), 16, num_classes=5), "classifier",
                                  ("features.pool0", "features.denseblock1", "features.denseblock2", "features.norm5"),
                                  refused=NO_DEPTH),
    "torchvision shufflenet": Model(lambda: tv.shufflenet_v2_x0_5(num_classes=5), "fc", layers("stage", range(2, 5)),
                                    refused=NO_DEPTH),
}  # fmt: skip
