"""What several processes can train together, with the result of one: everything else is refused, each with its reason."""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm

from descend.errors import KnobError
from descend.models import Classifier
from descend.regularize import GhostBatchNorm, Regularizer
from descend.train.plan import Plan
from descend.train.record_types import Processes
from descend.train.world import World


def check_divisible(plan: Plan, world: World) -> None:
    """Raise KnobError for what only one process can do. What a search or a fit does alone is waited for by the others."""
    if world.helpers and plan.transfer == "scratch":
        raise KnobError("on", "has no effect: a cluster computes features of a frozen network, and all of this one is trained",
                        got="ray", fix="Leave it out; several processes train with torchrun.")  # fmt: skip
    if world.size == 1:
        return
    if plan.transfer == "auto":
        raise KnobError("transfer", "a search runs in one process: it measures how fast that is", got="auto",
                        fix="Add --transfer features, head, finetune or scratch; or run it without torchrun.")  # fmt: skip
    for item in plan.regularize:
        if isinstance(item, GhostBatchNorm):
            raise KnobError(str(item), "normalizes over groups of neighbors in the batch, which several processes would cut",
                            fix="Leave it out: batch norms are synchronized; or run descend fit without torchrun.")  # fmt: skip
        if type(item).extra_loss is not Regularizer.extra_loss:
            raise KnobError(str(item), "is a penalty on means over the whole batch, of which each process sees a part",
                            fix="Leave it out, or run descend fit without torchrun.")  # fmt: skip
    if "batch_size" in plan.settings and plan.batch_size < world.size:
        raise KnobError("batch_size", f"must give each of {world.size} processes a picture", got=plan.batch_size,
                        fix="Raise --batch-size, or start fewer processes.")  # fmt: skip


def described(plan: Plan, network: Classifier, world: World, n_threads: int) -> Processes:
    """Return how a plan's network is trained by several processes, for the record."""
    has_norms = any(isinstance(part, _BatchNorm) for part in network.modules())
    norms = "synchronized" if plan.norm == "train" else "frozen"
    backend = world.backend if plan.device.startswith("cuda") else "gloo"
    return Processes(n=world.size, backend=backend, threads=n_threads, batch_norms=norms if has_norms else "none")


def in_a_line(processes: Processes) -> str:
    """Return one line that says so on a terminal."""
    n, threads, norms = processes["n"], processes["threads"], processes["batch_norms"]
    told = "" if norms == "none" else f"; batch norms {norms}"
    return f"  processes  {n}  ({processes['backend']}, {threads} thread{'s' * (threads != 1)} each{told})"
