"""``--backbone auto``: chosen once, from what is at hand, and written down. The hub is a folder; there is no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fake_hub import empty_hub, put_into_cache  # pyright: ignore[reportMissingImports] (pytest finds it)

import descend
from descend.cli import main
from descend.errors import KnobError, ModelError
from descend.models import LADDER, LadderEntry, available_backbones, hub
from descend.progress import Silent
from descend.train import auto_backbone

FEATURES: dict[str, Any] = {"transfer": "features", "engine": "torch"}
STRONG = "mobilenetv4_conv_medium.e500_r256_in1k"


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache and no network."""
    return empty_hub(monkeypatch, tmp_path)


@pytest.fixture
def cached(alone: Path) -> None:
    """Random weights of one strong backbone, as the hub client would have left them."""
    put_into_cache(alone, STRONG)


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(
    "settings",
    [
        {"transfer": "features"},
        pytest.param({"transfer": "head", "epochs": 1, "size": 64}, marks=pytest.mark.slow),
        pytest.param({"transfer": "finetune", "epochs": 1, "size": 64}, marks=pytest.mark.slow),
    ],
    ids=lambda settings: settings["transfer"],
)
def test_the_strongest_in_the_cache_is_chosen_told_written_and_not_chosen_again(
    settings: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    run = descend.fit(shapes, out=tmp_path / "run", backbone="auto", engine="torch", progress=told, **settings)
    assert f"model='{STRONG}'" in (run.recipe.backbone or "")
    assert run.recipe.download is None
    assert run.recipe.size == settings.get("size", 256)
    reason = run.record.reasons["backbone"]
    assert "86.3% on ImageNet-ReaL" in reason
    assert "pictures/s" in reason
    assert any("backbone" in line and reason in line for line in told.lines)
    assert reason.split(";")[0] in (run.folder / "report.html").read_text(encoding="utf-8")
    assert len(descend.load(run.folder).predict(shapes).labels) == 36

    def never(*_: object) -> None:
        raise AssertionError("it was chosen already")

    monkeypatch.setattr(auto_backbone, "choose_backbone", never)
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "again")
    assert again.recipe.backbone == run.recipe.backbone


def test_offline_with_nothing_cached_what_came_by_pip_is_chosen_and_more_is_pointed_to(shapes: Path, tmp_path: Path) -> None:
    present = [entry.name for entry in available_backbones()]
    run = descend.fit(shapes, out=tmp_path / "run", backbone="auto", **FEATURES)
    assert (run.recipe.backbone or "").split("(")[0] == present[-1].split("(")[0] in ("lite0", "lite2")
    assert "--download lets stronger ones be fetched" in run.record.reasons["backbone"]


def test_too_many_pictures_for_the_time_leave_the_quickest(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_backbone, "LIMIT_S", 1e-3)
    run = descend.fit(shapes, out=tmp_path / "run", backbone="auto", size=64, **FEATURES)
    assert (run.recipe.backbone or "").startswith("lite")
    assert "the quickest at hand" in run.record.reasons["backbone"]


def test_a_hub_that_does_not_answer_is_told(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "answers", lambda address: False)
    command = [
        "fit",
        str(shapes),
        "--backbone",
        "auto",
        "--download",
        "--size",
        "64",
        "--engine",
        "torch",
        "--transfer",
        "features",
    ]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert "the hub does not answer" in descend.load(tmp_path / "run").record.reasons["backbone"]


def test_what_the_hub_does_not_give_after_all_is_left_out(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def refused(name: str, _: object) -> None:
        fetched.append(name)
        raise ModelError(name, "must be within reach")

    def offered(download: bool) -> list[LadderEntry]:
        assert download
        return [LADDER[0], next(entry for entry in LADDER if entry.name == STRONG)]

    monkeypatch.setattr("descend.models.pretrained._fetched", refused)
    monkeypatch.setattr(auto_backbone, "available_backbones", offered)
    run = descend.fit(shapes, out=tmp_path / "run", backbone="auto", download=True, size=64, **FEATURES)
    assert fetched == [STRONG]
    assert (run.recipe.backbone or "").startswith("lite0")


def test_a_rung_of_a_fixed_size_is_left_out_where_another_size_is_asked_for(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = next(entry for entry in LADDER if entry.architecture.fixed_size)
    monkeypatch.setattr(auto_backbone, "available_backbones", lambda download: [LADDER[0], fixed])
    run = descend.fit(shapes, out=tmp_path / "run", backbone="auto", size=64, **FEATURES)
    assert (run.recipe.backbone or "").startswith("lite0")


def test_a_hub_that_answers_is_not_called_silent_where_pips_packages_are_missing(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = [entry for entry in LADDER if entry.name not in ("lite1()", "lite2()")]
    monkeypatch.setattr(auto_backbone, "available_backbones", lambda download: offered)
    monkeypatch.setattr(auto_backbone, "LIMIT_S", 1e-4)
    run = descend.fit(shapes, out=tmp_path / "run", backbone="auto", download=True, size=64, **FEATURES)
    assert (run.recipe.backbone or "").startswith("lite0")
    assert "does not answer" not in run.record.reasons["backbone"]


def test_small_pictures_keep_their_own_default(tmp_path: Path) -> None:
    run = descend.fit("digits", out=tmp_path / "run", backbone="auto", epochs=1, augment=[])
    assert (run.recipe.backbone or "").startswith("smallcnn")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"download": True}, r"download: has no effect unless the backbone is chosen"),
        ({"download": True, "backbone": "lite0"}, r"download: has no effect unless the backbone is chosen"),
        ({"backbone": "auto", "weights": "mine.pt"}, r"backbone: must be named where its weights come from a file"),
        ({"backbone": "auto", "download": True, "transfer": "scratch"}, r"download: has no effect with transfer='scratch'"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], words: str, shapes: Path, tmp_path: Path) -> None:
    given = {**settings}
    if "weights" in given:
        given["weights"] = tmp_path / "mine.pt"
        given["weights"].write_bytes(b"")
    with pytest.raises(KnobError, match=words):
        descend.fit(shapes, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()
