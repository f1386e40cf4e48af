"""Weights from a file: whatever wraps them, the same network as torch's own ``load_state_dict`` gives, or a refusal in words."""

from __future__ import annotations

import argparse
import json
import struct
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from descend.errors import ModelError
from descend.models import Backbone, backbone, load_weights
from descend.models.weight_file import read_weights

X = torch.linspace(-2, 2, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)


@pytest.fixture(scope="module")
def trained() -> Any:
    """Timm's ResNet-18 with 1,000 classes and statistics that are not those of a new network."""
    torch.manual_seed(7)
    model = timm.create_model("resnet18", pretrained=False)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def state(trained: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trained.state_dict().items()}


@pytest.fixture(scope="module")
def expected(trained: Any) -> torch.Tensor:
    with torch.inference_mode():
        return trained.forward_head(trained.forward_features(X), pre_logits=True)


def empty() -> Backbone:
    return backbone("timm(model=resnet18, pretrained=False)").build(0).eval()


def features(net: Backbone) -> torch.Tensor:
    with torch.inference_mode():
        return net(X)


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


WRAPPED = {
    "plain": (lambda s: s, "", ""),
    "module": (lambda s: prefixed(s, "module."), "", "module."),
    "compiled": (lambda s: prefixed(s, "module._orig_mod."), "", "module._orig_mod."),
    "lightning": (lambda s: {"state_dict": prefixed(s, "model."), "epoch": 3, "optimizer_states": [1]}, "state_dict", "model."),
    "nested": (lambda s: {"checkpoint": {"model": OrderedDict(s)}, "optimizer": {"state": {0: {"m": torch.ones(3)}}}},
               "checkpoint.model", ""),
    "averaged": (lambda s: {"model": {k: v + 1 for k, v in s.items()}, "model_ema": s}, "model_ema", ""),
    "tower": (lambda s: {**prefixed(s, "visual.trunk."), "text.embedding": torch.ones(4, 4)}, "", "visual.trunk."),
}  # fmt: skip


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_wrapped_weights_compute_what_the_model_they_are_of_computes(wrapping, state, expected, tmp_path):
    wrap, inside, prefix = WRAPPED[wrapping]
    torch.save(wrap(state), tmp_path / "w.pth")
    net = empty()
    report = load_weights(net, tmp_path / "w.pth")
    assert torch.equal(features(net), expected)
    assert (report.inside, report.prefix, report.share, report.missing, report.wrong_shape) == (inside, prefix, 1.0, (), ())
    assert report.n_matched == report.n_tensors == 100
    assert {name.removeprefix(prefix) for name in report.classifier} == {"fc.weight", "fc.bias"}
    assert ("text.embedding" in report.unexpected) == (wrapping == "tower")
    assert net.weights_id.startswith("pretrained-")


def test_safetensors_and_half_precision_are_read_too(state, expected, tmp_path):
    save_file(
        {name: value.half() if value.is_floating_point() else value for name, value in state.items()}, tmp_path / "w.safetensors"
    )
    net = empty()
    load_weights(net, tmp_path / "w.safetensors")
    torch.testing.assert_close(features(net), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    "text", ["resnet9(width=8)", "lite0(pretrained=False)", "timm(model=convnext_atto, pretrained=False)",
             "timm(model=vit_tiny_patch16_224, pretrained=False)"],
)  # fmt: skip
def test_the_model_of_a_run_of_ours_is_such_a_file(text, tmp_path):
    made = backbone(text)
    ours, net = made.build(1), made.build(2)
    saved = {f"backbone.{key}": value.contiguous().clone() for key, value in ours.state_dict().items()}
    save_file({**saved, "head.weight": torch.ones(3, ours.n_features)}, tmp_path / "model.safetensors")
    report = load_weights(net, tmp_path / "model.safetensors")
    for key, value in ours.state_dict().items():
        assert torch.equal(net.state_dict()[key], value), key
    assert (report.share, report.classifier, report.unexpected) == (1.0, ("head.weight",), ())


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_100", "tf_efficientnet_lite0"])
def test_timms_own_names_are_known_for_every_layout(name, tmp_path):
    theirs = timm.create_model(name, pretrained=False)
    save_file({key: value.contiguous() for key, value in theirs.state_dict().items()}, tmp_path / "w.safetensors")
    net = backbone(f"timm(model={name}, pretrained=False)").build(3).eval()
    report = load_weights(net, tmp_path / "w.safetensors")
    x = torch.linspace(-2, 2, 3 * 224 * 224).reshape(1, 3, 224, 224)
    with torch.inference_mode():
        expected = theirs.eval().forward_head(theirs.forward_features(x), pre_logits=True)
        assert torch.equal(net(x), expected)
    assert (report.share, report.missing, report.unexpected) == (1.0, (), ())
    assert report.classifier


