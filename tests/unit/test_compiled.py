"""Kernels: kept machine code goes with the text it came from, and never stands in the way of a run; the threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import descend
from descend import compiled, threads
from descend.cli import main
from descend.files import CacheFolder

PACKAGE = Path(descend.__file__).parent
PROBE = """
import numpy as np
from descend.augment.noise_kernels import add_noise
from descend.augment.simd import between, four, put
from descend.compiled import kernel
from descend.files import CacheFolder

@kernel
def probe(values, table, words, numbers):
    add_noise(values[:4], 0, 1.0, table, np.uint64(3), np.uint64(5), np.uint64(7), words, numbers)
    put(values, 4, between(four(values, 0), four(values, 4), np.float32(0.25)))

values = np.arange(8, dtype=np.float32)
probe(values, np.linspace(-1, 1, 4097).astype(np.float32), np.zeros(64, np.uint32), np.zeros(128, np.float32))
print([float(value) for value in values])
print(len(CacheFolder().entries("kernels")))
"""
DIGESTS = """
from descend.augment.kernels import run_part
from descend.compiled import digest
from descend.regularize.mask_kernels import _fill_masks
print(digest(run_part))
print(digest(_fill_masks))
"""


class Pair(NamedTuple):
    """Two rows that a kernel takes as one argument."""

    left: np.ndarray
    right: np.ndarray


def scaled(factor: float) -> Any:
    @compiled.helper
    def change(x: float) -> float:
        return x * factor

    @compiled.kernel
    def scale(values: np.ndarray) -> None:
        for k in range(values.size):
            values[k] = change(values[k])

    return scale


def applied(function: Any) -> list[float]:
    values = np.array([1.0, 2.0])
    function(values)
    return values.tolist()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], list[str]]:
    """Copy the package, and return a function that runs a script on the copy, with a cache of its own."""
    shutil.copytree(PACKAGE, tmp_path / "copy" / "descend", ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "probe.py"

    def run(text: str) -> list[str]:
        script.write_text(text, encoding="utf-8")
        environment = os.environ | {
            "PYTHONPATH": str(tmp_path / "copy"),
            "DESCEND_CACHE": str(tmp_path / "cache"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        return done.stdout.splitlines()

    return run


def edit(tmp_path: Path, file: str, old: str, new: str) -> None:
    path = tmp_path / "copy" / "descend" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_an_edit_of_a_helper_changes_the_result(tmp_path: Path, run: Callable[[str], list[str]]) -> None:
    before, n_entries = run(PROBE)
    assert run(PROBE) == [before, n_entries] == [before, "1"]  # from the cache
    edit(tmp_path, "augment/simd.py", "splat(builder, share, 4), x)", "splat(builder, share, 4), y)")
    lanes, n_entries = run(PROBE)
    old, new = (np.array(eval(text)) for text in (before, lanes))
    assert n_entries == "2"
    assert (new[:4] == old[:4]).all()
    np.testing.assert_allclose(new[4:] - old[4:], [4 - old[0], 5 - old[1], 6 - old[2], 7 - old[3]], rtol=1e-5)
    edit(tmp_path, "augment/noise_kernels.py", "+= sigma *", "+= 2 * sigma *")
    grain, _ = run(PROBE)
    np.testing.assert_allclose(np.array(eval(grain))[:4] - np.arange(4), 2 * (old[:4] - np.arange(4)), rtol=1e-5)


def test_every_file_that_is_compiled_in_is_in_the_digest(tmp_path: Path, run: Callable[[str], list[str]]) -> None:
    augment, masks = run(DIGESTS)
    assert run(DIGESTS) == [augment, masks]
    for file, old, new in (
        ("augment/kernels.py", "<= STRAIGHT", "< STRAIGHT"),
        ("augment/resampling_kernels.py", "_ALMOST_ONE = 1 - 1e-12", "_ALMOST_ONE = 1 - 1e-11"),
        ("augment/color_kernels.py", "plane[k] - low", "plane[k] + low"),
        ("augment/simd.py", "ir.FloatType(), 4)", "ir.FloatType(), 4 )"),
        ("augment/noise_kernels.py", "+= sigma *", "+= 2 * sigma *"),
        ("augment/histogram_kernels.py", "768 * (j % 4) :", "768 * (j % 2) :"),
    ):
        edit(tmp_path, file, old, new)
        changed, same = run(DIGESTS)
        assert changed != augment, file
        assert same == masks, file
        augment = changed
    for file, old, new in (
        ("regularize/mask_kernels.py", "digit ^ of_p ^ _LOW", "digit ^ of_p"),
        ("regularize/simd.py", "align=1", "align=2"),
    ):
        edit(tmp_path, file, old, new)
        same, changed = run(DIGESTS)
        assert same == augment, file
        assert changed != masks, file
        masks = changed
    for file, old, new in (
        ("rng.py", "_ROUNDS = 10", "_ROUNDS = 9"),
        ("simd_longs.py", '"lshr", "xor"', '"lshr", "or_"'),
        ("simd.py", "flags=FUSE), y, flags=FUSE)", "flags=FUSE), y)"),
    ):
        edit(tmp_path, file, old, new)
        last = run(DIGESTS)
        assert last[0] != augment, file
        assert last[1] != masks, file
        augment, masks = last


def test_the_bytecode_counts_beside_the_text() -> None:
    # a notebook has no file, and a file that is edited while it runs has another text than the code in memory
    one, two = ({"__name__": "nowhere"} for _ in range(2))
    exec("def f(x):\n    return x + 1", one)
    exec("def f(x):\n    return x + 2", two)
    assert compiled.digest(one["f"]) != compiled.digest(two["f"])  # pyright: ignore[reportArgumentType]


def test_values_that_numba_freezes_are_in_the_digest() -> None:
    assert compiled.digest(scaled(2.0)) != compiled.digest(scaled(3.0))
    assert compiled.digest(scaled(2.0)) == compiled.digest(scaled(2.0))


@pytest.mark.usefixtures("cache")
def test_functions_of_one_name_and_different_content_are_linked_under_different_names() -> None:
    # machine code from the cache is linked by name: under one name, kernels call each other's parts
    names = set()
    for factor in (2.0, 3.0):
        function = scaled(factor)
        applied(function)
        names.add(next(iter(function.overloads.values())).fndesc.mangled_name.split("$")[0])
    assert len(names) == 2


def test_kernels_are_kept_listed_and_cleared(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert applied(scaled(2.0)) == [2.0, 4.0]
    again = scaled(2.0)
    assert applied(again) == [2.0, 4.0]
    assert sum(again.stats.cache_hits.values()) == 1
    assert [entry.kind for entry in CacheFolder().entries()] == ["kernels"]
    assert main(["cache"]) == 0
    assert "kernels" in capsys.readouterr().out
    assert main(["cache", "--clear", "kernels"]) == 0
    assert not CacheFolder(cache).entries()
    fresh = scaled(2.0)
    assert applied(fresh) == [2.0, 4.0]
    assert sum(fresh.stats.cache_misses.values()) == 1


def test_the_limit_counts_kernels(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    applied(scaled(2.0))
    n_bytes = CacheFolder().usage()["kernels"].n_bytes
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", str(int(1.5 * n_bytes)))
    applied(scaled(3.0))
    assert CacheFolder().usage()["kernels"].n == 1
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "99")
    (cache / "decoded").mkdir()
    (cache / "decoded" / "small").write_bytes(b"9")
    assert applied(scaled(4.0)) == [4.0, 8.0]
    assert (cache / "decoded" / "small").exists()


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_entry_is_compiled_again(cache: Path, damage: bytes | None) -> None:
    applied(scaled(2.0))
    (entry,) = CacheFolder().entries("kernels")
    content = entry.path.read_bytes()
    entry.path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage is None else damage)
    again = scaled(2.0)
    assert applied(again) == [2.0, 4.0]
    assert not again.stats.cache_hits
    assert entry.path.read_bytes()[:32] != (damage or b"")[:32]
    third = scaled(2.0)
    assert applied(third) == [2.0, 4.0]
    assert third.stats.cache_hits


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows does not say whose a file is")
def test_machine_code_that_another_user_wrote_is_not_run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    applied(scaled(2.0))
    (entry,) = CacheFolder().entries("kernels")
    state = entry.path.stat()
    stranger = os.stat_result([*state[:4], state.st_uid + 12345, *state[5:10]])
    monkeypatch.setattr(Path, "stat", lambda path, **_: stranger if path == entry.path else os.stat(path))  # noqa: PTH116 (itself)
    again = scaled(2.0)
    assert applied(again) == [2.0, 4.0]
    assert not again.stats.cache_hits


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "file"))
    assert applied(scaled(2.0)) == [2.0, 4.0]


@pytest.mark.usefixtures("cache")
def test_the_fields_of_a_named_tuple_tell_entries_apart() -> None:
    @compiled.kernel
    def first(pair: Any) -> float:
        return pair.left[0]

    row, other = np.array([1.0]), np.array([2.0])
    assert first(Pair(row, other)) == 1.0
    turned: Any = NamedTuple("Pair", [("right", np.ndarray), ("left", np.ndarray)])

    @compiled.kernel
    def second(pair: Any) -> float:
        return pair.left[0]

    assert second(turned(row, other)) == 2.0


@pytest.mark.usefixtures("cache")
def test_helpers_of_helpers_are_compiled_where_they_are_called_and_nowhere_else() -> None:
    @compiled.helper
    def doubled(x: Any) -> Any:
        return 2 * x

    @compiled.helper
    def largest(x: Any) -> float:
        top = doubled(x[0])
        for i in range(1, x.size):
            top = max(top, doubled(x[i]))
        return top

    @compiled.kernel
    def both(x: Any, y: Any) -> float:
        return largest(x) + largest(y)

    assert both(np.array([1.0, 3.0]), np.array([5.0])) == 16.0
    assert both(np.array([1, 3]), np.array([2.5])) == 11.0
    with pytest.raises(TypeError, match="largest is compiled into kernels; nothing else can call it"):
        largest(np.array([1.0]))
    made = next(iter(doubled.overloads.values()))
    assert not made.library.codegen._engine.is_symbol_defined(made.fndesc.mangled_name)


def test_parts_run_once_each_and_errors_arrive_when_all_have_ended() -> None:
    done: list[int] = []
    threads.run_parts(done.append, 4)
    assert sorted(done) == [0, 1, 2, 3]
    started, ended = threading.Event(), []

    def work(part: int) -> None:
        if part == 0:
            started.wait(10)
            raise ValueError("the first")
        started.set()
        threading.Event().wait(0.05)
        ended.append(part)

    with pytest.raises(ValueError, match="the first"):
        threads.run_parts(work, 2)
    assert ended == [1]

    def fail(part: int) -> None:
        if part == 2:
            raise KeyError(part)

    with pytest.raises(KeyError):
        threads.run_parts(fail, 3)


@compiled.helper
def _square(first: Any, last: Any, x: Any, times: Any, y: Any) -> bool:
    for i in range(first, last):
        if x[i, 0] < 0:
            return False
        y[i] += x[i, 0] * x[i, 1] * times[0]
    return True


@pytest.mark.parametrize("borrows", [True, False], ids=["torch's threads", "Python's threads"])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_shares_cover_everything_once(borrows: bool, n_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not borrows:
        monkeypatch.setattr(threads, "_borrowed", lambda _: None)
    for n in (0, 1, 5, 1000):
        x, y = np.arange(2.0 * n).reshape(n, 2), np.zeros(n, np.float32)
        compiled.run_shares(_square, n, n_threads, x, np.array([3]), y)
        np.testing.assert_array_equal(y, (3 * x.prod(axis=1)).astype(np.float32))


def test_a_thread_stops_at_a_share_that_is_false() -> None:
    x, y = np.ones((1000, 2)), np.zeros(1000)
    x[500] = -1
    compiled.run_shares(_square, 1000, 1, x, np.array([1]), y)
    assert y.sum() == 500


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch may run on other threads than GCC's OpenMP")
def test_shares_run_on_torchs_threads_but_not_in_a_forked_child() -> None:
    script = """
import os, sys, threading, torch
from descend.optim import Optimizer
torch.set_num_threads(2)
torch.ones(1 << 20).add(1)
parameter = torch.ones(1 << 18, requires_grad=True)
parameter.grad = torch.ones(1 << 18)
optimizer = Optimizer([parameter], "sgd(lr=0.5)", compiled=True)
optimizer.step()
assert threading.active_count() == 1, "Python's threads were used"
child = os.fork()
if not child:
    optimizer.step()
    os._exit(0 if float(parameter.detach()[-1]) == 0 else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)
