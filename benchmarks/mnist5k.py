"""Permutation-invariant MNIST-5k: what the replicas of regularization papers share, so that they differ in the technique only.

The 5,000 digits are flat vectors in [0, 1]; a fixed stratified split gives 3,000 to train on, 1,000 to select on, 1,000 to test
on. A network is a plain perceptron with rectifiers, trained by the loop of ``descend fit`` with momentum and a cosine.

Every arm of a comparison is a list of settings, equally many for all. Each is trained on tuning seeds and judged on the
validation split; the best is trained anew on the reporting seeds, the same for every arm, and only then is the test split
read, once a run. Same seed: same initial weights, same order of samples.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from descend import rng
from descend.comparison import PairedRuns, paired_seeds
from descend.data.builtin import mnist5k
from descend.optim import Momentum, Optimizer, parameter_groups
from descend.regularize import CrossEntropy, DropConnectLinear, Dropout, Regularizer, merged_knobs
from descend.schedule import Cosine
from descend.stats import mean
from descend.technique import build
from descend.train.evaluate import probabilities
from descend.train.loop import Batch, Position, Task, train_loop
from descend.train.metrics import log_loss
from harness import interval

K = 10


@dataclass(frozen=True)
class Split:
    """Pictures (n, 784) float32 in [0, 1], their labels (n,) int64 and their sample ids (n,) int64."""

    x: Tensor
    y: Tensor
    ids: NDArray[np.int64]


@cache
def _digits() -> tuple[Tensor, Tensor]:
    """Return all pictures, (5000, 784) float32 in [0, 1], and labels; they are read from text, which takes a second."""
    pictures, labels, _ = mnist5k()
    x = torch.from_numpy(pictures.reshape(len(pictures), -1).astype(np.float32) / 255)
    return x, torch.from_numpy(labels.astype(np.int64))


def splits(n_train: int = 3000, n_held_out: int = 1000) -> dict[str, Split]:
    """Return "train", "val" and "test", stratified by class and always the same; smaller numbers take the first of each."""
    x, y = _digits()
    rows, test = train_test_split(np.arange(len(y)), test_size=1000, stratify=y, random_state=0)
    rows, val = train_test_split(rows, test_size=1000, stratify=y[rows], random_state=0)
    parts = {"train": rows[:n_train], "val": val[:n_held_out], "test": test[:n_held_out]}
    return {name: Split(x[part], y[part], np.asarray(part, np.int64)) for name, part in parts.items()}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to train. regularizers: spec texts; late: those that join for the last quarter of the epochs only."""

    lr: float
    drop_input: float = 0.0
    drop_hidden: float = 0.0
    dropconnect: float = 0.0
    regularizers: tuple[str, ...] = ()
    late: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return what differs from the defaults."""
        return ", ".join(f"{k}={v if isinstance(v, float) else ' + '.join(v)}" for k, v in asdict(self).items() if v)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How much is spent, on every arm alike: ``n_settings`` x ``tuning_seeds`` runs of tuning, then one for each seed."""

    epochs: int = 40
    batch: int = 100
    width: int = 512
    n_train: int = 3000
    n_held_out: int = 1000
    n_settings: int = 6
    tuning_seeds: tuple[int, ...] = (100,)
    seeds: tuple[int, ...] = tuple(range(8))

    def quick(self) -> Protocol:
        """Return the smallest run that touches everything, for a test: its figures mean nothing."""
        return replace(self, epochs=4, width=8, n_train=200, n_held_out=100, n_settings=1, seeds=self.seeds[:2])


