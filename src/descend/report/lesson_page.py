"""The page on the other half of the lesson: augmentation of a picture, dropout and its kin, decay, to be played with.

What it computes is translated from the product (``lesson_translation``); the files of ``lesson`` hold the loops, the drawings and
the controls. The page asks nothing of any network, and a picture that a reader gives it stays in the browser.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup
from numpy import uint8
from numpy.typing import NDArray
from PIL import Image

from descend import outputs
from descend.augment import Augmentation
from descend.data import Dataset
from descend.drawing import COLORS, check_path
from descend.errors import DataError, KnobError
from descend.landscape import playground
from descend.report import gallery
from descend.report.lesson_translation import augmentations, reasons, translation
from descend.technique import spec

SIDE = 160
"""Pixels per side of the pictures on the page, stored and drawn."""

DEFAULT = ("random_resized_crop()", "flip()", "color_jitter()", "random_erasing(p=0.5)")
SCHEDULES = ("cosine()", "step()", "inverse_time()", "wsd()")
NETWORK = {"n_inputs": 8, "n_units": 8, "n_points": 14, "n_in": 16, "n_out": 8, "lr": 0.02}
SHARED = ("numbers.js", "spec.js", "canvas.js", "controls.js")
"""Files of the other playground that this page uses, too."""

SCRIPTS = ("random.js", "pixels.js", "network.js", "settings.js", "draws.js", "charts.js", "main.js")
MOST_PICTURES = 4
PHOTOGRAPHS = {"china.jpg": "a temple", "flower.jpg": "a flower"}
"""Photographs that come with scikit-learn: where no picture is given, the page begins with them."""

CREDIT = "Photographs: scikit-learn's sample images, by L. Leeuw and V. Rabinovich, CC BY 2.0."

Picture = tuple[str, NDArray[uint8]]
"""A name, and the pixels (SIDE, SIDE, 3)."""


def write_page(path: Path | str, pictures: Sequence[Picture] = (), transforms: Sequence[Augmentation] = ()) -> None:
    """Write the page, as it begins with ``pictures`` and ``transforms``, to ``path``, replacing a file whole or not at all.

    pictures: names and pixels (SIDE, SIDE, 3) uint8; none are two photographs of scikit-learn's. transforms: none are a usual
    list. Raises KnobError for a transform that the page cannot show and for a file that does not end in .html; OutputError where
    it cannot be written.
    """
    path = Path(path)
    check(path, transforms)
    outputs.write_page(path, page(pictures, transforms))


def check(path: Path, transforms: Sequence[Augmentation]) -> None:
    """Raise KnobError for a file or a transform that there is no page of."""
    check_path(path, playground.SUFFIX, who="page")
    missing = augmentations()[1]
    for transform in transforms:
        if transform.name in missing:
            raise KnobError("page", f"cannot show {transform.name}: {missing[transform.name]}", got=str(transform),
                            fix="Leave it out, or look at it with --out gallery.html.")  # fmt: skip


def page(pictures: Sequence[Picture] = (), transforms: Sequence[Augmentation] = ()) -> str:
    """Return the page; arguments as in ``write_page``."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(asset("page.html")).render(
        style=Markup(playground.asset("playground.css") + asset("page.css")), script=Markup(script(pictures, transforms)),
        left_out=reasons(augmentations()[1]), credit="" if pictures else CREDIT, **NETWORK,
    )  # fmt: skip


def script(pictures: Sequence[Picture] = (), transforms: Sequence[Augmentation] = ()) -> str:
    """Return the whole script of the page."""
    shown = [{"name": name, "png": _png(pixels)} for name, pixels in pictures or photographs()]
    state = {"augment": [spec(transform) for transform in transforms] or list(DEFAULT), "schedules": list(SCHEDULES)}
    facts = {"state": state, "pictures": shown, "side": SIDE, "n_colors": len(COLORS), **NETWORK}
    given = f"const FACTS = {json.dumps(facts).replace('<', chr(92) + 'u003c')};"
    shared = [playground.asset(name) for name in SHARED]
    return "\n".join([shared[0], asset("np.js"), translation(), given, *shared[1:], *map(asset, SCRIPTS)])


def photographs() -> list[Picture]:
    """Return the photographs that come with scikit-learn, their middle squares."""
    from sklearn.datasets import load_sample_image

    from descend.data import decode_resized

    return [(said, decode_resized(load_sample_image(name), SIDE, name=name)) for name, said in PHOTOGRAPHS.items()]


def of_dataset(dataset: Dataset) -> list[Picture]:
    """Return the first pictures of a data set, of every class in turn. Raises DataError where none can be decoded."""
    found = [(dataset.name_of(row), image) for row, image in gallery.decoded(dataset, SIDE, MOST_PICTURES)]
    if not found:
        raise DataError("page", "needs one picture that can be decoded", got=dataset.name)
    return found


def _png(pixels: NDArray[uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def asset(name: str) -> str:
    """Return the text of one of the files that the page is made of."""
    return (resources.files("descend.report") / "lesson" / name).read_text(encoding="utf-8")
