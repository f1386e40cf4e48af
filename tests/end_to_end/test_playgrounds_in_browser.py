"""Both playgrounds in headless Chromium: what they compute there, their layout, and the keyboard."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.browser import (  # pyright: ignore[reportMissingImports]
    SCHEMES,
    WIDTHS,
    browser,  # noqa: F401
    check_layout,
    opened,
)
from tests.unit.test_landscape_javascript import agree, rule_jobs  # pyright: ignore[reportMissingImports]

from descend.augment import Pipeline
from descend.augment.apply import levels, rounded
from descend.landscape import Course, Saddle, write_page
from descend.optim import Rule
from descend.pixels import IMAGENET_MEAN, IMAGENET_STD
from descend.report import lesson_page
from descend.technique import build

PLAIN = "(k, v) => ArrayBuffer.isView(v) ? [...v] : typeof v === 'number' && !Number.isFinite(v) ? String(v) : v"
DRAWN = "document.querySelectorAll('#draws figure').length > 1"
PIXELS = """(canvas) => Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("race") / "race.html"
    write_page(Course(surface=Saddle(), n_steps=60), [build(rule, Rule) for rule in ("sgd(lr=1.0)", "adam(lr=0.46)")], page)
    return page


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("lesson") / "lesson.html"
    lesson_page.write_page(page)
    return page


def until(page: Any, condition: str) -> None:
    """Wait for a condition, asked from outside: Playwright's own wait evaluates text, which the page's policy forbids."""
    for _ in range(300):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


def runner(page: Any) -> Callable[[str, Any], Any]:
    """Return what runs a body, which sees GIVEN and ``answer``, among the scripts of an opened page."""

    def run(body: str, given: Any = None) -> Any:
        code = f"(GIVEN) => {{ let said; const answer = (x) => {{ said = JSON.stringify(x, {PLAIN}); }}; {body}; return said; }}"
        return json.loads(page.evaluate(code, given))

    return run


# ------------------------------------------------------------------------------------------------------------- the race


def test_every_rule_walks_in_chromium_as_in_python(browser, race: Path) -> None:  # noqa: F811
    with opened(browser, race) as page:
        agree(rule_jobs(), 25, runner(page))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_race_fits_the_screen_and_can_be_read(browser, race: Path, width: int, scheme: str) -> None:  # noqa: F811
    with opened(browser, race, width=width, scheme=scheme) as page:
        until(page, "document.querySelectorAll('#table tbody tr').length === 2")
        check_layout(page)


def test_the_start_of_the_race_moves_by_keyboard_and_stands_in_the_address(browser, race: Path) -> None:  # noqa: F811
    with opened(browser, race) as page:
        before = page.evaluate("[...course.start]")
        page.focus("#start")
        page.keyboard.press("ArrowRight")
        after = page.evaluate("[...course.start]")
        assert after[0] > before[0]
        until(page, "location.hash.includes('start=')")
        page.keyboard.press("Home")
        assert page.evaluate("[...course.start]") == before


def test_the_start_is_dragged_over_the_map(browser, race: Path) -> None:  # noqa: F811
    with opened(browser, race) as page:
        box, (x, y) = page.locator("#start").bounding_box(), page.evaluate("[...course.start]")
        assert box is not None
        left, top = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        ends = page.evaluate("runs.map(run => run.walks[0].losses.at(-1))")
        page.mouse.move(left, top)
        page.mouse.down()
        page.mouse.move(left + 50, top - 30, steps=5)
        page.mouse.up()
        a, b = page.evaluate("[...course.start]")
        assert a > x
        assert b > y
        page.mouse.move(left, top)  # let go, it stays
        assert page.evaluate("[...course.start]") == [a, b]
        assert page.evaluate("runs.map(run => run.walks[0].losses.at(-1))") != ends


def test_surface_condition_sharpness_noise_and_seeds_are_chosen_and_counted(browser, race: Path) -> None:  # noqa: F811
    def fill(name: str, value: str) -> None:
        rows = page.locator("#knobs .row, #settings .row").filter(has=page.get_by_text(name, exact=True))
        rows.locator("input[type=number]").fill(value)

    with opened(browser, race) as page:
        for knob, value, surface in (("condition", "400", "ravine"), ("sharpness", "2", "saddle")):
            page.select_option("#surface-kind", surface)
            before = page.evaluate("runs.map(run => run.walks[0].losses.at(-1))")
            fill(knob, value)
            assert f"{knob}={value}" in page.inner_text("#command")
            assert page.evaluate("runs.map(run => run.walks[0].losses.at(-1))") != before
        fill("noise", "0.2")
        fill("seeds", "40")
        until(page, "document.querySelector('#counted').textContent.startsWith('40 of 40 seeds walked')")
        head = page.locator("#table th").all_inner_texts()
        assert head[1].startswith("Steps to loss")
        assert any(text.startswith("Left the") for text in head)
        shares = page.locator("#table tbody tr").first.locator(".interval").all_inner_texts()
        assert len(shares) == 2  # arrived, and left: with an interval each
        counted = page.inner_text("#table")
        until(page, "location.hash.includes('seeds=40')")
        address = page.evaluate("location.href")
    with opened(browser, address) as page:
        until(page, "document.querySelector('#counted').textContent.startsWith('40 of 40 seeds walked')")
        assert page.inner_text("#table") == counted  # the address is the whole state


