"""Whole runs on small made pictures: the promises of every transfer mode, of resuming, and of the run folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import StopAfter  # pyright: ignore[reportMissingImports] (pytest finds it)

import descend
from descend.errors import DataError, DescendError, KnobError, RunError
from descend.progress import Silent
from descend.regularize import Dropout
from descend.train import state_file
from descend.train.run import Run

SMALL: dict[str, Any] = {"size": 64, "epochs": 3, "batch_size": 8, "engine": "torch", "seed": 1}


def weights(run: Run, part: str = "") -> dict[str, torch.Tensor]:
    """Return the saved tensors whose name begins with ``part``."""
    return {name: value for name, value in load_file(run.folder / "model.safetensors").items() if name.startswith(part)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Return whether both hold the same names and the same bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def by_features(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return descend.fit(shapes, out=tmp_path_factory.mktemp("runs") / "features", transfer="features", **SMALL)


def test_the_cost_of_features_is_told_only_where_some_must_be_computed(shapes: Path, tmp_path: Path) -> None:
    class Heard(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    told: list[list[str]] = []
    for name in ("first", "second"):
        heard = Heard()
        settings = {"transfer": "features", "size": 56, "seed": 9}  # a size of its own: nothing lies in the cache
        run = descend.fit(shapes, out=tmp_path / name, progress=heard, **settings)
        told.append([line for line in heard.lines if line.startswith("features of")])
    first, second = told
    n_train = run.record.data["splits"]["train"]
    assert [line.split(":")[0] for line in first] == [f"features of {n_train} views", f"features of {36 - n_train} views"]
    assert second == []


def test_the_run_folder_is_complete(by_features: Run) -> None:
    names = {path.name for path in by_features.folder.iterdir()}
    assert names >= {
        "recipe.toml",
        "metrics.jsonl",
        "model.safetensors",
        "checkpoint.safetensors",
        "predictions.csv",
        "report.html",
        "record.json",
    }
    assert not [name for name in names if name.endswith(".part")]
    lines = [json.loads(line) for line in (by_features.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert by_features.record.status == "finished"
    assert by_features.record.test is not None
    assert len(by_features.record.test_looks) == 1


def test_summary_is_what_the_command_line_prints(by_features: Run) -> None:
    found = json.loads(json.dumps(by_features.summary()))
    assert set(found) >= {"run", "chosen", "val", "test", "wall_s", "images_per_s", "seed"}
    assert set(found["chosen"]) == {"transfer", "backbone", "size", "engine", "epoch"}
    assert found["val"]["n"] == sum(n for *_, n in by_features.record.confused["val"])


def test_head_on_pictures_gives_the_same_head_as_features_bit_for_bit(by_features: Run, shapes: Path, tmp_path: Path) -> None:
    run = descend.fit(shapes, out=tmp_path / "head", transfer="head", augment=[], **SMALL)
    assert same(weights(run, "head."), weights(by_features, "head."))
    assert weights(run, "head.")["head.weight"].abs().max() > 0


def test_frozen_parameters_and_buffers_are_what_they_were(by_features: Run) -> None:
    frozen = by_features.record.frozen
    assert frozen["before"] == frozen["after"]
    from descend.models import Lite0

    fresh = {f"backbone.{name}": value for name, value in Lite0().build(0).state_dict().items()}
    assert same(weights(by_features, "backbone."), fresh)


def test_recipe_trains_the_same_run_again(by_features: Run, tmp_path: Path) -> None:
    again = descend.fit(recipe=by_features.folder / "recipe.toml", out=tmp_path / "again")
    assert same(weights(again), weights(by_features))
    assert (again.folder / "recipe.toml").read_text() == (by_features.folder / "recipe.toml").read_text()


def test_views_bring_augmentation_into_features(shapes: Path, by_features: Run, tmp_path: Path) -> None:
    run = descend.fit(shapes, out=tmp_path / "views", transfer="features", views=2, augment=["flip(p=1.0)"], **SMALL)
    assert not same(weights(run, "head."), weights(by_features, "head."))


@pytest.mark.parametrize(
    "settings",
    [
        {"transfer": "finetune", "augment": ["flip"]},
        {"transfer": "finetune", "freeze_to": "block4", "augment": []},
        {"transfer": "finetune", "freeze_to": "block4", "augment": ["pad_crop(padding=4)"], "head": "mlp(hidden=8)"},
    ],
    ids=["whole", "cached-boundary", "engine-boundary"],
)
def test_finetuning_moves_what_it_should_and_only_that(
    shapes: Path, tmp_path: Path, settings: dict[str, Any], by_features: Run
) -> None:
    run = descend.fit(shapes, out=tmp_path / "run", **{**SMALL, "epochs": 1, "snapshots": 2, **settings})
    assert run.record.status == "finished"
    start, end = (load_file(run.folder / "snapshots" / f"{n:04d}.safetensors") for n in (0, 1))
    moved = {
        name.split("stages.")[1].split(".")[0] for name in start if "stages." in name and not torch.equal(start[name], end[name])
    }
    stages = run.classifier.backbone.stage_names
    frozen = set(stages[: stages.index(settings["freeze_to"]) + 1]) if "freeze_to" in settings else set()
    assert moved == set(stages) - frozen
    kept = {
        name for name, value in weights(run, "backbone.").items() if torch.equal(value, weights(by_features, "backbone.")[name])
    }
    assert {name.split(".")[2] for name in kept} >= frozen
    assert run.record.frozen["before"] == run.record.frozen["after"]
    named = [name for group in run.record.parameter_groups for name in group["names"]]
    assert len(named) == len(set(named))


SCRATCH: dict[str, Any] = {
    "transfer": "scratch", "backbone": "smallcnn(width=8)", "size": 16, "epochs": 3, "batch_size": 8, "seed": 2,
    "augment": ["pad_crop(padding=2)", "flip", "mixup"],
}  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], Run]:
    """Return a function that trains with settings, and answers from an equal run if there is one."""
    runs = dict[str, Run]()

    def trained(settings: dict[str, Any]) -> Run:
        if str(settings) not in runs:
            runs[str(settings)] = descend.fit(shapes, out=tmp_path_factory.mktemp("runs") / "whole", **settings)
        return runs[str(settings)]

    return trained


@pytest.mark.parametrize(
    ("settings", "n"),
    [(SCRATCH, 8), (SCRATCH, 24), (SCRATCH, 40), ({"transfer": "features", "head": "mlp(hidden=8)", **SMALL}, 32)],
    ids=["scratch, first step", "scratch, end of an epoch", "scratch, in the second epoch", "features"],
)
def test_resumed_is_bit_identical_to_uninterrupted(
    shapes: Path, tmp_path: Path, uninterrupted: Callable[[dict[str, Any]], Run], settings: dict[str, Any], n: int
) -> None:
    whole = uninterrupted(settings)
    cut = descend.fit(shapes, out=tmp_path / "cut", progress=StopAfter(n), **settings)
    assert cut.record.status == "interrupted"
    assert cut.record.test is None
    resumed = descend.resume(tmp_path / "cut")
    assert resumed.record.status == "finished"
    assert same(weights(resumed), weights(whole))
    assert (tmp_path / "cut" / "predictions.csv").read_text() == (whole.folder / "predictions.csv").read_text()
    assert untimed(tmp_path / "cut") == untimed(whole.folder)
    assert resumed.record.reasons == whole.record.reasons  # what was asked for is told from defaults as before


def untimed(run: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run without what a clock decides."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("wall_s", "images_per_s")} for row in rows]


def test_a_finished_run_is_not_resumed(by_features: Run) -> None:
    with pytest.raises(RunError, match="finished"):
        descend.resume(by_features.folder)


def test_an_interrupted_run_predicts(shapes: Path, tmp_path: Path) -> None:
    settings = {"transfer": "scratch", "backbone": "smallcnn(width=8)", "size": 16, "epochs": 2, "batch_size": 8}
    run = descend.fit(shapes, out=tmp_path / "cut", progress=StopAfter(8), **settings)
    assert descend.load(run.folder).predict(shapes / "disc").probabilities.shape == (12, 3)


def test_changed_data_are_not_resumed(tmp_path: Path) -> None:
    from tests.conftest import StopAfter, shapes_folder  # pyright: ignore[reportMissingImports]

    data = shapes_folder(tmp_path / "data")
    settings = {"transfer": "scratch", "backbone": "smallcnn(width=8)", "size": 16, "epochs": 2, "batch_size": 8}
    descend.fit(data, out=tmp_path / "cut", progress=StopAfter(8), **settings)
    (data / "disc" / "00.png").unlink()
    with pytest.raises(RunError, match="data must be what they were"):
        descend.resume(tmp_path / "cut")


def test_predict_agrees_with_the_predictions_written_by_fit(by_features: Run, shapes: Path) -> None:
    rows = [line.split(",") for line in (by_features.folder / "predictions.csv").read_text().splitlines()[1:]]
    found = descend.load(by_features.folder).predict([shapes / row[0] for row in rows])
    assert found.labels.tolist() == [row[3] for row in rows]
    assert np.allclose(found.probabilities, [[float(v) for v in row[5:]] for row in rows], atol=1e-4)
    assert np.allclose(found.probabilities.sum(1), 1, atol=1e-5)


def test_predict_names_bad_files_and_goes_on(by_features: Run, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    found = by_features.predict([tmp_path / "broken.jpg", shapes / "disc" / "00.png", tmp_path / "absent.png"])
    assert found.names == (str(shapes / "disc" / "00.png"),)
    assert {Path(name).name for name in found.problems} == {"broken.jpg", "absent.png"}
    with pytest.raises(DataError, match="readable"):
        by_features.predict([tmp_path / "broken.jpg"])


def test_eval_on_its_own_data_uses_the_held_back_split_and_counts(by_features: Run, shapes: Path, tmp_path: Path) -> None:
    run = descend.load(by_features.folder)
    looks = len(run.record.test_looks)
    found = run.evaluate(shapes)
    assert run.record.test is not None
    assert found["split"] == "test"
    assert found["n"] == run.record.test["n"]
    assert found["accuracy"] == pytest.approx(run.record.test["accuracy"])
    assert len(descend.load(by_features.folder).record.test_looks) == looks + 1


def test_eval_matches_classes_by_name_and_refuses_strangers(by_features: Run, tmp_path: Path) -> None:
    from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]

    some = shapes_folder(tmp_path / "some", n=4, classes=("square", "disc"), seed=7)
    assert by_features.evaluate(some)["n"] == 8
    other = shapes_folder(tmp_path / "other", n=4, classes=("disc", "sqare"), seed=7)
    with pytest.raises(DataError, match=r"sqare.*Did you mean 'square'"):
        by_features.evaluate(other)


def test_arrays_train_and_resume(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = (rng.integers(0, 60, (60, 12, 12)) + 150 * labels[:, None, None]).astype(np.uint8)
    settings = {"epochs": 2, "batch_size": 16, "backbone": "smallcnn(width=4)"}
    run = descend.fit((images, labels), out=tmp_path / "run", **settings)
    assert run.record.chosen["transfer"] == "scratch"
    assert run.predict(images[:5]).probabilities.shape == (5, 2)
    cut = descend.fit((images, labels), out=tmp_path / "cut", progress=StopAfter(16), **settings)
    assert descend.resume(cut.folder, data=(images, labels)).record.status == "finished"
    assert same(weights(cut), weights(run))


def test_unknown_stage_names_the_stages(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(DescendError, match="block3"):
        descend.fit(shapes, out=tmp_path / "run", transfer="finetune", freeze_to="blok3", **{**SMALL, "epochs": 1})


def test_out_that_holds_something_is_refused_before_work(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(RunError, match="new or empty"):
        descend.fit(shapes, out=tmp_path, **SMALL)


def test_missing_data_and_bad_device_are_explained(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="digits"):
        descend.fit(out=tmp_path / "a")
    with pytest.raises(KnobError, match="device"):
        descend.fit(shapes, out=tmp_path / "b", device="cuda:77")
    with pytest.raises(KnobError, match="device"):
        descend.fit(shapes, out=tmp_path / "b", device="meta")
    assert not (tmp_path / "b").exists()


REGULARIZERS = [
    "label_smoothing(amount=0.2)", "l2(strength=0.5)", "l1(strength=0.01)", "elastic_net(l1=0.01, l2=0.01)",
    "max_norm(limit=0.01)",
    "dropout(p=0.5)", "spatial_dropout(p=0.3)", "drop_block(p=0.3, size=2)", "dropconnect(p=0.5)", "stochastic_depth(last=0.5)",
    "focal(gamma=3.0)", "class_weights()", "balanced_sampling()", "kl_sparsity(strength=1.0)",
    "ghost_batch_norm(size=4)", "early_stopping(patience=1, min_delta=0.9)",
]  # fmt: skip


def test_the_list_of_regularizers_is_complete() -> None:
    from descend.technique import registered

    assert {text.split("(")[0] for text in REGULARIZERS} == {cls.name for cls in registered("regularizer")}


def trained_with(shapes: Path, out: Path, transfer: str, **settings: Any) -> Run:
    """Train shortly from scratch or on features."""
    small = (
        SMALL
        if transfer == "features"
        else {"backbone": "resnet9(width=4)", "size": 32, "epochs": 3, "batch_size": 8, "augment": []}
    )
    return descend.fit(shapes, out=out, transfer=transfer, **small, **settings)


@pytest.fixture(scope="module")
def unregularized(shapes: Path, by_features: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return {"scratch": trained_with(shapes, tmp_path_factory.mktemp("runs") / "plain", "scratch"), "features": by_features}


@pytest.mark.parametrize("transfer", ["scratch", "features"])
@pytest.mark.parametrize("text", REGULARIZERS)
def test_a_regularizer_changes_the_result_or_is_refused(
    shapes: Path, tmp_path: Path, unregularized: dict[str, Run], text: str, transfer: str
) -> None:
    plain = unregularized[transfer]
    try:
        run = trained_with(shapes, tmp_path / "run", transfer, regularize=[text])
    except KnobError as error:
        assert "no effect" in str(error)  # noqa: PT017 (both outcomes are legal, silence is not)
        assert transfer == "features" or "class weights" in str(error)  # noqa: PT017 (these classes are equally common)
        return
    assert not same(weights(run), weights(plain)) or untimed(run.folder) != untimed(plain.folder)
    assert descend.load(run.folder).predict(shapes / "disc").probabilities.shape == (12, 3)


def test_early_stopping_stops_and_keeps_what_it_says(shapes: Path, tmp_path: Path) -> None:
    settings = {**SCRATCH, "epochs": 6, "regularize": ["early_stopping(patience=2, min_delta=0.9)"]}
    run = descend.fit(shapes, out=tmp_path / "run", **settings)
    rows = untimed(run.folder)
    assert len(rows) == 3  # the first epoch gains over nothing, then two without a gain of 0.9
    assert run.record.status == "finished"
    accuracies = [row["val_accuracy"] for row in rows]
    assert run.record.chosen["epoch"] == accuracies.index(max(accuracies)) + 1


def test_a_rule_that_answers_elsewhere_is_judged_and_saved_there(shapes: Path, tmp_path: Path) -> None:
    settings = {**SCRATCH, "optimizer": "schedule_free_adamw(lr=0.01)", "schedule": "constant"}
    run = descend.fit(shapes, out=tmp_path / "run", **settings)
    last = state_file.read(run.folder / "checkpoint.safetensors")  # the point of training, after the last epoch
    assert not torch.equal(weights(run)["head.weight"], last["module"]["head.weight"])
    again = descend.load(run.folder).evaluate(shapes, split="val")
    assert run.record.val is not None
    assert again["accuracy"] == pytest.approx(run.record.val["accuracy"])


@pytest.mark.parametrize("stages", ["last", "late", "covariances", "quarters"])
def test_a_fitted_head_answers_as_it_was_judged_and_its_recipe_repeats_it(shapes: Path, tmp_path: Path, stages: str) -> None:
    settings = {"transfer": "features", "size": 64, "engine": "torch", "seed": 1, "feature_stages": stages}
    run = descend.fit(shapes, out=tmp_path / "one", **settings)
    assert run.record.head_trials
    assert sum(trial["chosen"] for trial in run.record.head_trials) == 1
    assert run.record.preparation()["taps"] == list(run.classifier.backbone.feature_sets[stages])
    assert run.record.val is not None
    score = run.evaluate(str(shapes), split="val")
    assert score["loss"] == run.record.val["loss"]
    again = descend.fit(recipe=run.folder / "recipe.toml", out=tmp_path / "two")
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()
    assert "How the head was fitted" in (run.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("head", ["linear()", "mlp(hidden=8)"])
def test_a_trained_head_on_late_stages_is_regularized_and_opened_again(shapes: Path, tmp_path: Path, head: str) -> None:
    run = descend.fit(
        shapes, out=tmp_path / "run", transfer="features", size=64, engine="torch", head=head, epochs=2, feature_stages="late",
        regularize="dropout(p=0.5)",
    )  # fmt: skip
    again = descend.load(run.folder)
    assert list(again.classifier.backbone.taps) == list(again.classifier.backbone.late_stages) != []
    assert any(isinstance(module, Dropout) for module in again.classifier.modules())
    assert run.record.val is not None
    assert again.evaluate(str(shapes), split="val")["loss"] == run.record.val["loss"]
    assert again.predict(shapes / "disc", mc=4).probabilities.shape == (len([*(shapes / "disc").iterdir()]), 3)
    again.export(tmp_path / "model.onnx")


def test_cross_validation_decides_which_features(shapes: Path, tmp_path: Path) -> None:
    run = descend.fit(shapes, out=tmp_path / "run", transfer="features", size=64, engine="torch", seed=1)
    names = ("last", "late", "covariances", "quarters")
    best = {name: min(t["loss"] for t in run.record.head_trials if t["feature_stages"] == name) for name in names}
    chosen = run.recipe.feature_stages
    assert chosen is not None
    assert best[chosen] < min(best.values()) + 1e-3  # nats: less is no difference, and the fewer columns are taken
    assert all(best[name] > best[chosen] + 1e-3 for name in names[: names.index(chosen)])
