"""The processes that train one run together; here for a run of one process, which has nothing to say to anybody.

``World`` is all that the rest of the package knows of other processes. Every method is the one of a single process: it returns
what it is given. ``distributed.Processes`` is the other kind, made where ``torchrun`` has started several; only that file imports
``torch.distributed``.

Every process runs the same code on the same plan. Of a batch, which all of them know, each reads and computes the part
``share(n)``: contiguous, so that what is put together again stands in the order of one process. The one that ``leads`` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from descend.errors import TrainingError

if TYPE_CHECKING:  # the command line asks ``are_several`` before it loads anything large
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from descend.transfer import Divided, Work

    Rows: TypeAlias = NDArray[np.int64]

T = TypeVar("T")


def are_several(environment: Mapping[str, str]) -> bool:
    """Return whether this process was started together with others, as torchrun does it."""
    n = environment.get("WORLD_SIZE", "1")
    return n.isdigit() and int(n) > 1 and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys()


@dataclass(frozen=True)
class Share:
    """The part of ``n`` rows that belongs to one process: from ``start`` up to ``stop``; it may be empty."""

    start: int
    stop: int
    n: int

    @property
    def is_empty(self) -> bool:
        """Whether the process has no row of its own."""
        return self.start == self.stop

    @property
    def rows(self) -> Rows:
        """The positions that the process reads: its own, or where it has none the first, which is run and does not count."""
        import numpy as np

        return np.zeros(1, np.int64) if self.is_empty else np.arange(self.start, self.stop)


class World:
    """A run of one process."""

    rank = 0
    size = 1
    backend = ""
    run: Path | None = None
    """The run folder, as soon as all processes know it."""
    helpers = ""
    """Who else computes features, in words, where this process alone trains."""

    @property
    def leads(self) -> bool:
        """Whether this process writes the run and speaks for all."""
        return self.rank == 0

    def command(self) -> str:
        """Return the command that trains with as many processes as there are."""
        return "descend fit"

    def threads(self, asked: int | None) -> int | None:
        """Return the number of torch's threads, ``asked`` for or this process's part of the processors; None: torch's choice."""
        return asked

    def in_turn(self) -> AbstractContextManager[None]:
        """Let the process that leads pass the block first, so that the others find in the cache what it has left there."""
        return nullcontext()

    # ------------------------------------------------------------------------------------------------ in every step

    def share(self, n: int) -> Share | None:
        """Return this process's part of n rows; None: all of them."""
        del n
        return None

    def parallel(self, module: nn.Module) -> nn.Module:
        """Return what runs ``module`` and adds up the gradients of all processes."""
        return module

    def synchronized(self, share: Share | None) -> AbstractContextManager[Any]:
        """Let batch norms normalize by the statistics of all processes' rows while the block runs."""
        del share
        return nullcontext()

    def joined(self, logits: Tensor, targets: Tensor, share: Share | None) -> tuple[Tensor, Tensor]:
        """Return logits (n, K) and targets (n,) or (n, K) of the whole batch; gradients flow to this process's logits."""
        del share
        return logits, targets

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return flag

    # ------------------------------------------------------------------------------------------------- now and then

    def told(self, value: T) -> T:
        """Return what the process that leads has for ``value``."""
        return value

    def same_weights(self, module: nn.Module) -> None:
        """Give ``module`` the parameters and buffers that it has in the process that leads."""

    def answers(self, rows: Rows, answer: Callable[[Rows], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return ``answer(rows)``, (n, K); each process answers its part."""
        return answer(rows)

    def together(
        self, work: Work, lead: Callable[[Divided], NDArray[np.float32]], room: Callable[..., Any]
    ) -> NDArray[np.float32]:
        """Return ``lead(divided)``, called in the process that leads; ``divided`` does the work with all that there are.

        room: makes the array, from its shape, that the other processes take the result into.
        """
        del room
        return lead(work.of_parts)

    def lost(self, error: BaseException) -> TrainingError | None:
        """Return in words that an error came of another process's end; None for any other error."""
        del error
        return None


ALONE = World()
_current: ContextVar[World] = ContextVar("descend_world", default=ALONE)


def current() -> World:
    """Return the processes that this one belongs to."""
    return _current.get()


@contextmanager
def belonging_to(world: World) -> Iterator[None]:
    """Let ``current()`` be ``world`` while the block runs."""
    token = _current.set(world)
    try:
        yield
    finally:
        _current.reset(token)
