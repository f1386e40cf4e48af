"""What the studies of docs/studies share: small pictures, small networks, one training, equal tuning, runs that are kept.

A study is a set of arms on one set of pictures; an arm is a list of ways to train, equally many for all. Each way is trained on
the tuning seeds and judged on the validation split; the best is trained anew on the reporting seeds, the same for all arms, and
only then is the test split read, once a run. A seed settles initial weights, order of samples, masks and augmentation; the splits
are fixed, and every run's answer to every test picture is kept, so that differences cover further seeds and further pictures.
Runs that the results file holds are not repeated: a study that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from descend import rng
from descend.augment import Pipeline
from descend.comparison import PairedRuns
from descend.errors import DivergenceError
from descend.optim import Optimizer
from descend.regularize import CrossEntropy, Regularizer
from descend.schedule import History, Schedule
from descend.stats import Difference, Interval, differences, mean, verdict_in_points
from descend.technique import build
from descend.train.evaluate import probabilities
from descend.train.loop import Batch, Position, Task, train_loop
from descend.train.metrics import log_loss
from harness import HERE, environment, interval, save
from mnist5k import BatchSource, Setting, Split, perceptron, say
from small_pictures import MEAN, STD, K, Pictures, pictures

KEEP_EVERY_S = 20.0
QUICK = 60  # pictures of a split


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to train. data, net: see ``small_pictures``, ``network``; drop, dropconnect: of hidden units of ``dense``."""

    data: str
    net: str
    optimizer: str
    epochs: int
    n_train: int
    width: int = 16
    batch: int = 64
    schedule: str = "cosine()"
    drop: float = 0.0
    dropconnect: float = 0.0
    regularizers: tuple[str, ...] = ()
    augment: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the settings that differ from the defaults, in one line."""
        texts = {name: " + ".join(value) if isinstance(value, tuple) else value for name, value in asdict(self).items() if value}
        return ", ".join(f"{name}={value}" for name, value in texts.items())


def network(way: Way, c_in: int, seed: int) -> nn.Module:
    """Return a network with weights of ``seed``: linear, dense or conv (both also "... norm"), or resnet (replica_depth's)."""
    kind, _, norm = way.net.partition(" ")
    if kind == "dense":
        layers = list(perceptron(Setting(lr=0.0, drop_hidden=way.drop, dropconnect=way.dropconnect), way.width, seed))
        return nn.Sequential(*_normalised(layers, way.width) if norm else layers)
    if way.drop or way.dropconnect:
        raise SystemExit(f"{way.net} takes regularizers, not drop and dropconnect")
    if kind == "resnet":
        from replica_depth import resnet

        return nn.Sequential(nn.AvgPool2d(2), *resnet(1, way.width, c_in, seed))
    with rng.torch_drawn(seed, "init"):
        return nn.Linear(c_in, K) if kind == "linear" else _conv(way, c_in, bool(norm))


def _normalised(layers: Sequence[nn.Module], width: int) -> Iterator[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            yield nn.BatchNorm1d(width)
        yield layer


def _conv(way: Way, c_in: int, norm: bool) -> nn.Module:
    """Return three convolutions that end at 2 x 2 pixels, from 16 or (digits) 8."""
    layers, strides = list[nn.Module](), (1, 2, 2) if way.data == "digits" else (2, 2, 2)
    for number, stride in enumerate(strides):
        c_out = way.width * 2**number
        layers += [nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1), *([nn.BatchNorm2d(c_out)] if norm else []), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-3 if norm else -2].weight, nonlinearity="relu")  # pyright: ignore[reportArgumentType] (a convolution's)
        c_in = c_out
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * c_in, K))


