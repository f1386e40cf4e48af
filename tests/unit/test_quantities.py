"""Times and sizes as people write them, and what is none."""

from __future__ import annotations

import pytest

from descend.errors import KnobError
from descend.quantities import n_bytes, seconds


@pytest.mark.parametrize(("written", "value"), [("30s", 30), ("5m", 300), ("1.5h", 5400), ("20ms", 0.02), (" 2m ", 120)])
def test_times_as_people_write_them(written: str, value: float) -> None:
    assert seconds(written, who="budget") == pytest.approx(value)


@pytest.mark.parametrize("written", ["5", "0m", "-1s", "s", "", "5 minutes", "nan", "infs", "1e999s", "5M"])
def test_what_is_no_time_is_refused(written: str) -> None:
    with pytest.raises(KnobError, match="budget"):
        seconds(written, who="budget")


SIZES = [("20MB", 20e6), ("20mb", 20e6), ("1.5 GiB", 3 * 2**29), ("7k", 7000), ("2tb", 2e12), (" 3 MiB ", 3 * 2**20), ("9 b", 9)]


@pytest.mark.parametrize(("written", "value"), SIZES)
@pytest.mark.parametrize("bare", [False, True])
def test_sizes_as_people_write_them_for_a_model_and_for_the_cache(written: str, value: float, bare: bool) -> None:
    assert n_bytes(written, who="max_size", bare=bare) == value


def test_a_number_without_a_unit_is_a_size_only_where_that_is_said() -> None:
    assert n_bytes("500", who="the limit", bare=True) == 500
    assert n_bytes("0", who="the limit", bare=True) == 0
    with pytest.raises(KnobError, match="max_size: needs a unit, one of KB, MB"):
        n_bytes("20", who="max_size")


@pytest.mark.parametrize("written", ["", "GB", "-1GB", "-1", "ten", "1 XB", "nan", "1e999"])
def test_what_is_no_size_is_refused(written: str) -> None:
    with pytest.raises(KnobError, match="the limit: must be a size above 0"):
        n_bytes(written, who="the limit", bare=True)
