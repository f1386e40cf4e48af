"""Plain policies as text, and the error for a name that is neither a policy nor a transform; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from descend.errors import SpecError, nearest

POLICIES: dict[str, tuple[str, ...]] = {
    "light": ("random_resized_crop(scale_range=[0.6, 1.0])", "flip()"),
    "medium": (
        "random_resized_crop()",
        "flip()",
        "rotate(degrees=10.0)",
        "color_jitter(brightness=0.2, contrast=0.2, saturation=0.2)",
    ),
    "strong": (
        "random_resized_crop(scale_range=[0.2, 1.0])",
        "flip()",
        "rotate()",
        "color_jitter(hue=0.05)",
        "random_erasing(p=0.25)",
        "mixup()",
    ),
    "signs": ("shift()", "rotate(degrees=10.0)", "scale(factor_range=[0.9, 1.1])"),
}


def unknown_transform(name: str, known: Iterable[str]) -> SpecError:
    """Return the error for a name that is no policy and not among the ``known`` transforms."""
    return SpecError("augment", "must name a transform or a policy", got=name, fix=nearest(name, [*known, *POLICIES]))
