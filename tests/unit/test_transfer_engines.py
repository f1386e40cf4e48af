"""Engines: they agree with the network and each other; a picture's bits do not depend on its company; who is missing is told."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from descend.errors import MissingExtra, ModelError
from descend.files import CacheFolder
from descend.models import Backbone, backbone, fingerprint, to_input
from descend.transfer import ENGINES, choose, engine_openvino, engines, graph, make_engine
from descend.transfer.engine import Chunk, Engine, FrozenPrefix
from descend.transfer.folding import folded
from descend.transfer.onnx_recorder import Unsupported, recorded

SIZE = 64


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return backbone("lite0").build(0).eval()


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> CacheFolder:
    return CacheFolder(tmp_path_factory.mktemp("cache"), limit_bytes=10**9)


def pictures(n: int, size: int = SIZE) -> np.ndarray:
    """Smooth random pictures: noise of 8x8 squares, like nothing the network has seen but with edges and areas."""
    coarse = np.random.default_rng(n).integers(0, 256, (n, size // 8, size // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def eager(net: Backbone, stage: str, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return net.prefix(stage)(to_input(torch.from_numpy(images), net.mean, net.std)).numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def installed(name: str) -> bool:
    try:
        ENGINES[name].version()
    except (MissingExtra, ModelError):
        return False
    return True


TIGHT, ROUNDED = (0.99999, 1e-3), (0.99, 0.1)  # lowest cosine, largest difference relative to the largest value


@pytest.mark.parametrize("name", [*ENGINES])
@pytest.mark.parametrize("stage", ["head", "block3"])
def test_every_engine_agrees_with_the_network_itself(lite0, cache, name, stage):
    if not installed(name):
        pytest.skip(f"{name} is not installed")
    engine = make_engine(name, lite0, size=SIZE, stage=stage, cache=cache)
    images = pictures(engine.chunk + 3)
    expected, found = eager(lite0, stage, images), engine(images)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    least, most = TIGHT if engine.precision == "f32" else ROUNDED
    assert cosine(found, expected).min() >= least
    np.testing.assert_allclose(found, expected, atol=most * np.abs(expected).max())


@pytest.mark.parametrize("name", [*ENGINES])
def test_every_engine_gives_all_that_late_stages_tell_in_one_graph_and_whatever_stands_beside(lite0, cache, name, monkeypatch):
    """Means, covariances and quarters; the graph is written without torch's exporter, which takes seconds."""
    if not installed(name):
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr(graph, "exported", _refused)
    tapped = backbone("lite0").build(0).eval()
    tapped.tap(tapped.every_tap)
    engine = make_engine(name, lite0, size=SIZE, taps=tapped.every_tap, cache=cache)
    images = pictures(engine.chunk + 3)
    with torch.inference_mode():
        expected = tapped(to_input(torch.from_numpy(images), lite0.mean, lite0.std)).numpy()
    found = engine(images)
    least, most = TIGHT if engine.precision == "f32" else ROUNDED
    assert cosine(found, expected).min() >= least
    for columns in (slice(0, 1696), slice(1696, 3292), slice(3292, 5316)):  # quarters, covariances, means
        of_these = expected[:, columns]
        np.testing.assert_allclose(found[:, columns], of_these, atol=most * np.abs(of_these).max())
    assert np.array_equal(engine(images[2:3])[0], found[2])


def test_a_processor_without_bfloat16_has_no_such_engine(monkeypatch, cache):
    monkeypatch.setattr(engine_openvino, "computes_in_bfloat16", lambda: False)
    net = backbone("smallcnn(width=4)").build(0)
    with pytest.raises(ModelError, match=r"must compute in bfloat16.*--engine openvino"):
        make_engine("openvino-bf16", net, size=16, cache=cache)
    assert "bfloat16" in choose(net, size=16, cache=cache).missing["openvino-bf16"]


