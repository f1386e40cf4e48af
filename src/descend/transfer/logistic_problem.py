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
        self.n_rows = torch.tensor(float(len(self.y)))
        self.n_classes, self.variances, self.check = n_classes, variances, check
        self.solution: Doubles = np.zeros((r + 1, n_classes))

    def solve(self, strength: float, *, choosing: bool = False) -> Doubles:
        """Return the solution (r + 1, K), the last row the biases. choosing: as closely as a choice among strengths needs."""
        shape, n_rows = self.solution.shape, self.n_rows
        with side_by_side(len(self.parts), beside=len(self.parts) > 1) as run:

            def loss_and_gradient(flat: Doubles) -> tuple[float, Doubles]:
                self.check()
                w = torch.from_numpy(flat.reshape(shape)).float() * scale
                loss, of_weights, of_biases = _together(run(partial(_loss_and_gradients, w=w), self.parts))
                loss = loss / n_rows + strength / 2 * w[..., :-1, :].double().square().sum((-2, -1))
                of_weights = of_weights.mT / n_rows[..., None, None] + strength * w[..., :-1, :]
                of_biases = (of_biases / n_rows[..., None])[..., None, :]
                gradient = torch.cat([of_weights, of_biases], -2) * scale / n_rows.numel()
                return float(loss.mean()), gradient.double().numpy().ravel()

            at_start = torch.from_numpy(self.solution).float()
            loss, spread = _together(run(partial(_loss_and_spread, w=at_start), self.parts))
            scale = self._preconditioner(strength, (spread / n_rows[..., None]).double().numpy())
            share = CHOOSING * float((loss / n_rows).clamp(max=1.0).mean())  # SciPy's tolerance is of a loss of 1 at least
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
        spread = (spread + 1e-12)[..., None, :]
        curvature = np.concatenate([self.variances[:, None] * spread + strength, spread], axis=-2)
        return torch.from_numpy(1 / np.sqrt(curvature)).float()


class Stacked(Problem):
    """Small problems as one, the sum of theirs: an evaluation of each takes longer to be called than to be computed.

    They have axes, classes and class weights in common; rows that the others have fewer than the longest count nothing. All are
    solved as closely as a fit that stays: that takes a twentieth more evaluations than a choice needs.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        first, longest = problems[0], max(len(each.y) for each in problems)
        self.problems, shape = problems, (len(problems), longest)
        x, y, counted = torch.zeros(*shape, first.x.shape[1]), torch.zeros(shape, dtype=torch.int64), torch.zeros(shape)
        for at, each in enumerate(problems):
            x[at, : len(each.y)], y[at, : len(each.y)] = each.x, each.y
            counted[at, : len(each.y)] = each.class_weights[each.y]
        self.parts, self.n_rows = [(x, y, counted)], torch.tensor([float(len(each.y)) for each in problems])
        self.variances, self.check = first.variances, first.check

    def solve(self, strength: float, *, choosing: bool = False) -> Doubles:
        """Solve all, from the solution of each: (n, r + 1, K)."""
        del choosing
        self.solution = np.stack([each.solution for each in self.problems])
        for each, solution in zip(self.problems, super().solve(strength), strict=True):
            each.solution = solution
        return self.solution


Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Some rows x (m, r), their labels y (m,) and how many times they count (m,); of stacked problems (..., m, r) and (..., m)."""


def _together(parts: Sequence[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    """Return the sums over parts of each of their tensors."""
    return tuple(torch.stack(of_all).sum(0) for of_all in zip(*parts, strict=True))


def _log_p(part: Part, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a part's loss, summed, and the logarithms of its probabilities, (K, m)."""
    x, y, counted = part
    log_p = torch.log_softmax(_logits(x, w), -2)
    right = log_p.gather(-2, y[..., None, :]).squeeze(-2)
    return -(right * counted).double().sum(-1), log_p  # summed in 24 bits it would end a fit by chance: its tolerance is as small


def _loss_and_spread(part: Part, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a part's loss and p (1 - p) of each class, (K,), as sums."""
    loss, log_p = _log_p(part, w)
    p = log_p.exp_()
    return loss, (p * (1 - p) * part[2][..., None, :]).sum(-1)


def _loss_and_gradients(part: Part, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a part's loss and its gradients by weights (K, r) and by biases (K,), as sums."""
    x, y, counted = part
    loss, log_p = _log_p(part, w)
    residual = log_p.exp_()
    residual.scatter_add_(-2, y[..., None, :], torch.full_like(counted, -1.0)[..., None, :])
    residual *= counted[..., None, :]
    return loss, residual @ x, residual.sum(-1)


def _logits(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return the logits of x (n, r) under w (r + 1, K), its last row the biases: (K, n).

    Classes come first, here and in the gradient: products of a tall matrix by a narrow one take 4 to 13 times as long (AMD EPYC,
    5,667 x 2,024 by 2 to 10; as long from 100 columns on).
    """
    return (w[..., :-1, :].mT.contiguous() @ x.mT).add_(w[..., -1, :, None])
