"""Study 7: from how many epochs on each family of augmentation pays.

    python benchmarks/study_augment.py               about four minutes on one quiet core; goes on where it was stopped

No augmentation against flip and crop, color, dropping and mixing, at 5, 20 and 60 epochs of a cosine. One rate of momentum for
all, which was not tuned for any; five seeds, and test is read once a run. Scaled down: 300 CIFAR-10 pictures, halved to 16 x 16,
and a convolutional network of three layers with batch norm. ``augment_study.py`` has 10,000 pictures of full size and 6 epochs,
where every family loses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from small_study import Runs, Seeds, Way, carry_out, judged

FAMILIES = {
    "none": (),
    "flip and crop": ("pad_crop(padding=2)", "flip()"),
    "color": ("color_jitter(brightness=0.4, contrast=0.4, saturation=0.4)",),
    "dropping": ("random_erasing(p=0.5)",),
    "mixing": ("mixup(alpha=0.2)",),
}
EPOCHS, RATE, N_TRAIN = (5, 20, 60), 0.05, 300
SEEDS = Seeds(tuning=())
PAIRS = [(family, "none") for family in FAMILIES if family != "none"]


def arms(epochs: int) -> dict[str, list[Way]]:
    """Return each family's ways within a budget."""
    same: dict[str, Any] = {"data": "cifar", "net": "conv norm", "width": 8, "batch": 50, "n_train": N_TRAIN, "epochs": epochs}
    return {family: [Way(optimizer=f"momentum(lr={RATE})", augment=texts, **same)] for family, texts in FAMILIES.items()}


def part(epochs: int) -> Callable[[Runs, bool], dict[str, Any]]:
    """Return what measures the families within a budget."""

    def measure(runs: Runs, quick: bool) -> dict[str, Any]:
        return judged(runs, arms(epochs), PAIRS, Seeds((), (0, 1)) if quick else SEEDS)

    return measure


CLAIM = "no figure is claimed: what each family of augmentation brings at three budgets"

if __name__ == "__main__":
    carry_out("study_augment", CLAIM, {f"{epochs} epochs": part(epochs) for epochs in EPOCHS}, __doc__)
