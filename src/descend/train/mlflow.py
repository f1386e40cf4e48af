"""MLflow: a tracker that makes each run of descend a run of MLflow, with settings, epochs, results and the run folder itself."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from descend.errors import DescendError, MissingExtra, RunError, first_line
from descend.train import folder, run_manifest
from descend.train.record import RunRecord
from descend.train.tracking import results, search_curve

WHICH = "mlflow.json"  # in the run folder: the run of MLflow that it is
KEPT = (folder.RECIPE, folder.RECORD, folder.METRICS, folder.MODEL, folder.PREDICTIONS, folder.REPORT, folder.PICTURES,
        folder.CORRECTIONS, run_manifest.MANIFEST)  # fmt: skip
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
LONGEST = 500  # characters of a parameter; older servers refuse more
STATUS = {"finished": "FINISHED", "interrupted": "KILLED"}


class MLflow:
    """Logs runs to MLflow: ``descend.fit("photos", tracker=descend.MLflow("ants and bees"))``; ``fit --mlflow`` does the same.

    Every setting becomes a parameter, every epoch a point of each metric, what came of the run ``result/...`` with its interval,
    and, as artifacts below ``run/``, the report, the recipe, the record, the model and the answers: ``descend.load`` opens a copy
    of it. A search, which has no epochs, becomes the curve ``search/best_accuracy`` over seconds. A run that is resumed goes on
    in its run of MLflow. Pictures of the report go with it, to wherever your MLflow keeps artifacts.

    experiment: its name, made where there is none. uri: of the server or database; None for MLFLOW_TRACKING_URI or what MLflow
    takes by itself. artifacts: False logs numbers and words alone.
    A server that is lost in the middle costs no training: what it missed is told again at the end, and warned of if it is still
    missing. Raises MissingExtra without the package, RunError where MLflow does not answer before the training begins.
    """

    def __init__(self, experiment: str = "descend", *, uri: str | None = None, artifacts: bool = True) -> None:
        try:
            import mlflow  # pyright: ignore[reportMissingImports]
        except ImportError:
            fix = "Install it with: pip install 'descend[mlflow]'"
            raise MissingExtra("MLflow", "the package mlflow must be installed", fix=fix) from None
        self.artifacts, self._mlflow = artifacts, mlflow
        self._untold: list[Callable[[], object]] = []
        self._params: dict[str, str] = {}
        self._id = ""
        with _few_retries():
            try:
                self._client = mlflow.MlflowClient(tracking_uri=uri)
                known = self._client.get_experiment_by_name(experiment)
                self._experiment = self._client.create_experiment(experiment) if known is None else known.experiment_id
            except Exception as error:  # whatever its client raises: HTTP, a database, a name that it refuses
                fix = "Look at the address (MLFLOW_TRACKING_URI) and the experiment's name, or train without it."
                raise RunError("MLflow", f"must take the experiment {experiment!r} ({first_line(error)})", fix=fix) from error

    @property
    def run_id(self) -> str:
        """The MLflow run of the last run; empty before the first, and where it could not begin."""
        return self._id

    def started(self, run: Path, record: RunRecord) -> None:
        """Begin a run of MLflow, or go on with the one that a resumed run began."""
        self._untold, self._params, self._id = [], {}, ""
        with _few_retries():
            try:
                self._id = self._known(run) or self._made(run, record)
            except DescendError:
                raise
            except Exception as error:
                fix = "Look at the server, or train without it."
                raise RunError("MLflow", f"must take a new run ({first_line(error)})", fix=fix) from error
        self._tell(lambda: self._log_settings(record))

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Log one epoch."""
        self._log({name: float(value) for name, value in row.items() if name != "epoch"}, step=row["epoch"])

    def ended(self, run: Path, record: RunRecord) -> None:
        """Log what came of it, and end the run of MLflow: FINISHED, KILLED, or FAILED where an error ended the training."""
        if not self._id:  # it has not begun
            return
        status = "FAILED" if record.stopped_by else STATUS.get(record.status, "KILLED")
        self._log(results(record))
        for seconds, best in search_curve(record):
            self._log({"search/best_accuracy": best}, step=seconds)
        self._tell(lambda: self._log_settings(record))
        if record.stopped_by:
            self._tell(lambda: self._client.set_tag(self._id, "descend.stopped_by", record.stopped_by))
        if self.artifacts:
            for name in KEPT:
                if (run / name).exists():
                    self._tell(lambda path=run / name: self._client.log_artifact(self._id, str(path), "run"))
        self._tell(lambda: self._client.set_terminated(self._id, status))
        if lost := self._try():
            warnings.warn(f"MLflow has not been told everything of {run} ({lost}); the run itself is whole", stacklevel=2)

    def _known(self, run: Path) -> str:
        """Return the run of MLflow that a run folder names, opened again, or "" where it names none that is there."""
        if not (run / WHICH).exists():
            return ""
        found = str(folder.read_json(run / WHICH).get("run_id"))
        try:
            self._params = dict(self._client.get_run(found).data.params)
        except self._mlflow.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return ""  # it began under another server, or was deleted
            raise
        self._client.update_run(found, status="RUNNING")
        return found

    def _made(self, run: Path, record: RunRecord) -> str:
        tags = {"descend.run": str(run.resolve()), "descend.version": record.versions.get("descend", ""),
                "descend.data": record.data_fingerprint}  # fmt: skip
        made = self._client.create_run(self._experiment, run_name=run.name, tags=tags).info.run_id
        folder.write_json(run / WHICH, {"run_id": made})
        return made

    def _log_settings(self, record: RunRecord) -> None:
        """Log the settings that are not logged yet; one that a search has changed since stands under ``final.``."""
        new: dict[str, str] = {}
        for name, value in record.plan.items():
            text = ("; ".join(value) if isinstance(value, list) else str(value))[:LONGEST]
            if value is not None and self._params.get(name, text) != text:
                name = f"final.{name}"
            if value is not None and name not in self._params:
                new[name] = text
        self._client.log_batch(self._id, params=[self._mlflow.entities.Param(name, text) for name, text in new.items()])
        self._params |= new

    def _log(self, values: Mapping[str, float], step: int = 0) -> None:
        now = int(time.time() * 1000)
        metrics = [self._mlflow.entities.Metric(name, value, now, step) for name, value in values.items()]
        self._tell(lambda: self._client.log_batch(self._id, metrics=metrics))

    def _tell(self, call: Callable[[], object]) -> None:
        """Make a call now; after one that has failed all wait for the end, because each may take its time to fail."""
        waits = bool(self._untold)
        self._untold.append(call)
        if not waits:
            self._try()

    def _try(self) -> str:
        """Make the calls that wait, in order; returns the words of the error that stopped it, "" where none did."""
        with _few_retries():
            while self._untold:
                try:
                    self._untold[0]()
                except Exception as error:  # a training is worth more than its log
                    return first_line(error)
                del self._untold[0]
        return ""


@contextmanager
def _few_retries() -> Iterator[None]:
    """Let MLflow's client give up in seconds, where by itself it tries for minutes, unless its owner has said how often."""
    given = os.environ.get(RETRIES)
    os.environ.setdefault(RETRIES, "2")
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(RETRIES, None)
