"""One way to read a picture for one run: ``eval`` and ``predict`` see what ``fit`` saw, and repeat its answers to the bit."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

import descend
from descend.train.modes import MODES
from descend.train.run import Run

COMMON: dict[str, Any] = {"epochs": 2, "batch_size": 8, "seed": 1}
VARIED: dict[str, Any] = {"augment": ["random_resized_crop(scale_range=[0.6, 1.0])", "flip"]}
# what is named is not measured first for whether it changes labels: that takes a third of such a run
PRETRAINED: dict[str, Any] = {**COMMON, "size": 64, "engine": "torch"}
CASES: dict[str, dict[str, Any]] = {
    "features": {"transfer": "features", "head": "mlp(hidden=8)", **PRETRAINED},
    "head": {"transfer": "head", **VARIED, **PRETRAINED},
    "finetune": {"transfer": "finetune", **VARIED, **PRETRAINED, "epochs": 1},
    "finetune, cached boundary": {"transfer": "finetune", "freeze_to": "block4", "augment": [], **PRETRAINED, "epochs": 1},
    "finetune, engine boundary": {"transfer": "finetune", "freeze_to": "block4", **VARIED, **PRETRAINED, "epochs": 1},
    "scratch": {"transfer": "scratch", "backbone": "resnet9(width=4)", "size": 32, **VARIED, **COMMON},
    "scratch, another batch": {"transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 16, **COMMON, "batch_size": 7},
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs large enough to be shrunk while they are decoded, with detail in every pixel."""
    root, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for kind, radius in (("blurred", 2), ("sharp", 0)):
        (root / kind).mkdir()
        for number in range(20):
            noise = generator.integers(0, 256, (400, 320 + 10 * number, 3), dtype=np.uint8)
            picture = Image.fromarray(noise).filter(ImageFilter.BoxBlur(radius))
            picture.save(root / kind / f"{number:02d}.jpg", quality=90)
    return root


def test_every_mode_is_tried() -> None:
    assert {case["transfer"] for case in CASES.values()} >= MODES.keys() - {"auto"}


@pytest.mark.parametrize("case", CASES)
def test_eval_repeats_the_recorded_score_to_the_bit(photographs: Path, tmp_path: Path, case: str) -> None:
    check(descend.fit(photographs, out=tmp_path / "run", **CASES[case]), photographs)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_with_every_engine(photographs: Path, tmp_path: Path, engine: str) -> None:
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"needs {engine}")
    check(descend.fit(photographs, out=tmp_path / "run", **CASES["features"] | {"engine": engine}), photographs)


def check(run: Run, photographs: Path) -> None:
    """Hold eval and predict of a run, opened anew, to what ``fit`` wrote down."""
    opened = descend.load(run.folder)
    for split, recorded in (("val", run.record.val), ("test", run.record.test)):
        again = opened.evaluate(photographs, split=split)
        assert recorded is not None
        assert {name: again[name] for name in recorded} == recorded
    rows = [line.split(",") for line in (run.folder / "predictions.csv").read_text().splitlines()[1:]]
    answers = opened.predict([photographs / row[0] for row in rows])
    assert [f"{p:.6f}" for row in answers.probabilities for p in row] == [p for row in rows for p in row[5:]]
    alone = opened.predict(photographs / rows[0][0])
    np.testing.assert_allclose(alone.probabilities[0], answers.probabilities[0], atol=1e-5)  # torch computes it by itself


def test_a_run_whose_engine_is_gone_is_answered_by_torch(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = descend.fit(photographs, out=tmp_path / "run", **CASES["features"] | {"engine": "onnxruntime"})
    before = descend.load(run.folder).predict(photographs / "sharp").probabilities

    def gone(cls: type) -> str:
        raise descend.MissingExtra("onnxruntime", "must be installed")

    monkeypatch.setattr("descend.transfer.engine_onnxruntime.OnnxRuntimeEngine.version", classmethod(gone))
    after = descend.load(run.folder).predict(photographs / "sharp").probabilities
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_labels_come_back_as_they_were_given(tmp_path: Path) -> None:
    labels = np.array([3, 10] * 30)
    images = (np.random.default_rng(0).integers(0, 60, (60, 28, 28)) + 150 * (labels == 10)[:, None, None]).astype(np.uint8)
    settings: dict[str, Any] = {"epochs": 6, "batch_size": 16, "backbone": "smallcnn(width=4)"}
    run = descend.load(descend.fit((images, labels), out=tmp_path / "run", **settings).folder)
    answers = run.predict(images)
    assert (answers.labels == labels).mean() > 0.9
    assert run.predict(images[:3]).labels.tolist() == answers.labels[:3].tolist(), "three gray pictures, not one with channels"
    assert run.predict(images[0]).labels.tolist() == answers.labels[:1].tolist()


def test_what_a_web_app_holds(photographs: Path, tmp_path: Path) -> None:
    run = descend.fit(photographs, out=tmp_path / "run", **CASES["scratch, another batch"])
    path = sorted((photographs / "sharp").iterdir())[0]
    expected = run.predict(path).probabilities
    with path.open("rb") as file:
        for held in (path.read_bytes(), [path.read_bytes()], file):
            np.testing.assert_array_equal(run.predict(held).probabilities, expected)
    np.testing.assert_allclose(run.predict(Image.open(path)).probabilities, expected, atol=0.01)  # not shrunk by its decoder
