"""The pages of a comparison, of a scan and of drawn augmentations in headless Chromium: desk and phone, light and dark."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.browser import (  # pyright: ignore[reportMissingImports]
    SCHEMES,
    WIDTHS,
    browser,  # noqa: F401
    check_layout,
    opened,
)
from tests.unit.test_comparison_page import found  # noqa: F401  # pyright: ignore[reportMissingImports]
from tests.unit.test_report_gallery import dataset, shown  # noqa: F401  # pyright: ignore[reportMissingImports]

from descend import data
from descend.audit import scan
from descend.augment import Augmentation, expand
from descend.augment.label_safety import Flips, Safety, Trial
from descend.comparison import Comparison
from descend.report import gallery, write_comparison, write_scan
from descend.technique import build


def looks_right(browser, path: Path) -> None:  # noqa: F811
    for width in WIDTHS:
        for scheme in SCHEMES:
            with opened(browser, path, width=width, scheme=scheme) as page:
                page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
                page.screenshot(path=path.with_name(f"{path.stem}-{width}-{scheme}.png"), full_page=True)
                check_layout(page)


def test_the_page_of_a_comparison(browser, found: Comparison) -> None:  # noqa: F811
    looks_right(browser, write_comparison(found))


def test_the_page_of_drawn_augmentations(browser, dataset: data.Dataset, tmp_path: Path) -> None:  # noqa: F811
    transforms = expand(["rotate()", "color_jitter()"])
    flips = (Flips("<b>bees</b>", 30, 40, "ants", 29), Flips("ants", 0, 40, None, 0))
    safety = Safety(transforms[0], (Trial(build("rotate(degrees=7.5)", Augmentation), flips),), 0.05)
    gallery.write(tmp_path / "drawn.html", "a & b", transforms, shown(dataset, "rotate()", "color_jitter()"), [safety])
    looks_right(browser, tmp_path / "drawn.html")


def test_the_page_of_a_scan(browser, shapes: Path, tmp_path: Path) -> None:  # noqa: F811
    pictures = tmp_path / "pictures"
    shutil.copytree(shapes, pictures)
    shutil.copy(
        pictures / "disc" / "00.png", pictures / "square" / "a picture with quite a long name that stands in two classes.png"
    )
    (pictures / "disc" / "broken.jpg").write_bytes(b"no picture")
    write_scan(tmp_path / "scan.html", scan(str(pictures), deep=False))
    looks_right(browser, tmp_path / "scan.html")
