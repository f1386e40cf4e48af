"""The random floor: known answers of Random123, and the promise that a draw is a function."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import stats

from descend import rng

# Known-answer vectors for philox4x32-10 from the Random123 distribution (kat_vectors).
KNOWN = [
    ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize("p", [0.0, 2**-32, 0.1, 0.5, 0.75, 1 - 2**-32, 1.0])
def test_an_event_happens_where_a_number_of_its_own_digits_lies_below_p(p: float) -> None:
    """In Python's whole numbers: the digits are drawn one after the other, as many as p has, 128 events to a block."""
    ids, n, edge = [3, -9, 2**50], 300, round(p * 2**32)
    d = len(f"{edge:032b}".rstrip("0")) if 0 < edge < 2**32 else 0
    happened = rng.bernoulli(4, "coin", ids=ids, p=p, n=n, epoch=2, draw=5)
    assert happened.shape == (3, n)
    for row, sample in enumerate(ids):
        words = rng.bits(4, "coin", ids=[sample], n=4 * 3 * d, epoch=2, draw=5)[0].tolist() if d else []
        for j in range(n):
            digits = [words[4 * (j // 128 * d + k) + j // 32 % 4] >> j % 32 & 1 for k in range(d)]
            assert happened[row, j] == (sum(digit << 31 - k for k, digit in enumerate(digits)) < edge)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.625])
def test_events_happen_as_often_as_they_should_and_do_not_depend_on_each_other(p: float) -> None:
    happened = rng.bernoulli(1, "coin", ids=range(500), p=p, n=640)
    assert stats.binomtest(int(happened.sum()), happened.size, p).pvalue > 1e-6
    assert stats.binomtest(int((happened[1:] & happened[:-1]).sum()), happened[1:].size, p * p).pvalue > 1e-6
    for lag in (1, 32, 128):
        both = happened[:, lag:] & happened[:, :-lag]
        assert stats.binomtest(int(both.sum()), both.size, p * p).pvalue > 1e-6  # neighbors overlap: a little less exact


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_known_answers(counter: list[int], key: tuple[int, int], answer: list[int]) -> None:
    assert rng.philox4x32(np.array(counter, np.uint64), key).tolist() == answer


def test_draw_depends_on_its_own_coordinates_only() -> None:
    ids = np.array([5, -3, 2**40, 0])
    whole = rng.uniform(1, "flip", ids=ids, n=9, epoch=2, draw=1)
    assert np.array_equal(rng.uniform(1, "flip", ids=ids[2:], n=9, epoch=2, draw=1), whole[2:])
    assert np.array_equal(rng.uniform(1, "flip", ids=ids, n=3, epoch=2, draw=1), whole[:, :3])


@pytest.mark.parametrize("change", [{"seed": 2}, {"stream": "flop"}, {"epoch": 3}, {"draw": 0}, {"ids": [6]}])
def test_every_coordinate_changes_the_draw(change: dict[str, object]) -> None:
    at: dict[str, object] = {"seed": 1, "stream": "flip", "epoch": 2, "draw": 1, "ids": [5]}

    def draw(where: dict) -> np.ndarray:
        rest = {name: where[name] for name in ("epoch", "draw", "ids")}
        return rng.uniform(where["seed"], where["stream"], n=4, **rest)

    assert not np.array_equal(draw(at), draw(at | change))


def test_uniform_is_uniform_across_ids_and_within_one() -> None:
    across = rng.uniform(0, "law", ids=np.arange(20_000)).ravel()
    within = rng.uniform(0, "law", ids=[7], n=20_000).ravel()
    for sample in (across, within):
        assert stats.kstest(sample, "uniform").pvalue > 0.001
        assert sample.min() > 0
        assert sample.max() < 1


def test_permutation_is_one_and_changes_with_epoch() -> None:
    first = rng.permutation(1000, seed=0, stream="order")
    assert np.array_equal(np.sort(first), np.arange(1000))
    assert not np.array_equal(first, rng.permutation(1000, seed=0, stream="order", epoch=1))


def test_context_nests_and_restores() -> None:
    assert rng.coordinates() is None
    with rng.context(1, 2, [3]):
        with rng.context(4, 5, [6], draw=7):
            inner = rng.coordinates()
            assert inner is not None
            assert (inner.epoch, inner.step, inner.ids.tolist(), inner.draw) == (4, 5, [6], 7)
        outer = rng.coordinates()
        assert outer is not None
        assert outer.epoch == 1
    assert rng.coordinates() is None


def test_torch_draws_by_seed_and_stream_in_any_thread_and_goes_back() -> None:
    def drawn(seed: int) -> list[float]:
        with rng.torch_drawn(seed, "init/net"):
            return [float(torch.rand(())) for _ in range(50)]

    torch.manual_seed(1)
    expected = torch.rand(())
    torch.manual_seed(1)
    alone = [drawn(seed) for seed in range(8)]
    assert torch.equal(torch.rand(()), expected)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, range(8))) == alone
    assert len({tuple(numbers) for numbers in alone}) == 8
