"""A run that begins from another one: its weights, rows of its head by class name, its settings; what cannot go is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.conftest import StopAfter, shapes_folder  # pyright: ignore[reportMissingImports] (pytest finds it)
from tests.fakes import Listener  # pyright: ignore[reportMissingImports]

import descend
from descend.cli import main
from descend.errors import KnobError, RunError
from descend.train import folder, initial_run
from descend.train.recipe import Recipe
from descend.train.record import RunRecord
from descend.train.run import Run

TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 16, "epochs": 2, "batch_size": 8,
                        "optimizer": "sgd(lr=0.05)", "augment": []}  # fmt: skip


@pytest.fixture(scope="module")
def first(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return descend.fit(shapes, out=tmp_path_factory.mktemp("runs") / "first", **TINY)


def weights(run: Path, name: str = folder.MODEL) -> dict[str, torch.Tensor]:
    return load_file(run / name)


def test_it_begins_where_the_other_ended_with_its_settings(first: Run, shapes: Path, tmp_path: Path) -> None:
    heard = Listener()
    run = descend.fit(shapes, init=first.folder, epochs=1, out=tmp_path / "more", snapshots=2, progress=heard)
    began, before = weights(run.folder / "snapshots", "0000.safetensors"), weights(first.folder)
    assert all(torch.equal(value, before[name]) for name, value in began.items())
    assert run.record.init is not None
    assert (run.record.init["head"], run.record.init["n_seen"]) == ("whole", 0)  # the same pictures, the same split
    recipe = run.recipe
    assert (recipe.transfer, recipe.size, recipe.optimizer) == ("scratch", 16, first.recipe.optimizer)
    assert recipe.backbone == first.record.preparation()["architecture"]
    assert f"  init       the backbone of {first.folder}; the head too, every class by its name" in heard.lines
    assert any("before the first epoch: " in line for line in heard.lines)
    assert not (run.folder / folder.INITIAL).exists()


def test_rows_of_the_head_are_matched_by_name(first: Run, shapes: Path, tmp_path: Path) -> None:
    other = shapes_folder(tmp_path / "data", n=8, classes=("circle", "square"))
    shutil.move(other / "square", other / "b square")
    shutil.copytree(shapes / "stripes", other / "a stripes")
    for name in ("stripes", "square"):  # another order, and one class that is new
        next(other.glob(f"* {name}")).rename(other / name)
    heard = Listener()
    run = descend.fit(other, init=str(first.folder), epochs=1, out=tmp_path / "run", snapshots=2, progress=heard)
    assert run.classes == ("circle", "square", "stripes")
    began, before = weights(run.folder / "snapshots", "0000.safetensors"), weights(first.folder)
    assert first.classes == ("disc", "square", "stripes")
    for name in ("head.weight", "head.bias"):
        assert torch.equal(began[name][1:], before[name][1:])
        assert not began[name][0].any()
    assert any("the head's rows of square, stripes; new: circle" in line for line in heard.lines)


def test_pictures_that_were_trained_on_do_not_validate_in_silence(first: Run, shapes: Path, tmp_path: Path) -> None:
    run = descend.fit(shapes, init=str(first.folder), epochs=1, out=tmp_path / "run", seed=5)
    assert run.record.init is not None
    assert run.record.init["n_seen"] > 0
    assert "had been trained on by" in run.record.notes[0]


def test_it_is_resumed_without_the_other_run(first: Run, shapes: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(first.folder, tmp_path / "other"))
    settings = {"init": str(other), "epochs": 2, "head": "linear()"}
    whole = descend.fit(shapes, out=tmp_path / "whole", **settings)
    cut = descend.fit(shapes, out=tmp_path / "cut", progress=StopAfter(24), **settings)
    assert cut.record.status == "interrupted"
    shutil.rmtree(other)
    assert descend.resume(cut.folder).record.status == "finished"
    assert (cut.folder / folder.MODEL).read_bytes() == (whole.folder / folder.MODEL).read_bytes()


def test_a_model_that_is_built_again_needs_the_weights_that_it_began_with(first: Run, shapes: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(first.folder, tmp_path / "other"))
    run = descend.fit(shapes, init=str(other), epochs=1, out=tmp_path / "run").folder
    model = (run / folder.MODEL).read_bytes()
    (run / folder.MODEL).write_bytes(b"")
    descend.resume(run)
    assert (run / folder.MODEL).read_bytes() == model
    (run / folder.MODEL).write_bytes(b"")
    save_file({name: value + 1 for name, value in weights(other).items()}, other / folder.MODEL)
    (other / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"must begin with the weights that .*other had then, and they are others now"):
        descend.resume(run)


def test_a_finished_run_asked_for_more_epochs_says_the_command(
    first: Run, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--resume", str(first.folder), "--epochs", "5"]) == 1
    assert f"descend fit {shapes} --init {first.folder} --epochs 5" in capsys.readouterr().err
    assert main(["fit", "--resume", str(first.folder)]) == 1
    assert f"descend fit {shapes} --init {first.folder} --epochs N" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"init": "nowhere"}, "nowhere: must be a run folder"),
        ({"weights": "w.safetensors"}, "init: and weights both say"),
        ({"backbone": "resnet9"}, r"backbone: must be that of the run that init names, smallcnn\(width=4\), got 'resnet9'"),
        ({"init": "", "epochs": None}, "must be a run folder"),
    ],
)
def test_what_cannot_go_together_is_one_sentence(
    first: Run, shapes: Path, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises((KnobError, RunError), match=words):
        descend.fit(shapes, out=tmp_path / "run", **{"init": str(first.folder), "epochs": 1, **settings})
    assert not (tmp_path / "run").exists()


def test_a_head_that_is_fitted_takes_the_backbone_if_that_was_trained(first: Run, shapes: Path, tmp_path: Path) -> None:
    run = descend.fit(shapes, out=tmp_path / "run", transfer="features", engine="torch", init=str(first.folder))
    assert run.record.init is not None
    assert (run.record.init["head"], run.record.init["classes"]) == ("new", [])
    began, before = weights(run.folder), weights(first.folder)
    assert all(torch.equal(value, before[name]) for name, value in began.items() if not name.startswith("head"))
    frozen = SimpleNamespace(recipe=Recipe(transfer="features"), folder=tmp_path)
    with pytest.raises(KnobError, match=r"init: has no effect with transfer='features': the backbone .* is the pretrained one"):
        initial_run._refuse_without_effect(cast("Run", frozen), "features", None)


def test_folds_on_a_backbone_that_has_learned_from_their_pictures_are_no_honest_estimate(
    first: Run, shapes: Path, tmp_path: Path
) -> None:  # fmt: skip
    settings = {"transfer": "features", "engine": "torch", "folds": 3}
    run = descend.fit(shapes, out=tmp_path / "run", init=str(first.folder), **settings)
    assert run.record.init is not None
    n = run.record.init["n_seen"]
    assert n == first.record.data["splits"]["train"]
    assert run.record.about_folds().startswith(f"The backbone had learned from {n} of these pictures")
    assert run.record.notes == [f"{n} pictures that judge it had been trained on by {first.folder}: accuracy flatters."]
    assert "accuracy flatters" in (run.folder / "report.html").read_text(encoding="utf-8")


def test_a_head_that_was_trained_on_features_is_gone_on_with(shapes: Path, tmp_path: Path) -> None:
    settings = {"transfer": "features", "size": 64, "engine": "torch", "feature_stages": "late"}
    before = descend.fit(shapes, out=tmp_path / "before", head="mlp(hidden=8)", epochs=2, **settings)
    run = descend.fit(shapes, out=tmp_path / "run", init=str(before.folder), epochs=1, engine="torch")
    assert (run.recipe.transfer, run.recipe.head, run.recipe.feature_stages) == ("features", before.recipe.head, "late")
    assert run.record.init is not None
    assert run.record.init["head"] == "whole"


def test_its_weights_see_pictures_as_they_were_trained_on(shapes: Path, tmp_path: Path) -> None:
    own = "normalize(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))"
    before = descend.fit(shapes, out=tmp_path / "before", **{**TINY, "augment": [own], "fit": "squash"})
    run = descend.fit(shapes, out=tmp_path / "run", init=str(before.folder), epochs=1, augment=["flip()"])
    assert run.record.preparation()["mean"] == [0.1, 0.2, 0.3]
    assert run.record.preparation()["std"] == [0.4, 0.5, 0.6]
    assert run.record.preparation()["fit"] == "squash"
    squares = tmp_path / "squares"
    for path in sorted(shapes.rglob("*.png")):
        (squares / path.parent.name).mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            picture.resize((24, 24)).save(squares / path.parent.name / path.name)
    square = descend.fit(squares, init=str(before.folder), epochs=1, out=tmp_path / "square", augment=["flip()"])
    assert square.record.preparation()["fit"] == "crop"  # there is nothing to squash


@pytest.mark.parametrize(("head", "fitted"), [("logistic(strength=0.01)", True), ("linear()", False)])
def test_a_head_of_a_strength_of_its_own_was_fitted_too(head: str, fitted: bool) -> None:
    """Without trials: there was nothing to choose."""
    assert initial_run._is_fitted(cast("Run", SimpleNamespace(record=RunRecord(plan={"head": head})))) is fitted


def test_what_a_run_took_from_another_is_taken_on(first: Run, shapes: Path, tmp_path: Path) -> None:
    second = descend.fit(shapes, out=tmp_path / "second", init=str(first.folder), epochs=1)
    third = descend.fit(shapes, out=tmp_path / "third", init=str(second.folder), epochs=1)
    assert third.recipe.optimizer == second.recipe.optimizer == first.recipe.optimizer
