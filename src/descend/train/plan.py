"""A run, decided: every setting has its value, as an object where it is a technique, and its reason where it was left open.

The plan is complete: ``plan.recipe()`` is written to the run folder and trains the same run again. ``resolve`` makes it.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace

from descend.augment import Augmentation
from descend.data.shapes import SQUARE, CropLoss
from descend.models import Architecture
from descend.optim import GradientStage, Rule, with_default_knobs
from descend.pixels import Fit
from descend.regularize import CrossEntropy, NormPolicy, Regularizer, merged_knobs
from descend.schedule import Schedule
from descend.technique import Technique, spec
from descend.train.recipe import BackgroundChoice, OnNan, Recipe, Setting
from descend.train.record_types import Metric
from descend.transfer import Head


@dataclass(frozen=True)
class DataProfile:
    """What the defaults depend on in the data."""

    name: str
    n_train: int
    n_classes: int
    side: int  # pixels: the median shorter side
    gray: bool
    crop_loss: CropLoss = SQUARE


@dataclass(frozen=True)
class Plan:
    """A run, decided. Texts of techniques are objects now; ``reasons`` says why each open setting became what it is."""

    transfer: str
    backbone: Architecture
    download: bool | None
    weights: str | None
    init: str | None
    head: Head
    feature_stages: str
    folds: int | None
    freeze_to: str | None
    norm: NormPolicy
    layer_decay: float
    views: int
    augment: tuple[Augmentation, ...]
    regularize: tuple[Regularizer, ...]
    optimizer: Rule
    rule: Rule  # the optimizer before regularizers set knobs in it: a recipe must not set them twice
    gradients: tuple[GradientStage, ...]
    schedule: Schedule
    engine: str
    epochs: int
    size: int
    fit: Fit
    crop_pct: float | None  # None: as the backbone's weights were trained for
    batch_size: int
    snapshots: int | None
    checkpoint_every: str | None
    background: BackgroundChoice
    metric: Metric
    on_nan: OnNan
    seed: int
    split_seed: int | None
    device: str
    threads: int | None
    data: str | None
    outside: bool | None
    corrections: str | None
    budget: str | None
    steps: tuple[str, ...] | None
    latency: str | None
    max_size: str | None
    settings: frozenset[str]  # of the recipe: those that apply to the transfer mode
    reasons: dict[str, str] = field(default_factory=dict)
    open_settings: dict[str, Setting] = field(default_factory=dict)  # to be measured yet, with what was asked: so in the recipe

    def recipe(self) -> Recipe:
        """Return the complete recipe of this plan: every setting that has an effect, none that has not."""
        values = {name: _text(self.rule if name == "optimizer" else getattr(self, name)) for name in self.settings}
        set_elsewhere = merged_knobs(self.regularize, "optimizer_knobs")
        if "optimizer" in values and set_elsewhere:  # its text must not set again what a regularizer sets
            values["optimizer"] = str(with_default_knobs(self.rule, set_elsewhere))
        values |= self.open_settings
        return Recipe(**{name: value for name, value in values.items() if value is not None})  # pyright: ignore[reportArgumentType] (pydantic checks)

    def decided(self, setting: str, value: str | float | tuple[Augmentation, ...], reason: str) -> Plan:
        """Return the plan with ``auto``, or a default, replaced by what was measured to be best."""
        return replace(self, reasons=self.reasons | {setting: reason}, **{setting: value})  # pyright: ignore[reportArgumentType] (a setting of the plan)

    @property
    def limited(self) -> bool:
        """Whether what may be shipped is limited."""
        return self.latency is not None or self.max_size is not None

    def loss(self) -> CrossEntropy:
        """Return the one loss, with the knobs that regularizers set in it."""
        return CrossEntropy(**merged_knobs(self.regularize, "loss_knobs"))  # pyright: ignore[reportArgumentType] (pydantic checks)

    def describe(self) -> dict[str, Setting]:
        """Return the plan as plain text, for the record and the report."""
        return {name: _text(getattr(self, name)) for name in sorted(self.settings | {"norm"})}

    def lines(self, asked: Recipe, *, untold: Container[str] = ()) -> list[str]:
        """Return the plan as lines for a terminal: each setting with its reason; those asked for say so. untold: left out."""
        lines: list[str] = []
        for name, value in self.describe().items():
            reason = self.reasons.get(name)
            if name in untold or (reason is None and getattr(asked, name) == getattr(Recipe(), name)):
                continue
            shown = " ".join(value) if isinstance(value, tuple) else value
            lines.append(f"  {name:<10} {shown or 'none'}  ({reason or 'as asked'})")
        return lines


def _text(value: Setting | Technique | tuple[Technique, ...]) -> Setting:
    """Return techniques as text with every knob, for the defaults of another version may be others."""
    if isinstance(value, tuple):
        return tuple(spec(item, defaults=True) if isinstance(item, Technique) else item for item in value)
    return spec(value, defaults=True) if isinstance(value, Technique) else value
