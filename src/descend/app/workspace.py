"""What the page works on: one folder of runs, the data below one root, and one piece of work at a time."""

from __future__ import annotations

import shlex
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from descend.app.guard import is_among, new_token
from descend.app.jobs import Job
from descend.app.places import Places
from descend.app.review import Review
from descend.data import archives
from descend.errors import KnobError, RunError, nearest
from descend.plain_data import finite
from descend.quantities import seconds
from descend.train import folder
from descend.train.modes import MODES
from descend.train.recipe import from_settings
from descend.train.run import Run
from descend.train.run_list import ListedRun

MOST_OPEN = 3  # runs whose networks are held in memory
TAKEN = ("data", "transfer", "budget", "epochs", "corrections", "seed")  # settings that the page may give


Shown = Callable[[Sequence[ListedRun]], Mapping[str, Sequence[str]]]
"""Returns the settings in which runs differ, as text: name -> a text for each run."""


class Workspace:
    """The state of the app. runs: the folder of runs, which need not exist yet. first: the run that is shown first, or None.

    shown: says in which settings runs differ. closing: whether the server is about to end, so that what streams ends too.
    """

    def __init__(self, runs: Path, root: Path, first: str | None = None, *, shown: Shown) -> None:
        self.runs, self.places, self.first, self._shown = runs.absolute(), Places(root), first, shown
        self.job: Job | None = None
        self.review: Review | None = None
        self.closing = False
        self._opened = OrderedDict[str, tuple[float, Run]]()
        self._tickets: dict[str, str] = {}
        self._lock = threading.Lock()

    # ------------------------------------------------------------------------------------------------------------ runs

    def listed(self) -> list[dict[str, Any]]:
        """Return every run as plain data, the newest first."""
        return [self._facts(ListedRun.of(path)) for path in folder.newest_first(self.runs)]

    def path_of(self, name: str) -> Path:
        """Return a run's folder by its name. Raises RunError for a name that is not among the runs: no path is built from it."""
        known = {path.name: path for path in folder.newest_first(self.runs)}
        if name not in known:
            raise RunError("the app", f"knows the runs of {self.runs}", got=name,
                           fix=nearest(name, known) if known else "Train one first.")  # fmt: skip
        return known[name]

    def run(self, name: str) -> Run:
        """Return a run, opened; opened anew where its record has changed since."""
        path = self.path_of(name)
        changed = (path / folder.RECORD).stat().st_mtime
        with self._lock:
            known = self._opened.get(name)
            if known is None or known[0] != changed:
                self._opened[name] = (changed, Run(path))
            self._opened.move_to_end(name)
            while len(self._opened) > MOST_OPEN:
                self._opened.popitem(last=False)
            return self._opened[name][1]

    def compared(self, names: list[str]) -> dict[str, Any]:
        """Return runs side by side: their facts, and the settings that differ with a text for each. Raises KnobError for one."""
        if len(names) < 2:
            raise KnobError("compare", "needs two runs or more", got=names)
        runs = [ListedRun.of(self.path_of(name)) for name in dict.fromkeys(names)]
        prints = {run.record.data_fingerprint if run.record else f"damaged {run.path.name}" for run in runs}
        return {"runs": [self._facts(run) for run in runs], "settings": self._shown(runs), "same_data": len(prints) == 1}

    def known_data(self, runs: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the data below the root that runs were trained on, in their order. runs: as ``listed`` returns them."""
        paths = [path for run in runs if (path := str(run["source"] or "")) and Path(path).is_absolute()]
        return [*dict.fromkeys(self.places.shown(path) for path in paths if self.places.has(path))]

    def report_ticket(self, name: str) -> str:
        """Return what opens the report of one run and nothing else. Raises RunError where there is none."""
        if not (self.path_of(name) / folder.REPORT).is_file():
            raise RunError(
                f"run {name}", "must have a report", fix=f"Write it: descend report {shlex.quote(str(self.path_of(name)))}"
            )
        ticket = next((ticket for ticket, known in self._tickets.items() if known == name), None)
        if ticket is None:
            ticket = new_token()
            self._tickets[ticket] = name
        return ticket

    def report(self, ticket: str) -> Path | None:
        """Return the report that a ticket opens, None for a ticket that was not given out."""
        if not is_among(ticket, [*self._tickets]):
            return None
        return self.path_of(self._tickets[ticket]) / folder.REPORT

    def _facts(self, run: ListedRun) -> dict[str, Any]:
        chosen: Mapping[str, Any] = (run.record and run.record.chosen) or {}
        source = run.record.plan.get("data") if run.record else None
        more = {"epoch": chosen.get("epoch"), "source": source, "can_answer": (run.path / folder.MODEL).is_file(),
                "has_report": (run.path / folder.REPORT).is_file()}  # fmt: skip
        return finite(run.facts() | more)

    # ------------------------------------------------------------------------------------------------------------ work

    def fit(self, asked: Mapping[str, Any]) -> Job:
        """Start a training. asked: settings of the recipe, those in ``TAKEN``. Raises DescendError for what cannot be meant."""
        unknown = [name for name in asked if name not in TAKEN]
        if unknown:
            raise KnobError("fit", f"takes {', '.join(TAKEN)} from the page", got=unknown[0], fix="Others: descend fit --help")
        settings: dict[str, Any] = {name: value for name, value in asked.items() if value not in (None, "")}
        settings["data"] = self.places.data(str(settings.get("data", "")))
        if "corrections" in settings:
            settings["corrections"] = str(self.places.table(str(settings["corrections"])))
        mode = str(settings.get("transfer", "auto"))
        if mode not in MODES:
            raise KnobError("transfer", f"must be one of {', '.join(MODES)}", got=mode)
        from_settings(settings)  # types and intervals are told before a process begins
        if "budget" in settings:
            seconds(settings["budget"], who="budget")
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items() if name != "data"]
        place = next(place for place in folder.named(_name_of(settings["data"]), self.runs) if not place.exists())
        request = {"settings": settings, "command": ["descend", "fit", settings["data"], *flags]}
        return self._begun(lambda out: Job("fit", f"training on {Path(settings['data']).name}", request | {"out": str(out)}, out),
                           place)  # fmt: skip

    def resume(self, name: str) -> Job:
        """Go on with an interrupted run. Raises RunError for one that has finished."""
        path = self.path_of(name)
        if self.run(name).record.status == "finished":
            raise RunError(f"run {name}", "must be one that was interrupted", got="finished")
        return self._begun(lambda out: Job("resume", f"going on with {name}", {"out": str(out)}, out), path)

    def start_review(self, data: str, table: str, *, deep: bool) -> Review:
        """Start a scan, and read the decisions that the table holds already."""
        place, target = self.places.data(data), self.places.table(table)

        def begin(_: Path) -> Job:
            self.review = Review(place, target, deep=deep, places=self.places)
            return self.review.job

        self._begun(begin, target)
        assert self.review is not None  # just made
        return self.review

    def current_review(self, known: str | None = None) -> Review:
        """Return the review that is under way. known: the id of the one that a page shows, None for a page that shows none.

        Raises RunError where there is none, or another than the page shows: a row of that is another picture of this.
        """
        review = self.review
        if review is None:
            raise RunError("the app", "needs data to be scanned first")
        if known not in (None, review.job.id):
            raise RunError("labels", "must be those of the latest scan, and this page shows an earlier one", fix="Load it anew.")
        return review

    def stop(self) -> None:
        """Stop what goes on, as Ctrl-C does; nothing where nothing goes on."""
        if self.job is not None and self.job.running:
            self.job.stop()

    def close(self) -> None:
        """End: what goes on is stopped, and waited for until it has kept what it has."""
        self.closing = True
        if self.job is not None:
            self.job.close()

    def _begun(self, begin: Callable[[Path], Job], place: Path) -> Job:
        with self._lock:
            if self.closing or (self.job is not None and self.job.running):
                what = self.job.title if self.job is not None else "ending"
                raise RunError("the app", f"does one thing at a time, and is {what}", fix="Wait until it has ended, or stop it.")
            if self.job is not None:
                self.job.close()
            self.job = begin(place)
            return self.job


def _name_of(data: str) -> str:
    """Return what data are called, as ``descend.data`` calls them: a run bears their name."""
    path = Path(data)
    return path.name if path.is_dir() else archives.stem(path.name) if archives.is_archive(path) else path.stem
