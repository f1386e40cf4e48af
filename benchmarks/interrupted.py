"""Small real runs of every mode, as processes that can be killed, resumed and compared byte by byte.

``kills.py``, ``power_cuts.py`` and ``memory_flat.py`` share it. A process runs the command line as it is, in a session of its
own, so that what outlives it can be found. It is a fork of this one, which has imported what a run imports, computed nothing and
started no thread; or a fresh one, whose imports are interrupted too, and which orders its sets by a hash of its own.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

LEFT_TO_THE_RUN = ("onnxruntime", "openvino")  # packages that start a thread when they are imported
KEPT_EVERY_S = 60.0  # how often the figures of a batch that is not over are saved
TIMES = ("wall_s", "seconds", "images_per_s")  # of metrics: what no two runs share
SETTINGS: dict[str, list[str]] = {
    "features": ["--transfer", "features", "--size", "64", "--engine", "torch"],
    "features trained": ["--transfer", "features", "--size", "64", "--engine", "torch", "--optimizer", "adam(lr=0.01)",
                         "--epochs", "4", "--views", "1", "--augment", "flip"],
    "head": ["--transfer", "head", "--size", "64", "--engine", "torch", "--epochs", "2", "--augment", "flip", "cutmix",
             "--head", "mlp(hidden=32, dropout=0.3)"],
    "finetune": ["--transfer", "finetune", "--size", "32", "--epochs", "2", "--batch-size", "8", "--augment", "flip",
                 "--engine", "torch", "--regularize", "stochastic_depth(last=0.1)", "--gradients", "accumulate(n=2)",
                 "--optimizer", "ema(sgd(lr=0.01))"],
    "scratch": ["--transfer", "scratch", "--backbone", "smallcnn(width=8)", "--size", "24", "--epochs", "6", "--batch-size", "8",
                "--augment", "flip", "mixup", "--regularize", "dropout(p=0.2)", "--schedule", "plateau", "--optimizer",
                "adamw(lr=0.004)", "--on-nan", "skip"],
    "auto": ["--budget", "20s"],
}  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a process ended. status: its exit status, or minus the signal that ended it. said: what it printed.

    orphans: processes that outlived it. modules: what it had imported, where it came to its end.
    """

    status: int
    wall_s: float
    said: str
    orphans: tuple[int, ...] = ()
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Interruption:
    """What ends a process: a signal after so many seconds, or SIGKILL before its k-th operation on files."""

    kind: str  # SIGKILL, SIGTERM, SIGINT or operation
    at: float

    def __str__(self) -> str:
        return f"operation {self.at:.0f}" if self.kind == "operation" else f"{self.kind} at {self.at:.2f} s"


def pictures(source: Path, target: Path, n: int, seed: int = 0, *, side: int | None = None) -> Path:
    """Copy ``n`` pictures of each class of a folder of real ones (``class/`` or ``train/class/``).

    side: no side is longer in the copies, in pixels; None copies the files.
    """
    root = source / "train" if (source / "train").is_dir() else source
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        (target / folder.name).mkdir(parents=True)
        for path in random.Random(seed).sample(sorted(folder.iterdir()), n):
            if side is None:
                shutil.copy(path, target / folder.name / path.name)
            else:
                _shrink(path, target / folder.name / path.name, side)
    return target


def _shrink(path: Path, target: Path, side: int) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.thumbnail((side, side))
        picture.save(target)


def preload(modules: Iterable[str] = ()) -> None:
    """Import what the verbs import, so that a fork begins at once; no thread is started.

    modules: names of more, as ``Ended.modules`` has them; those that cannot be imported are left to the run.
    """
    started = time.perf_counter()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import descend.cli.fit
    import descend.cli.predict
    import descend.data
    import descend.search.run
    import descend.technique

    descend.technique.load_all()
    for name in modules:
        if name.partition(".")[0] not in LEFT_TO_THE_RUN:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    _imports_s[0] += time.perf_counter() - started


