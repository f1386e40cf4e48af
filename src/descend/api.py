"""What Python code calls: ``descend.fit``, ``descend.resume``, ``descend.load``, and what trains many runs to compare them.

It stands above the packages as the command line does, because a finished run is trained by ``train`` *and* written up by
``report``. What a function needs is imported when it is called: naming these costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from descend import comparison
from descend import report as report_package
from descend.errors import DescendError, KnobError, check_count
from descend.notebook import NotebookBar, is_notebook
from descend.progress import Progress, Silent

if TYPE_CHECKING:
    from descend.train import fit as training
    from descend.train.callbacks import OnEpoch
    from descend.train.fit_settings import FitSettings
    from descend.train.recipe import Recipe
    from descend.train.run import Run
    from descend.train.tracking import Tracker


def fit(
    data: Any = None,
    *,
    recipe: Recipe | Mapping[str, Any] | Path | str | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
    tracker: Tracker | Sequence[Tracker] | None = None,
    report: bool = True,
    on: str | None = None,
    command: list[str] | None = None,
    started: float | None = None,
    **settings: Unpack[FitSettings],
) -> Run:
    """Train a classifier and write its run folder.

    data: a folder of class folders; a folder with ``train/ val/ test/``; a CSV, TSV or Parquet table with the columns
    ``path,label[,split][,group]``; a tar, Parquet with the pictures in it, or a folder of such shards; a compressed archive; an
    address of any of these; the name of a built-in set; a data frame with the columns of a table; ``(pictures, labels)``, where
    pictures are paths, an array (N, H, W[, 3]) uint8, or a list of Pillow images, arrays, tensors and bytes of any size;
    torchvision's ``ImageFolder``, any indexable of (picture, label), Hugging Face's ``Dataset``; or a dict of these under train,
    val and test. It may stand in the recipe instead, where it is a path.
    recipe: settings as a Recipe, a dict or a TOML file; ``settings`` given beside it win. Every setting of ``Recipe`` is one.
    out: the run folder, new or empty; default ``runs/NAME-DATE-TIME``.
    progress: hears what goes on; default a bar in a notebook, nothing elsewhere (``descend.progress.Silent()`` anywhere).
    on_epoch: a function of each epoch's row, a dict (``EpochRow``), for loggers: ``descend.TensorBoard("tb")``. An error that it
    raises ends the training as it is, with notes that say how to go on. report: whether ``report.html`` is written.
    tracker: what is told of the run from its first setting to its end, searches too: ``descend.MLflow("ants and bees")``,
    ``descend.TensorBoard("tb")``, any ``descend.train.Tracker``, or several.
    on: ``"ray"`` computes the features of a frozen network on the Ray cluster at RAY_ADDRESS; the result is the same.
    started: reading of ``time.perf_counter`` from which a ``budget`` counts; default now.
    Returns the run, finished or interrupted (``run.record.status``).
    Raises a DescendError: KnobError, SpecError, DataError, ModelError, RunError, TrainingError, MissingExtra.

    >>> import descend
    >>> run = descend.fit("digits", transfer="scratch", epochs=1, augment=[], out="run")
    >>> print(run.verdict())
    Validation: accuracy ...% of 270 pictures (95% interval ...% to ...%), ...
    Test:       accuracy ...% of 270 pictures (95% interval ...% to ...%), ...

    On photographs: ``run = descend.fit("photos", transfer="finetune", size=128)``, then ``run.predict(["new.jpg"]).labels``.
    """
    from descend.train import fit as training
    from descend.train.feature_nodes import features_on
    from descend.train.recipe import from_arguments

    asked, arrays = from_arguments(data, recipe, settings)
    folder = None if out is None else Path(out)
    with features_on(on):
        return training.fit(
            asked, arrays=arrays, out=folder, progress=progress or _listener(), command=command or [],
            search=_search(started), write_up=_written_up if report else _recorded, on_epoch=on_epoch, tracker=_one(tracker),
        )  # fmt: skip


def resume(
    run: Path | str,
    *,
    data: Any = None,
    threads: int | None = None,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
    tracker: Tracker | Sequence[Tracker] | None = None,
    on: str | None = None,
    started: float | None = None,
) -> Run:
    """Go on with an interrupted run, bit for bit as if it had not stopped.

    data: where the pictures are now, if they have moved (their content is checked); the arrays again, where the run was started
    on arrays. By default the pictures are where they were. progress, on_epoch, tracker, on: as in ``fit``.
    threads: torch's, where they shall be others than those that the run began with: bits differ then.
    A run that lacks only its report, or whose model is damaged, is completed. Raises RunError if the run is finished, its data
    have changed, or another process has it.
    """
    from descend.train import fit as training
    from descend.train.feature_nodes import features_on
    from descend.train.folder import resolve_run

    if threads is not None:
        check_count("threads", threads, most=1024)
    with features_on(on):
        return training.resume(
            resolve_run(Path(run)), data=data, n_threads=threads, progress=progress or _listener(), search=_search(started),
            write_up=_written_up, on_epoch=on_epoch, tracker=_one(tracker),
        )  # fmt: skip


def compare(
    data: Any = None,
    candidates: Sequence[str] = (),
    *,
    recipe: Recipe | Mapping[str, Any] | Path | str | None = None,
    seeds: int = 5,
    budget: str | None = None,
    until_decided: bool = False,
    jobs: int = 1,
    on: str | None = None,
    level: float = 0.95,
    settle: float = 0.005,
    tune: int | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> comparison.Comparison:
    """Train every candidate on the same seeds, pictures and split, and say which differ, with intervals.

    data, recipe, settings: as in ``fit``: the recipe that candidates are changes of; its ``seed`` is the first one. candidates:
    two texts or more, the first is the one that the others are measured against: ``"base"``, ``"optimizer=adam"``,
    ``"add:mixup(alpha=0.2)"``, ``"drop:dropout"``, ``"transfer=finetune size=128"``, or a recipe file. seeds: runs of each, at
    most. budget: wall time of all runs, such as ``"30m"``; that of one ``auto`` run is a candidate's ``"budget=1m"``.
    until_decided: end at the first planned look at which every verdict is known. jobs: runs at the same time. on: ``"ray"`` makes
    them on the Ray cluster at RAY_ADDRESS. level: of all verdicts together. settle: the difference worth finding, a share of the
    pictures. tune: trials on validation that each candidate gets first, to set the knobs that it leaves open; 0 compares as
    written; default 8 where a candidate names an optimizer without its rate, else 0. out: the folder; default
    ``comparisons/NAME-DATE-TIME``.
    A run made before with the same settings and data, in the same parent folder, is taken as it is. The folder gets the results
    as JSON lines and ``report.html``; in a notebook the comparison shows itself with a picture.
    Raises a DescendError for what can be refused beforehand; a candidate that fails later is told in the result.

    >>> import descend
    >>> found = descend.compare("digits", ["base", "optimizer=sgd(lr=0.1)"], seeds=2, epochs=1, augment=[], out="cmp/one")
    >>> print(found.verdicts()[0].text)
    optimizer=sgd(lr=0.1) ... base...
    """
    from descend.train.recipe import from_arguments

    base, arrays = from_arguments(data, recipe, settings)
    how = comparison.Settings(
        n_seeds=seeds, budget=budget, until_decided=until_decided, jobs=jobs, on=on, level=level, settle=settle, n_trials=tune
    )
    found = comparison.compare(
        candidates, base, how, fit=fit, resume=resume, out=None if out is None else Path(out),
        progress=progress or Silent(), arrays=arrays,
    )  # fmt: skip
    report_package.write_comparison(found)
    return found


def ablate(
    data: Any = None,
    *,
    recipe: Recipe | Mapping[str, Any] | Path | str | None = None,
    add: Sequence[str] = (),
    seeds: int = 5,
    budget: str | None = None,
    jobs: int = 1,
    on: str | None = None,
    level: float = 0.95,
    settle: float = 0.005,
    out: Path | str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> comparison.Ablation:
    """Leave every technique of a recipe out, and add every one alone to none, and say what each buys, with intervals.

    data, recipe, settings: as in ``fit``; the recipe is what ``fit`` would choose, and where that is a search, what the search
    chose. A finished run's folder may stand for its recipe. add: techniques that it lacks, such as ``"mixup(alpha=0.2)"``. The
    rest: as in ``compare``, whose runs are shared. Raises a DescendError for what can be refused beforehand.

    >>> import descend
    >>> settings = {"epochs": 1, "augment": "pad_crop", "schedule": "constant"}
    >>> found = descend.ablate("digits", seeds=1, backbone="smallcnn(width=2)", out="abl/one", **settings)
    >>> [rung.name for rung in found.rungs()][:3]
    ['base', 'drop:pad_crop', 'drop:weight_decay']
    """
    from descend.train.recipe import from_arguments

    base, arrays = from_arguments(data, recipe_of(recipe), settings)
    how = comparison.Settings(n_seeds=seeds, budget=budget, jobs=jobs, on=on, level=level, settle=settle)
    return comparison.ablate(
        base, how, add=add, fit=fit, resume=resume, out=None if out is None else Path(out), progress=progress or Silent(),
        arrays=arrays,
    )  # fmt: skip


def sensitivity(
    data: Any = None,
    optimizers: Sequence[str] = ("sgd", "momentum", "adam"),
    *,
    recipe: Recipe | Mapping[str, Any] | Path | str | None = None,
    rates: int | None = None,
    low: float | None = None,
    high: float | None = None,
    within: float = 0.01,
    seeds: int = 3,
    budget: str | None = None,
    jobs: int = 1,
    on: str | None = None,
    level: float = 0.95,
    out: Path | str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> comparison.Sensitivity:
    """Measure accuracy against learning rate, rule by rule, and how many decades of rates stay close to the best.

    data, recipe, settings: as in ``fit``, without an optimizer. optimizers: spec texts without ``lr``. rates: of each rule, by
    default two per decade of the range worth searching that its knob ``lr`` names; low, high: other ends. within: what a rate may
    cost, a share of the pictures. The rest: as in ``compare``, whose runs are shared. Raises a DescendError for what can be
    refused beforehand; a run that diverges is a result.

    >>> import descend
    >>> settings = {"epochs": 1, "augment": [], "backbone": "smallcnn(width=2)"}
    >>> found = descend.sensitivity("digits", ["sgd", "adam"], rates=2, low=1e-3, seeds=1, out="sens/one", **settings)
    >>> print(found)
    optimizer  best rate  validation ...
    """
    from descend.train.recipe import from_arguments

    base, arrays = from_arguments(data, recipe_of(recipe), settings)
    how = comparison.Settings(n_seeds=seeds, budget=budget, jobs=jobs, on=on, level=level)
    return comparison.sweep_rates(
        base, optimizers, how, n_rates=rates, low=low, high=high, within=within, fit=fit, resume=resume,
        out=None if out is None else Path(out), progress=progress or Silent(), arrays=arrays,
    )  # fmt: skip


Asked = TypeVar("Asked")


def recipe_of(recipe: Asked) -> Asked | Path:
    """Return a recipe as it is given, or the file of it where a run's folder, or ``runs/latest``, is given."""
    from descend.train.folder import LATEST, RECIPE, resolve_run

    if not isinstance(recipe, (str, Path)):
        return recipe
    place = resolve_run(Path(recipe)) if Path(recipe).name == LATEST else Path(recipe)
    return place / RECIPE if place.is_dir() else recipe


