"""The same questions, asked of every registered optimizer rule."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt
from tests.oracles import optim_rules, optim_variants, optim_whole, optim_wrappers

from descend.errors import KnobError
from descend.optim import Momentum, Optimizer, Rule, knob_names
from descend.optim.chain import chain_of
from descend.optim.wrapper import Wrapper
from descend.technique import Knob, build, knobs, registered, spec

RULES = list(registered(Rule))
SHAPES = ((4, 3), (7,), (2, 3, 2, 2), (), (1,))
STEPS = 8


def other_values(knob: Knob) -> Iterator[Any]:
    """Legal values of a knob, besides its default."""
    if knob.type is bool:
        yield not knob.default
    if knob.family is not None:
        yield Momentum(lr=0.05)
    for choice in knob.choices:
        if choice != knob.default:
            yield choice
    if knob.search is not None:
        for value in (knob.search.low, knob.search.high):
            if value != knob.default:
                yield round(value) if knob.type is int else float(value)


def variants(kind: type[Rule]) -> list[Rule]:
    """The rule as it comes, and with each knob changed."""
    plain = kind()
    return [plain, *(with_knob(kind, knob.name, value) for knob in knobs(kind) for value in other_values(knob))]


def with_knob(kind: Any, name: str, value: Any) -> Any:
    return dataclasses.replace(kind(), **{name: value})


VARIANTS = [rule for kind in RULES for rule in variants(kind)]
ELEMENTWISE = [rule for rule in VARIANTS if chain_of(rule).core.elementwise]


def problem(shape: tuple[int, ...], index: int = 0) -> tuple[np.ndarray, Callable[[int, np.ndarray], np.ndarray]]:
    """A starting point, and noisy gradients of a quadratic around the origin."""
    draw = np.random.default_rng(100 + index)
    p, curvature, noise = draw.normal(size=shape), draw.uniform(0.2, 2.0, shape), draw.normal(size=(STEPS * 2 + 1, *shape))
    return p, lambda t, at: curvature * at + 0.5 * noise[t]


def walk(rule: Rule, dtype: torch.dtype = torch.float64, *, apart: bool = False) -> list[torch.Tensor]:
    """Let the optimizer walk on all problems at once, or apart; return where it answers from."""
    answers = []
    for indices in [[index] for index in range(len(SHAPES))] if apart else [list(range(len(SHAPES)))]:
        params = [torch.tensor(problem(SHAPES[index], index)[0], dtype=dtype, requires_grad=True) for index in indices]
        optimizer = Optimizer(params, rule)
        drive(optimizer, range(1, STEPS + 1), indices)
        answers += answer(optimizer)
    return answers


def drive(optimizer: Optimizer, steps: range, indices: Sequence[int] = range(len(SHAPES))) -> None:
    problems = [problem(SHAPES[index], index) for index in indices]
    params = optimizer.param_groups[0]["params"]

    def closure(t: int) -> None:
        for parameter, (_, slope) in zip(params, problems, strict=True):
            parameter.grad = torch.as_tensor(slope(t, parameter.detach().double().numpy())).to(parameter.dtype)

    for t in steps:
        optimizer.step(lambda t=t: closure(t))


def answer(optimizer: Optimizer) -> list[torch.Tensor]:
    with optimizer.evaluation_weights():
        return [parameter.detach().clone() for parameter in optimizer.param_groups[0]["params"]]


def together(rule: Rule) -> bool:
    """Whether what a tensor does depends on the others, so that it is compared with a textbook alone."""
    return chain_of(rule).perturbation is not None


def settings(rule: Rule) -> dict[str, Any]:
    """Return the knobs as a textbook takes them: a rule inside as its name and knobs."""
    values = {knob.name: getattr(rule, knob.name) for knob in knobs(type(rule))}
    return {name: (value.name, settings(value)) if isinstance(value, Rule) else value for name, value in values.items()}


def middle(knob: Knob) -> Iterator[Any]:
    """Return one legal value of a knob that is not its default, and every one of those that are chosen from a list."""
    if knob.search is None:
        yield from other_values(knob)
        return
    low, high = knob.search.low, knob.search.high
    value = (max(low, 1e-9) * high) ** 0.5 if knob.search.log else low + 0.4 * (high - low)
    yield max(round(value), 1) if knob.type is int else value


def pairs_of_knobs(kind: type[Rule]) -> Iterator[Rule]:
    """Yield the rule with every two knobs changed at once: forms that are each right may be wrong together."""
    for one, two in combinations(knobs(kind), 2):
        for value, other in product(middle(one), middle(two)):
            yield dataclasses.replace(kind(), **{one.name: value, two.name: other})


@pytest.mark.parametrize("rule", [*VARIANTS, *(rule for kind in RULES for rule in pairs_of_knobs(kind))], ids=str)
def test_agrees_with_the_textbook(rule: Rule) -> None:
    textbook = {**vars(optim_rules), **vars(optim_variants), **vars(optim_whole), **vars(optim_wrappers)}[rule.name]
    for index, (shape, ours) in enumerate(zip(SHAPES, walk(rule, apart=together(rule)), strict=True)):
        p, gradient = problem(shape, index)
        np.testing.assert_allclose(ours.numpy(), textbook(p, gradient, STEPS, **settings(rule)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("rule", ELEMENTWISE, ids=str)
def test_walks_the_same_on_plain_arrays(rule: Rule) -> None:
    for index, (shape, ours) in enumerate(zip(SHAPES, walk(rule, apart=together(rule)), strict=True)):
        p, slope = problem(shape, index)
        chain, memory = chain_of(rule), None
        slots = chain.start(p)
        for t in range(1, STEPS + 1):
            scalars = chain.scalars(t, memory=memory)
            p, slots = chain.move(p, chain.gradient(p, slots, partial(slope, t)), slots, scalars)
            memory = scalars.memory
        np.testing.assert_allclose(ours.numpy(), chain.evaluation_weights(p, slots), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.name)
def test_every_knob_changes_something(kind: type[Rule]) -> None:
    plain = torch.cat([p.flatten() for p in walk(kind())])
    for knob in knobs(kind):
        values = list(other_values(knob))
        assert values, f"{kind.name}.{knob.name} has no range to search"
        walks = [torch.cat([p.flatten() for p in walk(with_knob(kind, knob.name, value))]) for value in values]
        assert not all(torch.equal(plain, other) for other in walks), f"{knob.name} has no effect"


@pytest.mark.parametrize("rule", VARIANTS, ids=str)
def test_resumes_bit_for_bit(rule: Rule) -> None:
    straight = walk(rule, torch.float32)
    params = [torch.tensor(problem(s, i)[0], dtype=torch.float32, requires_grad=True) for i, s in enumerate(SHAPES)]
    first = Optimizer(params, rule)
    drive(first, range(1, 4))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    fresh = type(rule)(inner=type(rule.inner)()) if isinstance(rule, Wrapper) else type(rule)()
    second = Optimizer([p.detach().clone().requires_grad_() for p in params], fresh)
    second.load_state_dict(torch.load(file, weights_only=True))
    drive(second, range(4, STEPS + 1))
    for parameter, expected in zip(answer(second), straight, strict=True):
        assert torch.equal(parameter, expected)


@pytest.mark.parametrize("rule", VARIANTS, ids=str)
@pytest.mark.parametrize("dead", [slice(None), slice(0, 1)], ids=["all", "a row and a column"])
def test_gradients_of_zero_are_steps_like_others(rule: Rule, dead: slice) -> None:
    weights = torch.ones(4, 3, requires_grad=True)
    optimizer = Optimizer([weights], rule)

    def closure() -> None:
        weights.grad = 1000 * torch.ones(4, 3)
        weights.grad[dead] = 0
        weights.grad[:, dead] = 0

    for _ in range(3):
        optimizer.step(closure)
    assert torch.isfinite(answer(optimizer)[0]).all()


@pytest.mark.parametrize("rule", ELEMENTWISE, ids=str)
def test_splitting_a_tensor_changes_nothing(rule: Rule) -> None:
    p, gradient = problem((37,))

    def run(pieces: list[slice]) -> torch.Tensor:
        params = [torch.tensor(p[piece], dtype=torch.float32, requires_grad=True) for piece in pieces]
        optimizer = Optimizer(params, rule)

        def closure(t: int) -> None:
            whole = torch.as_tensor(gradient(t, torch.cat(params).detach().double().numpy())).float()
            for parameter, piece in zip(params, pieces, strict=True):
                parameter.grad = whole[piece].clone()

        for t in range(1, STEPS + 1):
            optimizer.step(lambda t=t: closure(t))
        return torch.cat(answer(optimizer))

    whole, split = run([slice(None)]), run([slice(0, 5), slice(5, 6), slice(6, 37)])
    if together(rule):  # a norm over all is a sum, whose order shows in the last bit
        torch.testing.assert_close(whole, split)
    else:
        assert torch.equal(whole, split)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.name)
def test_empty_parameters_change_nothing(kind: type[Rule], compiled: bool) -> None:
    def run(shapes: Sequence[tuple[int, ...]], **settings: Any) -> list[torch.Tensor]:
        params = [torch.ones(shape).requires_grad_() for shape in shapes]
        optimizer = Optimizer(params, kind(), compiled=compiled, **settings)

        def closure() -> None:
            for parameter in params:
                parameter.grad = torch.linspace(0.5, 1.0, parameter.numel()).reshape(parameter.shape)

        for _ in range(3):
            optimizer.step(closure)
        twin = Optimizer(params, kind())
        twin.load_state_dict(optimizer.state_dict())
        return answer(twin)

    empty = ((0,), (0, 3), (3, 0), (2, 0, 3), (0, 0))
    stages = ["centralize", "adaptive_clip", "clip_value", "accumulate(n=1)", "clip_norm"]
    for settings in ({}, {"gradients": stages}, {"nonfinite": "skip"}):
        expected, *rest = run([(4, 3), *empty], **settings)
        assert torch.equal(expected, run([(4, 3)], **settings)[0])
        assert [tuple(parameter.shape) for parameter in rest] == list(empty)
        run(empty, **settings)  # and nothing else


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.name)
def test_whatever_a_cycle_of_torch_writes_is_read(kind: type[Rule]) -> None:
    parameter = torch.ones(2, requires_grad=True)
    optimizer = Optimizer([parameter], kind())
    before = {name: optimizer.param_groups[0][name] for name in knob_names(kind())}
    settings = {"max_lr": 0.1, "total_steps": 10, "base_momentum": 0.3, "max_momentum": 0.6}
    if not ("momentum" in before or {"beta1", "beta2"} <= set(before)):
        with pytest.raises(ValueError, match="must support momentum or beta1"):
            torch.optim.lr_scheduler.OneCycleLR(optimizer, **settings)
        return
    torch.optim.lr_scheduler.OneCycleLR(optimizer, **settings)
    optimizer.step(lambda: setattr(parameter, "grad", torch.ones(2)))
    group = optimizer.param_groups[0]
    changed = {name for name in before if group[name] != before[name]}
    assert {"lr"} < changed <= {"lr", "momentum", "beta1"}
    assert [value for name, value in group.items() if name in ("momentum", "beta1")] == [0.6]
    notes = {"params", "maximize", "initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"}
    assert set(group) - notes <= {*before, "betas"}


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.name)
def test_illegal_knobs_say_name_interval_and_value(kind: type[Rule]) -> None:
    for knob in knobs(kind):
        for bound in knob.bounds:
            illegal = {Ge: lambda b: b.ge - 1.0, Gt: lambda b: b.gt - 1.0, Le: lambda b: b.le + 1.0, Lt: lambda b: float(b.lt)}
            value: Any = illegal[type(bound)](bound)
            value = int(value) if knob.type is int else value
            with pytest.raises(KnobError) as caught:
                kind(**{knob.name: value})
            assert kind.name in str(caught.value)
            assert knob.name in str(caught.value)
            assert knob.interval in str(caught.value)
            assert repr(value) in str(caught.value)
            parameter = torch.zeros(2, requires_grad=True)
            with pytest.raises(KnobError, match=knob.name):
                Optimizer([{"params": [parameter], knob.name: value}], kind())


@pytest.mark.parametrize("rule", VARIANTS, ids=str)
def test_text_round_trips(rule: Rule) -> None:
    assert build(spec(rule), Rule) == rule


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.name)
def test_half_precision_weights_keep_float32_slots(kind: type[Rule]) -> None:
    parameter = torch.linspace(-1, 1, 8, dtype=torch.bfloat16).reshape(4, 2).requires_grad_()
    optimizer = Optimizer([parameter], kind())
    for _ in range(2):
        optimizer.step(lambda: setattr(parameter, "grad", torch.full_like(parameter, 0.3)))
    other = Optimizer([parameter], kind())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for name, slot in optimizer.state[parameter].items():
        if isinstance(slot, torch.Tensor):
            assert slot.dtype == torch.float32
            assert torch.equal(other.state[parameter][name], slot)
            assert other.state[parameter][name].dtype == torch.float32
    assert parameter.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [kind for kind in RULES if chain_of(kind()).core.elementwise], ids=lambda kind: kind.name)
def test_direction_holds_no_numbers(kind: type[Rule]) -> None:
    pure = getattr(kind, "after_step" if issubclass(kind, Wrapper) else "direction", None)
    if pure is None:
        pytest.skip("declared: does nothing per element, its inner rule does")
    tree = ast.parse(textwrap.dedent(inspect.getsource(pure)))
    found = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, (int, float))]
    assert not found, "numbers belong into coefficients: a literal widens the compiled arithmetic"
