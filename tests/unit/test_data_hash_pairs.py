"""Hashes of parts beside those of whole pictures: few are all compared, many are sorted; both find what the words alone say."""

from __future__ import annotations

import numpy as np
import pytest

from descend.data import hash_pairs


def bits(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def bands_alike(one: int, other: int) -> int:
    return sum(a == b for a, b in zip(one.to_bytes(8, "little"), other.to_bytes(8, "little"), strict=True))


@pytest.mark.parametrize("n", [1, 2, 20, hash_pairs.MOST_NEIGHBOURS, hash_pairs.MOST_NEIGHBOURS + 6])
def test_parts_that_nearly_agree_with_another_picture_are_found_whether_pictures_are_few_or_many(n: int) -> None:
    rng = np.random.default_rng(n)
    words = rng.integers(0, 2**64, n, np.uint64)
    many = rng.integers(0, 2**64, (5, n), np.uint64)
    for row in range(0, n, 2):  # near another picture's: up to ten bits, of which eight pass
        noise = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, 1 + row % 10, dtype=np.uint64))
        many[row % 5, row] = words[(row + 1) % n] ^ noise
    expected = sorted(
        (one, other, place, bits(key, int(words[other])))
        for place, keys in enumerate(many.tolist())
        for one, key in enumerate(keys)
        for other in range(n)
        if one != other and bits(key, int(words[other])) <= 8 and bands_alike(key, int(words[other])) >= 2
    )
    found = np.stack(hash_pairs.within(many, words), 1)
    assert [tuple(row) for row in found.tolist()] == expected
    assert (len(expected) > n // 4) == (n > 1)


def test_few_pictures_that_all_resemble_each_other_are_given_up_as_many_are() -> None:
    alike = np.full((hash_pairs.MOST_WITHIN, 20), 77, np.uint64)
    assert not len(hash_pairs.within(alike, alike[0])[0])
    assert len(hash_pairs.within(alike[:2], alike[0])[0]) == 2 * 20 * 19
