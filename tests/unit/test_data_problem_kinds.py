"""The kinds of problems that are documented are those that are emitted."""

from __future__ import annotations

import re
from pathlib import Path

import descend
from descend.audit.files import _OF_SOURCE
from descend.data.dataset import ABOUT_THE_POLICY
from descend.data.problems import LEFT_OUT, Problem

SOURCE = Path(descend.__file__).parent


def test_documented_kinds_are_emitted_kinds() -> None:
    told = str(Problem.__doc__).partition("kind:")[2].partition("n: how many")[0]
    documented = set(re.findall(r"``([a-z ]+)``", told))
    emitted = {
        kind for path in SOURCE.rglob("*.py") for kind in re.findall(r'\b[pP]roblem\(\s*"([a-z ]+)"', path.read_text("utf-8"))
    }
    assert emitted == documented
    assert {*LEFT_OUT, *_OF_SOURCE, *ABOUT_THE_POLICY} <= documented
