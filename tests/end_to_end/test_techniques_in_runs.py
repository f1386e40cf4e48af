"""Techniques that reach into the loop, in whole runs: they act, are recorded, and a stopped run goes on bit for bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import descend
from descend.cli import main
from descend.errors import KnobError
from descend.progress import Silent
from descend.train import folder, state_file
from descend.train.run import Run

TINY: dict[str, Any] = {
    "transfer": "scratch", "backbone": "resnet9(width=4)", "size": 32, "epochs": 4, "batch_size": 8, "augment": [], "seed": 3,
}  # fmt: skip


def weights(run: Run) -> dict[str, torch.Tensor]:
    """Return the saved tensors."""
    return load_file(run.folder / "model.safetensors")


def same(a: Run, b: Run) -> bool:
    """Return whether both runs ended with the same bits."""
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


@pytest.fixture(scope="module")
def plain(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return descend.fit(shapes, out=tmp_path_factory.mktemp("runs") / "plain", **TINY)


@pytest.fixture(scope="module")
def dropping(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return descend.fit(shapes, out=tmp_path_factory.mktemp("runs") / "dropping", **TINY, regularize=["dropout(p=0.5)"])


class StopAt(Silent):
    """A listener that presses Ctrl-C at a step of the training."""

    def __init__(self, done: int) -> None:
        self.done = done

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "training" and done >= self.done:
            signal.raise_signal(signal.SIGINT)


REACHING = {
    "clipping": {"gradients": ["clip_norm(max_norm=0.1)"]},
    "accumulation, the last window partial": {"gradients": ["accumulate(n=2)"], "batch_size": 5},
    "two gradients a step": {"optimizer": "sam(sgd(lr=0.05), rho=0.5)"},
    "averaged weights": {"optimizer": "ema(adamw(lr=0.005), decay=0.9)"},
    "slow weights": {"optimizer": "lookahead(adamw(lr=0.005), k=2)"},
    "a schedule that listens": {"schedule": "plateau(patience=0, gamma=0.1)"},
    "watch first, then decay": {"schedule": "watch()", "epochs": 12},
    "balanced sampling": {"regularize": ["balanced_sampling()"]},
    "penalty on activations": {"regularize": ["kl_sparsity(strength=0.5)"]},
    "focal loss": {"regularize": ["focal(gamma=3.0)"]},
    "decay through a wrapper": {"optimizer": "sam(adamw(lr=0.005))", "regularize": ["l2(strength=0.5)"]},
}


@pytest.mark.parametrize("case", REACHING)
def test_it_acts_and_a_stopped_run_goes_on_bit_for_bit(shapes: Path, tmp_path: Path, plain: Run, case: str) -> None:
    settings = TINY | REACHING[case]
    whole = descend.fit(shapes, out=tmp_path / "whole", **settings)
    assert whole.record.status == "finished"
    assert not same(whole, plain)
    stopped = descend.fit(shapes, out=tmp_path / "stopped", **settings, progress=StopAt(45))
    assert stopped.record.status == "interrupted"
    resumed = descend.resume(stopped.folder)
    assert resumed.record.status == "finished"
    assert same(whole, resumed)
    assert whole.record.decisions == resumed.record.decisions


def test_decisions_stand_in_the_record_and_the_report(shapes: Path, tmp_path: Path) -> None:
    schedule = "plateau(patience=0, gamma=0.1, threshold=0.9)"  # nothing gains 90 % twice: it must fall
    run = descend.fit(shapes, out=tmp_path / "run", **TINY | {"schedule": schedule, "epochs": 6})
    rates = [json.loads(line)["lr"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert rates[-1] < rates[0] / 5
    first = run.record.decisions[0]
    assert set(first) == {"epoch", "what", "why"}
    assert rates[first["epoch"] - 1] > rates[first["epoch"]]  # decided after that epoch, at work in the next
    assert first["why"] in (run.folder / "report.html").read_text()


def test_averaged_weights_are_judged_and_saved_with_statistics_of_their_own(shapes: Path, tmp_path: Path) -> None:
    run = descend.fit(shapes, out=tmp_path / "run", **TINY | {"optimizer": "ema(adamw(lr=0.005), decay=0.99)"})
    trained = state_file.read(run.folder / folder.CHECKPOINT)["module"]
    kept = weights(run)
    norms = [name for name in kept if name.endswith("running_mean")]
    assert norms
    assert any(not torch.equal(kept[name], trained[name]) for name in norms)
    again = descend.load(run.folder).evaluate(shapes, split="val")
    assert run.record.val is not None
    assert again["accuracy"] == pytest.approx(run.record.val["accuracy"])


def test_a_second_gradient_does_not_count_twice_in_batch_norms(shapes: Path, tmp_path: Path) -> None:
    run = descend.fit(shapes, out=tmp_path / "run", **TINY | {"optimizer": "sam(sgd(lr=0.01))"})
    trained = state_file.read(run.folder / folder.CHECKPOINT)["module"]
    counts = {int(value) for name, value in trained.items() if name.endswith("num_batches_tracked")}
    n_train = run.record.data["splits"]["train"]
    assert counts == {TINY["epochs"] * -(-n_train // TINY["batch_size"])}


def test_exact_zeros_are_counted(shapes: Path, tmp_path: Path) -> None:
    run = descend.fit(shapes, out=tmp_path / "run", **TINY, regularize=["l1(strength=0.3)"])
    matrices = [value for name, value in weights(run).items() if name.endswith("weight") and value.ndim >= 2]
    zeros = sum(int((value == 0).sum()) for value in matrices) / sum(value.numel() for value in matrices)
    assert run.record.sparsity["all"] == pytest.approx(zeros, abs=0.2)  # the last epoch's, the file holds the best one's
    assert zeros > 0.01


def test_skewed_classes_can_be_weighed(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.array([0] * 60 + [1] * 12)
    images = generator.integers(0, 120, (72, 16, 16, 3), dtype=np.uint8)
    images[labels == 1] += np.uint8(60)
    settings = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "size": 16, "epochs": 2, "batch_size": 8, "augment": []}
    plain = descend.fit((images, labels), out=tmp_path / "plain", **settings)
    weighed = descend.fit((images, labels), out=tmp_path / "weighed", **settings, regularize=["class_weights()"])
    assert not same(plain, weighed)


def overlapping(n_common: int, n_rare: int, *, side: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gray pictures of two classes, 1.5 standard deviations apart: how common a class is taken to be decides most answers."""
    draw, labels = np.random.default_rng(seed), np.array([0] * n_common + [1] * n_rare)
    gray = 110 + 25 * (draw.normal(size=len(labels)) + 1.5 * labels)
    noise = draw.normal(0, 4, (len(labels), side, side, 3))
    return (gray[:, None, None, None] + noise).clip(0, 255).astype(np.uint8), labels


