"""Whoever asks for a frame without pandas is told what brings it, and where the same numbers are."""

from __future__ import annotations

import sys

import pytest

from descend.errors import MissingExtra
from descend.pandas_frames import pandas_for


def test_pandas_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"^comparison\.frame: pandas must be installed.*pip install 'descend\[tables\]'\.$"):
        pandas_for("comparison.frame")
    with pytest.raises(MissingExtra, match=r"'descend\[tables\]'; columns\(\) needs nothing\.$"):
        pandas_for("frame", instead="columns() needs nothing")
