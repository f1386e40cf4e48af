"""How long a person waits for answers: one picture from a cold start, and many beside the exported file in plain ONNX Runtime.

    python benchmarks/answers.py

Claims: `descend predict` of one picture in under 3 s, imports and all; warm, a picture takes at most 1.3 times what the exported
model takes in ONNX Runtime behind Pillow (``examples/serve/classify.py``, what an engineer would write): many pictures in one
call, one a call, and one a call from the graph (``quick``). The run is of ants and bees, on frozen features.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import descend
from harness import HERE, data, go_on, spread, timed

COLD, WARM = 7, 5
sys.path.insert(0, str(HERE.parent / "examples" / "serve"))


def cold(run: Path, picture: Path) -> dict[str, dict[str, float]]:
    """Return the seconds of whole processes that answer one picture."""
    command = [sys.executable, "-m", "descend", "predict", str(run), str(picture)]
    times = [timed(command) for _ in range(COLD + 1)][1:]  # the first fills the file cache
    return {"wall_s": spread([wall for wall, _ in times]), "cpu_s": spread([cpu for _, cpu in times])}


def warm(run: Path, exported: Path, pictures: list[Path]) -> dict[str, object]:
    """Return the milliseconds a picture in this process: ours, many or one at a time, and the exported file's, in turn.

    Beside the time on the clock stands the processor's, which other work on the machine changes less.
    """
    from classify import Classifier

    ours, theirs = descend.load(run), Classifier(exported)
    ways: dict[str, Callable[[], list[str]]] = {
        "many": lambda: list(ours.predict(pictures).labels),
        "one": lambda: [ours.predict(picture).labels[0] for picture in pictures],
        "one_quick": lambda: [ours.predict(picture, quick=True).labels[0] for picture in pictures],
        "onnx": lambda: [max(answer := theirs(picture.read_bytes()), key=answer.__getitem__) for picture in pictures],
    }
    clocks = {"": time.perf_counter, "cpu_": time.process_time}
    ms: dict[tuple[str, str], list[float]] = {(name, clock): [] for name in ways for clock in clocks}
    answers: dict[str, list[str]] = {}
    for _ in range(WARM + 1):
        for name, way in ways.items():
            started = {clock: read() for clock, read in clocks.items()}
            answers[name] = way()
            for clock, read in clocks.items():
                ms[name, clock].append((read() - started[clock]) / len(pictures) * 1e3)
    times = {f"{name}_{clock}ms": spread(values[1:]) for (name, clock), values in ms.items()}
    ratios = {
        f"{name}_{clock}ratio": spread([a / b for a, b in zip(values[1:], ms["onnx", clock][1:], strict=True)])
        for (name, clock), values in ms.items()
        if name != "onnx"
    }
    agree = {name: sum(map(str.__eq__, found, answers["onnx"])) for name, found in answers.items()}
    return times | ratios | {"same_answer": agree, "n": len(pictures)}


def main() -> None:
    photographs = data("hymenoptera")
    pictures = sorted((photographs / "val").rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        descend.fit(photographs, transfer="features", out=run)
        exported = Path(folder) / "model.onnx"
        descend.load(run).export(exported)
        jobs = [("cold", lambda: cold(run, pictures[0])), ("warm", lambda: warm(run, exported, pictures))]
        go_on("answers", "one picture in under 3 s from a cold start; warm within 1.3 of the exported file in ONNX Runtime", jobs)


if __name__ == "__main__":
    main()