def perceptron(setting: Setting, width: int, seed: int, **dropconnect: Any) -> nn.Sequential:
    """Return 784 - width - width - 10 with He's weights drawn from ``seed``, and the setting's random layers.

    dropconnect: further knobs of the two ``DropConnectLinear`` that then stand for the hidden layers.
    """

    def hidden(n: int, c_in: int) -> list[nn.Module]:
        if setting.dropconnect:
            options: Any = {"activation": "relu", "per": "batch", "stream": f"dropconnect/{n}", "seed": seed} | dropconnect
            return [DropConnectLinear(c_in, width, setting.dropconnect, **options)]
        return [nn.Linear(c_in, width), nn.ReLU()]

    def drop(p: float, n: int) -> list[nn.Module]:
        return [Dropout(p, stream=f"dropout/{n}", seed=seed)] if p else []

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.integer_seed(seed, "init"))
        layers = [*drop(setting.drop_input, 0), *hidden(1, 784), *drop(setting.drop_hidden, 1), *hidden(2, width),
                  *drop(setting.drop_hidden, 2), nn.Linear(width, K)]  # fmt: skip
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class BatchSource:
    """The training split in batches, in an order that is a function of (seed, epoch); a last short batch is left out."""

    def __init__(self, split: Split, batch: int, seed: int) -> None:
        self.split, self.batch, self.seed = split, batch, seed
        self.n_steps = len(split.y) // batch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step ``start`` on."""
        order = rng.permutation(len(self.split.y), seed=self.seed, stream="order", epoch=epoch)
        for step in range(start, self.n_steps):
            rows = order[step * self.batch : (step + 1) * self.batch]
            yield Batch(self.split.ids[rows], self.split.x[rows], self.split.y[rows], step)


@dataclass
class Watch:
    """Keeps the weights of the epoch with the lowest validation error, and lets the late regularizers in."""

    task: Task
    val: Split
    late: Sequence[Regularizer]
    least: float = float("inf")
    best: dict[str, Tensor] = field(default_factory=dict)

    def after_step(self, at: Position) -> None:
        """Do nothing."""

    def after_epoch(self, at: Position, rate: float) -> bool:
        """Judge the epoch on the validation split."""
        del rate
        error = error_of(probabilities(self.task.module, [self.val.x]), self.val)
        if error < self.least:
            self.least, self.best = error, copy.deepcopy(self.task.module.state_dict())
        if at.epoch + 1 == self.task.epochs * 3 // 4:
            self.task.regularizers = [*self.task.regularizers, *self.late]
        return True


@dataclass(frozen=True)
class Trained:
    """The network after its last epoch, and with the weights of its best epoch on validation."""

    last: nn.Module
    best: nn.Module


Make = Callable[[Setting, int, int], nn.Module]  # setting, width, seed -> a network that reads flat pictures


def fit(setting: Setting, protocol: Protocol, data: Mapping[str, Split], seed: int, make: Make = perceptron) -> Trained:
    """Train one network."""
    regularizers, late = ([build(text, Regularizer) for text in texts] for texts in (setting.regularizers, setting.late))
    model = make(setting, protocol.width, seed)
    for regularizer in regularizers:
        model = regularizer.install(model, seed)
    rule = replace(Momentum(lr=setting.lr, momentum=0.95), **merged_knobs(regularizers, "optimizer_knobs"))
    loss = replace(CrossEntropy(), **merged_knobs(regularizers, "loss_knobs"))
    optimizer = Optimizer(parameter_groups(model), rule, gradients="clip_norm(max_norm=5.0)")
    for group in optimizer.param_groups:
        group["initial_lr"] = setting.lr
    task = Task(model, BatchSource(data["train"], protocol.batch, seed), optimizer, Cosine(), loss, protocol.epochs, regularizers)
    watch = Watch(task, data["val"], late)
    train_loop(task, Position(), watch, lambda: False)
    best = copy.deepcopy(model)
    best.load_state_dict(watch.best)
    return Trained(model.eval(), best.eval())


def error_of(probs: NDArray[np.float32], split: Split) -> float:
    """Return the share of wrong answers, in percent."""
    return 100.0 * float((probs.argmax(1) != split.y.numpy()).mean())


def judge(model: nn.Module, split: Split) -> dict[str, float]:
    """Return the error in percent and the log loss in nats."""
    probs = probabilities(model, [split.x])
    return {"error": error_of(probs, split), "nll": log_loss(probs, split.y.numpy())}


Measure = Callable[[Setting, Trained, Split], dict[str, float]]
Grid = Sequence[Setting]


def plain(setting: Setting, trained: Trained, test: Split) -> dict[str, float]:
    """Return error and log loss after the last epoch, and the error of the best epoch on validation."""
    del setting
    return judge(trained.last, test) | {"error_best_epoch": judge(trained.best, test)["error"]}


