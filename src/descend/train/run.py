"""A trained run, opened again: its record, its network, its answers on new pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from descend import data as data_room
from descend.data import Dataset, decode_resized, list_pictures
from descend.data.pool import in_order, n_threads
from descend.errors import DataError, PictureError, RunError, nearest
from descend.models import Classifier, backbone
from descend.regularize import Regularizer
from descend.technique import build
from descend.train import folder, metrics, record
from descend.train.inference import Inference, InferenceResult
from descend.train.recipe import Recipe, read
from descend.train.record import RunRecord
from descend.train.record_types import Score
from descend.transfer import Head

BATCH = 32


@dataclass(frozen=True)
class Predictions:
    """InferenceResult, one row a readable picture, in the order given.

    labels: (n,) names of classes. probabilities: (n, K) float32, columns in the order of ``classes``. names: (n,) what each row
    is about. problems: name -> reason, the pictures that could not be read. entropy, mutual_information: (n,) float32, nats,
    where every picture was asked more than once (``tta``, ``mc``), else None: all the doubt, and the part of it that comes from
    the passes disagreeing.
    """

    labels: NDArray[np.str_]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    problems: dict[str, str]
    entropy: NDArray[np.float32] | None = None
    mutual_information: NDArray[np.float32] | None = None


class Run:
    """One run folder. Opening it costs little; the network is built when it is first used."""

    def __init__(self, path: Path, opened: record.RunRecord | None = None) -> None:
        self.folder = path
        self.record = record.load(path) if opened is None else opened

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities."""
        return tuple(self.record.classes)

    @cached_property
    def recipe(self) -> Recipe:
        """The complete recipe of the run."""
        return read(self.folder / folder.RECIPE)

    @cached_property
    def classifier(self) -> Classifier:
        """The trained network, in eval mode on the CPU. Raises RunError if the run holds none or a damaged one."""
        path = self.folder / folder.MODEL
        if not path.exists():
            raise RunError(f"run {self.folder}", f"must hold {folder.MODEL}", fix="It stopped before anything was trained.")
        try:
            return restored(self.record, load_file(path))
        except (SafetensorError, RuntimeError, OSError) as error:
            raise RunError(str(path), f"must be intact ({str(error).splitlines()[0]})") from error

    def predict(self, pictures: Any, *, threads: int | None = None, tta: str | None = None, mc: int | None = None) -> Predictions:
        """Classify pictures: a path or several (files, or folders searched to their bottom), or (n, H, W[, 3]) uint8 arrays.

        tta: test-time views to average over, ``"flip"``, ``"ten_crop"`` or ``"views(k=8)"``. mc: random passes over the network's
        dropout to average over. A picture that cannot be read is named in ``problems`` and never stops the others.
        Raises DataError if none is left; KnobError where ``mc`` finds nothing random in the network.
        """
        if isinstance(pictures, np.ndarray) and pictures.ndim == 3 and pictures.shape[2] == 3:
            pictures = pictures[None]  # one picture in colour
        if isinstance(pictures, np.ndarray) or _are_arrays(pictures):
            sources: list[Any] = list(pictures)
            names = [f"[{i}]" for i in range(len(sources))]
        elif not isinstance(pictures, (str, os.PathLike, Iterable)):
            raise DataError("predict", "needs paths, folders or arrays", got=type(pictures).__name__)
        else:
            names = list_pictures([pictures] if isinstance(pictures, (str, os.PathLike)) else pictures)
            sources = list(names)
        ask = Inference(self.classifier, self.record, tta=tta, mc=mc)
        found, kept, problems = self._answers("predict", sources, names, n_threads(threads), ask)
        labels = np.array(self.classes)[found.probabilities.argmax(1)]
        readable = tuple(names[at] for at in kept)
        return Predictions(labels, found.probabilities, self.classes, readable, problems, found.entropy, found.mutual_information)

    def evaluate(
        self, data: Any, *, split: str | None = None, threads: int | None = None, tta: str | None = None, mc: int | None = None
    ) -> dict[str, Any]:
        """Measure the run on labelled pictures, whatever ``fit`` takes: every metric, per class, and which split it was.

        split: ``train``, ``val`` or ``test``; by default ``test``, or ``val`` where the data give one and no test split.
        tta, mc: as in ``predict``; the answer then tells the mean doubt of right and of wrong answers.
        Classes are matched by name. Raises DataError, naming them, where a class is unknown to the run.
        """
        dataset = self._as_in_training(data, threads) or data_room.load(data, split=False, threads=threads)
        columns = self._columns(dataset)
        chosen = split or ("test" if len(dataset.indices("test")) else "val")
        rows = dataset.indices(chosen)
        if not len(rows):
            raise DataError("eval", f"the data must have pictures in split {chosen!r}", got=dataset.summary()["splits"])
        names = [dataset.name_of(int(row)) for row in rows]
        sources = [dataset.source(int(row)) for row in rows]
        ask = Inference(self.classifier, self.record, tta=tta, mc=mc)
        found, kept, problems = self._answers("eval", sources, names, n_threads(threads), ask)
        answers = found.probabilities
        labels = columns[dataset.labels[rows[kept]]]
        if chosen == "test":
            self.record.look_at_test(f"descend eval {dataset.name}")
        noted = chosen != "test" or self._note_look()
        judged = rows[kept]
        score = metrics.score(answers, labels, copies=dataset.copies(judged), groups=dataset.evidence(judged))
        detail = {"per_class": metrics.per_class(answers, labels, self.classes), "problems": problems}
        detail |= {"look_noted": noted, "n_trained_on": self._n_trained_on(dataset.digests[rows[kept]], threads)}
        detail |= {"tta": tta, "mc": mc, "doubt": _doubt(found, labels)}
        return {"run": str(self.folder), "split": chosen, **score, "test_looks": len(self.record.test_looks), **detail}

    def _note_look(self) -> bool:
        """Save the record with its new look; a run folder that takes no writes does not keep the answer from its owner."""
        try:
            self.record.save(self.folder)
        except RunError:
            return False
        return True

    def _n_trained_on(self, digests: NDArray[np.uint8], threads: int | None) -> int | None:
        """Count pictures that the run was trained or selected on; None where its own data are not at hand to compare with."""
        try:
            own = None if self.recipe.data is None else self._as_in_training(self.recipe.data, threads)
        except OSError:
            own = None
        if own is None:
            return None
        known = {own.digests[row].tobytes() for split in ("train", "val") for row in own.indices(split)}
        return sum(digest.tobytes() in known for digest in digests)

    def summary(self) -> dict[str, Any]:
        """Return what ``descend fit --json`` prints."""
        note = self.record
        return {
            "run": str(self.folder), "status": note.status, "chosen": note.chosen, "val": note.val, "test": note.test,
            "wall_s": note.wall_s, "images_per_s": note.images_per_s, "seed": note.seed,
        }  # fmt: skip

    def verdict(self) -> str:
        """Return the result in words: each split with its interval."""
        lines = [_line(name, score) for name, score in (("Validation", self.record.val), ("Test", self.record.test)) if score]
        if self.record.test is None and self.record.status == "finished":
            given = self.record.data.get("given_split", True)
            why = "no test split was given" if given else "too few pictures for a test split"
            lines.append(f"Test:       {why}; the validation accuracy chose the epoch, so it flatters a little")
        return "\n".join(lines)

    # ------------------------------------------------------------------------------------------------------- private parts

    def _answers(
        self, who: str, sources: Sequence[Any], names: Sequence[str], threads: int, ask: Inference
    ) -> tuple[InferenceResult, list[int], dict[str, str]]:
        """Decode and classify: answers to the readable pictures, their positions, and name -> reason of the others."""
        kept, problems, found = list[int](), dict[str, str](), list[InferenceResult]()
        for images, positions in stored(sources, names, problems, record=self.record, threads=threads):
            kept.extend(positions)
            found.append(ask(images))
        if not found:
            why = "; ".join(f"{name}: {reason}" for name, reason in list(problems.items())[:3]) or "no picture at all"
            raise DataError(who, "needs one readable picture or more", got=why)
        return InferenceResult.joined(found), kept, problems

    def _as_in_training(self, data: Any, threads: int | None) -> Dataset | None:
        """Return ``data`` with the split of the training if they are the very pictures the run was trained on, else None.

        Without this, measuring a run on its own flat folder would count the pictures it has learned by heart.
        """
        try:
            dataset = data_room.load(data, seed=self.record.seed, threads=threads)
        except DataError:  # fine to measure on, but nothing one could have trained on
            return None
        return dataset if dataset.fingerprint == self.record.data_fingerprint else None

    def _columns(self, dataset: Dataset) -> NDArray[np.int64]:
        """Return, for each class of the data, its column in the run's answers."""
        unknown = [name for name in dataset.classes if name not in self.classes]
        if unknown:
            raise DataError("eval", "the data's classes must be among the run's", got=unknown[:10],
                            fix=f"The run knows {', '.join(self.classes[:20])}. {nearest(unknown[0], self.classes)}")  # fmt: skip
        return np.array([self.classes.index(name) for name in dataset.classes], np.int64)


