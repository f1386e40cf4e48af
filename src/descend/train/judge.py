"""The last of three steps: keep the best epoch, and judge it on validation; on test only when the run is finished."""

from __future__ import annotations

import numpy as np
from safetensors.torch import save as serialized

from descend.regularize import L1, ElasticNet, sparsity
from descend.technique import spec
from descend.train import evaluate, folder, metrics
from descend.train.prepare import TrainingSetup
from descend.train.record_types import Chosen
from descend.train.run import Run
from descend.train.training import TrainingResult


def judge(result: TrainingResult) -> Run:
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
        _judge_splits(result, ["val", "test"] if result.finished else ["val"])
        log.save()
        if result.finished:
            (result.folder / folder.INITIAL).unlink(missing_ok=True)  # the model holds what is needed now
    return Run(result.folder, log.record)


def _save_model(result: TrainingResult) -> None:
    setup = result.setup
    module = setup.mode_task.module
    if result.best.state is not None:
        module.load_state_dict(result.best.state)
    if any(isinstance(item, (L1, ElasticNet)) for item in setup.plan.regularize):
        setup.log.record.sparsity = sparsity(module)
    state = {name: value.detach().cpu().contiguous() for name, value in setup.classifier.state_dict().items()}
    with folder.replacing(result.folder / folder.MODEL) as path:
        path.write_bytes(serialized(state))


def _judge_splits(result: TrainingResult, splits: list[str]) -> None:
    setup, record, data = result.setup, result.setup.log.record, result.setup.dataset
    rows = {split: data.indices(split) for split in splits if len(data.indices(split))}
    probs = {split: _probabilities(setup, chosen) for split, chosen in rows.items()}
    for split, chosen in rows.items():
        labels = data.labels[chosen]
        record.per_class[split] = metrics.per_class(probs[split], labels, data.classes)
        record.confusion[split] = metrics.confusion(probs[split], labels, len(data.classes))
        score = metrics.score(probs[split], labels, copies=data.copies(chosen), groups=data.evidence(chosen))
        if split == "test":
            record.test = score
            record.look_at_test("descend fit, after training")
        else:
            record.val = score
    every, answers = np.concatenate(list(rows.values())), np.concatenate(list(probs.values()))
    names = [data.name_of(int(row)) for row in every]
    where = [split for split, chosen in rows.items() for _ in chosen]
    labels = data.labels[every]
    evaluate.write_predictions(result.folder / folder.PREDICTIONS, names, where, labels, answers, data.classes)
    record.mistakes = evaluate.mistakes(setup.decoded.take, every, names, where, labels, answers, data.classes)


def _probabilities(setup: TrainingSetup, rows: np.ndarray) -> np.ndarray:
    return evaluate.probabilities(setup.mode_task.module, setup.mode_task.inputs(rows))
