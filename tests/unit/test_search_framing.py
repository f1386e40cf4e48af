"""How a search decides which part of a picture the network sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.fakes import Listener

from descend.data import Dataset, load
from descend.data.shapes import CropLoss
from descend.errors import KnobError, PictureError
from descend.models import Classifier, SmallCNN
from descend.pixels import Fit
from descend.search import framing
from descend.search.begin import Speeds
from descend.search.framing import Framing
from descend.train.initial_run import TAKEN
from descend.train.plan import DataProfile, Plan
from descend.train.prepare import profile_of
from descend.train.recipe import from_settings
from descend.train.resolve import resolve
from descend.transfer import Linear, make_engine

WIDE = DataProfile("wide", n_train=90, n_classes=2, side=200, gray=False, crop_loss=CropLoss(0.75, 1.0))
N = 120


def marked(folder: Path, shape: tuple[int, int], mark: tuple[slice, slice]) -> Dataset:
    """Return noisy pictures of two classes, of which only what stands in the mark tells the class: light or dark."""
    for k in range(2 * N):
        draw = np.random.default_rng(k)
        pixels = draw.normal(128, 20, (*shape, 3))
        pixels[mark] = 220 if k % 2 else 40
        place = folder / "ab"[k % 2] / f"{k}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place)
    return load(folder)


def with_speeds(own: float) -> tuple[Classifier, Speeds]:
    """Return a network whose usual crop is ``own``, with its engine."""
    body = SmallCNN(width=8).build(0).eval()
    body.crop_fraction = own
    engine = make_engine("torch", body, size=28, taps=body.every_tap)
    return Classifier(body, Linear().build(body.n_features, 2, 0)), Speeds(1000, 1000, 1000, engine, "")


def planned(dataset: Dataset, **settings: Any) -> Plan:
    """Return a search's plan for a network that is not pretrained, at 28 pixels."""
    plan = resolve(from_settings({"transfer": "features", "backbone": "lite0", **settings}), profile_of(dataset))
    return replace(plan, transfer="auto", size=28, engine="torch")


def found(dataset: Dataset, plan: Plan, *, own: float = 0.75, left: float = 1000.0, heard: Listener | None = None) -> Plan:
    clock: Any = SimpleNamespace(left=lambda: left, limited=True)
    return framing.measured(dataset, plan, *with_speeds(own), clock, heard or Listener())


def border(width: int) -> tuple[slice, slice]:
    return slice(0, width), slice(None)


def test_what_stands_at_the_border_is_seen_where_it_tells_the_classes_apart(tmp_path: Path) -> None:
    heard = Listener()
    data = marked(tmp_path, (40, 40), border(3))
    plan = found(data, planned(data), heard=heard)
    assert (plan.fit, plan.crop_pct) == ("crop", 1.0)
    assert "crop of 75% 0." in plan.reasons["fit"]
    assert any("fit        crop of 100%" in line for line in heard.lines)
    assert plan.recipe().crop_pct == 1.0


def test_what_stands_at_the_ends_of_long_pictures_is_seen(tmp_path: Path) -> None:
    data = marked(tmp_path, (30, 54), (slice(None), slice(0, 8)))
    plan = found(data, planned(data))
    assert plan.fit in ("squash", "pad")
    assert plan.crop_pct is None
    assert "squash" in plan.reasons["fit"]
    assert plan.reasons["fit"].startswith(f"held-out loss on {len(data.indices('train')):,} pictures: crop of 75% 0.")


def test_the_usual_way_stays_where_no_other_is_clearly_better(tmp_path: Path) -> None:
    data = marked(tmp_path, (30, 44), (slice(10, 20), slice(16, 28)))
    plan = found(data, planned(data))
    assert (plan.fit, plan.crop_pct) == ("crop", 0.75)
    assert "squash" in plan.reasons["fit"]  # what stands at the ends, no crop can tell


def test_without_time_nothing_is_measured(tmp_path: Path) -> None:
    data = marked(tmp_path, (40, 40), border(3))
    plan = planned(data)
    assert found(data, plan, left=1.0) == plan
    few = data.only(np.arange(60), why="so few")
    assert found(few, plan) == plan


def test_of_many_pictures_no_few_are_compared() -> None:
    """A difference is seldom clear on a hundred pictures; where there are no more, they are all that can tell."""
    _, speeds = with_speeds(0.75)
    speeds.engine.start()
    body: Any = SimpleNamespace(n_columns=lambda taps: 100, feature_sets={"last": ()})
    clock: Any = SimpleNamespace(left=lambda: next(left))
    found = dict[int, set[int]]()
    for n_train in (150, 5000):
        left = iter((0.1, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 1000.0))
        affordable = [framing._n_affordable(n_train, 2, body, replace(speeds, computed=500), clock) for _ in range(8)]
        assert affordable == sorted(affordable)
        found[n_train] = set(affordable)
    assert {0, 150} == found[150]
    assert {0, framing.MOST} < found[5000]
    assert min(found[5000] - {0}) >= framing.ENOUGH


