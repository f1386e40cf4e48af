"""The gallery of draws: valid and self-contained, its pictures those of the pipeline, its words those of the draws."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from descend import data
from descend.augment import Augmentation, Pipeline, expand
from descend.augment.label_safety import Flips, Safety, Trial
from descend.errors import DataError, KnobError
from descend.report import gallery
from descend.technique import build

LABELS = np.array(["ants", "<b>bees</b>", "wasps"])[np.arange(24) % 3]
IMAGES = np.random.default_rng(2).integers(0, 256, (24, 5, 5, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Every element closed in order; collects words and images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.n_images = 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.n_images += tag == "img"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\xa0", " ").split())


@pytest.fixture(scope="module")
def dataset() -> data.Dataset:
    return data.load((IMAGES, LABELS), threads=1)


def shown(dataset: data.Dataset, *specs: str, n: int = 3, n_draws: int = 4) -> tuple[gallery.Shown, ...]:
    return gallery.pictures(dataset, expand(specs), n=n, n_draws=n_draws, size=None, seed=6)


def test_classes_take_turns_and_every_draw_is_that_of_the_pipeline(dataset: data.Dataset) -> None:
    found = shown(dataset, "rotate()", "flip()", "normalize()")
    assert {picture.label for picture in found} == set(LABELS)
    assert [len(picture.draws) for picture in found] == [4] * 3
    row = next(row for row in range(24) if dataset.name_of(row) == found[1].name)
    pipe = Pipeline(["rotate()", "flip()"], seed=6, out="uint8")
    made = pipe(IMAGES[row : row + 1], ids=dataset.ids[row : row + 1], epoch=0, draw=2)[0].numpy()
    jpeg = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1].draws[2].jpeg))))
    jpeg = np.asarray(Image.fromarray(jpeg).resize((80, 80), Image.Resampling.BOX)).astype(float)
    same, other = (np.corrcoef(jpeg.ravel(), picture.astype(float).ravel())[0, 1] for picture in (made, IMAGES[row]))
    assert same > 0.9 > other, "JPEG blurs a little, and only this draw resembles it"
    angle = pipe.draw(dataset.ids[row : row + 1], (80, 80), epoch=0, draw=2).describe()[0]["rotate.degrees"]
    assert ("rotate", f"degrees {angle:.3g}".replace("-", "−")) in found[1].draws[2].parameters


def test_captions_leave_out_what_was_not_done() -> None:
    noted = {"blur.sigma": None, "rotate.degrees": -0.0, "random_erasing.erased": False, "random_erasing.top": 4,
             "flip.flipped": True, "perspective.corners": [[0.5, -1.0]], "mixup.partner": 3}  # fmt: skip
    assert list(gallery.captions(noted)) == [("rotate", "degrees 0"), ("flip", ""), ("perspective", "corners ((0.5, −1))")]


def test_mixed_pictures_tell_their_shares(dataset: data.Dataset) -> None:
    for picture in shown(dataset, "mixup(alpha=1.0)"):
        for draw in picture.draws:
            shares = [float(part) for part in re.findall(r"([\d.]+)\s*%", dict(draw.parameters)["target"])]
            assert sum(shares) == pytest.approx(100, abs=0.11)


def test_the_page_is_valid_loads_nothing_and_escapes_names(dataset: data.Dataset, tmp_path: Path) -> None:
    transforms = expand(["rotate()"])
    flips = (Flips("<b>bees</b>", 30, 40, "ants", 29), Flips("ants", 0, 40, None, 0))
    found = Safety(transforms[0], (Trial(build("rotate(degrees=7.5)", Augmentation), flips),), 0.05)
    path = tmp_path / "g.html"
    gallery.write(path, "a & b", transforms, shown(dataset, "rotate()"), [found])
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.n_images == 3 * 5
    assert "<b>bees" not in text
    assert "<b>bees</b>" in page.text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "<script" not in text
    for words in ("a & b", "rotate()", "leave rotate out", "75.0%", "0.0%", "5.0%"):
        assert words in page.text, words


def test_without_safety_the_page_does_not_speak_of_it(dataset: data.Dataset, tmp_path: Path) -> None:
    gallery.write(tmp_path / "g.html", "x", expand(["flip()"]), shown(dataset, "flip()", n=1, n_draws=1))
    assert "flip" in (text := Page((tmp_path / "g.html").read_text(encoding="utf-8")).text)
    assert "Which answers" not in text
    assert "transform makes of 1 picture" in text


@pytest.mark.parametrize(("n", "n_draws"), [(0, 3), (2, 0)])
def test_nothing_to_show_is_refused(dataset: data.Dataset, n: int, n_draws: int) -> None:
    with pytest.raises(KnobError, match="gallery"):
        shown(dataset, "flip()", n=n, n_draws=n_draws)


def test_pictures_that_cannot_be_decoded_are_passed_over(shapes: Path, tmp_path: Path) -> None:
    root = shutil.copytree(shapes, tmp_path / "shapes")
    whole = data.load(root, threads=1)
    first = whole.name_of(int(whole.indices("train")[0]))
    (root / first).write_bytes((root / first).read_bytes()[:-200])  # cut short since it was looked at
    everything = len(whole.indices("train"))
    names = [picture.name for picture in shown(whole, "flip()", n=everything, n_draws=1)]
    assert len(names) == everything - 1
    assert first not in names
    for file in root.rglob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="one picture that can be decoded"):
        shown(whole, "flip()")
