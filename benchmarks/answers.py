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
from harness import HERE, data, save, spread, timed

COLD, WARM = 7, 5
sys.path.insert(0, str(HERE.parent / "examples" / "serve"))


def cold(run: Path, picture: Path) -> dict[str, dict[str, float]]:
    """Return the seconds of whole processes that answer one picture."""
    command = [sys.executable, "-m", "descend", "predict", str(run), str(picture)]
    times = [timed(command) for _ in range(COLD + 1)][1:]  # the first fills the file cache
    return {"wall_s": spread([wall for wall, _ in times]), "cpu_s": spread([cpu for _, cpu in times])}


def warm(run: Path, exported: Path, pictures: list[Path]) -> dict[str, object]:
    """Return the milliseconds a picture in this process: ours, many or one at a time, and the exported file's, in turn."""
    from classify import Classifier

    ours, theirs = descend.load(run), Classifier(exported)
    ways: dict[str, Callable[[], list[str]]] = {
        "many": lambda: list(ours.predict(pictures).labels),
        "one": lambda: [ours.predict(picture).labels[0] for picture in pictures],
        "one_quick": lambda: [ours.predict(picture, quick=True).labels[0] for picture in pictures],
        "onnx": lambda: [max(answer := theirs(picture.read_bytes()), key=answer.__getitem__) for picture in pictures],
    }
    ms: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[str]] = {}
    for _ in range(WARM + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            answers[name] = way()
            ms[name].append((time.perf_counter() - started) / len(pictures) * 1e3)
    times = {f"{name}_ms": spread(values[1:]) for name, values in ms.items()}
    others = [name for name in ways if name != "onnx"]
    ratios = {f"{name}_ratio": spread([a / b for a, b in zip(ms[name][1:], ms["onnx"][1:], strict=True)]) for name in others}
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
        result = {"cold": cold(run, pictures[0]), "warm": warm(run, exported, pictures)}
    save("answers", "one picture in under 3 s from a cold start; warm within 1.3 of the exported file in ONNX Runtime", result)


if __name__ == "__main__":
    main()
