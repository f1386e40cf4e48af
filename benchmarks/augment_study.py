"""What each kind of augmentation brings to a small network trained from scratch: accuracy, what it learns by heart, classes.

    python benchmarks/augment_study.py families [--jobs 2]
    python benchmarks/augment_study.py policies
    python benchmarks/augment_study.py signs

families: a sixth of CIFAR-10, no augmentation against flip and crop, color, dropping and mixing. policies: the same pictures
with light, medium and strong. signs: photographs of hands that show digits, with and without mirroring, class by class.
No claim of a figure: every difference stands with its 95 % interval over paired seeds. Runs that the results already hold are not
repeated, so a study that was stopped goes on; ``--jobs`` processes of one thread each share the work.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_scratch import unpack
from descend import api
from descend.comparison import PairedRuns
from harness import HERE, data, environment, interval

RESULTS = HERE / "results" / "augment_study.json"
JITTER = "color_jitter(brightness=0.4, contrast=0.4, saturation=0.4)"


@dataclass(frozen=True)
class Study:
    """The arms that are compared, each with its augmentation; the first is what the others are compared with."""

    pictures: str
    arms: dict[str, list[str]]
    seeds: int
    settings: dict[str, Any]


CIFAR = {"backbone": "resnet9(width=8)", "size": 32, "epochs": 6, "batch_size": 128}
STUDIES = {
    "families": Study(
        "cifar10.tar.xz",
        {
            "none": [],
            "flip and crop": ["pad_crop(padding=4)", "flip()"],
            "color": [JITTER],
            "dropping": ["random_erasing(p=0.5)"],
            "mixing": ["mixup(alpha=0.2)"],
        },
        3,
        CIFAR,
    ),
    "policies": Study("cifar10.tar.xz", {"none": [], "light": ["light"], "medium": ["medium"], "strong": ["strong"]}, 3, CIFAR),
    "signs": Study(
        "sign-digits",
        {"none": [], "flip": ["flip()"], "moves": ["signs"], "moves and flip": ["signs", "flip()"]},
        3,
        {"backbone": "resnet9(width=8)", "size": 32, "epochs": 15, "batch_size": 32},
    ),
}


def measure(root: Path, augment: list[str], settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train once; return the accuracies on plain pictures, the recall of every class on test, and the wall time."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        run = api.fit(root, transfer="scratch", augment=augment, seed=seed, threads=1, out=Path(out) / "run", **settings)
        note = run.record
        assert note.val is not None  # both sets leave pictures for validation and test
        assert note.test is not None
        train = run.evaluate(root, split="train", threads=1)["accuracy"]
        recall = {row["class"]: row["recall"] for row in note.per_class["test"]}
        return {
            "train": train, "val": note.val["accuracy"], "test": note.test["accuracy"], "gap": train - note.val["accuracy"],
            "recall": recall, "wall_s": round(time.perf_counter() - started, 1),
        }  # fmt: skip


def judged(study: Study, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return every arm's means and its differences from the first arm, over the seeds that all arms have finished."""
    done = [seed for seed in range(study.seeds) if all(f"{arm}/{seed}" in runs for arm in study.arms)]
    if len(done) < 2:
        return {}
    names = list(study.arms)
    found: dict[str, Any] = {"seeds": len(done), "arms": {}}
    columns = {what: _paired(names, done, runs, what) for what in ("train", "val", "test", "gap")}
    for name in names:
        row: dict[str, Any] = {what: interval(paired.mean(name)) for what, paired in columns.items()}
        if name != names[0]:
            row |= {f"{what} over {names[0]}": interval(columns[what].difference(name, names[0])) for what in ("test", "gap")}
            row["verdict"] = columns["test"].verdict(name, names[0])
        found["arms"][name] = row
    return found


def _paired(names: list[str], seeds: list[int], runs: dict[str, dict[str, Any]], what: str) -> PairedRuns:
    return PairedRuns(tuple(seeds), {name: [runs[f"{name}/{seed}"][what] for seed in seeds] for name in names})


def by_class(study: Study, runs: dict[str, dict[str, Any]], pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return for each pair of arms how the recall of every class on test differs, over the seeds."""
    seeds = [seed for seed in range(study.seeds) if all(f"{arm}/{seed}" in runs for arm in study.arms)]
    found: dict[str, Any] = {}
    for name, baseline in pairs if len(seeds) > 1 else []:
        rows: dict[str, Any] = {}
        for label in runs[f"{name}/{seeds[0]}"]["recall"]:
            scores = {arm: [runs[f"{arm}/{seed}"]["recall"][label] for seed in seeds] for arm in (name, baseline)}
            paired = PairedRuns(tuple(seeds), scores)
            rows[label] = {
                "without": interval(paired.mean(baseline)), "with": interval(paired.mean(name)),
                "difference": interval(paired.difference(name, baseline)),
            }  # fmt: skip
        found[f"{name} over {baseline}"] = rows
    return found


def keep(which: str, runs: dict[str, dict[str, Any]]) -> None:
    """Write what there is so far."""
    study = STUDIES[which]
    whole = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"result": {}}
    found = judged(study, runs)
    if which == "signs":
        found["by class"] = by_class(study, runs, [("flip", "none"), ("moves and flip", "moves")])
    setting = {"pictures": study.pictures, "arms": study.arms, **study.settings}
    result = whole["result"] | {which: {"setting": setting, **found, "runs": dict(sorted(runs.items()))}}
    claim = "no figure is claimed: what each augmentation brings, over paired seeds"
    text = json.dumps({"claim": claim, "result": result, **environment()}, indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Run what is missing of one study."""
    parser = argparse.ArgumentParser()
    parser.add_argument("study", choices=sorted(STUDIES))
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    study = STUDIES[asked.study]
    whole = json.loads(RESULTS.read_text(encoding="utf-8"))["result"] if RESULTS.exists() else {}
    runs = dict(whole.get(asked.study, {}).get("runs", {}))
    if asked.study == "policies":  # its baseline is that of the families: same pictures, same settings, same seeds
        runs |= {name: run for name, run in whole.get("families", {}).get("runs", {}).items() if name.startswith("none/")}
    with tempfile.TemporaryDirectory() as temporary:
        source = data(study.pictures)
        root = source if source.is_dir() else unpack(source, Path(temporary))
        with ProcessPoolExecutor(asked.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            waiting = {
                pool.submit(measure, root, augment, study.settings, seed): f"{arm}/{seed}"
                for seed in range(study.seeds) for arm, augment in study.arms.items() if f"{arm}/{seed}" not in runs
            }  # fmt: skip
            for done in as_completed(waiting):
                runs[waiting[done]] = done.result()
                short = {what: value for what, value in done.result().items() if what != "recall"}
                print(waiting[done], json.dumps(short), file=sys.stderr, flush=True)
                keep(asked.study, runs)
    keep(asked.study, runs)


if __name__ == "__main__":
    main()