def recalls(run: Run, *, side: int = 16) -> tuple[float, float]:
    """Return the shares of new pictures of the common and of the rare class that a run tells right."""
    images, labels = overlapping(100, 100, side=side, seed=1)
    right = np.array(run.predict(list(images)).labels) == labels
    return float(right[labels == 0].mean()), float(right[labels == 1].mean())


@pytest.mark.parametrize("balancing", ["class_weights()", "balanced_sampling()"])
def test_the_head_that_fine_tuning_begins_with_counts_classes_as_training_does(tmp_path: Path, balancing: str) -> None:
    """It was fitted as the classes are common, and kept: nothing after it was better by the metric."""
    settings = {"transfer": "finetune", "backbone": "lite0", "size": 64, "epochs": 1, "augment": [], "engine": "torch"}
    run = descend.fit(overlapping(285, 15, side=64), out=tmp_path / "run", **settings, metric="accuracy", regularize=[balancing],
                      optimizer="sgd(lr=1e-9)")  # fmt: skip
    common, rare = recalls(run, side=64)
    assert rare >= 0.5
    assert common >= 0.5


def test_the_epoch_that_is_kept_is_not_one_before_balancing_took_hold(tmp_path: Path) -> None:
    """By the accuracy it is the first: everything is called common there, which 95 of 100 pictures are."""
    settings = {
        "transfer": "scratch",
        "backbone": "smallcnn(width=8)",
        "epochs": 8,
        "optimizer": "adamw(lr=0.001)",
        "augment": [],
    }
    run = descend.fit(overlapping(570, 30), out=tmp_path / "run", **settings, regularize=["class_weights()"])
    assert run.record.plan["metric"] == "balanced_accuracy"
    assert min(recalls(run)) >= 0.5