def timms_own(name: str, path: Path, size: int) -> Any:
    """The network as timm itself makes it of a file, as of one from its hub."""
    overlay = {"file": str(path), "url": "", "hf_hub_id": None}
    with warnings.catch_warnings(action="ignore"):
        return timm.create_model(name, pretrained=True, num_classes=0, img_size=size, pretrained_cfg_overlay=overlay).eval()


@pytest.mark.parametrize(
    ("name", "size", "converted", "wrap"),
    [
        ("test_vit", 96, ("pos_embed",), lambda s: s),
        ("test_vit", 96, ("pos_embed",), lambda s: {"model": prefixed(s, "module."), "epoch": 1}),
        ("test_vit", 160, (), lambda s: s),
        # its last stage has windows of 2 x 2 patches there
        ("swin_tiny_patch4_window7_224", 64, None, lambda s: s),
    ],
)
def test_positions_are_resampled_as_timm_does_for_another_size(name, size, converted, wrap, tmp_path):
    torch.manual_seed(3)
    theirs = timm.create_model(name, pretrained=False)
    for key, value in theirs.named_parameters():
        if "pos" in key:
            nn.init.normal_(value.data)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    torch.save(wrap(theirs.state_dict()), tmp_path / "w.pth")
    net = backbone(f"timm(model={name}, img_size={size}, pretrained=False)").build(1)
    report = load_weights(net, tmp_path / "w.pth")
    assert (report.share, report.missing, report.wrong_shape, report.unexpected) == (1.0, (), (), ())
    assert report.converted == converted or (converted is None and report.converted)
    assert ("converted as timm does" in report.summary()) == bool(report.converted)
    x = torch.linspace(-2, 2, 2 * 3 * size * size).reshape(2, 3, size, size)
    with torch.inference_mode():
        assert torch.equal(net.eval()(x), timms_own(name, tmp_path / "theirs.pth", size)(x))


def test_the_names_of_a_networks_authors_are_read_as_timm_reads_them(tmp_path):
    theirs = timm.create_model("convnext_atto", pretrained=False)
    new = {".blocks.": ".", "mlp.fc1": "pwconv1", "mlp.fc2": "pwconv2", "conv_dw": "dwconv"}
    state = {}
    for key, value in theirs.state_dict().items():
        key = key.replace("stem.", "downsample_layers.0.").replace("head.norm", "norm").replace("head.fc", "head")
        if "downsample" in key and key.startswith("stages"):
            key = key.replace("stages.", "downsample_layers.").replace(".downsample.", ".")
        for after, before in new.items():
            key = key.replace(after, before)
        state[key] = value
    torch.save({"model": state}, tmp_path / "w.pth")
    net = backbone("timm(model=convnext_atto, pretrained=False)").build(1).eval()
    report = load_weights(net, tmp_path / "w.pth")
    assert (report.share, report.missing, report.inside) == (1.0, (), "model")
    with torch.inference_mode():
        assert torch.equal(net(X), theirs.eval().forward_head(theirs.forward_features(X), pre_logits=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conv1.weight": torch.ones(64, 1, 7, 7)}, r"1 of the wrong shape, .*conv1\.weight: float32 \(64, 1, 7, 7\)"),
        ({"conv1.weight": None, "layer1.0.conv1.weight": None}, r"2 missing"),
        ({"layer4.1.bn2.running_var": None}, r"layer4\.1\.bn2\.running_var would"),
    ],
)
def test_what_no_network_can_do_without_is_never_left_random(change, words, state, tmp_path):
    """97 of 100 tensors are a good share, and features of noise where the first is not among them."""
    torch.save({name: value for name, value in {**state, **change}.items() if value is not None}, tmp_path / "w.pt")
    net = empty()
    before = net.weights_id
    with pytest.raises(ModelError, match=rf"must hold every kernel.*drawn at random, .*{words}"):
        load_weights(net, tmp_path / "w.pt")
    assert net.weights_id == before


