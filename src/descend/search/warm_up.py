"""Compile what crops and fine-tuning need while features are computed: on a machine that is new to descend that takes a while.

A process of its own compiles: a thread would hold the interpreter's lock, and fitting a head took three times as long beside it.
When it is done it says so in the cache; one that was ended before goes on in the next search.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path

from descend.files import CacheFolder
from descend.train.record import versions

TRAINING, DISTORTIONS = "training", "distortions"
AUGMENT = {TRAINING: ("random_resized_crop()", "flip()"), DISTORTIONS: ("trivialaugment()",)}
"""What is compiled, by what it is for: crops and training first, which most searches come to, then what long trainings take."""
N_DRAWN = 256  # pictures, among which every transform of a policy is drawn
KIND = "kernels"  # the folder in the cache that compiled code lies in
SIDES = (3, 5)  # of the kernels of depthwise convolutions that have kernels of ours
COMPILED = ("*.py", "augment/*.py", "transfer/*.py")  # where kernels and what they call stand
NICE = 19  # of the process: it takes the time that the search leaves


class WarmUp:
    """A process that compiles, where that was not done before with these versions."""

    def __init__(self, precision: str) -> None:
        self._seals = {what: _done(precision, what) for what in AUGMENT}
        needed = bool(sys.executable) and not all(map(_is_done, self._seals.values()))  # no Python of its own: embedded
        command = [sys.executable, "-m", "descend.search.warm_up", precision]
        nothing = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing) if needed else None

    def going_on(self, what: str = TRAINING) -> bool:
        """Whether it is not done yet with what crops and training need, or distortions."""
        return self._process is not None and self._process.poll() is None and not _is_done(self._seals[what])

    def wait(self, seconds: float, what: str = TRAINING) -> None:
        """Wait until it is done with that, for so many seconds at most."""
        end = time.perf_counter() + seconds
        while self.going_on(what) and time.perf_counter() < end:
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it, done or not: what is written to the cache is whole or absent."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """Stop it and wait until it has ended."""
        self.stop()
        if self._process is not None:
            self._process.wait()


def _done(precision: str, what: str) -> Path:
    """Return the entry of the cache that says that what crops and training need, or distortions, is compiled."""
    from llvmlite import binding  # what compiled code depends on of a machine; some of its systems name no processor

    processor = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    facts = repr((precision, processor, version("numba"), sorted(versions().items()), _sources()))
    return CacheFolder().entry_path(KIND, f"{what}-" + hashlib.blake2b(facts.encode(), digest_size=16).hexdigest(), ".sealed")


def _is_done(seal: Path) -> bool:
    return CacheFolder().load(seal) is not None


@cache
def _sources() -> str:
    """Return a digest of the texts that kernels come from: another text compiles anew, whatever its version is."""
    package, text = Path(__file__).parents[1], hashlib.blake2b(digest_size=16)
    for path in sorted(path for room in COMPILED for path in package.glob(room)):
        text.update(path.read_bytes())
    return text.hexdigest()


def _work(precision: str) -> None:
    """Draw augmented pictures and take a few gradients: what their first use compiles is kept on disk."""
    if hasattr(os, "nice"):  # not on Windows
        os.nice(NICE)  # before anything is imported: that takes seconds too
    import numpy as np

    from descend.augment import Pipeline
    from descend.transfer.depthwise_kernels import weight_gradient
    from descend.transfer.inverted_residual_kernels import Geometry, backward, forward

    def augment(what: str) -> None:
        Pipeline(AUGMENT[what], size=8)(np.zeros((N_DRAWN, 16, 16, 3), np.uint8), ids=np.arange(N_DRAWN), epoch=0)

    augment(TRAINING)
    image = np.zeros((1, 5, 5, 8), np.float32)
    weight_gradient(image, image, side=5, stride=1, padding=2, n_threads=1)
    maps = np.zeros((1, 5, 5, 16), np.int16 if precision == "bfloat16" else np.float32)
    for side in SIDES:
        weights, edge = np.zeros((side, side, 16), np.float32), side // 2
        geometry, limits = Geometry(side, 1, 5, 5, 5, 5, edge, edge), (0.0, 6.0, 6.0)
        out = forward(maps, weights, weights[0, 0], geometry, limits, n_threads=1)
        backward(maps, out, maps, weights, geometry, limits, n_threads=1)
    CacheFolder().store(_done(precision, TRAINING), b"")
    augment(DISTORTIONS)
    CacheFolder().store(_done(precision, DISTORTIONS), b"")


if __name__ == "__main__":
    _work(*sys.argv[1:])
