"""A trained run, opened again: its record, its network, its answers on new pictures."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from descend import data as data_package
from descend.data import Dataset
from descend.data.opening import Source
from descend.data.pool import n_threads
from descend.data.scan import reason
from descend.errors import DataError, DescendError, RunError, SpecError
from descend.printable import shortened
from descend.progress import Progress, Silent
from descend.train import evaluation_notes, folder, graph_inference, metrics, run_manifest
from descend.train.answers import FeatureVectors, Predictions
from descend.train.inference_result import InferenceResult
from descend.train.labels import typed
from descend.train.lock import RunLock, in_use
from descend.train.own_data import as_in_training
from descend.train.picture_sources import FEW, decoded_batches, picture_sources, refuse_none
from descend.train.recipe import Recipe, read
from descend.train.record import RunRecord
from descend.train.record import load as load_record
from descend.train.record_types import Evaluation, RunSummary
from descend.train.run_views import Mistakes, card, frame
from descend.train.training_overlap import familiar

if TYPE_CHECKING:
    from pandas import DataFrame

    from descend.export import AgreementReport, Format, QuantizedReport
    from descend.models import Classifier, Ensemble
    from descend.train.exporting import Int8
    from descend.train.inference import Inference
    from descend.train.transform import Transform

Classify = Callable[[NDArray[np.uint8]], InferenceResult]
"""Answers stored pictures (B, R, R, 3) uint8."""


class Run:
    """One run folder. Opening it costs little; the network is built when it is first used.

    failure: the error that has just ended its training; whoever writes the run up raises it then.
    """

    def __init__(self, path: Path, opened: RunRecord | None = None, failure: Exception | None = None) -> None:
        self.folder, self.failure = path, failure
        self.record = load_record(path) if opened is None else opened

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: all but the open graphs, which are opened again from the folder when they are asked."""
        return {name: value for name, value in vars(self).items() if name != "_quick"}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the probabilities."""
        return tuple(self.record.classes)

    @property
    def is_verified(self) -> bool:
        """Whether model and checkpoint are verified by their digests when they are read; not so in runs of older versions."""
        return run_manifest.is_there(self.folder)

    @cached_property
    def recipe(self) -> Recipe:
        """The complete recipe of the run. Raises RunError where it is not the one that the run began with."""
        folder.verify_recipe(self.folder)
        return read(self.folder / folder.RECIPE)

    @cached_property
    def classifier(self) -> Classifier | Ensemble:
        """The trained network, in eval mode on the CPU: its answers are logits, of which ``predict`` tells
        ``(logits / run.record.temperature).softmax(1)``.

        Raises RunError if the run holds none or a damaged one, or if it holds techniques of one's own that are not imported.
        """
        from safetensors.torch import load_file

        from descend.train.restore import import_first, restored

        path = self._model()
        folder.verify(path, self._how_to_rebuild())
        try:
            return restored(self.record, load_file(path))
        except (SafetensorError, OSError) as error:
            raise RunError(str(path), f"must be intact ({str(error).splitlines()[0]})", fix=self._how_to_rebuild()) from error
        except SpecError as error:
            if not self.record.modules:
                raise
            raise RunError(f"run {self.folder}", f"needs techniques of {', '.join(self.record.modules)} ({error.must})",
                           fix=import_first(self.record.modules)) from error  # fmt: skip
        except DescendError:
            raise
        except Exception as error:  # a record from somewhere else may describe anything
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise RunError(f"run {self.folder}", f"its record must describe the network of {folder.MODEL} ({shortened(why)})",
                           fix=self._how_to_rebuild()) from error  # fmt: skip

    def _model(self) -> Path:
        """Return the file of the model. Raises RunError where there is none."""
        path = self.folder / folder.MODEL
        if not path.exists():
            raise RunError(f"run {self.folder}", f"must hold {folder.MODEL}", fix=self._how_to_get_one())
        return path

    def _how_to_get_one(self) -> str:
        """Return what to do where there is no model."""
        if self.record.status == "finished":
            return self._how_to_rebuild()
        if in_use(self.folder):
            return "It is being trained now: wait until it has ended."
        return f"It has stopped before one was kept. Go on: descend fit --resume {shlex.quote(str(self.folder))}."

    def _how_to_rebuild(self) -> str:
        """Return what to do about a model that is damaged."""
        if (self.folder / folder.CHECKPOINT).exists() or self.record.head_trials or self.record.search_ended:
            return f"Build it again: descend fit --resume {shlex.quote(str(self.folder))}."
        return f"Train again from its recipe: {folder.train_anew(self.folder)}."

    def predict(
        self, pictures: Any, *, threads: int | None = None, tta: str | None = None, mc: int | None = None, quick: bool = False,
        progress: Progress | None = None,
    ) -> Predictions:  # fmt: skip
        """Classify pictures.

        pictures: a path or several (files, or folders searched recursively); one array or tensor (H, W), (H, W, C) or a row
        of them (n, H, W[, C]), of uint8, uint16 or bool; a Pillow image, encoded bytes or an open file; or a list of any of
        these, whose sizes may differ; a data frame with a column ``path``, or another library's data set. Channels may stand
        first where that leaves no doubt. tta: test-time views to average over, ``"flip"``, ``"ten_crop"`` or ``"views(k=8)"``.
        mc: random passes over the network's dropout to average over. quick: answer from the exported graph where the run has
        one (``train.graph_inference``): one picture in a fraction of the time, within 1e-4 of the training's own answers.
        A picture that cannot be read is named in ``problems`` and never stops the others; ``doubtful`` names those that may not
        look as the run's own did, by their bits or on its background. Raises DataError if none is left, or
        if an array can be read in two ways; KnobError where ``mc`` finds nothing random in the network.
        """
        parts = self.stream(pictures, threads=threads, tta=tta, mc=mc, quick=quick, progress=progress)
        return Predictions.joined([*parts])

    def stream(
        self, pictures: Any, *, threads: int | None = None, tta: str | None = None, mc: int | None = None, quick: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Predictions]:  # fmt: skip
        """Classify pictures as ``predict`` does, and yield the answers as they come, some pictures at a time.

        The last part may hold no answer: only what was skipped.
        """
        sources, names, passed_over = picture_sources(pictures, shape=self.record.picture_shape)
        inference = (self._quick if quick and tta is None and mc is None else None) or self._inference(tta, mc, len(names))
        told = progress or Silent()
        told.update("predicting", 0, len(names))
        n_answered, problems, doubtful = 0, dict[str, str](), dict[str, str]()
        batches = decoded_batches(
            sources, names, problems, record=self.record, threads=n_threads(threads), doubtful=doubtful
        )  # fmt: skip
        for images, positions in batches:
            result = inference(images)
            n_answered += len(positions)
            told.update("predicting", n_answered + len(problems), len(names))
            yield self._answered(result, [names[position] for position in positions])
        refuse_none("predict", n_answered, {**problems, **passed_over})
        nothing = np.zeros((0, len(self.classes)), np.float32)
        last = self._answered(InferenceResult(nothing), [])
        yield dataclasses.replace(last, problems=problems, passed_over=passed_over, doubtful=doubtful)

    def _answered(self, result: InferenceResult, names: Sequence[str]) -> Predictions:
        labels = typed(self.classes, self.record.label_type)[result.probabilities.argmax(1)]
        return Predictions(
            labels, result.probabilities, self.classes, tuple(names), {}, result.entropy, result.mutual_information
        )  # fmt: skip

    def features(self, pictures: Any, *, threads: int | None = None) -> FeatureVectors:
        """Return the features of pictures, (n, D): what the trained network's head reads, for searching, plotting or clustering.

        pictures: as in ``predict``. Those of an ensemble are its members', one after the other. Raises DataError if no picture
        can be read.
        """
        sources, names, passed_over = picture_sources(pictures, shape=self.record.picture_shape)
        features, kept, rows = self._plain.features, list[int](), []
        problems, doubtful = dict[str, str](), dict[str, str]()
        batches = decoded_batches(
            sources, names, problems, record=self.record, threads=n_threads(threads), doubtful=doubtful
        )  # fmt: skip
        for images, positions in batches:
            kept.extend(positions)
            rows.append(features(images, alone=len(names) <= FEW))
        refuse_none("features", len(rows), {**problems, **passed_over})
        return FeatureVectors(np.concatenate(rows), tuple(names[position] for position in kept), problems, passed_over, doubtful)

    def export(
        self, out: Path | str | None = None, *, format: Format | None = None, data: Any = None, check: Any = None,
        int8: Int8 | bool | None = None, progress: Progress | None = None,
    ) -> AgreementReport | QuantizedReport:  # fmt: skip
        """Write the network as a file that takes pixels and answers probabilities, and return how well it agrees.

        out: default ``model.onnx``, ``model.pt2``, ``model.xml`` or ``model.int8.onnx`` in the run folder, by the format. format:
        by the ending of ``out``, ``.onnx``, ``.pt2`` (torch) or ``.xml`` (OpenVINO), else onnx.
        check: files or folders on which it must answer as the run does; default the validation split. data: the arrays of a run
        on arrays. int8: True, or ``Int8(max_loss=0.02)``: compute in 8 bits, and return what that costs on validation. See
        ``docs/how-to/export.md``. Raises ModelError, and writes nothing, where it would not agree or costs more.
        """
        from descend.train.exporting import Int8, default_out, export  # onnx, for those who export

        bits = Int8() if int8 is True else int8 or None
        place = default_out(self.folder, format or "onnx", int8=bits is not None) if out is None else Path(out)
        source, told = self.recipe.data if data is None else data, progress or Silent()
        return export(
            self.classifier, self.record, place, data=source, corrections=folder.corrections_of(self.folder), check=check,
            progress=told, format=format, int8=bits,
        )  # fmt: skip

    @cached_property
    def transform(self) -> Transform:
        """From a picture of any kind to the network's input, (3, S, S) float32, as in training but unaugmented."""
        from descend.train.transform import Transform

        return Transform.of(self.record)

    @property
    def history(self) -> DataFrame:
        """The epochs, a row of ``metrics.jsonl`` each, as a pandas DataFrame; empty where a head was fitted without epochs.

        Raises MissingExtra without pandas, RunError where the file was changed.
        """
        return frame(self.record.epoch_rows(self.folder))

    @property
    def mistakes(self) -> Mistakes:
        """The most confident wrong answers of validation and test, 24 at most; every answer stands in ``predictions.csv``."""
        return Mistakes(self.record.mistakes)

    def _repr_html_(self) -> str:
        report = self.folder / folder.REPORT
        return card(str(self.folder), self.record, str(report) if report.exists() else None)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.record.status})"

    def evaluate(
        self,
        data: Any,
        *,
        split: str | None = None,
        threads: int | None = None,
        tta: str | None = None,
        mc: int | None = None,
        outside: bool = False,
    ) -> Evaluation:
        """Measure the run on labeled pictures, whatever ``fit`` takes: every metric, per class, and which split it was.

        split: ``train``, ``val`` or ``test``; by default ``test``, or ``val`` where the data give one and no test split.
        outside: a table may name pictures that do not lie below its folder.
        tta, mc: as in ``predict``; the answer then tells the mean doubt of right and of wrong answers.
        On a split of the run's own data the score is the recorded one to the bit, on the same machine with the same threads; not
        on validation where the model has learned from it in the end (``record.reasons["refit"]``).
        Classes are matched by name. ``problems`` and ``notes`` tell what is left out of the data. Raises DataError, naming them,
        where a class is unknown to the run.
        """
        own = self._own(data, threads, outside=outside)
        dataset = own or data_package.load(data, split=False, outside=outside, threads=threads)
        columns = evaluation_notes.columns(dataset, self.classes)
        chosen = split or ("test" if len(dataset.indices("test")) else "val")
        rows = dataset.indices(chosen)
        if not len(rows):
            raise DataError("eval", f"the data must have pictures in split {chosen!r}", got=dataset.summary()["splits"])
        names = [dataset.name_of(int(row)) for row in rows]
        sources = [dataset.source(int(row)) for row in rows]
        inference = self._inference(tta, mc)
        result, kept, problems, doubtful = self._classify(sources, names, n_threads(threads), inference)
        labels = columns[dataset.labels[rows[kept]]]
        judged = rows[kept]
        known = familiar(
            dataset, judged, own or self._own_data(threads), self.folder, near_up_to=self.record.near_up_to, threads=threads
        )  # fmt: skip
        is_look = known.shows_test if own is None else chosen == "test"
        noted = not is_look or self._note_look(f"descend eval {dataset.name}")
        return Evaluation(
            **metrics.score(result.probabilities, labels, copies=dataset.copies(judged), groups=dataset.evidence(judged)),
            run=str(self.folder), split=chosen, is_own=own is not None,
            judged=evaluation_notes.subject(dataset, chosen, is_own=own is not None), test_looks=len(self.record.test_looks),
            per_class=metrics.per_class(result.probabilities, labels, self.classes, copies=dataset.copies(judged)),
            is_look=is_look, look_noted=noted,
            problems={**dataset.unread(chosen), **problems}, notes=evaluation_notes.notes(dataset), doubtful=doubtful,
            n_trained_on=known.n_same, n_near_trained_on=known.n_near, tta=tta, mc=mc,
            doubt=evaluation_notes.mean_doubt(result, labels),
        )  # fmt: skip

    def _note_look(self, what: str) -> bool:
        """Add a look at test to the record; a run folder that takes no writes does not keep the answer from its owner.

        It is the record as it lies there now that learns of the look: others may have gone on with the run since it was opened.
        While a process does, the record is that process's.
        """
        self.record.look_at_test(what)
        try:
            lock = RunLock(self.folder)
        except RunError:
            return False
        try:
            kept = load_record(self.folder)
            kept.look_at_test(what)
            kept.save(self.folder)
        except RunError:
            return False
        finally:
            lock.release()
        self.record.test_looks = kept.test_looks
        return True

    def _own_data(self, threads: int | None) -> Dataset | None:
        """Return what the run was trained on, or None where that is not at hand."""
        try:
            return None if self.recipe.data is None else self._own(self.recipe.data, threads, outside=bool(self.recipe.outside))
        except OSError:
            return None

    def summary(self) -> RunSummary:
        """Return what ``descend fit --json`` prints."""
        record = self.record
        return RunSummary(
            run=str(self.folder), status=record.status, chosen=record.chosen, val=record.val, test=record.test,
            wall_s=record.wall_s, images_per_s=record.images_per_s, seed=record.seed,
        )  # fmt: skip

    def verdict(self) -> str:
        """Return the result in words: each split with its interval."""
        validated = self.record.validated_by.capitalize()
        lines = [metrics.line(name, score) for name, score in ((validated, self.record.val), ("Test", self.record.test)) if score]
        if self.record.cross_validation is not None:
            return "\n".join([*lines, self.record.about_folds()])
        if self.record.test is None and self.record.status == "finished":
            given = self.record.data.get("given_split", True)
            why = "no test split was given" if given else "too few pictures for a test split"
            lines.append(f"Test:       {why}, {self.record.without_test_split()}")
        return "\n".join(lines)

    # ------------------------------------------------------------------------------------------------------- private parts

    def _inference(self, tta: str | None, mc: int | None, n: int | None = None) -> Classify:
        """Return what answers as the training did: to the bit, or to rounding where only ``n`` pictures, few, are asked about."""
        from descend.train.inference import Inference

        asked = self._plain if tta is None and mc is None else Inference(self.classifier, self.record, tta=tta, mc=mc)
        return partial(asked, alone=True) if n is not None and n <= FEW else asked

    @cached_property
    def _plain(self) -> Inference:
        """What answers once per picture; made once, so that its engine starts once."""
        from descend.train.inference import Inference

        return Inference(self.classifier, self.record)

    @cached_property
    def _quick(self) -> Classify | None:
        """What answers without torch, or None where the run has no graphs or they are gone."""
        self._model()
        return graph_inference.opened(self.folder, self.record, self._how_to_rebuild())

    def _classify(
        self,
        sources: Sequence[Source],
        names: Sequence[str],
        threads: int,
        inference: Classify,
    ) -> tuple[InferenceResult, list[int], dict[str, str], dict[str, str]]:
        """Decode and classify: answers to readable pictures, their positions; name -> reason of the others, of doubtful ones."""
        kept, results, problems, doubtful = list[int](), list[InferenceResult](), dict[str, str](), dict[str, str]()
        batches = decoded_batches(sources, names, problems, record=self.record, threads=threads, doubtful=doubtful, told=reason)
        for images, positions in batches:
            kept.extend(positions)
            results.append(inference(images))
        refuse_none("eval", len(results), problems)
        return InferenceResult.joined(results), kept, problems, doubtful

    def _own(self, data: Any, threads: int | None, *, outside: bool) -> Dataset | None:
        """Return ``data`` with the split of the training if they are the pictures that the run was trained on, else None."""
        try:
            return as_in_training(
                self.record, data, corrections=folder.corrections_of(self.folder), outside=outside, threads=threads
            )
        except DataError:  # fine to measure on, but nothing one could have trained on
            return None
