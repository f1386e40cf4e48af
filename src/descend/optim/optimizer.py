"""The one ``torch.optim.Optimizer``, for every rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor

from descend.errors import KnobError
from descend.optim import dispatch, tensors
from descend.optim.buckets import Bucket, gather, joint_norm, not_finite, resting, steps_made
from descend.optim.chain import Chain, chain_of
from descend.optim.gradients import Accumulate, GradientStage, Rewrite, Scaling
from descend.optim.points import evaluation_points, held, lookahead_points, perturbed_points
from descend.optim.rule import Rule
from descend.optim.settings import (
    agree_on_betas,
    betas_of,
    by_names,
    check_parameters,
    check_saved,
    checked_group,
    group_chain,
    read_rule,
    settings_of,
)
from descend.optim.tensors import foreach
from descend.technique import build
from descend.untraced import untraced, without_import

NonFinite = Literal["error", "skip", "ignore"]
_Torchs = torch.optim.Optimizer
_add_param_group, _zero_grad = without_import(_Torchs.add_param_group), without_import(_Torchs.zero_grad)
_state_dict, _load_state_dict = without_import(_Torchs.state_dict), without_import(_Torchs.load_state_dict)
PENDING = "accumulated"
"""The name under which a parameter's state holds the sum of the gradients in an open window."""