def tune(
    name: str, grid: Grid, protocol: Protocol, data: Mapping[str, Split], make: Make
) -> tuple[Setting, list[dict[str, Any]]]:
    """Return the setting of least validation error (ties: log loss), and what every setting scored."""
    rows = []
    for setting in grid:
        found = [judge(fit(setting, protocol, data, seed, make).last, data["val"]) for seed in protocol.tuning_seeds]
        rows.append({"setting": str(setting)} | {f"val_{m}": float(np.mean([one[m] for one in found])) for m in found[0]})
        say(f"tuning {name}: {setting}: validation error {rows[-1]['val_error']:.2f} %, log loss {rows[-1]['val_nll']:.3f}")
    best = min(range(len(grid)), key=lambda i: (rows[i]["val_error"], rows[i]["val_nll"]))
    return grid[best], rows


@dataclass(frozen=True)
class Replica:
    """Every arm at its tuned setting on the same seeds. runs: metric -> what each arm scored on the test split."""

    protocol: Protocol
    chosen: dict[str, Setting]
    tuning: dict[str, list[dict[str, Any]]]
    runs: dict[str, PairedRuns]

    def result(self, baselines: Mapping[str, str]) -> dict[str, Any]:
        """Return everything as plain data. baselines: arm -> the arm that it is compared with."""
        pairs = {f"{name} - {other}": (name, other) for name, other in baselines.items()}
        return {
            "protocol": asdict(self.protocol) | {"optimizer": "momentum 0.95, clip_norm(max_norm=5.0), cosine() to 0"},
            "tuning": self.tuning,
            "arms": {name: self._arm(name) for name in self.chosen},
            "differences": {pair: {metric: interval(runs.difference(*names)) for metric, runs in self.runs.items()}
                            for pair, names in pairs.items()},
            "verdicts": {pair: {metric: runs.verdict(*names) for metric, runs in self.runs.items()}
                         for pair, names in pairs.items()},
        }  # fmt: skip

    def _arm(self, name: str) -> dict[str, Any]:
        wall = next(iter(self.runs.values())).wall_s[name]
        means = {metric: interval(runs.mean(name)) for metric, runs in self.runs.items()}
        each = {metric: runs.scores[name] for metric, runs in self.runs.items()}
        return {"setting": str(self.chosen[name])} | means | {"wall_s": interval(mean(wall)), "each": each}


def replicate(arms: Mapping[str, Grid], protocol: Protocol, measure: Measure = plain, make: Make = perceptron) -> Replica:
    """Tune every arm with the same budget, then run all at their best on the reporting seeds."""
    if len({len(grid) for grid in arms.values()}) != 1 or len(next(iter(arms.values()))) < protocol.n_settings:
        raise SystemExit(f"every arm must have the same number of settings to choose from, {protocol.n_settings}")
    data = splits(protocol.n_train, protocol.n_held_out)
    tuned = {name: tune(name, grid[: protocol.n_settings], protocol, data, make) for name, grid in arms.items()}
    chosen = {name: setting for name, (setting, _) in tuned.items()}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in arms}

    def candidate(name: str) -> Callable[[int], float]:
        def run(seed: int) -> float:
            rows[name].append(measure(chosen[name], fit(chosen[name], protocol, data, seed, make), data["test"]))
            return rows[name][-1]["error"]

        return run

    runs = paired_seeds({name: candidate(name) for name in arms}, protocol.seeds,
                        report=lambda name, seed, score: say(f"seed {seed}, {name}: test error {score:.2f} %"))  # fmt: skip
    metrics = next(iter(rows.values()))[0]
    scores = {m: {name: [row[m] for row in rows[name]] for name in arms} for m in metrics}
    return Replica(protocol, chosen, {name: table for name, (_, table) in tuned.items()},
                   {m: PairedRuns(runs.seeds, scores[m], runs.wall_s) for m in metrics})  # fmt: skip


def options(about: str | None, protocol: Protocol, parts: Sequence[str] = ()) -> tuple[argparse.Namespace, Protocol]:
    """Return the command line of a replica (``quick``, and ``only`` where it has parts) and its protocol."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a run of seconds that writes nothing; its figures mean nothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=protocol.epochs, help="of every run, of every arm")
    if parts:
        parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="run these parts, keep the others' results")
    found = parser.parse_args()
    torch.set_num_threads(found.threads)
    protocol = replace(protocol, epochs=found.epochs)
    return found, protocol.quick() if found.quick else protocol


def say(text: str) -> None:
    """Tell the progress."""
    print(text, file=sys.stderr, flush=True)