class Augmenting(BatchSource):
    """The training split in batches, each picture augmented anew: inputs are (B, H, W, 3) uint8 before."""

    def __init__(self, split: Split, batch: int, seed: int, texts: Sequence[str]) -> None:
        super().__init__(split, batch, seed)
        self.pipe = Pipeline(texts, seed=seed, mean=MEAN, std=STD)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step ``start`` on."""
        for batch in super().epoch(epoch, start):
            inputs, targets = self.pipe(
                batch.inputs, batch.targets, ids=batch.ids, epoch=epoch, step=batch.step, n_classes=K
            )  # fmt: skip
            yield replace(batch, inputs=inputs, targets=targets if self.pipe.mixes else batch.targets)


@dataclass
class Look:
    """Looks at the validation split after every epoch, where the schedule asks for it."""

    task: Task
    val: Split
    losses: list[float] = field(default_factory=list)

    def after_step(self, at: Position) -> None:
        """Do nothing."""

    def after_epoch(self, at: Position, lr: float) -> bool:
        """Give the schedule its history."""
        del at, lr
        if self.task.schedule.needs_history():
            self.losses.append(log_loss(probabilities(self.task.module, [self.val.x]), self.val.y.numpy()))
            self.task.history = History(self.task.epochs, val_loss=tuple(self.losses))
            self.task.module.train()
        return True


def train(way: Way, seed: int, found: Pictures) -> dict[str, Any]:
    """Train once. Returns the answers on validation and test as bits, training accuracy, log loss, and what was decided."""
    split = found.first(way.n_train)
    source = (Augmenting(found.raw(split), way.batch, seed, way.augment) if way.augment
              else BatchSource(split, way.batch, seed))  # fmt: skip
    model = network(way, found.c_in, seed)
    if split.x.ndim == 4 and way.net != "resnet":
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (torch's stub lacks the overload)
    regularizers = [build(text, Regularizer) for text in way.regularizers]
    for regularizer in regularizers:
        model = regularizer.install(model, seed)
    optimizer = Optimizer(model.parameters(), way.optimizer)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    task = Task(model, source, optimizer, build(way.schedule, Schedule), CrossEntropy(), way.epochs, regularizers)
    look, began = Look(task, found.splits["val"]), time.process_time()
    if task.schedule.needs_history():
        task.history = History(way.epochs)
    try:
        train_loop(task, Position(), look, lambda: False)
    except DivergenceError:
        return {"diverged": True}
    seconds = time.process_time() - began
    answers = {name: probabilities(model, [part.x]) for name, part in found.splits.items()}
    right = {name: probs.argmax(1) == found.splits[name].y.numpy() for name, probs in answers.items()}
    decided = task.schedule.decisions(task.history) if task.history is not None else []
    trained = probabilities(model, [split.x[:1000]]).argmax(1) == split.y[:1000].numpy()
    return {
        "val": _bits(right["val"]), "test": _bits(right["test"]), "train": float(trained.mean()),
        "test_loss": log_loss(answers["test"], found.splits["test"].y.numpy()), "cpu_s": round(seconds, 3),
        "decisions": [[one.epoch, one.what, one.why] for one in decided],
    }  # fmt: skip


def _bits(right: NDArray[np.bool_]) -> str:
    return np.packbits(right).tobytes().hex()


def bits(text: str, n: int) -> NDArray[np.float64]:
    """Return what ``train`` wrote: (n,) 0 or 1."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:n].astype(np.float64)


@dataclass(frozen=True)
class Seeds:
    """How much is spent on every arm: each of its ways on ``tuning``, the best on ``reporting``."""

    tuning: tuple[int, ...] = (100,)
    reporting: tuple[int, ...] = tuple(range(5))


class Runs:
    """All runs of one study, in ``benchmarks/results/NAME.json``; a quick one reads and writes nothing."""

    def __init__(self, name: str, claim: str, quick: bool) -> None:
        self.name, self.claim, self.quick = name, claim, quick
        self.path, self.kept = HERE / "results" / f"{name}.json", time.perf_counter()
        found = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() and not quick else {}
        self.runs: dict[str, dict[str, Any]] = found.get("runs", {})
        self.result: dict[str, Any] = found.get("result", {})

    def pictures(self, data: str) -> Pictures:
        """Return the splits of a data set."""
        return pictures(data, QUICK if self.quick else None)

    def run(self, way: Way, seed: int) -> dict[str, Any]:
        """Return a run, trained now unless it lies there."""
        if self.quick:
            way = replace(way, n_train=QUICK, epochs=min(way.epochs, 10), width=min(way.width, 8), batch=20)
        key = f"{way}, seed={seed}"
        if key not in self.runs:
            self.runs[key] = train(way, seed, self.pictures(way.data))
            say(f"{key}: {self.accuracy(way.data, self.runs[key], 'val'):.3f}, {self.runs[key].get('cpu_s', 0.0)} s")
            if time.perf_counter() - self.kept > KEEP_EVERY_S and not self.quick:
                self.keep()
        return self.runs[key]

    def right(self, data: str, run: Mapping[str, Any], split: str) -> NDArray[np.float64]:
        """Return which pictures of a split a run has right; none where it diverged."""
        n = len(self.pictures(data).splits[split].y)
        return np.zeros(n) if "diverged" in run else bits(run[split], n)

    def accuracy(self, data: str, run: Mapping[str, Any], split: str) -> float:
        """Return the share of a split that a run has right."""
        return float(self.right(data, run, split).mean())

    def keep(self) -> None:
        """Write what there is so far."""
        whole = {"claim": self.claim, "result": self.result, "runs": dict(sorted(self.runs.items())), **environment()}
        self.path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        self.kept = time.perf_counter()