def _are_arrays(pictures: Any) -> bool:
    return isinstance(pictures, (list, tuple)) and len(pictures) > 0 and all(isinstance(item, np.ndarray) for item in pictures)


def _doubt(found: InferenceResult, labels: NDArray[np.int64]) -> dict[str, dict[str, float]] | None:
    """Return the mean entropy and mutual information, in nats, of right and of wrong answers; None after single passes."""
    if found.entropy is None or found.mutual_information is None:
        return None
    right = found.probabilities.argmax(1) == labels
    return {
        name: {
            "entropy": float(found.entropy[chosen].mean()),
            "mutual_information": float(found.mutual_information[chosen].mean()),
        }
        for name, chosen in (("right", right), ("wrong", ~right))
        if chosen.any()
    }


def stored(
    sources: Sequence[Any], names: Sequence[str], problems: dict[str, str], *, record: RunRecord, threads: int
) -> Iterator[tuple[NDArray[np.uint8], list[int]]]:
    """Yield pictures decoded as in training, up to 32 at a time: (n, R, R, 3) uint8, and their n positions in ``sources``.

    sources: whatever ``decode_resized`` takes. problems: takes name -> reason of the pictures that cannot be read. record: of the
    run; it tells the resolution R, the scale and the background.
    """
    resolution, policy = record.preparation()["resolution"], record.pixel_policy()

    def decode(item: tuple[Any, str]) -> NDArray[np.uint8] | str:
        source, name = item
        try:
            return decode_resized(source, resolution, name=name, policy=policy)
        except PictureError as error:
            return str(error)

    waiting, positions = list[NDArray[np.uint8]](), list[int]()
    for at, image in enumerate(in_order(decode, zip(sources, names, strict=True), threads)):
        if isinstance(image, str):
            problems[names[at]] = image
            continue
        positions.append(at)
        waiting.append(image)
        if len(waiting) == BATCH:
            yield np.stack(waiting), positions
            waiting, positions = [], []
    if waiting:
        yield np.stack(waiting), positions