def test_an_engine_whose_rounding_changes_the_features_is_left_out(monkeypatch, tmp_path):
    if not installed("openvino-bf16"):
        pytest.skip("this processor has no bfloat16")
    monkeypatch.setattr(engines, "LEAST_AGREEMENT", 1.1)
    choice = choose(backbone("smallcnn(width=4)").build(0), size=16, cache=CacheFolder(tmp_path))
    assert choice.engine.name != "openvino-bf16"
    assert "agree with float32" in choice.missing["openvino-bf16"]


def answering(change) -> Any:
    """An engine whose features are 400 random columns of a picture, a fifth of them always 0, each changed by a function."""
    columns = np.random.default_rng(0).standard_normal((SIZE * SIZE * 3, 400)).astype(np.float32)

    class Answering:
        prefix = SimpleNamespace(size=SIZE)

        def __call__(self, images: np.ndarray) -> np.ndarray:
            centered = images.reshape(len(images), -1).astype(np.float32) - 128
            features = centered @ columns
            features[:, :80] = 0
            return change(features)

    return Answering()


def test_columns_that_are_nothing_on_a_few_pictures_and_next_to_nothing_in_bfloat16_are_no_mismatch():
    """They outweighed all others where each column was in units of its largest value: any number is infinitely many times 0."""
    plain = answering(lambda features: features)

    def rounded(features: np.ndarray) -> np.ndarray:
        features[0, :3] = 1e-3
        return torch.from_numpy(features).bfloat16().float().numpy()

    assert engines._agreement(plain, plain) == pytest.approx(1.0)
    assert engines._agreement(answering(rounded), plain) > engines.LEAST_AGREEMENT


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: x[:, ::-1], id="other columns"),
        pytest.param(lambda x: x + 2 * x.std(0) * np.random.default_rng(1).standard_normal(x.shape), id="noise"),
        pytest.param(lambda x: x.mean(0) + 0 * x, id="the same for all"),
        pytest.param(lambda x: x * np.nan, id="no numbers"),
    ],
)
def test_features_that_tell_pictures_apart_otherwise_do_not_agree_however_large_their_means_are(change):
    shifted, plain = answering(lambda x: change(x) + 1e6), answering(lambda x: x + 1e6)
    assert not engines._agreement(shifted, plain) >= engines.LEAST_AGREEMENT


def test_bfloat16_is_offered_for_all_that_late_stages_of_a_pretrained_network_tell(lite0, cache):
    if not installed("openvino-bf16"):
        pytest.skip("this processor has no bfloat16")
    choice = choose(lite0, size=96, taps=lite0.every_tap, cache=cache)
    assert "openvino-bf16" in choice.images_per_s, choice.missing


@pytest.mark.parametrize("name", [*ENGINES])
def test_a_pictures_bits_depend_neither_on_its_companions_nor_on_its_place(lite0, cache, name):
    if not installed(name):
        pytest.skip(f"{name} is not installed")
    engine = make_engine(name, lite0, size=SIZE, cache=cache)
    images = pictures(2 * engine.chunk + 5)
    together = engine(images)
    order = np.random.default_rng(1).permutation(len(images))
    assert np.array_equal(engine(images[order]), together[order])
    for i in (0, engine.chunk - 1, len(images) - 1):
        assert np.array_equal(engine(images[i : i + 1])[0], together[i])
    assert np.array_equal(np.concatenate([engine(images[:7]), engine(images[7:])]), together)


def test_an_engine_is_a_snapshot_and_leaves_the_network_alone(lite0, cache):
    net = backbone("smallcnn(width=4)").build(0)
    before = fingerprint(net)
    engine = make_engine("torch", net, size=16, cache=cache)
    images = pictures(3, 16)
    found = engine(images)
    assert fingerprint(net) == before
    assert net.training
    with torch.no_grad():
        net.stages.stem.conv.weight.mul_(2)
    assert np.array_equal(engine(images), found)


