"""Every error that descend raises on purpose.

    DescendError
    ├── SpecError        (ValueError)   text that does not parse, or names no technique
    ├── KnobError        (ValueError)   a knob outside its interval, of the wrong type, or without effect
    ├── DataError        (ValueError)   a folder, table or array that cannot be trained on
    │   └── PictureError                one file that cannot be decoded
    ├── ModelError       (ValueError)   a backbone, layer or weight file that does not fit
    ├── RunError         (RuntimeError) a run folder that is missing, foreign, damaged or in the way
    │   └── OutputError                 a file that was asked for by name, and cannot be written there
    ├── TrainingError    (RuntimeError) training that cannot go on
    │   └── DivergenceError             gradients or a loss that are not finite
    └── MissingExtra     (ImportError)  an optional dependency that is not installed

A message reads ``<who>: <what must hold>, got <value>. <fix>``: who complains, the condition, what was met, and what
to do. Catch ``DescendError`` to catch them all; the second base keeps ``except ValueError`` honest in plain Python code.

What was met may be anything (a file's name, a whole file given for a number), so a message is safe to print: control characters
are escaped, ``who`` and ``got`` are cut after 200 characters, and the condition and the fix, which may repeat names and what a
library has said, after 1,000 and 4,000.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import TypeGuard

from descend.printable import printable, shortened

_NOTHING = object()
MOST_CONDITION, MOST_FIX = 1_000, 4_000  # characters


class DescendError(Exception):
    """The root: ``who`` complains that ``must`` does not hold, ``got`` was met instead, ``fix`` says what to do.

    below: lines to show below the sentence.
    """

    def __init__(self, who: str, must: str, *, got: object = _NOTHING, fix: str = "", below: Sequence[str] = ()) -> None:
        met = "" if got is _NOTHING else f", got {shortened(repr(got))}"
        must, fix = shortened(must, MOST_CONDITION), shortened(fix, MOST_FIX)
        self.who, self.must, self.fix = who, must, fix
        sentence = f"{shortened(who)}: {must}{met}.{' ' + fix if fix else ''}"
        super().__init__("\n".join(map(printable, (sentence, *below))))

    def add_lines(self, *lines: str) -> None:
        """Show more lines below the sentence: what only a caller knows."""
        self.args = ("\n".join([str(self), *map(printable, lines)]),)

    def __reduce__(self) -> tuple[object, ...]:  # the arguments differ from the message, so the default pickle fails
        return _revive, (type(self), str(self), self.__dict__)


def _revive(kind: type[DescendError], message: str, state: dict[str, object]) -> DescendError:
    error = kind.__new__(kind, message)
    error.__dict__.update(state)
    error.args = (message,)
    return error


class SpecError(DescendError, ValueError):
    """Text that does not parse as ``name(knob=value)``, or that names no registered technique."""


class KnobError(DescendError, ValueError):
    """A knob outside its legal interval, of the wrong type, unknown, or without effect on the run asked for."""


class DataError(DescendError, ValueError):
    """A folder, table or array that cannot be trained or evaluated on."""


class PictureError(DataError):
    """One picture that cannot be decoded."""


class ModelError(DescendError, ValueError):
    """A backbone, layer, engine or weight file that does not fit what was asked of it."""


class RunError(DescendError, RuntimeError):
    """A run folder that is missing, not one of ours, damaged, or in the way."""


class OutputError(RunError):
    """A file that was asked for by name, and that the disk or the rights of its folder do not take."""


class TrainingError(DescendError, RuntimeError):
    """Training that cannot go on."""


class DivergenceError(TrainingError):
    """Training whose gradients or loss have become NaN or infinite."""


class MissingExtra(DescendError, ImportError):
    """An optional dependency that is not installed; the message names the extra that brings it."""


def check_count(who: str, value: object, *, knob: str = "", least: int = 1, most: int | None = None) -> None:
    """Raise KnobError unless ``value`` is a whole number from ``least`` to ``most``. knob: its name, where ``who`` is another."""
    fits = not isinstance(value, bool) and isinstance(value, Integral) and least <= int(value) <= (most or int(value))
    if not fits:
        span = f">= {least}" if most is None else f"in [{least}, {most}]"
        raise KnobError(who, f"{knob} must be a whole number {span}".lstrip(), got=value)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?`` for the closest of ``known``, else a list of what there is."""
    known = sorted(known)
    return did_you_mean(name, known) or f"Known: {', '.join(known)}."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?`` for the closest of ``known``, "" where none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    close = [other for other in known if other.lower() == name.lower()] or close
    return f"Did you mean {close[0]!r}?" if close else ""


def first_line(error: BaseException) -> str:
    """Return what another library's error says, in one line of 200 characters at most; its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then what it came of: what it was raised from, or what was being handled when it was raised, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_full_disk(error: BaseException) -> TypeGuard[OSError]:
    """Return whether an error says that a disk takes no more."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def way_to_write(error: OSError, otherwise: str) -> str:
    """Return what to do where a file cannot be written: about the disk, or the largest file that may be; else ``otherwise``."""
    if error.errno == errno.EFBIG:
        return "Raise the largest size that a file may have (ulimit -f)"
    return "Free some space" if is_full_disk(error) else otherwise
