"""The exported file: the same answers as torch on pictures of any size, and a refusal where they would differ."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import PIL
import pytest
import torch
from PIL import Image
from torch import nn

from descend.data.decode import decode, decode_resized
from descend.errors import ModelError
from descend.export import AgreementReport, agreement, export_file
from descend.export.preprocessing import CROPPED, preprocessing
from descend.models import Classifier, Ensemble, Member, backbone, to_input
from descend.pixels import FITS, PixelPolicy
from descend.transfer import graph
from descend.transfer.onnx_recorder import Unsupported, for_any_batch

PILLOW = int(PIL.__version__.partition(".")[0])
DATA = Path(os.environ.get("DESCEND_DATA", Path(__file__).parents[3] / "shared" / "data"))


def drawn(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth picture with edges, like a photograph to a resampler: (H, W, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 9 + 2, width // 9 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def classifier(n_classes: int = 3) -> Classifier:
    body = backbone("smallcnn(width=8)").build(0)
    torch.manual_seed(0)
    return Classifier(body, nn.Linear(body.n_features, n_classes))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(
    ("height", "width"), [(90, 61), (61, 90), (40, 40), (37, 200), (25, 31), (333, 250), (2, 300), (120, 45)]
)
def test_resize_crop_and_bars_are_the_decode_policys_to_a_level(height, width, fit):
    picture, policy = drawn(height, width), PixelPolicy(background="gray", fit=fit)
    grain = np.random.default_rng(0).integers(0, 128, picture.shape, dtype=np.uint8)  # a single rounding would show
    picture = picture // 2 + grain
    graph = preprocessing(resolution=40, size=32, policy=policy, opset=20, ir_version=10)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    found = session.run([CROPPED], {"images": picture[None]})[0][0].transpose(1, 2, 0)
    expected = decode_resized(picture, 40, policy=policy)[4:36, 4:36].astype(np.float32)
    off = np.abs(found - expected)
    is_their_order = width >= height or PILLOW >= 13  # of the two passes
    assert off.max() <= 2
    assert off.mean() < (0.01 if is_their_order else 0.3)
    if min(height, width) == 40:
        assert off.max() == 0, "a picture of the right size is cropped only"


def test_the_file_answers_like_torch_for_any_batch_and_size(tmp_path):
    net = classifier().train()
    path = tmp_path / "sub" / "net.onnx"
    pictures = [drawn(48, 64, seed) for seed in range(4)]
    report = export_file(net, path, size=28, resolution=32, classes=("a", "b", "c"), check_images=pictures,
                         temperature=2.0)  # fmt: skip
    assert report.agrees
    assert report.n == 4
    assert report.same_pixels < 1e-5
    assert net.training, "the network itself is left as it was"
    session = onnxruntime.InferenceSession(path)
    answers = session.run(None, {"images": np.stack(pictures)})[0]
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)
    one = session.run(None, {"images": pictures[2][None]})[0]
    np.testing.assert_allclose(one[0], answers[2], atol=1e-5)
    small = drawn(32, 32)
    with torch.inference_mode():
        logits = net.eval()(to_input(torch.from_numpy(small[None, 2:30, 2:30].copy()), net.mean, net.std))
    cooler = session.run(None, {"images": small[None]})[0]
    np.testing.assert_allclose(cooler, torch.softmax(logits / 2, 1), atol=1e-5)
    stored = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert json.loads(stored["classes"]) == ["a", "b", "c"]
    assert [entry.name for entry in path.parent.iterdir()] == ["net.onnx"]


def test_a_file_that_would_disagree_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "SAME_PIXELS", -1.0)
    path = tmp_path / "net.onnx"
    with pytest.raises(ModelError, match=r"must agree with torch \(1 pictures"):
        export_file(classifier(), path, size=28, resolution=32, classes=("a", "b", "c"), check_images=[drawn(40, 40)])
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_checked_or_cropped_is_refused(tmp_path):
    with pytest.raises(ModelError, match="one picture or more"):
        agreement.compared([], [], file=lambda x: x, network=lambda x: x)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ModelError, match="at least the size of 28 px, got 20"):
        export_file(classifier(), tmp_path / "x.onnx", size=28, resolution=20, classes="abc", check_images=[])


def test_a_changed_clear_answer_is_counted_a_near_tie_is_not():
    def fixed(*values):
        return lambda images: np.array([values], np.float32)

    picture = [np.zeros((2, 2, 3), np.uint8)]
    clear = agreement.compared(picture, picture, file=fixed(0.4, 0.6), network=fixed(0.6, 0.4))
    tie = agreement.compared(picture, picture, file=fixed(0.495, 0.505), network=fixed(0.505, 0.495))
    assert (clear.n_changed, tie.n_changed) == (1, 0)
    assert not clear.agrees
    assert not AgreementReport(1, 0.0, 0.2, 0.2, 0).agrees
    assert AgreementReport(1, 0.0, 0.01, 0.01, 0).agrees


def test_one_steep_picture_does_not_refuse_a_file_whose_answers_are_all_the_same():
    pictures = [np.full((2, 2, 3), level, np.uint8) for level in range(16)]

    def network(images):
        return np.array([[0.6, 0.4]], np.float32)

    def file(images):
        return np.array([[0.9, 0.1] if images[0, 0, 0, 0] == 3 else [0.6, 0.4]], np.float32)

    report = agreement.compared(pictures, pictures, file=network, network=network)
    assert report.agrees
    resized = [picture + np.uint8(100) for picture in pictures]  # the file answers alike on these
    report = agreement.compared(pictures, resized, file=file, network=network)
    assert report.worst == pytest.approx(0.3)
    assert report.own_pixels == pytest.approx(0.3 / 16)
    assert report.agrees, "no answer changed, and 15 of 16 pictures agree to the last digit"
    many = agreement.compared(pictures[3:4] * 2, resized[3:4] * 2, file=file, network=network)
    assert not many.agrees, "but where every picture is far off, the file is wrong"


def test_a_clear_answer_that_changes_on_the_same_pixels_is_counted():
    picture, small = [np.zeros((2, 2, 3), np.uint8)], [np.ones((2, 2, 3), np.uint8)]

    def file(images):
        return np.array([[0.4, 0.6] if images[0, 0, 0, 0] else [0.6, 0.4]], np.float32)

    def network(images):
        return np.array([[0.6, 0.4]], np.float32)

    assert agreement.compared(picture, small, file=file, network=network).n_changed == 1


def test_a_lead_that_tolerated_differences_can_turn_is_no_clear_answer_where_the_file_resizes():
    """Both probabilities may differ by 0.05 there: a lead of 0.08 is within that, one of 0.12 is not."""
    picture, small = [np.zeros((2, 2, 3), np.uint8)], [np.ones((2, 2, 3), np.uint8)]

    def changed(lead):
        answer = np.array([[0.5 + lead / 2, 0.5 - lead / 2]], np.float32)
        return agreement.compared(
            picture, small, file=lambda images: answer if images[0, 0, 0, 0] else answer[:, ::-1], network=lambda _: answer
        ).n_changed

    assert (changed(0.08), changed(0.12)) == (0, 1)


def members() -> Ensemble:
    """One that looks at both sides of the mirror, and one that resizes its pictures and reads stages of every kind."""
    second = classifier()
    second.backbone.look(20, of=28)
    second.backbone.tap(second.backbone.every_tap)
    second.head = nn.Linear(second.backbone.n_features, 3)
    return Ensemble([Member(classifier(), mirrored=True), Member(second, mirrored=False)], [1.0, 2.0])


def residual() -> Classifier:
    body = backbone("resnet9(width=4)").build(0)
    return Classifier(body, nn.Linear(body.n_features, 3))


@pytest.mark.parametrize("made", [classifier, residual, members])
def test_a_network_is_recorded_for_any_number_of_pictures_without_torchs_exporter(tmp_path, monkeypatch, made):
    monkeypatch.delattr(graph, "exported")
    net, path = made().eval(), tmp_path / "net.onnx"
    export_file(net, path, size=28, resolution=28, classes=("a", "b", "c"), check_images=[drawn(28, 28)])
    session = onnxruntime.InferenceSession(path)
    for n in (1, 2, 5):
        pictures = np.stack([drawn(28, 28, seed) for seed in range(n)])
        with torch.inference_mode():
            expected = net(to_input(torch.from_numpy(pictures), net.mean, net.std)).softmax(1)
        np.testing.assert_allclose(session.run(None, {"images": pictures})[0], expected, atol=1e-5)


class Softplus(nn.Linear):
    def forward(self, x):
        return nn.functional.softplus(super().forward(x))


class Numbered(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) + torch.arange(len(x))[:, None]


def test_what_has_no_row_or_knows_its_place_in_the_batch_is_not_recorded_but_exported_by_torch(tmp_path, capfd):
    example = torch.ones(4, 3, 28, 28)
    with pytest.raises(Unsupported, match="softplus"):
        for_any_batch(Softplus(28, 3), example, inputs="x", output="y")
    with pytest.raises(Unsupported, match="Add by the batch size"):
        for_any_batch(Numbered(), example, inputs="x", output="y")
    net, path, pictures = classifier().eval(), tmp_path / "net.onnx", np.stack([drawn(28, 28, seed) for seed in range(5)])
    net.head = Softplus(net.backbone.n_features, 3)
    export_file(net, path, size=28, resolution=28, classes=("a", "b", "c"), check_images=[*pictures])
    with torch.inference_mode():
        expected = net(to_input(torch.from_numpy(pictures), net.mean, net.std)).softmax(1)
    np.testing.assert_allclose(onnxruntime.InferenceSession(path).run(None, {"images": pictures})[0], expected, atol=1e-5)
    assert "onnxruntime" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "hymenoptera").is_dir(), reason="needs the photographs of DESCEND_DATA")
def test_lite0_agrees_on_photographs(tmp_path):
    files = sorted((DATA / "hymenoptera").rglob("*.jpg"))[::40]
    body = backbone("lite0").build(0)
    torch.manual_seed(0)
    net = Classifier(body, nn.Linear(body.n_features, 2))
    report = export_file(net, tmp_path / "lite0.onnx", size=224, resolution=256, classes=("ants", "bees"),
                         check_images=[decode(file) for file in files])  # fmt: skip
    assert report.agrees, str(report)
    assert report.n == len(files) > 3


def test_a_disk_that_takes_no_more_is_said_with_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("descend.export.onnx_file.onnx.save", full)
    with pytest.raises(ModelError, match=r"net\.onnx must be writable \(No space left on device\)\. Free some space"):
        export_file(
            classifier(), tmp_path / "net.onnx", size=28, resolution=32, classes=("a", "b", "c"), check_images=[drawn(48, 64)]
        )
    assert not list(tmp_path.iterdir())
