"""The examples in docstrings run as they stand, each from an empty namespace, as a reader would paste it."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import descend
from descend.train.modes.mode import Default
from descend.train.modes.scratch import Scratch

SOURCE = Path(descend.__file__).parent
Documented = ast.Module | ast.ClassDef | ast.FunctionDef
INDENTED = re.compile(r"(?<=\n\n)(?:    .*(?:\n|$)|\n(?=    ))+")


def _docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield text


def _name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_name(path): path for path in sorted(SOURCE.rglob("*.py"))}
WITH_EXAMPLES = [
    name
    for name, path in FILES.items()
    if ">>>" in path.read_text(encoding="utf-8") and any(">>>" in text for text in _docstrings(path))
]
PUBLIC = {public for name, path in FILES.items() if path.name == "__init__.py"
          for public in getattr(importlib.import_module(name), "__all__", ())}  # fmt: skip


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "descend.api":  # which trains often; none of its examples tells how well
        small = Default("smallcnn(width=4)", "small, for a test")
        monkeypatch.setattr(Scratch, "default_backbone", lambda self, data, chosen: small)
    tests = [test for test in doctest.DocTestFinder().find(importlib.import_module(name)) if test.examples]
    assert len(tests) == sum(">>>" in text for text in _docstrings(FILES[name])), "an example that doctest does not see"
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        test.globs = {}
        runner.run(test, out=told.append)
    assert not runner.failures, "".join(told)


def _calls(block: str) -> set[str]:
    """Return the names that ``block`` calls, if it reads as Python."""
    try:
        tree = ast.parse(block)
    except SyntaxError:
        return set()
    functions = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {function.id if isinstance(function, ast.Name) else getattr(function, "attr", "") for function in functions}


@pytest.mark.parametrize("name", FILES)
def test_code_that_calls_us_is_an_example_that_runs(name: str) -> None:
    """An indented block is a formula or a table; one that calls what we export must be written with ``>>>``."""
    for text in _docstrings(FILES[name]):
        for block in INDENTED.findall(text):
            called = _calls("\n".join(line.removeprefix("    ") for line in block.splitlines())) & PUBLIC
            assert not called or ">>>" in block, block