def test_chunks_hold_about_the_same_number_of_pixels():
    assert [Chunk().at(size) for size in (8, 32, 112, 224, 448, 1000)] == [64, 64, 16, 4, 1, 1]


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, SIZE, SIZE + 1, 3), np.uint8), np.zeros((2, SIZE, SIZE, 3), np.float32), np.zeros((0, SIZE, SIZE, 3), np.uint8),
     np.zeros((SIZE, SIZE, 3), np.uint8)],
)  # fmt: skip
def test_wrong_pictures_are_refused(lite0, cache, wrong):
    with pytest.raises(ModelError, match=r"\(B, 64, 64, 3\) uint8"):
        make_engine("torch", lite0, size=SIZE, cache=cache)(wrong)


def test_unknown_engine_stage_and_size_are_told(lite0, cache):
    with pytest.raises(ModelError, match="Did you mean 'onnxruntime'"):
        make_engine("onnxrt", lite0, size=SIZE, cache=cache)
    with pytest.raises(ModelError, match="Did you mean 'block1'"):
        make_engine("torch", lite0, size=SIZE, stage="block_1", cache=cache)
    with pytest.raises(ModelError, match="at least 32 px"):
        make_engine("torch", lite0, size=8, cache=cache)


def test_a_missing_engine_names_its_extra_and_auto_does_without(monkeypatch, cache):
    monkeypatch.setattr(engine_openvino, "available", lambda: False)
    net = backbone("smallcnn(width=4)").build(0)
    with pytest.raises(MissingExtra, match=r"descend\[fast\]"):
        make_engine("openvino", net, size=16, cache=cache)
    choice = choose(net, size=16, cache=cache)
    assert set(choice.images_per_s) == {"torch", "onnxruntime"}
    assert "descend[fast]" in choice.missing["openvino"]
    assert "descend[fast]" in choice.missing["openvino-bf16"]


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """Let the last engine asked for win without starting any; each list of candidates is noted."""
    noted: list[list[str]] = []

    def measured(candidates):
        noted.append(list(candidates))
        return {name: 100.0 - i for i, name in enumerate(reversed(list(candidates)))}

    monkeypatch.setattr(engines, "measure", measured)
    monkeypatch.setattr(engines, "_agreement", lambda engine, reference: 1.0)
    monkeypatch.setattr(Engine, "start", lambda self: None)
    monkeypatch.setattr(Engine, "__call__", lambda self, images: np.zeros((len(images), 1), np.float32))
    return noted


def test_the_fastest_is_chosen_once_and_remembered(asked, tmp_path):
    cache = CacheFolder(tmp_path)
    net = backbone("smallcnn(width=4)").build(0)
    first, second = choose(net, size=16, cache=cache), choose(net, size=16, cache=cache)
    assert len(asked) == 1
    assert first.engine.name == second.engine.name == asked[0][-1]
    assert (first.remembered, second.remembered) == (False, True)
    assert second.engine.images_per_s == 100.0
    choose(net, size=24, cache=cache)
    choose(backbone("smallcnn(width=4)").build(1), size=16, cache=cache)
    assert len(asked) == 3, "another size and other weights are other questions"


def test_an_engine_that_cannot_run_the_network_is_left_out(monkeypatch, tmp_path):
    def refuse(self):
        raise ModelError("openvino", "must know every operation")

    monkeypatch.setattr(ENGINES["onnxruntime"], "_start", refuse)
    monkeypatch.setattr(ENGINES["openvino"], "_start", refuse)  # the one in bfloat16 inherits it
    choice = choose(backbone("smallcnn(width=4)").build(0), size=16, cache=CacheFolder(tmp_path))
    assert choice.engine.name == "torch"
    assert "every operation" in choice.missing["onnxruntime"]


def test_an_engine_that_fails_on_its_first_pictures_is_left_out(monkeypatch, tmp_path):
    def compute(chunks):
        raise RuntimeError("shape inference of node 7")

    for name in ("onnxruntime", "openvino"):
        monkeypatch.setattr(ENGINES[name], "_start", lambda self: compute)
    choice = choose(backbone("smallcnn(width=4)").build(0), size=16, cache=CacheFolder(tmp_path))
    assert choice.engine.name == "torch"
    assert "node 7" in choice.missing["onnxruntime"]


