"""The command line: `descend VERB ...`. One thin file per verb: parse, call, print.

This file alone is loaded for ``descend --help``, so it imports neither torch nor pydantic: a verb's file is imported when
the verb is used.
"""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from types import FrameType
from typing import NoReturn, TextIO

STARTED: ContextVar[float | None] = ContextVar("started", default=None)
"""Reading of ``time.perf_counter`` when the command began: budgets count from there, the imports that follow included."""

VERBS = {
    "fit": "train a classifier on a folder of labeled pictures",
    "predict": "classify pictures with a trained run",
    "eval": "measure a trained run on labeled pictures",
    "export": "write a trained run as one ONNX file, preprocessing included",
    "push": "upload a finished run to the Hugging Face hub, with a model card",
    "compare": "train candidates on the same seeds, and say which differ, with intervals",
    "ablate": "leave every technique of a recipe out, and say what each buys, with intervals",
    "sensitivity": "accuracy against learning rate, rule by rule: which rule forgives a bad rate",
    "runs": "list, compare and delete runs",
    "app": "open a local page: try runs on pictures, compare them, train others, correct labels",
    "report": "write the page of a comparison or a run",
    "lr-find": "find a learning rate by a range test, before training",
    "scan": "look for copies, wrong labels, damaged files and more in a data set, before training",
    "doctor": "check in under a minute that a training is sound, before it is made",
    "augment": "look at augmentations, and measure which answers they flip",
    "slice": "draw the loss of a trained network on planes through its weights",
    "surface": "walk optimizers over test surfaces and draw their paths",
    "list": "list every technique with its knobs",
    "cache": "show or clear what is kept on disk between runs",
    "completion": "print the script that completes commands in bash, zsh or fish",
}
MOST_SAID = 500  # characters of what the system says
_MODULES = {"eval": "evaluate", "list": "listing", "lr-find": "lr_find"}

HELP = (
    "usage: descend VERB ...\n\nTrain the best image classifier that the time allows, and measure what each technique bought.\n\n"
    + "verbs:\n"
    + "".join(f"  {verb:<11} {what}\n" for verb, what in VERBS.items())
    + "\nTry: descend fit digits\nEach verb has its own help: descend fit --help\n"
    + "Every verb takes -q: no progress, only results and errors.\n"
    + "Every verb takes --import MODULE: a module, found from the current folder, that defines techniques of your own.\n"
)


