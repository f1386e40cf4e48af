"""The ladder of backbones: its figures against the networks, what is at hand against a hub cache made here, and the choice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from tests.fake_hub import empty_hub, put_into_cache  # pyright: ignore[reportMissingImports] (pytest finds it)
from torch.utils.flop_counter import FlopCounterMode

from descend.errors import ModelError
from descend.models import LADDER, LadderEntry, Timm, available_backbones, backbone, choose_backbone, hub, measured_images_per_s

NAMES = {entry.name: entry for entry in LADDER}
QUICK = "mobilenetv4_conv_medium.e500_r256_in1k"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, an empty cache of the hub, and none of the packages with weights but lite0's."""
    for level in (1, 2):
        monkeypatch.setitem(PRESENT, f"lite{level}", False)
    monkeypatch.setattr(
        "descend.models.ladder.importlib.util.find_spec",
        lambda name: object() if PRESENT.get(name.split("_")[1], False) else None,
    )
    return empty_hub(monkeypatch, tmp_path)


PRESENT = {"lite0": True, "lite1": False, "lite2": False}


@pytest.mark.parametrize("name", NAMES)
def test_the_ladders_figures_are_those_of_the_networks(name: str) -> None:
    entry = NAMES[name]
    net = backbone(name)
    assert net == entry.architecture, "what --backbone takes must be the rung"
    made = type(net)(**{**vars(net), "pretrained": False}).build(0).eval().requires_grad_(False)
    assert made.native_size == net.native_size == entry.size
    assert sum(p.numel() for p in made.parameters()) / 1e6 == pytest.approx(entry.parameters_m, abs=0.006)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made(torch.zeros(1, 3, entry.size, entry.size))
    assert counter.get_total_flops() / 2e9 == pytest.approx(entry.gmacs, abs=0.006)
    if isinstance(net, Timm):
        config = timm.get_pretrained_cfg(net.model)
        assert net.model in timm.list_models(pretrained=True)
        assert config.license == entry.license
        assert config.hf_hub_id


def test_the_ladder_goes_upwards_and_says_nothing_twice() -> None:
    assert [e.accuracy for e in LADDER] == sorted(e.accuracy for e in LADDER)
    assert len(NAMES) == len(LADDER)
    assert max(e.gmacs for e in LADDER) <= 6
    assert not any("cc-by-nc" in e.license for e in LADDER)


def test_what_lies_in_the_hubs_cache_or_came_by_pip_is_at_hand(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [e.name for e in available_backbones()] == ["lite0()"]
    put_into_cache(alone, QUICK)
    put_into_cache(alone, "convnext_pico.d1_in1k", "pytorch_model.bin")
    monkeypatch.setitem(PRESENT, "lite2", True)
    assert {e.name for e in available_backbones()} == {"lite0()", "lite2()", QUICK, "convnext_pico.d1_in1k"}


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_cached_weights_are_loaded_without_asking_the_network(alone: Path, file: str) -> None:
    theirs = put_into_cache(alone, QUICK, file).eval()
    ours = backbone(QUICK).build(0).eval()
    x = torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs.forward_head(theirs.forward_features(x), pre_logits=True))
    assert ours.weights_id.startswith("pretrained-")


def test_the_whole_ladder_is_at_hand_only_where_downloads_are_allowed_and_the_hub_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "answers", lambda address: False)
    assert [e.name for e in available_backbones(download=True)] == ["lite0()"]
    monkeypatch.setattr(hub, "answers", lambda address: True)
    assert [e.name for e in available_backbones()] == ["lite0()"]
    assert len(available_backbones(download=True)) == len(LADDER) - 2  # pip is not ours to run
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert [e.name for e in available_backbones(download=True)] == ["lite0()"]


def rated(rates: dict[str, float]) -> tuple[Callable[[LadderEntry], float], list[str]]:
    asked: list[str] = []

    def images_per_s(entry: LadderEntry) -> float:
        asked.append(entry.name)
        return rates.get(entry.name, 100 / entry.gmacs)

    return images_per_s, asked


def test_the_strongest_that_fits_is_taken_and_nothing_is_measured_in_vain() -> None:
    images_per_s, asked = rated({})
    choice = choose_backbone(LADDER, 1000, 300, images_per_s)
    assert choice.entry.name == "convnext_tiny.in12k_ft_in1k"
    assert asked == [choice.entry.name]
    assert "1,000 take 40 s of at most 5 min" in choice.reason
    images_per_s, asked = rated({})
    choice = choose_backbone(LADDER, 1000, 15, images_per_s)  # 1.5 billion a picture
    assert choice.entry.name == "mobilenetv4_hybrid_medium.e200_r256_in12k_ft_in1k"
    images_per_s, asked = rated({})
    choice = choose_backbone(LADDER, 1000, 4, images_per_s)
    assert choice.entry.name == "lite0()"
    assert "deit3_small_patch16_224.fb_in22k_ft_in1k" not in asked


def test_one_that_computes_more_per_second_than_its_kin_is_not_ruled_out_by_its_size() -> None:
    images_per_s, _ = rated({"hgnetv2_b3.ssld_stage2_ft_in1k": 150.0})
    assert choose_backbone(LADDER, 1000, 8, images_per_s).entry.name == "hgnetv2_b3.ssld_stage2_ft_in1k"


def test_where_none_fits_the_quickest_is_taken_and_that_is_said() -> None:
    images_per_s, _ = rated({"lite0()": 50.0, "lite1()": 70.0, "lite2()": 40.0})
    choice = choose_backbone(LADDER[:3], 4500, 60, images_per_s)
    assert choice.entry.name == "lite1()"
    assert "4,500 pictures take it 60 s, and none is done within 60 s" in choice.reason
    with pytest.raises(ModelError, match="must be on this machine"):
        choose_backbone([], 10, 1, images_per_s)


def test_the_measurement_runs_the_network_without_its_weights(alone: Path) -> None:
    assert measured_images_per_s(NAMES[QUICK]) > 0
    assert not alone.exists()


def test_a_size_is_for_transformers_only() -> None:
    small = backbone("timm(model=vit_tiny_patch16_224, img_size=96, pretrained=False)").build(0)
    assert (small.native_size, small.fixed_size) == (96, True)
    assert small(torch.zeros(1, 3, 96, 96)).shape == (1, 192)
    with pytest.raises(ModelError, match=r"resnet18: reads pictures of any size.*got 96"):
        backbone("timm(model=resnet18, img_size=96, pretrained=False)").build(0)
