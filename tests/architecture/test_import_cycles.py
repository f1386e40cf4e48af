"""No module imports itself in a circle, whichever way it imports.

Imports inside functions and under ``TYPE_CHECKING`` count too: they let a circle run, but the modules in it still cannot be read,
tested or moved one without the other. A name that a package exports lazily counts as the module that its ``__init__.pyi`` names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import descend

SOURCE = Path(descend.__file__).parent
Graph = Mapping[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """Return every module of the package in the folder ``root``: name -> file."""
    found = {}
    for path in root.rglob("*.py"):
        parts = (root.name, *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def exports(package: str, path: Path) -> dict[str, str]:
    """Return the lazy exports of a package, name -> module, as its stub lists them."""
    stub = path.with_suffix(".pyi")
    if path.name != "__init__.py" or not stub.exists():
        return {}
    lines = [node for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: f"{package}.{node.module or alias.name}" for node in lines for alias in node.names}


def imported(name: str, path: Path, known: Mapping[str, Path], lazy: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield the modules of the package that one module imports, anywhere in its text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")[: None if path.name == "__init__.py" else -1]
            start = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names if source in known else ():
                inside = f"{source}.{alias.name}"
                yield inside if inside in known else lazy[source].get(alias.name, source)


def graph_of(root: Path) -> Graph:
    known = modules(root)
    lazy = {name: exports(name, path) for name, path in known.items()}
    return {name: set(imported(name, path, known, lazy)) - {name} for name, path in known.items()}


def reachable(graph: Graph, start: str) -> set[str]:
    seen, waiting = set[str](), [start]
    while waiting:
        new = graph[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def circles(graph: Graph) -> set[frozenset[str]]:
    """Return the sets of modules that all reach each other."""
    reach = {name: reachable(graph, name) for name in graph}
    return {frozenset(other for other in reach[name] if name in reach[other]) for name in graph if name in reach[name]}


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = graph_of(SOURCE)
    assert len(graph) > 100
    assert "descend.optim.adam" in graph["descend.optim.sharpness"]
    found = circles(graph)
    for circle in found:
        edges = [f"{name} -> {other}" for name in sorted(circle) for other in sorted(graph[name] & circle)]
        raise AssertionError("modules import each other in a circle:\n" + "\n".join(edges))


def test_circles_are_found_however_they_are_hidden(tmp_path: Path) -> None:
    files = {
        "__init__.py": "",
        "plain.py": "from toy import late\n",
        "late.py": "def f():\n    from toy.kinds import Kind\n",
        "kinds/__init__.py": "",
        "kinds/__init__.pyi": "from .one import Kind as Kind\n",
        "kinds/one.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..plain import x\n",
        "kinds/two.py": "import toy.plain\nfrom .one import Kind\n",
    }
    for name, text in files.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert circles(graph_of(tmp_path / "toy")) == {frozenset({"toy.plain", "toy.late", "toy.kinds.one"})}
