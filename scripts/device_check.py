"""Hold a GPU's results to those of the processor, in every mode, and tell the pictures per second of both.

    scripts/device_check                   the first GPU that torch finds (cuda, then mps)
    scripts/device_check --device cpu      the processor against itself: the same bits

Both train the same recipe on the same generated pictures, from the same seed and with the same engine for frozen parts, which
runs on the processor in both. The search takes the steps that it is told, so that no clock decides. Then the processor answers
all pictures with both models. Two numbers are held to the tolerance: the largest difference of a probability, and the relative
difference of the last epoch's training loss. Differences are not zero on a GPU: its kernels add in another order, and torch lets
cuDNN multiply in TF32 (10 bits). Plain SGD is what trains, for Adam's first steps turn the last bit of a small gradient into its
sign.

Exit status: 0 within the tolerance, or where there is no GPU (a sentence says so); 1 beyond it; 2 where the device cannot be
used.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TOLERANCE = 0.02  # of a probability, and of the training loss relative to its size
SIDE = 64  # pixels of the generated pictures
N_STEPS, BATCH = 6, 8
_TRAINED = {"augment": ["flip"], "optimizer": "sgd(lr=0.01)", "batch_size": BATCH, "size": SIDE}
MODES: dict[str, dict[str, Any]] = {
    "features": {"head": "mlp(hidden=16)", "engine": "torch", **_TRAINED, "augment": []},
    "head": {"engine": "torch", **_TRAINED},
    "finetune": {"engine": "torch", **_TRAINED},
    "scratch": {"backbone": "resnet9(width=8)", **_TRAINED},
    "auto": {
        "engine": "torch",
        "steps": [
            f"features(size={SIDE})",
            f"finetune(size={SIDE}, freeze_to='block1', lr=0.002, n_steps={N_STEPS}, batch_size={BATCH})",
        ],
    },
}  # every knob that could be chosen by measuring speed is given


@dataclass(frozen=True)
class Trained:
    """What a run gave. probabilities: (N, K). loss: of the last epoch, None where none are counted. rate: pictures per second."""

    probabilities: NDArray[np.floating[Any]]
    loss: float | None
    rate: float


def main(argv: list[str] | None = None) -> int:
    """Compare and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cuda, cuda:1, mps or cpu; default: the first GPU")
    parser.add_argument("--modes", nargs="+", choices=tuple(MODES), default=list(MODES), metavar="MODE")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, metavar="X")
    parser.add_argument("--pictures", type=int, default=24, metavar="N", help="of each of three classes")
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="the first is not counted in pictures per second")
    args = parser.parse_args(argv)
    if args.epochs < 2 or args.pictures < BATCH or not args.tolerance >= 0:
        parser.error(f"--epochs must be at least 2, --pictures at least {BATCH}, --tolerance at least 0")
    device = args.device or _first_gpu()
    if device is None:
        print("No GPU is here (torch finds neither cuda nor mps): nothing was compared.")
        return 0
    from descend.errors import DescendError

    with tempfile.TemporaryDirectory() as folder:
        pictures = generated(Path(folder) / "pictures", args.pictures)
        print(f"{_called(device)} against the processor, tolerance {args.tolerance:g}")
        print(f"{'mode':10}{'pictures/s':>12}{'processor':>12}{'probability':>13}{'loss':>11}")
        try:
            beyond = [mode for mode in args.modes if not _within(mode, device, pictures, args.epochs, args.tolerance)]
        except DescendError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    if beyond:
        print(f"Beyond the tolerance: {', '.join(beyond)}.")
    else:
        print(f"All {len(args.modes)} within the tolerance." if len(args.modes) > 1 else "Within the tolerance.")
    return int(bool(beyond))


def generated(root: Path, n: int) -> Path:
    """Make a folder of ``n`` pictures in each of three classes: stripes across, stripes down, noise."""
    rng = np.random.default_rng(0)
    wave = np.arange(SIDE)
    for name in ("across", "down", "noise"):
        (root / name).mkdir(parents=True)
        for number in range(n):
            lines = np.sin(wave / rng.uniform(1.5, 4) + rng.uniform(0, 6))
            plane = {"across": lines[:, None], "down": lines[None], "noise": rng.uniform(-1, 1, (SIDE, SIDE))}[name]
            pixels = (
                128
                + 60 * np.broadcast_to(plane, (SIDE, SIDE))[..., None] * rng.uniform(0.4, 1, 3)
                + rng.normal(0, 20, (SIDE, SIDE, 3))
            )
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / name / f"{number:03}.png")
    return root


def _within(mode: str, device: str, pictures: Path, epochs: int, tolerance: float) -> bool:
    """Train a mode on both, print its line, and return whether the two agree."""
    on_cpu = trained(mode, "cpu", pictures, epochs)
    on_device = trained(mode, device, pictures, epochs)
    apart, loss_apart = differences(on_device, on_cpu)
    told = "-" if on_cpu.loss is None else f"{loss_apart:.1e}"
    print(f"{mode:10}{on_device.rate:12,.1f}{on_cpu.rate:12,.1f}{apart:13.1e}{told:>11}", flush=True)
    return apart <= tolerance and loss_apart <= tolerance  # false for NaN


def trained(mode: Any, device: str, pictures: Path, epochs: int) -> Trained:
    """Train one mode on one device, and have the processor answer all pictures."""
    import descend

    rows: list[Any] = []
    by_epochs = {} if mode == "auto" else {"epochs": epochs, "on_epoch": rows.append}
    with tempfile.TemporaryDirectory() as folder:
        run = descend.fit(
            pictures, transfer=mode, device=device, out=Path(folder) / "run", report=False, **MODES[mode], **by_epochs
        )
        probabilities = run.predict(pictures).probabilities
        if rows:
            return Trained(probabilities, rows[-1]["train_loss"], median(row["images_per_s"] for row in rows[1:]))
        return Trained(probabilities, None, N_STEPS * BATCH / run.record.wall_s["finetune"])


def differences(one: Trained, other: Trained) -> tuple[float, float]:
    """Return the largest difference of a probability, and the relative one of the training losses (0 where there are none)."""
    apart = float(np.abs(one.probabilities - other.probabilities).max())
    if one.loss is None or other.loss is None:
        return apart, 0.0
    return apart, abs(one.loss - other.loss) / max(abs(other.loss), 1e-6)


def _first_gpu() -> str | None:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


def _called(device: str) -> str:
    import torch

    return (
        f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") and torch.cuda.is_available() else device
    )


if __name__ == "__main__":
    raise SystemExit(main())
