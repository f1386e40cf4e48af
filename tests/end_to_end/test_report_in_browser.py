"""The report of a run in headless Chromium: on a desk and on a phone, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.browser import (  # pyright: ignore[reportMissingImports]
    SCHEMES,
    WIDTHS,
    browser,  # noqa: F401
    check_layout,
    opened,
)

from descend.api import fit


@pytest.fixture(scope="module")
def report(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    fit(shapes, transfer="scratch", epochs=2, size=24, out=out)
    return out / "report.html"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_fits_the_screen_and_can_be_read(browser, report: Path, width: int, scheme: str) -> None:  # noqa: F811
    with opened(browser, report, width=width, scheme=scheme) as page:
        check_layout(page)
        page.screenshot(path=report.with_name(f"report-{width}-{scheme}.png"), full_page=True)
