"""The last of three steps: keep the best epoch, and judge it on validation; on test only when the run is finished."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save as serialized
from torch import nn

from descend.data import Dataset, Decoded
from descend.errors import DescendError, TrainingError
from descend.models import Classifier, Ensemble
from descend.regularize import L1, ElasticNet, sparsity
from descend.technique import spec
from descend.train import evaluate, folder, metrics, report_examples
from descend.train.calibration import coverage, cross_fitted, fit_temperature, reliability
from descend.train.failure import kept, tell
from descend.train.grad_cam import spotlights
from descend.train.graph_parts import N_CHECKED, Network, keep_graphs
from descend.train.prepare import TrainingSetup
from descend.train.record import RunRecord
from descend.train.record_types import Calibration, Chosen, CrossValidation
from descend.train.run import Run
from descend.train.run_log import RunLog
from descend.train.training import TrainingResult
from descend.transfer import make_engine


def judge(result: TrainingResult) -> Run:
    """Restore the best epoch, save it, judge it, and write everything down.

    Where an error ended the training, the best epoch so far is kept as after Ctrl-C, and the run has the error as ``failure``.
    Raises that error where nothing can be kept, for the disk may be full.
    """
    failure, log, run = result.failure, result.setup.log, result.folder
    assert run is not None  # the process that leads judges
    if failure is None:
        return _judged(result, run)
    log.record.status, log.record.stopped_by = "interrupted", str(failure).partition("\n")[0]
    try:
        if result.best.state is None:
            log.save()
        else:
            _judged(result, run)
    except (DescendError, OSError, MemoryError) as second:
        why = str(second).partition("\n")[0]
        tell(failure, f"and the best epoch so far could not be saved ({why})")
        raise failure from second
    tell(failure, *kept(result.best, run, result.position))
    if isinstance(failure, TrainingError) and failure.__cause__ is None and result.setup.plan.on_nan == "stop":
        recipe = shlex.quote(str(run / folder.RECIPE))
        tell(failure, f"to train again, going back by itself: descend fit --recipe {recipe} --on-nan rollback")
    return Run(run, log.record, failure)


def _judged(result: TrainingResult, run: Path) -> Run:
    """Restore the best epoch, save it, judge it, and write everything down."""
    setup, log = result.setup, result.setup.log
    with log.timed("evaluate"):
        _save_model(result)
        log.record.status = "finished" if result.finished else "interrupted"
        plan = setup.plan
        log.record.chosen = Chosen(
            transfer=plan.transfer, backbone=spec(plan.backbone, defaults=True), size=plan.size, engine=plan.engine,
            epoch=result.best.epoch + 1,
        )  # fmt: skip
        rows = judged_rows(setup.dataset, finished=result.finished)
        probs, folds = {split: _probabilities(setup, chosen) for split, chosen in rows.items()}, None
        setup.classifier.to("cpu")  # a part of it was elsewhere, and all of it is asked about single pictures now
        if result.held_out is not None:  # what validates is what heads that were fitted without a picture answer on it
            trained_on = setup.dataset.indices("train")
            rows, probs = {"val": trained_on, **rows}, {"val": result.held_out.probabilities, **probs}
            folds = np.full(len(setup.dataset), -1, np.int64)
            folds[trained_on] = result.held_out.fold
            log.record.cross_validation = CrossValidation(
                n_folds=len(result.held_out.strengths), strengths=list(result.held_out.strengths),
                feature_stages=list(result.held_out.stages),
            )  # fmt: skip
        judge_answers(log, setup.decoded, rows, probs, folds=folds, network=setup.classifier if folds is None else None)
        if "val" in rows:
            engine = setup.mode_task.engine or make_engine("torch", setup.classifier.backbone, size=plan.size)
            some = setup.decoded.take(rows["val"][:N_CHECKED])
            keep_graphs(log.record, [Network(setup.classifier, engine, "head")], setup.classifier, some)
        log.save()
        if result.finished:
            (run / folder.INITIAL).unlink(missing_ok=True)  # the model holds what is needed now
    return Run(run, log.record)


def judged_rows(dataset: Dataset, *, finished: bool) -> dict[str, NDArray[np.int64]]:
    """Return the rows of the splits that a run is judged on: validation, and test where the run is finished and there is one."""
    splits = ["val", "test"] if finished else ["val"]
    return {split: rows for split in splits if len(rows := dataset.indices(split))}


def save_model(log: RunLog, module: nn.Module) -> None:
    """Write the network's parameters and buffers into the run folder.

    Graphs of the network that was there before are forgotten first: quick answers would mix them with this one's head.
    """
    assert log.folder is not None  # a run that is judged has one
    if log.record.graph_parts:
        log.record.graph_parts = []
        log.save()
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with folder.replacing(log.folder / folder.MODEL) as path:
        path.write_bytes(serialized(state))


def judge_answers(
    log: RunLog, decoded: Decoded, rows: Mapping[str, NDArray[np.int64]], probs: Mapping[str, NDArray[np.float32]],
    *, folds: NDArray[np.int64] | None = None, network: Classifier | Ensemble | None = None,
) -> None:  # fmt: skip
    """Write down how good answers are: scores, classes, confusions, the table of predictions, the worst mistakes, other answers.

    rows, probs: split -> the rows (n,) and the probabilities (n, K) for them, not calibrated yet: the temperature is fitted on
    validation here, and all that is written is at it. The look at a test split is counted. folds: (N,) of all rows, the fold in
    which each was held out, -1 where it was not; None without folds. network: that gave the answers, to be asked where it looked
    in mistakes; None where they are not of one network.
    """
    record, data = log.record, decoded.dataset
    assert log.folder is not None  # a run that is judged has one
    probs = _calibrate(record, data, rows, probs)
    for split, chosen in rows.items():
        labels = data.labels[chosen]
        record.per_class[split] = metrics.per_class(probs[split], labels, data.classes, copies=data.copies(chosen))
        record.confused[split] = metrics.confused(probs[split], labels)
        score = metrics.score(probs[split], labels, copies=data.copies(chosen), groups=data.evidence(chosen))
        if split == "test":
            record.test = score
            record.look_at_test("descend fit, after training")
        else:
            record.val = score
    every, answers = np.concatenate(list(rows.values())), np.concatenate([probs[split] for split in rows])
    names = [data.name_of(int(row)) for row in every]
    where = [split for split, chosen in rows.items() for _ in chosen]
    labels = data.labels[every]
    held_out_in = None if folds is None else folds[every]
    evaluate.write_predictions(log.folder / folder.PREDICTIONS, names, where, labels, answers, data.classes, held_out_in)
    looked = None if network is None else partial(spotlights, network, record)
    told = report_examples.Answers(names, where, labels, answers, data.classes, lambda at: decoded.take(every[[at]])[0], looked)
    record.mistakes, record.shown = report_examples.mistakes(told), report_examples.others(told)


def _calibrate(
    record: RunRecord, data: Dataset, rows: Mapping[str, NDArray[np.int64]], probs: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Fit the temperature on validation, write down what it does on every split, and return the probabilities at it."""
    record.temperature, record.calibration = 1.0, {}
    if "val" not in rows:
        return dict(probs)
    labels, units = data.labels[rows["val"]], data.evidence(rows["val"])
    shares = metrics.shares_of_copies(data.copies(rows["val"]))
    record.temperature = fit_temperature(probs["val"], labels, weights=shares)
    after = {split: record.calibrated(raw) for split, raw in probs.items()}
    honest = after | {"val": cross_fitted(probs["val"], labels, units=units, weights=shares)}
    for split, chosen in rows.items():
        truth, together = data.labels[chosen], data.evidence(chosen)
        record.calibration[split] = Calibration(
            before=reliability(probs[split], truth, units=together, seed=record.seed),
            after=reliability(honest[split], truth, units=together, seed=record.seed),
            coverage=coverage(honest[split], truth),
        )
    return after


def _save_model(result: TrainingResult) -> None:
    setup = result.setup
    module = setup.mode_task.module
    if result.best.state is not None:
        module.load_state_dict(result.best.state)
    if any(isinstance(item, (L1, ElasticNet)) for item in setup.plan.regularize):
        setup.log.record.sparsity = sparsity(module)
    save_model(setup.log, setup.classifier)


def _probabilities(setup: TrainingSetup, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return evaluate.probabilities(setup.mode_task.module, setup.mode_task.inputs(rows))
