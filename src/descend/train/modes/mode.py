"""What a transfer mode is: which settings apply, the default of each with its reason, what is refused, and what is trained.

A mode is one file in this package with one subclass of ``Mode``, and one line in ``modes/__init__.py``. ``resolve`` asks it
for defaults (``default_epochs``, ``default_size``, ...: one method per setting, inherited where modes agree) and lets it refuse
what it cannot use; ``prepare`` asks which modules it trains and for its task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from torch import nn

from descend.augment import Augmentation, Normalize, expand, policy_for
from descend.data.shapes import fit_for
from descend.errors import KnobError
from descend.models import Architecture, Backbone, Classifier
from descend.regularize import Regularizer
from descend.technique import knobs
from descend.train.plan import DataProfile, Plan
from descend.train.recipe import USUAL, Recipe, names_asked
from descend.train.task_builder import ModeTask, TaskBuilder
from descend.transfer import Head, Logistic

ALWAYS = frozenset(
    {"data", "outside", "corrections", "transfer", "metric", "on_nan", "seed", "split_seed", "device", "threads", "init"}
    | {"snapshots", "checkpoint_every", "background", "fit", "crop_pct"}
)
TRAINING = frozenset(
    {"backbone", "head", "augment", "regularize", "optimizer", "gradients", "schedule", "epochs", "size", "batch_size"}
)
SMALL_SIDE = 64  # pixels: below this an ImageNet backbone sees mostly interpolation, and a small network trains in minutes

Chosen = Mapping[str, Any]
"""The settings chosen so far, in the order of ``resolve``: techniques as objects."""


class Default(NamedTuple):
    """The value of a setting that nobody asked for, and why; ``reason`` is printed beside it."""

    value: Any
    reason: str


class Mode(ABC):
    """One way of using a backbone.

    name: what ``--transfer`` calls it. settings: the names of the recipe's settings that have an effect. Each of them has a
    method ``default_<setting>(data, chosen)``, unless None is its default.
    """

    name: ClassVar[str]
    instead: ClassVar[str] = ""  # what to do about a setting that this form of a mode does not have
    settings: ClassVar[frozenset[str]] = ALWAYS | TRAINING

    def suits(self, data: DataProfile, asked: Recipe) -> str | None:
        """Return why this mode is the default for these pictures and what was asked for, or None where it is not."""
        del data, asked
        return None

    def described(self) -> str:
        """Return the setting that chose this form of the mode, for an error."""
        return f"transfer={self.name!r}"

    def variant(self, asked: Recipe) -> Mode:
        """Return the form of this mode that serves what was asked for: itself, unless settings decide between two."""
        del asked
        return self

    # ------------------------------------------------------------------------------------------------------ defaults

    @abstractmethod
    def default_backbone(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the architecture's spec text."""

    @abstractmethod
    def default_size(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the side of what the network sees, pixels."""

    def default_fit(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return how pictures become square: the center, unless that loses most of many of them."""
        del chosen
        return Default(*fit_for(data.crop_loss))

    @abstractmethod
    def default_augment(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return spec texts of augmentations."""

    @abstractmethod
    def default_optimizer(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the rule's spec text."""

    @abstractmethod
    def default_epochs(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the number of epochs."""

    @abstractmethod
    def default_norm(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return what batch norms do."""

    def augment_by_size(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the augmentation for ``--augment auto``: a policy by the size of the data set."""
        del chosen
        name, why = policy_for(data.n_train, side=data.side, gray=data.gray)
        return Default((name,), why)

    def default_head(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the head's spec text."""
        del data, chosen
        return Default("linear()", "one linear layer is hard to beat on good features")

    def default_metric(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return what suits the regularizers."""
        del data
        return usual_metric(chosen["regularize"])

    def default_schedule(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the schedule's spec text."""
        del data, chosen
        return Default("then(warmup(fraction=0.05), cosine())", "short warm-up, then down to zero")

    def default_engine(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return what runs the frozen part."""
        del data, chosen
        return Default("auto", "the fastest engine on this machine")

    def default_batch_size(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return pictures per step."""
        del chosen
        return Default(min(self.batch_size_for(data), data.n_train), "small enough for many steps, large enough to be quick")

    def batch_size_for(self, data: DataProfile) -> int:
        """Return pictures per step where the data set has as many."""
        del data
        return 32

    # ------------------------------------------------------------------------------------------- what is refused and why

    def prepared(self, architecture: Architecture, asked: Recipe) -> Architecture:
        """Return the architecture with the weights that the mode begins from; KnobError where it cannot."""
        if asked.weights is not None or asked.init is not None:
            return with_pretrained(architecture, False)  # they come from the file or the run: none are fetched
        if not getattr(architecture, "pretrained", False):
            raise KnobError("backbone", f"must be pretrained with transfer={self.name!r}", got=str(architecture),
                            fix="Use --transfer scratch, a pretrained backbone such as lite0, or --weights FILE.")  # fmt: skip
        return architecture

    def check_head(self, head: Head, chosen: Chosen) -> None:
        """Raise KnobError for a head that the mode cannot use."""
        del chosen
        if isinstance(head, Logistic):
            raise KnobError("head", f"is fitted on cached features, not with transfer={self.name!r}", got=str(head),
                            fix="Use --transfer features, or --head linear.")  # fmt: skip

    def check_augment(self, augment: tuple[Augmentation, ...], chosen: Chosen) -> None:
        """Raise KnobError for augmentations that the mode cannot use."""
        if sum(isinstance(item, Normalize) for item in augment) > 1:
            raise KnobError("augment", "must normalize once", got=[str(item) for item in augment])
        del chosen

    def check_network(self, network: Classifier, plan: Plan) -> None:
        """Raise KnobError for a setting of the plan that changes nothing in this network."""
        del network, plan

    # ------------------------------------------------------------------------------------------------- what is trained

    @abstractmethod
    def trained_modules(self, network: Classifier, plan: Plan) -> list[nn.Module]:
        """Return the parts of the network whose parameters training moves."""

    def taps(self, backbone: Backbone, plan: Plan) -> tuple[str, ...]:
        """Return the stages whose pooled outputs the frozen engine gives beside the features."""
        del backbone, plan
        return ()

    def crop_margin(self, network: Classifier) -> float:
        """Return the side of the evaluation crop, as a fraction of a stored picture that is its center square."""
        return network.backbone.crop_fraction

    @abstractmethod
    def task(self, builder: TaskBuilder) -> ModeTask:
        """Return what the loop trains, and how to feed it."""


def asked_beyond(asked: Recipe, settings: frozenset[str]) -> list[str]:
    """Return the names of the settings that were asked for and are not among ``settings``."""
    return [name for name in names_asked(asked) if name not in settings]


def usual_metric(regularize: Iterable[Regularizer]) -> Default:
    """Return what selects the epoch where nobody says: the balanced accuracy where a technique makes rare classes count.

    By the accuracy, the epoch before such a technique has taken hold would be kept: everything is called common there.
    """
    balancing = next((item.name for item in regularize if item.balances), None)
    if balancing is None:
        return Default(USUAL["metric"], "")
    return Default("balanced_accuracy", f"{balancing} makes rare classes count, and so does this")


def varies_pictures(asked: Recipe) -> bool:
    """Return whether augmentation was asked for by name; ``auto`` leaves it to the mode."""
    if asked.augment is None or asked.augment == ("auto",):
        return False
    return any(not isinstance(item, Normalize) for item in expand(asked.augment))


def with_pretrained(architecture: Architecture, pretrained: bool) -> Architecture:
    """Return the architecture with its knob ``pretrained`` set, or as it is where it has none."""
    if all(knob.name != "pretrained" for knob in knobs(type(architecture))):
        return architecture
    return replace(architecture, pretrained=pretrained)  # pyright: ignore[reportArgumentType] (every technique is a dataclass)


def mirroring(data: DataProfile) -> tuple[tuple[str, ...], str]:
    """Return whether pictures may be mirrored by default, as spec texts, and why."""
    if data.gray:
        return (), "no mirroring, gray pictures are often signs"
    return ("flip(p=0.5)",), "mirrored where that changes no labels"


def random_crops(data: DataProfile, *, smallest: float) -> Default:
    """Return random crops of ``smallest`` to 1 of the area, mirrored where pictures may be."""
    mirror, why = mirroring(data)
    return Default((f"random_resized_crop(scale_range=[{smallest}, 1.0])", *mirror), f"random crops; {why}")
