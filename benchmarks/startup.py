"""How long the command line takes to answer, beside an empty Python process: processor time, which other work barely moves.

    python benchmarks/startup.py [REVISION]

Claim: help, a list and a typo in under 0.3 s of processor time. REVISION: a git revision to measure beside the tree as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import HERE, save, spread, timed

ROUNDS = 5
COMMANDS = {
    "help": ["--help"],
    "fit_help": ["fit", "--help"],
    "predict_help": ["predict", "--help"],
    "list": ["list"],
    "wrong_flag": ["fit", "digits", "--optimzer", "adam"],
    "wrong_technique": ["fit", "digits", "--optimizer", "adamx"],
    "wrong_folder": ["fit", "no-such-folder"],
    "wrong_scan": ["scan", "no-such-folder"],
    "wrong_run": ["predict", "no-such-run", "new.jpg"],
    "wrong_candidate": ["compare", "digits", "base", "optimizer=adamx"],
    "wrong_surface": ["surface", "sadle"],
}


def cpu(source: Path | None, words: list[str]) -> float:
    """Return the processor seconds, user and system, of one process. source: a ``src`` folder, None for no descend at all."""
    command = [sys.executable, "-c", "pass"] if source is None else [sys.executable, "-m", "descend.cli", *words]
    return timed(command, check=False, env={**os.environ, "PYTHONPATH": str(source or "")})[1]


def measured(sources: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Return the seconds of every command with every source, in turn; the first round fills the file cache."""
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS + 1):
        seconds.setdefault("python", []).append(cpu(None, []))
        for name, words in COMMANDS.items():
            for label, source in sources.items():
                seconds.setdefault(f"{name}{label}", []).append(cpu(source, words))
    return {f"{name}_cpu_s": spread(values[1:]) for name, values in seconds.items()}


def main() -> None:
    sources = {"": HERE.parent / "src"}
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            archive = subprocess.run(["git", "archive", sys.argv[1], "src"], cwd=HERE.parent, capture_output=True, check=True)
            subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
            sources["_before"] = Path(folder) / "src"
        save("startup", "help, a list and a typo in under 0.3 s of processor time", measured(sources))


if __name__ == "__main__":
    main()
