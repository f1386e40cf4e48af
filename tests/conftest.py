"""What many tests need: real photographs where they are, small made pictures everywhere, and a cache of their own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does, before torch loads
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # threads of several processes that wait for each other take twice the time
    share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    given = os.environ.get("OMP_NUM_THREADS", "")  # a shell may have it for commands that run alone
    os.environ["OMP_NUM_THREADS"] = str(min(share, int(given)) if given.isdigit() else share)

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from descend.files import default_root
from descend.progress import Silent

DATA = Path(os.environ.get("DESCEND_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process of pytest-xdist whole files, in order of their names: what a fixture trains is trained once."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # the many short files of unit/ come last and end together
    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache out of the tests, and the tests out of the user's cache; only compiled kernels are shared."""
    before = os.environ.get("DESCEND_CACHE")
    kernels, folder = default_root() / "kernels", tmp_path_factory.mktemp("cache")
    with contextlib.suppress(OSError):  # without, every session compiles everything again: minutes
        kernels.mkdir(parents=True, exist_ok=True)
        (folder / "kernels").symlink_to(kernels, target_is_directory=True)
    os.environ["DESCEND_CACHE"] = str(folder)
    yield
    if before is None:
        del os.environ["DESCEND_CACHE"]
    else:
        os.environ["DESCEND_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def _unflushed() -> Iterator[None]:
    """Leave out to wait for the disk: no test cuts the power, and a run flushes 40 to 70 files, 0.4 s on a disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@contextlib.contextmanager
def left_out(*, charts: bool) -> Iterator[None]:
    """Draw nothing beside a report, and with ``charts`` none of the curves within: together half of a run of a second."""
    from descend.report import confidence, figures, page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "write", lambda run, charts: [])
        patch.setattr(figures, "confusion", lambda split, *_: blank("Confusion", f"confusion-{split}"))
        if charts:
            patch.setattr(page, "curves", lambda rows, chosen: [blank("Loss"), blank("Accuracy")])
            patch.setattr(confidence, "_reliability_chart", lambda *_: blank("Stated and true"))
            patch.setattr(confidence, "_coverage_chart", lambda coverage: blank("Right among the answers given"))
        yield


def blank(title: str, name: str | None = None) -> Any:
    """Return a chart of nothing."""
    from markupsafe import Markup
    from matplotlib.figure import Figure

    from descend.report.charts import Chart

    return Chart(title, Markup("<svg></svg>"), (), name or title.lower(), Figure(), (0.0, 1.0, 0.0, 1.0), (0.0, 1.0))


@pytest.fixture(scope="module", autouse=True)
def _drawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Draw the curves of a report only in files marked ``charts``, them and what lies beside it in those marked ``figures``."""
    if request.node.get_closest_marker("figures") is not None:
        yield
        return
    with left_out(charts=request.node.get_closest_marker("charts") is None):
        yield


@pytest.fixture(scope="session", autouse=True)
def _light_searches() -> Iterator[None]:
    """Let a search draw its folds once and offer two crops of a picture: its three draws and 16 crops take half of its time."""
    from descend.search import features

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "REPEATS", 1)
        for bound in ("FEWEST_CROPS", "MOST_CROPS"):
            patch.setattr(features, bound, 2)
        yield


@pytest.fixture(scope="session", autouse=True)
def _light_measurements() -> Iterator[None]:
    """Compare engines on one chunk of pictures instead of twelve: every new cache, size or cut makes the choice anew."""
    from descend.transfer import engines

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines.measure, "__kwdefaults__", {"rounds": 1, "n_chunks": 1})
        yield


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Return a function that finds real data by name below DESCEND_DATA, or skips the test where it is absent."""

    def find(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"needs {name} in DESCEND_DATA")
        return path

    return find


@pytest.fixture(scope="session")
def builder() -> Callable[[str], ModuleType]:
    """Return a function that imports docs/FOLDER/build.py."""

    def load(folder: str) -> ModuleType:
        path = Path(__file__).parents[1] / "docs" / folder / "build.py"
        found = importlib.util.spec_from_file_location(f"{folder}_build", path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="module")
def benchmark_scripts() -> Iterator[None]:
    """Let benchmarks be imported by name, as they import each other; what they imported does not stay for other tests."""
    folder = str(Path(__file__).parents[1] / "benchmarks")
    threads, before = torch.get_num_threads(), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        if folder in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


class StopAfter(Silent):
    """A listener that presses Ctrl-C when a number of pictures has been trained on."""

    def __init__(self, n: int) -> None:
        self.n = n

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "training" and done >= self.n:
            self.n = 10**9
            signal.raise_signal(signal.SIGINT)


def shapes_folder(
    root: Path, *, n: int = 12, side: int = 40, classes: tuple[str, ...] = ("disc", "square", "stripes"), seed: int = 0
) -> Path:
    """Make a folder of class folders with ``n`` pictures a class of shapes that differ in place, size and color."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(n):
            dark, light = (tuple(int(v) for v in rng.integers(low, low + 90, 3)) for low in (0, 160))
            image = Image.new("RGB", (side + int(rng.integers(0, 12)), side), dark)
            draw = ImageDraw.Draw(image)
            x, y, r = (
                int(v) for v in (rng.integers(4, side // 2), rng.integers(4, side // 2), rng.integers(side // 5, side // 3))
            )
            if name == "disc":
                draw.ellipse((x, y, x + r, y + r), fill=light)
            elif name == "square":
                draw.rectangle((x, y, x + r, y + r), fill=light)
            else:
                for at in range(0, side, 6):
                    draw.line((0, at, image.width, at), fill=light, width=2)
            image.save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small flat folder of three classes, made once."""
    return shapes_folder(tmp_path_factory.mktemp("data") / "shapes")
