"""Plain policies: a word that stands for a list of transforms.

``light`` is safe for almost any photograph and short training; ``medium`` is the default for a few thousand pictures;
``strong`` suits training from scratch over many epochs, where the network would otherwise learn the pictures by heart.
"""

from __future__ import annotations

from collections.abc import Iterable

from descend.augment.transform import Augmentation
from descend.errors import SpecError, nearest
from descend.technique import build, parse, registered

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
}


def expand(specs: str | Augmentation | Iterable[str | Augmentation]) -> tuple[Augmentation, ...]:
    """Return the transforms that a list of spec texts, policy names and transforms stands for.

    Raises SpecError, with the nearest name, for text that is neither a policy nor a transform.
    """
    found: list[Augmentation] = []
    for item in [specs] if isinstance(specs, (str, Augmentation)) else specs:
        if isinstance(item, str) and item.strip() in POLICIES:
            found.extend(build(text, Augmentation) for text in POLICIES[item.strip()])
        else:
            found.append(_transform(item))
    return tuple(found)


def _transform(item: str | Augmentation) -> Augmentation:
    if isinstance(item, str):
        name = parse(item).name
        known = [cls.name for cls in registered(Augmentation)]
        if name in POLICIES:
            raise SpecError("augment", f"the policy {name!r} takes no knobs", got=item, fix=f"Write {name}.")
        if name not in known:
            raise SpecError("augment", "must name a transform or a policy", got=name, fix=nearest(name, [*known, *POLICIES]))
    return build(item, Augmentation)
