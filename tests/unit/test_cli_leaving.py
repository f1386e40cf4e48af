"""A command that is done leaves quietly."""

from __future__ import annotations

import subprocess
import sys

LATE = """
import atexit, os, signal, sys
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["descend", "--version"]
from descend.cli import command
command()
"""


def test_ctrl_c_after_the_end_shows_no_traceback() -> None:
    ended = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("descend ")
