"""Which engine: by name, or the one that measures fastest here; the verdict is kept, so a second run does not ask again."""

from __future__ import annotations

import hashlib
import json
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from descend.errors import ModelError, nearest
from descend.files import CacheFolder
from descend.models.stages import Backbone
from descend.transfer.engine import Engine, FrozenPrefix
from descend.transfer.engine_onnxruntime import OnnxRuntimeEngine
from descend.transfer.engine_openvino import OpenVinoBfloat16Engine, OpenVinoEngine
from descend.transfer.engine_torch import TorchEngine

ENGINES: dict[str, type[Engine]] = {
    cls.name: cls for cls in (TorchEngine, OnnxRuntimeEngine, OpenVinoEngine, OpenVinoBfloat16Engine)
}
LEAST_AGREEMENT, N_COMPARED = 0.95, 8
"""Cosine between what a head reads from an engine in another precision and from float32, mean of so many pictures, below which it
is left out. Lite0, 1 and 2 in bfloat16 reach 0.97 to 0.98 on the pictures that are made here, 0.996 on photographs, where heads
are as good (`benchmarks/bfloat16_features.py`)."""
FAR_BEHIND = 1.5  # times the fastest engine's time: no noise makes up for it


@dataclass(frozen=True)
class Choice:
    """An engine and what was measured when it was chosen.

    images_per_s: engine name -> pictures per second, for every engine that runs here.
    missing: engine name -> why it does not run here.
    remembered: whether the measurement is from an earlier run on this machine.
    """

    engine: Engine
    images_per_s: dict[str, float]
    missing: dict[str, str]
    remembered: bool


def make_engine(
    name: str,
    backbone: Backbone,
    *,
    size: int,
    stage: str | None = None,
    taps: Sequence[str] = (),
    cache: CacheFolder | None = None,
) -> Engine:
    """Return the engine called ``name`` (``auto`` measures) for the stages of ``backbone`` up to ``stage`` (None: all).

    taps: as in ``FrozenPrefix``. size: pixels of the square pictures it will get. The weights are copied: later training of
    ``backbone`` does not reach it. Raises ModelError (unknown name or stage, size) and MissingExtra.
    """
    if name == "auto":
        return choose(backbone, size=size, stage=stage, taps=taps, cache=cache).engine
    if name not in ENGINES:
        raise ModelError("engine", f"must be auto or one of {', '.join(ENGINES)}", got=name, fix=nearest(name, ENGINES))
    ENGINES[name].version()  # a missing extra is told before any work is done
    return ENGINES[name](FrozenPrefix(backbone, size=size, stage=stage, taps=taps), cache)


def choose(
    backbone: Backbone, *, size: int, stage: str | None = None, taps: Sequence[str] = (), cache: CacheFolder | None = None
) -> Choice:
    """Return the engine that computes this prefix fastest on this machine with this process's threads.

    Measures every engine that is installed, a few chunks each, in turn; the verdict is stored in the cache folder for
    (weights, cut, size, threads, machine, versions). An engine that cannot run the network, whatever it raises, is left out and
    named; where memory or the disk is what it lacked, the next run tries it again. Raises what torch's own engine does.
    """
    cache = cache or CacheFolder()
    engines, missing, path = _candidates(FrozenPrefix(backbone, size=size, stage=stage, taps=taps), cache)
    if (known := _known(engines, missing, path, cache)) is not None:
        return known
    failed, lasts = dict[str, str](), True
    for name in [*engines]:
        try:
            engines[name].start()
            engines[name](_images(engines[name], 1))  # some take a network and fail on its first pictures
        except Exception as error:
            if name == TorchEngine.name:  # what it cannot run, none can
                raise
            failed[name] = str(error) or type(error).__name__
            lasts = lasts and not isinstance(error.__cause__ or error, (MemoryError, OSError))
            del engines[name]
    for name in [name for name, engine in engines.items() if engine.precision != TorchEngine.precision]:
        if not (agreement := _agreement(engines[name], engines[TorchEngine.name])) >= LEAST_AGREEMENT:  # also where it is NaN
            failed[name] = f"its features agree with float32 to {agreement:.3f} only, not {LEAST_AGREEMENT} (cosine)"
            del engines[name]
    rates = measure(engines)
    if lasts:
        cache.store(path, json.dumps({"images_per_s": rates, "failed": failed}).encode())
    return _choice(engines, rates, missing | failed, remembered=False)


def remembered(backbone: Backbone, *, size: int, taps: Sequence[str] = (), cache: CacheFolder | None = None) -> Choice | None:
    """Return what ``choose`` found in an earlier run on this machine, or None: asking costs no measurement."""
    cache = cache or CacheFolder()
    engines, missing, path = _candidates(FrozenPrefix(backbone, size=size, taps=taps), cache)
    return _known(engines, missing, path, cache)