def test_walkers_race_live_and_are_paused(browser, race: Path) -> None:  # noqa: F811
    with opened(browser, race) as page:
        page.emulate_media(reduced_motion="no-preference")
        page.click("#play")
        until(page, "step > 3")
        assert page.evaluate("step < course.steps")
        page.click("#play")
        stopped = page.evaluate("step")
        page.wait_for_timeout(150)
        assert page.evaluate("step") == stopped
        assert page.inner_text("#shown") == f"step {stopped} of 60"


# ----------------------------------------------------------------------------------------------------------- the lesson


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_lesson_fits_the_screen_and_can_be_read(browser, lesson: Path, width: int, scheme: str) -> None:  # noqa: F811
    with opened(browser, lesson, width=width, scheme=scheme) as page:
        until(page, DRAWN)
        for details in page.query_selector_all("details"):
            details.evaluate("(node) => { node.open = true; }")
        check_layout(page)


def canvases(page: Any) -> list[np.ndarray]:
    """Return the pictures on the lesson's page, the stored one first: (SIDE, SIDE, 3) uint8 each."""
    until(page, DRAWN)
    found = [canvas.evaluate(PIXELS) for canvas in page.query_selector_all("#draws canvas")]
    return [np.array(levels, np.uint8).reshape(lesson_page.SIDE, lesson_page.SIDE, 4)[..., :3] for levels in found]


def test_the_pictures_on_the_page_are_what_training_would_see(browser, lesson: Path) -> None:  # noqa: F811
    texts = ["rotate(degrees=30.0)", "color_jitter(hue=0.1)", "flip()", "gamma()", "random_erasing(p=0.5)"]
    with opened(browser, f"{lesson.as_uri()}#augment={';'.join(texts)}&seed=4&id=12&draws=4&first=2") as page:
        stored, *shown = canvases(page)
    assert (stored == lesson_page.photographs()[0][1]).all()  # the picture came through the page as it was
    side, mean, std = lesson_page.SIDE, 255 * torch.tensor(IMAGENET_MEAN), 255 * torch.tensor(IMAGENET_STD)
    pipe = Pipeline(texts, seed=4, size=side, out="uint8")
    for draw, pixels in enumerate(shown, 2):
        draws = pipe.draw([12], (side, side), epoch=0, draw=draw)
        wanted = rounded(levels(torch.from_numpy(stored.copy())[None], draws, mean, std))[0].numpy()
        off = np.abs(pixels.astype(int) - wanted)
        assert off.max() <= 1
        assert (off > 0).mean() < 0.01
        assert (pixels != stored).mean() > 0.1
    assert len(shown) == 4


def test_ones_own_picture_is_drawn_and_what_is_none_is_said(browser, lesson: Path, tmp_path: Path) -> None:  # noqa: F811
    red = io.BytesIO()
    Image.new("RGB", (300, 200), (200, 10, 20)).save(red, "PNG")
    (tmp_path / "notes.png").write_text("no picture", encoding="utf-8")
    with opened(browser, f"{lesson.as_uri()}#augment=flip(p=1.0)&draws=1") as page:
        until(page, DRAWN)
        page.set_input_files("#file", {"name": "red.png", "mimeType": "image/png", "buffer": red.getvalue()})
        until(page, "document.querySelector('#sample').selectedOptions[0].textContent === 'red.png'")
        for pixels in canvases(page):
            assert (pixels == (200, 10, 20)).all()
        page.set_input_files("#file", str(tmp_path / "notes.png"))
        until(page, "!document.querySelector('#wrong').hidden")
        assert "could not be read as a picture" in page.inner_text("#wrong")


def test_settings_move_by_keyboard_change_their_section_and_stand_in_the_address(browser, lesson: Path) -> None:  # noqa: F811
    with opened(browser, lesson) as page:
        until(page, DRAWN)
        page.select_option("#neuron-settings select >> nth=1", "sigmoid")
        until(page, "document.querySelector('#neuron-said').textContent.includes('off by')")
        until(page, "location.hash.includes('neuron_activation=sigmoid')")
        slider = page.locator("#depth-settings input[type=range]").first
        slider.focus()
        before = page.inner_text("#depth-said")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("End")
        until(page, f"document.querySelector('#depth-said').textContent !== {json.dumps(before)}")
        page.select_option("#add-transform", "rotate")
        until(page, "document.querySelector('#command').textContent.includes('rotate')")
        address = page.evaluate("new Promise((done) => setTimeout(() => done(location.href), 400))")
    with opened(browser, address) as page:
        until(page, DRAWN)
        assert page.evaluate("state.neuron_activation") == "sigmoid"
        assert "rotate" in page.inner_text("#command")
        assert page.evaluate("state.depth_last") > 0.2


def test_an_address_that_means_nothing_is_said_and_the_page_still_stands(browser, lesson: Path) -> None:  # noqa: F811
    with opened(browser, f"{lesson.as_uri()}#augment=tilt(degrees=3)") as page:
        until(page, DRAWN)
        assert "tilt is not known here" in page.inner_text("#wrong")
        page.click("#reset")
        until(page, "document.querySelector('#wrong').hidden")