def test_a_damaged_verdict_is_measured_again(asked, tmp_path):
    cache = CacheFolder(tmp_path)
    net = backbone("smallcnn(width=4)").build(0)
    choose(net, size=16, cache=cache)
    (entry,) = cache.entries("verdicts")
    for damage in ("", "[]", "{}", json.dumps({"images_per_s": {"gone": 3.0}, "failed": {}})):
        entry.path.write_text(damage, encoding="utf-8")
        assert not choose(net, size=16, cache=cache).remembered


def test_the_graph_is_exported_once_per_weights(monkeypatch, tmp_path):
    cache, written = CacheFolder(tmp_path), []
    original = graph.recorded

    def counted(*args, **kwargs):
        written.append(kwargs["output"])
        return original(*args, **kwargs)

    monkeypatch.setattr(graph, "recorded", counted)
    for seed in (0, 0, 1):
        make_engine("onnxruntime", backbone("smallcnn(width=4)").build(seed), size=16, cache=cache).start()
    assert len(written) == 2


def _refused(*args, **kwargs):
    raise Unsupported("an operation")


def _called_otherwise(*args, **kwargs):
    raise TypeError("_mean() missing 1 required positional argument: 'axes'")


def _refused_by_the_runtime(module, example, *, inputs, output):
    return b"no graph"


def _wrong(module, example, *, inputs, output):
    return recorded(nn.Sequential(module, nn.Sigmoid()), example, inputs=inputs, output=output)


@pytest.mark.parametrize("instead", [_refused, _called_otherwise, _refused_by_the_runtime, _wrong])
def test_what_the_recorder_cannot_write_or_writes_wrongly_is_exported_by_torch(monkeypatch, tmp_path, instead):
    """A sigmoid behind the network is written, but that is not the network."""
    monkeypatch.setattr(graph, "recorded", instead)
    net = backbone("smallcnn(width=4)").build(0).eval()
    images = pictures(3, 16)
    found = make_engine("onnxruntime", net, size=16, cache=CacheFolder(tmp_path))(images)
    np.testing.assert_allclose(found, eager(net, net.stage_names[-1], images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "error", [RuntimeError("Unsupported primitive\nat line 3"), TypeError(), KeyError("x"), OSError(2, "gone")]
)
def test_an_engine_that_cannot_start_is_left_out_and_by_name_told_in_words(error, monkeypatch, tmp_path):
    """Whatever a runtime raises; what may be otherwise in the next run is not kept."""

    class Broken:
        def __init__(self, *args, **kwargs):
            raise error

    net, cache = backbone("smallcnn(width=4)").build(0), CacheFolder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("onnxruntime.SessionOptions", Broken)
        choice = choose(net, size=16, cache=cache)
        assert "torch" in choice.images_per_s
        assert "onnxruntime" not in choice.images_per_s
        assert "must be able to run smallcnn" in choice.missing["onnxruntime"]
        assert "\n" not in choice.missing["onnxruntime"]
        with pytest.raises(ModelError, match=r"engine onnxruntime: must be able to run smallcnn.*--engine torch"):
            make_engine("onnxruntime", net, size=16, cache=cache).start()
    assert ("onnxruntime" in choose(net, size=16, cache=cache).images_per_s) == isinstance(error, OSError)


def test_a_full_memory_is_none_of_an_engines_faults(monkeypatch, tmp_path):
    def full(self):
        raise MemoryError

    net, cache = backbone("smallcnn(width=4)").build(0), CacheFolder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ENGINES["onnxruntime"], "_start", full)
        assert "onnxruntime" not in choose(net, size=16, cache=cache).images_per_s
        patch.setattr(ENGINES["torch"], "_start", full)
        with pytest.raises(MemoryError):
            choose(net, size=16, cache=cache)
    assert "onnxruntime" in choose(net, size=16, cache=cache).images_per_s


