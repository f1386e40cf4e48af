"""The page of the augmentation studies: every measured table stands on it as it was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

PAGE = Path(__file__).parents[2] / "docs" / "augmentation" / "README.md"


def test_tables_hold_what_was_measured(builder: Callable[[str], ModuleType]) -> None:
    build = builder("augmentation")
    tables = build.tables(json.loads(build.RESULTS.read_text(encoding="utf-8"))["result"])
    text = PAGE.read_text(encoding="utf-8")
    assert build.fill(text, tables.__getitem__) == text
    assert set(re.findall(r"<!-- table ([\w.]+) -->", text)) == set(tables)
