"""The pages of a comparison, of a scan and of drawn augmentations in headless Chromium: desk and phone, light and dark."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.browser import browser, check_every_look  # noqa: F401  # pyright: ignore[reportMissingImports]
from tests.unit.test_comparison_page import found  # noqa: F401  # pyright: ignore[reportMissingImports]
from tests.unit.test_report_gallery import dataset, shown  # noqa: F401  # pyright: ignore[reportMissingImports]

from descend import data
from descend.audit import scan
from descend.augment import Augmentation, expand
from descend.augment.label_safety import Flips, Safety, Trial
from descend.comparison import Comparison
from descend.report import gallery, write_comparison, write_scan
from descend.technique import build


def test_the_page_of_a_comparison(browser, found: Comparison) -> None:  # noqa: F811
    check_every_look(browser, write_comparison(found))


def test_the_page_of_drawn_augmentations(browser, dataset: data.Dataset, tmp_path: Path) -> None:  # noqa: F811
    transforms = expand(["rotate()", "color_jitter()"])
    flips = (Flips("<b>bees</b>", 30, 40, "ants", 29), Flips("ants", 0, 40, None, 0))
    safety = Safety(transforms[0], (Trial(build("rotate(degrees=7.5)", Augmentation), flips),), 0.05)
    gallery.write(tmp_path / "drawn.html", "a & b", transforms, shown(dataset, "rotate()", "color_jitter()"), [safety])
    check_every_look(browser, tmp_path / "drawn.html")


def test_the_page_of_a_scan(browser, shapes: Path, tmp_path: Path) -> None:  # noqa: F811
    pictures = tmp_path / "pictures"
    shutil.copytree(shapes, pictures)
    shutil.copy(
        pictures / "disc" / "00.png", pictures / "square" / "a picture with quite a long name that stands in two classes.png"
    )
    (pictures / "disc" / "broken.jpg").write_bytes(b"no picture")
    write_scan(tmp_path / "scan.html", scan(str(pictures), deep=False))
    check_every_look(browser, tmp_path / "scan.html")
