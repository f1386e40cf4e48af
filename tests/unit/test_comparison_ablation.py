"""``descend ablate``: which techniques a recipe has, the ladder with and without them, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from tests.fake_runs import fake_fit  # pyright: ignore[reportMissingImports]

import descend
import descend.api
from descend.cli import main
from descend.cli.ablate import with_recipe
from descend.comparison import Ablation, Settings, ablate, load_ablation
from descend.comparison.recipe_parts import parts
from descend.errors import DataError, KnobError, SpecError
from descend.progress import Silent
from descend.schedule import Schedule, Then
from descend.technique import build
from descend.train.recipe import Recipe

BOTH = Recipe(
    data="digits", transfer="scratch", backbone="smallcnn(width=16)", epochs=1, augment=("pad_crop(padding=1)",),
    regularize=("dropout(p=0.1)",), optimizer="sgd(lr=0.1)", schedule="constant",
)  # fmt: skip


def worth(recipe: Recipe) -> float:
    """Return an accuracy to which the crops add 10 points beside dropout, and nothing alone."""
    return 0.6 + 0.2 * bool(recipe.regularize) + 0.1 * bool(recipe.regularize and recipe.augment)


def ladder(recipe: Recipe, out: Path, made: list[Recipe] | None = None, *, seeds: int = 3, **settings: Any) -> Ablation:
    how = fake_fit(worth, [] if made is None else made)
    return ablate(recipe, Settings(n_seeds=seeds), **how, out=out, progress=Silent(), **settings)


def test_the_techniques_of_a_recipe() -> None:
    recipe = replace(
        BOTH, augment=("flip(p=0.5)", "random_erasing()"), gradients=("clip_norm(max_norm=1.0)",), head="mlp(hidden=8)",
        optimizer="ema(inner=adamw(lr=0.001))", schedule="then(warmup(fraction=0.1), cosine())",
    )  # fmt: skip
    found = {part.name: part for part in parts(recipe)}
    assert list(found) == ["flip", "random_erasing", "dropout", "clip_norm", "warmup", "cosine", "ema", "weight_decay", "mlp"]
    assert found["flip"].without(recipe).augment == ("random_erasing()",)
    assert found["warmup"].without(recipe).schedule == "cosine()"
    assert found["cosine"].without(recipe).schedule == "then(parts=[warmup(fraction=0.1), constant()])"
    assert found["ema"].without(recipe).optimizer == "adamw()"
    assert found["weight_decay"].without(recipe).optimizer == "ema(inner=adamw(weight_decay=0.0))"
    assert found["mlp"].without(recipe).head == "linear()"
    for order in (found.values(), [*found.values()][::-1]):
        bare: Recipe = reduce(lambda left, part: part.without(left), order, recipe)
        assert (bare.augment, bare.regularize, bare.gradients, bare.schedule) == ((), (), (), "constant()")
        assert (bare.optimizer, bare.head) == ("adamw(weight_decay=0.0)", "linear()")
        assert parts(bare) == []


def test_views_and_their_augmentation_go_together() -> None:
    one = replace(BOTH, transfer="features", views=4, augment=("flip(p=0.5)",), regularize=())
    assert [part.name for part in parts(one)] == ["views"]
    assert (parts(one)[0].without(one).views, parts(one)[0].without(one).augment) == (0, ())


def test_a_penalty_that_sets_the_weight_decay_is_one_technique() -> None:
    recipe = replace(BOTH, regularize=("l2(strength=0.01)",), optimizer="adamw(lr=0.001)", augment=())
    assert [part.name for part in parts(recipe)] == ["l2"]


def test_without_the_penalty_that_sets_it_there_is_no_weight_decay() -> None:
    penalties = ("l2(strength=0.001)", "dropout(p=0.1)")
    recipe = replace(BOTH, regularize=penalties, optimizer="ema(inner=adamw(lr=0.002))", augment=())
    found = {part.name: part for part in parts(recipe)}
    left = found["l2"].without(recipe)
    assert (left.regularize, left.optimizer) == (penalties[1:], "ema(inner=adamw(lr=0.002, weight_decay=0.0))")
    assert found["dropout"].without(recipe).optimizer == recipe.optimizer
    for order in (found.values(), [*found.values()][::-1]):
        bare: Recipe = reduce(lambda left, part: part.without(left), order, recipe)
        assert bare.optimizer == "adamw(lr=0.002, weight_decay=0.0)"
        assert parts(bare) == []


@pytest.mark.parametrize(
    ("rest", "without"),
    [
        (["during(constant(), fraction=0.3)", "during(cosine(), fraction=0.5)"], [0.375, 0.625]),
        (["during(constant(), fraction=0.4)", "cosine()"], [0.5, None]),
        (["per_epoch(during(constant(), fraction=0.3))", "warmup(fraction=0.5)"], [0.375, 0.625]),
    ],
)
def test_without_a_warmup_the_others_share_the_whole_run(rest: list[str], without: list[float | None]) -> None:
    recipe = replace(BOTH, schedule=f"then(warmup(fraction=0.2), {', '.join(rest)})")
    schedule = build(next(part for part in parts(recipe) if part.name == "warmup").without(recipe).schedule or "", Schedule)
    assert isinstance(schedule, Then)
    assert [part.share() for part in schedule.parts] == pytest.approx(without)


@pytest.mark.parametrize(
    ("alone", "whole"),
    [("during(cosine(), fraction=0.8)", "cosine()"), ("per_epoch(during(cosine(), fraction=0.8))", "per_epoch(inner=cosine())")],
)
def test_what_a_warmup_leaves_alone_has_the_whole_run(alone: str, whole: str) -> None:
    recipe = replace(BOTH, schedule=f"then(warmup(fraction=0.2), {alone})")
    assert next(part for part in parts(recipe) if part.name == "warmup").without(recipe).schedule == whole


def test_steps_of_a_search_are_techniques() -> None:
    steps = ("part(share=0.5)", "features(size=224, share=0.2)", "features(size=224)", "features(size=256, mirrored=True)",
             'finetune(size=128, freeze_to="b", lr=0.01, n_steps=9)',
             'finetune(size=128, freeze_to="b", lr=0.01, n_steps=9, draw=1)')  # fmt: skip
    recipe = Recipe(data="x", steps=steps)
    found = parts(recipe)
    assert [part.name for part in found] == ["features:256px,mirrored", "finetune:128px", "finetune:128px#2"]
    assert found[1].without(recipe).steps == (*steps[:4], steps[5])
    with pytest.raises(KnobError, match="keeps a limit"):
        parts(Recipe(data="x", steps=(*steps, "keep(members=[0])")))


def test_leave_one_out_and_add_one_in(tmp_path: Path) -> None:
    made: list[Recipe] = []
    found = ladder(BOTH, tmp_path / "one", made)
    rungs = {rung.name: rung for rung in found.rungs()}
    assert list(rungs) == ["base", "drop:pad_crop", "drop:dropout", "bare", "bare add:pad_crop", "bare add:dropout"]
    points = {name: round(100 * rung.verdict.known.interval.mean) for name, rung in rungs.items() if rung.verdict}
    assert points == {"drop:pad_crop": -10, "drop:dropout": -30, "bare": -30, "bare add:pad_crop": 0, "bare add:dropout": 20}
    different = {name for name, rung in rungs.items() if rung.verdict and rung.verdict.different}
    assert different == {"drop:pad_crop", "drop:dropout", "bare", "bare add:dropout"}
    assert rungs["bare add:dropout"].against == "bare"
    assert len(made) == 3 * 4  # without the first of two is the second alone: one run under two names
    assert rungs["base"].costs.wall_s == 1.5
    assert rungs["base"].costs.memory.endswith((" MB", " GB")) or rungs["base"].costs.peak_bytes is None
    assert "bare add:dropout against bare: better by 20.0 points" in str(found)


def test_it_is_written_read_and_taken_again(tmp_path: Path) -> None:
    found, made = ladder(BOTH, tmp_path / "one"), list[Recipe]()
    again = load_ablation(found.folder)
    assert [rung.facts() for rung in again.rungs()] == [rung.facts() for rung in found.rungs()]
    lines = [json.loads(line) for line in (found.folder / "ablation.jsonl").read_text().splitlines()]
    assert (lines[0]["schema"], lines[0]["techniques"]) == (1, ["pad_crop", "dropout"])
    assert [line["kind"] for line in lines] == ["ablation", *["rung"] * 6]
    assert (found.folder / "ladder.png").read_bytes()[:4] == b"\x89PNG"
    assert "drop:pad_crop" in (found.folder / "ladder.svg").read_text()
    assert len(found.frame) == 6
    wider = ladder(BOTH, tmp_path / "two", made, seeds=4, add=["label_smoothing(amount=0.1)"])
    assert {recipe.seed for recipe in made if "label" not in str(recipe.regularize)} == {3}
    assert wider.rungs()[-1].name == "add:label_smoothing(amount=0.1)"
    assert all(
        rung.costs.peak_bytes == before.costs.peak_bytes for rung, before in zip(again.rungs(), found.rungs(), strict=True)
    )


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    class Stops(Silent):
        def say(self, text: str) -> None:
            if "seed 1" in text:
                raise KeyboardInterrupt

    made: list[Recipe] = []
    how = fake_fit(worth, made)
    stopped = ablate(BOTH, Settings(n_seeds=3), **how, out=tmp_path / "one", progress=Stops())
    assert stopped.interrupted
    assert stopped.ended.startswith("stopped")
    assert (stopped.folder / "ladder.png").exists()
    n = len(made)
    ladder(BOTH, tmp_path / "one", made)
    assert len(made) == 12
    assert n == 5


def test_a_recipe_that_fails_leaves_a_gap(tmp_path: Path) -> None:
    how = fake_fit(lambda recipe: worth(recipe) if recipe.regularize else None, [])
    found = ablate(BOTH, Settings(n_seeds=2), **how, out=tmp_path / "one", progress=Silent())
    assert {rung.name for rung in found.rungs() if rung.verdict} == {"drop:pad_crop"}
    assert sum("failed" in line for line in found.lines()) >= 3


@pytest.mark.parametrize(
    ("changes", "add", "error", "words"),
    [
        ({"augment": (), "regularize": ()}, (), KnobError, "techniques to leave out.*--augment"),
        ({}, ("mixpu()",), SpecError, "mixup"),
        ({}, ("adam",), KnobError, "optimizer=adam"),
        ({}, ("mixup(alpha=0.2)", "mixup(alpha=0.2)"), KnobError, "differ"),
        ({}, ("dropout(p=0.3)",), KnobError, "(?s)once.*in add:dropout"),
        ({"data": "nowhere/at/all"}, (), DataError, "nowhere"),
    ],
)
def test_what_cannot_be_ablated_is_said(
    tmp_path: Path, changes: dict[str, Any], add: tuple[str, ...], error: type[Exception], words: str
) -> None:
    made: list[Recipe] = []
    with pytest.raises(error, match=words):
        ladder(replace(BOTH, **changes), tmp_path / "one", made, add=add)  # pyright: ignore[reportArgumentType]
    assert made == []


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descend.api, "fit", fake_fit(worth, [])["fit"])
    (tmp_path / "own.toml").write_text('augment = ["pad_crop"]\nschedule = "constant"\noptimizer = "sgd(lr=0.1)"\nepochs = 1\n')
    words = ["--backbone", "smallcnn(width=16)", "--batch-size", "128", "--threads", "1", "--seeds", "1"]
    out = ["--out", str(tmp_path / "c" / "one")]
    assert main(["ablate", str(tmp_path / "own.toml"), "digits", *words, *out, "--budget", "1h"]) == 0
    told = capsys.readouterr().out
    assert "drop:pad_crop against base" in told
    assert "bare" not in told  # without its one technique the recipe is bare
    assert main(["ablate", "digits", "--recipe", str(tmp_path / "own.toml"), *words, *out, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [rung["name"] for rung in facts["rungs"]] == ["base", "drop:pad_crop"]
    run = next((tmp_path / "c" / "shared-runs").glob("base-*"))
    assert with_recipe("ablate", {"data": str(run), "second": "digits"}) == {"data": "digits", "recipe": run / "recipe.toml"}
    assert main(["ablate", str(run), "digits", "--recipe", "x.toml"]) == 2
    assert main(["ablate"]) == 2


def test_a_budget_for_less_than_one_run_each_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(KnobError, match="one run of each candidate: about"):
        ablate(BOTH, Settings(budget="1ms"), **fake_fit(worth, []), out=tmp_path / "one", progress=Silent())


def test_python_reaches_it() -> None:
    with pytest.raises(KnobError, match="techniques to leave out"):
        descend.ablate("digits", augment=[], schedule="constant", optimizer="sgd", seeds=1)
