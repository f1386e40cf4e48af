"""A command that is done leaves quietly."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


# What NumPy's compiled modules do when Ctrl-C meets them while they are imported: the interrupt is lost, another error comes out.
LOST_INTERRUPT = """
import os, signal, time
try:
    {signal}
    time.sleep(0.01)
except KeyboardInterrupt:
    pass
raise AttributeError("module 'numpy' has no attribute 'matrix'")
"""


@pytest.mark.parametrize("interrupted", [True, False])
def test_ctrl_c_that_an_import_turns_into_another_error_is_still_a_stop(tmp_path: Path, interrupted: bool) -> None:
    signal = "os.kill(os.getpid(), signal.SIGINT)" if interrupted else "pass"
    (tmp_path / "lost.py").write_text(LOST_INTERRUPT.format(signal=signal))
    command = [sys.executable, "-m", "descend.cli", "list", "--import", "lost"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ)
    if interrupted:
        assert (ended.returncode, ended.stderr.strip()) == (130, "Stopped.")
    else:  # nobody has asked to stop: a defect shows where it is
        assert ended.returncode == 1
        assert "Traceback" in ended.stderr


DRAWING = """
from descend.cli.progress import Terminal
Terminal().update("training", 1, 10)
raise {error}
"""


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "OSError('no space left')", "RuntimeError('a defect')"])
def test_a_bar_that_an_error_cuts_short_leaves_the_terminal_its_cursor(tmp_path: Path, error: str) -> None:
    pty = pytest.importorskip("pty")
    (tmp_path / "drawing.py").write_text(DRAWING.format(error=error))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "descend.cli", "list", "--import", "drawing"]
    terminal = os.environ | {"TERM": "xterm-256color"}
    subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs, check=False, env=terminal)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how the end of a terminal reads on Linux
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert b"\x1b[?25l" in shown, "the bar hides it"
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    if b"error: " in shown:
        assert shown.index(b"error: ") > shown.rindex(b"\x1b[2K"), "the bar is gone before the error is told"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("words", ["cache", "--help"])
def test_a_stream_that_the_caller_has_closed_is_no_error(closed: str, words: str, tmp_path: Path) -> None:
    told = tmp_path / "status"
    command = f'"{sys.executable}" -m descend.cli {words} {closed}; echo $? > "{told}"'
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=os.environ)
    assert int(told.read_text()) == 0
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("words", ["--help", "--version", "fit --help", "list"])
def test_a_full_disk_behind_standard_output_is_told_by_its_name(words: str, buffered: str) -> None:
    command = f'"{sys.executable}" -m descend.cli {words} > /dev/full'
    settings = os.environ | {"PYTHONUNBUFFERED": buffered}
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=settings)
    told = "error: standard output: must be a file that can be written (No space left on device). Free some space, or choose"
    assert ended.stderr == f"{told} another place.\n"
    assert ended.returncode == 1


def test_answers_do_not_go_where_nobody_reads(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m descend.cli predict run x.jpg >&-'
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ)
    assert ended.stderr.startswith("error: standard output: must be open: the answers go there. Name a file: --out answers.csv.")
    assert ended.returncode == 1
