"""``descend predict`` answers from the graph that a run keeps, and never imports torch, whatever the run trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import descend
from descend.train.graph_parts import AGREEMENT
from descend.train.run import Run
from descend.transfer.engine_openvino import available, computes_in_bfloat16

pytestmark = pytest.mark.figures  # one run of every mode, a search among them

PREDICT = """
import sys
from descend.cli import main
code = main(["predict", *sys.argv[1:]])
print("torch" in sys.modules)
sys.exit(code)
"""
FOUR = "finetune(size=64, freeze_to='block1', mirrored=False, n_steps=4, batch_size=8, lr=1e-4)"
KINDS: dict[str, dict[str, Any]] = {
    "features": {"transfer": "features", "engine": "onnxruntime"},
    "features by torch": {"transfer": "features", "engine": "torch"},
    "features of every kind": {"transfer": "features", "engine": "torch", "feature_stages": "quarters"},
    "features in bfloat16": {"transfer": "features", "engine": "openvino-bf16"},
    "head": {"transfer": "head", "epochs": 1, "engine": "onnxruntime", "augment": ["flip"]},
    "finetune": {"transfer": "finetune", "epochs": 1, "augment": ["flip"]},
    "scratch": {"transfer": "scratch", "epochs": 1, "backbone": "smallcnn(width=4)", "augment": ["flip"]},
    "search": {"transfer": "auto", "steps": ["features(size=64)", FOUR], "engine": "torch"},
}


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    if request.param == "features in bfloat16" and not (available() and computes_in_bfloat16()):
        pytest.skip("this processor has no bfloat16")
    return descend.fit(shapes, size=64, out=tmp_path_factory.mktemp("quick") / "run", **KINDS[request.param])


def test_the_command_answers_without_torch(run: Run, shapes: Path) -> None:
    picture = next(shapes.rglob("*.png"))
    command = [sys.executable, "-c", PREDICT, str(run.folder), str(picture)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    answer, imported = ended.stdout.strip().splitlines()
    assert imported == "False", ended.stderr
    assert str(picture) in answer


def test_it_answers_as_the_network_does(run: Run, shapes: Path) -> None:
    pictures = sorted(shapes.rglob("*.png"))[:20]
    quick, trained = run.predict(pictures, quick=True), run.predict(pictures)
    few_bits = run.record.frozen_part is not None and run.record.frozen_part["engine"] == "openvino-bf16"
    assert np.abs(quick.probabilities - trained.probabilities).max() <= (0.1 if few_bits else AGREEMENT)
    assert quick.names == trained.names


@pytest.fixture(scope="module")
def shapes_run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    head = {"head": "mlp(hidden=8)", "epochs": 1, "transfer": "features", "engine": "onnxruntime"}
    return descend.fit(shapes, size=64, out=tmp_path_factory.mktemp("mlp") / "run", **head)


def test_a_head_of_another_kind_is_answered_by_torch(shapes_run: Run, shapes: Path) -> None:
    picture = next(shapes.rglob("*.png"))
    assert shapes_run.record.graph_parts == []
    quick, trained = (shapes_run.predict(picture, quick=quick).probabilities for quick in (True, False))
    np.testing.assert_array_equal(quick, trained)


def test_a_picture_alone_gets_what_it_gets_among_others(run: Run, shapes: Path) -> None:
    pictures = sorted(shapes.rglob("*.png"))[:9]
    together = run.predict(pictures)
    alone = [run.predict(picture).probabilities[0] for picture in pictures]
    if run.record.frozen_part is not None:
        np.testing.assert_array_equal(together.probabilities, np.stack(alone))
    else:
        np.testing.assert_allclose(together.probabilities, np.stack(alone), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(run.predict(pictures[:4]).probabilities, np.stack(alone[:4]))


def test_only_the_pictures_of_a_small_call_are_computed(run: Run, shapes: Path) -> None:
    if run.record.frozen_part is not None:
        pytest.skip("the engine's chunks are its own (tests/unit/test_transfer_engines.py)")
    pictures, rows = sorted(shapes.rglob("*.png"))[:9], list[int]()

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows.append(len(inputs[0]))

    with run.classifier.register_forward_hook(note):
        run.predict(pictures[0])
        assert rows == [1]
        rows.clear()
        run.predict(pictures)
        assert sum(rows) > len(pictures)
