"""Other formats of the exported file: each answers as the run does, loads without descend, and says what 8 bits cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from PIL import Image
from torch import nn

from descend.cli import main
from descend.errors import KnobError, ModelError
from descend.export import QuantizedReport, export_file, export_int8
from descend.models import Classifier, backbone
from descend.pixels import FITS, Fit, PixelPolicy
from descend.train.exporting import Int8, format_of

HOLDS: dict[str, Any] = {"size": 28, "resolution": 32, "classes": ("a", "b", "c")}


def _picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((64, 48)))


PICTURES = [_picture(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def network() -> Classifier:
    body = backbone("smallcnn(width=8)").build(0)
    torch.manual_seed(0)
    return Classifier(body, nn.Linear(body.n_features, 3))


@pytest.fixture(scope="module")
def answers(network: Classifier, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    export_file(network, path, check_images=PICTURES, **HOLDS)
    return np.asarray(onnxruntime.InferenceSession(path).run(None, {"images": np.stack(PICTURES)})[0])


def test_openvinos_pair_does_what_the_onnx_file_does(network: Classifier, answers: np.ndarray, tmp_path: Path) -> None:
    report = export_file(network, tmp_path / "net.xml", check_images=PICTURES, format="openvino", **HOLDS)
    assert report.agrees
    assert report.own_pixels is not None
    assert {path.name for path in tmp_path.iterdir()} == {"net.xml", "net.bin"}
    model = openvino.Core().compile_model(tmp_path / "net.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(model(np.stack(PICTURES))[0], answers, atol=2e-3)
    stored = openvino.Core().read_model(tmp_path / "net.xml").get_rt_info(["descend", "classes"]).value
    assert json.loads(stored) == ["a", "b", "c"]


def test_torchs_program_takes_any_number_of_squares(network: Classifier, tmp_path: Path) -> None:
    report = export_file(network, tmp_path / "net.pt2", check_images=PICTURES, format="torch", **HOLDS)
    assert report.agrees
    assert report.own_pixels is None
    assert "own resize" not in str(report)
    stored = {"classes": "", "resolution": "", "fit": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=stored).module()
    assert (json.loads(stored["classes"]), stored["resolution"], stored["fit"]) == (["a", "b", "c"], "32", "crop")
    squares = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8))
    x = (squares[:, 2:30, 2:30].permute(0, 3, 1, 2) / 255 - torch.tensor(network.mean).view(3, 1, 1)) / torch.tensor(
        network.std
    ).view(3, 1, 1)
    with torch.inference_mode():
        expected = torch.softmax(network.eval()(x), 1)
    torch.testing.assert_close(program(squares), expected, atol=1e-5, rtol=0)


def test_eight_bits_are_inside_and_their_cost_is_told(network: Classifier, answers: np.ndarray, tmp_path: Path) -> None:
    labels = answers.argmax(1)
    pairs = [*zip(PICTURES, labels, strict=True)]
    path = tmp_path / "int8.onnx"
    report = export_int8(network, path, calibration=PICTURES, pictures=pairs, max_loss=1.0, **HOLDS)
    assert "validation pictures: " in str(report)
    assert "that the model has learned from, so new ones may lose more: " in str(replace(report, learned=True))
    quick = np.asarray(onnxruntime.InferenceSession(path).run(None, {"images": np.stack(PICTURES)})[0])
    assert report.before.all()
    assert report.after.tolist() == (quick.argmax(1) == labels).tolist()
    assert report.loss == pytest.approx(1 - (quick.argmax(1) == labels).mean())
    np.testing.assert_allclose(quick, answers, atol=0.05)
    model = onnx.load(path)
    assert {item.data_type for item in model.graph.initializer} >= {onnx.TensorProto.INT8}
    assert {item.key: item.value for item in model.metadata_props}["quantized"] == "int8"
    assert report.n_bytes < report.n_bytes_before


@pytest.mark.parametrize("fit", FITS)
def test_eight_bits_go_with_every_way_to_make_a_square(fit: Fit, network: Classifier, tmp_path: Path) -> None:
    policy, pairs = PixelPolicy(background="gray", fit=fit), [(picture, 0) for picture in PICTURES]
    report = export_int8(
        network, tmp_path / "int8.onnx", calibration=PICTURES[:2], pictures=pairs, max_loss=1.0, policy=policy, **HOLDS
    )
    assert len(report.after) == len(PICTURES)


def test_accuracy_that_rose_is_told_as_gained() -> None:
    few, more = np.arange(100) < 90, np.arange(100) < 92
    lost, gained = str(QuantizedReport(more, few, 2, 1, 2)), str(QuantizedReport(few, more, 2, 1, 2))
    assert "92.00% -> 90.00% of 100 validation pictures: 2.00 points lost (95% interval " in lost
    assert "90.00% -> 92.00% of 100 validation pictures: 2.00 points gained (95% interval " in gained
    ends = [text.partition("interval ")[2].partition(")")[0] for text in (lost, gained)]
    assert ends[0] == ends[1], "the interval is that of what is told"
    assert "points lost" in str(QuantizedReport(few, few, 0, 1, 2))


def test_a_loss_of_as_much_as_is_allowed_is_allowed() -> None:
    n = np.arange(100)
    assert QuantizedReport(n < 95, n < 94, 1, 1, 2).loss == 0.01  # floats: 0.95 - 0.94 > 0.01


def test_a_loss_above_the_bound_is_refused_unless_asked_for(
    network: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("descend.export.quantized.answers", lambda path: lambda images: np.array([[0.0, 0.0, 1.0]]))
    first = [(picture, 0) for picture in PICTURES]
    monkeypatch.setattr("descend.export.contents.Contents.answers", lambda self, images: np.array([[1.0, 0.0, 0.0]]))
    with pytest.raises(ModelError, match=r"may cost 1 points of accuracy at most .*--max-loss"):
        export_int8(network, tmp_path / "q.onnx", calibration=PICTURES[:2], pictures=first, **HOLDS)
    assert [*tmp_path.iterdir()] == []


def test_the_ending_says_the_format() -> None:
    assert [format_of(Path(name)) for name in ("a.onnx", "a.PT2", "a.xml")] == ["onnx", "torch", "openvino"]
    with pytest.raises(KnobError, match=r"must end in .pt2 for the format torch, got 'm.onnx'. Write m.pt2"):
        format_of(Path("m.onnx"), "torch")
    with pytest.raises(KnobError, match="must be a share"):
        Int8(1.5)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--int8", "--format", "torch"], "--int8: is for the format onnx"),
        (["--int8", "--check", "x.png"], "--check: has no effect with --int8"),
        (["--max-loss", "0.1"], "--max-loss: has no effect without --int8"),
        (["--int8", "--max-loss", "2"], "--max-loss: must be a share"),
        (["--format", "openvino", "--out", "m.onnx"], "must end in .xml for the format openvino"),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "nowhere", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
