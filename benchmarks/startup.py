"""``descend --help``: wall time of the whole process, beside that of an empty Python process.

    python benchmarks/startup.py

Claim: under 0.25 s.
"""

from __future__ import annotations

import subprocess
import sys
import time

from harness import save, spread

ROUNDS = 15


def wall(*words: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], capture_output=True, check=True)
    return time.perf_counter() - started


def main() -> None:
    walls: dict[str, list[float]] = {"help": [], "python": []}
    for _ in range(ROUNDS + 1):
        walls["help"].append(wall("-m", "descend.cli", "--help"))
        walls["python"].append(wall("-c", "pass"))
    result = {f"{name}_s": spread(values[1:]) for name, values in walls.items()}  # the first fills the file cache
    save("startup", "descend --help in under 0.25 s", result)


if __name__ == "__main__":
    main()
