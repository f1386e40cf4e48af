"""Tone that depends on the image: autocontrast and equalization, measured on the levels after geometry."""

from __future__ import annotations

import torch

from descend.augment.factors import LEAST_SPREAD, N_LEVELS

_ALMOST = 1e-3  # pixels: sums of their shares miss whole numbers by rounding


def stretched(image: torch.Tensor) -> torch.Tensor:
    """Spread each channel of levels (h, w, 3) linearly over 0..255; a flat channel stays."""
    low, high = image.amin((0, 1)), image.amax((0, 1))
    flat = high - low < LEAST_SPREAD
    scale = torch.where(flat, 1.0, (N_LEVELS - 1) / torch.where(flat, 1.0, high - low))
    return (image - torch.where(flat, 0.0, low)) * scale


def equalizing(image: torch.Tensor) -> torch.Tensor:
    """Return the tables (3, 256) that flatten the histogram of each channel of levels (h, w, 3).

    Pillow's rule: with ``step = (pixels - pixels at the highest level) // 255``, level i goes to
    ``(step // 2 + pixels below i) // step``. A level between two whole ones counts for both in proportion.
    """
    histogram = _histogram(image)
    reached = histogram > 0.5
    top = (torch.arange(N_LEVELS, device=image.device) * reached).amax(1, keepdim=True)
    step = ((histogram.sum(1, keepdim=True) - histogram.gather(1, top) + _ALMOST) / (N_LEVELS - 1)).floor()
    below = histogram.cumsum(1) - histogram
    table = (((step / 2).floor() + below + _ALMOST) / step.clamp(min=1)).floor().clamp(max=N_LEVELS - 1)
    identity = torch.arange(N_LEVELS, dtype=table.dtype, device=table.device)
    return torch.where((step == 0) | (reached.sum(1, keepdim=True) < 2), identity, table).to(torch.float32)


def _histogram(image: torch.Tensor) -> torch.Tensor:
    """Count the levels (h, w, 3) of each channel: (3, 256) float64."""
    values = image.flatten(0, 1).clamp(0, N_LEVELS - 1).T
    low = values.long().clamp(max=N_LEVELS - 2)
    part = (values - low).double()
    counts = torch.zeros(3, N_LEVELS, dtype=torch.float64, device=image.device)
    return counts.scatter_add(1, low, 1 - part).scatter_add(1, low + 1, part)
