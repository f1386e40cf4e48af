"""The input pipeline to look at: pictures with their labels, as the network gets them, plain and in several draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from descend.doctor.sample import few_of_each
from descend.doctor.subject import Subject
from descend.errors import KnobError
from descend.outputs import check_output, writing

N_PICTURES, N_DRAWS = 10, 5
SIDE, GAP, LINE = 112, 6, 15  # pixels on the sheet
SHOWN_LABEL = 18  # characters under a picture


def check_sheet_path(path: Path) -> None:
    """Raise KnobError or OutputError unless a sheet can be written there: before the work, not after it."""
    if path.suffix != ".png":
        raise KnobError("--out", "must end in .png", got=str(path))
    check_output("--out", path)


def write_contact_sheet(subject: Subject, path: Path) -> None:
    """Write a PNG: one row per picture, the plain view first, then draws of the augmentation as successive epochs make them.

    Each stands above its label; a mixed one above the two largest shares. Raises KnobError or OutputError (path).
    """
    check_sheet_path(path)
    builder = subject.builder
    rows = few_of_each(builder.dataset, builder.train_rows, per_class=N_PICTURES, most=N_PICTURES, seed=subject.plan.seed)
    columns = [_column(subject, rows, draw) for draw in range(-1, N_DRAWS if subject.plan.augment else 0)]
    width, height = len(columns) * (SIDE + GAP) + GAP, len(rows) * (SIDE + LINE + GAP) + GAP + LINE
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), _font()
    for place, (title, images, labels) in enumerate(columns):
        x = GAP + place * (SIDE + GAP)
        draw.text((x, 2), title, fill="black", font=font)
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            y = GAP + LINE + row * (SIDE + LINE + GAP)
            by = Image.Resampling.NEAREST if len(image) < SIDE else Image.Resampling.BOX  # small pictures show their pixels
            sheet.paste(Image.fromarray(image).resize((SIDE, SIDE), by), (x, y))
            draw.text((x, y + SIDE), label, fill="black", font=font)
    with writing(path) as unfinished:
        sheet.save(unfinished, "PNG")


def _column(subject: Subject, rows: np.ndarray, draw: int) -> tuple[str, np.ndarray, list[str]]:
    """Return a column's title, its images (n, S, S, 3) uint8, and the label under each. draw: -1 for the plain view."""
    builder = subject.builder
    pipeline = builder.pipeline(out="uint8", plain=draw < 0)
    stored, ids, labels = builder.decoded.take(rows), builder.dataset.ids[rows], builder.dataset.labels[rows]
    names = builder.dataset.classes
    where: dict[str, Any] = {"ids": ids, "epoch": max(draw, 0), "step": 0}
    if not pipeline.mixes:
        title = "plain" if draw < 0 else f"draw {draw + 1}"
        return title, pipeline(stored, **where).numpy(), [_short(names[label]) for label in labels]
    images, shares = pipeline(stored, labels, n_classes=len(names), **where)
    return f"draw {draw + 1}", images.numpy(), [_shares(row, names) for row in shares]


def _shares(row: Tensor, names: tuple[str, ...]) -> str:
    values, places = row.topk(min(2, len(row)))
    told = [f"{float(v):.0%} {names[int(k)]}" for v, k in zip(values, places, strict=True) if v > 0]
    return _short(" ".join(told))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_LABEL else text[: SHOWN_LABEL - 1] + "…"


def _font() -> ImageFont.FreeTypeFont:
    """Return a font that has most alphabets: the one that matplotlib brings along."""
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 11)
