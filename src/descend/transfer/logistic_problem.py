"""The penalized loss of multinomial logistic regression, and its minimum for one strength of the penalty after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from descend.transfer.feature_axes import Doubles, Floats
from descend.transfer.side_by_side import side_by_side

TOLERANCE = 1e-7
"""Relative decrease of the loss at which a fit ends. At 1e-4 the answer is still far from its optimum and overconfident: on 1,444
pictures of hands the held-out loss was 0.34 instead of 0.16, because a weak penalty had hardly begun to act."""
CHOOSING = 1e-5
"""The same of a fit that only helps to choose, as a share of the loss that it starts from: as strict as the other where most
answers are certain, and half of the evaluations where they are not. On 1,721 pictures of 81 classes 330 instead of 649, on
blurred flowers 235 of 388, on hands 655 of 853, with the same strengths chosen and held-out losses within 3e-4."""
PART = 4_000_000
"""Coordinates of which one thread sums the loss, where threads share it. Threads that share a product of ten columns take as long
as one: 5,666 rows of 5,316 columns take 43 ms with one thread of torch and with two, and 20 to 24 ms in parts."""
CORRECTIONS = 10  # of L-BFGS: 20 take as many evaluations, and a tenth more time, which with 81 classes is SciPy's own


def go_on() -> None:
    """Let a fit go on."""


class Problem:
    """The penalized loss of (n, V, r) coordinates, to be solved for one strength after another, each from the last solution.

    shared: whether threads share each loss, a part of the rows each. class_weights: (K,), how many times a row of each class
    counts, with a mean over the rows near 1; None: once.
    """

    def __init__(
        self, coordinates: Floats, labels: NDArray[np.int64], n_classes: int, variances: Doubles,
        check: Callable[[], None] = go_on, *, shared: bool = False, class_weights: NDArray[np.float32] | None = None,
    ) -> None:  # fmt: skip
        n, n_views, r = coordinates.shape
        self.x = torch.from_numpy(np.ascontiguousarray(coordinates.reshape(n * n_views, r)))
        self.y = torch.from_numpy(np.repeat(labels, n_views))
        # whatever the number of threads: the bits are the same
        n_parts = max(1, math.ceil(self.x.numel() / PART)) if shared else 1
        self.class_weights = torch.ones(n_classes) if class_weights is None else torch.from_numpy(class_weights)
        split = (rows.tensor_split(n_parts) for rows in (self.x, self.y, self.class_weights[self.y]))
        self.parts = [*zip(*split, strict=True)]
        self.n_classes, self.variances, self.check = n_classes, variances, check
        self.solution: Doubles = np.zeros((self.x.shape[1] + 1, n_classes))

    def solve(self, strength: float, *, choosing: bool = False) -> Doubles:
        """Return the solution (r + 1, K), the last row the biases. choosing: as closely as a choice among strengths needs."""
        shape, n_rows = self.solution.shape, len(self.y)
        with side_by_side(len(self.parts), beside=len(self.parts) > 1) as run:

            def loss_and_gradient(flat: Doubles) -> tuple[float, Doubles]:
                self.check()
                w = torch.from_numpy(flat.reshape(shape)).float() * scale
                loss, of_weights, of_biases = _together(run(partial(_loss_and_gradients, w=w), self.parts))
                loss = loss / n_rows + strength / 2 * w[:-1].double().square().sum()
                gradient = torch.cat([of_weights.T / n_rows + strength * w[:-1], of_biases[None] / n_rows]) * scale
                return float(loss), gradient.double().numpy().ravel()

            at_start = torch.from_numpy(self.solution).float()
            loss, spread = (total / n_rows for total in _together(run(partial(_loss_and_spread, w=at_start), self.parts)))
            scale = self._preconditioner(strength, spread.double().numpy())
            share = CHOOSING * min(float(loss), 1.0)  # SciPy's tolerance is of a loss of 1 at least
            tolerance = max(TOLERANCE, share) if choosing else TOLERANCE
            start = (self.solution / scale.double().numpy()).ravel()
            options = {"maxiter": 500, "maxcor": CORRECTIONS, "ftol": tolerance, "gtol": 1e-7}
            result = scipy.optimize.minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
        self.solution = result.x.reshape(shape) * scale.double().numpy()
        return self.solution

    def probabilities(self, coordinates: Floats) -> Doubles:
        """Return the probabilities (n, K) of other pictures (n, V, r), averaged over their views."""
        n, n_views, r = coordinates.shape
        w = torch.from_numpy(self.solution).float()
        p = torch.softmax(_logits(torch.from_numpy(coordinates.reshape(n * n_views, r)), w), 0)
        return p.T.double().reshape(n, n_views, -1).mean(1).numpy()

    def _preconditioner(self, strength: float, spread: Doubles) -> torch.Tensor:
        """Return 1 / sqrt(curvature), (r + 1, K), which gives all axes steps of one length. spread: mean p (1 - p) of classes."""
        spread = spread + 1e-12
        curvature = np.concatenate([self.variances[:, None] * spread + strength, spread[None]])
        return torch.from_numpy(1 / np.sqrt(curvature)).float()


Part = tuple[
    torch.Tensor, torch.Tensor, torch.Tensor
]  # some rows x (m, r), their labels y (m,) and how many times they count (m,)


def _together(parts: Sequence[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    """Return the sums over parts of each of their tensors."""
    return tuple(torch.stack(of_all).sum(0) for of_all in zip(*parts, strict=True))


def _log_p(part: Part, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a part's loss, summed, and the logarithms of its probabilities, (K, m)."""
    x, y, counted = part
    log_p = torch.log_softmax(_logits(x, w), 0)
    right = log_p[y, torch.arange(len(y))]
    return -(
        right * counted
    ).double().sum(), log_p  # rounded to 24 bits, sums would end a fit by chance: its tolerance is as small


def _loss_and_spread(part: Part, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a part's loss and p (1 - p) of each class, (K,), as sums."""
    loss, log_p = _log_p(part, w)
    p = log_p.exp_()
    return loss, (p * (1 - p) * part[2]).sum(1)


def _loss_and_gradients(part: Part, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a part's loss and its gradients by weights (K, r) and by biases (K,), as sums."""
    x, y, counted = part
    loss, log_p = _log_p(part, w)
    residual = log_p.exp_()
    residual[y, torch.arange(len(y))] -= 1
    residual *= counted
    return loss, residual @ x, residual.sum(1)


def _logits(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return the logits of x (n, r) under w (r + 1, K), its last row the biases: (K, n).

    Classes come first, here and in the gradient: products of a tall matrix by a narrow one take 4 to 13 times as long (AMD EPYC,
    5,667 x 2,024 by 2 to 10; as long from 100 columns on).
    """
    return torch.addmm(w[-1, :, None], w[:-1].T.contiguous(), x.T)
