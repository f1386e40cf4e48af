"""Batch norms over the rows of several processes, here threads that add up what they hold: the numbers of one whole batch."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from descend.regularize import SynchronizedNorms


class Sum:
    """Adds up the tensors of ``n`` threads, in the order of the threads, and gives each the sum."""

    def __init__(self, n: int) -> None:
        self.barrier, self.held = threading.Barrier(n, timeout=60), dict[int, Tensor]()

    def of(self, rank: int) -> Callable[[Tensor], None]:
        def add(values: Tensor) -> None:
            self.held[rank] = values.clone()
            self.barrier.wait()
            total = sum(self.held[other] for other in sorted(self.held))
            self.barrier.wait()
            values.copy_(torch.as_tensor(total))

        return add


def in_parts(module: nn.Module, x: Tensor, weights: Tensor, parts: Sequence[slice]) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """Run copies of a module on parts of a batch, and their sums backward; an empty part runs a row that does not count."""
    total = Sum(len(parts))

    def run(rank: int) -> tuple[nn.Module, Tensor, Tensor]:
        part, own = parts[rank], copy.deepcopy(module)
        counts = part.start < part.stop
        rows = (x[part] if counts else x[:1]).clone().requires_grad_()
        with SynchronizedNorms(total.of(rank), counts=counts):
            out = own(rows)
        (out * weights[part] if counts else out[:0]).sum().backward()
        assert rows.grad is not None
        return own, out.detach()[: part.stop - part.start], rows.grad[: part.stop - part.start]

    with ThreadPoolExecutor(len(parts)) as pool:
        return [*pool.map(run, range(len(parts)))]


@pytest.mark.parametrize("parts", [[slice(0, 3), slice(3, 7)], [slice(0, 0), slice(0, 6), slice(6, 7)]], ids=["two", "one idle"])
@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.BatchNorm2d(4), (7, 4, 5, 3)),
        (nn.BatchNorm1d(4, affine=False), (7, 4)),
        (nn.BatchNorm2d(4, momentum=None), (7, 4, 2, 2)),
        (nn.Sequential(nn.Conv2d(4, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)), (7, 4, 5, 5)),
    ],
    ids=["maps", "vectors", "plain mean", "chain"],
)
def test_parts_together_give_what_the_whole_batch_gives(module: nn.Module, shape: tuple[int, ...], parts: list[slice]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 20
    module = copy.deepcopy(module).double().train()
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    whole, rows = copy.deepcopy(module), x.clone().requires_grad_()
    expected = whole(rows)
    weights = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    (expected * weights).sum().backward()
    ran = in_parts(module, x, weights, parts)
    torch.testing.assert_close(torch.cat([out for _, out, _ in ran]), expected.detach())
    torch.testing.assert_close(torch.cat([grad for _, _, grad in ran]), rows.grad)
    for own, _, _ in ran:
        for name, buffer in whole.named_buffers():
            torch.testing.assert_close(own.state_dict()[name], buffer)
    for name, parameter in whole.named_parameters():
        parts_of_it = [grad for own, _, _ in ran if (grad := own.get_parameter(name).grad) is not None]
        torch.testing.assert_close(torch.stack(parts_of_it).sum(0), parameter.grad)


def test_evaluation_is_that_of_the_layer_and_asks_nobody() -> None:
    def nobody(_: Tensor) -> None:
        raise AssertionError

    norm, x = nn.BatchNorm2d(3).eval(), torch.randn(2, 3, 4, 4)
    assert norm.running_mean is not None
    norm.running_mean += 1
    with SynchronizedNorms(nobody):
        assert torch.equal(norm(x), nn.functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))


def test_one_value_in_all_processes_together_is_refused() -> None:
    with SynchronizedNorms(lambda _: None), pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))
