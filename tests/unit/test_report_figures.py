"""The figures beside a report: every one as SVG and PNG, in the page's light colors, whole, the same for the same run."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from tests.unit.test_report_page import HOSTILE, SEARCH, make_run  # pyright: ignore[reportMissingImports]

from descend import report
from descend.errors import RunError
from descend.report.figures import palette

pytestmark = pytest.mark.figures


def figures(run: Path) -> dict[str, bytes]:
    report.write(run)
    return {path.name: path.read_bytes() for path in sorted((run / "figures").iterdir())}


def test_every_figure_is_there_twice_and_the_page_names_it(tmp_path: Path) -> None:
    found = figures(make_run(tmp_path / "run"))
    names = ["accuracy", "confusion-test", "confusion-val", "loss"]
    assert list(found) == [f"{name}.{ending}" for name in names for ending in ("png", "svg")]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "loss, accuracy, confusion-val, confusion-test" in page
    searched = figures(make_run(tmp_path / "other", search=SEARCH, budget_used_s=61.0))
    assert "search.svg" in searched
    assert "loss.svg" not in searched  # its page has no curves


def test_figures_have_the_colors_of_the_page_a_title_and_a_legend(tmp_path: Path) -> None:
    found = figures(make_run(tmp_path / "run"))
    style = (Path(report.page.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    paper, blue = (re.search(rf"--{name}: (#[0-9a-f]{{6}})", style) for name in ("paper", "val"))
    assert paper is not None
    assert blue is not None
    for name in ("loss", "accuracy"):
        text = found[f"{name}.svg"].decode()
        ElementTree.fromstring(text)
        assert blue[1] in text
        assert not re.search("#00000[1-6]", text), "a stand-in color is left"
        words = re.findall(r">([^<>]+)</text>", text)
        assert {name.capitalize(), "training", "validation", "learning rate"} <= set(words)
        pixels = np.asarray(Image.open(tmp_path / "run" / "figures" / f"{name}.png"))
        assert pixels.shape[2] == 3
        wanted = [tuple(int(color[at : at + 2], 16) for at in (1, 3, 5)) for color in (paper[1], blue[1])]
        assert tuple(pixels[0, 0]) == wanted[0]
        assert (pixels == wanted[1]).all(axis=2).sum() > 200
        assert not (pixels < 6).all(axis=2).any(), "a stand-in color is left"
    assert set(palette().values()) <= set(re.findall("#[0-9a-f]{6}", style))


def test_a_matrix_holds_its_counts(tmp_path: Path) -> None:
    found = figures(make_run(tmp_path / "run", confusion={"val": [[70, 3], [0, 80]], "test": [[1, 2], [3, 4]]}))
    words = re.findall(r">([^<>]+)</text>", found["confusion-val.svg"].decode())
    assert [word for word in words if word.isdigit()] == ["70", "3", "80"]  # what did not happen has no number
    assert "Confusions on validation" in words


def test_written_again_they_are_the_same_bytes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert figures(run) == figures(run)


@pytest.mark.parametrize("n_classes", [2, 25, 120])
def test_names_in_any_script_and_many_classes_are_drawn(tmp_path: Path, n_classes: int) -> None:
    names = [*HOSTILE, "कीट $x^2$ \\frac{", "حشرة"]
    classes = [f"{names[k % len(names)]} {k}" for k in range(n_classes)]
    found = figures(make_run(tmp_path / "run", classes, n=4 * n_classes))
    ElementTree.fromstring(found["confusion-val.svg"].decode())
    assert len(found["confusion-val.svg"]) + len(found["confusion-val.png"]) < 500_000


def test_a_run_with_nothing_to_draw_gets_no_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "record.json").write_text('{"schema": 3}')
    report.write(run)
    assert not (run / "figures").exists()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "figures").write_text("a file stands here")
    with pytest.raises(RunError, match="must be writable"):
        report.write(run)
