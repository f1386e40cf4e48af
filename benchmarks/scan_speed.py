"""How long ``descend scan`` takes for 60,000 pictures, in CPU time, and what it finds among them.

    python benchmarks/scan_speed.py

Claim: the scan without a network takes under 2 minutes on 2 cores, so at most 240 s of CPU time. The pictures are CIFAR-10's
60,000, as JPEGs of 32 px, with the split that they come with. A cold scan begins with an empty cache; a warm one finds what the
cold one kept. CPU time (of the process and of all its threads, from ``time.process_time``) is what other work on the machine does
not stretch much; wall time is published beside it. Every part is timed on its own as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from harness import data, save

CLAIM_S = 240.0  # of CPU: 2 minutes on 2 cores
CODE = """
import json, sys, time
started = time.perf_counter()
import descend
audit = descend.scan(sys.argv[1], deep=False, threads=2)
told = {finding.check: {"severity": finding.severity, "what": finding.what} for finding in audit.findings}
print(json.dumps({"cpu_s": time.process_time(), "wall_s": time.perf_counter() - started, "n": audit.n_pictures,
                  "checks_wall_s": dict(audit.wall_s), "findings": told}))
"""


def scanned(folder: Path, cache: Path) -> dict[str, Any]:
    """Scan in a process of its own, imports counted."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder)], capture_output=True, text=True, check=True,
        env={**os.environ, "DESCEND_CACHE": str(cache)},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(data("cifar10.tar.xz")) as archive:
            archive.extractall(place, filter="data")
        folder, cache = Path(place) / "cifar10", Path(place) / "cache"
        runs = {name: scanned(folder, cache) for name in ("cold", "warm")}
    for name, run in runs.items():
        print(f"{name}: {run['n']:,} pictures, {run['cpu_s']:.0f} s of CPU, {run['wall_s']:.0f} s of wall time")
    for check, found in runs["cold"]["findings"].items():
        print(f"  {found['severity']:<8} {check:<16} {found['what']}")
    claim = f"a scan of 60,000 pictures without a network takes at most {CLAIM_S:.0f} s of CPU time"
    save("scan_speed", claim, {"held": runs["cold"]["cpu_s"] <= CLAIM_S, **runs})


if __name__ == "__main__":
    main()
