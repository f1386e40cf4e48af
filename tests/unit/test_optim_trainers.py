"""The Optimizer in other people's training loops: data parallel over two processes, Lightning, Hugging Face's Trainer."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from descend.optim import Optimizer, parameter_groups

STEPS, BATCH = 12, 16
RULES = ("adamw(lr=0.01)", "momentum(lr=0.05)", "muon")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def batch(t: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(BATCH, 5, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
    return x, x.sum(1, keepdim=True).sin()


def trained(model: nn.Module, rule: str, rows: slice) -> dict[str, Tensor]:
    optimizer = Optimizer(model.parameters(), rule, gradients="clip_norm(max_norm=0.5)")
    for t in range(STEPS):
        x, y = batch(t)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return {name.removeprefix("module."): value for name, value in model.state_dict().items()}


def worker(rank: int, n: int, port: int, folder: Path) -> None:
    """Train as one of ``n`` processes, each on its own part of every batch; what this file does when it is run."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=n)
    rows = slice(rank * BATCH // n, (rank + 1) * BATCH // n)
    found = {rule: trained(nn.parallel.DistributedDataParallel(net()), rule, rows) for rule in RULES}
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without torch.distributed")
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__]
    children = [subprocess.Popen([*command, str(rank), "2", str(port), str(tmp_path)], env=os.environ) for rank in range(2)]
    assert [child.wait(timeout=200) for child in children] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for rule in RULES:
        alone = trained(net(), rule, slice(None))
        for name, value in alone.items():
            assert torch.equal(first[rule][name], second[rule][name])
            torch.testing.assert_close(first[rule][name], value, rtol=1e-9, atol=1e-11)


def module(name: str) -> Any:
    """A trainer of the development extra; an environment may do without it."""
    return pytest.importorskip(name, reason=f"needs {name}")


@pytest.mark.filterwarnings("ignore")  # theirs
def test_lightning_trains_and_resumes(tmp_path: Path) -> None:
    lightning = module("lightning")

    class Lit(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def training_step(self, rows: Any, index: int) -> Tensor:
            x, y = rows
            return nn.functional.mse_loss(self.net(x), y)

        def configure_optimizers(self) -> Any:
            optimizer = Optimizer(parameter_groups(self.net), "adamw(lr=0.01)")
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=40)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*batch(0)), batch_size=8)

    def fit(epochs: int, resume: Path | None = None) -> Any:
        lit = Lit()
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, gradient_clip_val=0.5,
        )  # fmt: skip
        trainer.fit(lit, data, ckpt_path=resume, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return lit

    straight = fit(8)
    fit(4)
    resumed = fit(8, tmp_path / "4.ckpt")
    before, after = (nn.functional.mse_loss(each(batch(0)[0]), batch(0)[1]).item() for each in (net(), straight.net))
    assert after < before
    for one, two in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)


class Regression(nn.Module):
    """A model as Hugging Face's Trainer wants it: keywords in, loss out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        guess = self.net(x.double())
        return {"loss": nn.functional.mse_loss(guess, labels.double()), "logits": guess}


@pytest.mark.filterwarnings("ignore")  # theirs
def test_hugging_faces_trainer_trains_and_resumes(tmp_path: Path) -> None:
    module("accelerate")
    transformers = module("transformers")
    x, y = batch(0)
    rows = [{"x": a.tolist(), "labels": b.tolist()} for a, b in zip(x, y, strict=True)]

    def fit(folder: str, steps: int, resume: str | None = None) -> nn.Module:
        model = Regression()
        optimizer = Optimizer(parameter_groups(model), "adamw(lr=0.01)")
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        settings = transformers.TrainingArguments(
            output_dir=str(tmp_path / folder), max_steps=steps, per_device_train_batch_size=8, save_steps=4, report_to=[],
            use_cpu=True, disable_tqdm=True, logging_strategy="no", max_grad_norm=0.5,
        )  # fmt: skip
        trainer = transformers.Trainer(model, settings, train_dataset=rows, optimizers=(optimizer, scheduler))
        trainer.train(resume_from_checkpoint=resume)
        return model

    straight = fit("straight", 8)
    fit("half", 4)
    resumed = fit("rest", 8, str(tmp_path / "half" / "checkpoint-4"))
    assert straight(x, y)["loss"] < Regression()(x, y)["loss"]
    for one, two in zip(straight.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-14)


if __name__ == "__main__":
    importlib.import_module("torch.distributed")
    worker(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
