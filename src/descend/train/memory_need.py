"""What a training step needs of memory, counted before the first one is taken.

    need = activations + gradients + slots of the optimizer + the best epoch's weights + the batch

Activations are what autograd keeps for the backward pass, counted on two pictures and taken times the batch. All of it is held at
the same time, so the need is a lower bound: what does not fit is refused, what fits may still be too much.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from descend import rng
from descend.available_memory import available_bytes, in_gb
from descend.errors import KnobError, TrainingError
from descend.optim.chain import chain_of
from descend.train.estimate import tried
from descend.train.failure import sizes, smaller
from descend.train.loop import Batch, Task
from descend.train.plan import Plan

N_COUNTED = 2  # pictures; batch norms need more than one
LARGE = 10**9  # bytes, from which on the need is told


def step_bytes(task: Task, batch: Batch) -> int | None:
    """Return the bytes that a step holds at once, beside the weights; None where the module takes only whole batches.

    Raises KnobError for a batch that batch norms cannot learn from.
    """
    n = min(N_COUNTED, len(batch.ids))
    module = copy.deepcopy(task.computed).train()
    own = {value.untyped_storage().data_ptr() for value in (*module.parameters(), *module.buffers())}
    kept = dict[int, int]()  # where the memory lies -> bytes

    def keep(value: Tensor) -> Tensor:
        if value.untyped_storage().data_ptr() not in own:
            kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    few = [batch.inputs[:n].clone(), batch.targets[:n].clone()]  # of their own: a view keeps the whole batch
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), rng.context(0, 0, batch.ids[:n]):
            loss = task.loss(tried(module, few[0]), few[1])
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, KnobError):
            raise
        return None
    activations = sum(kept.values()) * len(batch.ids) // n
    del loss
    weights = sum(value.nbytes for value in module.parameters())
    trained = [value for value in module.parameters() if value.requires_grad]
    return activations + weights + batch.inputs.nbytes + sum(value.nbytes + _slots_bytes(task, value) for value in trained)


def _slots_bytes(task: Task, parameter: Tensor) -> int:
    """Return the bytes of what the update rule keeps of a parameter; what wraps the rule may keep more."""
    rule = chain_of(task.optimizer.rule).core
    shapes = [rule.slot_shape(slot, tuple(parameter.shape)) for slot in rule.slots]
    return sum(math.prod(shape) * parameter.element_size() for shape in shapes if shape is not None)


def free_bytes(device: str) -> int | None:
    """Return the bytes that are free on a device; None where nobody tells."""
    if not device.startswith("cuda"):
        return available_bytes()
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


def refuse_too_much(need: int, plan: Plan) -> None:
    """Raise TrainingError where a step needs more memory than there is."""
    free = free_bytes(plan.device)
    if free is not None and need > free:
        needed = f"{sizes(plan)} need {in_gb(need)} or more, {in_gb(free)} are free"
        raise TrainingError("training", f"must fit into memory: {needed}",
                            fix=f"{smaller(plan)} Or close other programs.")  # fmt: skip


def state_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's parameters and buffers: those of its file, but for names."""
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())
