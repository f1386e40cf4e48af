"""``descend doctor``: every check is silent on a healthy training and speaks up on one with its fault planted in it."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from descend.data import builtin
from descend.doctor import CHECKS, Subject, examine, overfit, prepare_subject
from descend.doctor.gradient_check import slope
from descend.doctor.label_signal import agreement
from descend.doctor.pairs import PAIRS
from descend.doctor.updates import updates
from descend.findings import Finding
from descend.progress import Silent
from descend.regularize import Regularizer
from descend.train.batch_sources import ImageSource
from descend.train.loop import Batch
from descend.train.recipe import Recipe

SMALL: dict[str, Any] = {"data": "digits", "backbone": "smallcnn(width=4)", "batch_size": 32, "threads": 1}


def subject(**settings: Any) -> Subject:
    return prepare_subject(Recipe(**(SMALL | settings)), progress=Silent())


def found(check: str, subject: Subject) -> list[Finding]:
    return [finding for finding in CHECKS[check](subject) if finding.severity == "finding"]


def with_regularizer(subject: Subject, item: Regularizer) -> Subject:
    """Plant a technique of one's own that no registry knows."""
    return dataclasses.replace(subject, task=dataclasses.replace(subject.task, regularizers=(item,)))


@pytest.fixture(scope="module")
def healthy() -> Subject:
    return subject()


@pytest.mark.parametrize("check", CHECKS)
def test_a_healthy_training_has_no_findings_and_is_left_as_it_was(check: str, healthy: Subject) -> None:
    before = {name: value.clone() for name, value in healthy.classifier.state_dict().items()}
    optimizer = repr(healthy.task.optimizer.state_dict())
    said = CHECKS[check](healthy)
    assert said
    assert all(finding.severity != "finding" and finding.check == check for finding in said), said
    after = healthy.classifier.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert repr(healthy.task.optimizer.state_dict()) == optimizer


# ---------------------------------------------------------------------------------------------------------- planted faults


class Broken:
    """A batch source that spoils what another one yields."""

    def __init__(self, inner: Any, spoil: Callable[[Batch], Batch]) -> None:
        self.inner, self.spoil, self.n_steps = inner, spoil, inner.n_steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return map(self.spoil, self.inner.epoch(epoch, start))


def spoiled(subject: Subject, spoil: Callable[[Batch], Batch]) -> Subject:
    return dataclasses.replace(subject, task=dataclasses.replace(subject.task, source=Broken(subject.task.source, spoil)))


def turned(values: Tensor) -> Tensor:
    return values.roll(1, 0)


def test_labels_of_other_pictures_are_found(healthy: Subject) -> None:
    planted = spoiled(healthy, lambda batch: dataclasses.replace(batch, targets=turned(batch.targets)))
    (finding,) = found("input pipeline", planted)
    assert "arrive with another label" in finding.what
    assert finding.evidence["wrong"] > 40


def test_pixels_of_other_pictures_are_found(monkeypatch: pytest.MonkeyPatch, healthy: Subject) -> None:
    before = ImageSource.epoch

    def mixed_up(self: ImageSource, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in before(self, epoch, start):
            yield dataclasses.replace(batch, inputs=turned(batch.inputs))

    monkeypatch.setattr(ImageSource, "epoch", mixed_up)
    (finding,) = found("input pipeline", healthy)
    assert "pixels that are not their own" in finding.what


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda batch: dataclasses.replace(batch, inputs=batch.inputs * math.nan), "not finite"),
        (lambda batch: dataclasses.replace(batch, inputs=torch.ones_like(batch.inputs)), "all pictures arrive alike"),
        (lambda batch: dataclasses.replace(batch, targets=torch.full((len(batch.ids), 10), 0.2)), "do not add up to 1"),
    ],
)
def test_inputs_without_content_are_found(spoil: Callable[[Batch], Batch], told: str, healthy: Subject) -> None:
    assert told in " ".join(finding.what for finding in found("input pipeline", spoiled(healthy, spoil)))


