"""One textbook form per registered regularizer, under its registry name; written from the papers, importing nothing of descend.

What a form takes depends on what its technique does:

a layer in a network      ``form(net, **knobs) -> logits (B, K)``, or ``(logits, extra loss)``; ``net`` is the small network below
a term of the loss        ``form(logits (B, K), labels (B,), counts (K,), **knobs) -> the mean loss``
a knob of the optimizer   ``form(w, g, lr, **knobs) -> w`` after one step of plain SGD
a change after the step   ``form(w, lr, **knobs) -> w``, for a weight matrix (O, I)
rows of an epoch          ``form(labels (N,), **knobs) -> expected visits per class (K,)``
an end of training        ``form(history, **knobs) -> (epochs after which it ends or None, chosen epoch or None)``
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tests.oracles import regularize_forms as forms

Array = np.ndarray
Place = Callable[[Array], Array]
STAGES = ("backbone.stages.block0", "backbone.stages.block1")


def same(h: Array) -> Array:
    return h


@dataclass(frozen=True)
class Network:
    """conv, batch norm, relu; two blocks ``h + conv(h)``; the mean over places; a linear layer. All convolutions are 1x1.

    x (B, 3, H, W) float64; w: parameters by name; happens(place, n, p, per): (B, n) bool of events
    of probability p, or (1, n) per "batch".
    The remaining fields are the places that a technique may change.
    """

    x: Array
    w: dict[str, Array]
    happens: Callable[..., Array]
    training: bool
    groups: Sequence[int] = ()  # sizes of the groups that batch norm normalizes together; () for all
    after: tuple[Place, Place] = (same, same)  # stages
    branch: tuple[Place, Place] = (same, same)  # of the blocks
    features: Place = same
    weights: Callable[[str], tuple[Array, Array]] | None = None  # per layer: (B, O, I) and (B, O)

    def __call__(self) -> Array:
        h = self.stem()
        for name, after, branch in zip(STAGES, self.after, self.branch, strict=True):
            h = after(h + branch(self._linear(f"{name}.inner.0", h)))
        return self._linear("head", self.features(h.mean((2, 3))))

    def stem(self) -> Array:
        """The output of the only rectifier, (B, C, H, W)."""
        h = self._linear("backbone.stages.stem.conv", self.x)
        if self.training:
            h = forms.ghost_batch_norm(h, self.groups or [len(h)], 1e-5)
        else:
            mean, var = (self.w[f"backbone.stages.stem.norm.running_{name}"].reshape(1, -1, 1, 1) for name in ("mean", "var"))
            h = (h - mean) / np.sqrt(var + 1e-5)
        scale, shift = (self.w[f"backbone.stages.stem.norm.{name}"].reshape(1, -1, 1, 1) for name in ("weight", "bias"))
        return np.maximum(h * scale + shift, 0)

    def plain(self, layer: str) -> tuple[Array, Array]:
        """The weights of ``layer`` as they are, once: (1, O, I) and (1, O)."""
        w = self.w[f"{layer}.weight"]
        return w.reshape(1, len(w), -1), self.w[f"{layer}.bias"][None]

    def _linear(self, layer: str, h: Array) -> Array:
        w, b = (self.weights or self.plain)(layer)
        flat = h.reshape(*h.shape[:2], -1)  # (B, I, places)
        return ((w @ flat) + b[:, :, None]).reshape(len(h), w.shape[1], *h.shape[2:])

    def kept(self, place: str, n: int, p: float, per: str = "sample") -> Array:
        """1 for each of n units that stays, 0 for one that is dropped, (B, n) or (1, n)."""
        return (~self.happens(place, n, p, per)).astype(np.float64)


# ------------------------------------------------------------------------------------------------- layers in a network


def dropout(net: Network, *, p: float, mode: str) -> Array:
    def features(h: Array) -> Array:
        return _dropped(net, h, net.kept("head", h.shape[1], p), p, mode)

    return replace(net, features=features)()


def spatial_dropout(net: Network, *, p: float, mode: str) -> Array:
    def after(name: str) -> Place:
        return lambda h: _dropped(net, h, net.kept(name, h.shape[1], p)[:, :, None, None], p, mode)

    return replace(net, after=(after(STAGES[0]), after(STAGES[1])))()


def _dropped(net: Network, h: Array, kept: Array, p: float, mode: str) -> Array:
    if net.training:
        return h * kept / (1 - p) if mode == "inverted" else h * kept
    return h if mode == "inverted" else h * (1 - p)


def drop_block(net: Network, *, p: float, size: int) -> Array:
    def after(name: str) -> Place:
        def squares(h: Array) -> Array:
            b, c, height, width = h.shape
            side = min(size, height)  # the maps of this network are square
            rows, columns = height - side + 1, width - side + 1
            gamma = p / side**2 * height * width / (rows * columns)
            quiet = net.kept(name, rows * columns * c, min(gamma, 1.0)).reshape(b, rows, columns, c).transpose(0, 3, 1, 2)
            return np.stack([forms.drop_block(one, 1 - starts, side) for one, starts in zip(h, quiet, strict=True)])

        return squares if net.training else same

    return replace(net, after=(after(STAGES[0]), after(STAGES[1])))()


def dropconnect(net: Network, *, p: float, per: str, layers: str) -> Array:
    def weights(layer: str) -> tuple[Array, Array]:
        w, b = net.plain(layer)
        if not net.training or (layers == "head" and layer != "head"):
            return w, b
        kept = net.kept(layer, w.size + b.size, p, per) / (1 - p)
        return w * kept[:, : w.size].reshape(-1, *w.shape[1:]), b * kept[:, w.size :]

    return replace(net, weights=weights)()


def stochastic_depth(net: Network, *, last: float, per: str, mode: str) -> Array:
    def branch(block: int) -> Place:
        p = last * (block + 1) / len(STAGES)
        kept = net.kept(f"{STAGES[block]}.inner", 1, p, per)[:, :, None, None]
        return lambda h: _dropped(net, h, kept, p, mode)

    return replace(net, branch=(branch(0), branch(1)))()


def ghost_batch_norm(net: Network, *, size: int) -> Array:
    n = len(net.x)
    groups = [size] * (n // size)
    if n % size:
        groups = [*groups, n % size] if not groups or 2 * (n % size) >= size else [*groups[:-1], groups[-1] + n % size]
    return replace(net, groups=groups)()


def kl_sparsity(net: Network, *, target: float, strength: float, layers: Sequence[str]) -> tuple[Array, float]:
    del layers  # the network has one rectifier
    h = net.stem()
    rate = (h / (1 + h)).mean((0, 2, 3))
    divergence = target * np.log(target / rate) + (1 - target) * np.log((1 - target) / (1 - rate))
    return net(), float(strength * divergence.sum()) if net.training else 0.0


# ------------------------------------------------------------------------------------------------- terms of the loss


def label_smoothing(logits: Array, labels: Array, counts: Array, *, amount: float) -> float:
    return forms.cross_entropy(logits, np.eye(len(counts))[labels], smoothing=amount, weights=np.ones(len(counts)), focal=0)


def focal(logits: Array, labels: Array, counts: Array, *, gamma: float) -> float:
    return forms.cross_entropy(logits, np.eye(len(counts))[labels], smoothing=0, weights=np.ones(len(counts)), focal=gamma)


def class_weights(logits: Array, labels: Array, counts: Array, *, beta: float) -> float:
    w = forms.effective_number_weights([int(n) for n in counts], beta)
    log_p = np.log(forms.softmax(logits))
    terms = [w[y] * -log_p[i, y] for i, y in enumerate(labels)]
    return float(sum(terms) / len(labels))


# ------------------------------------------------------------------------------------------------- weights


def l2(w: Array, g: Array, lr: float, *, strength: float) -> Array:
    return w - lr * (g + strength * w)


def l1(w: Array, lr: float, *, strength: float) -> Array:
    return forms.soft_threshold(w, lr * strength)


def elastic_net(w: Array, lr: float, *, l1: float, l2: float) -> Array:
    return forms.soft_threshold(w, lr * l1) / (1 + lr * l2)


def max_norm(w: Array, lr: float, *, limit: float) -> Array:
    del lr
    return np.stack([row * min(1.0, limit / np.sqrt((row**2).sum())) for row in w])


# ------------------------------------------------------------------------------------------------- epochs


def balanced_sampling(labels: Array, *, power: float) -> Array:
    counts = np.bincount(labels).astype(np.float64)
    shares = counts ** (1 - power)
    return len(labels) * shares / shares.sum()


def early_stopping(history: dict[str, list[float]], *, patience: int, min_delta: float, metric: str | None,
                   restore: bool) -> tuple[int | None, int | None]:  # fmt: skip
    scores = [-score if metric == "loss" else score for score in history[metric or "accuracy"]]
    end = None
    best, at = -np.inf, -1  # the last epoch that gained
    for epoch, score in enumerate(scores):
        if score > best + min_delta:
            best, at = score, epoch
        if epoch - at >= patience and end is None:
            end = epoch + 1
    return end, (max(range(len(scores)), key=lambda epoch: scores[epoch]) if restore else None)
