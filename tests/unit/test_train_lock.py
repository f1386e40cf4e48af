"""A run folder has one owner, appears whole, and gives its lock back however its owner ends."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from descend import files
from descend.errors import RunError
from descend.train import folder
from descend.train.interrupt import Termination, graceful, terminable, unswallowed
from descend.train.lock import LOCK, RunLock, in_use

posix = pytest.mark.skipif(sys.platform == "win32", reason="no such locks or signals there")

HOLD = "import sys, time; from pathlib import Path; from descend.train.lock import RunLock; lock = RunLock(Path(sys.argv[1])); \
print('held', flush=True); time.sleep(60)"

ENDED = """
import signal
from descend.train.interrupt import ending_with_sigterm
try:
    with ending_with_sigterm():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            print("saved", flush=True)
finally:
    print("not reached", flush=True)
"""


@posix
def test_the_second_owner_learns_who_the_first_is(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    with pytest.raises(RunError, match=rf"must not be in use, and process {os.getpid()} on .* has it since 20"):
        RunLock(tmp_path)
    assert in_use(tmp_path)
    lock.release()
    assert not in_use(tmp_path)
    assert not list(tmp_path.iterdir())
    RunLock(tmp_path).release()


@posix
def test_looking_takes_writes_and_removes_nothing(tmp_path: Path) -> None:
    assert not in_use(tmp_path)
    (tmp_path / LOCK).write_text("left by a process that was killed")
    (tmp_path / LOCK).chmod(0o444)
    tmp_path.chmod(0o555)  # a share that can only be read
    try:
        assert not in_use(tmp_path)
    finally:
        tmp_path.chmod(0o755)
    assert (tmp_path / LOCK).read_text() == "left by a process that was killed"


@posix
def test_a_full_disk_does_not_keep_the_lock_from_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        lock = RunLock(tmp_path)
    assert in_use(tmp_path)
    lock.release()
    RunLock(tmp_path).release()


@posix
def test_the_lock_of_a_killed_process_counts_no_more(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        with pytest.raises(RunError, match=f"process {owner.pid} on"):
            RunLock(tmp_path)
        owner.kill()
        owner.wait()
    assert (tmp_path / LOCK).exists()
    RunLock(tmp_path).release()


@posix
def test_a_damaged_note_of_the_owner_is_no_traceback(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    (tmp_path / LOCK).write_bytes(b"\xff[")
    with pytest.raises(RunError, match=r"process \(unknown\)"):
        RunLock(tmp_path)
    lock.release()


def test_of_many_processes_that_choose_one_name_each_gets_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def made(number: int) -> Path:
        return folder.create(None, "x", lambda place: folder.write_text(place / "who", str(number)))

    with ThreadPoolExecutor(8) as pool:
        places = list(pool.map(made, range(8)))
    assert [(place / "who").read_text() for place in places] == [str(number) for number in range(8)]
    assert len(set(places)) == 8


def test_a_name_that_was_taken_meanwhile_is_refused_and_what_is_there_stays(tmp_path: Path) -> None:
    def other_was_quicker(place: Path) -> None:
        (place / "mine").touch()
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "theirs").touch()

    with pytest.raises(RunError, match="new or empty"):
        folder.create(tmp_path / "run", "x", other_was_quicker)
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "theirs"]


@pytest.mark.parametrize("n", range(8))
def test_a_folder_appears_with_all_it_holds_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    calls = 0

    def stopping(path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls > n:
            raise KeyboardInterrupt

    def fill(place: Path) -> None:
        folder.write_text(place / "a", "1")
        folder.write_text(place / "b", "2")

    monkeypatch.setattr(files, "flush", stopping)
    out = tmp_path / "run"
    try:
        folder.create(out, "x", fill)
    except KeyboardInterrupt:
        pass
    else:
        pytest.fail("too few calls to stop at")
    assert not out.exists() or sorted(path.name for path in out.iterdir()) == ["a", "b"]
    assert not [path for path in tmp_path.iterdir() if path != out]


def test_what_a_killed_process_left_in_an_empty_folder_is_nothing(tmp_path: Path) -> None:
    (tmp_path / folder.RECIPE).write_text("")
    (tmp_path / LOCK).write_text("")
    folder.check_free(tmp_path)
    (tmp_path / folder.RECORD).write_text("{}")
    with pytest.raises(RunError, match=f"new or empty.*go on with the run there: descend fit --resume {tmp_path}"):
        folder.check_free(tmp_path)


def test_a_folder_of_other_things_is_no_run_to_go_on_with(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunError, match=r"Choose another\.$"):
        folder.check_free(tmp_path)


@posix
def test_sigterm_is_a_flag_in_the_loop_and_an_interrupt_outside() -> None:
    with terminable() as termination:
        with graceful() as interrupt:
            signal.raise_signal(signal.SIGTERM)
            assert interrupt
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert termination.requested
        with terminable() as inner:
            assert signal.getsignal(signal.SIGTERM).__self__ is termination  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
            assert not inner.requested
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not Termination().requested


@posix
def test_after_a_run_sigterm_ends_a_script_as_ever() -> None:
    done = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-15, "saved\n")


def test_the_note_of_the_owner_is_json(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    if sys.platform != "win32":
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    lock.release()


class Finalized:
    """Meets a signal where Python cannot raise what its handler raises."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


def wait_after(number: int) -> None:
    one = Finalized(number)
    del one
    time.sleep(10)  # what waits is ended too


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_a_finalizer_is_not_lost(number: int) -> None:
    with terminable() as termination, unswallowed():
        with pytest.raises(KeyboardInterrupt):
            wait_after(number)
        assert termination.requested == (number == signal.SIGTERM)
        one = Finalized(number)
        with graceful() as interrupt:
            del one
            assert interrupt


def test_other_errors_of_finalizers_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))

    class Broken:
        def __del__(self) -> None:
            raise LookupError

    with unswallowed():
        broken = Broken()
        del broken
    assert told == [LookupError]
