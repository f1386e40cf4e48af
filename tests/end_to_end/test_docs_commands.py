"""Every command in README and docs runs as it is typed there, on small pictures.

The folders that the pages name exist in the working directory, and so do the runs that they speak of: ``runs/photos-...`` is the
last run of those pictures on the page, ``RUN`` the last one of any; where the page trains none, one that was trained beforehand:
by the default for the pictures, and a small network for ``RUN``, which is exported in every format.
What a command leaves open (backbone from scratch, size, epochs, engine) is small here; what it asks for it gets. A command that
stands on several pages runs once, unless it fails.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file
from tests.conftest import StopAfter, shapes_folder  # pyright: ignore[reportMissingImports]
from tests.fake_hub import folder_hub  # pyright: ignore[reportMissingImports]

import descend
from descend.cli import VERBS, main
from descend.data import builtin
from descend.schedule import rate_sweep
from descend.search import rungs
from descend.train.modes.auto import Auto
from descend.train.modes.features import Features, FrozenBackbone
from descend.train.modes.finetune import FineTune
from descend.train.modes.head import HeadOnly
from descend.train.modes.mode import Default, Mode
from descend.train.modes.scratch import Scratch

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "techniques")]
SET_OF = re.compile(r"runs/([\w-]+?)-(?:\.\.\.|\d{8}-\d{6})")
N_DIGITS = 200
SMALL = {True: "smallcnn(width=2)", False: "resnet9(width=4)"}  # under 28 px, or not


def commands(page: Path) -> list[str]:
    """Return the lines of a page's code blocks that call ``descend``, without what follows a #."""
    lines, fenced = list[str](), False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines += [part.strip() for part in line.split("&&") if re.match(r"descend [a-z-]+", part.strip())]
    return [shlex.join(shlex.split(line, comments=True)) for line in lines if line.split()[1] in VERBS]


@dataclass
class Place:
    """The working directory of the pages: pictures under the names that they use, and runs of them.

    trained: a name -> a run that was made beforehand, finished (``photos``, ``small``) or stopped (``interrupted``).
    runs: the words of ``fit`` -> the run that they made, so that another page has it without training again.
    done: the words of every other command that has succeeded.
    """

    folder: Path
    trained: dict[str, Path] = field(default_factory=dict)
    runs: dict[tuple[str, ...], Path] = field(default_factory=dict)
    done: set[tuple[str, ...]] = field(default_factory=set)

    def words(self, command: str, page_runs: dict[str, Path]) -> tuple[str, ...]:
        """Return a command's words, every run that a page leaves open put in. page_runs: the runs of this page so far."""
        return tuple(self._word(word, page_runs, resumed="--resume" in command) for word in shlex.split(command)[1:])

    def _word(self, word: str, page_runs: dict[str, Path], *, resumed: bool) -> str:
        if match := SET_OF.match(word):
            run = self._unfinished() if resumed else page_runs.get(match[1], self.trained["photos"])
            return str(run) + word[match.end() :]
        if word == "RUN":
            return str([self.trained["small"], *page_runs.values()][-1])
        return {"DATA": "photos"}.get(word, word)

    def _unfinished(self) -> Path:
        """Return a run that was stopped, one of its own for each who goes on with it."""
        stopped = self.trained["interrupted"]
        return shutil.copytree(stopped, stopped.with_name(f"cut-{len([*stopped.parent.iterdir()])}"))

    def run(self, words: tuple[str, ...], page_runs: dict[str, Path]) -> int:
        """Run a command, or answer from what an equal one has made; note the run that a ``fit`` makes. Returns its status."""
        if words[0] != "fit" or "--resume" in words:
            run = served if words[0] in SERVERS else main
            status = 0 if words in self.done else run([*words])
            self.done |= {words} if status == 0 else set()
            return status
        data = "recipe" if words[1].startswith("--") else Path(words[1]).name
        status = 0
        if words not in self.runs:
            out = Path(words[words.index("--out") + 1]) if "--out" in words else Path("runs", f"{data}-{len(self.runs)}")
            status = main([*words, *([] if "--out" in words else ["--out", str(out)])])
            if status == 0:
                self.runs[words] = self.folder / out
        page_runs.pop(data, None)  # the last run stands last
        page_runs |= {data: self.runs[words]} if status == 0 else {}
        return status


SERVERS = {"app"}  # verbs that go on until Ctrl-C


