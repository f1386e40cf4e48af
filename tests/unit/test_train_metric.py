"""What selects the epoch where nobody says: the accuracy, or the balanced one where a technique makes rare classes count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import descend
from descend.errors import KnobError
from descend.train.initial_run import _asked
from descend.train.plan import DataProfile
from descend.train.recipe import Recipe, from_settings
from descend.train.resolve import resolve
from descend.train.run import Run

PHOTOS = DataProfile("photos", n_train=245, n_classes=2, side=375, gray=False)
BALANCING = pytest.mark.parametrize("technique", ["class_weights()", "balanced_sampling(power=0.5)"])


@BALANCING
@pytest.mark.parametrize("transfer", ["scratch", "features", "head", "finetune"])
def test_beside_a_technique_for_rare_classes_it_is_the_balanced_accuracy_and_says_so(technique: str, transfer: str) -> None:
    asked = from_settings({"transfer": transfer, "regularize": technique})
    plan = resolve(asked, PHOTOS)
    assert plan.metric == "balanced_accuracy"
    name = technique.partition("(")[0]
    assert f"  metric     balanced_accuracy  ({name} makes rare classes count, and so does this)" in plan.lines(asked)
    assert resolve(plan.recipe(), PHOTOS).metric == "balanced_accuracy"


@BALANCING
def test_what_is_named_stays_also_when_the_recipe_is_run_again(technique: str) -> None:
    plan = resolve(from_settings({"transfer": "scratch", "regularize": technique, "metric": "accuracy"}), PHOTOS)
    assert plan.metric == "accuracy"
    assert resolve(plan.recipe(), PHOTOS).metric == "accuracy"


def test_otherwise_it_is_the_accuracy_without_a_word() -> None:
    asked = from_settings({"transfer": "scratch", "regularize": "label_smoothing()"})
    plan = resolve(asked, PHOTOS)
    assert plan.metric == "accuracy"
    assert "metric" not in plan.reasons


def test_naming_the_usual_one_asks_for_nothing_where_nothing_is_selected() -> None:
    """Recipes that were written before the metric could be left open name it beside heads that are fitted."""
    assert resolve(from_settings({"transfer": "features", "metric": "accuracy"}), PHOTOS).head.name == "logistic"
    assert resolve(from_settings({"transfer": "features", "metric": "macro_f1"}), PHOTOS).head.name == "linear"
    resolve(from_settings({"transfer": "features", "head": "logistic()", "metric": "accuracy"}), PHOTOS)
    with pytest.raises(KnobError, match="metric: has no effect"):
        resolve(from_settings({"transfer": "features", "head": "logistic()", "metric": "macro_f1"}), PHOTOS)


@pytest.mark.parametrize(("settings", "reasons", "taken"), [
    ({"metric": "accuracy"}, {}, None),
    ({"metric": "macro_f1"}, {}, "macro_f1"),
    ({"metric": "balanced_accuracy", "regularize": "class_weights()"}, {"metric": "class_weights makes ..."}, None),
    ({"metric": "accuracy", "regularize": "class_weights()"}, {}, "accuracy"),
])  # fmt: skip
def test_a_run_that_begins_from_another_takes_what_was_named_there(settings: Any, reasons: Any, taken: str | None) -> None:
    run = SimpleNamespace(recipe=from_settings(settings, Recipe()), record=SimpleNamespace(reasons=reasons))
    assert _asked(cast(Run, run), "metric") == taken


@BALANCING
def test_where_no_class_is_rare_there_is_nothing_to_balance(technique: str, tmp_path: Path) -> None:
    images, labels = np.zeros((12, 16, 16, 3), np.uint8), np.repeat([0, 1], 6)
    images[:] = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1) * 20  # no two are copies
    with pytest.raises(KnobError, match=rf"{technique.partition('(')[0]} has no effect where all classes are equally common"):
        descend.fit((images, labels), out=tmp_path / "run", transfer="scratch", backbone="smallcnn", regularize=technique)
