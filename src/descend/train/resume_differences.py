"""What keeps a run that goes on from ending in the bits of one that was never stopped: another machine, threads, versions."""

from __future__ import annotations

from descend.train.record import RunRecord, machine, versions

BEARING = ("torch", "torchvision", "timm", "numpy", "pillow", "onnxruntime", "openvino", "descend")
"""Packages whose version can change a result."""


def resume_differences(record: RunRecord, *, n_threads: int, n_processes: int = 1) -> list[str]:
    """Return what is different now from when the run began, a phrase each; empty where the run goes on to the same bits.

    n_threads, n_processes: torch's threads, and the processes that train together, for the rest of the run.
    """
    then, now = record.machine, machine()
    kinds = [f"{now[part]} instead of {then[part]}" for part in ("processor", "system", "python") if now[part] != then[part]]
    kinds = [f"another machine ({'; '.join(kinds)})"] if kinds else []
    known = versions()
    kinds += [
        f"{package} {known.get(package, 'is missing,')} instead of {record.versions[package]}"
        for package in BEARING
        if package in record.versions and known.get(package) != record.versions[package]
    ]
    then_n = 1 if record.processes is None else record.processes["n"]
    if n_processes != then_n:
        kinds.append(f"{n_processes} process{'es' * (n_processes != 1)} instead of {then_n}")
    if record.n_threads not in (0, n_threads):
        kinds.append(f"{n_threads} threads instead of {record.n_threads}")
    return kinds
