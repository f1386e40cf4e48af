"""The conditions that many doors share."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from descend.errors import KnobError, RunError, causes, check_count, way_to_write


@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, True, "3", None, float("nan")])
def test_what_is_no_count_is_refused_in_one_sentence(value: object) -> None:
    with pytest.raises(KnobError, match=r"^here: n must be a whole number >= 1, got "):
        check_count("here", value, knob="n")
    with pytest.raises(KnobError, match=r"^--top: must be a whole number >= 1, got "):
        check_count("--top", value)


@pytest.mark.parametrize("value", [2, np.int64(2), 10**30])
def test_counts_of_any_width_pass(value: object) -> None:
    check_count("here", value, least=2)
    with pytest.raises(KnobError):
        check_count("here", 1, least=2)


def test_a_count_may_have_an_upper_end() -> None:
    check_count("here", 1024, most=1024)
    with pytest.raises(KnobError, match=r"^here: threads must be a whole number in \[1, 1024\], got 100000\.$"):
        check_count("here", 100_000, knob="threads", most=1024)


def test_the_causes_of_an_error_are_those_that_a_traceback_shows() -> None:
    def opened() -> None:
        try:
            raise FileNotFoundError("no file")
        except FileNotFoundError as first:
            raise RunError("run", "must be there") from first

    def asked() -> None:
        try:
            opened()
        except RunError:
            raise KeyError("while that was handled")  # noqa: B904 (what is tested)

    with pytest.raises(KeyError) as caught:
        asked()
    assert [type(error) for error in causes(caught.value)] == [KeyError, RunError, FileNotFoundError]
    assert list(causes(None)) == []


@pytest.mark.parametrize(
    ("code", "way"),
    [(errno.ENOSPC, "Free some space"), (errno.EDQUOT, "Free some space"), (errno.EACCES, "Ask"), (errno.EFBIG, "ulimit -f")],
)
def test_a_limit_on_the_size_of_files_is_no_lack_of_space_or_rights(code: int, way: str) -> None:
    assert way in way_to_write(OSError(code, "refused"), "Ask")
