"""An error that stops a training, told with the place where it happened, what to change, and what is kept."""

from __future__ import annotations

from descend.errors import DescendError, TrainingError, way_to_write
from descend.printable import shortened
from descend.train.checkpoint import Best
from descend.train.loop import Position, Task
from descend.train.nonfinite import largest_gradients
from descend.train.plan import Plan

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch's RuntimeErrors say: it has no common type for a full memory."""


def in_words(error: Exception, plan: Plan) -> Exception:
    """Return a full memory as a TrainingError that names what to make smaller; any other error as it is."""
    what = str(error).partition("\n")[0]
    of_torch = isinstance(error, RuntimeError) and any(words in what for words in _NO_MEMORY)
    if isinstance(error, DescendError) or not (isinstance(error, MemoryError) or of_torch):
        return error
    failure = TrainingError(
        "training", f"must fit into memory, with {sizes(plan)} ({shortened(what) or 'no more memory'})",
        fix=f"{smaller(plan)} Or close other programs.",
    )  # fmt: skip
    failure.__cause__ = error
    return failure


def sizes(plan: Plan) -> str:
    """Return what decides how much memory a step takes."""
    return f"batches of {plan.batch_size} pictures of {plan.size} x {plan.size} px"


def smaller(plan: Plan) -> str:
    """Return what makes a step smaller."""
    if plan.batch_size == 1 or "batch_size" not in plan.settings:
        return "Lower --size."
    half = plan.batch_size // 2
    return f'Lower --batch-size, for example to {half} (--gradients "accumulate(n=2)" keeps the pictures per step), or --size.'


def _of_the_disk(error: OSError) -> TrainingError:
    """Return what a disk or a file has refused as a sentence."""
    failure = TrainingError("training", f"was stopped by the system ({type(error).__name__}: {error})",
                            fix=f"{way_to_write(error, 'What was saved before is intact')}.")  # fmt: skip
    failure.__cause__ = error
    return failure


def with_location(error: Exception, plan: Plan, task: Task, position: Position) -> Exception:
    """Return the error, in words, with lines that say where training stood: epoch, step, learning rate, largest gradients.

    position: the step that failed, or the end of an epoch. What a callback of one's own has raised has the lines as notes.
    """
    n_steps = task.source.n_steps
    epoch, step = position.epoch, min(position.step, n_steps - 1)
    if epoch == task.epochs:  # what follows the last step failed
        epoch, step = epoch - 1, n_steps - 1
    lines = [f"in epoch {epoch + 1}, step {step + 1} of {n_steps}, at learning rate {task.set_lr(epoch, step):.3g}"]
    worst = largest_gradients(task.module)
    if worst:
        lines.append(f"gradient norms, the worst first: {worst}")
    error = _of_the_disk(error) if isinstance(error, OSError) else in_words(error, plan)
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
