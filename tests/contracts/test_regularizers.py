"""The questions asked of every registered regularizer: what it leaves alone, and that every knob changes something.

Text round trips and out-of-range values are asked of all techniques in ``test_techniques``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descend import rng
from descend.errors import ModelError
from descend.models import Classifier, ResNet9, ResNet20, SmallCNN
from descend.regularize import Regularizer
from descend.technique import Knob, knobs, registered

ALL = list(registered(Regularizer))
NAMES = [cls.name for cls in ALL]
SAMPLES = list(range(5, 21))
SKEWED = [0] * 70 + [1] * 25 + [2] * 5
INSTALLED = [cls for cls in ALL if cls.install is not Regularizer.install]
HISTORY = {  # a gain that is worth less than a percent, a dip, a late recovery; the loss disagrees about the best epoch
    "accuracy": [0.1, 0.5, 0.505, 0.4, 0.4, 0.4, 0.4, 0.52],
    "loss": [1.0, 0.5, 0.45, 0.44, 0.5, 0.6, 0.7, 0.8],
    "balanced_accuracy": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
    "macro_f1": [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
}


def network() -> Classifier:
    backbone = ResNet20(width=4).build(0)
    torch.manual_seed(0)
    return Classifier(backbone, nn.Linear(backbone.n_features, 3))


def pictures(n: int = 16) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def observed(technique: Any) -> list[Any]:
    """Everything a technique does, as plain values: its knobs for others, training and test answers, stepped weights."""
    model = technique.install(network(), 3).train()
    seen: list[Any] = [technique.optimizer_knobs(), technique.loss_knobs(), technique.chosen_epoch(HISTORY)]
    seen += [bytes_of(technique.class_weights([70, 25, 5])), bytes_of(technique.epoch_rows(SKEWED, seed=3, epoch=1))]
    seen += [technique.should_stop({name: scores[:n] for name, scores in HISTORY.items()}) for n in range(9)]
    for step in range(4):
        with rng.context(0, step, SAMPLES):
            seen += [bytes_of(model(pictures())), bytes_of(technique.extra_loss(model))]
    model.eval()
    seen.append(bytes_of(model(pictures())))
    model.load_state_dict(network().state_dict())
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(8)  # long enough for the default limit of max-norm
    technique.after_step(dict(model.named_parameters()), 0.5)
    return [*seen, *map(bytes_of, model.parameters())]


def bytes_of(value: Tensor | NDArray[Any] | None) -> bytes:
    """A tensor or an array as bytes, to be compared to the bit; None as nothing."""
    if value is None:
        return b""
    return (value.detach().numpy() if isinstance(value, Tensor) else value).tobytes()


def alternatives(knob: Knob) -> Iterator[Any]:
    """Legal values of a knob other than its default: its other choices, or the ends of its search range."""
    if knob.choices:
        yield from (choice for choice in knob.choices if choice != knob.default)
    elif knob.type == tuple[str, ...]:  # names of modules
        yield ("backbone.stages.stem.act",)
    elif knob.type is bool:
        yield not knob.default
    else:
        assert knob.search is not None, f"{knob.name} has neither choices nor a range worth searching"
        kind = int if knob.type is int else float
        yield from (kind(end) for end in (knob.search.low, knob.search.high) if kind(end) != knob.default)


@pytest.mark.parametrize("cls", ALL, ids=NAMES)
def test_every_knob_changes_something(cls: type[Regularizer]) -> None:
    reference = observed(cls())
    for knob in knobs(cls):
        outcomes = [observed(cls(**{knob.name: value})) != reference for value in alternatives(knob)]
        assert any(outcomes), f"{cls.name}: {knob.name} changes nothing"


@pytest.mark.parametrize("cls", ALL, ids=NAMES)
def test_the_same_seed_does_the_same(cls: type[Regularizer]) -> None:
    assert observed(cls()) == observed(cls())


@pytest.mark.parametrize("cls", ALL, ids=NAMES)
def test_it_acts_at_some_moment(cls: type[Regularizer]) -> None:
    moments = {name for name, value in vars(Regularizer).items() if callable(value) and not name.startswith("_")}
    assert len(moments) == 9
    assert moments & {name for base in cls.__mro__[: cls.__mro__.index(Regularizer)] for name in vars(base)}


@pytest.mark.parametrize("cls", INSTALLED, ids=[cls.name for cls in INSTALLED])
def test_installation_keeps_state_names_and_the_inverted_test_answer(cls: type[Regularizer]) -> None:
    plain = network()
    model = cls().install(copy.deepcopy(plain), 0)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert torch.equal(model.eval()(pictures()), plain.eval()(pictures()))


@pytest.mark.parametrize("cls", INSTALLED, ids=[cls.name for cls in INSTALLED])
def test_modes_do_not_leak_and_copies_are_independent(cls: type[Regularizer]) -> None:
    model = cls().install(network(), 0)
    model.eval()
    assert not any(m.training for m in model.modules())
    twin = copy.deepcopy(model).train()
    assert all(m.training for m in twin.modules())
    assert not any(m.training for m in model.modules())


@pytest.mark.parametrize("cls", INSTALLED, ids=[cls.name for cls in INSTALLED])
def test_drawn_rows_do_not_depend_on_the_batch(cls: type[Regularizer]) -> None:
    """The default forms are per sample: without batch norm's own coupling, half a batch answers what it answered in the whole."""
    model = cls().install(network(), 0).train()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    with rng.context(2, 1, SAMPLES):
        whole = model(pictures())
    with rng.context(2, 9, SAMPLES[2:]):
        half = model(pictures()[2:])
    torch.testing.assert_close(half, whole[2:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", INSTALLED, ids=[cls.name for cls in INSTALLED])
def test_a_plain_chain_trains_with_it_or_is_refused(cls: type[Regularizer]) -> None:
    """Techniques without a place in a model say so with one of our errors; the others train it."""
    backbone = SmallCNN(width=4).build(0)
    model = Classifier(backbone, nn.Linear(backbone.n_features, 3))
    try:
        cls().install(model, 0)
    except ModelError:
        return
    model.train()(pictures()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def installs(technique: Regularizer, model: nn.Module) -> bool:
    try:
        technique.install(model, 0)
    except ModelError:  # the place is taken
        return False
    return True


def stacks() -> list[nn.Module]:
    """Every technique that installs something, in its classic form where it has one, in as few models as can hold them."""
    made: list[nn.Module] = []
    for cls in INSTALLED:
        classic: dict[str, Any] = {"mode": "classic"} if any(knob.name == "mode" for knob in knobs(cls)) else {}
        technique = cls(**classic)
        if not any(installs(technique, model) for model in made):
            backbone = ResNet9(width=2).build(0)
            made.append(technique.install(Classifier(backbone, nn.Linear(backbone.n_features, 3)), 0))
    return made


def test_the_exported_graph_carries_the_test_time_form() -> None:
    for model in stacks():
        program = torch.export.export(model.eval(), (pictures(2),))
        assert not any("bernoulli" in str(node.target) or "rand" in str(node.target) for node in program.graph.nodes)
        torch.testing.assert_close(program.module()(pictures(2)), model(pictures(2)), rtol=1e-5, atol=1e-6)
