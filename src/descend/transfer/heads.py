"""What stands on top of a backbone: from one feature vector a picture to one number (logit) a class."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray
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
    """One fully connected layer.

        logits = W x + b        at the start W = 0, b = 0

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


@technique("logistic", source="Cox 1958, JRSS B 20, 215-242; penalty by cross-validation: Stone 1974, JRSS B 36, 111-147")
class Logistic(Linear):
    """One fully connected layer, fitted to the optimum of its penalized loss instead of trained step by step.

        minimize over W, b:   mean(cross-entropy(W z + b)) + strength / 2 * |W|^2        z: standardized features

    The default on cached features: seconds, no learning rate, no epochs, and no selection on the validation split, whose accuracy
    is therefore an honest estimate. Name an optimizer, a schedule, epochs or dropout to train ``linear`` instead.
    strength: of the penalty, in units of the mean loss; None chooses it by stratified cross-validation on the training pictures.
    folds: of that cross-validation.
    """

    strength: Annotated[float, Gt(0), Search(1e-5, 1.0, log=True)] | None = None
    folds: Annotated[int, Ge(2), Search(3, 10)] = 5

    @staticmethod
    def filled(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> nn.Linear:
        """Return the layer with these weights: (K, D) and (K,) float32."""
        layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")  # nothing is drawn
        layer.weight, layer.bias = nn.Parameter(torch.tensor(weight)), nn.Parameter(torch.tensor(bias))
        return layer


@technique("mlp", source="Rumelhart, Hinton & Williams 1986; dropout: Srivastava et al. 2014, JMLR 15")
class MLP(Head):
    """Two fully connected layers.

        logits = W2 dropout(relu(W1 x + b1)) + b2

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