def test_what_is_missing_or_of_the_wrong_shape_is_told_and_the_rest_is_loaded(state, tmp_path):
    changed = dict(state)
    del changed["layer1.0.bn1.bias"]
    changed["bn1.bias"] = torch.ones(32)
    torch.save({**changed, "extra": torch.ones(2)}, tmp_path / "w.pt")
    net = empty()
    report = load_weights(net, tmp_path / "w.pt")
    assert report.missing == ("layer1.0.bn1.bias",)
    assert report.wrong_shape == ("bn1.bias: float32 (32,) for float32 (64,)",)
    assert report.unexpected == ("extra",)
    assert report.n_matched == 98
    assert not net.state_dict()["stages.stem.bn1.bias"].any()
    for words in (
        "98 of 100 tensors",
        "100.0% of the parameters",
        "1 missing, as in a new network (layer1.0.bn1.bias)",
        "1 of the wrong shape, as in a new network",
        "1 not of the backbone (extra)",
        "classifier left out (fc.bias, fc.weight)",
    ):
        assert words in report.summary()


def test_statistics_of_batch_norms_are_weights_too(trained, tmp_path):
    torch.save({name: value.detach() for name, value in trained.named_parameters()}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"90% or more of the tensors.*60 of 100 tensors, 100\.0% of the parameters"):
        load_weights(empty(), tmp_path / "w.pt")


def test_weights_of_another_network_are_refused_and_nothing_is_changed(tmp_path):
    torch.save(timm.create_model("resnet50", pretrained=False).state_dict(), tmp_path / "w.pt")
    net = empty()
    before = net.weights_id
    with pytest.raises(ModelError, match=r"90% or more.*of the parameters.*wrong shape.*Name the backbone"):
        load_weights(net, tmp_path / "w.pt")
    assert net.weights_id == before
    torch.save({"a": torch.ones(3)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"tensors of the backbone timm.*got \['a'\]"):
        load_weights(net, tmp_path / "w.pt")


class Bomb:
    """A pickle that would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("kind", ["code", "namespace", "module", "list", "text", "empty", "safetensors", "none", "folder"])
def test_what_is_no_file_of_tensors_is_refused_in_words_and_never_run(kind, state, tmp_path):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind in ("text", "empty", "safetensors"):
        path.write_text("" if kind == "empty" else "not weights", encoding="utf-8")
    elif kind == "folder":
        path.mkdir()
    elif kind != "none":
        content = {
            "code": {"state_dict": state, "x": Bomb(tmp_path / "ran")},
            "namespace": {"state_dict": state, "args": argparse.Namespace(lr=1)},
            "module": nn.Linear(2, 2),
            "list": [torch.ones(2)],
        }[kind]
        torch.save(content, path)
    with pytest.raises(ModelError, match=r"weights.*must (be|hold)"):
        load_weights(empty(), path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("first", [*map(chr, range(33, 127))])
def test_text_is_refused_in_words_whatever_it_begins_with(first, tmp_path):
    """Its first letters are instructions to what reads pickles, which fails in as many ways."""
    for rest in ("", " weights of mine\n", "\n", "\nab\n." * 3, "\x01\x00" * 9):
        (tmp_path / "w.pt").write_bytes((first + rest).encode())
        with pytest.raises(ModelError, match=r"weights.*must (be|hold)"):
            read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("length", "tensor", "data"),
    [
        (2**62, {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, 4),  # a header of 4 exabytes
        (2**40, {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, 4),
        (None, {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, 3),  # beyond the end
        (None, {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}, 4),
        (None, {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}, 4),
        (None, {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}, 4),
    ],
)
def test_a_malformed_safetensors_file_is_refused_in_words(length, tensor, data, tmp_path):
    header = json.dumps({"stem.weight": tensor}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + bytes(data))
    with pytest.raises(ModelError, match=r"weights.*must be"):
        load_weights(empty(), path)


def test_weights_that_are_not_finite_or_no_numbers_of_the_kind_are_refused(state, tmp_path):
    torch.save({**state, "conv1.weight": torch.full_like(state["conv1.weight"], torch.nan)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="finite"):
        load_weights(empty(), tmp_path / "w.pt")
    torch.save({name: value.to(torch.int8) for name, value in state.items()}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"got '0 of 100 tensors.*conv1\.weight: int8 \(64, 3, 7, 7\) for float32"):
        load_weights(empty(), tmp_path / "w.pt")
