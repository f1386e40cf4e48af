"""Pictures and the verb: same bytes for same numbers, what a picture holds, what is printed, what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from descend.cli.surface import main
from descend.drawing import COLORS, save
from descend.errors import DescendError, KnobError
from descend.landscape import (
    Bowl,
    Course,
    Ravine,
    Saddle,
    draw_race,
    draw_slice,
    path_plane,
    race,
    random_plane,
    slice_loss,
)


def drawing(n_dims: int = 2):
    course = Course(surface=Ravine(n_dims=n_dims), n_steps=20)
    return draw_race(course, race(course, ["sgd(lr=0.15)", "momentum(lr=0.05)"], n_seeds=1))


def test_svg_is_the_same_every_time_and_well_formed(tmp_path: Path) -> None:
    save(drawing(), tmp_path / "a.svg")
    save(drawing(), tmp_path / "b.svg")
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes()
    assert len(first) < 150_000
    text = "".join(ElementTree.fromstring(first).itertext())
    for words in ("ravine()", "sgd(lr=0.15)", "momentum(lr=0.05)", "parameter 1", "step", "target 0.001"):
        assert words in text
    assert b"date" not in first.lower()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.svg", "b.svg"]


def test_png_shows_each_optimizer_in_its_own_color(tmp_path: Path) -> None:
    save(drawing(), tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    for color in COLORS[:2]:
        wanted = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])
        assert (np.abs(pixels - wanted).max(-1) < 30).sum() > 200


@pytest.mark.parametrize("title", ["short", "a title of sixty characters and more, as pages give them", 12 * "very long "])
def test_a_title_ends_before_the_next_one_begins(title: str) -> None:
    course = Course(surface=Bowl(), n_steps=5)
    figure = draw_race(course, race(course, ["sgd(lr=0.1)"], n_seeds=1), title=title).figure
    figure.draw_without_rendering()
    left, right = (axes.title if axes.get_title() else axes._left_title for axes in figure.axes)
    assert "minimum" in left.get_text()
    assert left.get_window_extent().x1 < right.get_window_extent().x0


def test_gif_moves(tmp_path: Path) -> None:
    save(drawing(n_dims=5), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 21  # pyright: ignore[reportAttributeAccessIssue]
        first = np.asarray(image.convert("RGB")).astype(int)
        image.seek(20)
        last = np.asarray(image.convert("RGB")).astype(int)
    assert (np.abs(first - last).max(-1) > 40).sum() > 200


def test_a_walk_that_diverges_can_be_drawn(tmp_path: Path) -> None:
    course = Course(surface=Ravine(), n_steps=3000)
    save(draw_race(course, race(course, ["sgd(lr=1.0)"], n_seeds=1)), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000
    far = Course(surface=Ravine(), n_steps=20, start=(1e6, 1e6))  # no loss of it is near
    save(draw_race(far, race(far, ["sgd(lr=1.0)"], n_seeds=1)), tmp_path / "b.svg")
    assert (tmp_path / "b.svg").stat().st_size > 1000


def test_slices_are_drawn(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    states = [{"w": draw.normal(size=(3, 3)) + k} for k in range(5)]

    def loss(state: dict[str, np.ndarray]) -> float:
        total = float((state["w"] ** 2).sum())
        return total if total < 200 else math.inf

    for number, plane in enumerate((random_plane(states[-1]), path_plane(states))):
        save(draw_slice(slice_loss(loss, plane, n=7)), tmp_path / f"{number}.svg")
    assert "principal direction 1" in (tmp_path / "1.svg").read_text(encoding="utf-8")
    save(draw_slice(slice_loss(lambda _: math.inf, random_plane(states[-1]), n=4)), tmp_path / "walls.svg")


def test_pictures_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    found = drawing()
    with pytest.raises(KnobError, match=r"\.svg"):
        save(found, tmp_path / "a.svgz")
    with pytest.raises(KnobError, match=r"folder that exists.* Make it: mkdir -p "):
        save(found, tmp_path / "nowhere" / "a.svg")
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(KnobError, match="not a folder"):
        save(found, tmp_path / "a.svg")


def test_the_verb_prints_counts_with_intervals(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "fig.svg"
    words = [
        "saddle(sharpness=0.5)",
        "--optimizers",
        "sgd(lr=0.1)",
        "momentum",
        "--noise",
        "0.1",
        "--seeds",
        "20",
        "--steps",
        "60",
    ]
    assert main([*words, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    for piece in ("sgd(lr=0.1) ", " *", "* rate tuned: 31 rates", "left the saddle", "95%", f"picture: {out}"):
        assert piece in shown
    assert out.exists()
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trap"] == "the saddle"
    first, second = found["optimizers"]
    assert (first["tuned"], second["tuned"]) == (False, True)
    assert first["escaped"]["n"] == 20
    assert first["escaped"]["low"] <= first["escaped"]["share"] <= first["escaped"]["high"]


def test_the_default_shows_that_sgd_does_not_leave_the_ridge(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["saddle", "--json", "--out", str(tmp_path / "saddle.svg")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["optimizer"].split("(")[0]: row["escaped"]["k"] for row in told["optimizers"]} == {
        "sgd": 0,
        "momentum": 1,
        "adam": 1,
    }
    assert told["spread"] == 0


def test_the_drawn_path_ends_where_the_table_says(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The path's last point, read from the picture, lies as high as the final loss that is printed."""
    for words in (["--spread", "0"], ["--spread", "0.4", "--seeds", "1"]):
        assert main(["bowl", "--optimizers", "sgd(lr=0.02)", "--steps", "9", *words, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)["optimizers"][0]
        course = Course(surface=Bowl(), n_steps=9, spread=float(words[1]))
        (outcome,) = race(course, ["sgd(lr=0.02)"], n_seeds=1)
        left = draw_race(course, [outcome]).moving[0]
        assert Bowl().loss([left.x[-1], left.y[-1]]) == pytest.approx(told["final_loss"], rel=1e-12)


def test_without_randomness_there_is_one_walk_and_no_interval(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bowl", "--optimizers", "sgd(lr=0.5)", "--spread", "0"]) == 0
    shown = capsys.readouterr().out
    assert " 1 seeds" not in shown
    assert "95%" not in shown
    with pytest.raises(KnobError, match="no effect"):
        main(["bowl", "--optimizers", "sgd(lr=0.5)", "--spread", "0", "--seeds", "5"])


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["ravine", "--optimizers", "mometum"], "Did you mean 'momentum'"),
        (["ravine(condition=0.5)"], "condition"),
        (["ravine", "--start", "1"], "2 numbers"),
        (["ravine", "--out", "fig.jpg"], r"\.svg, \.png, \.gif"),
        (["ravine", "--out", "no-such/fig.svg"], r"--out: must lie in a folder that exists.* Make it: mkdir -p no-such"),
        (["ravine", "--page", "no-such/fig.html"], r"--page: must lie in a folder that exists.* Make it: mkdir -p no-such"),
        (["ravine", "--schedule", "cosin"], "Did you mean 'cosine'"),
        (["ravine", "--steps", "0"], "n_steps"),
    ],
)
def test_the_verb_refuses_before_it_walks(words: list[str], match: str) -> None:
    with pytest.raises(DescendError, match=match):
        main(words)


def test_walking_and_drawing_leave_pyplot_alone() -> None:
    code = (
        "import sys; from descend.landscape import *; from descend.landscape.racing import race\n"
        "course = Course(surface=Bowl(), n_steps=3); draw_race(course, race(course, ['sgd(lr=0.1)'], n_seeds=1)).bytes('.svg')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert (Bowl().name, Saddle().name) == ("bowl", "saddle")