def load(path: Path | str) -> Run:
    """Open a run folder, to predict with it, to evaluate it, or to read its record.

    path: the folder; ``runs/latest``, the newest in ``runs``; or
    ``hf://owner/name[@revision]``, a run that was pushed to the Hugging Face hub.
    """
    from descend.train.folder import resolve_run
    from descend.train.run import Run

    if str(path).startswith("hf:/"):
        from descend.publishing import fetched

        path = fetched(str(path))
    return Run(resolve_run(Path(path)))


def _one(tracker: Tracker | Sequence[Tracker] | None) -> Tracker | None:
    """Return one tracker that stands for all. Raises KnobError for what cannot be told of a run."""
    from descend.train.tracking import Tracker as Protocol
    from descend.train.tracking import Trackers

    several = () if tracker is None else tracker if isinstance(tracker, Sequence) else (tracker,)
    if not several:
        return None
    for each in several:
        if not isinstance(each, Protocol):
            fix = 'For example descend.MLflow("ants and bees"); a function of each row alone is on_epoch.'
            raise KnobError("tracker", "must have started, ended and be callable with a row", got=each, fix=fix)
    return Trackers(several)


def _listener() -> Progress:
    """Return what shows the progress where nothing was said: a bar in a notebook."""
    return NotebookBar() if is_notebook() else Silent()


def _search(started: float | None) -> training.Search:
    """Return what makes the run of a plan whose transfer is ``auto``, with its clock running."""
    from descend.search.run import search  # it trains: for those who only load a run, too much to import

    return partial(search, started=time.perf_counter() if started is None else started)


def _recorded(run: Run) -> Run:
    """Return a run as it is, without a report. Raises the error that ended its training."""
    if run.failure is not None:
        raise run.failure
    return run


def _written_up(run: Run) -> Run:
    """Write the report of a run. Raises the error that ended its training, when all that could be kept is kept."""
    try:
        run.record.save(run.folder)
        started = time.perf_counter()
        report_package.write(run.folder)
        run.record.add_wall("report", time.perf_counter() - started)
        run.record.save(run.folder)
    except (DescendError, OSError):
        if run.failure is None:
            raise
    if run.failure is not None:
        raise run.failure
    return run