Arms = Mapping[str, Sequence[Way]]
Pairs = Sequence[tuple[str, str]]


def tuned(runs: Runs, arms: Arms, seeds: Seeds) -> tuple[dict[str, Way], dict[str, dict[str, list[float]]]]:
    """Return each arm's best way by its accuracy on validation, and what all ways scored there, seed by seed."""
    if len({len(ways) for ways in arms.values()}) != 1:
        raise SystemExit("every arm must have the same number of ways to choose from")
    if not seeds.tuning and len(next(iter(arms.values()))) > 1:
        raise SystemExit("to choose among several ways takes a tuning seed")
    scores = {arm: {str(way): [runs.accuracy(way.data, runs.run(way, seed), "val") for seed in seeds.tuning] for way in ways}
              for arm, ways in arms.items()}  # fmt: skip
    best = {arm: max(ways, key=lambda way: sum(scores[arm][str(way)])) for arm, ways in arms.items()}
    return best, scores


def judged(runs: Runs, arms: Arms, pairs: Pairs, seeds: Seeds) -> dict[str, Any]:
    """Tune, train on the reporting seeds, compare on test. pairs: (arm, the arm that it is compared with), one Holm family."""
    chosen, tuning = tuned(runs, arms, seeds)
    made: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for turn, seed in enumerate(seeds.reporting):  # in rotating order, so that a machine that slows down favours nobody
        for arm in list(arms)[turn % len(arms) :] + list(arms)[: turn % len(arms)]:
            made[arm].append(runs.run(chosen[arm], seed))
    items = {arm: np.stack([runs.right(chosen[arm].data, run, "test") for run in each]) for arm, each in made.items()}
    paired = PairedRuns(seeds.reporting, {arm: rows.mean(1).tolist() for arm, rows in items.items()}, {}, items)
    known = differences({f"{a} - {b}": (items[a], items[b]) for a, b in pairs})
    losses = _losses(made, pairs)
    return {
        "pictures": {"train": next(iter(chosen.values())).n_train, "test": items[next(iter(arms))].shape[1]},
        "tuning": tuning,
        "arms": {arm: _arm(chosen[arm], made[arm], paired.mean(arm)) for arm in arms},
        "differences": {name: {"test": interval(one.interval), "level": one.level, "p": one.p_value,
                               "distinguishable": one.distinguishable, "verdict": verdict_in_points(one),
                               "test_loss": interval(losses[name].interval) if name in losses else None}
                        for name, one in known.items()},
    }  # fmt: skip


def _losses(made: Mapping[str, Sequence[Mapping[str, Any]]], pairs: Pairs) -> dict[str, Difference]:
    """Return the differences of test loss, nats; none where a run diverged and has no loss."""
    if any("diverged" in run for each in made.values() for run in each):
        return {}
    losses = {arm: [run["test_loss"] for run in each] for arm, each in made.items()}
    return differences({f"{a} - {b}": (losses[a], losses[b]) for a, b in pairs})


def _arm(way: Way, made: Sequence[Mapping[str, Any]], test: Interval) -> dict[str, Any]:
    finished = [run for run in made if "diverged" not in run]
    means = {what: interval(mean([run[what] for run in finished])) for what in ("train", "test_loss", "cpu_s")
             if len(finished) > 1}  # fmt: skip
    return {"way": str(way), "setting": asdict(way), "test": interval(test), **means, "n_diverged": len(made) - len(finished)}


def carry_out(name: str, claim: str, parts: Mapping[str, Callable[[Runs, bool], Any]], about: str | None) -> None:
    """Run the parts of a study from its command line, and write its results file."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a run of seconds that writes nothing; its figures mean nothing")
    parser.add_argument("--only", nargs="+", choices=list(parts), default=list(parts))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    runs = Runs(name, claim, asked.quick)
    for part in asked.only:
        runs.result[part] = parts[part](runs, asked.quick)
        if not asked.quick:
            runs.keep()
    if asked.quick:
        print(json.dumps(runs.result))
        return
    save(name, claim, runs.result, runs=dict(sorted(runs.runs.items())))
