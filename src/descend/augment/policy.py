"""Plain policies: a word that stands for a list of transforms.

``light`` is safe for almost any photograph and short training; ``medium`` is the default for a few thousand pictures;
``strong`` suits training from scratch over many epochs, where the network would otherwise learn the pictures by heart.
``signs`` neither mirrors nor recolors: for digits, letters and whatever else means something different in a mirror.
``policy_for`` chooses among them by the data.
"""

from __future__ import annotations

from collections.abc import Iterable

from descend.augment.policy_names import POLICIES as POLICIES
from descend.augment.policy_names import unknown_transform
from descend.augment.transform import Augmentation
from descend.errors import SpecError, check_count
from descend.technique import build, parse, registered

_BY_STRENGTH = ("light", "medium", "strong")
_FEW, _MANY = 2_000, 20_000  # training pictures
_SMALL_SIDE = 64  # pixels


def policy_for(n_train: int, *, side: int, gray: bool) -> tuple[str, str]:
    """Choose a policy by the data: (its name, the reason in words).

    n_train: the number of training pictures; the fewer there are, the sooner a network knows them by heart, and the stronger the
    policy. side: their shorter side in pixels; below 64 the policy is one step milder, because a strong crop leaves too little to
    see. gray: whether they have no color; such pictures are often digits or signs, which must not be mirrored.
    Raises KnobError for a count or a side below 1.
    """
    for name, value in (("n_train", n_train), ("side", side)):
        check_count("policy_for", value, knob=name)
    if gray:
        return "signs", "gray pictures are often digits or signs: small moves, and no mirroring"
    wanted = 2 if n_train < _FEW else 1 if n_train < _MANY else 0
    how_many = f"{n_train:,} training pictures"
    if side < _SMALL_SIDE and wanted > 0:
        return _BY_STRENGTH[wanted - 1], f"{how_many}, and {side} px are too few for stronger crops"
    why = ("are plenty: mild is enough", "call for variety", "are soon known by heart")[wanted]
    return _BY_STRENGTH[wanted], f"{how_many} {why}"


def expand(specs: str | Augmentation | Iterable[str | Augmentation]) -> tuple[Augmentation, ...]:
    """Return the transforms that a list of spec texts, policy names and transforms stands for.

    Raises SpecError, with the nearest name, for text that is neither a policy nor a transform.
    """
    transforms: list[Augmentation] = []
    for item in [specs] if isinstance(specs, (str, Augmentation)) else specs:
        if isinstance(item, str) and item.strip() in POLICIES:
            transforms.extend(build(text, Augmentation) for text in POLICIES[item.strip()])
        else:
            transforms.append(_transform(item))
    return tuple(transforms)


def _transform(item: str | Augmentation) -> Augmentation:
    if isinstance(item, str):
        name = parse(item).name
        known = [cls.name for cls in registered(Augmentation)]
        if name in POLICIES:
            raise SpecError("augment", f"the policy {name!r} takes no knobs", got=item, fix=f"Write {name}.")
        if name not in known:
            raise unknown_transform(name, known)
    return build(item, Augmentation)
