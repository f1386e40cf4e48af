"""What a step needs of memory, against sums made by hand, and what the system says is free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fakes import FakeSource, make_task  # pyright: ignore[reportMissingImports]
from torch import nn

import descend
from descend.available_memory import available_bytes
from descend.errors import TrainingError
from descend.train import memory_need
from descend.train.loop import Batch
from descend.train.memory_need import step_bytes

LABELS = np.arange(60) % 2
IMAGES = (np.random.default_rng(0).integers(0, 60, (60, 12, 12)) + 150 * LABELS[:, None, None]).astype(np.uint8)
TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "epochs": 1, "batch_size": 16, "augment": []}


def batch(n: int) -> Batch:
    return Batch(np.arange(n), torch.randn(n, 10), torch.zeros(n, dtype=torch.int64), 0)


@pytest.mark.parametrize(("rule", "n_slots"), [("sgd(lr=0.1)", 0), ("adam(lr=0.1)", 2)])
def test_a_step_holds_activations_gradients_slots_and_the_best_weights(rule: str, n_slots: int) -> None:
    module = nn.Sequential(nn.Linear(10, 200), nn.ReLU(), nn.Linear(200, 3))
    task = make_task(module, rule=rule, source=FakeSource(size=6))
    weights = 4 * (10 * 200 + 200 + 200 * 3 + 3)
    kept = 4 * (10 + 200 + 3)  # per picture: the input, the hidden layer once for both that need it, the log probabilities
    for n in (8, 800):
        need = step_bytes(task, batch(n))
        assert need is not None
        least = kept * n + weights * (2 + n_slots) + 40 * n
        assert least <= need <= least + 64 * n + 64  # the labels and the weight of the mean
    module[0].requires_grad_(False)
    frozen = step_bytes(task, batch(8))
    assert frozen is not None
    assert frozen < 4 * 203 * 8 + weights * (2 + n_slots)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_module_that_takes_whole_batches_only_is_not_judged() -> None:
    class Whole(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input.reshape(8, 10))

    assert step_bytes(make_task(Whole(10, 3), source=FakeSource(size=6)), batch(8)) is None


def test_what_certainly_does_not_fit_is_refused_before_it_is_taken_and_trains_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Ear:
        def say(self, text: str) -> None:
            told.append(text)

        def update(self, stage: str, done: int, total: int, note: str = "") -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(memory_need, "available_bytes", lambda: 100_000)
        words = r"batches of 16 pictures of 12 x 12 px need \d+\.\d MB or more, 0\.1 MB are free.*--batch-size, for example to 8"
        with pytest.raises(TrainingError, match=words):
            descend.fit((IMAGES, LABELS), out=tmp_path / "run", **TINY)
    monkeypatch.setattr("descend.train.training.LARGE", 1)
    run = descend.resume(tmp_path / "run", data=(IMAGES, LABELS), progress=Ear())
    assert run.record.status == "finished"
    assert run.record.memory_bytes is not None
    assert run.record.memory_bytes > 100_000
    assert any(text.startswith("training 1 epoch: about") and text.endswith("MB of memory or more") for text in told)


def test_free_memory_is_what_machine_and_container_allow(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   5000 kB\nSwapFree:  1000 kB\n")
    assert available_bytes(tmp_path) == 6000 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("3000000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 400000\n")
    (group / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path) == 6000 * 1024
    (group / "memory.max").write_text("4000000\n")
    assert available_bytes(tmp_path) == 1_400_000
    (tmp_path / "proc/meminfo").write_text("nonsense")
    assert available_bytes(tmp_path) is None
