"""What SECURITY.md promises about files from strangers, asked of the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import descend

SOURCE = Path(descend.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
PROMISES = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")


def _calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_nothing_from_a_file_is_unpickled_into_arbitrary_objects(path: Path) -> None:
    machine_code = path == SOURCE / "compiled.py"
    assert not machine_code or "`descend.compiled` unpickles" in PROMISES
    for name, call in _calls(path):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert machine_code or not re.match(r"(pickle|dill|cloudpickle|joblib|shelve|marshal)\.(loads?|open|Unpickler)$", name), (
            name
        )
        assert "allow_pickle" not in given
        if name == "torch.load":
            assert given.get("weights_only") == "True"


def test_code_is_made_from_text_only_where_the_promise_says_so() -> None:
    makers = {
        f"src/descend/{path.relative_to(SOURCE).as_posix()}"
        for path in FILES
        if {"exec", "eval"} & {name for name, _ in _calls(path)}
    }
    assert makers == set(re.findall(r"src/descend/[\w/]+\.py", PROMISES))
