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


ELSEWHERE: dict[str, tuple[str, ...]] = {
    "affine": ("rotate()", "shift()", "scale()", "shear()"),
    "adjustsharpness": ("sharpen()",),
    "brightnesscontrast": ("color_jitter()",),
    "channeldropout": ("channel_drop()",),
    "crop": ("pad_crop()", "random_resized_crop()"),
    "elastictransform": ("elastic()",),
    "gaussianblur": ("blur()",),
    "gaussnoise": ("gaussian_noise()",),
    "griddropout": ("grid_mask()",),
    "horizontalflip": ("flip()",),
    "huesaturationvalue": ("hue()", "saturation()", "brightness()"),
    "imagecompression": ("jpeg()",),
    "photometricdistort": ("color_jitter()",),
    "rotate90": ("quarter_turn()",),
    "rotation": ("rotate()",),
    "shiftscalerotate": ("shift()", "scale()", "rotate()"),
    "togray": ("grayscale()",),
    "translate": ("shift()",),
    "trivialaugmentwide": ("trivialaugment()",),
    "verticalflip": ("flip(axis=vertical)",),
    "zoom": ("scale()",),
    "zoomout": ("scale()",),
}
"""What torchvision, Albumentations and Keras call otherwise, without capitals, underscores and a ``Random`` in front."""


def unknown_transform(name: str, known: Iterable[str]) -> SpecError:
    """Return the error for a name that is no policy and not among the ``known`` transforms."""
    known = [*known, *POLICIES]
    plain = [_plain(name), _plain(name).removeprefix("random")]
    same = [own for own in known if _plain(own) in plain]
    others = next((ELSEWHERE[text] for text in plain if text in ELSEWHERE), ())
    fix = f"Here that is {', '.join(others)}." if others and not same else nearest(same[0] if same else name, known)
    return SpecError("augment", "must name a transform or a policy", got=name, fix=fix)


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