def test_an_installation_that_cannot_be_loaded_is_left_out(monkeypatch, cache):
    def broken():
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(engine_openvino, "available", lambda: True)
    monkeypatch.setattr(engine_openvino.importlib.metadata, "version", lambda name: "1")
    monkeypatch.setattr(engine_openvino, "computes_in_bfloat16", broken)
    net = backbone("smallcnn(width=4)").build(0)
    with pytest.raises(ModelError, match=r"engine openvino-bf16: openvino must be able to start \(libtbb"):
        make_engine("openvino-bf16", net, size=16, cache=cache)
    assert "libtbb" in choose(net, size=16, cache=cache).missing["openvino-bf16"]


class Odd(nn.Module):
    """One of each operation that real networks have beside convolutions."""

    def __init__(self):
        super().__init__()
        self.norm, self.layer = nn.BatchNorm2d(3), nn.LayerNorm(5)
        self.act = nn.ModuleList([nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid(), nn.Sigmoid(), nn.ReLU6(inplace=True)])
        self.linear = nn.Linear(5, 4)

    def forward(self, x):
        x = self.norm(x.permute(0, 3, 1, 2).float() / 100 - 1.0)
        y = torch.nn.functional.pad(x, (1, 2, 0, 1), value=0.5)[:, :, ::2, 1:6]
        for act in self.act:
            y = y + act(y * 1.5)
        y = self.layer(y) - torch.clamp(y, -0.25)
        z = self.linear(y.mean(2)).transpose(1, 2).flatten(1)
        top = nn.functional.max_pool2d(x, 3, 2, 1).amax((2, 3))
        pooled = nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return torch.cat([z, top.unsqueeze(1).squeeze(1), pooled, torch.matmul(y, y.transpose(2, 3)).flatten(1)], 1)


def test_every_operation_is_recorded_as_torch_computes_it():
    import onnxruntime

    net = Odd().eval()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 7, 6, 3), dtype=np.uint8))
    with torch.no_grad():
        expected = net(images).numpy()
    content = recorded(net, images, inputs="images", output="y")
    with torch.inference_mode():  # as eval and predict ask for it
        assert recorded(net, images.clone(), inputs="images", output="y") == content
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, rtol=1e-4, atol=1e-5)
    for unknown in (nn.Softmax(1), nn.ConvTranspose2d(3, 2, 3), nn.AdaptiveAvgPool2d(2), nn.BatchNorm2d(3).train()):
        with pytest.raises(Unsupported):
            recorded(unknown, torch.ones(1, 3, 6, 6), inputs="x", output="y")


# ------------------------------------------------------------------------------------------------------------- folding


class PreActivation(nn.Module):
    """The convolution's output goes to the norm and around it: folding would change what goes around."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.normal_(self.norm.weight)

    def forward(self, x):
        y = self.conv(x)
        return y + self.norm(y)


def test_folding_removes_every_norm_of_lite0_and_keeps_the_function(lite0):
    prefix = FrozenPrefix(lite0, size=SIZE)
    images = torch.from_numpy(pictures(2))
    found = folded(prefix, images)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in found.modules())
    with torch.inference_mode():
        torch.testing.assert_close(found(images), prefix(images), rtol=1e-3, atol=1e-3)


def test_a_norm_whose_convolution_is_also_used_elsewhere_is_not_folded():
    net = PreActivation().eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(folded(net, x)(x), net(x))


IMPORTS = """
import sys, time
seen = []
sys.addaudithook(lambda event, given: seen.append(event) if event in ("os.fork", "socket.connect") else None)
from descend.transfer import engine_openvino
engine_openvino.core()
time.sleep(1.0)
print(seen, "openvino" in sys.modules, "openvino_telemetry" in sys.modules)
import importlib.util
print(importlib.util.find_spec("openvino_telemetry") is not None)
"""


@pytest.mark.skipif(not engine_openvino.available(), reason="needs openvino")
def test_openvino_tells_nobody_that_it_was_imported() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[0] == "[] True False"
    assert done.stdout.splitlines()[1] == "True"  # what sends is installed, and found by whoever wants it