_imports_s = [0.0]


def imports_s() -> float:
    """Return how long imports have taken, in seconds: by so much a fresh process takes longer than a fork."""
    return _imports_s[0]


def alone() -> None:
    """Make forking safe: refuse where a thread would not live on in the fork, which would wait for it for ever."""
    names = [(task / "comm").read_text(encoding="utf-8").strip() for task in Path("/proc/self/task").iterdir()]
    n = sum(name != "jemalloc_bg_thd" for name in names)  # pyarrow's allocator takes care of its own thread at a fork
    if n > 1:
        raise SystemExit(f"must have one thread before it forks, got {n}. Set OMP_NUM_THREADS=1.")
    gc.freeze()  # forks need not look again and again for garbage in what has been imported


def process(
    arguments: Sequence[str], cache: Path, log: Path, interruption: Interruption | None = None, *, fresh: bool = False
) -> Ended:
    """Run one verb in a process of its own, interrupted or not, and wait for its end."""
    started = time.perf_counter()
    child = begun(arguments, cache, log, interruption, fresh=fresh)
    if interruption is not None and interruption.kind != "operation":
        while time.perf_counter() - started < interruption.at and not has_ended(child):
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.Signals[interruption.kind])
    _, status = os.waitpid(child, 0)
    orphans = _left_of(child)
    wall_s = time.perf_counter() - started
    listed = _modules_file(log)
    modules = tuple(listed.read_text(encoding="utf-8").split()) if listed.exists() else ()
    return Ended(os.waitstatus_to_exitcode(status), wall_s, log.read_text(encoding="utf-8", errors="replace"), orphans, modules)


def begun(
    arguments: Sequence[str], cache: Path, log: Path, interruption: Interruption | None = None, *, fresh: bool = False
) -> int:
    """Begin a process that runs one verb; return its number."""
    _modules_file(log).unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            _be(arguments, cache, log, interruption, fresh=fresh)
        except BaseException:  # as a process of Python's own tells it
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def _be(arguments: Sequence[str], cache: Path, log: Path, interruption: Interruption | None, *, fresh: bool) -> NoReturn:
    """Become the process that runs a verb."""
    os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {"DESCEND_CACHE": str(cache), "PYTHONUNBUFFERED": "1"}
    at = int(interruption.at) if interruption and interruption.kind == "operation" else 0
    if fresh:
        os.execv(sys.executable, [sys.executable, __file__, str(at), str(_modules_file(log)), *arguments])
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    run_command(at, _modules_file(log), arguments)


def run_command(at: int, modules: Path, arguments: Sequence[str]) -> NoReturn:
    """Be ``descend`` with these arguments, killed before its operation ``at`` on files.

    At its end it tells their number, and writes to the file ``modules`` what it has imported.
    """

    def told() -> None:
        n = _counted[0]
        modules.write_text("\n".join(name for name in sys.modules if not name.startswith("__")), encoding="utf-8")
        print(f"operations: {n}", flush=True)

    atexit.register(told)
    sys.argv = ["descend", *arguments]
    sys.addaudithook(operations(at))
    from descend.cli import command

    command()


def _modules_file(log: Path) -> Path:
    return log.with_suffix(".modules")


_counted = [0]


def operations(at: float, act: Callable[[], None] | None = None) -> Callable[[str, tuple[Any, ...]], None]:
    """Return an audit hook that counts operations that change files, and before number ``at`` kills the process, or acts."""
    changes = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            mode = given[2] if isinstance(given[2], int) else 0
            if not mode & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in changes:
            return
        _counted[0] += 1
        if _counted[0] == at:
            if act is None:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                act()

    return hook


def has_ended(child: int) -> bool:
    """Return whether a child has ended; it need not have been waited for."""
    try:
        state = Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def _left_of(session: int, patience_s: float = 15.0) -> tuple[int, ...]:
    """Return the processes of a session that are still there some time after its leader has ended; end them."""
    deadline = time.perf_counter() + patience_s
    while (left := _members(session)) and time.perf_counter() < deadline:
        time.sleep(0.2)
    for member in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    return left