@pytest.mark.parametrize(("left", "told"), [([1.0], "too few"), ([100.0] * 9, "")])
def test_measuring_ends_where_it_takes_longer_than_planned(left: list[float], told: str, tmp_path: Path) -> None:
    data = marked(tmp_path, (40, 40), border(3))
    plan, heard, told_left = planned(data), Listener(), chain([100.0, 100.0], left, repeat(86.0, 20), repeat(1.0))
    clock: Any = SimpleNamespace(left=lambda: next(told_left), limited=True)
    assert framing.measured(data, plan, *with_speeds(0.75), clock, heard) == plan
    assert "could be compared in its time: dropped" in heard.lines[-1]


def test_a_comparison_that_fails_costs_no_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, heard = marked(tmp_path, (40, 40), border(3)), Listener()
    plan = planned(data)
    monkeypatch.setattr(framing.Searched, "of", lambda *_, **__: np.zeros(2**62))
    assert found(data, plan, heard=heard) == plan
    assert "it failed and is dropped" in heard.lines[-1]


def test_a_picture_that_is_readable_in_one_way_alone_ends_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked = marked(tmp_path, (40, 40), border(3)), Counter[str]()
    plan, decode, once = planned(data), framing.decode_resized, data.name_of(int(data.indices("train")[0]))

    def failing(*given: Any, name: str, **more: Any) -> Any:
        asked[name] += 1
        if name == once and asked[name] == 2:
            raise PictureError(name, "must be readable, and is not now")
        return decode(*given, name=name, **more)

    monkeypatch.setattr(framing, "decode_resized", failing)
    assert found(data, plan) == plan


def test_pictures_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    data = marked(tmp_path, (40, 40), border(3))
    broken = data.name_of(int(data.indices("train")[0]))
    (tmp_path / broken).write_bytes(b"no picture any more")
    plan = found(data, planned(data))
    assert f"on {len(data.indices('train')) - 1:,} pictures" in plan.reasons["fit"]


def test_what_somebody_has_said_is_not_measured(tmp_path: Path) -> None:
    data = marked(tmp_path, (30, 44), border(3))

    def ways(**settings: Any) -> list[str]:
        return [" or ".join(map(str, alike)) for alike in framing.framings(data, planned(data, **settings), 0.875)]

    assert ways() == ["crop of 88% or crop of 100%", "squash or pad"]
    assert ways(fit="crop") == ["crop of 88% or crop of 100%"]
    assert ways(fit="squash") == ["squash"]
    assert ways(crop_pct=0.9) == ["crop of 90%"]
    bent = replace(planned(data), fit="squash")  # by their shapes
    assert [str(way) for way in chain(*framing.framings(data, bent, 1.0))] == ["squash", "pad", "crop of 100%"]
    taken = replace(planned(data), reasons={"fit": TAKEN})
    assert framing.framings(data, taken, 0.875) == [[Framing("crop", 0.875)]]
    square = marked(tmp_path / "square", (40, 40), border(3))
    assert framing.framings(square, planned(square), 1.0) == [[Framing("crop", 1.0)]]


@pytest.mark.parametrize(("fit", "background"), [("pad", "gray"), ("squash", "white"), ("crop", "white")])
def test_bars_beside_opaque_pictures_are_gray_however_pad_was_chosen(fit: Fit, background: str, tmp_path: Path) -> None:
    data = marked(tmp_path, (30, 44), border(3))
    assert data.opaque
    assert data.fitted(fit).policy.background == background
    assert load(tmp_path, fit=fit).policy == data.fitted(fit).policy


def test_crop_pct_goes_with_a_crop_only() -> None:
    with pytest.raises(KnobError, match=r"crop_pct: has no effect with fit='pad', which keeps all of a picture, got 0.9"):
        resolve(from_settings({"fit": "pad", "crop_pct": 0.9}), WIDE)
    plan = resolve(from_settings({"crop_pct": 0.9}), WIDE)  # by their shapes alone they would be squashed
    assert (plan.fit, plan.reasons["fit"]) == ("crop", "crop_pct is asked for")
    with pytest.raises(KnobError, match="crop_pct"):
        from_settings({"crop_pct": 0.4})
