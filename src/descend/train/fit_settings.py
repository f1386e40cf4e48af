"""The settings of ``descend.fit`` as keyword arguments, so that an editor completes them and a type checker reads them.

The same names as in ``Recipe``, which says what each one does and checks its value; a test holds the two together. Where a recipe
holds a technique's text, the technique itself may be given, and a lone one stands for a list of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from descend.augment.transform import Augmentation
from descend.models.architecture import Architecture
from descend.optim.gradients import GradientStage
from descend.optim.rule import Rule
from descend.regularize.regularizer import Regularizer
from descend.schedule.shapes import Schedule
from descend.train.recipe import BackgroundChoice, EngineName, FeatureStages, FitChoice, Metric, NormPolicy, OnNan, Transfer
from descend.transfer.heads import Head


class FitSettings(TypedDict, total=False):
    """Every setting of a recipe but ``data``, which ``descend.fit`` takes first."""

    outside: bool | None
    corrections: str | None
    transfer: Transfer
    backbone: str | Architecture | None
    download: bool | None
    weights: str | None
    init: str | None
    head: str | Head | None
    feature_stages: FeatureStages | None
    freeze_to: str | None
    norm: NormPolicy | None
    layer_decay: float | None
    folds: int | None
    views: int | None
    augment: str | Augmentation | Sequence[str | Augmentation] | None
    regularize: str | Regularizer | Sequence[str | Regularizer] | None
    optimizer: str | Rule | None
    gradients: str | GradientStage | Sequence[str | GradientStage] | None
    schedule: str | Schedule | None
    engine: EngineName | None
    budget: str | None
    steps: Sequence[str] | None
    latency: str | None
    max_size: str | None
    epochs: int | None
    size: int | None
    batch_size: int | None
    snapshots: int | None
    checkpoint_every: str | None
    background: BackgroundChoice
    fit: FitChoice
    crop_pct: float | None
    metric: Metric | None
    on_nan: OnNan
    seed: int
    split_seed: int | None
    device: str
    threads: int | None
