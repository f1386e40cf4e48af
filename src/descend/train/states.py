"""The network of a run as a function of its weights: the loss on a fixed sample of validation pictures, at any state.

What is moved is the module that was trained (a head, the later stages and a head, or everything), under the names of its own
``state_dict``, which are those of the snapshots that ``fit --snapshots`` writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from descend import rng
from descend.errors import DataError, RunError
from descend.progress import Progress
from descend.train import folder
from descend.train.prepare import prepare
from descend.train.run import Run
from descend.train.run_log import RunLog

State = dict[str, NDArray[Any]]


class States:
    """Opens a run to be asked for its loss at any weights.

    n_pictures: how many validation pictures, drawn by the run's seed, at most; ``n_pictures`` afterwards says how many there are.
    Batch norms that were trained measure their statistics anew at every state, on each batch of the sample: those of one state
    say nothing about another. Everything else is in eval mode. Raises RunError where the run's data are not what they were,
    DataError for a run on arrays.
    """

    def __init__(self, run: Run, *, n_pictures: int, progress: Progress) -> None:
        self.run, recipe = run, run.recipe
        if recipe.data is None:
            raise DataError("slice", "needs a run whose pictures lie on disk", got="a run on arrays")
        center = run.classifier.state_dict()
        setup = prepare(recipe, log=RunLog(writes=False), progress=progress, who="slice", of=run)
        setup.classifier.load_state_dict(center)
        self.module, dataset = setup.mode_task.module, setup.dataset
        rows = dataset.indices("val")
        if not len(rows):
            raise DataError("slice", "needs a run with a validation split, whose loss it draws", got=run.record.validated_by)
        drawn = rng.uniform(run.record.seed, "slice", ids=dataset.ids[rows])[:, 0]
        rows = np.sort(rows[np.argsort(drawn, kind="stable")[:n_pictures]])
        self.n_pictures = len(rows)
        self._inputs: list[Tensor] = list(setup.mode_task.inputs(rows))
        self._labels = torch.from_numpy(dataset.labels[rows]).to(self._inputs[0].device)
        _measuring(self.module)

    def center(self) -> State:
        """Return the state of the run's result."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.module.state_dict().items()}

    def trained(self) -> list[str]:
        """Return the names of what training moved."""
        return [name for name, value in self.module.named_parameters() if value.requires_grad]

    def snapshots(self) -> dict[int, State]:
        """Return epochs done -> state, in order; empty for a run without snapshots. Raises RunError for a damaged one."""
        states: dict[int, State] = {}
        for path in sorted((self.run.folder / folder.SNAPSHOTS).glob("*.safetensors")):
            try:
                states[int(path.stem)] = load_file(path)
            except (SafetensorError, ValueError, OSError) as error:
                raise RunError(str(path), f"must be an intact snapshot ({str(error).splitlines()[0]})") from error
        return states

    def loss(self, state: State) -> float:
        """Return the mean cross-entropy, in nats, of the sample at ``state``; the module is left there."""
        self.module.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()})
        total, at = 0.0, 0
        with torch.no_grad():
            for inputs in self._inputs:
                labels = self._labels[at : at + len(inputs)]
                total += float(cross_entropy(self.module(inputs).float(), labels, reduction="sum"))
                at += len(inputs)
        return total / at


def _measuring(module: nn.Module) -> None:
    """Put the norms that were trained into batch statistics without memory, all else into eval mode."""
    module.train()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = 0.0
        else:
            part.training = False