def served(words: list[str]) -> int:
    """Start a server as it is typed, wait until its address answers, and press Ctrl-C. Returns its exit status."""
    quiet = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}  # opens no window
    command = [sys.executable, "-m", "descend.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=quiet, start_new_session=True) as process:
        assert process.stdout is not None
        addresses = (line.strip() for line in process.stdout if line.startswith("http://"))
        try:
            with urllib.request.urlopen(next(addresses), timeout=60) as answer:
                assert answer.status == 200
        finally:
            process.send_signal(signal.SIGINT)
        return process.wait(60)


@pytest.fixture(scope="module")
def small_defaults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make small what a command leaves open; every setting that it names stays as it is typed."""

    def constant(value: Any) -> Any:
        return lambda self, data, chosen: Default(value, "small, for a test")

    def short_sweep(self: rate_sweep.Sweep, *, n_steps: int, plain: Any = rate_sweep.Sweep.__init__, **rates: float) -> None:
        plain(self, n_steps=min(n_steps, 25), **rates)

    pictures, labels, splits = builtin.digits()
    cells = builtin.elpv()
    few = replace(cells, names=cells.names[::20], labels=cells.labels[::20])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rungs, "MOST_PASSES", 3.0)
        patch.setattr(rungs, "LEAST_PASSES", 2.0)
        patch.setattr(rungs, "MOST_TRAININGS", 1)
        patch.setattr(rate_sweep.Sweep, "__init__", short_sweep)
        for mode in (Auto, FrozenBackbone, FineTune, Scratch):
            patch.setattr(mode, "default_size", constant(32))
            patch.setattr(mode, "default_epochs", constant(1), raising=False)
        patch.setattr(HeadOnly, "default_epochs", constant(2))
        for mode in (Features, Scratch):
            patch.setattr(mode, "default_epochs", constant(12))  # long enough for what listens, and for 12 snapshots
        patch.setattr(Scratch, "default_backbone", lambda self, data, chosen: Default(SMALL[data.side < 28], "small, for a test"))
        patch.setattr(Mode, "default_engine", constant("torch"))
        folder_hub(patch, tmp_path_factory.mktemp("hub"))
        patch.setitem(builtin.SETS, "elpv", lambda: few)
        patch.setitem(builtin.SETS, "digits", lambda: (pictures[:N_DIGITS], labels[:N_DIGITS], splits[:N_DIGITS]))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small_defaults: None) -> Place:
    place = Place(tmp_path_factory.mktemp("docs"))
    for name, seed in (("photos", 0), ("other-photos", 1), ("other-pictures", 2), ("sign-digits", 3), ("more-photos", 6)):
        shapes_folder(place.folder / name, n=6, side=72, seed=seed)
    shapes_folder(place.folder / "cifar10", n=6, side=32, seed=4)
    for part, n in (("train", 6), ("val", 3)):
        shapes_folder(place.folder / "hymenoptera" / part, n=n, side=72, seed=n)
    shapes_folder(place.folder / "new", n=2, side=72, classes=("x",), seed=5)
    picture = next((place.folder / "new").rglob("*.png"))
    Image.open(picture).save(place.folder / "new.jpg")
    decided = "path,label,action\ndisc/00.png,square,relabel\ndisc/01.png,,drop\nstripes/02.png,,keep\n"
    (place.folder / "corrections.csv").write_text(decided, encoding="utf-8")
    (place.folder / "test.csv").write_text(f"id,path\n1,{picture.relative_to(place.folder).as_posix()}\n", encoding="utf-8")
    parquet.write_table(embedded(place.folder / "photos"), place.folder / "photos.parquet")
    for name in ("new-pictures", "new-photos", "inbox"):
        (place.folder / name).symlink_to(place.folder / "new")
    shutil.copytree(place.folder / "photos", place.folder / "moved" / "photos")
    out = place.folder / "before"
    place.trained["interrupted"] = descend.fit(place.folder / "photos", out=out / "cut", epochs=3, progress=StopAfter(1)).folder
    with pytest.MonkeyPatch.context() as patch:  # pages speak of runs whose commands stand on other pages
        patch.chdir(place.folder)
        patch.setattr(
            rungs, "FEWEST_TRAINED", 1
        )  # the run that the pages speak of trained a network, on these 18 photographs too
        for data, folder in (("photos/", out / "photos"), ("digits", place.folder / "runs" / "digits")):
            assert main(["fit", data, "--out", str(folder)]) == 0
            place.runs["fit", data] = folder
        place.trained["small"] = out / "small"
        dropping = ["--regularize", "dropout(p=0.1)"]  # for the random passes that pages ask RUN for
        assert main(["fit", "photos/", "--transfer", "scratch", *dropping, "--out", str(place.trained["small"])]) == 0
    place.trained["photos"] = place.runs["fit", "photos/"]
    save_file(timm.create_model("resnet18").state_dict(), place.folder / "resnet18.safetensors")
    small = {"transfer": "scratch", "backbone": "resnet9(width=24)", "size": 32, "epochs": 1}
    descend.fit(place.folder / "cifar10", out=place.folder / "runs" / "other", **small)
    return place


def embedded(pictures: Path) -> Any:
    """Return a folder of class folders as a table that holds the pictures."""
    files = sorted(pictures.rglob("*.png"))
    cells = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    return pyarrow.table({"image": cells, "label": [file.parent.name for file in files]})


LONG_S = 900  # for a page: that on exports compiles for three engines, which takes minutes on a busy machine
MANY_RUNS = {"ablate.md", "sensitivity.md"}  # a minute each; their verbs have quicker tests too


@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=str(page.relative_to(ROOT)), marks=[pytest.mark.slow] if page.name in MANY_RUNS else [])
        for page in PAGES
        if commands(page)
    ],
)
def test_every_command_of_the_page_runs(
    page: Path, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place.folder)
    page_runs: dict[str, Path] = {}
    for command in commands(page):
        words = place.words(command, page_runs)
        if words[0] == "cache":  # its own, so that nothing compiled or computed is lost
            monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
        status = place.run(words, page_runs)
        out, err = capsys.readouterr()
        unsuggested = words[0] == "lr-find" and "No suggestion" in out
        ill = words[0] in ("doctor", "scan") and "FINDING" in out  # of a network of four channels, of pictures of stripes
        coarse = "--int8" in words and "points lost" in err  # by processors that round otherwise, one of three pictures
        assert status == 0 or unsuggested or ill or coarse, f"{command}\n{out}\n{err}"


def test_the_pages_have_commands_of_every_verb() -> None:
    verbs = {command.split()[1] for page in PAGES for command in commands(page)}
    assert verbs == {*VERBS}, f"no page shows {sorted({*VERBS} - verbs)}"
    assert sum(len(commands(page)) for page in PAGES) > 50
