"""The files of a run belong together: what was changed, swapped or made up is noticed and named; older runs still open."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import StopAfter  # pyright: ignore[reportMissingImports] (pytest finds it)

import descend
from descend import report
from descend.cli import main
from descend.comparison.runs import right
from descend.errors import DescendError, RunError
from descend.train import folder, pictures, run_manifest
from descend.train.run import Run

TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 16, "epochs": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return descend.fit(shapes, out=tmp_path_factory.mktemp("runs") / "finished", **TINY).folder


@pytest.fixture(scope="module")
def stopped(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return descend.fit(shapes, out=tmp_path_factory.mktemp("runs") / "stopped", progress=StopAfter(32), **TINY).folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def cut(stopped: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(stopped, tmp_path / "cut"))
    (copy / folder.PREVIOUS).unlink(missing_ok=True)  # where the first step took long, a run has written two
    return copy


def flip(path: Path, at: float) -> None:
    """Change one bit of a file, at a share of its length."""
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("at", [0.0, 0.99])
def test_a_flipped_bit_of_the_model_is_noticed_and_mended(
    run: Path, shapes: Path, at: float, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (run / folder.MODEL).read_bytes()
    flip(run / folder.MODEL, at)
    assert main(["predict", str(run), str(shapes / "disc")]) == 1
    told = capsys.readouterr().err
    assert "model.safetensors: must be intact (its SHA-256 digest" in told
    assert f"descend fit --resume {run}" in told
    descend.resume(run)
    assert (run / folder.MODEL).read_bytes() == whole
    assert descend.load(run).predict(shapes / "disc").probabilities.shape == (12, 3)


@pytest.mark.parametrize("at", [0.5])
def test_a_flipped_bit_of_the_checkpoint_is_refused(cut: Path, finished: Path, at: float) -> None:
    flip(cut / folder.CHECKPOINT, at)
    with pytest.raises(
        RunError, match=r"checkpoint\.safetensors: must be intact .*delete it and train from the beginning: descend fit --resume"
    ):
        descend.resume(cut)
    (cut / folder.CHECKPOINT).unlink()
    descend.resume(cut)
    assert (cut / folder.MODEL).read_bytes() == (finished / folder.MODEL).read_bytes()


def test_the_checkpoint_of_another_run_is_refused(cut: Path, shapes: Path, tmp_path: Path) -> None:
    other = descend.fit(shapes, out=tmp_path / "other", progress=StopAfter(32), seed=7, **TINY)
    shutil.copy(other.folder / folder.CHECKPOINT, cut / folder.CHECKPOINT)
    with pytest.raises(RunError, match="or of another run"):
        descend.resume(cut)


def test_an_edited_recipe_is_refused_by_the_settings_that_differ(cut: Path, finished: Path) -> None:
    path = cut / folder.RECIPE
    began = path.read_text()
    path.write_text(began.replace("epochs = 2", "epochs = 3").replace("batch_size = 8", "") + "threads = 1\n")
    with pytest.raises(RunError, match=r"differs in batch_size, epochs, threads\. Undo the change"):
        descend.resume(cut)
    path.write_text(f"# a remark\n{began}")
    assert descend.resume(cut).record.status == "finished"
    assert (cut / folder.MODEL).read_bytes() == (finished / folder.MODEL).read_bytes()


def test_a_run_without_a_manifest_opens_and_goes_on(run: Path, cut: Path, finished: Path, shapes: Path) -> None:
    (run / run_manifest.MANIFEST).unlink()
    (cut / run_manifest.MANIFEST).unlink()
    assert descend.load(run).predict(shapes / "disc").probabilities.shape == (12, 3)
    descend.resume(cut)
    assert (cut / folder.MODEL).read_bytes() == (finished / folder.MODEL).read_bytes()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"files": {"model.safetensors": "x"}, "recipe": {}}', b"\xff", b"[" * 10**5]
)
def test_a_damaged_manifest_is_one_sentence(run: Path, content: bytes) -> None:
    (run / run_manifest.MANIFEST).write_bytes(content)
    with pytest.raises(RunError, match=r"manifest\.json: must be as descend wrote it\. Delete it"):
        _ = descend.load(run).classifier


def test_a_crash_between_manifest_and_file_leaves_a_run_that_verifies(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.replace

    def crashing(self: Path, target: Path) -> Path:
        if target.name == folder.CHECKPOINT:
            raise KeyboardInterrupt
        return plain(self, target)

    before = (cut / folder.CHECKPOINT).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crashing)
        for content in (b"new", b"newer"):
            with pytest.raises(KeyboardInterrupt), folder.replacing(cut / folder.CHECKPOINT) as part:
                part.write_bytes(content)
    assert (cut / folder.CHECKPOINT).read_bytes() == before
    folder.verify(cut / folder.CHECKPOINT, "")
    assert descend.resume(cut).record.status == "finished"


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("size", 10**30), ("size", 0), ("mean", []), ("scale", []), ("architecture", "smallcnn(width=8)"), ("architecture", "x("),
        ("architecture", "../../x"), ("taps", ["nowhere"]), ("members", [{}]), ("fit", "x"), ("background", None),
    ],
)  # fmt: skip
def test_a_made_up_record_is_one_sentence(run: Path, entry: str, value: object) -> None:
    record = json.loads((run / folder.RECORD).read_text())
    del record["digest"]
    record["preprocessing"][entry] = value
    (run / folder.RECORD).write_text(json.dumps(record))
    with pytest.raises(DescendError):
        _ = descend.load(run).classifier


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("classes", []), ("classes", ["a"]), ("plan", {}), ("plan", {"head": ["mlp(hidden=-1)"]}), ("val", {}), ("schema", "3"),
        ("sparsity", {"a": 1.0}), ("status", None),
    ],
)  # fmt: skip
def test_a_made_up_entry_is_one_sentence(run: Path, entry: str, value: object) -> None:
    record = json.loads((run / folder.RECORD).read_text())
    del record["digest"]
    (run / folder.RECORD).write_text(json.dumps(record | {entry: value}))
    with pytest.raises(DescendError):
        _ = descend.load(run).classifier


@pytest.mark.parametrize("content", ["[" * 10**5, "\ufeff{}", '{"schema": 3}' * 2, "null", "3", '{"schema": NaN}'])
def test_a_record_that_is_none_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / folder.RECORD).write_text(content, encoding="utf-8")
    with pytest.raises(RunError):
        Run(tmp_path)


@pytest.mark.parametrize("damage", ["values", "no text"])
def test_the_metrics_that_decide_come_from_the_checkpoint(cut: Path, finished: Path, damage: str) -> None:
    path = cut / folder.METRICS
    assert path.read_text()
    if damage == "values":
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"val_accuracy": 1.0, "val_loss": 0.0, "train_loss": 0.0}) + "\n"
        )
    else:
        path.write_bytes(b"3\n[1]\n\xff\xfe\n")
    descend.resume(cut)
    found, expected = (folder.read_lines(run / folder.METRICS) for run in (cut, finished))
    assert [(row["epoch"], row["train_loss"], row["val_loss"]) for row in found] == [
        (row["epoch"], row["train_loss"], row["val_loss"]) for row in expected
    ]
    assert (cut / folder.MODEL).read_bytes() == (finished / folder.MODEL).read_bytes()


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_flipped_letter_of_the_record_is_noticed(run: Path, at: float) -> None:
    content = (run / folder.RECORD).read_text()
    place = next(k for k in range(int(at * len(content)), len(content)) if content[k].isalnum())
    (run / folder.RECORD).write_text(content[:place] + ("1" if content[place] != "1" else "2") + content[place + 1 :])
    with pytest.raises(RunError, match=r"record\.json|must have a record of schema"):
        Run(run)


def test_an_edited_record_opens_without_its_digest_and_its_layout_is_free(run: Path) -> None:
    record = json.loads((run / folder.RECORD).read_text())
    (run / folder.RECORD).write_text(json.dumps(record, indent=4))
    assert Run(run).record.seed == 0
    (run / folder.RECORD).write_text(json.dumps(record | {"seed": 5}))
    with pytest.raises(RunError, match=r'record\.json: must be as descend wrote it.*delete its entry "digest"'):
        Run(run)
    del record["digest"]
    (run / folder.RECORD).write_text(json.dumps(record | {"seed": 5}))
    assert Run(run).record.seed == 5


@pytest.mark.parametrize("damage", ["a digit", "missing"])
def test_damaged_metrics_of_a_finished_run_are_noticed_and_written_anew(run: Path, damage: str) -> None:
    path, model = run / folder.METRICS, (run / folder.MODEL).read_bytes()
    whole = path.read_text()
    if damage == "missing":
        path.unlink()
    else:
        path.write_text(whole.replace('"val_accuracy": 0.', '"val_accuracy": 1.', 1))
    with pytest.raises(RunError, match=r"metrics\.jsonl: must be as training wrote it.*descend fit --resume"):
        report.write(run)
    descend.resume(run)
    assert path.read_text() == whole
    assert (run / folder.MODEL).read_bytes() == model


def test_a_run_of_an_older_version_is_said_to_be_unverified(run: Path, shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run), str(shapes / "disc")]) == 0
    assert "older version" not in capsys.readouterr().err
    (run / run_manifest.MANIFEST).unlink()
    assert main(["predict", str(run), str(shapes / "disc")]) == 0
    assert "of an older version: its files cannot be verified" in capsys.readouterr().err


def read_whole(run: Path) -> tuple[object, ...]:
    """Return everything that is read from a run folder: record, recipe, epochs, answers, weights, pictures."""
    opened = Run(run)
    weights = {name: value.numpy().tobytes() for name, value in opened.classifier.state_dict().items()}
    return (
        opened.record, opened.recipe, opened.record.epoch_rows(run), right(run, "val"), weights, pictures.digests(run, "train"),
    )  # fmt: skip


READ = (folder.RECORD, folder.RECIPE, folder.METRICS, folder.PREDICTIONS, folder.MODEL, folder.PICTURES)


@pytest.mark.parametrize("name", [*READ, run_manifest.MANIFEST])
def test_no_mutation_of_a_file_is_taken_for_what_was_written(run: Path, name: str) -> None:
    path = run / name
    whole, expected, draw = path.read_bytes(), read_whole(run), np.random.default_rng([7, len(name)])
    told: list[str] = []
    for _ in range(12):
        content, at = bytearray(whole), int(draw.integers(len(whole)))
        kind = draw.integers(4)
        if kind == 0:
            content[at] ^= 1 << int(draw.integers(8))
        elif kind == 1:
            content = content[:at]
        elif kind == 2:
            content[at : at + 8] = bytes(8)
        else:
            content += content[at:]
        path.write_bytes(bytes(content))
        try:
            assert read_whole(run) == expected  # a remark, a space
        except RunError as error:
            told.append(str(error))
    assert all(str(run) in text for text in told)
    assert len(told) >= (8 if name != folder.RECIPE else 4)  # half of a recipe is explained by what its settings mean
    path.write_bytes(whole)
    assert read_whole(run) == expected


def test_files_of_another_run_of_the_same_recipe_are_noticed(run: Path, shapes: Path, tmp_path: Path) -> None:
    other = descend.fit(shapes, out=tmp_path / "other", **(TINY | {"seed": 1})).folder
    same = Path(shutil.copytree(run, tmp_path / "same"))
    for name in READ:
        shutil.copy(other / name, run / name)
        with pytest.raises(RunError, match=name.replace(".", r"\.")):
            read_whole(run)
        shutil.copy(same / name, run / name)
    read_whole(run)


def test_an_edited_recipe_of_a_finished_run_is_named_and_free_to_begin_another(run: Path, shapes: Path, tmp_path: Path) -> None:
    path = run / folder.RECIPE
    path.write_text(path.read_text().replace("epochs = 2", "epochs = 1"))
    with pytest.raises(RunError, match=r"its recipe\.toml differs in epochs\. Undo the change, or train anew"):
        report.write(run)
    assert descend.load(run).predict(shapes / "disc").probabilities.shape == (12, 3)
    anew = descend.fit(recipe=path, out=tmp_path / "anew")
    assert anew.recipe.epochs == 1


@pytest.mark.parametrize("damage", ["a letter", "missing"])
def test_damaged_predictions_of_a_finished_run_are_noticed_and_written_anew(run: Path, damage: str) -> None:
    path, model = run / folder.PREDICTIONS, (run / folder.MODEL).read_bytes()
    whole = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(whole.replace(b"disc", b"bisc", 1))
    with pytest.raises(RunError, match=r"predictions\.csv"):
        right(run, "val")
    descend.resume(run)
    assert path.read_bytes() == whole
    assert (run / folder.MODEL).read_bytes() == model
    with pytest.raises(RunError, match="must be unfinished"):
        descend.resume(run)