def test_labels_that_change_from_epoch_to_epoch_cannot_be_learned_by_heart(
    monkeypatch: pytest.MonkeyPatch, healthy: Subject
) -> None:
    before, generator = ImageSource.epoch, torch.Generator().manual_seed(0)

    def shuffled(self: ImageSource, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in before(self, epoch, start):
            yield dataclasses.replace(batch, targets=batch.targets[torch.randperm(len(batch.ids), generator=generator)])

    monkeypatch.setattr(ImageSource, "epoch", shuffled)
    monkeypatch.setattr(overfit, "MOST_STEPS", 100)
    (finding,) = found("overfit", healthy)
    assert finding.evidence["last_loss"] > 1
    assert "Do labels belong to their pictures" in finding.fix


def test_labels_that_are_shuffled_for_good_are_noted(healthy: Subject) -> None:
    """A network learns them by heart, so that nothing else shows them."""
    pictures, labels, _ = builtin.digits()
    shuffled = np.random.default_rng(0).permutation(labels)
    recipe = Recipe(**SMALL | {"data": None})
    (ok,), (finding,) = (
        CHECKS["labels"](prepare_subject(recipe, arrays=(pictures, given), progress=Silent())) for given in (labels, shuffled)
    )
    assert (ok.severity, finding.severity) == ("ok", "note")
    assert ok.evidence["p"] < 1e-6 < 0.01 < finding.evidence["p"]
    assert ok.evidence["chance"] == pytest.approx(0.1, abs=0.03)


def test_a_picture_per_class_cannot_be_compared(healthy: Subject) -> None:
    rows = healthy.builder.train_rows
    first = rows[np.unique(healthy.builder.dataset.labels[rows], return_index=True)[1]]
    builder = copy.copy(healthy.builder)
    builder.train_rows = first
    (finding,) = CHECKS["labels"](dataclasses.replace(healthy, builder=builder))
    assert (finding.severity, finding.evidence) == ("ok", {"n": 10})


def test_neighbours_of_the_same_unit_do_not_count() -> None:
    """Four points in two clusters of equal labels; where a cluster is one unit, the nearest of another unit is in the other."""
    points, labels = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32), np.array([0, 0, 1, 1])
    assert agreement(points, labels, np.arange(4)) == (4, pytest.approx(1 / 3), 4)
    assert agreement(points, labels, labels) == (0, 0.0, 4)
    assert agreement(points, labels, np.zeros(4, int)) == (0, 0.0, 0)


def test_a_rate_a_hundred_times_too_high_is_found() -> None:
    planted = subject(optimizer="adamw(lr=0.5)")
    (finding,) = found("updates", planted)
    assert "backbone.stages" in finding.what
    assert finding.evidence["median"] > 0.3
    assert "Lower the learning rate (0.5)" in finding.fix


def test_a_rate_that_moves_one_layer_too_far_is_lowered_however_little_the_others_move() -> None:
    trial = SimpleNamespace(ratios={"early": 5e-5, "middle": 5e-5, "head": 0.5}, losses=[2.3, 2.2])
    given: Any = SimpleNamespace(
        trial=trial, task=SimpleNamespace(optimizer=SimpleNamespace(rule=SimpleNamespace(lr=0.002))), n_classes=10, n_steps=4
    )
    (finding,) = updates(given)
    assert "Lower the learning rate (0.002), to 0.0002 perhaps" in finding.fix


def test_a_rate_that_moves_nothing_is_found() -> None:
    planted = subject(optimizer="sgd(lr=1e-9)")
    (finding,) = found("updates", planted)
    assert "hardly move" in finding.what
    assert "try ten times the learning rate" in found("overfit", planted)[0].fix


def test_a_head_that_begins_sure_of_wrong_answers_is_found() -> None:
    planted = subject()
    nn.init.normal_(planted.classifier.head.weight, std=30.0)
    (finding,) = found("initial loss", planted)
    assert "begins sure of wrong answers" in finding.what
    assert finding.evidence["expected"] == pytest.approx(math.log(10))


def test_rectifiers_at_zero_are_found() -> None:
    planted = subject()
    nn.init.constant_(planted.classifier.backbone.stages.block0.norm.bias, -100.0)
    (finding,) = found("dead units", planted)
    assert "100% of backbone.stages.block0.act" in finding.what
    assert "no gradient reaches" in found("gradients", planted)[0].what
    assert "constant" in found("activations", planted)[0].evidence


def test_activations_that_explode_are_found() -> None:
    planted = subject()
    nn.init.constant_(planted.classifier.backbone.stages.block2.norm.weight, 1e7)
    assert "exploding" in [*found("activations", planted)[0].evidence]