def measure(engines: dict[str, Engine], *, rounds: int = 3, n_chunks: int = 2) -> dict[str, float]:
    """Return pictures per second (median of its rounds) of each engine, measured in turn so that all meet the same load.

    One that took ``FAR_BEHIND`` times as long as the fastest in a round is not measured again.
    """
    images = _images(next(iter(engines.values())), n_chunks)

    def seconds(engine: Engine) -> float:
        start = time.perf_counter()
        engine(images)
        return time.perf_counter() - start

    for engine in engines.values():
        engine(images)  # warm-up: memory, thread pools, kernels compiled on demand
    walls: dict[str, list[float]] = {name: [] for name in engines}
    measured = [*engines]
    for _ in range(rounds):
        for name in measured:
            walls[name].append(seconds(engines[name]))
        longest = FAR_BEHIND * min(walls[name][-1] for name in measured)
        measured = [name for name in measured if walls[name][-1] < longest]
    return {name: round(len(images) / statistics.median(wall), 2) for name, wall in walls.items()}


def _images(engine: Engine, n_chunks: int) -> NDArray[np.uint8]:
    shape = (n_chunks * engine.chunk, engine.prefix.size, engine.prefix.size, 3)
    return (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)


def _agreement(engine: Engine, reference: Engine) -> float:
    """Return the mean cosine between the features of two engines as a head reads them: columns less their mean, by their spread.

    The spread is of both: a column that is 0 in one of them on all of a few pictures, and nearly so in the other, is no mismatch
    that outweighs all others.
    """
    images = _clouds(N_COMPARED, engine.prefix.size)
    a, b = (each(images).reshape(len(images), -1).astype(np.float64) for each in (engine, reference))
    spread, center = np.maximum(np.concatenate([a, b]).std(0), 1e-12), b.mean(0)
    a, b = (a - center) / spread, (b - center) / spread
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / np.maximum(norms, 1e-12)).mean())


def _clouds(n: int, size: int) -> NDArray[np.uint8]:
    """Return pictures of colored clouds, (n, size, size, 3): all scales are in them, as in photographs, and no two are alike."""
    random, made = np.random.default_rng(0), torch.zeros(n, 3, size, size)
    for octave in range(1, size.bit_length()):
        side = 2**octave
        gray, color = random.standard_normal((n, 1, side, side)), 0.35 * random.standard_normal((n, 3, side, side))
        made += interpolate(torch.from_numpy(gray + color).float(), (size, size), mode="bilinear") / 2 ** ((octave - 1) / 2)
    return (128 + 45 * made).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _candidates(prefix: FrozenPrefix, cache: CacheFolder) -> tuple[dict[str, Engine], dict[str, str], Path]:
    """Return the engines that are installed, why others are not, and where the verdict on them is kept."""
    engines, missing = _installed(prefix, cache)
    return engines, missing, cache.entry_path("verdicts", _situation(engines), ".sealed")


def _known(engines: dict[str, Engine], missing: dict[str, str], path: Path, cache: CacheFolder) -> Choice | None:
    verdict = _remembered(path, engines, cache)
    if verdict is None:
        return None
    return _choice(engines, verdict["images_per_s"], missing | verdict["failed"], remembered=True)


def _installed(prefix: FrozenPrefix, cache: CacheFolder) -> tuple[dict[str, Engine], dict[str, str]]:
    engines: dict[str, Engine] = {}
    missing: dict[str, str] = {}
    for name, cls in ENGINES.items():
        try:
            cls.version()
            engines[name] = cls(prefix, cache)
        except (ImportError, ModelError) as error:  # not installed; not for this processor
            missing[name] = str(error)
    return engines, missing


def _situation(engines: dict[str, Engine]) -> str:
    first = next(iter(engines.values()))
    machine = (platform.node(), platform.machine(), platform.processor())
    text = f"{first.prefix.key}|{first.threads}|{machine}|{[engine.key for engine in engines.values()]}|{LEAST_AGREEMENT}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _remembered(path: Path, engines: dict[str, Engine], cache: CacheFolder) -> dict[str, dict[str, Any]] | None:
    """Return the stored verdict, or None if there is none that can be used."""
    try:
        verdict = json.loads(cache.load(path) or b"null")
        rates = verdict["images_per_s"]
        usable = rates and rates.keys() <= engines.keys() and all(rate > 0 for rate in rates.values())
        return verdict if usable and isinstance(verdict["failed"], dict) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _choice(engines: dict[str, Engine], rates: dict[str, float], missing: dict[str, str], *, remembered: bool) -> Choice:
    for name, rate in rates.items():
        engines[name].images_per_s = rate
    best = max(rates, key=lambda name: rates[name])
    return Choice(engines[best], rates, missing, remembered)
