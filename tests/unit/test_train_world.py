"""What a process knows of the others: whether there are any, its part of the rows, its threads; and verbs that run in one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from descend.cli import main
from descend.train import distributed
from descend.train.distributed import Processes
from descend.train.record import RunRecord
from descend.train.record_types import Processes as Recorded
from descend.train.resume_differences import resume_differences
from descend.train.world import ALONE, are_several, belonging_to, current

STARTED = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


def process(rank: int, size: int, *, local_size: int | None = None) -> Processes:
    """Return what one of several processes knows, without any connection."""
    made = object.__new__(Processes)
    made.rank, made.size, made.local_size = rank, size, local_size or size
    return made


@pytest.mark.parametrize(
    ("changed", "several"),
    [({}, True), ({"WORLD_SIZE": "1"}, False), ({"WORLD_SIZE": "many"}, False), ({"MASTER_PORT": None}, False)],
)
def test_several_processes_are_known_by_the_environment(changed: dict[str, Any], several: bool) -> None:
    environment = {name: value for name, value in (STARTED | changed).items() if value is not None}
    assert are_several(environment) is several
    assert not are_several({})


@pytest.mark.parametrize(("n", "size"), [(7, 2), (64, 3), (2, 3), (1, 4), (0, 2), (12, 5)])
def test_parts_are_contiguous_and_differ_by_one_row_at_most(n: int, size: int) -> None:
    shares = [process(rank, size).share(n) for rank in range(size)]
    assert [row for share in shares for row in range(share.start, share.stop)] == [*range(n)]
    assert {share.n for share in shares} == {n}
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) <= 1
    for share in shares:
        assert share.rows.tolist() == ([0] if share.is_empty else [*range(share.start, share.stop)])


def test_threads_are_the_processors_divided_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "n_threads", lambda _: 8)
    mine = process(0, 6, local_size=3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert mine.threads(None) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as torchrun sets it for everybody
    assert (mine.threads(None), mine.threads(1), mine.threads(5)) == (2, 1, 5)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert (mine.threads(None), mine.threads(1)) == (4, 1)
    assert process(0, 16).threads(None) == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert process(0, 16).threads(None) == 1


def test_alone_everything_is_as_it_was() -> None:
    module, logits, targets = torch.nn.Linear(2, 2), torch.zeros(3, 2), torch.zeros(3)
    assert current() is ALONE
    assert ALONE.leads
    assert ALONE.share(5) is None
    assert ALONE.parallel(module) is module
    assert ALONE.joined(logits, targets, None) == (logits, targets)
    assert (ALONE.any(True), ALONE.any(False), ALONE.told("x"), ALONE.threads(None), ALONE.threads(3)) == (
        True, False, "x", None, 3,
    )  # fmt: skip
    assert ALONE.answers(np.arange(3), lambda rows: rows * 2).tolist() == [0, 2, 4]  # pyright: ignore[reportArgumentType, reportReturnType]
    assert ALONE.lost(RuntimeError("gloo: Connection closed by peer")) is None
    other = process(1, 2)
    with belonging_to(other):
        assert current() is other
    assert current() is ALONE


def test_the_end_of_another_process_is_told_with_the_command_that_goes_on(tmp_path: Any) -> None:
    mine = process(0, 4, local_size=2)
    mine.run = tmp_path
    assert mine.lost(RuntimeError("something else")) is None
    assert mine.lost(ValueError("gloo")) is None
    try:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:1")
    except RuntimeError:
        try:
            raise KeyboardInterrupt  # torchrun's SIGTERM arrives meanwhile
        except KeyboardInterrupt as error:
            told = mine.lost(error)
    assert "needs all 4 processes, and another one has ended" in str(told)
    assert f"torchrun --nnodes 2 --nproc-per-node 2 -m descend fit --resume {tmp_path}" in str(told)


def test_another_number_of_processes_is_a_departure() -> None:
    record = RunRecord(n_threads=1)
    assert resume_differences(record, n_threads=1) == []
    assert resume_differences(record, n_threads=1, n_processes=2) == ["2 processes instead of 1"]
    record.processes = Recorded(n=2, backend="gloo", threads=1, batch_norms="none")
    assert resume_differences(record, n_threads=1, n_processes=2) == []
    assert resume_differences(record, n_threads=1) == ["1 process instead of 2"]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_other_verbs_run_in_one_process(rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (STARTED | {"RANK": rank, "TORCHELASTIC_RUN_ID": "x"}).items():
        monkeypatch.setenv(name, value)
    assert main(["predict", "run", "picture.png"]) == 2
    assert capsys.readouterr().err == (
        "descend predict: runs in one process; torchrun is for fit. Try: descend predict ...\n" if rank == "0" else ""
    )
