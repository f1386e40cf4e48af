"""Sets of pictures that arrive as packages: photographs of solar cells from PyPI, clip art from Debian, by class.

    pip install elpv-dataset          # elpv: 2,624 gray photographs, functional or defective
    apt install openclipart-png       # clipart: drawings in 48 folders, which are the classes

``splits.py`` makes folders of links of them.
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

from descend.data.builtin import elpv

CLIP_ART = Path("/usr/share/openclipart/png")  # where Debian puts it
LEAST, MOST = 33, 60  # pictures of a folder that is a class, and that are drawn from it
LEAST_SIDE, MOST_PIXELS = 16, 20e6  # others are left out: nothing can be seen in them, or other methods cannot read them
Classes = dict[str, list[Path]]


def solar_cells() -> Classes:
    """Return the photographs of the package elpv-dataset."""
    files, classes = elpv(), defaultdict[str, list[Path]](list)
    for name, label in zip(files.names, files.labels, strict=True):
        classes[label].append(files.root / name)
    return classes


def clip_art() -> Classes:
    """Return drawings of the package openclipart-png: every folder with enough of them is a class, but for the unsorted ones."""
    if not CLIP_ART.is_dir():
        sys.exit(f"{CLIP_ART} must be there. Install it with: apt install openclipart-png")
    classes = Classes()
    for folder in sorted(path for path in CLIP_ART.rglob("*") if path.is_dir() and "unsorted" not in path.parts):
        pictures = sorted(path for path in folder.glob("*.png") if path.is_file() and not path.is_symlink())
        if len(pictures) >= LEAST:
            random.Random(0).shuffle(pictures)
            classes["-".join(folder.relative_to(CLIP_ART).parts)] = [*filter(_is_usual, pictures[:MOST])]
    return classes


def _is_usual(path: Path) -> bool:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # no pixel is read
    try:
        with Image.open(path) as image:
            return min(image.size) >= LEAST_SIDE and image.width * image.height <= MOST_PIXELS
    finally:
        Image.MAX_IMAGE_PIXELS = limit


PACKAGED: Mapping[str, Callable[[], Classes]] = {"elpv": solar_cells, "clipart": clip_art}
