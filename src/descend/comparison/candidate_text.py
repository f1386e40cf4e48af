"""The words that name a candidate, taken apart before anything else is imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from descend.errors import DescendError, KnobError

BASE, VERBS = "base", ("add", "drop")


def require_two(texts: Sequence[str]) -> None:
    """Raise KnobError unless there are two candidates to compare."""
    if len(texts) < 2:
        raise KnobError("compare", "needs two candidates or more", got=list(texts), fix='Such as: base "add:mixup(alpha=0.2)".')


@contextmanager
def named(text: str) -> Iterator[None]:
    """Let an error say which candidate it is about, where its words do not."""
    try:
        yield
    except DescendError as error:
        if text != BASE:
            error.add_lines(f"  in candidate {text}")
        raise


def settings_in(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the settings that a candidate names, each with its value, or the parts of its list."""
    for word in words(text):
        name, equals, value = word.partition("=")
        if equals and name.replace("-", "_").isidentifier() and value != "none":
            yield name.replace("-", "_"), [part.strip() for part in split(value, "+")]


def is_change(word: str) -> bool:
    """Return whether a word names a candidate other than a recipe file, so that it cannot be meant as the data."""
    return word == BASE or "=" in word or (word.partition(":")[0] in VERBS and ":" in word)


def words(text: str) -> Iterator[str]:
    """Yield the words of a text that are separated by spaces outside brackets and quotation marks."""
    yield from (part for part in split(text, " ") if part)


def split(text: str, at: str) -> list[str]:
    """Return the parts of a text between the signs ``at`` that stand outside brackets and quotation marks."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        else:
            depth += (sign in "([") - (sign in ")]")
        if sign == at and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return parts
