"""Several classifiers as one network: their probabilities averaged with fixed weights, each with its own view of the picture.

Every member reads the same normalized square picture. A member that was made for smaller pictures resizes it by itself
(``Backbone.view``), and one that was made for both sides of the mirror looks twice; so an ensemble is predicted with, exported
and measured like any single network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from descend.errors import ModelError
from descend.models.stages import Classifier


class Member(nn.Module):
    """One classifier of an ensemble. mirrored: whether its answer is the mean over the picture and its mirror image."""

    def __init__(self, classifier: Classifier, *, mirrored: bool) -> None:
        super().__init__()
        self.classifier, self.mirrored = classifier, mirrored

    def forward(self, x: Tensor) -> Tensor:
        """Return log probabilities: x (B, 3, S, S) float32, normalized -> (B, K) float32."""
        plain = log_softmax(self.classifier(x), 1)
        if not self.mirrored:
            return plain
        return torch.logaddexp(plain, log_softmax(self.classifier(x.flip(3)), 1)) - math.log(2)


class Ensemble(nn.Module):
    """A weighted mean of the members' probabilities, as logits: ``log sum_m w_m p_m(x)``.

    weights: positive, one per member; they are divided by their sum. Raises ModelError for no member, or members whose pictures
    are normalized differently.
    Source: linear opinion pool, Stone 1961, Annals of Mathematical Statistics 32, 1339-1342.
    """

    def __init__(self, members: Sequence[Member], weights: Sequence[float]) -> None:
        super().__init__()
        if not members or len(members) != len(weights) or min(weights) <= 0:
            raise ModelError("ensemble", "needs members, each with a weight above 0", got=list(weights))
        if len({(member.classifier.mean, member.classifier.std) for member in members}) > 1:
            raise ModelError("ensemble", "needs members that read the same normalized pictures")
        self.members = nn.ModuleList(members)
        self.weights = [weight / sum(weights) for weight in weights]

    @property
    def name(self) -> str:
        """The names of the backbones."""
        return " + ".join(dict.fromkeys(member.classifier.name for member in self._members))

    @property
    def mean(self) -> tuple[float, ...]:
        """The channels' means that pictures are normalized with."""
        return self._members[0].classifier.mean

    @property
    def std(self) -> tuple[float, ...]:
        """The channels' standard deviations that pictures are normalized with."""
        return self._members[0].classifier.std

    @property
    def _members(self) -> list[Member]:
        return [member for member in self.members if isinstance(member, Member)]

    def features(self, x: Tensor) -> Tensor:
        """Return the features of all members, one after the other: x (B, 3, S, S) float32, normalized -> (B, D) float32."""
        return torch.cat([member.classifier.backbone(x) for member in self._members], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return log probabilities: x (B, 3, S, S) float32, normalized -> (B, K) float32."""
        terms = [member(x) + math.log(weight) for member, weight in zip(self.members, self.weights, strict=True)]
        return torch.stack(terms).logsumexp(0)
