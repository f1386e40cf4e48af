"""The shape of the source: sizes, exports, documentation, and what the tree may not contain."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import descend
from descend import technique as floor

SOURCE = Path(descend.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN = {"utils", "util", "helpers", "misc", "common", "base"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_files_are_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_functions_fit_a_screen(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 50, f"{node.name} has {length} lines"


def test_no_room_for_leftovers() -> None:
    names = {part for path in FILES for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert not names & FORBIDDEN


def _modules() -> list[str]:
    return [m.name for m in pkgutil.walk_packages([str(SOURCE)], "descend.") if not m.name.endswith("__main__")]


def test_every_technique_is_exported_by_its_room() -> None:
    floor.load_all()
    known = {(cls.family, cls.name) for cls in floor.registered()}
    for name in _modules():
        module = importlib.import_module(name)
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if issubclass(cls, floor.Technique) and "name" in cls.__dict__ and cls.__module__ == name:
                room = importlib.import_module(".".join(name.split(".")[:2]))
                assert getattr(room, cls.__name__, None) is cls, f"{name}.{cls.__name__} is in no export table"
                assert (cls.family, cls.name) in known


def test_every_technique_says_what_it_is_and_where_it_comes_from() -> None:
    for cls in floor.registered():
        assert cls.source, cls.name
        assert len((inspect.getdoc(cls) or "").split()) >= 5, cls.name
        assert cls.name == cls.name.lower().replace("-", "_")


@pytest.mark.parametrize(
    "room", ["", *[f".{m.name}" for m in pkgutil.iter_modules([str(SOURCE)]) if m.ispkg and m.name != "cli"]]
)
def test_every_export_exists(room: str) -> None:
    module = importlib.import_module(f"descend{room}")
    inside = {m.name for m in pkgutil.iter_modules(module.__path__) if room or not m.ispkg}  # the top exports its packages
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name not in inside, f"{module.__name__}.{name} is also a file: once that is imported, the name means the module"
