"""Trackers: MLflow, against a database on this machine, and TensorBoard are told what a run was set to, did and came to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_python_run import IMAGES, LABELS, fit  # pyright: ignore[reportMissingImports]

import descend
from descend.cli import main
from descend.errors import KnobError, MissingExtra, RunError, TrainingError
from descend.train.record import RunRecord
from descend.train.tracking import search_curve

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*noload.*")  # of MLflow's own dependencies


class Listener:
    """A tracker that remembers."""

    def __init__(self, breaks_in: str = "") -> None:
        self.heard: list[tuple[str, Any]] = []
        self.breaks_in = breaks_in

    def started(self, run: Path, record: RunRecord) -> None:
        self._hear("started", (run, dict(record.plan)))

    def __call__(self, row: Any) -> None:
        self._hear("epoch", row)

    def ended(self, run: Path, record: RunRecord) -> None:
        self._hear("ended", (record.status, record.stopped_by, (run / "report.html").exists()))

    def _hear(self, what: str, value: Any) -> None:
        self.heard.append((what, value))
        if what == self.breaks_in:
            raise ValueError("of the tracker")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the database lies whose tables take MLflow seconds to make."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def client(database: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database / 'mlflow.db'}")
    monkeypatch.chdir(database)  # where artifacts go
    return mlflow.MlflowClient()


def runs_of(client: Any, experiment: str) -> list[Any]:
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def test_a_tracker_hears_of_settings_epochs_and_the_end_in_order(tmp_path: Path) -> None:
    listener, rows = Listener(), []
    run = fit(tmp_path / "run", tracker=listener, on_epoch=rows.append)
    assert [what for what, _ in listener.heard] == ["started", "epoch", "epoch", "epoch", "ended"]
    place, plan = listener.heard[0][1]
    assert place == run.folder
    assert plan == run.record.plan
    assert [row for what, row in listener.heard if what == "epoch"] == rows
    assert listener.heard[-1][1] == ("finished", "", True)


def test_an_error_of_the_training_reaches_the_tracker_and_one_of_the_tracker_its_owner(tmp_path: Path) -> None:
    listener = Listener()
    with pytest.raises(TrainingError):
        fit(tmp_path / "nan", tracker=listener, optimizer="sgd(lr=1e30)")
    status, why, _ = listener.heard[-1][1]
    assert (status, bool(why)) == ("interrupted", True)
    broken = Listener("epoch")
    with pytest.raises(ValueError, match="of the tracker"):
        fit(tmp_path / "broken", tracker=broken)
    assert broken.heard[-1][0] == "ended"
    again = Listener()
    assert descend.resume(tmp_path / "broken", data=(IMAGES, LABELS), tracker=again).record.status == "finished"
    assert [what for what, _ in again.heard] == ["started", "epoch", "epoch", "ended"]


def test_a_tracker_that_has_not_begun_does_not_end_and_those_before_it_learn_why(tmp_path: Path) -> None:
    alone, first, second, third = Listener("started"), Listener(), Listener("started"), Listener()
    with pytest.raises(ValueError, match="of the tracker"):
        fit(tmp_path / "alone", tracker=alone)
    assert [what for what, _ in alone.heard] == ["started"]
    with pytest.raises(ValueError, match="of the tracker"):
        fit(tmp_path / "several", tracker=[first, second, third])
    assert [what for what, _ in second.heard] == ["started"]
    assert first.heard[1:] == [("ended", ("interrupted", "of the tracker", False))]
    assert not third.heard


def test_all_trackers_learn_of_the_end_before_an_error_of_one_is_raised(tmp_path: Path) -> None:
    broken, other = Listener("ended"), Listener()
    with pytest.raises(ValueError, match="of the tracker"):
        fit(tmp_path / "run", tracker=[broken, other])
    assert other.heard[-1] == ("ended", ("finished", "", True))


def test_what_cannot_follow_a_run_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(KnobError, match="on_epoch"):
        fit(tmp_path / "run", tracker=print)
    assert not (tmp_path / "run").exists()


def test_tensorboard_shows_settings_and_results_too(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = fit(tmp_path / "run", tracker=descend.TensorBoard(tmp_path / "tb"))
    events = accumulator.EventAccumulator(str(tmp_path / "tb")).Reload()
    assert len(events.Scalars("accuracy/val")) == 3
    assert run.record.test is not None
    assert events.Scalars("result/test_accuracy")[0].value == pytest.approx(run.record.test["accuracy"])
    [text] = events.Tensors("settings/text_summary")
    assert b"| batch_size | 16 |" in text.tensor_proto.string_val[0]


def test_a_search_is_a_curve_over_seconds() -> None:
    step: Any = {"step": "features()", "ended_s": 3.6, "best_accuracy": 0.75}
    lost: Any = step | {"ended_s": 2.0, "best_accuracy": None}
    assert search_curve(RunRecord(search=[lost, step])) == [(4, 0.75)]


def test_a_run_is_a_run_of_mlflow_and_comes_back_from_it(client: Any, tmp_path: Path) -> None:
    tracker = descend.MLflow("ants and bees")
    run = fit(tmp_path / "run", tracker=tracker)
    [found] = runs_of(client, "ants and bees")
    assert (found.info.run_id, found.info.status, found.info.run_name) == (tracker.run_id, "FINISHED", "run")
    assert found.data.params["batch_size"] == "16"
    assert found.data.params["optimizer"].startswith("adamw(lr=")
    losses = client.get_metric_history(tracker.run_id, "train_loss")
    assert [(point.step, point.value) for point in losses] == [(n + 1, row["train_loss"]) for n, row in enumerate(rows_of(run))]
    assert run.record.test is not None
    assert found.data.metrics["result/test_accuracy"] == run.record.test["accuracy"]
    assert found.data.metrics["result/test_accuracy_low"] == run.record.test["accuracy_interval"][0]
    assert found.data.metrics["seconds/report"] > 0
    place = client.download_artifacts(tracker.run_id, "run", str(tmp_path))
    assert (Path(place) / "report.html").exists()
    assert (descend.load(place).predict(IMAGES).probabilities == run.predict(IMAGES).probabilities).all()


def rows_of(run: Any) -> list[dict[str, Any]]:
    return run.record.epoch_rows(run.folder)


def test_a_resumed_run_goes_on_in_its_run_of_mlflow(client: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of the tracker"):
        fit(tmp_path / "run", tracker=[descend.MLflow("one"), Listener("epoch")])
    [begun] = runs_of(client, "one")
    assert begun.info.status == "FAILED"
    assert "of the tracker" in begun.data.tags["descend.stopped_by"]
    descend.resume(tmp_path / "run", data=(IMAGES, LABELS), tracker=descend.MLflow("one"))
    [found] = runs_of(client, "one")
    assert (found.info.run_id, found.info.status) == (begun.info.run_id, "FINISHED")
    assert [point.step for point in client.get_metric_history(found.info.run_id, "val_loss")] == [1, 2, 3]


def test_a_server_that_is_lost_costs_no_training_and_is_told_again(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, calls, whole = descend.MLflow("lost"), [0], type(client).log_batch

    def log_batch(self: Any, run_id: str, **what: Any) -> None:
        calls[0] += 1
        if "metrics" in what and not back[0]:
            raise ConnectionError("the line is dead\nfor good")
        whole(self, run_id, **what)

    monkeypatch.setattr(type(client), "log_batch", log_batch)
    back = [False]
    with pytest.warns(UserWarning, match=r"the line is dead\); the run itself is whole"):
        run = fit(tmp_path / "a", tracker=tracker)
    assert run.record.status == "finished"
    assert calls[0] == 3, "the settings, the first epoch, and once more at the end: no waiting for a dead line in between"

    class Returns(Listener):
        def ended(self, run: Path, record: RunRecord) -> None:
            back[0] = True

    fit(tmp_path / "b", tracker=[Returns(), tracker])
    assert [point.step for point in client.get_metric_history(tracker.run_id, "val_loss")] == [1, 2, 3]
    assert client.get_run(tracker.run_id).info.status == "FINISHED"


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_run_that_could_not_begin_leaves_the_one_before_as_it_is(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = descend.MLflow("twice")
    fit(tmp_path / "a", tracker=tracker)
    [before] = runs_of(client, "twice")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("the line is dead")

    with monkeypatch.context() as patch:
        patch.setattr(type(client), "create_run", refuse)
        with pytest.raises(RunError, match="must take a new run"):
            fit(tmp_path / "b", tracker=tracker, epochs=1)
    assert tracker.run_id == ""
    tracker.ended(tmp_path / "b", RunRecord())  # whoever calls it all the same
    [after] = runs_of(client, "twice")
    assert after.to_dictionary() == before.to_dictionary()


def test_the_command_line_follows_runs_too(client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--transfer", "scratch", "--backbone", "smallcnn(width=2)", "--epochs", "1", "--augment", "none"]
    follow = ["--mlflow", "digits", "--tensorboard", str(tmp_path / "tb")]
    assert main(["fit", "digits", *settings, *follow, "--out", str(tmp_path / "run")]) == 0
    [found] = runs_of(client, "digits")
    assert found.data.tags["descend.run"] == str((tmp_path / "run").resolve())
    assert [*(tmp_path / "tb").iterdir()]
    capsys.readouterr()


@pytest.mark.usefixtures("client")
def test_a_server_that_is_not_there_and_a_missing_package_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RunError, match=r"MLflow: must take the experiment 'x'"):
        descend.MLflow("x", uri="http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'descend\[mlflow\]'"):
        descend.MLflow()
