"""What a regularizer is: a record of knobs that acts at one or more of six named moments of training.

The loop calls every moment of every regularizer; each technique fills in just what it is, the others do nothing.

    optimizer_knobs()                  before the optimizer is built   l2 sets its weight_decay
    loss_knobs()                       before the loss is built        label smoothing
    install(model, seed)               before the first step           drop layers, stochastic depth, ghost batches
    after_step(parameters, lr)         after each optimizer step       l1, elastic net, max-norm
    should_stop(history)               after each epoch                early stopping
    chosen_epoch(history)              at the end                      early stopping
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from descend.errors import KnobError
from descend.technique import Technique

Parameters = Mapping[str, Tensor]
History = Mapping[str, Sequence[float]]


class Regularizer(Technique, family="regularizer"):
    """The base of every regularizer: all moments, doing nothing."""

    def optimizer_knobs(self) -> dict[str, float]:
        """Return the knobs of the optimizer's rule that this technique sets."""
        return {}

    def loss_knobs(self) -> dict[str, float]:
        """Return the knobs of the loss that this technique sets."""
        return {}

    def install(self, model: nn.Module, seed: int) -> nn.Module:
        """Return the model with this technique in it; ``model`` itself is changed. ``seed`` feeds its random layers.

        Raises ModelError where the model has no place for it.
        """
        del seed
        return model

    def after_step(self, parameters: Parameters, lr: float) -> None:
        """Change parameters in place, right after the optimizer moved them by a step of learning rate ``lr``.

        parameters: by name, as in ``dict(model.named_parameters())``.
        """

    def should_stop(self, history: History) -> bool:
        """Return whether training ends now. history: per metric of the validation data, one number an epoch so far."""
        del history
        return False

    def chosen_epoch(self, history: History) -> int | None:
        """Return the epoch (from 0) whose weights are the result, or None to keep the last ones."""
        del history
        return None


def merged_knobs(regularizers: Iterable[Regularizer], moment: Literal["optimizer_knobs", "loss_knobs"]) -> dict[str, float]:
    """Return the knobs that all regularizers together set at ``moment``. Raises KnobError where two set the same one."""
    merged: dict[str, float] = {}
    owner: dict[str, Regularizer] = {}
    for regularizer in regularizers:
        for knob, value in getattr(regularizer, moment)().items():
            if knob in owner:
                raise KnobError(str(regularizer), f"{knob} must be set once", got=f"{owner[knob]} sets it too",
                                fix="Keep one of the two.")  # fmt: skip
            merged[knob], owner[knob] = value, regularizer
    return merged
