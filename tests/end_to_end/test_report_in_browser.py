"""The report of a run in headless Chromium: on a desk and on a phone, light, dark and printed, by mouse and by keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.browser import (  # pyright: ignore[reportMissingImports]
    WIDTHS,
    browser,  # noqa: F401
    check_every_look,
    check_layout,
    opened,
)
from tests.unit.test_report_page import SEARCH, make_run, picture  # pyright: ignore[reportMissingImports]

from descend import report as report_package
from descend.api import fit

pytestmark = pytest.mark.charts


@pytest.fixture(scope="module")
def report(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    fit(shapes, transfer="scratch", epochs=2, size=24, out=out)
    return out / "report.html"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything that one can have: pictures of every kind, curves, calibration, advice."""
    shown = [
        {"path": f"val/{why}/{k}.jpg", "split": "val", "label": "ants", "predicted": "bees" if why == "pair" else "ants",
         "confidence": 0.6, "jpeg": picture(40 + k), "why": why}
        for why in ("pair", "unsure", "class") for k in range(4)
    ]  # fmt: skip
    reliable = {"ece": 0.03, "rms_error": 0.02, "rms_interval": [0.0, 0.1], "bins": [[20, 0.6, 0.7], [133, 0.97, 0.96]]}
    curve = [[153, 146] if at <= 60 else [133, 132] if at <= 97 else [0, 0] for at in range(101)]
    mistakes = [
        {"path": f"val/a long name of a picture {k}.jpg", "split": "val", "label": "bees", "predicted": "ants", "confidence": 0.9,
         "jpeg": picture(k), **({"looked": picture(80 + k)} if k < 2 else {})}
        for k in range(5)
    ]  # fmt: skip
    run = make_run(tmp_path_factory.mktemp("runs") / "full", shown=shown, mistakes=mistakes,
                   calibration={"val": {"before": reliable, "after": reliable, "coverage": curve}})  # fmt: skip
    return report_package.write(run)


def test_the_report_fits_the_screen_and_can_be_read(browser, report: Path, full: Path) -> None:  # noqa: F811
    for path in (report, full):
        check_every_look(browser, path)


def test_the_report_of_a_search_fits_too(browser, tmp_path: Path) -> None:  # noqa: F811
    run = make_run(tmp_path / "run", search=SEARCH, search_ended=True, budget_used_s=61.0,
                   next_step={"why": "more pixels: 288 instead of 224", "seconds": 20.0})  # fmt: skip
    check_every_look(browser, report_package.write(run))


@pytest.mark.parametrize("width", WIDTHS)
def test_pictures_open_are_turned_by_keys_and_give_the_focus_back(browser, full: Path, width: int) -> None:  # noqa: F811
    with opened(browser, full, width=width) as page:
        viewer = page.locator("#viewer")
        assert not viewer.is_visible()
        opener = page.get_by_role("button", name=re.compile("long name of a picture 1"))
        opener.focus()
        page.keyboard.press("Enter")
        assert viewer.is_visible()
        assert viewer.locator(".place").inner_text() == "2 of 17"
        assert viewer.locator("img.looked").is_visible()
        assert "a long name of a picture 1" in viewer.locator(".told").inner_text()
        box = viewer.locator("img.whole").bounding_box()
        small = opener.bounding_box()
        assert box is not None
        assert small is not None
        assert box["height"] > 1.5 * small["height"]
        check_layout(page)
        page.keyboard.press("ArrowRight")
        assert viewer.locator(".place").inner_text() == "3 of 17"
        assert not viewer.locator("img.looked").is_visible()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowLeft")
        assert viewer.locator(".place").inner_text() == "17 of 17"
        page.keyboard.press("Escape")
        assert not viewer.is_visible()
        assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
            "Enlarge val/a long name of a picture 1"
        )


