"""What the benchmarks of reliability count and compare."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from descend.errors import SpecError

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
NAMES = ("interrupted", "memory_flat", "fuzz_text")
MIB = 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        sys.modules.pop(name, None)


def test_growth_is_told_per_sample(modules: dict[str, ModuleType]) -> None:
    samples = [{"private": 100 * MIB + k * MIB, "resident": 200 * MIB, "files": 7, "threads": 2 + (k == 9)} for k in range(10)]
    told = modules["memory_flat"].told(samples, 2)
    assert told["growth_mib"] == pytest.approx(1.0)
    assert told["growth_resident_mib"] == pytest.approx(0.0)
    assert told["files"] == [7, 7]
    assert told["threads"] == [2, 3]


def test_operations_on_files_are_counted_and_the_chosen_one_acts(modules: dict[str, ModuleType]) -> None:
    acted = list[int]()
    hook = modules["interrupted"].operations(3, lambda: acted.append(1))
    for event, given in (
        ("open", ("x", "r", os.O_RDONLY)), ("open", ("x", "w", os.O_WRONLY | os.O_CREAT)), ("import", ()), ("os.rename", ()),
    ):  # fmt: skip
        hook(event, given)
    assert not acted
    hook("os.mkdir", ())
    assert acted == [1]


def test_results_are_compared_less_their_times(tmp_path: Path, modules: dict[str, ModuleType]) -> None:
    compare, results = modules["interrupted"], list[dict[str, Any]]()
    for name, wall_s, model in (("a", 1.0, b"m"), ("b", 2.0, b"m"), ("c", 1.0, b"n")):
        run = tmp_path / name
        run.mkdir()
        (run / "record.json").write_text(json.dumps({"val": 1, "test": 2, "chosen": 3, "status": "finished"}))
        (run / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "wall_s": wall_s, "loss": 0.5}) + "\n")
        (run / "model.safetensors").write_bytes(model)
        results.append(compare.result_of(run))
    assert compare.differences(results[0], results[1]) == []
    assert compare.differences(results[0], results[2]) == ["model"]


def test_what_breaks_a_promise_of_texts_is_counted_and_kept(tmp_path: Path, modules: dict[str, ModuleType]) -> None:
    tally = modules["fuzz_text"].Tally(tmp_path, 4)

    def attempt(content: bytes) -> str:
        if content == b"ours":
            raise SpecError("x", "must hold")
        if content == b"long":
            raise SpecError("x", "must hold", below=["y" * 9_000])
        if content == b"other":
            raise IndexError("out")
        return "taken"

    for content in (b"", b"ours", b"long", b"other"):
        tally.count(attempt, content)
    saved = json.loads((tmp_path / "tally.json").read_text())
    assert saved["counts"] == {"taken": 1, "refused": 1, "broken": 2}
    assert any(kind.startswith("IndexError in ") for kind in saved["broken"])
    assert len(list(tmp_path.glob("broken-*"))) == 2