def _members(session: int) -> tuple[int, ...]:
    members = list[int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                members.append(int(path.parent.name))
    return tuple(members)


def n_operations(ended: Ended) -> int:
    """Return how many operations on files a process that came to its end has made."""
    return int(ended.said.rpartition("operations: ")[2] or 0)


def result_of(run: Path) -> dict[str, Any]:
    """Return what must be the same after any interruption: model, answers, scores, metrics, less times."""
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if (run / "metrics.jsonl").exists() else []
    rows = {row["epoch"]: {k: v for k, v in row.items() if k not in TIMES} for row in map(json.loads, lines) if "epoch" in row}
    return {
        "model": (run / "model.safetensors").read_bytes(),
        "predictions": (run / "predictions.csv").read_bytes() if (run / "predictions.csv").exists() else b"",
        "scores": (record["val"], record["test"], record["chosen"], record["status"]),
        "metrics": rows,
    }


def replayed(recipe: Path, again: Path, cache: Path, log: Path) -> dict[str, Any]:
    """Return the result of a search's own recipe, which takes the same steps without searching: in a new folder ``again``."""
    shutil.rmtree(again, ignore_errors=True)
    ended = process(["fit", "--recipe", str(recipe), "--out", str(again)], cache, log)
    if ended.status:
        raise SystemExit(f"replay: {ended.said}")
    return result_of(again)


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of what differs between two results."""
    return [name for name in one if one[name] != other[name]]


# ------------------------------------------------------------------------------------------------------------ as a benchmark


def arguments(about: str | None, unit: str, *, n: int, per_class: int) -> argparse.ArgumentParser:
    """Return the arguments of a benchmark that counts interruptions. unit: their word, such as ``kills``; n: how many."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(f"--{unit}", type=int, default=n, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--per-class", type=int, default=per_class, metavar="N", help="pictures of each class")
    parser.add_argument("--modes", nargs="+", default=list(SETTINGS), choices=list(SETTINGS), help="default: all, in turns")
    parser.add_argument("--side", type=int, default=128, metavar="PX", help="no picture has a longer side")
    parser.add_argument("--add", action="store_true", help="to the batches that the result holds, instead of replacing them")
    parser.add_argument("--limit", type=float, default=1e9, metavar="SECONDS")
    return parser


def measure(
    name: str, claim: str, unit: str, options: argparse.Namespace, batch: Callable[[Path, Path, Path], Iterator[dict[str, Any]]]
) -> None:
    """Make a batch and save it, now and then and at its end.

    batch: takes a folder to work in, that of the pictures and that of compiled kernels; yields the figures so far.
    """
    preload()
    from descend.files import default_root
    from harness import data

    kernels = default_root() / "kernels"
    kernels.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp())  # a TemporaryDirectory would be removed at the end of every fork
    try:
        taken = pictures(data("hymenoptera"), place / "pictures", options.per_class, side=options.side)
        print(f"seed {options.seed}", flush=True)
        kept = Path(__file__).parent / f"results/{name}.json"
        before = json.loads(kept.read_text(encoding="utf-8"))["result"]["batches"] if options.add else []
        last, made = time.perf_counter(), dict[str, Any]()
        for made in batch(place, taken, kernels):
            if time.perf_counter() - last > KEPT_EVERY_S:
                _keep(name, claim, unit, [*before, made])
                last = time.perf_counter()
        _keep(name, claim, unit, [*before, made])
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _keep(name: str, claim: str, unit: str, batches: list[dict[str, Any]]) -> None:
    from harness import save

    with contextlib.redirect_stdout(io.StringIO()):
        save(name, claim, {unit: sum(batch[unit] for batch in batches), "batches": batches})


def tell(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


if __name__ == "__main__":  # what ``begun`` starts as a fresh process
    run_command(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
