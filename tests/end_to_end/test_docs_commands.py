"""Every command in README and docs runs as it is typed there, on small pictures.

The folders that the pages name exist in the working directory, and so do the runs that they speak of: ``runs/photos-...`` is the
last run of those pictures on the page, ``RUN`` the last one of any; where the page trains none, one that was trained beforehand.
What a command leaves open (size, epochs, engine) is small here; what it asks for it gets.
"""

from __future__ import annotations

import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]

import descend
from descend.cli import VERBS, main
from descend.progress import Silent
from descend.train.modes.features import Features, FrozenBackbone
from descend.train.modes.finetune import FineTune
from descend.train.modes.mode import Default, Mode
from descend.train.modes.scratch import Scratch

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "techniques")]
SET_OF = re.compile(r"runs/([\w-]+?)-(?:\.\.\.|\d{8}-\d{6})")


def commands(page: Path) -> list[str]:
    """Return the lines of a page's code blocks that call ``descend``, without what follows a #."""
    found, fenced = list[str](), False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            found += [part.strip() for part in line.split("&&") if re.match(r"descend [a-z-]+", part.strip())]
    return [shlex.join(shlex.split(command, comments=True)) for command in found if command.split()[1] in VERBS]


@dataclass
class Place:
    """The working directory of the pages: pictures under the names that they use, and runs made of them."""

    folder: Path
    runs: dict[str, Path] = field(default_factory=dict)  # name of the pictures -> a run of them, trained beforehand

    def words(self, command: str, made: dict[str, Path]) -> list[str]:
        """Return a command's words with every run that a page leaves open put in. made: the runs of this page so far."""
        return [self._word(word, made, resumed="--resume" in command) for word in shlex.split(command)[1:]]

    def _word(self, word: str, made: dict[str, Path], *, resumed: bool) -> str:
        if match := SET_OF.match(word):
            run = self._unfinished() if resumed else made.get(match[1], self.runs["photos"])
            return str(run) + word[match.end() :]
        if word == "RUN":
            return str([*made.values(), self.runs["photos"]][len(made) - 1 if made else 0])
        return {"DATA": "photos"}.get(word, word)

    def _unfinished(self) -> Path:
        """Return a run that was stopped, one of its own for each who goes on with it."""
        copy = self.runs["interrupted"].with_name(f"cut-{len([*self.runs['interrupted'].parent.iterdir()])}")
        return shutil.copytree(self.runs["interrupted"], copy)


@pytest.fixture(scope="module")
def small_defaults() -> Iterator[None]:
    """Make small what a command leaves open; every setting that it names stays as it is typed."""

    def constant(value: Any) -> Any:
        return lambda self, data, chosen: Default(value, "small, for a test")

    with pytest.MonkeyPatch.context() as patch:
        for mode in (FrozenBackbone, FineTune, Scratch):
            patch.setattr(mode, "default_size", constant(32))
            patch.setattr(mode, "default_epochs", constant(1), raising=False)
        for mode in (Features, Scratch):
            patch.setattr(mode, "default_epochs", constant(12))  # long enough for what listens, and for 12 snapshots
        patch.setattr(Mode, "default_engine", constant("torch"))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small_defaults: None) -> Place:
    place = Place(tmp_path_factory.mktemp("docs"))
    for name, seed in (("photos", 0), ("other-photos", 1), ("other-pictures", 2), ("sign-digits", 3)):
        shapes_folder(place.folder / name, n=8, side=72, seed=seed)
    shapes_folder(place.folder / "cifar10", n=8, side=32, seed=4)
    for part, n in (("train", 8), ("val", 4)):
        shapes_folder(place.folder / "hymenoptera" / part, n=n, side=72, classes=("disc", "square"), seed=n)
    shapes_folder(place.folder / "new", n=2, side=72, classes=("x",), seed=5)
    for name in ("new-pictures", "new-photos"):
        (place.folder / name).symlink_to(place.folder / "new")
    out = place.folder / "before"
    place.runs["photos"] = descend.fit(place.folder / "photos", out=out / "photos").folder
    place.runs["interrupted"] = descend.fit(place.folder / "photos", out=out / "cut", epochs=3, progress=StopAfter(1)).folder
    descend.fit("digits", out=place.folder / "runs" / "digits", backbone="smallcnn(width=4)")
    return place


class StopAfter(Silent):
    """A listener that presses Ctrl-C when a number of pictures has been trained on."""

    def __init__(self, n: int) -> None:
        self.n = n

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "training" and done >= self.n:
            self.n = 10**9
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_the_page_runs(
    page: Path, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place.folder)
    made: dict[str, Path] = {}
    for number, command in enumerate(commands(page)):
        words = place.words(command, made)
        if words[0] == "cache":  # its own, so that nothing compiled or computed is lost
            monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
        if words[0] == "fit" and "--resume" not in words:
            data = next((Path(word).name for word in words[1:2] if not word.startswith("--")), "recipe")
            made.pop(data, None)
            out = Path(words[words.index("--out") + 1]) if "--out" in words else place.folder / "runs" / f"{page.stem}-{number}"
            words += [] if "--out" in words else ["--out", str(out)]
            made[data] = out
        status = main(words)
        out, err = capsys.readouterr()
        assert status == 0 or (words[0] == "lr-find" and "No suggestion" in out), f"{command}\n{out}\n{err}"


def test_the_pages_have_commands_of_every_verb() -> None:
    verbs = {command.split()[1] for page in PAGES for command in commands(page)}
    assert verbs == {*VERBS}, f"no page shows {sorted({*VERBS} - verbs)}"
    assert sum(len(commands(page)) for page in PAGES) > 50
