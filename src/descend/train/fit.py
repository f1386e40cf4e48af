"""One run from start to end: data, plan, preparation, training, judgement, record. Each stage is timed and told."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as serialized

from descend import data as data_room
from descend.augment import Normalize
from descend.data import Dataset, Decoded
from descend.data.builtin import SETS
from descend.errors import DataError, KnobError, RunError, TrainingError
from descend.models import Backbone, Classifier
from descend.regularize import L1, ElasticNet, sparsity
from descend.technique import knobs
from descend.train import checkpoint, evaluate, folder, metrics, record
from descend.train import recipe as recipes
from descend.train.checkpoint import Best
from descend.train.estimate import rehearse, spoken
from descend.train.interrupt import graceful
from descend.train.jobs import Prepared, Workshop, class_counts, class_weights
from descend.train.loop import Position, train
from descend.train.plan import Facts, Plan, resolve
from descend.train.progress import Progress
from descend.train.recipe import Recipe
from descend.train.run import Run
from descend.train.snapshots import Snapshots
from descend.train.watch import RunWatcher
from descend.transfer import Engine, choose, trainable_stages


def fit(recipe: Recipe, *, arrays: Any, out: Path | None, progress: Progress, command: list[str]) -> Run:
    """Train from the beginning. ``arrays`` stands for data that is no path; see ``descend.fit``."""
    folder.check_free(out)
    with threads(recipe.threads):
        session = Session(_located(recipe), progress)
        session.read(_source(recipe, arrays))
        session.decide()
        session.build()
        session.folder = folder.create(out, session.dataset.name)
        session.record.command = command
        try:
            session.prepare()
            return session.go(Position(), Best())
        except KeyboardInterrupt:
            return session.stopped()


def resume(path: Path, *, arrays: Any, progress: Progress) -> Run:
    """Go on with an interrupted run. Raises RunError if it is finished, or if its data are not what they were."""
    before = record.load(path)
    if before.status == "finished":
        raise RunError(f"run {path}", "must be unfinished to go on", got=before.status,
                       fix="To train it again: descend fit --recipe RUN/recipe.toml --out NEW.")  # fmt: skip
    recipe = recipes.read(path / folder.RECIPE)
    with threads(recipe.threads):
        session = Session(recipe, progress)
        session.folder, session.record = path, before
        session.read(_source(recipe, arrays, resumed=True))
        if session.dataset.fingerprint != before.data_fingerprint:
            raise RunError(f"run {path}", "its data must be what they were when it began", got=recipe.data or "other arrays",
                           fix="Restore them, or start anew: descend fit --recipe RUN/recipe.toml --out NEW.")  # fmt: skip
        session.decide()
        session.build()
        try:
            session.prepare()
            return session.go(*session.restored())
        except KeyboardInterrupt:
            return session.stopped()


def _source(recipe: Recipe, arrays: Any, *, resumed: bool = False) -> Any:
    if arrays is not None:
        return arrays
    if recipe.data is None and resumed:
        raise DataError(
            "resume", "needs the arrays again: the run was started on arrays", fix="descend.resume(RUN, data=(images, labels))."
        )
    if recipe.data is None:
        raise DataError("fit", "needs DATA: a folder, a table, or the name of a built-in set", fix="Try: descend fit digits")
    return recipe.data


def _located(recipe: Recipe) -> Recipe:
    """Return the recipe with its data as an absolute path, so that a run can be resumed and repeated from anywhere."""
    if recipe.data is None or recipe.data in SETS or not Path(recipe.data).exists():
        return recipe
    return replace(recipe, data=str(Path(recipe.data).absolute()))  # a table reached by a link keeps the folder of the link


def rehearsed(recipe: Recipe, source: Any, progress: Progress, of: Run | None = None) -> Session:
    """Return the session of a run that is not to be made: all is prepared as for ``fit``, and no run folder is left behind.

    of: a run that was made by this recipe before. Raises RunError where its data have changed since.
    """
    session = Session(recipe, progress)
    session.read(source)
    if of is not None and session.dataset.fingerprint != of.record.data_fingerprint:
        raise RunError(f"run {of.folder}", "its data must be what they were when it was trained", got=recipe.data)
    session.decide()
    session.build()
    with tempfile.TemporaryDirectory() as scratch:
        session.folder = Path(scratch)
        session.prepare()
    return session


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Use ``n`` CPU threads while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Session:
    """One run while it is made."""

    folder: Path
    dataset: Dataset
    plan: Plan
    decoded: Decoded
    network: Classifier
    workshop: Workshop
    prepared: Prepared

    def __init__(self, recipe: Recipe, progress: Progress) -> None:
        self.recipe, self.progress = recipe, progress
        self.record = record.RunRecord(seed=recipe.seed)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's wall time to the record, also when it fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.record.add_wall(stage, time.perf_counter() - started)

    def stopped(self) -> Run:
        """Return the run as it is after a Ctrl-C outside the training loop; what was computed lies in the cache."""
        self.record.status = "interrupted"
        self.record.save(self.folder)
        return Run(self.folder, self.record)

    # ------------------------------------------------------------------------------------------------- before training

    def read(self, source: Any) -> None:
        """Find, check and split the pictures, and say what was found."""
        with self.timed("scan"):
            self.dataset = data_room.load(
                source, seed=self.recipe.seed, threads=self.recipe.threads, progress=self.progress.update
            )
        for line in self.dataset.describe():
            self.progress.say(line)

    def decide(self) -> None:
        """Resolve the plan and say it; nothing is written yet."""
        data = self.dataset
        side = data.shorter_side[1]
        self.plan = resolve(self.recipe, Facts(data.name, len(data.indices("train")), len(data.classes), side, data.is_grey))
        _check_device(self.plan.device)
        for line in self.plan.lines(self.recipe):
            self.progress.say(line)

    def build(self) -> None:
        """Build the network; what does not fit it is refused here, before a run folder exists."""
        with self.timed("build"):
            body = self.plan.backbone.build(self.plan.seed)
            for item in self.plan.augment:
                if isinstance(item, Normalize):  # constants of one's own belong to the network: every later look uses them
                    body.mean, body.std = item.mean or body.mean, item.std or body.std
            body.check_size(self.plan.size)
            trainable_stages(body, self.plan.freeze_to)
            head = self.plan.head.build(body.n_features, len(self.dataset.classes), self.plan.seed)
            self.network = Classifier(body, head)
            _install(self.plan, self.network)
            _check_weights(self.plan, self.dataset)

    def prepare(self) -> None:
        """Decode the pictures, choose the engine, make the job; the recipe is written on the way."""
        body = self.network.backbone
        margin = body.crop_fraction if self.plan.transfer != "scratch" else 1.0
        resolution = int(self.plan.size / margin)
        self._note(body, resolution)
        with self.timed("decode"):
            self.decoded = data_room.decoded(self.dataset, resolution, threads=self.plan.threads, progress=self.progress.update)
        for problem in self.decoded.dataset.problems[len(self.dataset.problems) :]:
            self.progress.say(f"  problem: {problem}")
        self.dataset = self.decoded.dataset
        self.record.data = self.dataset.summary()  # pictures that could not be decoded are named and no longer counted
        with self.timed("engine"):
            engine = self._engine(body)
        with self.timed("features"):
            self.workshop = Workshop(self.plan, self.decoded, self.network, engine, self.progress)
            self.prepared = self.workshop.prepare()
        self.record.parameter_groups = [_group(group) for group in self.prepared.job.optimizer.param_groups]

    def _engine(self, body: Backbone) -> Engine | None:
        """Settle which engine runs the frozen part; once settled it stands in the recipe and is never chosen again."""
        if self.plan.engine != "auto":
            return None
        self.progress.say("  choosing the engine (measured once for this network and machine) ...")
        choice = choose(body, size=self.plan.size)
        rates = ", ".join(f"{name} {rate:.0f}" for name, rate in choice.images_per_s.items())
        self.plan = self.plan.with_engine(choice.engine.name, f"the fastest here, pictures/s: {rates}")
        self.progress.say(f"  engine     {self.plan.engine}  ({self.plan.reasons['engine']})")
        self._write_plan()
        if choice.engine.images_per_s:
            n = (1 + self.plan.views) * len(self.dataset.indices("train"))
            n += len(self.dataset.indices("val")) + len(self.dataset.indices("test"))
            self.progress.say(f"features of {n:,} views: about {spoken(n / choice.engine.images_per_s)}, unless cached")
        return choice.engine

    def _note(self, body: Backbone, resolution: int) -> None:
        """Begin the record and write the complete recipe."""
        architecture = self.plan.backbone
        named = {knob.name for knob in knobs(type(architecture))}
        bare = replace(architecture, pretrained=False) if "pretrained" in named else architecture  # pyright: ignore[reportArgumentType] (every technique is a dataclass)
        note = self.record
        note.status = "running"
        note.data, note.data_fingerprint = self.dataset.summary(), self.dataset.fingerprint
        note.classes = list(self.dataset.classes)
        note.preprocessing = {
            "architecture": str(bare), "resolution": resolution, "size": self.plan.size,
            "mean": list(body.mean), "std": list(body.std),
        }  # fmt: skip
        self._write_plan()

    def _write_plan(self) -> None:
        self.record.plan, self.record.reasons = self.plan.describe(), self.plan.reasons
        folder.write_text(self.folder / folder.RECIPE, recipes.dump(self.plan.recipe()))
        self.record.save(self.folder)

    # ------------------------------------------------------------------------------------------------ training and after

    def restored(self) -> tuple[Position, Best]:
        """Restore the checkpoint, if there is one; metrics of epochs after it (a crash) are dropped, they come again."""
        saved, lines = self.folder / folder.CHECKPOINT, self.folder / folder.METRICS
        if saved.exists():
            at, best = checkpoint.load(saved, self.prepared.job.module, self.prepared.job.optimizer)
            self.progress.say(f"going on in epoch {at.epoch + 1}, step {at.step + 1}")
        else:
            at, best = Position(), Best()
        rows = folder.read_lines(lines)[: at.epoch]
        folder.write_text(lines, "".join(json.dumps(row) + "\n" for row in rows))
        return at, best

    def go(self, at: Position, best: Best) -> Run:
        """Train from ``at``, judge, and write everything down."""
        prepared, val = self.prepared, self.dataset.indices("val")
        frozen = prepared.frozen() if prepared.frozen else None
        if prepared.warm_up and (at.epoch, at.step) == (0, 0):
            self.progress.say("training the head first, on cached features")
            with self.timed("head first"):
                prepared.warm_up()
        with self.timed("estimate"):
            done = (at.epoch + at.step / prepared.job.feed.n_steps) / prepared.job.epochs
            self.record.estimate_s = rehearse(prepared.job, len(val)) * (1 - done)
        self.progress.say(f"training {self.plan.epochs} epochs: about {spoken(self.record.estimate_s)}")
        started = time.perf_counter()
        with self.timed("train"), graceful() as interrupt:
            watcher = self._watcher(at, best, val)
            at = train(prepared.job, at, watcher, lambda: bool(interrupt))
        finished = at.epoch >= prepared.job.epochs
        self.record.decisions = watcher.decisions()
        watcher.save(at)  # of a finished run too: it holds the last epoch beside the best
        self._note_rate(watcher.n_done, time.perf_counter() - started)
        self._check_frozen(frozen)
        with self.timed("evaluate"):
            self._keep(best, finished)
        return Run(self.folder, self.record)

    def _watcher(self, at: Position, best: Best, val: NDArray[np.int64]) -> RunWatcher:
        prepared, labels = self.prepared, self.dataset.labels[val]
        n_train, plan = len(self.dataset.indices("train")), self.plan
        return RunWatcher(
            self.folder, prepared.job, best, plan.metric, n_train, self.progress,
            lambda: evaluate.probabilities(prepared.job.module, prepared.inputs(val)), labels, at,
            Snapshots(self.folder, plan.snapshots, plan.epochs) if plan.snapshots else None,
        )  # fmt: skip

    def _note_rate(self, n_trained: int, wall_s: float) -> None:
        """Note pictures per second: of computing features where that was the work, else of training."""
        shop = self.workshop
        self.record.rate_of = "features" if shop.n_computed and self.plan.transfer == "features" else "training"
        n, wall = (shop.n_computed, shop.computing_s) if self.record.rate_of == "features" else (n_trained, wall_s)
        self.record.images_per_s = round(n / max(wall, 1e-9), 1)

    def _check_frozen(self, before: str | None) -> None:
        if before is None or self.prepared.frozen is None:
            return
        after = self.prepared.frozen()
        self.record.frozen = {"before": before, "after": after, "norm": self.plan.norm}
        if before != after:
            raise TrainingError("training", "must leave every frozen parameter and buffer as it was",
                                got=f"{before} -> {after}", fix="This is a fault of descend: please report it.")  # fmt: skip

    def _keep(self, best: Best, finished: bool) -> None:
        """Restore the best epoch, save it, and judge it on validation; on test only when the run is finished."""
        job = self.prepared.job
        if best.state is not None:
            job.module.load_state_dict(best.state)
        if any(isinstance(item, (L1, ElasticNet)) for item in self.plan.regularize):
            self.record.sparsity = sparsity(job.module)
        state = {name: value.detach().cpu().contiguous() for name, value in self.prepared.classifier.state_dict().items()}
        with folder.replacing(self.folder / folder.MODEL) as part:
            part.write_bytes(serialized(state))
        self.record.status = "finished" if finished else "interrupted"
        self.record.chosen = {
            "transfer": self.plan.transfer, "backbone": str(self.plan.backbone), "size": self.plan.size,
            "engine": self.plan.engine, "epoch": best.epoch + 1,
        }  # fmt: skip
        self._judge(["val", "test"] if finished else ["val"])
        self.record.save(self.folder)

    def _judge(self, splits: list[str]) -> None:
        note, data = self.record, self.dataset
        rows = {split: data.indices(split) for split in splits if len(data.indices(split))}
        probs = {s: evaluate.probabilities(self.prepared.job.module, self.prepared.inputs(at)) for s, at in rows.items()}
        for split, at in rows.items():
            labels = data.labels[at]
            score = metrics.score(probs[split], labels)
            note.per_class[split] = metrics.per_class(probs[split], labels, data.classes)
            note.confusion[split] = metrics.confusion(probs[split], labels, len(data.classes))
            if split == "test":
                note.test = score
                note.look_at_test("descend fit, after training")
            else:
                note.val = score
        every = np.concatenate(list(rows.values()))
        answers = np.concatenate(list(probs.values()))
        names = [data.name_of(int(row)) for row in every]
        where = [split for split, at in rows.items() for _ in at]
        evaluate.write_predictions(self.folder / folder.PREDICTIONS, names, where, data.labels[every], answers, data.classes)
        note.mistakes = evaluate.mistakes(self.decoded.take, every, names, where, data.labels[every], answers, data.classes)


def _install(plan: Plan, network: Classifier) -> None:
    """Let the regularisers put their layers in. One whose layers all stand in a frozen part would do nothing: it is refused."""
    trained: list[torch.nn.Module] = [network.head]
    if plan.transfer == "scratch":
        trained = [network]
    elif plan.transfer == "finetune":
        trained += network.backbone.stages[-len(trainable_stages(network.backbone, plan.freeze_to)) :]
    for item in plan.regularize:
        before = _marks(network)
        item.install(network, plan.seed)
        added = _marks(network) - before
        alive = {mark for part in trained for mark in _marks(part)}
        if added and not added & alive:
            raise KnobError("regularize", f"{item} has no effect on a frozen backbone", got=f"transfer={plan.transfer!r}",
                            fix="Use --transfer finetune or scratch, or dropout(p=...), which stands in the head.")  # fmt: skip


def _marks(network: torch.nn.Module) -> set[tuple[int, type, int]]:
    """Return what an installation can change in a network: its modules, their classes, and the hooks on them."""
    return {(id(module), type(module), len(module._forward_hooks)) for module in network.modules()}


def _check_weights(plan: Plan, data: Dataset) -> None:
    """Refuse class weights that would all be 1, and two techniques that both give some."""
    weights = class_weights(plan, data)
    if weights is not None and torch.allclose(weights, torch.ones_like(weights), rtol=1e-5):
        counts = class_counts(data).tolist()
        raise KnobError(
            "regularize", "class weights have no effect where all classes are equally common", got=counts, fix="Leave them out."
        )


def _check_device(device: str) -> None:
    try:
        torch.ones(1, device=device).item()  # there and back: the meta device takes tensors, but computes nothing
    except (RuntimeError, AssertionError) as error:
        raise KnobError(
            "device", f"must be usable here ({str(error).splitlines()[0]})", got=device, fix="Use --device cpu."
        ) from None


def _group(group: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's group for the record."""
    known = {"name", "lr_scale", "weight_decay", "initial_lr"}
    sizes = {"n_parameters": sum(p.numel() for p in group["params"]), "names": list(group["param_names"])}
    return {name: group[name] for name in sorted(known & set(group))} | sizes
