"""The runs of a comparison: what is gone on with, what is made anew, what others are making, and what a run has right."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fake_runs import fake_fit  # pyright: ignore[reportMissingImports]

from descend.comparison import Candidate, Comparison, Made, runs
from descend.comparison.runs import Job, Right, lost, make, outcomes, right
from descend.errors import RunError
from descend.train import folder, pictures
from descend.train.evaluate import write_predictions
from descend.train.lock import RunLock
from descend.train.recipe import Recipe
from descend.train.record import RunRecord
from descend.train.run import Run


def begun(place: Path) -> Job:
    """Return the job of a run that was interrupted after hours."""
    place.mkdir()
    RunRecord(status="interrupted").save(place)
    (place / folder.CHECKPOINT).write_bytes(b"hours")
    return Job(Candidate("a", Recipe()), 0, place)


def refusing(cause: OSError | None, *, named: bool) -> Callable[..., Run]:
    """Return a resume that fails. named: whether the cause is told, as where the disk is written to, or only met."""

    def resume(*_: Any, **__: Any) -> Run:
        error = RunError("run folder", "must be as it should be")
        if cause is None:
            raise error
        try:
            raise cause
        except OSError as met:
            raise error from met if named else None

    return resume


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_is_full_or_read_only_costs_no_epochs(tmp_path: Path, number: int, named: bool) -> None:
    item = begun(tmp_path / "r")
    fit = fake_fit(lambda _: 0.9, made := [])["fit"]
    found = make(item, fit=fit, resume=refusing(OSError(number, "no"), named=named))
    assert (found.status, made) == ("failed", [])
    assert (item.place / folder.CHECKPOINT).read_bytes() == b"hours"


@pytest.mark.parametrize("cause", [None, FileNotFoundError(errno.ENOENT, "gone")])
def test_what_cannot_be_gone_on_with_is_made_anew(tmp_path: Path, cause: OSError | None) -> None:
    item = begun(tmp_path / "r")
    found = make(item, fit=fake_fit(lambda _: 0.9, [])["fit"], resume=refusing(cause, named=False))
    assert found.status == "finished"
    assert not (item.place / folder.CHECKPOINT).exists()


@pytest.mark.parametrize("is_full", [True, False])
def test_a_failure_that_cannot_be_written_down_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    def full(*_: Any) -> None:
        raise RunError("run folder", "must be writable")

    if is_full:
        monkeypatch.setattr(runs.folder, "write_text", full)
    else:
        (tmp_path / "runs").touch()  # no folder can be made below it
    item = Job(Candidate("a", Recipe()), 0, tmp_path / "runs" / "r")
    assert make(item, **fake_fit(lambda _: None, [])).status == "failed"
    assert lost(item, "killed").error == "killed"


def test_a_run_that_another_process_was_quicker_to_begin_is_taken(tmp_path: Path) -> None:
    item, how = Job(Candidate("a", Recipe()), 0, tmp_path / "r"), fake_fit(lambda _: 0.9, [])

    def beaten(data: Any, **settings: Any) -> Run:
        how["fit"](data, **settings)
        raise RunError("--out", "must be a new or empty folder", got=str(settings["out"]))

    found = make(item, fit=beaten, resume=how["resume"])
    assert (found.status, found.again) == ("finished", True)
    assert not (item.place / runs.FAILED).exists()


def test_a_run_of_data_that_have_changed_since_is_refused_and_never_taken_again(tmp_path: Path) -> None:
    """Labels that were corrected while a comparison ran made a candidate worse by 95 points, without a word."""
    now, made = "as they were", list[str]()

    def fit(data: Any, *, recipe: Recipe, out: Path, **_: Any) -> Run:
        del data, recipe
        made.append(now)
        out.mkdir(parents=True)
        record = RunRecord(status="finished", data_fingerprint=now)
        record.save(out)
        (out / folder.PREDICTIONS).write_text("path,split,label,predicted\n")
        return Run(out, record)

    def unneeded(*_: Any, **__: Any) -> Run:
        raise AssertionError("a run of other data is not gone on with")

    item = Job(Candidate("a", Recipe()), 0, tmp_path / "r", "as they were")
    now = "corrected"
    other = make(item, fit=fit, resume=unneeded)
    assert other.status == "failed"
    assert "the data must stay as they were when it began" in other.error
    now = "as they were"
    found = make(item, fit=fit, resume=unneeded)
    assert (found.status, found.again, made) == ("finished", False, ["corrected", "as they were"])
    assert make(item, fit=fit, resume=unneeded).again


def test_runs_that_judged_by_other_labels_are_not_compared(tmp_path: Path) -> None:
    answers = dict[Made, Right]()
    for seed, labels in enumerate(((0, 1), (0, 0))):
        place = tmp_path / str(seed)
        place.mkdir()
        probs = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
        write_predictions(place / folder.PREDICTIONS, ["x.png", "y.png"], ["test"] * 2, np.array(labels), probs, ("a", "b"))
        answers[Made("ab"[seed], 0, "", "finished", 1.0)] = right(place, "test")
    with pytest.raises(RunError, match=r"by the same labels, got 'b'\. Labels have changed since:"):
        outcomes(answers)


@pytest.mark.skipif(sys.platform == "win32", reason="no lock there")
def test_a_run_whose_lock_is_asked_for_at_that_moment_is_not_deleted(tmp_path: Path) -> None:
    item, tried = begun(tmp_path / "r"), list[str]()

    def resume(place: Path, **_: Any) -> Run:
        tried.append(place.name)
        if len(tried) == 1:
            lock = RunLock(place)
            try:
                RunLock(place)
            finally:
                lock.release()
        return Run(place, RunRecord(status="finished", wall_s={"training": 1.0}))

    found = make(item, fit=fake_fit(lambda _: 0.9, made := [])["fit"], resume=resume)
    assert (found.status, len(tried), made) == ("finished", 2, [])
    assert (item.place / folder.CHECKPOINT).read_bytes() == b"hours"


def test_pictures_are_known_whatever_their_names_begin_with(tmp_path: Path) -> None:
    names = ["-1x/a.png", "-1x/b.png", "=c.png", "@d.png", "\udce9.png", "plain.png"]
    patients = [0, 0, 1, 1, 2, 3]
    known = {name: ("-1x", "test", f"{k:02x}" * 16, patients[k]) for k, name in enumerate(names)}
    pictures.write(known, tmp_path)
    probs = np.array([[0.9, 0.1], [0.1, 0.9]] * 3, np.float32)
    write_predictions(tmp_path / folder.PREDICTIONS, names, ["test"] * 6, np.zeros(6, np.int64), probs, ("-1x", "+y"))
    found = right(tmp_path, "test")
    assert (len(found.answers), found.n_units) == (6, 4)
    assert outcomes({Made("a", 0, "", "finished", 1.0): found})["a"].tolist() == [[0.5, 0.5, 1.0, 0.0]]


def test_runs_that_know_of_fewer_near_copies_are_judged_by_those_that_know_of_more(tmp_path: Path) -> None:
    names = ["c.png", "a.png", "b.png", "d.png"]
    right_of = {"base": [1, 0, 1, 1], "quick": [0, 1, 1, 0]}

    def run(name: str, seed: int, groups: list[int] | None, order: list[int]) -> Made:
        place = tmp_path / f"{name}-{seed}"
        place.mkdir()
        known = {names[k]: ("x", "test", f"{k:02x}" * 16) for k in range(4)}
        grouped = {name: (*facts, group) for (name, facts), group in zip(known.items(), groups or (), strict=False)}
        pictures.write(grouped or known, place)
        probs = np.array([[good, 1 - good] for good in right_of[name]], np.float32)[order]
        path, listed = place / folder.PREDICTIONS, [names[k] for k in order]
        write_predictions(path, listed, ["test"] * 4, np.zeros(4, np.int64), probs, ("x", "y"))
        return Made(name, seed, str(place), "finished", 1.0)

    made = [run("base", 0, [0, 0, 1, 1], [0, 1, 2, 3]), run("base", 1, [0, 0, 1, 1], [3, 2, 1, 0]),
            run("quick", 0, [0, 1, 2, 3], [1, 0, 3, 2]), run("quick", 1, None, [0, 1, 2, 3])]  # fmt: skip
    found = Comparison(tmp_path, "x", ("base", "quick"), {}, made)
    assert (found.n_pictures, found.n_answered) == (2, 4)
    assert {name: rows.tolist() for name, rows in found.paired("quick").items.items()} == {
        "base": [[0.5, 1.0], [0.5, 1.0]], "quick": [[0.5, 0.5], [0.5, 0.5]],
    }  # fmt: skip
    assert found.verdicts()[0].known.interval.mean == pytest.approx(-0.25)
    assert found.accuracy_of(made[2]) == 0.5
