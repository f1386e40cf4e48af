"""The one ``torch.optim.Optimizer``, for every rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import Tensor

from descend.errors import KnobError, ModelError, TrainingError
from descend.optim import carriers, tensors
from descend.optim.gradients import Accumulate, GradientStage, Rewrite, Scaling
from descend.optim.rule import Numbers, Rule
from descend.optim.settings import Group, check_saved, checked_group, rule_of, settings_of
from descend.optim.tensors import foreach
from descend.optim.wrapper import chain_of
from descend.technique import build

NonFinite = Literal["error", "skip", "ignore"]
PENDING = "accumulated"
"""The name under which a parameter's state holds the sum of the gradients in an open window."""


@dataclass
class Batch:
    """Parameters that make the same step: one rule with one set of knobs, one device and dtype, one step count."""

    rule: Rule
    maximize: bool
    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)


class Optimizer(torch.optim.Optimizer):
    """Moves parameters by a rule: ``Optimizer(model.parameters(), AdamW(lr=1e-3))`` or ``Optimizer(params, "adamw(lr=1e-3)")``.

    A drop-in for any loop that takes a torch optimizer. The rule's knobs stand in ``param_groups``: schedulers write
    ``group["lr"]``, and a group may override any knob (an illegal or unknown one is a KnobError, at once).

    params: parameters, ``(name, parameter)`` pairs, or dicts with ``params`` and knobs; of any floating dtype and shape. Slots of
    half-precision parameters are float32, as is the arithmetic.
    gradients: gradient stages, in order: ``"clip_norm(max_norm=1.0)"``, a stage, or several.
    maximize: climb instead of descend.
    nonfinite: on a NaN or infinite gradient, raise TrainingError with the parameter's name ("error"), leave all parameters and
    state as they are and count the step in ``skipped`` ("skip"), or look away ("ignore"). To skip costs one reading of the
    gradients (shared with clipping) and, on a GPU, one wait for it. The error costs next to nothing where kernels carry out the
    step, which then look at each piece of a gradient just before they use it: weights of that piece are not touched, but
    others may have made the step already, so after the error go back to a checkpoint.
    compiled: let Numba kernels carry out the step on a CPU; None: where the model is large enough to repay the compilation.
    Results differ from those of torch tensors by a few units in the last place.

    After a step ``gradient_norm`` is the joint norm of all gradients before scaling; None where nobody needed it. ``moved`` says
    whether the last ``step`` or ``flush`` moved the parameters: a skipped step does not, nor does one that only
    accumulates. ``pending`` counts the steps that have been accumulated since the last move.
    Raises ModelError on sparse or complex gradients.
    """

    rule: Rule
    gradient_norm: float | None
    skipped: int
    moved: bool
    pending: int

    def __init__(
        self,
        params: Any,
        rule: Rule | str = "adamw",
        *,
        gradients: GradientStage | str | Sequence[GradientStage | str] = (),
        maximize: bool = False,
        nonfinite: NonFinite = "error",
        compiled: bool | None = None,
    ) -> None:
        self.rule = build(rule, Rule)
        stages = [gradients] if isinstance(gradients, (str, GradientStage)) else gradients
        self.stages: tuple[GradientStage, ...] = tuple(build(stage, GradientStage) for stage in stages)
        if nonfinite not in ("error", "skip", "ignore"):
            raise KnobError("Optimizer", "nonfinite must be one of 'error', 'skip', 'ignore'", got=nonfinite)
        if sum(isinstance(stage, Accumulate) for stage in self.stages) > 1:
            raise KnobError("Optimizer", "gradients must accumulate once at most", got=[str(stage) for stage in self.stages])
        self.nonfinite: NonFinite = nonfinite
        self.compiled = compiled
        self.gradient_norm, self.skipped, self.moved, self.pending = None, 0, False, 0
        super().__init__(params, settings_of(self.rule) | {"maximize": maximize})

    # ---------------------------------------------------------------------------------------------------- groups and state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with knobs of their own; unknown and illegal knobs raise KnobError."""
        super().add_param_group(checked_group(self.rule, param_group))
        group = Group(self.param_groups[-1])
        group.update({name: group[name] for name in ("beta1", "beta2", "beta3") if name in group})
        self.param_groups[-1] = group

    def state_dict(self) -> dict[str, Any]:
        """Return slots, step counts and knobs, each group marked with the name of its rule."""
        saved = super().state_dict()
        for group in saved["param_groups"]:
            group["rule"] = chain_of(self.rule)
        return saved | ({"pending": self.pending} if self.pending else {})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, bit for bit; tensors are copied, never shared.

        Raises KnobError where the state is another rule's or torch's own, ModelError where a slot does not fit its parameter.
        """
        seen: list[dict[str, Any]] = []
        hook = self.register_load_state_dict_pre_hook(lambda _, given: seen.append(given))
        ours = chain_of(self.rule)
        names = {group.get("rule", ours) for group in state_dict["param_groups"]}
        if names != {ours}:
            raise KnobError("Optimizer.load_state_dict", f"state must be of rule {ours!r}", got=", ".join(sorted(names)))
        check_saved(self.rule, state_dict, list(self._parameters()))
        try:
            super().load_state_dict(dict(state_dict))
        finally:
            hook.remove()
        for group in self.param_groups:
            group.pop("rule", None)
        self._undo_casts(seen[0])
        self.pending = seen[0].get("pending", 0)

    def _undo_casts(self, saved: dict[str, Any]) -> None:
        """Take slots from ``saved`` once more: torch casts them to the dtype of the weights, or shares them."""
        order = chain.from_iterable(group["params"] for group in saved["param_groups"])
        for key, parameter in zip(order, self._parameters(), strict=True):
            for name, value in saved["state"].get(key, {}).items():
                if isinstance(value, Tensor):
                    self.state[parameter][name] = value.detach().to(device=parameter.device, copy=True)

    def _parameters(self) -> Iterator[Tensor]:
        return chain.from_iterable(group["params"] for group in self.param_groups)

    def _size(self) -> int:
        return sum(parameter.numel() for parameter in self._parameters())

    def __getstate__(self) -> dict[str, Any]:
        own = ("rule", "stages", "nonfinite", "compiled", "gradient_norm", "skipped", "moved", "pending")
        return super().__getstate__() | {name: getattr(self, name) for name in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.param_groups = [group if isinstance(group, Group) else Group(group) for group in self.param_groups]

    # ------------------------------------------------------------------------------------------------------------- the step

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient by one step; return the closure's loss, if there is a closure."""
        self.moved = False
        loss = self._evaluate(closure)
        batches = list(self._batches())
        self.gradient_norm = None
        if self.nonfinite == "error" and self._compiles() and not self.stages:
            self._move(batches, 1.0, checked=True)
        elif self._usable(batches):
            self._go(batches, self.stages, self.gradient_norm)
        else:
            self.skipped += 1
        return loss

    @torch.no_grad()
    def flush(self) -> bool:
        """Move by what has been accumulated, be the window full or not; return whether there was anything.

        To be called where training ends, or wherever a window must not reach beyond (an epoch). The gradient is the mean over
        the ``pending`` steps that the window really holds.
        """
        self.moved = False
        self._close(self.stages)
        return self.moved

    @property
    def needs_closure(self) -> bool:
        """Whether ``step`` needs a closure, because the rule wants the gradient elsewhere than at the parameters."""
        return self.rule.ascent is not None or any(rule_of(self.rule, group).looks_ahead() for group in self.param_groups)

    @property
    def averages(self) -> bool:
        """Whether ``evaluation_weights`` makes a difference: the rule keeps an average that generalizes better."""
        return any(rule_of(self.rule, group).averages() for group in self.param_groups)

    def _go(self, batches: list[Batch], stages: Sequence[GradientStage], norm: float | None = None) -> None:
        """Lead the gradients, of joint ``norm`` if it is known, through ``stages``; move the parameters along what comes out."""
        scale = 1.0
        for place, stage in enumerate(stages):
            if isinstance(stage, Scaling):
                norm = _joint_norm(batches) if norm is None else norm
                self.gradient_norm = norm if self.gradient_norm is None else self.gradient_norm
                scale *= stage.scale(norm * scale)
            elif isinstance(stage, Rewrite):
                for batch in batches:
                    grads = batch.grads if scale == 1.0 else list(foreach._foreach_mul(batch.grads, scale))
                    batch.grads = stage.rewrite(batch.params, grads)
                norm, scale = None, 1.0
            elif isinstance(stage, Accumulate):
                self._gather(batches, scale)
                if self.pending >= stage.n:
                    self._close(stages[place:])
                return
        self._move(batches, scale)

    def _gather(self, batches: list[Batch], scale: float) -> None:
        """Add gradients to those of the window."""
        for batch in batches:
            for grad, state in zip(batch.grads, batch.states, strict=True):
                if PENDING in state:
                    state[PENDING].add_(grad, alpha=scale)
                else:
                    state[PENDING] = grad.to(tensors.working_dtype(grad.dtype), copy=True).mul_(scale)
        self.pending += 1

    def _close(self, stages: Sequence[GradientStage]) -> None:
        """End the window, if one is open: the mean of its gradients goes through the stages that follow the accumulating one."""
        if not self.pending:
            return
        batches = list(self._batches(lambda parameter: self.state[parameter].pop(PENDING, None)))
        for batch in batches:
            foreach._foreach_div_(batch.grads, self.pending)
        self.pending = 0
        place = next(place for place, stage in enumerate(stages) if isinstance(stage, Accumulate))
        self._go(batches, stages[place + 1 :])

    def _compiles(self) -> bool:
        return self.compiled if self.compiled is not None else self._size() >= carriers.WORTH_COMPILING

    def _move(self, batches: list[Batch], scale: float, *, checked: bool = False) -> None:
        """Move the parameters by one step; if checked, up to a gradient that is not finite, which is an error."""
        compiled, norms = self._compiles(), [0.0]
        for batch in batches:
            t = batch.states[0].get("step", 0) + 1
            memory = tuple(batch.states[0].get(name, batch.rule.initial(name)) for name in batch.rule.memory)
            numbers = batch.rule.numbers(t, -scale if batch.maximize else scale, memory)
            _begin(batch, numbers)
            parts = (batch.params, batch.grads, batch.states)
            norm = carriers.step(batch.rule, *parts, numbers, compiled=compiled, checked=checked)
            if norm is not None:
                norms.append(norm)
                if math.isnan(norm):
                    raise self._complaint(batches)
            after = dict(zip(batch.rule.memory, numbers.memory, strict=True), step=t)
            for state in batch.states:
                state.update(after)
        self.gradient_norm = math.hypot(*norms) if checked else self.gradient_norm
        self.moved = bool(batches)

    def evaluation_weights(self) -> AbstractContextManager[None]:
        """Hold the parameters, within a ``with`` block, at the point that training has found so far.

        Evaluate and save inside; it makes a difference for rules that average weights (``schedule_free``).
        """
        return _held((p, rule.answer(p, slots)) for rule, p, slots in self._started())

    def _started(self) -> Iterator[tuple[Rule, Tensor, tuple[Any, ...]]]:
        """Yield every parameter that has made a step, with its rule and its slots."""
        for group in self.param_groups:
            rule = rule_of(self.rule, group)
            for parameter in group["params"]:
                if state := self.state.get(parameter):
                    yield rule, parameter, tuple(state.get(name) for name in rule.slots)

    def _evaluate(self, closure: Callable[[], Any] | None) -> Any:
        """Call the closure at the point, or the two points, where the rule wants the gradient; return the first loss."""
        if closure is None:
            if self.needs_closure:
                raise KnobError(
                    self.rule.name, "needs the gradient elsewhere too, by step(closure)",
                    fix="Pass a closure that clears the gradients, computes the loss, calls backward and returns the loss.",
                )  # fmt: skip
            return None
        ahead = ((p, rule.vantage(p, slots)) for rule, p, slots in self._started() if rule.looks_ahead())
        with _held(ahead), torch.enable_grad():
            loss = closure()
        if self.rule.ascent is not None:
            with _held(self._tops()), torch.enable_grad():
                closure()
        return loss

    def _tops(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every parameter that has a gradient, and the point to which it climbs; none where a gradient is not finite."""
        found = [
            (ascent, p.to(tensors.working_dtype(p.dtype)), -p.grad if group["maximize"] else p.grad, p)
            for group in self.param_groups
            if (ascent := rule_of(self.rule, group).ascent)
            for p in group["params"]
            if p.grad is not None
        ]
        norm = math.hypot(*(float(torch.linalg.vector_norm(ascent.pull(p, g))) for ascent, p, g, _ in found))
        if math.isfinite(norm):
            yield from ((parameter, ascent.climb(p, g, norm)) for ascent, p, g, parameter in found)

    def _batches(self, gradient: Callable[[Tensor], Tensor | None] = attrgetter("grad")) -> Iterator[Batch]:
        """Sort all parameters that have a ``gradient`` into batches, in a fixed order."""
        for group in self.param_groups:
            rule = rule_of(self.rule, group)
            memory = rule.memory
            found: dict[tuple[Any, ...], Batch] = {}
            for parameter in group["params"]:
                grad = gradient(parameter)
                if grad is None:
                    continue
                state = self.state[parameter]
                progress = (state.get("step", 0), *[state.get(name) for name in memory])
                key = (parameter.device, parameter.dtype, grad.dtype, grad.layout, progress)
                batch = found.get(key)
                if batch is None:
                    self._refuse(parameter, grad)
                    batch = found[key] = Batch(rule, group["maximize"])
                batch.params.append(parameter)
                batch.grads.append(grad)
                batch.states.append(state)
            yield from found.values()

    def _name(self, wanted: Tensor) -> str:
        """Return what a parameter is called, by its model if that is known."""
        for number, group in enumerate(self.param_groups):
            names = group.get("param_names") or [f"parameter {i} of group {number}" for i in range(len(group["params"]))]
            for name, parameter in zip(names, group["params"], strict=True):
                if parameter is wanted:
                    return f"{name} {tuple(wanted.shape)}"
        raise LookupError("not a parameter of this optimizer")

    def _refuse(self, parameter: Tensor, grad: Tensor) -> None:
        """Raise ModelError for a gradient that is sparse or complex."""
        kind = "sparse" if grad.layout != torch.strided else "complex" if grad.is_complex() or parameter.is_complex() else None
        if kind:
            must = f"gradients must be dense and real, but that of {self._name(parameter)} is {kind}"
            raise ModelError("Optimizer", must, fix="Use torch.optim for it.")

    def _complaint(self, batches: list[Batch]) -> TrainingError:
        """Return the error that names the first gradient which is not finite."""
        for batch in batches:
            for parameter, grad in zip(batch.params, batch.grads, strict=True):
                if bad := int((~torch.isfinite(grad)).sum()):
                    return TrainingError("Optimizer", f"the gradient of {self._name(parameter)} must be finite",
                                         got=f"{bad} NaN or infinite of {grad.numel()}",
                                         fix="Lower the learning rate, clip gradients, or pass nonfinite='skip'.")  # fmt: skip
        return TrainingError("Optimizer", "the joint norm of the gradients must be finite", fix="Lower the learning rate.")

    def _usable(self, batches: list[Batch]) -> bool:
        """Return whether the step may be taken with these gradients; raise where one that is not finite is an error."""
        if self.nonfinite == "ignore":
            return True
        self.gradient_norm = _joint_norm(batches)
        if math.isfinite(self.gradient_norm):
            return True
        if self.nonfinite == "skip":
            return False
        raise self._complaint(batches)


@contextmanager
def _held(points: Iterable[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Hold parameters at other points within the block, then put them back bit for bit."""
    kept = []
    with torch.no_grad():
        for parameter, point in points:
            kept.append((parameter, parameter.detach().clone()))
            parameter.copy_(point)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)


def _begin(batch: Batch, numbers: Numbers) -> None:
    """Give parameters the slots that this step needs and they do not have: at their first, or when a knob calls for them."""
    rule = batch.rule
    copies = frozenset(chain.from_iterable(tail.own for tail in rule.tails if tail.copies))
    wanted = copies | set(rule.needed(numbers))
    for parameter, state in zip(batch.params, batch.states, strict=True):
        for name in () if wanted <= state.keys() else wanted - state.keys():
            extent = rule.extent(name, tuple(parameter.shape))
            if extent is not None:
                dtype = tensors.working_dtype(parameter.dtype)
                like = parameter if extent == tuple(parameter.shape) else parameter.new_empty(extent)
                fresh = like.detach().to(dtype, copy=True) if name in copies else None
                state[name] = torch.full_like(like, rule.initial(name), dtype=dtype) if fresh is None else fresh


def _joint_norm(batches: list[Batch]) -> float:
    """Return the Euclidean norm of all gradients together; finite exactly where all of them are."""
    return math.hypot(*(tensors.joint_norm(batch.grads) for batch in batches))
