"""The benchmark of budgets: its splits are one and the same for every method, and what it says of runs is what they did."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """Benchmarks import each other by name; what they imported must not stay for tests of other folders."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield {
            name: importlib.import_module(name) for name in ("harness", "packaged", "splits", "methods", "anytime", "budget_kept")
        }
    for name in set(sys.modules) - before:
        if BENCHMARKS in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def listed(folder: Path) -> dict[str, set[str]]:
    """Return the pictures of each split, as ``class/file``."""
    return {part.name: {f"{path.parent.name}/{path.name}" for path in part.glob("*/*")} for part in folder.iterdir()}


def test_class_folders_are_divided_60_15_25_by_the_seed(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    root = shapes_folder(tmp_path / "shapes", n=20, side=16)
    split = scripts["splits"].split
    first, second = split(str(root), 0, tmp_path / "a"), split(str(root), 0, tmp_path / "b")
    parts = listed(first)
    assert {name: len(pictures) for name, pictures in parts.items()} == {"train": 36, "val": 9, "test": 15}
    assert set.union(*parts.values()) == {f"{path.parent.name}/{path.name}" for path in root.glob("*/*")}
    assert parts == listed(second) != listed(split(str(root), 1, tmp_path / "a"))
    picture = next((first / "test" / "disc").iterdir())
    assert picture.read_bytes() == (root / "disc" / picture.name).read_bytes()


def test_a_given_split_stays_and_its_val_is_the_test_where_there_is_none(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    for part, n in (("train", 5), ("val", 3)):
        shapes_folder(tmp_path / "set" / part, n=n, side=16)
    parts = listed(scripts["splits"].split(str(tmp_path / "set"), 4, tmp_path / "work"))
    assert {name: len(pictures) for name, pictures in parts.items()} == {"train": 15, "test": 9}


def test_folders_of_enough_clip_art_are_classes(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged, root = scripts["packaged"], tmp_path / "png"
    for name, n in (("food", 3), ("food/fruit", 6), ("few", 2), ("unsorted", 5)):
        (root / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (40, 8 if (name, i) == ("food", 0) else 40)).save(root / name / f"{i}.png")
    (root / "few" / "link.png").symlink_to(root / "few" / "0.png")
    monkeypatch.setattr(packaged, "CLIP_ART", tmp_path / "missing")
    with pytest.raises(SystemExit, match="apt install"):
        packaged.clip_art()
    monkeypatch.setattr(packaged, "CLIP_ART", root)
    monkeypatch.setattr(packaged, "LEAST", 3)
    monkeypatch.setattr(packaged, "MOST", 4)
    counts = {label: len(pictures) for label, pictures in packaged.clip_art().items()}
    assert counts == {"food": 2, "food-fruit": 4}  # of the first, one is too low to see anything
    folder = scripts["splits"].source("clipart", tmp_path / "work")
    assert {path.name: len([*path.iterdir()]) for path in folder.iterdir()} == counts


def test_a_part_of_a_given_split_has_one_test_for_all_seeds(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = scripts["splits"]
    for part in ("train", "test"):
        shapes_folder(tmp_path / "set" / part, n=9, side=16)
    name = str(tmp_path / "set")
    monkeypatch.setattr(splits, "KNOWN", {name: splits.Part(n_train=4, n_test=2)})
    first, second = (listed(splits.split(name, seed, tmp_path / "work")) for seed in (0, 1))
    assert len(first["train"]) == 12
    assert first["train"] != second["train"]
    assert len(first["test"]) == 6
    assert first["test"] == second["test"]


def test_an_unanswered_picture_is_wrong(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    shapes_folder(tmp_path / "test", n=2, side=16, classes=("disc", "square"))
    answer = scripts["methods"].judged(tmp_path, {"disc/00.png": "disc", "square/01.png": "disc"}, {}, complete=False)
    assert answer["accuracy"] == 0.25
    assert answer["right"] == {"disc/00.png": True, "disc/01.png": False, "square/00.png": False, "square/01.png": False}


def test_a_command_that_fails_is_no_answer_with_its_last_words(scripts: dict[str, ModuleType]) -> None:
    text, answer = scripts["methods"].finished([sys.executable, "-c", "raise SystemExit('no answer: too little time')"], "30s")
    assert text is None
    assert answer["no_answer"] == "no answer: too little time"


def answered(rights: list[bool], wall_s: float, **more: Any) -> dict[str, Any]:
    right = {f"disc/{number}.png": value for number, value in enumerate(rights)}
    return {"accuracy": float(np.mean(rights)), "right": right, "facts": {}, "wall_s": wall_s, "complete": False, **more}


def test_a_table_tells_who_is_ahead_late_and_silent(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    runs = scripts["anytime"].Runs(tmp_path / "runs.jsonl", {("set", seed): tmp_path for seed in (0, 1)})
    for seed in (0, 1):
        runs.keep(("auto", "set", "30s", seed), answered([True] * 10 + [False] * 30, 30.0))
        runs.keep(("finetune", "set", "30s", seed), answered([True] * 38 + [False] * 2, 36.0))
        runs.keep(("fastai", "set", "30s", seed), {"no_answer": "not installed", "wall_s": 3.0})
    table = scripts["anytime"].compared(runs, "set", "30s", (0, 1), ["auto", "finetune", "fastai"])
    assert table["best_mean"] == "finetune"
    assert table["behind"] == ["finetune"]
    assert table["ours_above"]["finetune"]["mean"] == pytest.approx(-0.7)
    assert [table["methods"][name]["late"] for name in ("auto", "finetune")] == [0, 2]
    assert table["methods"]["fastai"]["no_answer"] == ["not installed"] * 2


def commit_all(repository: Path) -> None:
    """Commit every file below a folder, without the user's own settings of git."""
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e@e", "commit", "-q", "-m", "why"]):
        subprocess.run(["git", *words], check=True, cwd=repository)


def test_what_there_is_can_be_published_without_the_rest(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    anytime = scripts["anytime"]
    shapes_folder(tmp_path / "set", n=8, side=16)
    never = scripts["methods"].Method(lambda *_: pytest.fail("it is measured"), ("src",))
    monkeypatch.setitem(anytime.METHODS, "features", never)
    monkeypatch.setattr(anytime, "unchanged", lambda *_: True)
    monkeypatch.setattr(anytime, "HERE", tmp_path)
    (tmp_path / "results").mkdir()
    name = str(tmp_path / "set")
    folder = scripts["splits"].split(name, 0, tmp_path)
    pictures = scripts["methods"].test_pictures(folder)
    rows = {
        ("finetune", "30s"): answered([True], 20.0) | {"right": {picture: "disc" in picture for picture in pictures}},
        ("logistic", "1m"): {"no_answer": "", "wall_s": 40.0, "complete": True},  # too late for 30 s, enough for two minutes
    }
    runs = anytime.Runs(tmp_path / "results" / "anytime_runs.jsonl", {(name, 0): folder})
    for (method, budget), answer in rows.items():
        runs.keep((method, name, budget, 0), answer)
    again = anytime.Runs(runs.path, {(name, 0): folder})
    assert again.answers == runs.answers
    words = ["anytime.py", str(tmp_path / "set"), "--budgets", "30s", "2m", "--seeds", "1", "--work", str(tmp_path), "--kept"]
    monkeypatch.setattr(sys, "argv", [*words, "--no-save"])
    anytime.main()
    (table,) = json.loads(capsys.readouterr().out).values()
    assert {budget: [*cell["methods"]] for budget, cell in table.items()} == {"30s": ["finetune"], "2m": ["logistic"]}


def test_runs_are_read_again_and_a_complete_answer_serves_larger_budgets(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anytime, asked = scripts["anytime"], list[tuple[str, int]]()
    shapes_folder(tmp_path / "set", n=8, side=16)
    repository = tmp_path / "repository"
    for name in ("benchmarks/peer.py", "README.md"):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text("first\n", encoding="utf-8")
    commit_all(repository)
    (repository / "benchmarks" / "results").mkdir()
    for module in ("harness", "anytime"):
        monkeypatch.setattr(scripts[module], "HERE", repository / "benchmarks")

    def method(folder: Path, budget: str, seed: int) -> dict[str, Any]:
        asked.append((budget, seed))
        right = {f"{path.parent.name}/{path.name}": True for path in folder.glob("test/*/*")}
        return answered([True], 1.0, complete=budget == "1m") | {"right": right}

    monkeypatch.setitem(anytime.METHODS, "features", scripts["methods"].Method(method, ("benchmarks/peer.py",)))
    words = ["anytime.py", str(tmp_path / "set"), "--budgets", "30s", "1m", "5m", "--seeds", "2", "--methods", "features"]
    monkeypatch.setattr(sys, "argv", [*words, "--cores", "1", "--work", str(tmp_path), "--no-save"])
    for _ in range(2):  # the second finds everything on disk
        anytime.main()
    grid = [("30s", 0), ("1m", 0), ("30s", 1), ("1m", 1)]
    assert asked == grid
    (repository / "README.md").write_text("second\n", encoding="utf-8")  # nothing that answers follow from
    commit_all(repository)
    anytime.unchanged.cache_clear()
    anytime.main()
    assert asked == grid
    (repository / "benchmarks/peer.py").write_text("second\n", encoding="utf-8")
    for _ in range(2):  # what is not committed has to be measured each time
        anytime.unchanged.cache_clear()
        anytime.main()
    assert asked == 3 * grid
    commit_all(repository)
    for _ in range(2):
        anytime.unchanged.cache_clear()
        anytime.main()
    assert asked == 4 * grid
    next((tmp_path / "splits").glob("*-1/test/*/*")).unlink()  # other pictures are asked about
    anytime.main()
    assert asked == 4 * grid + grid[2:]


def test_lanes_do_not_share_processors(scripts: dict[str, ModuleType]) -> None:
    n = len(os.sched_getaffinity(0))

    def work(job: int) -> tuple[int, frozenset[int]]:
        time.sleep(0.02)
        return job, frozenset(os.sched_getaffinity(0))

    results = scripts["harness"].in_lanes(work, range(3 * n), lanes=n, cores=1)
    assert [job for job, _ in results] == list(range(3 * n))
    assert {len(own) for _, own in results} == {1}
    assert len({own for _, own in results}) == n
    assert len(os.sched_getaffinity(0)) == n
    with pytest.raises(SystemExit, match="processors"):
        scripts["harness"].in_lanes(work, [1], lanes=n + 1, cores=1)


@pytest.mark.parametrize(("budget", "limit"), [("30s", 35), ("1m", 65), ("20m", 1260)])
def test_what_a_budget_allows(scripts: dict[str, ModuleType], budget: str, limit: float) -> None:
    assert scripts["harness"].allowed(scripts["harness"].seconds(budget)) == pytest.approx(limit)


def test_a_subset_has_as_many_of_each_class(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    root = shapes_folder(tmp_path / "shapes", n=5, side=16)
    scripts["budget_kept"].subset(root, 7, tmp_path / "seven")
    assert sorted(len([*folder.iterdir()]) for folder in (tmp_path / "seven").iterdir()) == [2, 2, 3]
    with pytest.raises(SystemExit, match="must hold 6 pictures"):
        scripts["budget_kept"].subset(root, 18, tmp_path / "eighteen")