def test_snapshots_are_kept_from_the_first_to_the_last(shapes: Path, tmp_path: Path) -> None:
    run = descend.fit(shapes, out=tmp_path / "run", **TINY, snapshots=3)
    found = sorted(path.name for path in (run.folder / "snapshots").iterdir())
    assert found == ["0000.safetensors", "0002.safetensors", "0004.safetensors"]
    last = state_file.read(run.folder / folder.CHECKPOINT)["module"]
    kept = load_file(run.folder / "snapshots" / found[-1])
    assert all(torch.equal(kept[name], last[name]) for name in last)
    with pytest.raises(KnobError, match="snapshots: must be at most 5"):
        descend.fit(shapes, out=tmp_path / "more", **TINY, snapshots=6)


def test_auto_augmentation_is_a_policy_with_its_reason(shapes: Path, tmp_path: Path) -> None:
    run = descend.fit(shapes, out=tmp_path / "run", **TINY | {"augment": ["auto"]})
    assert run.record.plan["augment"]
    assert "pictures" in run.record.reasons["augment"]


# ---------------------------------------------------------------------------------------- asking more than once a picture


def test_views_are_averaged(dropping: Run, shapes: Path) -> None:
    run = descend.load(dropping.folder)
    once, twice = run.predict(shapes / "disc"), run.predict(shapes / "disc", tta="flip")
    assert once.entropy is None
    assert twice.entropy is not None
    assert twice.mutual_information is not None
    assert (twice.mutual_information >= 0).all()
    assert (twice.entropy >= twice.mutual_information).all()
    assert not np.array_equal(once.probabilities, twice.probabilities)
    np.testing.assert_allclose(twice.probabilities.sum(1), 1, rtol=1e-5)


def test_a_random_answer_does_not_depend_on_the_other_pictures(dropping: Run, shapes: Path) -> None:
    run = descend.load(dropping.folder)
    files = sorted((shapes / "disc").iterdir())
    together = run.predict(files, mc=5)
    alone = run.predict(files[3], mc=5)
    np.testing.assert_allclose(alone.probabilities[0], together.probabilities[3], atol=1e-6)
    again = run.predict(files, mc=5)
    np.testing.assert_array_equal(again.probabilities, together.probabilities)


def test_random_passes_need_something_random(plain: Run, shapes: Path) -> None:
    with pytest.raises(KnobError, match="mc: has no effect"):
        descend.load(plain.folder).predict(shapes / "disc", mc=5)
    with pytest.raises(KnobError, match=">= 2, got 1"):
        descend.load(plain.folder).predict(shapes / "disc", mc=1)


def test_both_at_once_and_on_the_command_line(dropping: Run, shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(dropping.folder), str(shapes / "disc"), "--tta", "flip", "--mc", "3", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("path,predicted,confidence,entropy,mutual_information,p_disc")
    assert len(lines) == 13
    assert main(["eval", str(dropping.folder), str(shapes), "--mc", "3", "--split", "train"]) == 0
    assert "right answers: entropy" in capsys.readouterr().out
    assert main(["predict", str(dropping.folder), str(shapes / "disc"), "--tta", "flop"]) == 2
    assert "flip" in capsys.readouterr().err


def test_constants_of_ones_own_hold_in_training_judging_and_predicting(shapes: Path, tmp_path: Path, plain: Run) -> None:
    own = ["normalize(mean=[0.2, 0.3, 0.4], std=[0.1, 0.2, 0.3])"]
    run = descend.fit(shapes, out=tmp_path / "run", **TINY | {"augment": own})
    assert run.record.preprocessing["mean"] == [0.2, 0.3, 0.4]
    assert not same(run, plain)
    again = descend.load(run.folder).evaluate(shapes, split="val")
    assert run.record.val is not None
    assert again["loss"] == pytest.approx(run.record.val["loss"], rel=1e-4)
    default = descend.fit(shapes, out=tmp_path / "default", **TINY | {"augment": ["normalize()"]})
    assert same(default, plain)


def test_a_run_too_short_to_watch_is_refused_before_anything_is_written(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(KnobError, match="window"):
        descend.fit(shapes, out=tmp_path / "run", **TINY | {"schedule": "watch()"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"freeze_to": "head", "regularize": ["stochastic_depth()"]}, "no effect on a frozen part"),
        ({"regularize": ["ghost_batch_norm(size=4)"]}, "no effect with norm='eval'"),
        ({"regularize": ["dropconnect(layers=all)", "dropconnect()"]}, "must be given once"),
    ],
)
def test_a_regularizer_that_reaches_nothing_is_refused_before_anything_is_written(
    shapes: Path, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(KnobError, match=words):
        descend.fit(shapes, out=tmp_path / "run", transfer="finetune", **settings)
    assert not (tmp_path / "run").exists()
