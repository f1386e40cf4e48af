"""``descend lr-find``: it sweeps, draws and suggests, and nothing is any different afterwards."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from descend.cli import main
from descend.errors import KnobError, TrainingError
from descend.progress import Silent
from descend.schedule import Sweep
from descend.train.lr_sweep import find_lr, sweep_task, untouched
from descend.train.prepare import TrainingSetup
from descend.train.recipe import Recipe, from_settings

SMALL = ["digits", "--backbone", "smallcnn(width=4)", "--threads", "1"]


@pytest.fixture(scope="module")
def setup() -> TrainingSetup:
    recipe = Recipe(data="digits", backbone="smallcnn(width=4)", optimizer="momentum(lr=0.1)", threads=1)
    return find_lr(recipe, Sweep(n_steps=20), progress=Silent())[1]


def everything(setup: TrainingSetup) -> dict[str, bytes]:
    task = setup.mode_task.task
    found = {name: value.numpy().tobytes() for name, value in task.module.state_dict().items()}
    return found | {
        "optimizer": repr(task.optimizer.state_dict()).encode(),
        "modes": repr([module.training for module in task.module.modules()]).encode(),
        "gradients": repr([p.grad for p in task.module.parameters()]).encode(),
        "batch": next(iter(task.source.epoch(0))).inputs.numpy().tobytes(),
    }


def test_nothing_is_different_afterwards_to_the_bit(setup: TrainingSetup) -> None:
    task = setup.mode_task.task
    task.module.eval()
    before = everything(setup)
    moved: list[bool] = []
    with untouched(task):
        found = sweep_task(task, Sweep(low=1e-3, high=1e3, n_steps=40), Silent())
        for p in task.module.parameters():
            moved.append(p.grad is not None)
            p.data.add_(1)
    assert everything(setup) == before
    assert not any(moved)
    assert found.losses[:3].mean() != found.losses[-3:].mean()  # it did train
    again = sweep_task(task, Sweep(low=1e-3, high=1e3, n_steps=40), Silent())
    assert again.losses.tolist() == found.losses.tolist()
    assert everything(setup) == before


def test_the_sweep_takes_the_losses_that_training_would_have(setup: TrainingSetup) -> None:
    """The first loss is that of the untrained network on the first batch; a rate of almost zero leaves all others so too."""
    task = setup.mode_task.task
    task.module.train()
    expected: list[float] = []
    for epoch in (0, 1):
        for batch in task.source.epoch(epoch):
            expected.append(task.loss(task.module(batch.inputs), batch.targets).item())
    found = sweep_task(task, Sweep(low=1e-30, high=1e-29, n_steps=30), Silent())
    assert found.losses.tolist() == pytest.approx(expected[:30], rel=1e-4)
    assert 20 < task.source.n_steps + 5 < 30  # the sweep has crossed an epoch's border


def test_a_gradient_that_is_not_finite_ends_the_sweep_with_what_is_known(setup: TrainingSetup) -> None:
    before, at_once = everything(setup), Sweep(low=1e30, high=1e38, n_steps=40)
    found = sweep_task(setup.mode_task.task, Sweep(low=1e-3, high=1e30, n_steps=60), Silent())
    assert 5 <= len(found.losses) < 60
    with pytest.raises(TrainingError):
        sweep_task(setup.mode_task.task, at_once, Silent())
    assert everything(setup) == before


def test_the_command_that_is_told_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*SMALL, "--optimizer", "adamw", "--regularize", "l2(strength=0.001)", "--steps", "60", "--json"]
    assert main(["lr-find", *words]) == 0
    use = json.loads(capsys.readouterr().out)["use"]
    from_settings({"optimizer": use, "regularize": ["l2(strength=0.001)"]})
    assert "weight_decay" not in use


def test_a_rate_of_zero_cannot_be_scaled(setup: TrainingSetup) -> None:
    recipe = Recipe(data="digits", optimizer="sgd(lr=0.0)", threads=1)
    with pytest.raises(KnobError, match=r"must have a learning rate above 0 to scale, got 'sgd\(lr=0.0\)'"):
        find_lr(recipe, Sweep(), progress=Silent())


def test_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lr-find", *SMALL, "--optimizer", "adamw(weight_decay=0.03)", "--steps", "60", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [path.name for path in tmp_path.iterdir()] == ["lr-find.svg"]  # nothing but the picture, and no run
    assert 1e-4 < told["suggestion"] < told["lowest"] <= 1.0
    assert told["loss_lowest"] < told["loss_at_start"]
    assert told["use"] == f"adamw(lr={float(format(told['suggestion'], '.2g'))}, weight_decay=0.03)"
    assert "suggestion" in Path("lr-find.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("seed", [1, 5, 6])
def test_no_rate_from_beyond_the_explosion_of_a_bounded_loss(seed: int) -> None:
    """Seed 6 falls again at rates of 5 to 10, as deep as before; the loss stays below 4 times its lowest, so nothing ends it."""
    result, _ = find_lr(Recipe(data="digits", optimizer="sgd(lr=0.1)", seed=seed, threads=1), Sweep(high=10.0), progress=Silent())
    assert not result.diverged
    assert result.rise is not None
    assert result.rise < 2
    assert result.suggestion is not None
    assert 0.1 < result.suggestion < 0.6


def test_a_loss_that_is_flat_suggests_no_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["lr-find", *SMALL, "--optimizer", "sgd", "--high", "1e-3", "--steps", "40"]
    assert main(words) == 1
    shown = capsys.readouterr().out
    assert "No suggestion: the loss has no clear fall. It falls by 0.0" in shown
    assert "Try:" not in shown
    assert main([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["suggestion"] is None
    assert Path("lr-find.svg").exists()


def test_the_command_it_prints_is_one_that_fit_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from descend.cli.fit import _parser

    monkeypatch.chdir(tmp_path)
    words = [
        *SMALL,
        "--augment",
        "flip",
        "rotate(degrees=5)",
        "--optimizer=sgd",
        "--high",
        "10",
        "--steps",
        "40",
        "--out",
        "a.png",
    ]
    assert main(["lr-find", *words]) == 0
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if line.startswith("Try:"))
    asked = _parser().parse_args(shlex.split(line)[3:])
    assert (asked.data, asked.augment, asked.threads) == ("digits", ["flip", "rotate(degrees=5)"], 1)
    assert re.fullmatch(r"sgd\(lr=[\d.e-]+\)", asked.optimizer)
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["lr-find"], "lr-find: needs DATA"),
        (["lr-find", "digits", "--low", "1", "--high", "0.1"], "0 < low < high"),
        (["lr-find", "digits", "--out", "a.jpg"], "must end in .svg, .png, .gif"),
    ],
)
def test_it_refuses_before_it_works(words: list[str], match: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert match in capsys.readouterr().err


def test_threads_are_put_back(setup: TrainingSetup) -> None:
    before = torch.get_num_threads()
    recipe = Recipe(data="digits", backbone="smallcnn(width=4)", threads=1)
    find_lr(recipe, Sweep(n_steps=20), progress=Silent())
    assert torch.get_num_threads() == before
