"""How long a person waits for answers: one picture from a cold start, and many beside the exported file in plain ONNX Runtime.

    python benchmarks/answers.py

Claims: `descend predict` of one picture in under 3 s, imports and all; warm, a picture takes at most 1.3 times what the exported
model takes in ONNX Runtime behind Pillow (``examples/serve/classify.py``, what an engineer would write). The run is of ants and
bees, on frozen features; ``latest`` is the second command in a row, as a person types it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import descend
from harness import HERE, data, save, spread

COLD, WARM = 7, 5
sys.path.insert(0, str(HERE.parent / "examples" / "serve"))


def timed(*command: str) -> tuple[float, float]:
    """Return (wall, processor) seconds of a process."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - started, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def cold(run: Path, picture: Path) -> dict[str, dict[str, float]]:
    """Return the seconds of whole processes that answer one picture."""
    timed(sys.executable, "-m", "descend", "predict", str(run), str(picture))  # fills the file cache
    times = [timed(sys.executable, "-m", "descend", "predict", str(run), str(picture)) for _ in range(COLD)]
    return {"wall_s": spread([wall for wall, _ in times]), "cpu_s": spread([cpu for _, cpu in times])}


def warm(run: Path, exported: Path, pictures: list[Path]) -> dict[str, object]:
    """Return the milliseconds a picture in this process: ours and the exported file's, in turn."""
    from classify import Classifier

    ours, theirs = descend.load(run), Classifier(exported)
    many, one, plain = list[float](), list[float](), list[float]()
    for repeat in range(WARM + 1):
        started = time.perf_counter()
        answers = ours.predict(pictures)
        batch = time.perf_counter()
        for picture in pictures:
            ours.predict(picture)
        single = time.perf_counter()
        expected = [theirs(picture.read_bytes()) for picture in pictures]
        ended = time.perf_counter()
        if repeat:
            many.append((batch - started) / len(pictures) * 1e3)
            one.append((single - batch) / len(pictures) * 1e3)
            plain.append((ended - single) / len(pictures) * 1e3)
    best = [max(answer, key=lambda name: answer[name]) for answer in expected]
    agree = sum(map(str.__eq__, answers.labels, best))
    ratios = {
        f"{name}_ratio": spread([a / b for a, b in zip(values, plain, strict=True)])
        for name, values in (("many", many), ("one", one))
    }
    return {"many_ms": spread(many), "one_by_one_ms": spread(one), "onnx_ms": spread(plain), **ratios,
            "same_answer": agree, "n": len(pictures)}  # fmt: skip


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
