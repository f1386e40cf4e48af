"""The exported file of a run: checked on its whole validation split, and served with onnxruntime and Pillow alone."""

from __future__ import annotations

import http.client
import importlib.util
import io
import json
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

import descend
from descend.errors import DataError, KnobError
from descend.train.exporting import Int8
from descend.train.run import Run

LABELS = np.array(["ant", "bee"])[np.arange(40) % 2]
IMAGES = (np.random.default_rng(0).integers(0, 60, (40, 20, 20, 3)) + 150 * (LABELS == "bee")[:, None, None, None]).astype(
    np.uint8
)
SETTINGS: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "epochs": 2, "batch_size": 16, "augment": []}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return descend.fit((IMAGES, LABELS), out=tmp_path_factory.mktemp("runs") / "run", **SETTINGS)


@pytest.fixture(scope="module")
def served() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "serve" / "classify.py"
    spec = importlib.util.spec_from_file_location("classify", path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def png(image: np.ndarray, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "model.onnx"),
        ({"format": "torch"}, "model.pt2"),
        ({"format": "openvino"}, "model.xml"),
        ({"int8": Int8(max_loss=1.0)}, "model.int8.onnx"),
    ],
)
def test_a_file_that_is_not_named_gets_the_name_of_its_kind(run: Run, asked: dict[str, Any], name: str) -> None:
    (run.folder / name).unlink(missing_ok=True)
    run.export(data=(IMAGES, LABELS), **asked)
    assert (run.folder / name).stat().st_size > 0


def test_the_file_is_checked_on_the_whole_validation_split_and_served_without_descend(run: Run, served: ModuleType) -> None:
    assert run.record.val is not None
    report = run.export(data=(IMAGES, LABELS))
    assert report.n == run.record.val["n"]
    classify = served.Classifier(run.folder / "model.onnx")
    expected = run.predict(IMAGES[:2]).probabilities
    for row, image in zip(expected, IMAGES, strict=False):
        for mode in ("RGB", "RGBA"):
            answer = classify(png(image, mode))
            assert [*answer] == ["ant", "bee"]
            np.testing.assert_allclose([*answer.values()], row, atol=1e-4)
    wide = np.concatenate([IMAGES[0], IMAGES[0]])  # (40, 20, 3): upright, and once more lying with a note to turn it
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned by 90 degrees, counter-clockwise
    lying = np.rot90(wide, -1)
    assert classify(png(lying, exif=exif)) == classify(png(wide))


def test_it_answers_over_http(run: Run, served: ModuleType) -> None:
    run.export(data=(IMAGES, LABELS))
    server = ThreadingHTTPServer(("127.0.0.1", 0), served.handler(served.Classifier(run.folder / "model.onnx")))
    server.RequestHandlerClass.log_message = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        answers = []
        for body in (png(IMAGES[1]), b"no picture"):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])
            connection.request("POST", "/", body)
            response = connection.getresponse()
            answers.append((response.status, json.loads(response.read())))
            connection.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert answers[0][0] == 200
    assert answers[0][1]["class"] == run.predict(IMAGES[1]).labels[0]
    assert answers[1] == (400, {"error": "no picture in a format that Pillow reads"})


def test_what_it_cannot_be_checked_on_or_named_is_told(run: Run, tmp_path: Path) -> None:
    told = {
        "given in Python, .* again, export\\(..., data=...\\). Give others: --check": None,
        "the run's pictures .* have changed. Give others: --check": (IMAGES[::-1], LABELS),
        "the run's pictures .*: images must be .* float64.* Give others: --check": (IMAGES / 255, LABELS),
    }
    for words, data in told.items():
        with pytest.raises(DataError, match=words):
            run.export(tmp_path / "m.onnx", data=data)
    with pytest.raises(KnobError, match=r"ending in .onnx, got '.*m.pt'. Write m.onnx"):
        run.export(tmp_path / "m.pt", data=(IMAGES, LABELS))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_a_server_makes_no_white_picture_of_a_deep_one(
    run: Run, served: ModuleType, tmp_path: Path, kind: type[np.generic]
) -> None:
    run.export(tmp_path / "m.onnx", data=(IMAGES, LABELS))
    classify, buffer = served.Classifier(tmp_path / "m.onnx"), io.BytesIO()
    Image.fromarray(IMAGES[0, :, :, 0].astype(kind) * kind(200)).save(buffer, "TIFF")
    with pytest.raises(OSError, match="more than 8 bits"):
        classify(buffer.getvalue())
    gray = Image.fromarray(IMAGES[0, :, :, 0])
    expected = run.predict(gray).probabilities[0]
    assert list(classify(png(np.asarray(gray), "L")).values()) == pytest.approx(expected.tolist(), abs=1e-3)
