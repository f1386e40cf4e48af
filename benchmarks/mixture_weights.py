"""Whether a trained network must earn its weight beside a head on validation, or keeps it until validation speaks against it.

    python benchmarks/mixture_weights.py

Simulated: labels of two classes; logits of a head and of a trained network, each the label times a quality plus noise, a part of
which they share; the network is too sure or too doubtful by a factor, and its temperature is fitted to the validation pictures
as a search does. Validation pictures weigh them by ``search.mixture``, as it is, and with the network left
out where labels are not likelier with it by what was fitted to them for it (its weight and its temperature: Akaike 1974). Told is
what the answer then loses, and gets wrong, on 20,000 other pictures: means over 100 draws of validation.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from descend.search.mixture import mixed, nats, weights
from descend.train.calibration import fit_temperature
from harness import save

Floats = NDArray[np.float32]

SIZES = (37, 150, 310, 1500)
QUALITIES = {
    "a network three times as wrong": (3.2, 2.6),
    "a little worse": (3.2, 3.0),
    "as good": (3.2, 3.2),
    "a little better": (3.2, 3.4),
    "far better": (3.0, 3.6),
    "as good, where one in eight is wrong": (1.6, 1.6),
    "a little better, where one in 500 is wrong": (4.1, 4.4),
}  # head, network
FITTED = 2  # numbers, to validation: the network's weight and its temperature
SHARED, N_JUDGED, N_DRAWS = (0.5, 0.8), 20_000, 100
TOO_SURE = 0.4  # standard deviation of the logarithm of the factor by which the network's logits are too large


def drawn(
    rng: np.random.Generator, n: int, qualities: tuple[float, float], shared: float
) -> tuple[NDArray[np.int64], list[Floats]]:
    """Return labels (n,) and what head and network answer, two arrays (n, 2) of probabilities."""
    labels = rng.integers(2, size=n)
    common = np.sqrt(shared) * rng.normal(size=(n, 2))
    answers: list[Floats] = []
    for quality in qualities:
        logits = quality * (quality * np.eye(2)[labels] + common + np.sqrt(1 - shared) * rng.normal(size=(n, 2)))
        answers.append(softmax(logits, axis=1).astype(np.float32))
    return labels, answers


def sharpened(p: Floats, power: float) -> Floats:
    """Return probabilities whose logits are multiplied by a number."""
    logits = power * np.log(np.maximum(p.astype(np.float64), np.finfo(np.float32).tiny))
    return softmax(logits, axis=1).astype(np.float32)


def earned(answers: list[Floats], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the weights where a network must make labels likelier by ``FITTED``, and a head leaves at the same price."""
    w, alone = weights(answers, labels), np.eye(2)
    together, head, network = (nats(answers, one, labels) for one in (w, *alone))
    if head - together < FITTED:
        return alone[0]
    return alone[1] if w[0] == 0 or together - network > FITTED else w


def compared(n: int, qualities: tuple[float, float], shared: float) -> dict[str, Any]:
    """Return loss and accuracy of both rules, of the head alone and of the network alone, and how often each leaves it out."""
    rng, alone = np.random.default_rng(0), np.eye(2)
    judged, answers_judged = drawn(rng, N_JUDGED, qualities, shared)
    found: dict[str, list[list[float]]] = {"as it is": [], "earned": [], "head alone": [], "network alone": []}
    for _ in range(N_DRAWS):
        labels, (head, network) = drawn(rng, n, qualities, shared)
        factor = np.exp(TOO_SURE * rng.normal())
        temperature = fit_temperature(sharpened(network, factor), labels)
        answers, asked = ([of_head, sharpened(of_network, factor / temperature)]
                          for of_head, of_network in ((head, network), answers_judged))  # fmt: skip
        for rule, w in zip(found, (weights(answers, labels), earned(answers, labels), *alone), strict=True):
            wrong = mixed(asked, w).argmax(1) != judged
            found[rule].append([nats(asked, w, judged) / N_JUDGED, float(wrong.mean()), float(w[1] == 0)])
    names = ("loss", "wrong", "network_left_out")
    return {rule: dict(zip(names, np.mean(values, 0).round(5).tolist(), strict=True)) for rule, values in found.items()}


def main() -> None:
    claim = (
        "a network that keeps its weight until validation speaks against it by a nat answers better than one that must earn it"
    )
    cases = product(SIZES, QUALITIES.items(), SHARED)
    save("mixture_weights", claim, {f"{n} pictures, {name}, {shared:.0%} of noise shared": compared(n, q, shared)
                                    for n, (name, q), shared in cases})  # fmt: skip


if __name__ == "__main__":
    main()
