"""Several processes that train one run, as of torchrun: the weights of one process, one writer, one message, and on they go.

Every mode trains once in one process and once in two, all in one start of two; the weights of the last epoch are compared. What
takes processes of its own is forked from one that has imported torch (``tests/forked_ranks.py``); torchrun itself starts the run
one of whose processes is killed, and the one of two machines.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]

from descend.cli import main
from descend.files import default_root
from descend.train import folder, record, state_file

RANKS = Path(__file__).parents[1] / "forked_ranks.py"
DEADLINE_S = 900  # of what takes seconds: a machine may be busy
COMMON = ["--threads", "1", "--checkpoint-every", "4"]
SCRATCH = ["--transfer", "scratch", "--size", "16", "--optimizer", "momentum(lr=0.05)"]
PRETRAINED = ["--size", "64", "--engine", "torch", "--epochs", "1", "--optimizer", "momentum(lr=0.01)"]
CASES: dict[str, list[str]] = {
    # 26 pictures in batches of 7: the last has 5, and a window of 3 steps is cut short by the epoch's end
    "scratch": [*SCRATCH, "--backbone", "resnet9(width=4)", "--epochs", "2", "--batch-size", "7",
                "--augment", "flip", "rotate(degrees=20)", "mixup(alpha=0.5)", "cutmix()",
                "--regularize", "dropout(p=0.3)", "class_weights(beta=0.9)", 'stochastic_depth(last=0.5, per="batch")',
                "--gradients", "accumulate(n=3)", "clip_norm(max_norm=1.0)"],
    "norms": [*SCRATCH, "--backbone", "smallcnn(width=4)", "--epochs", "2", "--batch-size", "7", "--augment", "none",
              "--regularize", "drop_block(p=0.2, size=2)", "l1(strength=0.0001)",
              "--optimizer", "ema(inner=sam(inner=sgd(lr=0.05)), decay=0.9)"],
    "head": [*PRETRAINED, "--transfer", "head", "--batch-size", "7", "--augment", "flip", "mixup(alpha=0.5)",
             "--regularize", "dropout(p=0.3)"],
    "finetune": [*PRETRAINED, "--transfer", "finetune", "--batch-size", "7", "--augment", "flip", "--freeze-to", "block4",
                 "--norm", "train", "--regularize", 'dropconnect(p=0.2)',
                 "--optimizer", "momentum(lr=0.00001)"],  # its loss is 40 nats: at ten times the rate rounding grows to 5e-5
    "whole": [*PRETRAINED, "--transfer", "finetune", "--batch-size", "12", "--augment", "cutmix", "--head", "mlp(hidden=8)"],
    "features": [*PRETRAINED[:4], "--transfer", "features", "--views", "1", "--augment", "flip"],
    "vectors": [*PRETRAINED, "--transfer", "features", "--batch-size", "7"],
}  # fmt: skip
REFUSED: dict[str, list[str]] = {
    "auto": ["--budget", "1m"],
    "ghost": [*SCRATCH, "--backbone", "smallcnn(width=4)", "--regularize", "ghost_batch_norm(size=4)"],
    "kl_sparsity": [*SCRATCH, "--backbone", "smallcnn(width=4)", "--regularize", "kl_sparsity"],
    "few": [*SCRATCH, "--backbone", "smallcnn(width=4)", "--batch-size", "1"],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes_folder(tmp_path_factory.mktemp("data") / "shapes", n=12, side=32)


def environment(cache: Path) -> dict[str, str]:
    """Return an environment with a cache that is empty but for compiled kernels."""
    if not cache.exists() or not [*cache.iterdir()]:
        cache.mkdir(exist_ok=True)
        (default_root() / "kernels").mkdir(parents=True, exist_ok=True)
        (cache / "kernels").symlink_to(default_root() / "kernels", target_is_directory=True)
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return kept | {"DESCEND_CACHE": str(cache)}


def torchrun(n: int, *words: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n), *words]


@dataclass(frozen=True)
class Together:
    """Commands that ran in ``n`` processes. place: the folder that holds their runs. ended: how the processes ended, for each."""

    n: int
    commands: dict[str, list[str]]
    place: Path

    @property
    def listed(self) -> Path:
        return self.place / "commands.json"

    @property
    def ended(self) -> dict[str, list[int]]:
        files = [self.listed.with_name(f"{self.listed.name}.{rank}") for rank in range(self.n)]
        by_rank = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        return {name: [status[at] for status in by_rank] for at, name in enumerate(self.commands)}


def run_together(groups: Sequence[Together], cache: Path) -> str:
    """Run groups of commands, one after the other; return all that was said."""
    words = [sys.executable, str(RANKS)]
    for group in groups:
        group.listed.write_text(json.dumps([*group.commands.values()]), encoding="utf-8")
        words += [str(group.n), str(group.listed)]
    said = subprocess.run(
        words, env=environment(cache), text=True, check=False, timeout=DEADLINE_S,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout
    return said.stdout


def fit(pictures: Path, out: Path, words: list[str]) -> list[str]:
    takes_steps = "--batch-size" in words or "scratch" in words
    return ["fit", str(pictures), *words, *COMMON[: 4 if takes_steps else 2], "--out", str(out)]


def last(run: Path) -> dict[str, torch.Tensor]:
    return state_file.read(run / folder.CHECKPOINT)["module"]


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


IDLE = [*SCRATCH, "--backbone", "smallcnn(width=4)", "--epochs", "2", "--batch-size", "12", "--augment", "mixup(alpha=0.5)",
        "--regularize", "dropout(p=0.3)", 'dropconnect(p=0.3)']  # 26 = 2 * 12 + 2  # fmt: skip


@pytest.fixture(scope="module")
def all_made(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Together, Together, str]:
    """All cases in two processes, a case in three, and all that was said."""
    places = [tmp_path_factory.mktemp(name) for name in ("two", "three")]
    two, three = ({**CASES, **REFUSED}, {"idle": IDLE})
    groups = [
        Together(n, {name: fit(pictures, place / name, words) for name, words in asked.items()}, place)
        for n, place, asked in zip((2, 3), places, (two, three), strict=True)
    ]
    return groups[0], groups[1], run_together(groups, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def made(all_made: tuple[Together, Together, str]) -> tuple[Path, dict[str, list[int]], str]:
    """All cases in two processes; the folder that holds their runs, how they ended, what was said (by the three as well)."""
    two, _, said = all_made
    return two.place, two.ended, said


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_weights_of_one(
    name: str, made: tuple[Path, dict[str, list[int]], str], pictures: Path, tmp_path: Path
) -> None:
    place, ended, _ = made
    assert ended[name] == [0, 0]
    assert main(fit(pictures, tmp_path / name, CASES[name])) == 0
    two, one = record.load(place / name), record.load(tmp_path / name)
    assert one.processes is None
    assert two.processes is not None
    assert (two.processes["n"], two.processes["backend"], two.processes["threads"]) == (2, "gloo", 1)
    if name == "features":
        assert [trial["strength"] for trial in two.head_trials] == [trial["strength"] for trial in one.head_trials]
        assert (place / name / folder.PREDICTIONS).read_bytes() == (tmp_path / name / folder.PREDICTIONS).read_bytes()
        return
    assert_same(last(place / name), last(tmp_path / name))
    ours, theirs = (folder.read_lines(run / folder.METRICS) for run in (place / name, tmp_path / name))
    for row, other in zip(ours, theirs, strict=True):
        assert row["train_accuracy"] == other["train_accuracy"]
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert row["val_loss"] == pytest.approx(other["val_loss"], rel=1e-3)


def test_batch_norms_are_recorded(made: tuple[Path, dict[str, list[int]], str]) -> None:
    norms = {name: (record.load(made[0] / name).processes or {}).get("batch_norms") for name in CASES}
    assert norms["scratch"] == norms["norms"] == norms["finetune"] == "synchronized"
    assert norms["whole"] == norms["head"] == norms["vectors"] == "frozen"


@pytest.mark.parametrize(
    ("name", "words"),
    [("auto", "a search runs in one process"), ("ghost", "normalizes over groups of neighbors"),
     ("kl_sparsity", "is a penalty on means over the whole batch"), ("few", "must give each of 2 processes a picture")],
)  # fmt: skip
def test_what_one_process_alone_can_do_is_refused_once(
    name: str, words: str, made: tuple[Path, dict[str, list[int]], str]
) -> None:
    place, ended, said = made
    assert said.count(words) == 1
    assert sorted(ended[name]) == [1, 2]  # one tells it, the other ends without a word
    assert not (place / name).exists()


def test_only_one_process_writes_and_speaks(made: tuple[Path, dict[str, list[int]], str]) -> None:
    place, _, said = made
    listed = [f"commands.json{end}" for end in ("", ".0", ".1")]
    assert sorted(entry.name for entry in place.iterdir()) == sorted([*CASES, *listed])
    assert said.count("  processes  2") == len(CASES)
    assert said.count("  processes  3") == 1
    assert said.count("Report: ") == len(CASES) + 1
    for name in CASES:
        assert not list((place / name).glob(".*"))  # no lock and nothing unfinished is left
    rows = folder.read_lines(place / "scratch" / folder.METRICS)
    assert [row["epoch"] for row in rows] == [1, 2]


def test_a_process_without_a_picture_of_the_last_batch_changes_nothing(
    all_made: tuple[Together, Together, str], pictures: Path, tmp_path: Path
) -> None:
    _, three, said = all_made
    assert three.ended == {"idle": [0, 0, 0]}, said
    assert main(fit(pictures, tmp_path / "one", IDLE)) == 0
    assert record.load(tmp_path / "one").data["splits"]["train"] == 26
    assert_same(last(three.place / "idle"), last(tmp_path / "one"))


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_process_ends_all_with_one_message_and_one_process_goes_on(
    victim: int, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gentle = ["--optimizer", "sgd(lr=0.002)"]  # a larger rate makes much of the last bits in so many steps
    words = [*SCRATCH, *gentle, "--backbone", "smallcnn(width=4)", "--batch-size", "7", "--epochs", "60"]
    words = fit(pictures, tmp_path / "run", words)
    log = tmp_path / "log"
    with log.open("wb") as out:
        started = subprocess.Popen(
            torchrun(2, "-m", "descend", *words), env=environment(tmp_path / "cache"), stdout=out, stderr=subprocess.STDOUT
        )
        _wait_for(tmp_path / "run" / folder.CHECKPOINT)
        os.kill(_ranks(started.pid)[victim], signal.SIGKILL)
        assert started.wait(60) != 0
    said = log.read_text(encoding="utf-8")
    told = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert "needs all 2 processes, and another one has ended" in told[0]
    assert f"torchrun --nproc-per-node 2 -m descend fit --resume {tmp_path / 'run'}" in told[0]
    assert said.count("Traceback") == 1  # torchrun's own
    done = len(folder.read_lines(tmp_path / "run" / folder.METRICS))
    assert done < 60
    assert main(["fit", "--resume", str(tmp_path / "run")]) == 0
    assert "1 process instead of 2" in capsys.readouterr().err
    assert main([*words[:-1], str(tmp_path / "whole")]) == 0
    assert_same(last(tmp_path / "run"), last(tmp_path / "whole"))
    assert "1 process instead of 2" in record.load(tmp_path / "run").departures


def test_two_torchruns_as_of_two_machines_train_one_run_that_one_of_them_writes(pictures: Path, tmp_path: Path) -> None:
    """Each has a cache and a folder of its own, and the pictures in the same place."""
    words = fit(pictures, Path("run"), CASES["scratch"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    begun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--local-addr", "127.0.0.1"]
    begun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", meeting, "-m", "descend", *words]
    places, machines = [tmp_path / "first", tmp_path / "second"], list[subprocess.Popen[bytes]]()
    try:
        for place in places:
            place.mkdir()
            with (place / "log").open("wb") as log:
                machines.append(
                    subprocess.Popen(begun, cwd=place, env=environment(place / "cache"), stdout=log, stderr=subprocess.STDOUT)
                )
        ended = [machine.wait(120) for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
            machine.wait()
    told = "".join((place / "log").read_text(encoding="utf-8") for place in places)
    assert ended == [0, 0], told
    (written,) = (place / "run" for place in places if (place / "run").exists())
    assert all({path.name for path in place.iterdir()} <= {"log", "cache", "run"} for place in places)
    processes = record.load(written).processes
    assert processes is not None
    assert processes["n"] == 2
    assert main(fit(pictures, tmp_path / "one", CASES["scratch"])) == 0
    assert_same(last(written), last(tmp_path / "one"))


def _wait_for(path: Path) -> None:
    until = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def _ranks(agent: int) -> dict[int, int]:
    """Return the process of each rank that torchrun has started."""
    children = [int(child) for child in Path(f"/proc/{agent}/task/{agent}/children").read_text().split()]
    ranks = dict[int, int]()
    for child in children:
        for variable in Path(f"/proc/{child}/environ").read_text().split("\0"):
            name, _, value = variable.partition("=")
            if name == "RANK":
                ranks[int(value)] = child
    return ranks
