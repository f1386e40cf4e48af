"""Several processes, started by ``torchrun``, that train one run: each computes its part of every batch (``World``'s other kind).

    torchrun --nproc-per-node 2 -m descend fit photos/

torch's DistributedDataParallel adds up the gradients while the backward pass still runs. It adds, it does not average: the loss
that every process takes is that of the whole batch, on logits of which its own have a gradient, so the sum is the gradient of one
process, whatever the parts are (the last batch is smaller; class weights weigh). gloo between processors, nccl between GPUs.

What is sent as an object goes only to and from processes that ``torchrun`` has started together; it is never read from a file.
"""

from __future__ import annotations

import itertools
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from descend.data.pool import n_threads
from descend.errors import DescendError, TrainingError, causes
from descend.regularize import StochasticDepth, SynchronizedNorms
from descend.train.interrupt import Interrupted
from descend.train.world import Share, World, belonging_to
from descend.transfer import Divided, Work

if TYPE_CHECKING:
    from descend.train.world import Rows

T = TypeVar("T")

LONGEST = timedelta(days=7)  # that one waits for another that decodes or judges; one that has died is noticed at once
SENT_BYTES = 2**26  # of an array, at a time
TOLD = "told"  # counts the processes that had something to say about the end
_times = itertools.count()


class Processes(World):
    """The processes that ``torchrun`` has started, seen from one: its ``rank`` of ``size``, on this machine ``local_rank``."""

    def __init__(self) -> None:
        store, self.rank, self.size = next(rendezvous("env://", timeout=timedelta(minutes=10)))
        self.store = PrefixStore(f"descend/{next(_times)}", store)  # a second run of the same processes has keys of its own
        self.local_rank = int(os.environ.get("LOCAL_RANK", self.rank))
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        has_gpus = torch.cuda.is_available() and self.local_size <= torch.cuda.device_count()
        self.backend = "nccl" if has_gpus else "gloo"
        if self.backend == "nccl":
            torch.cuda.set_device(self.local_rank)  # "cuda" means this one from here on
        backends = "cpu:gloo,cuda:nccl" if self.backend == "nccl" else "gloo"
        dist.init_process_group(backends, store=PrefixStore("group", self.store), rank=self.rank, world_size=self.size,
                                timeout=LONGEST)  # fmt: skip
        group = dist.new_group(timeout=LONGEST)  # of one's own: DistributedDataParallel's sums run at the same time
        self.group = cast(dist.ProcessGroup, group)  # every process is a member

    def command(self) -> str:
        """Return the command that trains with as many processes as there are."""
        nodes = f"--nnodes {self.size // self.local_size} " if self.size > self.local_size else ""
        return f"torchrun {nodes}--nproc-per-node {self.local_size} -m descend fit"

    def threads(self, asked: int | None) -> int | None:
        """Return ``asked``; else OMP_NUM_THREADS; else this process's part of the processors.

        torchrun sets OMP_NUM_THREADS=1 where it is not set, so that 1 says nothing.
        """
        given = os.environ.get("OMP_NUM_THREADS", "1")
        if asked is None and given.isdigit() and int(given) > 1:
            return int(given)
        return asked or max(1, n_threads(None) // self.local_size)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let the process that leads pass the block first, then one of each other machine, then the rest."""
        mine = 0 if self.leads else 1 if self.local_rank == 0 else 2
        for turn in range(3):
            if turn == mine:
                yield
            self._wait()

    def close(self, *, together: bool) -> None:
        """Leave the others: when all have come to the end, or at once, which they notice if they wait for this process."""
        if together:
            self._wait()
        if together or self.backend == "gloo":  # nccl would wait for those who have ended
            dist.destroy_process_group()

    # ------------------------------------------------------------------------------------------------ in every step

    def share(self, n: int) -> Share:
        """Return this process's part of n rows; parts differ by one row at most."""
        return Share(n * self.rank // self.size, n * (self.rank + 1) // self.size, n)

    def parallel(self, module: nn.Module) -> nn.Module:
        """Return what runs ``module`` and adds up the gradients of all processes."""
        skipped = any(isinstance(part, StochasticDepth) and part.per == "batch" and part.p for part in module.modules())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of broadcast_buffers, whose new name older versions do not know
            wrapped = DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=skipped)

        def added(bucket: Any) -> Any:
            work = dist.all_reduce(bucket.buffer(), async_op=True)
            return cast(Any, work).get_future().then(lambda future: future.value()[0])

        wrapped.register_comm_hook(None, lambda _, bucket: added(bucket))  # of annotations torch would make types
        return wrapped

    def synchronized(self, share: Share | None) -> AbstractContextManager[Any]:
        """Let batch norms normalize by the statistics of all processes' rows while the block runs."""
        return SynchronizedNorms(self._add, counts=share is None or not share.is_empty)

    def joined(self, logits: Tensor, targets: Tensor, share: Share | None) -> tuple[Tensor, Tensor]:
        """Return logits (n, K) and targets (n,) or (n, K) of the whole batch; gradients flow to this process's logits."""
        assert share is not None  # the sources of several processes say so
        n_own, n_classes = share.stop - share.start, logits.shape[1]
        own, columns = logits[:n_own], targets[:n_own]  # an empty share has one row that does not count
        columns = columns[:, None] if targets.ndim == 1 else columns
        exact = torch.promote_types(logits.dtype, torch.float32)  # of labels, too
        rows = torch.zeros(share.n, n_classes + (1 if targets.ndim == 1 else n_classes), dtype=exact, device=logits.device)
        rows[share.start : share.stop] = torch.cat([own.detach().to(exact), columns.to(exact)], 1)
        self._add(rows)
        others, all_targets = rows[:, :n_classes].to(logits.dtype), rows[:, n_classes:].to(targets.dtype)
        whole = torch.cat([others[: share.start], own, others[share.stop :]])
        return whole, all_targets[:, 0] if targets.ndim == 1 else all_targets

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        flags = torch.tensor([int(flag)])
        self._add(flags)
        return bool(flags)

    def _add(self, values: Tensor) -> None:
        dist.all_reduce(values, group=self.group)

    # ------------------------------------------------------------------------------------------------- now and then

    def told(self, value: T) -> T:
        """Return what the process that leads has for ``value``."""
        values: list[Any] = [value if self.leads else None]
        dist.broadcast_object_list(values, group=self.group, device=torch.device("cpu"))
        return value if self.leads else values[0]

    def same_weights(self, module: nn.Module) -> None:
        """Give ``module`` the parameters and buffers that it has in the process that leads."""
        with torch.no_grad():
            for value in [*module.parameters(), *module.buffers()]:
                sent = value.contiguous()
                dist.broadcast(sent, 0, group=self.group)
                value.copy_(sent)

    def answers(self, rows: Rows, answer: Callable[[Rows], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return ``answer(rows)``, (n, K); each process answers its part. Raises Interrupted where one was asked to stop."""
        share, mine = self.share(len(rows)), None
        try:
            mine = (True, None if share.is_empty else answer(rows[share.start : share.stop]))
        except Interrupted:
            mine = (False, None)
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, mine, group=self.group)
        if not all(whole for whole, _ in parts):
            raise Interrupted
        return np.concatenate([part for _, part in parts if part is not None])

    def together(
        self, work: Work, lead: Callable[[Divided], NDArray[np.float32]], room: Callable[..., Any]
    ) -> NDArray[np.float32]:
        """Return ``lead(divided)``, called in the process that leads; of every part all processes compute their share."""
        if not self.leads:
            while (job := self.told(cast("tuple[Rows, int] | None", None))) is not None:
                self._worked(work, *job)
            return self._same_array(None, room)

        def divided(parts: Sequence[Rows], view: int) -> Iterator[NDArray[np.float32]]:
            for rows in parts:
                self.told((rows, view))
                yield self._worked(work, rows, view)

        result = lead(divided)
        self.told(None)
        return self._same_array(result, room)

    def _worked(self, work: Work, rows: Rows, view: int) -> NDArray[np.float32]:
        """Return what all have computed of some rows, in the process that leads; elsewhere nothing that is whole."""
        share = self.share(len(rows))
        mine = None if share.is_empty else work(rows[share.start : share.stop], view)
        parts: list[Any] = [None] * self.size
        dist.gather_object(mine, parts if self.leads else None, group=self.group)
        there = [part for part in parts if part is not None]
        return np.concatenate(there) if there else np.zeros(0, np.float32)

    def _same_array(self, array: NDArray[np.float32] | None, room: Callable[..., Any]) -> NDArray[np.float32]:
        """Return the array that the process that leads has, (n, ...) float32."""
        shape = self.told(None if array is None else array.shape)
        assert shape is not None  # the process that leads has one
        taken = room(shape) if array is None else array
        step = max(1, SENT_BYTES // max(1, taken[:1].nbytes))
        for start in range(0, len(taken), step):
            part = torch.from_numpy(np.ascontiguousarray(taken[start : start + step]))
            dist.broadcast(part, 0, group=self.group)
            if array is None:
                taken[start : start + step] = part.numpy()
        return taken

    def _wait(self) -> None:
        self.any(False)

    # -------------------------------------------------------------------------------------------------------- the end

    def lost(self, error: BaseException) -> TrainingError | None:
        """Return in words that an error came of another process's end; None for any other error.

        torchrun ends the others with SIGTERM meanwhile, so that it may be what an interrupt has interrupted.
        """
        if not any(_is_of_the_connection(link) for link in causes(error)):
            return None
        on = f" Go on: {self.command()} --resume {shlex.quote(str(self.run))}" if self.run is not None else ""
        return TrainingError("training", f"needs all {self.size} processes, and another one has ended",
                             fix=f"It was killed, or had no more memory: torchrun says which, and how.{on}")  # fmt: skip

    def speaks_first(self) -> bool:
        """Return whether nobody has told of the end yet: of all processes that meet one, one tells it."""
        try:
            return self.store.add(TOLD, 1) == 1
        except RuntimeError:  # the store lived in a process that has ended
            return self.leads


def _is_of_the_connection(error: BaseException) -> bool:
    of_torch = isinstance(error, (dist.DistBackendError, dist.DistNetworkError)) or "gloo" in str(error)
    return isinstance(error, RuntimeError) and not isinstance(error, DescendError) and of_torch


@contextmanager
def processes() -> Iterator[World]:
    """Let this process belong to those that torchrun has started with it while the block runs.

    Only the process that leads has a console. An error is told by the first one that meets it, and ends all with a status that is
    not 0: the others end without a word.
    """
    world, console = Processes(), (sys.stdout, sys.stderr)
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,  # noqa: PTH123 (the null device)
        belonging_to(world),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Grad strides do not match")  # they differ where a side is 1: the memory is the same
        if not world.leads:
            sys.stdout = sys.stderr = nowhere
        try:
            yield world
            world.close(together=True)
        except BaseException as error:
            speaks = world.speaks_first()
            world.close(together=False)
            if not speaks:
                raise SystemExit(_status(error)) from None
            sys.stdout, sys.stderr = console
            told = world.lost(error)
            raise told or error from None
        finally:
            sys.stdout, sys.stderr = console


def _status(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 130 if isinstance(error, KeyboardInterrupt) else 1
