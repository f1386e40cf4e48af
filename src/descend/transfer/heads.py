"""What stands on top of a backbone: from one feature vector a picture to one number (logit) a class."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from typing import Annotated

from annotated_types import Ge, Lt
from torch import nn

from descend import rng
from descend.regularize.dropout import Dropout
from descend.technique import Search, Technique, technique


class Head(Technique, family="head"):
    """A map from features (B, D) float32 to logits (B, K) float32; ``build`` makes one with its own weights."""

    @abstractmethod
    def build(self, n_features: int, n_classes: int, seed: int) -> nn.Module:
        """Return a new head for D = ``n_features`` and K = ``n_classes``; its weights are a function of ``seed``."""


@technique("linear", source="logistic regression on the features: Cox 1958; as a transfer baseline: arXiv:1805.08974")
class Linear(Head):
    """One fully connected layer: ``logits = W x + b``, with W = 0 and b = 0 at the start.

    The loss is convex in W and b, so no other start is better, and the first prediction is "all classes alike".
    Prefer it: on features of a good backbone it is hard to beat, and it trains in seconds.
    """

    def build(self, n_features: int, n_classes: int, seed: int) -> nn.Module:
        """Return the layer, all zeros."""
        with rng.torch_drawn(seed, "init/head"):  # torch's layer draws weights before they are set to zero
            layer = nn.Linear(n_features, n_classes)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer


@technique("mlp", source="Rumelhart, Hinton & Williams 1986; dropout: Srivastava et al. 2014, JMLR 15")
class MLP(Head):
    """Two fully connected layers: ``logits = W2 dropout(relu(W1 x + b1)) + b2``.

    Prefer it to ``linear`` when classes are not separable by planes in feature space and there are some hundred pictures
    a class. W1 is drawn with variance 2 / n_features (He et al. 2015), W2 starts at zero like ``linear``.
    """

    hidden: Annotated[int, Ge(1), Search(64, 1024, log=True)] = 256
    dropout: Annotated[float, Ge(0), Lt(1), Search(0.0, 0.8)] = 0.5

    def build(self, n_features: int, n_classes: int, seed: int) -> nn.Module:
        """Return the two layers."""
        with rng.torch_drawn(seed, "init/head"):
            first, last = nn.Linear(n_features, self.hidden), nn.Linear(self.hidden, n_classes)
            nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        nn.init.zeros_(first.bias)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        dropout = Dropout(self.dropout, stream="head/dropout", seed=seed)
        return nn.Sequential(OrderedDict(first=first, act=nn.ReLU(), dropout=dropout, last=last))
