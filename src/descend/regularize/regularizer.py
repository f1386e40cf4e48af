"""What a regularizer is: a record of knobs that acts at one or more of nine named moments of training.

The loop calls every moment of every regularizer; each technique fills in just what it is, the others do nothing.

    optimizer_knobs()                  before the optimizer is built   l2 sets its weight_decay
    loss_knobs()                       before the loss is built        label smoothing, focal
    class_weights(counts)              before the loss is built        class weights
    install(model, seed)               before the first step           drop layers, stochastic depth, ghost batches
    epoch_rows(labels, seed, epoch)    before each epoch               balanced sampling
    extra_loss(model)                  after each forward pass         KL sparsity
    after_step(parameters, lr)         after each optimizer step       l1, elastic net, max-norm
    should_stop(history, metric)       after each epoch                early stopping
    chosen_epoch(history, metric)      at the end                      early stopping
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from descend.errors import KnobError
from descend.regularize.norm import NormPolicy
from descend.technique import Technique

Parameters = Mapping[str, Tensor]
History = Mapping[str, Sequence[float]]
A = TypeVar("A")


class Regularizer(Technique, family="regularizer"):
    """The base of every regularizer: all moments, doing nothing.

    neutral: knobs at which the technique changes nothing, to the bit; or the reason why it has none.
    not_with: names of techniques that it must not be combined with, each with the reason.
    needs_norm: the norm policy of the part that trains without which the technique has no effect; None: any.
    balances: whether it makes rare classes count more than they are common.
    """

    neutral: ClassVar[Mapping[str, Any] | str]
    not_with: ClassVar[Mapping[str, str]] = {}
    needs_norm: ClassVar[NormPolicy | None] = None
    balances: ClassVar[bool] = False

    def optimizer_knobs(self) -> dict[str, float]:
        """Return the knobs of the optimizer's rule that this technique sets."""
        return {}

    def loss_knobs(self) -> dict[str, float | str]:
        """Return the knobs of the loss that this technique sets."""
        return {}

    def class_weights(self, counts: ArrayLike) -> Tensor | None:
        """Return the loss's weight of each class, (K,) float32, or None for none.

        counts: (K,) whole, the training samples of each class.
        """
        del counts
        return None

    def install(self, model: nn.Module, seed: int) -> nn.Module:
        """Return the model with this technique in it; ``model`` itself is changed. ``seed`` feeds its random layers.

        Raises ModelError where the model has no place for it.
        """
        del seed
        return model

    def epoch_rows(self, labels: ArrayLike, *, seed: int, epoch: int) -> NDArray[np.int64] | None:
        """Return the rows to visit in this epoch, (n,) int64 positions in ``labels``, or None for a permutation of all.

        labels: (N,) whole, of the training samples. They are a function of the arguments alone, so that a resumed epoch
        visits the same rows.
        """
        del labels, seed, epoch
        return None

    def extra_loss(self, model: nn.Module) -> Tensor | None:
        """Return a scalar to add to the loss of the forward pass that ``model`` has just made in training, or None."""
        del model
        return None

    def after_step(self, parameters: Parameters, lr: float) -> None:
        """Change parameters in place, right after the optimizer moved them by a step of rate ``lr``, that of their group.

        parameters: by name, as in ``dict(model.named_parameters())``.
        """

    def should_stop(self, history: History, metric: str | None = None) -> bool:
        """Return whether training ends now.

        history: per metric of the validation data, one number per epoch so far. metric: the one by which the run selects; None:
        the technique's own, or accuracy.
        """
        del history, metric
        return False

    def chosen_epoch(self, history: History, metric: str | None = None) -> int | None:
        """Return the epoch (from 0) whose weights are the result, or None to keep the last ones.

        history, metric: as for ``should_stop``.
        """
        del history, metric
        return None


def check_together(regularizers: Sequence[Regularizer]) -> None:
    """Raise KnobError for a technique that is given twice, or beside one that it must not be combined with."""
    for place, second in enumerate(regularizers):
        for first in regularizers[:place]:
            if first.name == second.name:
                raise KnobError(str(second), "must be given once", got=f"{first} too", fix="Keep one of the two.")
            reason = first.not_with.get(second.name) or second.not_with.get(first.name)
            if reason:
                raise KnobError(str(second), f"must not be combined with {first.name}: {reason}", fix="Keep one of the two.")


def merged_knobs(regularizers: Iterable[Regularizer], moment: Literal["optimizer_knobs", "loss_knobs"]) -> dict[str, float | str]:
    """Return the knobs that all regularizers together set at ``moment``. Raises KnobError where two set the same one."""
    merged: dict[str, float | str] = {}
    owner: dict[str, Regularizer] = {}
    for regularizer in regularizers:
        for knob, value in getattr(regularizer, moment)().items():
            if knob in owner:
                raise _twice(regularizer, knob, owner[knob])
            merged[knob], owner[knob] = value, regularizer
    return merged


def merged_class_weights(regularizers: Iterable[Regularizer], counts: ArrayLike) -> Tensor | None:
    """Return the class weights, (K,) float32, of the one regularizer that gives them, or None where none does.

    counts: (K,) whole. Raises KnobError where two give them; DataError for a class without samples.
    """
    return _only(regularizers, "the class weights", lambda regularizer: regularizer.class_weights(counts))


def merged_epoch_rows(
    regularizers: Iterable[Regularizer], labels: ArrayLike, *, seed: int, epoch: int
) -> NDArray[np.int64] | None:
    """Return the epoch's rows, (n,) int64, of the one regularizer that chooses them, or None: a permutation of all.

    labels: (N,) whole. Raises KnobError where two choose.
    """
    return _only(regularizers, "the rows of an epoch", lambda r: r.epoch_rows(labels, seed=seed, epoch=epoch))


def _only(regularizers: Iterable[Regularizer], what: str, value_of: Callable[[Regularizer], A | None]) -> A | None:
    value: A | None = None
    owner: Regularizer | None = None
    for regularizer in regularizers:
        given = value_of(regularizer)
        if given is None:
            continue
        if owner is not None:
            raise _twice(regularizer, what, owner)
        value, owner = given, regularizer
    return value


def _twice(second: Regularizer, what: str, first: Regularizer) -> KnobError:
    return KnobError(str(second), f"{what} must be set once", got=f"{first} sets it too", fix="Keep one of the two.")
