"""An error in the training loop, told with the place where it happened and with what is kept."""

from __future__ import annotations

from descend.errors import DescendError, TrainingError
from descend.train.checkpoint import Best
from descend.train.loop import Position, Task
from descend.train.nonfinite import largest_gradients

OUT_OF_RESOURCES = (OSError, MemoryError)
"""Errors of the machine: what they say is made a sentence; other foreign errors keep their type and their traceback."""


def located(error: Exception, task: Task, position: Position) -> Exception:
    """Return the error with lines that say where training stood: epoch, step, learning rate, largest gradients.

    position: the step that failed, or the end of an epoch. A full memory or disk becomes a TrainingError; what a callback of
    one's own has raised is returned as it is, with the lines as notes.
    """
    n_steps = task.source.n_steps
    step = min(position.step, n_steps - 1)
    lines = [
        f"in epoch {position.epoch + 1}, step {step + 1} of {n_steps}, at learning rate {task.set_lr(position.epoch, step):.3g}"
    ]
    worst = largest_gradients(task.module)
    if worst:
        lines.append(f"gradient norms, the worst first: {worst}")
    if isinstance(error, OUT_OF_RESOURCES) or "out of memory" in str(error):  # torch has no common type for the latter
        kind = type(error).__name__
        fix = "Free some space." if isinstance(error, OSError) else "Lower --batch-size or --size, or close other programs."
        failure = TrainingError("training", f"was stopped by the system ({kind}: {str(error) or 'no more memory'})", fix=fix)
        failure.__cause__ = error
        error = failure
    tell(error, *lines)
    return error


def tell(error: Exception, *lines: str) -> None:
    """Add lines to what an error shows."""
    if isinstance(error, DescendError):
        error.add_lines(*(f"  {line}" for line in lines))
    else:
        for line in lines:
            error.add_note(line)


def kept(best: Best, run: object, position: Position) -> list[str]:
    """Return lines on what is left of a training that failed, when it is saved. run: the run folder."""
    if best.state is None:
        return ["no epoch was complete: there is no model"]
    n_good = position.epoch
    which = f"epoch {best.epoch + 1}" if best.epoch >= 0 else "the state before the first epoch"
    last = f"the last good epoch is {n_good}; " if n_good else ""
    return [f"{last}the best so far, {which}, is kept as the model in {run}"]
