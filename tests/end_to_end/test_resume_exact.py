"""Stopped anywhere in an epoch, on other threads, in validation: the run goes on to the same bits, or says why not."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import descend
from descend.cli import main
from descend.errors import KnobError
from descend.progress import Silent
from descend.train import checkpoint, evaluate, folder, state_file
from descend.train.record import RunRecord
from descend.train.resume_differences import resume_differences
from descend.train.run import Run

LABELS = np.arange(40) % 2
IMAGES = (np.random.default_rng(0).integers(0, 60, (40, 12, 12)) + 150 * LABELS[:, None, None]).astype(np.uint8)
ARRAYS = IMAGES, LABELS
TINY: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=4)", "epochs": 2, "batch_size": 4, "threads": 1,
                        "gradients": ["accumulate(n=3)"], "checkpoint_every": "1"}  # fmt: skip


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


class KillAt(Silent):
    """A listener that kills the process, as far as the run is concerned, after ``n`` steps."""

    def __init__(self, n: int) -> None:
        self.n, self.n_pictures = n, 0

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "training" and done > self.n_pictures:  # a step; the end of an epoch brings no picture
            self.n, self.n_pictures = self.n - 1, done
            if self.n < 0:
                raise Killed


def model(run: Path) -> bytes:
    return (run / folder.MODEL).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return descend.fit(ARRAYS, out=tmp_path_factory.mktemp("runs") / "whole", **TINY)


@pytest.mark.parametrize(("threads", "n"), [(1, 1), (1, 9), (2, 4)])
def test_killed_within_an_accumulation_window_it_goes_on_to_the_same_bits(
    whole: Run, tmp_path: Path, n: int, threads: int
) -> None:
    out = tmp_path / "run"
    if threads == 2:
        settings = TINY | {"threads": 2}
        expected = model(descend.fit(ARRAYS, out=tmp_path / "two", **settings).folder)
    else:
        settings, expected = TINY, model(whole.folder)
    with pytest.raises(Killed):
        descend.fit(ARRAYS, out=out, progress=KillAt(n), **settings)
    position = state_file.read(out / folder.CHECKPOINT)["position"]
    assert (position["epoch"], position["step"]) == divmod(n, 7)  # nothing but the step in hand is lost
    assert descend.resume(out, data=ARRAYS).record.status == "finished"
    assert model(out) == expected


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(whole: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Killed):
        descend.fit(ARRAYS, out=out, progress=KillAt(5), **TINY)
    (out / folder.CHECKPOINT).write_bytes((out / folder.CHECKPOINT).read_bytes()[:-1] + b"\1")
    assert descend.resume(out, data=ARRAYS).record.status == "finished"
    assert model(out) == model(whole.folder)
    assert not (out / folder.PREVIOUS).exists()  # of a finished run nothing goes on


def test_a_signal_during_validation_writes_the_checkpoint_at_once(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls, saved, save = evaluate.probabilities, list[int](), list[tuple[int, int]](), checkpoint.save

    def stopping(module: torch.nn.Module, batches: Any) -> Any:
        calls.append(0)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return plain(module, batches)

    def noted(path: Path, module: Any, optimizer: Any, position: Any, *rest: Any) -> None:
        saved.append((position.epoch, position.step))
        save(path, module, optimizer, position, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "probabilities", stopping)
        patch.setattr(checkpoint, "save", noted)
        stopped = descend.fit(ARRAYS, out=tmp_path / "run", **TINY | {"checkpoint_every": "1h"})
    assert saved == [(0, 7)]
    assert stopped.record.status == "interrupted"
    assert descend.resume(tmp_path / "run", data=ARRAYS).record.status == "finished"
    assert model(tmp_path / "run") == model(whole.folder)


def test_the_number_of_threads_is_recorded_and_restored(tmp_path: Path) -> None:
    settings = {name: value for name, value in TINY.items() if name != "threads"}
    before, seen = torch.get_num_threads(), list[int]()
    torch.set_num_threads(3)
    try:
        with pytest.raises(Killed):
            descend.fit(ARRAYS, out=tmp_path / "run", progress=KillAt(5), **settings)
        torch.set_num_threads(2)
        heard = Heard(seen)
        run = descend.resume(tmp_path / "run", data=ARRAYS, progress=heard)
        assert set(seen) == {3}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert (run.record.n_threads, run.record.departures) == (3, [])
    assert "not bit-exact" not in "".join(heard.lines)


class Heard(Silent):
    """A listener that keeps what it is told, and how many threads torch has then."""

    def __init__(self, seen: list[int]) -> None:
        self.lines, self.seen = list[str](), seen

    def say(self, text: str) -> None:
        self.lines.append(text)
        self.seen.append(torch.get_num_threads())


def test_other_threads_are_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Killed):
        descend.fit("digits", out=tmp_path / "run", progress=KillAt(2), epochs=1, batch_size=512, augment=[], threads=1)
    assert main(["fit", "--resume", str(tmp_path / "run"), "--threads", "2"]) == 0
    told = capsys.readouterr()
    assert "not bit-exact: 2 threads instead of 1" in told.out + told.err
    assert descend.load(tmp_path / "run").record.departures == ["2 threads instead of 1"]
    assert main(["fit", "--resume", str(tmp_path / "run"), "--threads", "0"]) == 2
    assert "threads: must be a whole number in [1, 1024], got 0" in capsys.readouterr().err


def test_another_machine_and_other_versions_are_named() -> None:
    record = RunRecord(n_threads=4)
    assert resume_differences(record, n_threads=4) == []
    record.machine = {**record.machine, "processor": "Abacus", "n_cpus": 99}
    record.versions = {**record.versions, "torch": "0.1", "nothing": "1"}
    another, version = resume_differences(record, n_threads=4)
    assert another.startswith("another machine (")
    assert another.endswith("instead of Abacus)")
    assert version.endswith("instead of 0.1")
    record.n_threads = 0  # of an older version
    assert len(resume_differences(record, n_threads=4)) == 2


def test_a_cadence_without_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KnobError, match="checkpoint_every: must be a number of steps, or a time"):
        descend.fit(ARRAYS, out=tmp_path / "run", **TINY | {"checkpoint_every": "often"})
    assert not (tmp_path / "run").exists()