class Optimizer(torch.optim.Optimizer):
    """Moves parameters by a rule: ``Optimizer(model.parameters(), AdamW(lr=1e-3))`` or ``Optimizer(params, "adamw(lr=1e-3)")``.

    A drop-in for any loop that takes a torch optimizer. The rule's knobs stand in ``param_groups``: schedulers write
    ``group["lr"]``, and a group may override any knob (an illegal or unknown one is a KnobError, at once).

    params: parameters, ``(name, parameter)`` pairs, or dicts with ``params`` and knobs; of any floating dtype and shape. Slots of
    half-precision parameters are float32, as is the arithmetic. A group with ``lr_scale`` and no ``lr`` takes ``lr_scale`` times
    the rule's.
    gradients: gradient stages, in order: ``"clip_norm(max_norm=1.0)"``, a stage, or several.
    maximize: maximize the loss instead of minimizing it.
    nonfinite: on a NaN or infinite gradient, raise TrainingError with the parameter's name ("error"), leave all parameters and
    state as they are and count the step in ``skipped`` ("skip"), or do not check ("ignore"). To skip costs one reading of the
    gradients (shared with clipping) and, on a GPU, one wait for it. The error costs next to nothing where kernels carry out the
    step, which then look at each piece of a gradient just before they use it: weights of that piece are not touched, but
    others may have made the step already, so after the error go back to a checkpoint.
    compiled: let compiled kernels carry out the step on a CPU; None: where the model is large enough to repay the compilation, or
    is of many small tensors and has made ten steps. Results differ from those of torch tensors by a few units in the last place.
    knobs: knobs of the rule, in place of those it has: ``Optimizer(params, "adamw", lr=1e-3, betas=(0.9, 0.95))``.

    After a step ``gradient_norm`` is the joint norm of all gradients before scaling, or where the step closed a window that of
    their mean as the stages after it met it; None where it was not needed. ``moved`` says
    whether the last ``step`` or ``flush`` moved the parameters: a skipped step does not, nor does one that only
    accumulates. ``moves`` counts the steps that moved them; ``pending`` those that have been accumulated since the last move.
    Raises ModelError on gradients that are sparse, complex, or parts of what other processes hold (FSDP2's DTensors).
    """

    rule: Rule
    gradient_norm: float | None
    skipped: int
    moved: bool
    moves: int
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
        **knobs: Any,
    ) -> None:
        check_parameters(params)
        self.rule = read_rule(rule, knobs)
        stages = gradients if isinstance(gradients, Sequence) and not isinstance(gradients, str) else [gradients]
        self.stages: tuple[GradientStage, ...] = tuple(build(stage, GradientStage) for stage in stages)
        if nonfinite not in ("error", "skip", "ignore"):
            raise KnobError("Optimizer", "nonfinite must be one of 'error', 'skip', 'ignore'", got=nonfinite)
        if sum(isinstance(stage, Accumulate) for stage in self.stages) > 1:
            raise KnobError("Optimizer", "gradients must accumulate once at most", got=[str(stage) for stage in self.stages])
        self.nonfinite: NonFinite = nonfinite
        self.compiled = compiled
        self.gradient_norm, self.skipped, self.moved, self.moves, self.pending = None, 0, False, 0, 0
        self._betas: list[tuple[Any, ...]] = []  # per group, those on which both spellings last agreed
        self._evaluating = False  # whether the parameters are held at the weights to evaluate
        super().__init__(params, settings_of(self.rule) | {"maximize": maximize})

    # ---------------------------------------------------------------------------------------------------- groups and state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with knobs of their own; unknown and illegal knobs raise KnobError."""
        _add_param_group(self, checked_group(self.rule, param_group))
        self._betas.append(betas_of(self.param_groups[-1]))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to zero, as torch's optimizers do."""
        _zero_grad(self, set_to_none)

    def learning_rates(self) -> dict[Tensor, float]:
        """Return the learning rate of every parameter: that of its group now, as schedules and ``lr_scale`` have made it."""
        return {parameter: float(group["lr"]) for group in self.param_groups for parameter in group["params"]}

    def __repr__(self) -> str:
        first, _, groups = super().__repr__().partition("\n")
        stages = f"\ngradients: {', '.join(map(str, self.stages))}" if self.stages else ""
        return f"{first}\nrule: {self.rule}{stages}\n{groups}"

    def state_dict(self) -> dict[str, Any]:
        """Return slots, step counts and knobs, each group marked with the name of its rule."""
        self._agree()
        saved = _state_dict(self)
        for group in saved["param_groups"]:
            group["rule"] = chain_of(self.rule).name
        counts = {name: count for name in ("pending", "skipped") if (count := getattr(self, name))}
        told = self.moves == steps_made(saved["state"].values())
        return saved | counts | ({} if told else {"moves": self.moves})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, bit for bit; tensors are copied, never shared.

        Slots of weights that have another precision now take that of the step (float32 for float32 and half-precision weights).
        Where parameters have names, here and in the state, each gets the state of its name, in whatever order they stand.

        Raises KnobError where the state is another rule's or torch's own, knows names in other places, or holds an open window
        and no stage here accumulates; ModelError where a slot does not fit its parameter.
        """
        state_dict = by_names(state_dict, self.param_groups)
        names_here = [group.get("param_names") for group in self.param_groups]
        seen: list[dict[str, Any]] = []
        hook = self.register_load_state_dict_pre_hook(lambda _, given: seen.append(given))
        ours = chain_of(self.rule).name
        rules = {group.get("rule", ours) for group in state_dict["param_groups"]}
        if rules != {ours}:
            raise KnobError("Optimizer.load_state_dict", f"state must be of rule {ours!r}", got=", ".join(sorted(rules)))
        check_saved(self.rule, state_dict, list(self._parameters()))
        if (pending := state_dict.get("pending")) and not any(isinstance(stage, Accumulate) for stage in self.stages):
            raise KnobError("Optimizer.load_state_dict", "a stage must accumulate, for the state holds an open window",
                            got=f"{pending} pending", fix="Pass gradients='accumulate(n=...)', or flush before.")  # fmt: skip
        try:
            _load_state_dict(self, state_dict)
        finally:
            hook.remove()
        for group, names in zip(self.param_groups, names_here, strict=True):
            group.pop("rule", None)
            group |= {} if names is None else {"param_names": names}
        self._restore_slots(seen[0])
        self.pending, self.skipped = (seen[0].get(name, 0) for name in ("pending", "skipped"))
        self.moves = seen[0].get("moves", steps_made(self.state.values()))

    def _restore_slots(self, saved: dict[str, Any]) -> None:
        """Take slots from ``saved`` again, in the dtype of a step: torch casts them to that of the weights, or shares them."""
        order = chain.from_iterable(group["params"] for group in saved["param_groups"])
        for key, parameter in zip(order, self._parameters(), strict=True):
            for name, value in saved["state"].get(key, {}).items():
                if isinstance(value, Tensor):
                    dtype = tensors.working_dtype(parameter.dtype)
                    self.state[parameter][name] = value.detach().to(parameter.device, dtype, copy=True)

    def _parameters(self) -> Iterator[Tensor]:
        return chain.from_iterable(group["params"] for group in self.param_groups)

    def _agree(self) -> None:
        """Let both spellings of betas in the groups agree, whichever was written."""
        pairs = zip(self.param_groups, self._betas, strict=True)
        self._betas = [agree_on_betas(self.rule, group, last) for group, last in pairs]

    def __getstate__(self) -> dict[str, Any]:
        self._agree()
        attributes = ("rule", "stages", "nonfinite", "compiled", "gradient_norm", "skipped", "moved", "moves", "pending")
        return super().__getstate__() | {name: getattr(self, name) for name in attributes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._betas = [betas_of(group) for group in self.param_groups]
        self.moves = state.get("moves", steps_made(self.state.values()))
        self.__dict__.setdefault("_evaluating", False)  # load_state_dict comes by here too, in a block or not

    # ------------------------------------------------------------------------------------------------------------- the step

    # torch.compile leaves all of this as it is: a step has kernels, and numbers that change at every step

    @untraced
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient by one step; return the closure's loss, if there is a closure."""
        self.moved = False
        loss = self._evaluate(closure)
        buckets = list(gather(self._chains(), self.state))
        self.gradient_norm = None
        if self.nonfinite == "error" and self._compiles(buckets) and not self.stages:
            self._move(buckets, 1.0, checked=True)
        elif self._usable(buckets):
            self._pass_on(buckets, self.stages, self.gradient_norm)
        else:
            self.skipped += 1
        return loss

    @untraced
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
        return any(rule.perturbation is not None or rule.core.looks_ahead() for _, rule in self._chains())

    @property
    def n_gradients(self) -> int:
        """How many gradients a step takes: how often ``step`` calls its closure."""
        return 1 if chain_of(self.rule).perturbation is None else 2

    @property
    def averages(self) -> bool:
        """Whether ``evaluation_weights`` makes a difference: the rule keeps an average that generalizes better."""
        return any(rule.averages() for _, rule in self._chains())

    @untraced
    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Hold the parameters, within a ``with`` block, at the weights to evaluate and to save; a block within changes nothing.

        It makes a difference for rules that average weights (``schedule_free_adamw``, ``ema``).
        """
        if self._evaluating:  # from here a rule would go on, by what it holds, to where no weights have been
            yield
            return
        self._evaluating = True
        try:
            with held(evaluation_points(self._chains(), self.state)):
                yield
        finally:
            self._evaluating = False

    def _chains(self) -> list[tuple[dict[str, Any], Chain]]:
        """Return every group with the rule that its knobs make now."""
        self._agree()
        return [(group, group_chain(self.rule, group)) for group in self.param_groups]

    def _evaluate(self, closure: Callable[[], Any] | None) -> Any:
        """Call the closure at the point, or the two points, where the rule wants the gradient; return the first loss."""
        if closure is None:
            if self.needs_closure:
                raise KnobError(
                    self.rule.name, "needs the gradient elsewhere too, by step(closure)",
                    fix="Pass a closure that clears the gradients, computes the loss, calls backward and returns the loss.",
                )  # fmt: skip
            return None
        chains = self._chains()
        with held(lookahead_points(chains, self.state)), torch.enable_grad():
            loss = closure()
        if self.n_gradients > 1:
            with held(perturbed_points(chains)), torch.enable_grad():
                closure()
        return loss

    # ------------------------------------------------------------------------------------------- gradients on their way

    def _usable(self, buckets: list[Bucket]) -> bool:
        """Return whether the step may be taken with these gradients; raise where one that is not finite is an error."""
        if self.nonfinite == "ignore":
            return True
        self.gradient_norm = joint_norm(buckets, compiled=self._compiles(buckets))
        if math.isfinite(self.gradient_norm):
            return True
        if self.nonfinite == "skip":
            return False
        raise not_finite(buckets, self.param_groups)

    def _pass_on(self, buckets: list[Bucket], stages: Sequence[GradientStage], norm: float | None = None) -> None:
        """Lead the gradients, of joint ``norm`` if it is known, through ``stages``; move the parameters along what comes out."""
        scale = 1.0
        for place, stage in enumerate(stages):
            if isinstance(stage, Scaling):
                norm = joint_norm(buckets, compiled=self._compiles(buckets)) if norm is None else norm
                self.gradient_norm = norm if self.gradient_norm is None else self.gradient_norm
                scale *= stage.scale(norm * scale)
            elif isinstance(stage, Rewrite):
                for bucket in buckets:
                    grads = bucket.grads if scale == 1.0 else list(foreach._foreach_mul(bucket.grads, scale))
                    bucket.grads = stage.rewrite(bucket.params, grads)
                norm, scale = None, 1.0
            elif isinstance(stage, Accumulate):
                self._accumulate(buckets, scale)
                if self.pending >= stage.n:
                    self._close(stages[place:])
                return
        self._move(buckets, scale)

    def _accumulate(self, buckets: list[Bucket], scale: float) -> None:
        """Add gradients to those of the window."""
        for bucket in buckets:
            for grad, state in zip(bucket.grads, bucket.states, strict=True):
                if PENDING in state:
                    state[PENDING].add_(grad, alpha=scale)
                else:
                    state[PENDING] = grad.to(tensors.working_dtype(grad.dtype), copy=True).mul_(scale)
        self.pending += 1

    def _close(self, stages: Sequence[GradientStage]) -> None:
        """End the window, if one is open: the mean of its gradients goes through the stages that follow the accumulating one."""
        if not self.pending:
            return
        self.gradient_norm = None  # that of the last gradient in the window is not that of the mean
        buckets = list(gather(self._chains(), self.state, lambda parameter: self.state[parameter].pop(PENDING, None)))
        for bucket in buckets:
            foreach._foreach_div_(bucket.grads, self.pending)
        self.pending = 0
        place = next(place for place, stage in enumerate(stages) if isinstance(stage, Accumulate))
        self._pass_on(buckets, stages[place + 1 :])

    def _compiles(self, buckets: list[Bucket]) -> bool:
        if self.compiled is not None:
            return self.compiled
        params = list(self._parameters())
        t = 1 + max((bucket.states[0].get("step", 0) for bucket in buckets), default=0)
        return dispatch.compiles(sum(map(Tensor.numel, params)), len(params), t)

    def _move(self, buckets: list[Bucket], scale: float, *, checked: bool = False) -> None:
        """Move the parameters by one step; if checked, up to a gradient that is not finite, which is an error."""
        compiled, norms, move = self._compiles(buckets), [0.0], self.moves + 1
        for bucket in buckets:
            t, scalars = bucket.scalars(scale, move)
            bucket.allocate(scalars, move)
            lists = (bucket.params, bucket.grads, bucket.states)
            norm = dispatch.step(bucket.rule, *lists, scalars, compiled=compiled, checked=checked)
            if norm is not None:
                norms.append(norm)
                if math.isnan(norm):
                    raise not_finite(buckets, self.param_groups)
            bucket.finish(t, scalars)
        self.gradient_norm = math.hypot(*norms) if checked else self.gradient_norm
        self.moved = bool(buckets)
        if self.moved:
            self.moves = move
            for bucket in resting(self._chains(), self.state, buckets) if chain_of(self.rule).added else ():
                _, scalars = bucket.scalars(1.0, move)
                bucket.allocate(scalars, move)
                tensors.wrap(bucket.rule, bucket.params, bucket.states, scalars)