def command() -> NoReturn:
    """Be the process of a command: run ``main``, and leave without taking apart what was imported.

    Taking torch's modules and every object apart one by one took 2.4 s of processor time after a fit. What was registered to be
    done at the end (``atexit``) is done, and what was printed is written.
    """
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done: a Ctrl-C now would only show where Python had got to
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # the reader of a pipe went away, or a stream is closed: Python's own end copes with it
        sys.exit(status)
    os._exit(status)


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Returns the exit status: 0 done, 1 an error that was explained, 2 wrong usage, 130 interrupted.

    Wrong usage is a command that must be typed differently: an unknown verb or flag, a value outside its interval, text that
    names no technique, settings that exclude each other or have no effect.
    """
    STARTED.set(time.perf_counter())
    arguments = sys.argv[1:] if argv is None else argv
    sys.stdout, sys.stderr = (stream or _nowhere() for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name that the terminal's encoding lacks is escaped, not fatal
            stream.reconfigure(errors="backslashreplace")
    if arguments[:1] == ["help"] and arguments[1:2] and arguments[1] in VERBS:  # as of git
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return _explained(lambda: _taken(lambda: print(HELP, end="")))
    if arguments[0] == "--version":
        from descend import __version__

        return _explained(lambda: _taken(lambda: print(f"descend {__version__}")))
    verb, *rest = arguments
    if verb not in VERBS:
        return _unknown(verb)
    if verb != "fit" and os.environ.get("WORLD_SIZE", "1") != "1" and "TORCHELASTIC_RUN_ID" in os.environ:
        return _alone(verb)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch loads: its idle threads would fight Numba's for the cores
    return _run(verb, rest)


def _nowhere() -> TextIO:
    """Return what takes the place of a stream that the caller has closed (``>&-``), which Python leaves at None."""
    from pathlib import Path

    return Path(os.devnull).open("w", encoding="utf-8")


def _alone(verb: str) -> int:
    """Tell, in one of the processes that torchrun has started, that a verb runs in one."""
    if os.environ.get("RANK") == "0":
        from descend.cli.output import tell

        tell(f"descend {verb}: runs in one process; torchrun is for fit. Try: descend {verb} ...", file=sys.stderr)
    return 2


def module_of(verb: str) -> str:
    """Return the name of the module that holds a verb."""
    return f"descend.cli.{_MODULES.get(verb, verb)}"


def _imported(words: list[str]) -> list[str]:
    """Import what ``--import MODULE`` names, and return the other words. Raises KnobError for a module that is not found."""
    from pathlib import Path

    from descend.errors import KnobError

    left, waiting = list[str](), iter(words)
    for word in waiting:
        name, given, value = word.partition("=")
        if name != "--import":
            left.append(word)
            continue
        module = value if given else next(waiting, "")
        sys.path.insert(0, str(Path.cwd()))
        try:
            import_module(module)
        except (ModuleNotFoundError, ValueError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name != module:
                raise  # the module is there; what it imports is not
            raise KnobError("--import", "must name a module that Python finds from here", got=module) from None
        finally:
            sys.path.pop(0)
    return left


def _unknown(verb: str) -> int:
    from descend.cli import elsewhere
    from descend.cli.output import tell
    from descend.errors import nearest
    from descend.printable import shortened

    ours = elsewhere.VERBS.get(verb)
    told = f"Here it is: descend {ours}." if ours else nearest(verb, VERBS)
    tell(f"descend: must be given a verb, got {shortened(repr(verb))}. {told}", file=sys.stderr)
    return 2


def _run(verb: str, rest: list[str]) -> int:
    from descend.cli.output import QUIET

    QUIET.set(False)  # an earlier command of this process may have been asked to be quiet

    def work() -> int:
        with _bars_taken_away():
            return import_module(module_of(verb)).main(_imported(rest))

    return _explained(work)


def _taken(write: Callable[[], object]) -> int:
    """Let standard output take something; returns 0. Raises OutputError in its name where it does not, as on a full disk."""
    try:
        write()
    except OSError:  # only then: to import what knows of outputs takes as long as all else that `descend --help` does
        from descend.cli.output import STANDARD_OUTPUT
        from descend.outputs import taken_by

        with taken_by(STANDARD_OUTPUT):
            raise
    return 0


def _explained(work: Callable[[], int]) -> int:
    """Do the work of a command, and see that standard output has taken what it printed; returns the exit status."""
    came = list[int]()
    try:
        with _noting_interrupts(came):
            try:
                return work()
            finally:
                _taken(sys.stdout.flush)
    except (Exception, KeyboardInterrupt) as error:
        status = _told(error, came)
        if status is None:
            raise
        return status


def _told(error: BaseException, came: list[int]) -> int | None:
    """Tell an error in a sentence, and Ctrl-C in a word; returns the exit status, None for an error of the program's own.

    came: the interrupts that there were.
    """
    from descend.cli.output import STANDARD_OUTPUT, tell
    from descend.errors import DescendError, KnobError, OutputError, SpecError
    from descend.printable import shortened

    if isinstance(error, DescendError):
        if isinstance(error, OutputError) and error.who == STANDARD_OUTPUT:
            _give_up_stdout()
        tell(*f"error: {error}".split("\n"), file=sys.stderr)
        return 2 if isinstance(error, (KnobError, SpecError)) else 1
    if isinstance(error, BrokenPipeError):  # the reader of a pipe went away: `descend list | head`
        _give_up_stdout()
        return 1
    if isinstance(error, OSError):  # a disk or a folder said no; its own words name the file
        tell(f"error: {shortened(str(error), MOST_SAID)}", file=sys.stderr)
        return 1
    if isinstance(error, KeyboardInterrupt) or came:  # or what an import makes of Ctrl-C
        tell("Stopped.", file=sys.stderr)
        return 130
    return None


def _give_up_stdout() -> None:
    """Let what standard output has not taken go nowhere, or Python tells of it once more at its end."""
    with suppress(OSError, ValueError):  # it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _bars_taken_away() -> Iterator[None]:
    """Take bars away however a verb ends: who tells an error knows of none."""
    from descend.cli.output import take_away

    try:
        yield
    finally:
        take_away()


@contextmanager
def _noting_interrupts(came: list[int]) -> Iterator[None]:
    """Note in ``came`` that Ctrl-C came, and raise KeyboardInterrupt as Python does.

    NumPy's compiled modules, interrupted while they are imported, lose it and raise something else: AttributeError, ImportError.
    A handler that somebody else has installed stays. Outside the main thread Python allows none.
    """

    def note(number: int, _frame: FrameType | None) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