def test_gradients_of_very_different_size_are_found() -> None:
    planted = subject()
    with torch.no_grad():  # what a layer before a norm weighs does not change what follows, but divides its gradient
        planted.classifier.backbone.stages.stem.conv.weight.mul_(1e6)
        planted.classifier.backbone.stages.stem.norm.eps = 1e-30
    (finding,) = found("gradients", planted)
    assert "stem.conv.weight learns next to nothing" in finding.what


class Wrong(torch.autograd.Function):
    """A square whose gradient is half of what it should be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * ctx.saved_tensors[0]


class OnHead(Regularizer):
    """A penalty of one's own on the head's weights."""

    square: ClassVar[Callable[[Tensor], Tensor]] = staticmethod(lambda x: x * x)
    sign: ClassVar[float] = 1.0

    def extra_loss(self, model: nn.Module) -> Tensor:
        return self.sign * 1e-3 * type(self).square(model.head.weight).sum()

    def __str__(self) -> str:
        return "on_head()"


class WrongGradient(OnHead):
    square = staticmethod(Wrong.apply)


class Bonus(OnHead):
    sign = -1.0


class Growing(Regularizer):
    def after_step(self, parameters: Any, lr: float) -> None:
        with torch.no_grad():
            for p in parameters.values():
                p.mul_(1.01)

    def __str__(self) -> str:
        return "growing()"


def test_a_penalty_with_a_wrong_gradient_is_found(healthy: Subject) -> None:
    assert not found("gradient check", with_regularizer(healthy, OnHead()))
    (finding,) = found("gradient check", with_regularizer(healthy, WrongGradient()))
    assert finding.what.startswith("on_head()")
    assert finding.evidence["error"] == pytest.approx(0.5, abs=1e-3)


def test_a_slope_is_that_of_the_function() -> None:
    """F = sum of w**3 / 3 along d: the slope is the sum of w**2 d, whatever the direction."""
    module = nn.Linear(3, 2).double()
    found = slope(lambda: sum((p**3).sum() for p in module.parameters()) / 3, module, seed=1)
    assert found.error < 1e-4
    other = slope(lambda: sum((p**3).sum() for p in module.parameters()) / 3, module, seed=2)
    assert other.analytic != found.analytic


def test_penalties_that_do_the_opposite_are_found(healthy: Subject) -> None:
    healthy.classifier.head.weight.data.add_(0.1)
    try:
        (finding,) = found("penalties", with_regularizer(healthy, Bonus()))
        assert "must not make the loss smaller" in finding.what
        assert not found("penalties", with_regularizer(healthy, OnHead()))
        (finding,) = found("penalties", with_regularizer(healthy, Growing()))
        assert "must not make weights larger" in finding.what
    finally:
        healthy.classifier.head.weight.data.sub_(0.1)


@pytest.mark.parametrize("penalty", ["l1(strength=0.1)", "elastic_net(l2=0.1)", "max_norm(limit=0.5)", "kl_sparsity"])
def test_penalties_of_the_recipe_are_looked_at_each_by_itself(penalty: str) -> None:
    said = CHECKS["penalties"](subject(regularize=(penalty,), optimizer="sgd(lr=0.1)"))
    assert [finding.severity for finding in said] == ["ok"]
    assert penalty.split("(")[0] in said[0].what


def test_without_a_penalty_a_probe_is_taken() -> None:
    (finding,) = CHECKS["penalties"](subject(optimizer="sgd(lr=0.1)"))
    assert (finding.severity, finding.what[:19]) == ("ok", "the recipe has none")


def test_a_frozen_part_that_moves_and_a_part_that_does_not_train_are_found() -> None:
    planted = subject()
    weight = planted.classifier.backbone.stages.stem.conv.weight
    for group in planted.task.optimizer.param_groups:
        group["params"] = [p for p in group["params"] if p is not weight]
    planted.classifier.head.bias.requires_grad_(False)

    def writes(module: nn.Module, inputs: object) -> None:
        weight.data.add_(1e-3)

    planted.module.register_forward_pre_hook(writes)
    first, second = found("frozen parts", planted)
    assert "must stand still, and moved: backbone.stages.stem.conv.weight" in first.what
    assert "no step moved: head.bias" in second.what


PLANTED = {
    "class_weights with label_smoothing": {"regularize": ("class_weights()", "label_smoothing()")},
    "mixing with label_smoothing": {"regularize": ("label_smoothing()",), "augment": ("mixup()",)},
    "focal with label_smoothing": {"regularize": ("focal()", "label_smoothing()")},
    "dropped feature maps with batch_norm": {"regularize": ("spatial_dropout()",)},
    "weight decay with adaptive rule": {"optimizer": "adam(weight_decay=0.01)"},
    "elastic_net with weight_decay": {"regularize": ("elastic_net()",)},
    "l1 with adaptive rule": {"regularize": ("l1()",)},
    "schedule-free rule with falling schedule": {"optimizer": "schedule_free_adamw()"},
    "early_stopping with falling schedule": {"regularize": ("early_stopping()",)},
    "mixing with few epochs": {"augment": ("cutmix()",), "epochs": 3},
    "ema without warmup with short run": {"optimizer": "ema(adamw(), decay=0.9999, warmup=False)"},
    "max_norm with averaged weights": {"regularize": ("max_norm()",), "optimizer": "swa(sgd())"},
    "zeros by l1 with averaged weights": {"regularize": ("l1()",), "optimizer": "schedule_free_sgd()"},
    "batch_norm with small batches": {"batch_size": 4},
}


def test_every_pair_of_the_table_is_planted_below() -> None:
    assert [f"{pair.first} with {pair.second}" for pair in PAIRS] == [*PLANTED]
    assert all(pair.source and pair.fix for pair in PAIRS)


@pytest.mark.parametrize("pair", PLANTED)
def test_a_pair_that_works_against_each_other_is_told(pair: str) -> None:
    told = [finding.what.split(":")[0] for finding in CHECKS["pairs"](subject(**PLANTED[pair]))]
    assert pair in told


def test_class_weights_with_smoothing_tell_what_torch_would_make_of_them() -> None:
    """Two classes, 120 and 12 training pictures: torch's best answer for a common picture is found by minimizing its own loss."""
    pictures = np.random.default_rng(0).integers(0, 256, (220, 8, 8), dtype=np.uint8)
    recipe = Recipe(**SMALL | {"data": None, "regularize": ("class_weights()", "label_smoothing(amount=0.2)")})
    skewed = prepare_subject(recipe, arrays=(pictures, np.array([0] * 200 + [1] * 20)), progress=Silent())
    (finding,) = CHECKS["pairs"](skewed)
    dataset = skewed.surveyed.dataset
    counts = np.bincount(dataset.labels[dataset.indices("train")])
    weights = torch.tensor(counts.sum() / (2 * counts), dtype=torch.float64)
    p = torch.linspace(0.001, 0.999, 9999, dtype=torch.float64)
    logits = torch.stack([p.log(), (1 - p).log()], 1)
    losses = nn.functional.cross_entropy(
        logits, torch.zeros(len(p), dtype=torch.int64), weight=weights, label_smoothing=0.2, reduction="none"
    )
    assert finding.evidence["best_p_in_torch"] == pytest.approx(float(p[losses.argmin()]), abs=2e-3)
    assert finding.evidence["best_p_here"] == pytest.approx(0.9)


