"""Whether the head that a search's answer starts from should be left out as soon as validation is likelier without it.

    python benchmarks/mixture_weights.py

Simulated: labels of two classes; logits of a head and of a trained network, each the label times a quality plus noise, half of
which they share; both are calibrated. Validation pictures weigh them by ``search.mixture``, as it is and with the head left out
where both have a weight and the network alone is likelier. Told is what the answer then loses on 20,000 other pictures: means
over 300 draws of validation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.search.mixture import FITTED, mixed, nats, weights
from harness import save

Floats = NDArray[np.float32]

SIZES = (37, 100, 310, 1500)
QUALITIES = {
    "a network a little worse": (3.2, 3.0),
    "as good": (3.2, 3.2),
    "a little better": (3.2, 3.4),
    "far better": (3.0, 3.6),
}  # head, network
SHARED, N_JUDGED, N_DRAWS = 0.5, 20_000, 300


def drawn(rng: np.random.Generator, n: int, qualities: tuple[float, float]) -> tuple[NDArray[np.int64], list[Floats]]:
    """Return labels (n,) and what head and network answer, two arrays (n, 2) of probabilities."""
    labels = rng.integers(2, size=n)
    common = np.sqrt(SHARED) * rng.normal(size=(n, 2))
    answers: list[Floats] = []
    for quality in qualities:
        logits = quality * (quality * np.eye(2)[labels] + common + np.sqrt(1 - SHARED) * rng.normal(size=(n, 2)))
        powers = np.exp(logits - logits.max(1, keepdims=True))
        answers.append((powers / powers.sum(1, keepdims=True)).astype(np.float32))
    return labels, answers


def compared(n: int, qualities: tuple[float, float]) -> dict[str, Any]:
    """Return loss and accuracy of both rules, and how often each leaves the head out."""
    rng, alone = np.random.default_rng(0), np.array([0.0, 1.0])
    judged, answers_judged = drawn(rng, N_JUDGED, qualities)
    found: dict[str, list[list[float]]] = {"as it is": [], "left out where likelier": []}
    for _ in range(N_DRAWS):
        labels, answers = drawn(rng, n, qualities)
        w = weights(answers, labels)
        likelier = w.min() > 0 and nats(answers, alone, labels) < nats(answers, w, labels)
        for rule, chosen in zip(found, (w, alone if likelier else w), strict=True):
            right = mixed(answers_judged, chosen).argmax(1) == judged
            found[rule].append([nats(answers_judged, chosen, judged) / N_JUDGED, float(right.mean()), float(chosen[0] == 0)])
    names = ("loss", "accuracy", "left_out")
    return {rule: dict(zip(names, np.mean(values, 0).round(5).tolist(), strict=True)) for rule, values in found.items()}


def main() -> None:
    claim = f"a head that must cost {FITTED} nats before it is left out leaves answers that are right as often or more often"
    save("mixture_weights", claim, {f"{n} pictures, {name}": compared(n, q) for n in SIZES for name, q in QUALITIES.items()})


if __name__ == "__main__":
    main()
