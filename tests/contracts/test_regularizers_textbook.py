"""Every regularizer agrees with its textbook form at every value of its knobs, and does nothing where it says it is neutral."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.contracts.test_regularizers import ALL, HISTORY, NAMES, SAMPLES, SKEWED, alternatives, bytes_of
from tests.oracles import regularize_textbook as textbook
from torch import Tensor, nn
from torch.nn import functional as F

from descend import rng
from descend.models import Classifier
from descend.models.small import GlobalPool, Residual
from descend.models.stages import Backbone
from descend.optim import Optimizer
from descend.regularize import L1, ClassWeights, CrossEntropy, Dropout, KLSparsity, Regularizer
from descend.technique import knobs

SEED, EPOCH, STEP, LR = 3, 2, 5, 0.5
COUNTS = np.array([70, 25, 5])
TEXTBOOK = "tests/oracles/regularize_textbook.py"


def network() -> Classifier:
    """The network that the textbook writes out: every part a technique may change, as small as can be."""
    torch.manual_seed(0)
    stem = nn.Sequential()
    for name, part in (("conv", nn.Conv2d(3, 4, 1)), ("norm", nn.BatchNorm2d(4)), ("act", nn.ReLU())):
        stem.add_module(name, part)
    stages = {
        "stem": stem,
        "block0": Residual(nn.Conv2d(4, 4, 1)),
        "block1": Residual(nn.Conv2d(4, 4, 1)),
        "head": GlobalPool("mean"),
    }
    model = Classifier(Backbone("written out", stages, n_features=4, native_size=6), nn.Linear(4, 3)).double()
    norm = stem.get_submodule("norm")
    for p in norm.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    return model


X = torch.randn(len(SAMPLES), 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(len(SAMPLES)) % 3


def settings(technique: Regularizer) -> dict[str, Any]:
    return {knob.name: getattr(technique, knob.name) for knob in knobs(type(technique))}


def form_of(technique: Regularizer) -> Callable[..., Any]:
    """The textbook form of a technique; its absence is a failure that says where one goes."""
    form = getattr(textbook, technique.name, None)
    if form is None:
        pytest.fail(f"{technique.name} has no independent oracle: write it from its paper as a function {technique.name}(...) "
                    f"in {TEXTBOOK}, which imports nothing of descend; the head of that file says what it takes.")  # fmt: skip
    return form


def acts(technique: Regularizer, *moments: str) -> bool:
    return any(getattr(type(technique), moment) is not getattr(Regularizer, moment) for moment in moments)


# ------------------------------------------------------------------- one question per thing that a technique may do


def asked_of_the_network(technique: Regularizer) -> None:
    for training in (True, False):
        model = technique.install(network(), SEED).train(training)
        w = {name: value.numpy().copy() for name, value in model.state_dict().items()}

        def happens(place: str, n: int, p: float, per: str = "sample") -> np.ndarray:
            ids = SAMPLES if per == "sample" else [STEP]
            return rng.bernoulli(SEED, f"{technique.name}/{place}", ids=ids, p=p, n=n, epoch=EPOCH)

        with rng.context(EPOCH, STEP, SAMPLES):
            ours = model(X)
        extra = technique.extra_loss(model) if training else None
        answer = form_of(technique)(textbook.Network(X.numpy(), w, happens, training), **settings(technique))
        logits, term = answer if isinstance(answer, tuple) else (answer, 0.0)
        np.testing.assert_allclose(ours.detach().numpy(), logits, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(0.0 if extra is None else extra.item(), term, rtol=1e-12)


def asked_of_the_loss(technique: Regularizer) -> None:
    logits = 3 * torch.randn(len(LABELS), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    loss, weights = CrossEntropy(**technique.loss_knobs()), technique.class_weights(COUNTS)
    expected = form_of(technique)(logits.numpy(), LABELS.numpy(), COUNTS, **settings(technique))
    np.testing.assert_allclose(loss(logits, LABELS, weights).item(), expected, rtol=1e-6)  # the weights are float32


def asked_of_the_optimizer(technique: Regularizer) -> None:
    w, g = (torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4))
    p = w.clone().requires_grad_()
    p.grad = g
    Optimizer([{"params": [p], **technique.optimizer_knobs()}], f"sgd(lr={LR})").step()
    expected = form_of(technique)(w.numpy(), g.numpy(), LR, **settings(technique))
    np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-12)


def asked_after_a_step(technique: Regularizer) -> None:
    w = 3 * torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    p = w.clone().requires_grad_()
    technique.after_step({"weight": p}, LR)
    expected = form_of(technique)(w.numpy(), LR, **settings(technique))
    np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-12, atol=1e-15)


def asked_for_rows(technique: Regularizer) -> None:
    rows = technique.epoch_rows(SKEWED, seed=SEED, epoch=EPOCH)
    assert rows is not None
    visits = np.bincount(np.asarray(SKEWED)[rows], minlength=3)
    assert np.abs(visits - form_of(technique)(np.asarray(SKEWED), **settings(technique))).max() <= 2


def asked_when_to_end(technique: Regularizer) -> None:
    end = next((n for n in range(9) if technique.should_stop({name: scores[:n] for name, scores in HISTORY.items()})), None)
    assert (end, technique.chosen_epoch(HISTORY)) == form_of(technique)(HISTORY, **settings(technique))


QUESTIONS: dict[tuple[str, ...], Callable[[Regularizer], None]] = {
    ("install", "extra_loss"): asked_of_the_network,
    ("loss_knobs", "class_weights"): asked_of_the_loss,
    ("optimizer_knobs",): asked_of_the_optimizer,
    ("after_step",): asked_after_a_step,
    ("epoch_rows",): asked_for_rows,
    ("should_stop", "chosen_epoch"): asked_when_to_end,
}


def ask(technique: Regularizer) -> None:
    """Hold everything that a technique does to its textbook form."""
    questions = [question for moments, question in QUESTIONS.items() if acts(technique, *moments)]
    assert questions, f"{technique.name} acts at no moment that a question is asked of"
    for question in questions:
        question(technique)


def variants(cls: type[Regularizer]) -> list[Regularizer]:
    """The technique as it comes, and with each knob changed."""
    return [cls(), *(cls(**{knob.name: value}) for knob in knobs(cls) for value in alternatives(knob))]


VARIANTS = [technique for cls in ALL for technique in variants(cls)]


@pytest.mark.parametrize("technique", VARIANTS, ids=str)
def test_agrees_with_the_textbook(technique: Regularizer) -> None:
    ask(technique)


def test_every_moment_is_asked_of() -> None:
    moments = {name for name, value in vars(Regularizer).items() if callable(value) and not name.startswith("_")}
    assert {moment for group in QUESTIONS for moment in group} == moments


# ------------------------------------------------------------------------------ a technique nobody checked, and wrong ones


def test_a_technique_without_an_oracle_is_told_where_to_put_one() -> None:
    class Unheard(L1):
        name = "unheard_of"

    with pytest.raises(pytest.fail.Exception, match=r"unheard_of has no independent oracle: .*tests/oracles/regularize_textbook"):
        ask(Unheard())


def mirrored(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, around: float) -> None:
    """Let a method answer ``2 around - x`` where it answered x: the sign of the effect is wrong, its size right."""
    right = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda self, *args, **kwargs: 2 * around - right(self, *args, **kwargs))


def grow(parameters: dict[str, Tensor], lr: float) -> None:
    with torch.no_grad():
        for p in parameters.values():
            p.add_(p.sign() * lr * 1e-5)


def test_techniques_of_the_wrong_sign_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """One mutant per question; each does the right amount the wrong way round."""
    by_name = dict(zip(NAMES, ALL, strict=True))
    mirrored(monkeypatch, Dropout, "_mask", 1.0)  # keeps what it should drop
    mirrored(monkeypatch, KLSparsity, "extra_loss", 0.0)
    mirrored(monkeypatch, ClassWeights, "class_weights", 1.0)  # common classes count
    monkeypatch.setattr(by_name["label_smoothing"], "loss_knobs", lambda self: {"focal": self.amount})
    monkeypatch.setattr(by_name["l2"], "optimizer_knobs", lambda self: {"weight_decay": 0.0})
    monkeypatch.setattr(L1, "after_step", lambda self, parameters, lr: grow(parameters, lr))
    mirrored(monkeypatch, by_name["balanced_sampling"], "epoch_rows", (len(SKEWED) - 1) / 2)
    monkeypatch.setattr(
        by_name["early_stopping"], "_scores", lambda self, history, metric: [-score for score in history[metric or "accuracy"]]
    )
    for name in ("dropout", "spatial_dropout", "kl_sparsity", "class_weights", "label_smoothing", "l2", "l1", "balanced_sampling",
                 "early_stopping"):  # fmt: skip
        with pytest.raises((AssertionError, IndexError)):
            ask(by_name[name]())


# -------------------------------------------------------------------------------------------------------------- neutral


def everything(technique: Regularizer) -> list[Any]:
    """What one training step leaves, to the bit, and all that a run would ask the technique besides."""
    model = technique.install(network().float(), SEED).train()
    optimizer = Optimizer([{"params": list(model.parameters()), **technique.optimizer_knobs()}], f"sgd(lr={LR})")
    with rng.context(EPOCH, STEP, SAMPLES):
        logits = model(X.float())
    loss: Any = CrossEntropy(**technique.loss_knobs())(logits, LABELS, technique.class_weights(COUNTS))
    extra = technique.extra_loss(model)
    (loss if extra is None else loss + extra).backward()
    gradients = [bytes_of(p.grad) for p in model.parameters()]
    optimizer.step()
    technique.after_step(dict(model.named_parameters()), LR)
    state = {name: bytes_of(value) for name, value in model.state_dict().items()}
    stops = [technique.should_stop({name: scores[:n] for name, scores in HISTORY.items()}) for n in range(9)]
    rows = technique.epoch_rows(SKEWED, seed=SEED, epoch=EPOCH)
    return [bytes_of(logits), loss.item(), gradients, state, bytes_of(model.eval()(X.float())), stops, rows,
            technique.chosen_epoch(HISTORY)]  # fmt: skip


@pytest.mark.parametrize("cls", ALL, ids=NAMES)
def test_a_neutral_setting_is_the_identity_to_the_bit(cls: type[Regularizer]) -> None:
    neutral = getattr(cls, "neutral", None)
    assert neutral is not None, f"{cls.name} must say in its ClassVar ``neutral`` which knobs do nothing, or why none do"
    if isinstance(neutral, str):
        assert len(neutral.split()) >= 4, f"{cls.name}: a reason is a sentence"
        return
    plain = everything(Regularizer())
    assert everything(cls(**neutral)) == plain
    assert any(everything(technique) != plain for technique in variants(cls))


def test_the_loss_of_the_contract_is_torchs_where_nothing_is_set() -> None:
    logits = torch.randn(len(LABELS), 3, generator=torch.Generator().manual_seed(6))
    assert torch.equal(CrossEntropy()(logits, LABELS), F.cross_entropy(logits, LABELS))
