"""Asking a trained network about pictures: once, over several views (test-time augmentation), or over random masks."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descend.augment import Augmentation, Pipeline, TestTime
from descend.errors import KnobError, MissingExtra, check_count
from descend.models import Classifier, Ensemble
from descend.regularize import monte_carlo
from descend.train.evaluate import probabilities, vectors
from descend.train.inference_result import Floats, InferenceResult
from descend.train.record import RunRecord
from descend.transfer import Engine, make_engine

AGREEMENT = 1e-9  # nats: passes that draw no mask disagree by rounding at most


class Inference:
    """Asks ``network`` about stored pictures, as the record of its run says they must be prepared.

    The frozen part runs in the engine that it ran in during training, so that the answers to the run's own pictures are those of
    the training to the bit; where that engine is not installed, torch computes it, and answers agree to rounding.

    tta: spec text of test-time views whose probabilities are averaged, or None for the plain one. mc: random passes over every
    kind of dropout, averaged, or None for the usual weight-scaled pass. Both together average over every view of every pass.
    Raises KnobError where ``mc`` is not a whole number >= 2, or (at the first pictures) where the network has nothing random.
    """

    def __init__(
        self, network: Classifier | Ensemble, record: RunRecord, *, tta: str | None = None, mc: int | None = None
    ) -> None:
        if mc is not None:
            check_count("mc", mc, least=2)
        self.mc, self.seed, self.record = mc, record.seed, record
        self.engine, self.module = _parts(network, record)
        self._body = _without_head(self.module)
        tapped = record.frozen_part is not None and bool(record.frozen_part["taps"])
        self.n_columns = (
            network.backbone.n_features if tapped and isinstance(network, Classifier) else None
        )  # of the engine's, counted from the last; None: all
        out = "float" if self.engine is None else "uint8"
        self._plain = plain = as_trained(record, out=out)
        self._views: TestTime | None = None
        if tta is not None:
            trained_with = record.specs("augment")
            self._views = TestTime(
                tta, seed=record.seed, size=plain.size, out=out, mean=plain.mean, std=plain.std, augment=trained_with
            )

    def __call__(self, images: NDArray[np.uint8], *, alone: bool = False) -> InferenceResult:
        """Answer: images (B, R, R, 3) uint8, stored as in training. alone: as in ``evaluate.probabilities``."""
        ids = _ids(images)
        if self.mc is None and self._views is None:
            plain = probabilities(self.module, self._inputs(images, ids), alone=alone)
            return InferenceResult(self.record.calibrated(plain))
        mean, pass_entropy = torch.zeros(()), torch.zeros(())  # float64 from the first view on
        for n, inputs in enumerate(self._inputs(images, ids), start=1):
            p, entropy = self._one_view(inputs, ids, alone)
            mean = mean + (p - mean) / n
            pass_entropy = pass_entropy + (entropy - pass_entropy) / n
        entropy = torch.special.entr(mean).sum(1)
        shared = (entropy - pass_entropy).clamp_min(0)
        return InferenceResult(*(value.float().numpy() for value in (mean, entropy, shared)))

    def features(self, images: NDArray[np.uint8], *, alone: bool = False) -> Floats:
        """Return what the head reads of the plain view: images (B, R, R, 3) uint8, stored as in training -> (B, D) float32."""
        return vectors(self._body, self._inputs(images, _ids(images)), alone=alone)

    def _inputs(self, images: NDArray[np.uint8], ids: NDArray[np.int64]) -> Iterator[Tensor]:
        """Yield what the trained part reads, one batch per view."""
        views = iter([self._plain(images, ids=ids, epoch=0)]) if self._views is None else self._views.views(images, ids)
        for view in views:
            if self.engine is None:
                yield view
            else:
                features = self.engine(view.numpy())
                yield torch.from_numpy(features if self.n_columns is None else features[:, -self.n_columns :])

    def _one_view(self, inputs: Tensor, ids: NDArray[np.int64], alone: bool) -> tuple[Tensor, Tensor]:
        """Return probabilities (B, K) of one view and the mean entropy (B,) of the single passes behind them, float64."""
        if self.mc is None:
            p = torch.from_numpy(self.record.calibrated(probabilities(self.module, [inputs], alone=alone))).double()
            return p, torch.special.entr(p).sum(1)
        passes = monte_carlo(_AtTemperature(self.module, self.record.temperature), inputs, self.mc, seed=self.seed, ids=ids)
        if float(passes.mutual_information.max()) < AGREEMENT:
            raise KnobError("mc", "has no effect: the network has no random layer", got=self.mc,
                            fix='Train with --regularize "dropout(p=0.2)", for example, or leave it out.')  # fmt: skip
        return passes.probabilities, passes.predictive_entropy - passes.mutual_information


class _AtTemperature(nn.Module):
    """A network whose logits are divided by a temperature."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) / self.temperature


def _parts(network: Classifier | Ensemble, record: RunRecord) -> tuple[Engine | None, nn.Module]:
    """Return the engine of the frozen part, None where there is none, and what follows it."""
    if record.frozen_part is None or isinstance(network, Ensemble):
        return None, network
    stage = record.frozen_part["stage"]
    make = partial(make_engine, backbone=network.backbone, size=record.preparation()["size"], stage=stage,
                   taps=record.frozen_part["taps"])  # fmt: skip
    try:
        engine = make(record.frozen_part["engine"])
    except MissingExtra:
        engine = make("torch")
    return engine, nn.Sequential(OrderedDict(stages=network.backbone.suffix(stage), head=network.head))


class _Features(nn.Module):
    """The features of an ensemble: of all its members."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, x: Tensor) -> Tensor:
        return self.ensemble.features(x)


def _without_head(module: nn.Module) -> nn.Module:
    """Return the part of a network, or of what follows its frozen part, that stands before the head."""
    if isinstance(module, Ensemble):
        return _Features(module)
    return module.backbone if isinstance(module, Classifier) else module.get_submodule("stages")


def as_trained(
    record: RunRecord, transforms: Sequence[Augmentation] = (), *, seed: int = 0, out: Literal["float", "uint8"] = "float"
) -> Pipeline:
    """Return what turns stored pictures into the inputs of a run's network: its size and constants, the plain view by default."""
    prepared = record.preparation()
    mean, std = rgb(prepared["mean"]), rgb(prepared["std"])
    return Pipeline(transforms, seed=seed, size=prepared["size"], out=out, mean=mean, std=std)


def _ids(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return a number for each picture that depends on its pixels alone, so that draws do not depend on its place in a list."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images]
    return np.frombuffer(b"".join(digests), np.int64) & np.iinfo(np.int64).max


def rgb(values: Sequence[float]) -> tuple[float, float, float]:
    """Return three numbers as a tuple of three."""
    red, green, blue = values
    return red, green, blue
