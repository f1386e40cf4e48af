"""Does label smoothing help on these pictures? Paired seeds and an interval, not a lone best run."""

import tempfile
from pathlib import Path

import descend
from descend.comparison import paired_seeds


def accuracy(seed: int, **settings: object) -> float:
    """Train shortly with one seed; return the validation accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        run = descend.fit("digits", seed=seed, epochs=2, out=Path(folder) / "run", **settings)
        assert run.record.val is not None
        return run.record.val["accuracy"]


runs = paired_seeds(
    {
        "plain": accuracy,
        "smooth": lambda seed: accuracy(seed, regularize=["label_smoothing(amount=0.1)"]),
    },
    seeds=range(3),
)
print(runs.verdict("smooth", "plain"))
