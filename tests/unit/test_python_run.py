"""A run in Python code: callbacks of each epoch, its frame, features, transform, mistakes and card; what a notebook shows."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import descend
from descend import notebook
from descend.errors import KnobError, MissingExtra, TrainingError
from descend.train.run import Run
from descend.train.run_views import Mistakes

LABELS = np.arange(60) % 2
IMAGES = (np.random.default_rng(0).integers(0, 60, (60, 12, 12)) + 150 * LABELS[:, None, None]).astype(np.uint8)
TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "epochs": 3, "batch_size": 16, "augment": []}


def fit(out: Path, **settings: Any) -> Run:
    return descend.fit((IMAGES, LABELS), out=out, **(TINY | settings))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> Run:
    return fit(tmp_path_factory.mktemp("runs") / "run", on_epoch=rows.append)


def test_each_epoch_is_told_once_and_is_what_the_frame_holds(run: Run, rows: list[dict[str, Any]]) -> None:
    history = run.history
    assert [row["epoch"] for row in rows] == [*history.index] == [1, 2, 3]
    assert history["val_loss"].tolist() == [row["val_loss"] for row in rows]
    assert history["best"].dtype == bool


def test_a_run_is_pickled_after_its_quick_answers_too(run: Run) -> None:
    quick = run.predict(IMAGES[:5], quick=True)
    assert "_quick" in vars(run)
    assert vars(run)["_quick"] is not None, "the graphs are open"
    again = pickle.loads(pickle.dumps(run)).predict(IMAGES[:5], quick=True)
    np.testing.assert_array_equal(again.probabilities, quick.probabilities)


def test_an_error_in_a_callback_is_its_owners_and_costs_nothing(run: Run, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    told: list[int] = []

    def on_epoch(row: dict[str, Any]) -> None:
        told.append(row["epoch"])
        row.clear()  # the run's own row is another
        if told[-1] == 2:
            raise Enough("pruned")

    with pytest.raises(Enough, match="pruned") as caught:
        fit(tmp_path / "run", on_epoch=on_epoch)
    notes = "\n".join(caught.value.__notes__)
    assert "raised by on_epoch, given the row of epoch 2" in notes
    assert f"descend.resume({str(tmp_path / 'run')!r}) goes on after that epoch" in notes
    assert descend.load(tmp_path / "run").record.status == "interrupted"
    again = descend.resume(tmp_path / "run", data=(IMAGES, LABELS), on_epoch=on_epoch)
    assert told == [1, 2, 3]
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()


def test_a_callbacks_error_is_no_reason_to_roll_back(tmp_path: Path) -> None:
    def on_epoch(row: dict[str, Any]) -> None:
        raise TrainingError("mine", f"epoch {row['epoch']}")

    with pytest.raises(TrainingError, match="mine: epoch 1"):
        fit(tmp_path / "run", on_nan="rollback", on_epoch=on_epoch)


def test_a_callback_without_epochs_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(KnobError, match="on_epoch: has no effect: transfer features trains no epochs here"):
        descend.fit((IMAGES, LABELS), transfer="features", out=tmp_path / "run", on_epoch=print)
    assert not (tmp_path / "run").exists()


def test_the_transform_is_what_the_network_reads(run: Run) -> None:
    transform = pickle.loads(pickle.dumps(run.transform))
    x = torch.stack([transform(image) for image in IMAGES[:5]])
    with torch.inference_mode():
        answers = (run.classifier(x) / run.record.temperature).softmax(1).numpy()
    assert run.record.temperature != 1
    np.testing.assert_allclose(answers, run.predict(IMAGES[:5]).probabilities, atol=1e-6)
    assert torch.equal(transform(Image.fromarray(IMAGES[0])), x[0])


def test_features_are_what_the_head_reads(run: Run) -> None:
    found = run.features([*IMAGES[:3], b"broken", IMAGES[4]])
    assert found.names == ("[0]", "[1]", "[2]", "[4]")
    assert found.shape == np.asarray(found).shape
    assert len(found) == 4
    assert [*found.problems] == ["[3]"]
    with torch.inference_mode():
        logits = run.classifier.get_submodule("head")(torch.from_numpy(np.asarray(found)))
    answers = run.record.calibrated(logits.softmax(1).numpy())
    np.testing.assert_allclose(answers, run.predict([*IMAGES[:3], IMAGES[4]]).probabilities, atol=1e-6)


def test_a_notebook_shows_a_run_and_its_mistakes(run: Run) -> None:
    card = run._repr_html_()
    assert "smallcnn" in card
    assert "95% interval" in card
    assert "<script>" not in Mistakes([{"path": "<script>", "split": "val", "label": "a", "predicted": "b", "confidence": 0.9,
                                        "jpeg": "AA"}])._repr_html_()  # fmt: skip
    assert "No mistake" in Mistakes()._repr_html_()
    assert isinstance(run.mistakes, list)
    assert repr(run) == f"Run({str(run.folder)!r}, finished)"


def test_a_bar_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not notebook.is_notebook()
    shown: list[Any] = []
    handle = SimpleNamespace(update=shown.append)
    display = ModuleType("IPython.display")
    display.display = lambda html, display_id: shown.append(html) or handle  # pyright: ignore[reportAttributeAccessIssue]
    shell = ModuleType("IPython")
    shell.get_ipython = type("ZMQInteractiveShell", (), {})  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert notebook.is_notebook()
    shell.get_ipython = type("Shell", (shell.get_ipython,), {})  # pyright: ignore[reportAttributeAccessIssue] (google.colab._shell's)
    assert notebook.is_notebook()
    bar = notebook.NotebookBar()
    bar.say("2 classes: <b>")
    for done in range(1, 101):
        bar.update("training", done, 100, "epoch 1/1")
    assert 2 <= len(shown) < 20
    html = shown[-1]._repr_html_()
    assert "2 classes: &lt;b&gt;" in html
    assert 'value="100" max="100"' in html
    assert repr(shown[-1]) == "2 classes: <b>"


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write = descend.TensorBoard(tmp_path)
    for epoch in (1, 2):
        write({"epoch": epoch, "lr": 0.1, "train_loss": 1 / epoch, "val_balanced_accuracy": 0.5, "best": True})
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/train")] == [(1, 1.0), (2, 0.5)]
    assert {"lr", "balanced_accuracy/val", "best"} <= set(events.Tags()["scalars"])


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"pip install 'descend\[tensorboard\]'"):
        descend.TensorBoard("tb")
    with pytest.raises(MissingExtra, match=r"pip install 'descend\[tables\]'"):
        _ = run.history
