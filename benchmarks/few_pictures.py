"""What a search should do with few pictures: crops as further views to learn from, and whether to train late stages.

    python benchmarks/few_pictures.py                   5, 10 and 20 pictures per class; what the results hold is not run again
    python benchmarks/few_pictures.py digits --sizes 5

Each set (``data_size.py`` makes the parts) is searched by steps that are given, so that no clock decides: ``plain`` features of
224 px; with ``crops``; and from there the stages after the early ones trained for 15 and for 60 passes at 128 px. Heads alone are
fitted once more with the validation pictures, as the search does; a trained network rules that out. One draw of the training
pictures each; intervals are Wilson's over the test pictures.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import descend
from data_size import SETS, part
from descend.search.features import crops_for
from descend.search.rungs import peak_lr
from descend.stats import proportion
from harness import go_on, interval

N_CLASSES = {"hymenoptera": 2, "flowers5": 5, "sign-digits": 10, "digits": 10}
PASSES = (15, 60)


def ways(name: str, n: int) -> dict[str, list[str]]:
    """Return the steps of each way, for n pictures per class of which 15 % are for validation."""
    n_train, mirrored = round(0.85 * n * N_CLASSES[name]), name != "digits"
    plain = ["features(size=224)"]
    crops = [*plain, f"features(size=224, mirrored={mirrored}, crops={crops_for(n_train)})"]
    found, batch_size = {"plain": plain, "crops": crops}, min(32, n_train)
    for passes in PASSES:
        n_steps = max(1, round(passes * n_train / batch_size))
        lr = peak_lr(n_steps)
        trained = f'size=128, freeze_to="block1", lr={lr:.3g}, n_steps={n_steps}, batch_size={batch_size}'
        found[f"crops, {passes} passes"] = [*crops, f"finetune({trained}, mirrored={mirrored})"]
    return found


def row_of(name: str, n: int, steps: Sequence[str], work: Path) -> dict[str, Any]:
    """Return what a search by these steps reaches on test."""
    return found_by(steps, part(name, n, 0, work))


def found_by(steps: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return what a search of a folder by given steps reaches on test."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        run = descend.fit(folder, transfer="auto", steps=steps, out=Path(out) / "run")
        assert run.record.test is not None
        accuracy, loss, n_test = run.record.test["accuracy"], run.record.test["loss"], run.record.test["n"]
    told = interval(proportion(round(accuracy * n_test), n_test))
    wall_s = round(time.perf_counter() - started, 1)
    return {"accuracy": accuracy, "interval": told, "loss": loss, "n_test": n_test, "wall_s": wall_s}


def main(sets: Sequence[str], sizes: Sequence[int], work: Path) -> None:
    """Run what is missing, and save after every run."""
    claim = "crops help heads on few pictures, training late stages does not"
    grid = [(name, n, way, steps) for n in sizes for name in sets for way, steps in ways(name, n).items()]
    go_on("few_pictures", claim, [(f"{name} {n} {way}", partial(row_of, name, n, steps, work)) for name, n, way, steps in grid])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)}; default all")
    parser.add_argument("--sizes", nargs="+", type=int, default=(5, 10, 20), help="pictures per class")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "descend-data-size")
    args = parser.parse_args()
    main(args.sets or SETS, args.sizes, args.work)