def restored(note: record.RunRecord, state: dict[str, torch.Tensor]) -> Classifier:
    """Return the classifier that a record describes, with the weights of ``state``, in eval mode."""
    prepared = note.preparation()
    body = backbone(prepared["architecture"]).build(note.seed)
    body.mean, body.std = tuple(prepared["mean"]), tuple(prepared["std"])
    head = build(note.specs("head")[0], Head).build(body.n_features, len(note.classes), note.seed)
    network: torch.nn.Module = Classifier(body, head)
    for text in note.specs("regularize"):
        network = build(text, Regularizer).install(network, note.seed)
    network.load_state_dict(state)
    assert isinstance(network, Classifier)  # regularizers put layers into it, they do not replace it
    return network.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in torch's stub)


def words_for(score: Mapping[str, Any]) -> str:
    """Return how many pictures a score is over, and how many of them are independent evidence where that is fewer."""
    independent = score["n_independent"]
    return f"{score['n']:,} pictures" + (f", {independent:,} independent" if independent < score["n"] else "")


def _line(name: str, score: Score) -> str:
    low, high = score["accuracy_interval"]
    return (
        f"{name + ':':<11} accuracy {score['accuracy']:.2%} of {words_for(score)} (95 % interval {low:.1%} to {high:.1%}), "
        f"balanced {score['balanced_accuracy']:.2%}, macro F1 {score['macro_f1']:.2%}"
    )