def test_pictures_of_a_pair_open_what_stands_above(browser, full: Path) -> None:  # noqa: F811
    with opened(browser, full) as page:
        links = page.locator(".pairs a.small")
        assert links.count() == 5
        links.nth(2).click()
        assert page.locator("#viewer .place").inner_text() == "3 of 17"
        page.get_by_role("button", name="Close").click()
        assert not page.locator("#viewer").is_visible()
        assert page.evaluate("document.activeElement.matches('.pairs a.small')")


def test_a_cell_of_the_matrix_opens_its_pictures(browser, full: Path) -> None:  # noqa: F811
    with opened(browser, full) as page:
        cell = page.locator(".heat td.wrong a.cell").first
        at = cell.evaluate("link => [link.closest('tr').rowIndex - 1, link.closest('td').cellIndex - 1]")
        cell.focus()
        page.keyboard.press("Enter")
        true, answered = (["ants", "bees"][k] for k in at)
        alt = page.locator("#viewer img.whole").get_attribute("alt")
        assert alt is not None
        assert alt.endswith(f"labeled {true}, answered {answered}")
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.matches('a.cell')")


def test_commands_are_copied(browser, full: Path) -> None:  # noqa: F811
    with opened(browser, full) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        commands = page.locator(".commands pre").all_inner_texts()
        assert len(commands) > 3
        page.get_by_role("button", name=f"Copy {commands[1]}", exact=True).click()
        page.get_by_text("copied", exact=True).wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == commands[1]


def test_curves_tell_their_figures_by_keyboard_and_pointer(browser, full: Path) -> None:  # noqa: F811
    with opened(browser, full) as page:
        slider, reading = page.get_by_role("slider", name="Epoch"), page.locator(".reading")
        assert reading.inner_text().startswith("epoch 31, loss in training 0.")  # the chosen one
        slider.focus()
        page.keyboard.press("ArrowRight")
        assert reading.inner_text().startswith("epoch 32,")
        assert slider.get_attribute("aria-valuetext") == reading.inner_text()
        row = page.locator(".epochs tbody tr").nth(31)
        assert row.locator("td").last.text_content() in reading.inner_text()
        place = page.locator(".curves svg").nth(1).bounding_box()
        assert place is not None
        page.locator(".curves svg").nth(1).hover(
            position={"x": place["width"] * (0.135 + 0.845 * 9.5 / 60), "y": place["height"] / 2}
        )
        assert reading.inner_text().startswith("epoch 10,")
        lines = page.locator(".crosshair")
        assert lines.count() == 2
        for at in range(2):  # both charts tell of the same epoch, where it is drawn
            assert float(lines.nth(at).get_attribute("x1") or 0) == pytest.approx(331.2 * (0.135 + 0.845 * 9.5 / 60), abs=0.05)
        page.keyboard.press("End")
        assert reading.inner_text().startswith("epoch 60,")


def test_papers_are_copied(browser, full: Path) -> None:  # noqa: F811
    with opened(browser, full) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.locator(".copied summary").click()
        page.get_by_role("button", name="Copy", exact=True).click()
        page.get_by_text("copied", exact=True).wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith("@")
        assert "@inproceedings{loshchilov2019,\n" in copied
        assert copied.count("\n}\n") == copied.count("@") >= 5


def test_without_scripts_everything_can_be_read(browser, full: Path) -> None:  # noqa: F811
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1200, "height": 900})
    try:
        page = context.new_page()
        page.goto(full.resolve().as_uri())
        assert page.get_by_role("button").count() == 0  # nothing that would do nothing
        assert page.locator("figure img.whole").first.is_visible()
        page.locator(".curves summary").click()
        assert page.locator(".epochs tbody tr").count() == 60
        page.locator(".pairs a.small").first.click()
        assert re.search(r"#picture-\d+$", page.url)
    finally:
        context.close()


def test_the_print_is_paper(browser, full: Path) -> None:  # noqa: F811
    with opened(browser, full, scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.locator(".reader").is_visible()
        assert not page.locator(".crosshair").first.is_visible()
        check_layout(page)
        printed = page.pdf(format="A4")
        full.with_name("report.pdf").write_bytes(printed)
        assert printed.startswith(b"%PDF")
        assert 3 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 9