class Raising(Regularizer):
    def extra_loss(self, model: nn.Module) -> Tensor:
        raise IndexError("no such layer")

    def __str__(self) -> str:
        return "raising()"


def test_a_technique_that_raises_is_told_once_and_other_checks_have_their_say(healthy: Subject) -> None:
    diagnosis = examine(with_regularizer(healthy, Raising()), Silent())
    findings = [finding for finding in diagnosis.findings if finding.severity == "finding"]
    assert [finding.what for finding in findings] == ["the training fails here: IndexError: no such layer"]
    assert {"input pipeline", "initial loss", "overfit", "pairs"} <= {finding.check for finding in diagnosis.findings}


def test_gradients_that_accumulate_move_weights_all_the_same() -> None:
    windowed = subject(gradients=("accumulate(n=8)",))
    assert all(ratio > 1e-4 for ratio in windowed.trial.ratios.values())


def test_units_that_a_pretrained_network_does_not_need_here_are_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = subject()
    with torch.no_grad():
        silent.classifier.backbone.stages.block0.norm.bias[:2] = -100.0
    assert found("dead units", silent)
    monkeypatch.setattr(silent.classifier.backbone, "pretrained", True)
    (finding,) = CHECKS["dead units"](silent)
    assert finding.severity == "note"
    assert "50% of backbone.stages.block0.act" in finding.what
