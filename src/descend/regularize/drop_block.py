"""DropBlock: dropout for feature maps, in squares, so that the neighbors of a dropped pixel cannot give it away."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from descend.errors import ModelError, check_count
from descend.regularize import mask_kernels
from descend.regularize.dropout import Layout
from descend.regularize.masks import MaskSource, channels_last, checked_choice, checked_probability
from descend.untraced import untraced


class DropBlock(nn.Module):
    """Zero squares of ``size`` x ``size`` pixels in every channel while training; nothing when evaluating.

    When to prefer it: after the later stages of a convolutional network, where dropout of single pixels does nothing.
    Costs about 2 ns per pixel.

        gamma = p / size^2 * (H W) / ((H - size + 1) (W - size + 1))     chance that a square starts at a place
        M     = 0 on every square that started, 1 elsewhere
        y     = x * M * numel(M) / sum(M)

    x: (B, C, H, W), or (B, H, W, C) with ``layout="NHWC"``, any float type. A square larger than the map is cut to it. Squares
    overlap, so that the dropped share is a little less than p. *Differs from the paper:* the rescaling counts over one sample's
    channels instead of over the whole batch, so that a sample's mask does not depend on its neighbors in the batch. It keeps the
    mean activation of each sample, not the expectation of each pixel: unlike dropout it is not unbiased pixel by pixel.

    Raises KnobError for p outside [0, 1) or size < 1; ModelError for x that is not four-dimensional.

    Source: Ghiasi, Lin & Le 2018, arXiv:1810.12890, Algorithm 1 and equation 1.
    """

    def __init__(self, p: float, *, size: int = 7, stream: str = "drop_block", seed: int = 0, layout: Layout = "NCHW") -> None:
        super().__init__()
        self.p = checked_probability("DropBlock", p)
        check_count("DropBlock", size, knob="size")
        self.size = size
        self.layout = checked_choice("DropBlock", "layout", layout, ("NCHW", "NHWC"))
        self.source = MaskSource(seed, stream)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with squares dropped (training) or x itself (evaluation)."""
        if self.p == 0 or not self.training:
            return x
        if x.ndim != 4:
            raise ModelError("DropBlock", "x must be (B, C, H, W) or (B, H, W, C)", got=tuple(x.shape))
        return x * self._mask(x).to(x.dtype) if x.numel() else x

    @untraced
    def _mask(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape if self.layout == "NCHW" else (x.shape[0], x.shape[3], *x.shape[1:3])
        side_h, side_w = min(self.size, h), min(self.size, w)
        rows, columns = h - side_h + 1, w - side_w + 1
        gamma = min(1.0, self.p / (side_h * side_w) * (h * w) / (rows * columns))
        draw = self.source.per_sample(b)
        drawn = draw.keep(b // draw.ids.size * c * rows * columns, gamma, torch.empty(0, dtype=x.dtype))
        quiet = drawn.reshape(b, rows, columns, c).contiguous().numpy()
        mask = torch.from_numpy(mask_kernels.stamp(quiet, side_h, side_w)).to(x.device)
        return channels_last(mask, x.shape, x) if self.layout == "NCHW" else mask

    def extra_repr(self) -> str:
        """Return the settings, for ``print(model)``."""
        return f"p={self.p}, size={self.size}, layout={self.layout!r}, stream={self.source.stream!r}"
