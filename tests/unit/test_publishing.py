"""A run on the hub, here a folder: it answers as at home, timm reads its weights, and nothing tells of where it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from tests.fake_hub import folder_hub  # pyright: ignore[reportMissingImports] (pytest finds it)

import descend
from descend.cli import main
from descend.errors import KnobError, RunError
from descend.publishing import card, push
from descend.train.run import Run

LABELS = np.array(["ant", "bee"])[np.arange(40) % 2]
IMAGES = (np.random.default_rng(0).integers(0, 60, (40, 40, 40)) + 150 * (LABELS == "bee")[:, None, None]).astype(np.uint8)
SETTINGS: dict[str, Any] = {"transfer": "scratch", "size": 32, "epochs": 1, "batch_size": 16, "augment": [], "threads": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    backbone = "timm(model='test_efficientnet', pretrained=False)"
    out = tmp_path_factory.mktemp("secret") / "run"
    return descend.fit((IMAGES, LABELS), out=out, backbone=backbone, command=["descend", "fit", "/home/me/secret"], **SETTINGS)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return folder_hub(monkeypatch, tmp_path / "hub")


def test_a_run_comes_back_from_the_hub_and_answers_as_at_home(run: Run, hub: Path) -> None:
    assert push(run, "me/ants", private=True) == "hf://me/ants"
    assert (hub / "me/ants/.private").exists()
    for address in ("hf://me/ants", Path("hf://me/ants"), "hf://me/ants@v1"):
        again = descend.load(address)
        np.testing.assert_array_equal(again.predict(IMAGES[:3]).probabilities, run.predict(IMAGES[:3]).probabilities)
    assert again.is_verified
    assert again.record.val == run.record.val
    assert len(again.history) == 1


def test_its_weights_are_a_model_of_timm(run: Run, hub: Path) -> None:
    push(run, "me/ants")
    model = timm.create_model(f"local-dir:{hub / 'me/ants'}", pretrained=True).eval()
    config = timm.data.resolve_data_config({}, model=model)  # pyright: ignore[reportAttributeAccessIssue]
    assert config["input_size"] == (3, 32, 32)
    assert tuple(config["mean"]) == run.transform.mean
    written = json.loads((hub / "me/ants/config.json").read_text(encoding="utf-8"))
    assert written["label_names"] == ["ant", "bee"]
    with torch.inference_mode():
        answers = model(torch.stack([run.transform(image) for image in IMAGES[:4]])).softmax(1)
    np.testing.assert_allclose(answers.numpy(), run.predict(IMAGES[:4]).probabilities, atol=1e-5)


def test_the_card_has_figures_with_intervals(run: Run) -> None:
    text = card(run, "me/ants", "mit", in_timm=True)
    _, front, body = text.split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["license"] == "mit"
    assert values["model-index"][0]["results"][0]["metrics"][0]["value"] == round(run.record.test["accuracy"], 4)
    assert "95% interval" in body
    assert "| ant | " in body
    assert 'descend.load("hf://me/ants")' in body


def test_what_tells_of_home_stays_there(run: Run, hub: Path) -> None:
    push(run, "me/ants")
    content = b"".join(path.read_bytes() for path in hub.rglob("*") if path.is_file())
    for word in (b"secret", b"pictures[", b"arrays[", str(run.folder).encode(), b"jpeg"):
        assert word not in content


def test_sentences_about_the_data_stay_at_home_and_names_mean_nothing_in_the_card(run: Run, hub: Path) -> None:
    run = descend.load(run.folder)
    run.record.notes.append("/home/me/secret was seen")
    told = "left out: descend predict RUN /home/me/secret"
    run.record.data["problems"] = [{"kind": "layout", "message": told, "n": 1, "examples": []}]
    push(run, "me/ants")
    assert b"secret" not in b"".join(path.read_bytes() for path in hub.rglob("*") if path.is_file())
    per_class = [{**row, "class": "a|b`c"} for row in run.record.per_class["test"]]
    run.record.per_class["test"] = per_class
    assert "| a\\|b\\`c | " in card(run, "me/ants", in_timm=False)


def test_the_place_of_the_run_that_it_began_from_stays_at_home(run: Run, hub: Path, tmp_path: Path) -> None:
    more = descend.fit((IMAGES, LABELS), out=tmp_path / "more", init=run.folder, epochs=1, threads=1)
    push(more, "me/more")
    content = b"".join(path.read_bytes() for path in hub.rglob("*") if path.is_file())
    assert str(run.folder.parent).encode() not in content
    pushed = descend.load("hf://me/more").record
    assert pushed.init is not None
    assert pushed.init["run"] == run.folder.name


def test_the_verb_prints_the_address(run: Run, hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run.folder), "me/ants", "--license", "mit"]) == 0
    assert capsys.readouterr().out.startswith("hf://me/ants\n")
    assert (hub / "me/ants/README.md").read_text(encoding="utf-8").startswith("---\n")


def test_a_network_that_timm_lacks_is_pushed_for_descend(hub: Path, tmp_path: Path) -> None:
    own = descend.fit((IMAGES, LABELS), out=tmp_path / "run", backbone="smallcnn(width=4)", **SETTINGS)
    push(own, "me/own")
    assert sorted(path.name for path in (hub / "me/own").iterdir()) == ["README.md", "run"]
    assert "opens with descend alone" in (hub / "me/own/README.md").read_text(encoding="utf-8")


def test_what_cannot_be_pushed_or_fetched_is_told(run: Run, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KnobError, match="must be written owner/name, got 'ants'"):
        push(run, "ants")
    with pytest.raises(RunError, match=r"hf://me/none: must be within reach .* \(404: no repository me/none\)"):
        descend.load("hf://me/none")
    with pytest.raises(RunError, match="must be written hf://owner/name"):
        descend.load("hf://none")
    (hub / "me/other/run").mkdir(parents=True)
    with pytest.raises(RunError, match="must hold a run of descend"):
        descend.load("hf://me/other")
    stopped = Run(run.folder, type(run.record)(status="interrupted"))
    with pytest.raises(RunError, match="must be finished to be pushed, got 'interrupted'"):
        push(stopped, "me/ants")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("401 Unauthorized")

    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", refuse)
    with pytest.raises(RunError, match=r"the hub must take me/ants \(401 Unauthorized\). Log in"):
        push(run, "me/ants")
