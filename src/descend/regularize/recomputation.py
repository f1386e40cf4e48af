"""Draws under activation checkpointing: what the backward pass computes again drops what it dropped in the forward pass.

``torch.utils.checkpoint`` runs a part of a network again when the backward pass needs what was not kept. With other masks the
gradients would be wrong, and nobody would notice; but a layer that counts its calls would count on, and the context of the
forward pass has ended by then, or belongs to another thread. So a draw is noted at every part that is being run, and a part that
runs again gets its draws again, in their order, however often its layers are called and in whatever order parts come back.

torch tells no layer which part is being run. It is found where it stands: in the frames of ``torch.utils.checkpoint`` among the
callers (as torch 2.14 has them; where another version has others, no part is found, and a recomputation is refused), which takes
about 0.1 µs a caller.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch.utils.checkpoint import CheckpointFunction

from descend import rng
from descend.errors import ModelError

Drawn = TypeVar("Drawn")
_FILE = CheckpointFunction.forward.__code__.co_filename
_NOTE = "_descend_draws"  # at what stands for a part with torch, so that the note ends with it


@dataclass
class _Note:
    """What the layers in a part have drawn, by layer, and how far the backward pass ``task`` has come in it."""

    draws: dict[object, list[Any]] = field(default_factory=lambda: defaultdict(list))
    again: dict[object, int] = field(default_factory=lambda: defaultdict(int))
    task: int = -1

    def next_of(self, source: object, task: int) -> Any:
        """Return the next draw again; None where there was no further one. A part runs once at most in a backward pass."""
        if task != self.task:
            self.task, self.again = task, defaultdict(int)
        place, drawn = self.again[source], self.draws.get(source, [])
        self.again[source] += 1
        return drawn[place] if place < len(drawn) else None


def drawn_once(source: object, draw: Callable[[], Drawn], who: str) -> Drawn:
    """Return ``draw()``, or in a part that is computed again what ``source`` drew there in the forward pass.

    Raises ModelError within a backward pass where that is not known, unless a context says what is to be drawn.
    """
    running: list[_Note] = []
    task, known = torch._C._current_graph_task_id(), None  # -1: no backward pass; torch has no public word for it
    for part, is_again in _parts():
        note = _note_of(part)
        if is_again:
            known = note.next_of(source, task)
            break
        running.append(note)
    else:
        known = draw() if task == -1 or rng.coordinates() is not None else None
    if known is None:
        raise ModelError(who, "must know what it has dropped where the backward pass computes it again",
                         fix="Recompute with torch.utils.checkpoint and the same calls, or within rng.context.")  # fmt: skip
    for note in running:
        note.draws[source].append(known)
    return known


def _parts() -> Iterator[tuple[Any, bool]]:
    """Yield what stands for each part that is being run, the innermost first, and whether it is computed again."""
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _FILE:
            if code is CheckpointFunction.forward.__code__ or code is CheckpointFunction.backward.__code__:
                yield frame.f_locals["ctx"], code is CheckpointFunction.backward.__code__
            elif code.co_name == "unpack_hook" and "frame" in frame.f_locals:  # use_reentrant=False
                yield frame.f_locals["frame"], True
            elif inspect.isgenerator(begun := frame.f_locals.get("gen")):
                part = inspect.getgeneratorlocals(begun).get("new_frame")
                if part is not None:
                    yield part, False
        frame = frame.f_back


def _note_of(part: Any) -> _Note:
    note = getattr(part, _NOTE, None)
    if note is None:
        note = _Note()
        setattr(part, _NOTE, note)
    return note
