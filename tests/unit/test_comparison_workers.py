"""Processes that work for a comparison end with it, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PARENT = """
import os, sys, time
from descend.comparison import workers

def task(job):
    print(os.getpid(), flush=True)
    time.sleep(300)

if __name__ == "__main__":
    with workers.workers(2) as found:
        list(found.work(task, [1, 2], None))
"""


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are told by Linux")
def test_workers_of_a_killed_process_end_with_it(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        working = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(_alive, working))
        parent.kill()
        deadline = time.monotonic() + 20
        while any(map(_alive, working)) and time.monotonic() < deadline:
            time.sleep(0.1)
        left = [process for process in working if _alive(process)]
        for process in left:
            os.kill(process, 9)
    assert not left
