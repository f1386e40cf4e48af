"""Dropout: train a random sub-network at every step, predict with the average of all of them.

A network with n droppable units holds 2^n sub-networks that share their weights. Each training sample trains one of them;
at test time one pass through the whole network, with every unit at its expected value, stands for their average.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from descend.errors import KnobError, ModelError
from descend.regularize.masks import MaskSource, channels_last, checked_choice, checked_probability
from descend.untraced import untraced

Mode = Literal["inverted", "classic"]
Kind = Literal["unit", "channel"]
Layout = Literal["NCHW", "NHWC"]


class Dropout(nn.Module):
    """Zero each unit with probability p while training; pass its expectation on when evaluating.

    When to prefer it: wide fully connected layers and small data. Convolutions followed by batch normalization gain little;
    there ``kind="channel"`` (spatial dropout) or ``DropBlock`` remove what neighboring pixels would give away.
    Costs about 2 ns per unit and step, and more epochs.

    mode "inverted":  training ``x * m / (1 - p)``, evaluation ``x``.
    mode "classic":   training ``x * m``,           evaluation ``x * (1 - p)``; the form of the paper. The two differ by a
                      constant factor that the next layer's learning rate and weight decay feel.
    m ~ Bernoulli(1 - p), one per unit and sample, or one per channel and sample (kind "channel").

    x: (B, ...) for units; for channels (B, C, H, W), or (B, H, W, C) with ``layout="NHWC"``; any float type; the output has the
    same shape, type and memory format.
    The mask is a function of (seed, stream, epoch, sample id, draw), see ``masks``. p = 0 is the identity.

    Raises KnobError for p outside [0, 1), an unknown mode, kind or layout, or a layout without effect; ModelError where x does
    not fit the context's samples.

    Source: Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov 2014, JMLR 15:1929, section 4; channels: Tompson et
    al. 2015, arXiv:1411.4280, section 3.2.
    """

    def __init__(self, p: float, *, stream: str = "dropout", seed: int = 0, mode: Mode = "inverted",
                 kind: Kind = "unit", layout: Layout = "NCHW") -> None:  # fmt: skip
        super().__init__()
        self.p = checked_probability("Dropout", p)
        self.mode = checked_choice("Dropout", "mode", mode, ("inverted", "classic"))
        self.kind = checked_choice("Dropout", "kind", kind, ("unit", "channel"))
        self.layout = checked_choice("Dropout", "layout", layout, ("NCHW", "NHWC"))
        if kind == "unit" and layout != "NCHW":
            raise KnobError("Dropout", "layout has no effect with kind='unit'", got=layout, fix="Say kind='channel'.")
        self.source = MaskSource(seed, stream)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with units dropped (training) or at their expectation (evaluation)."""
        if self.p == 0:
            return x
        if not self.training:
            return x if self.mode == "inverted" else x * (1 - self.p)
        return x * self._mask(x) if x.numel() else x

    @untraced
    def _mask(self, x: Tensor) -> Tensor:
        if self.kind == "channel" and x.ndim != 4:
            raise ModelError("Dropout", "kind='channel' needs feature maps (B, C, H, W) or (B, H, W, C)", got=tuple(x.shape))
        if self.kind == "unit":
            shape = x.shape
        else:
            shape = torch.Size((*x.shape[:2], 1, 1) if self.layout == "NCHW" else (x.shape[0], 1, 1, x.shape[3]))
        draw = self.source.per_sample(x.shape[0])
        scale = 1 / (1 - self.p) if self.mode == "inverted" else 1.0
        mask = draw.keep(shape.numel() // draw.ids.size, self.p, x, scale=scale).to(x.dtype)
        return channels_last(mask, shape, x) if x.ndim == 4 and self.layout == "NCHW" else mask.reshape(shape)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f"p={self.p}, mode={self.mode!r}, kind={self.kind!r}, layout={self.layout!r}, stream={self.source.stream!r}"
