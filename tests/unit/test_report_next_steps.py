"""What a report advises: commands that can be planned, and only where figures of the record speak for them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from descend.cli.fit import _closing, _parser, settings_of
from descend.report import advice, advice_line
from descend.train.plan import DataProfile
from descend.train.recipe import from_settings
from descend.train.record import RunRecord
from descend.train.resolve import resolve
from descend.train.run import Run
from descend.train.world import ALONE

PHOTOS = DataProfile(name="photos", n_train=400, n_classes=2, side=320, gray=False)
RUN = Path("runs/my photos")


def coverage(n: int, *, sure: int, sure_right: int, right: int) -> list[list[int]]:
    """The curve of n answers, ``sure`` of them with 97 % confidence, the others with 60 %."""
    return [[n, right] if at <= 60 else [sure, sure_right] if at <= 97 else [0, 0] for at in range(101)]


def record(**changes: Any) -> RunRecord:
    """A finished run of features with epochs: 240 of 250 right."""
    reliable = {"ece": 0.01, "bins": [[250, 0.96, 0.96]]}
    curve = coverage(250, sure=200, sure_right=199, right=240)
    parts: dict[str, Any] = {
        "status": "finished",
        "command": ["descend", "fit", "my photos", "--transfer", "features", "--epochs", "20", "--out", "runs/my photos"],
        "plan": {"data": "my photos", "transfer": "features", "epochs": 20, "regularize": [], "seed": 0},
        "data": {
            "shorter_side": {"median": 320},
            "gray": False,
            "given_split": True,
            "splits": {"train": 400, "val": 250, "test": 0},
            "counts": {"ants": {"train": 200, "val": 125}, "bees": {"train": 200, "val": 125}},
        },
        "val": {"accuracy": 0.96, "accuracy_interval": [0.93, 0.978], "n": 250, "loss": 0.1},
        "per_class": {
            "val": [{"class": name, "recall": 0.96, "precision": 0.96, "f1": 0.96, "n": 125} for name in ("ants", "bees")]
        },
        "calibration": {"val": {"before": reliable, "after": reliable, "coverage": curve}},
        "wall_s": {"scan": 1.0, "build": 2.0, "decode": 3.0, "features": 10.0, "train": 4.0, "evaluate": 1.0},
        "chosen": {"transfer": "features", "backbone": "lite0()", "size": 224, "engine": "torch", "epoch": 5},
    }
    return RunRecord(**(parts | changes))


def rows(losses: list[float]) -> list[dict[str, Any]]:
    return [{"epoch": at, "val_loss": loss, "wall_s": 0.5, "best": True} for at, loss in enumerate(losses, 1)]


def found(given: RunRecord, epochs: list[float] | None = None) -> dict[str, Any]:
    return {item.what: item for item in advice(RUN, given, rows(epochs or []))}  # pyright: ignore[reportArgumentType]


def planned(command: str) -> Any:
    """Parse a command of ``fit`` as the command line does, and decide the run that it asks for on photographs."""
    words = shlex.split(command)
    assert words[:2] == ["descend", "fit"]
    args = vars(_parser().parse_args(words[2:]))
    for name in ("json", "resume", "moved", "out", "recipe"):
        args.pop(name)
    return resolve(from_settings(settings_of(args)), PHOTOS)


def test_a_fixed_backbone_leads_to_a_search_and_an_open_accuracy_to_nothing_that_would_not_narrow_it() -> None:
    items = found(record())
    item = items["Search for something better"]
    assert item.command == "descend fit 'my photos' --transfer auto --budget 5m"
    assert "leaves 10 of 250 pictures wrong" in item.why
    assert item.time == "at most 5 min"
    plan = planned(item.command)
    assert (plan.transfer, plan.budget) == ("auto", "5m")
    assert "Train longer" not in items  # the best epoch was the fifth


def test_a_perfect_run_is_left_alone() -> None:
    curve = coverage(250, sure=200, sure_right=200, right=250)
    reliable = {"ece": 0.0, "bins": [[250, 1.0, 1.0]]}
    perfect = record(
        val={"accuracy": 1.0, "accuracy_interval": [0.985, 1.0], "n": 250, "loss": 0.0},
        calibration={"val": {"before": reliable, "after": reliable, "coverage": curve}},
        data=record().data | {"splits": {"train": 400, "val": 900, "test": 0}},
    )
    assert found(perfect) == {}
    assert found(record(status="finished", val=None)) == {}


def test_few_judged_pictures_lead_to_folds_whose_interval_is_foretold() -> None:
    few = record(
        val={"accuracy": 0.95, "accuracy_interval": [0.83, 0.986], "n": 40, "loss": 0.1},
        data=record().data | {"splits": {"train": 400, "val": 40, "test": 0}},
    )
    item = found(few)["Measure it more exactly"]
    assert "all 440 that may be trained on, and leave about 4.1" in item.why  # Wilson, 418 of 440
    plan = planned(item.command)
    assert (plan.transfer, plan.folds) == ("features", 5)
    assert few.val is not None
    few.val["n_independent"] = 10  # patients
    few.val["accuracy_interval"] = [0.6, 0.99]
    assert "leave about 8.9" in found(few)["Measure it more exactly"].why  # Wilson, 104 of 110
    assert "Measure it more exactly" not in found(record(data=record().data | {"splits": {"train": 30, "val": 250, "test": 0}}))


def test_a_search_that_time_ended_leads_to_a_longer_one_with_the_step_that_was_left() -> None:
    step = {"step": "features(size=224)", "why": "", "began_s": 1.0, "ended_s": 20.0, "accuracy": 0.9, "loss": 0.3, "n": 400,
            "measured": "cross-validation", "outcome": "kept", "best_accuracy": 0.9, "best_interval": [0.8, 0.95]}  # fmt: skip
    searched: dict[str, Any] = {
        "command": ["descend", "fit", "my photos", "--budget=1m", "--latency", "20ms", "--json"],
        "plan": {"data": "my photos", "transfer": "auto", "budget": "1m"},
        "search": [step], "search_ended": True, "budget_used_s": 57.0,
    }  # fmt: skip
    item = found(record(**searched, next_step={"why": "more pixels: 288 instead of 224", "seconds": 41.0}))["Search longer"]
    assert item.command == "descend fit 'my photos' --latency 20ms --budget 2m"
    assert item.why.startswith("the run took 57.0 s, and its search had a step left: more pixels: 288 instead of 224, about 40 s")
    assert planned(item.command).budget == "2m"
    assert "Search longer" not in found(record(**searched))  # nothing was left
    searched["budget_used_s"] = 8 * 3600.0
    assert found(record(**searched, next_step={"why": "more", "seconds": 41.0}))["Search longer"].command.endswith("--budget 9h")


def test_a_last_epoch_that_is_the_best_leads_to_twice_as_many() -> None:
    best = record(chosen=dict(record().chosen or {}) | {"epoch": 20})
    item = found(best, [1 / at for at in range(1, 21)])["Train longer"]
    assert item.command == "descend fit 'my photos' --transfer features --epochs 40"
    assert "0.05, before 0.0526" in item.why
    assert item.seconds == pytest.approx(25.0)  # the run's 21 s, and its training once more
    assert planned(item.command).epochs == 40
    assert "Train longer" not in found(best, [*(1 / at for at in range(1, 20)), 0.9])  # its loss went up
    assert "Train longer" not in found(record(), [1 / at for at in range(1, 21)])


@pytest.mark.parametrize("kind", ["conflict", "near conflict", "leak", "near leak"])
def test_pictures_in_two_classes_or_splits_lead_to_a_scan(kind: str) -> None:
    problem = {"kind": kind, "message": "3 pictures stand in several places", "n": 3, "examples": []}
    doubtful = record(data=record().data | {"problems": [problem]}, plan=record().plan | {"corrections": "fix.csv"})
    item = advice(RUN, doubtful)[0]
    assert item.command == "descend scan 'my photos' --corrections fix.csv --deep --page scan.html"
    assert item.why == "3 pictures stand in several places"
    harmless = {"kind": "copies", "message": "3 pictures are copies", "n": 3, "examples": []}
    assert "Look at the labels" not in found(record(data=record().data | {"problems": [harmless]}))


def test_sure_answers_that_are_wrong_too_often_lead_to_a_scan() -> None:
    reliable = {"ece": 0.1, "bins": [[250, 0.9, 0.9]]}
    curve = coverage(250, sure=200, sure_right=170, right=200)
    item = found(record(calibration={"val": {"before": reliable, "after": reliable, "coverage": curve}}))["Look at the labels"]
    assert "30 of the 200 answers on validation with 95% confidence or more are wrong, where 5% at most" in item.why
    assert "Look at the labels" not in found(record())


@pytest.mark.parametrize(
    ("sure", "wrong", "n_independent", "told"),
    [
        (3, 2, 250, False),  # one or two pictures are no pattern, however improbable
        (7, 3, 250, True),  # by chance in 0.4 % of cases
        (20, 4, 250, False),  # in 1.6 %
        (20, 5, 250, True),  # in 0.3 %
        (20, 5, 125, False),  # each picture is there twice: 2 of 10
        (200, 30, 125, True),
    ],
)
def test_labels_are_doubted_where_chance_leaves_so_many_wrong_in_one_case_of_a_hundred(
    sure: int, wrong: int, n_independent: int, told: bool
) -> None:
    by_chance = scipy_stats.binom.sf(wrong * n_independent // 250 - 1, sure * n_independent // 250, 0.05)
    assert bool(by_chance <= 0.01) is (told or sure == 3)
    reliable = {"ece": 0.1, "bins": [[250, 0.9, 0.9]]}
    curve = coverage(250, sure=sure, sure_right=sure - wrong, right=200)
    known = {"val": {"before": reliable, "after": reliable, "coverage": curve}}
    val = {**(record().val or {}), "n_independent": n_independent}
    items = found(record(calibration=known, val=val))
    assert ("Look at the labels" in items) is told


def test_wrong_pictures_are_counted_and_not_computed_from_an_accuracy_that_counts_copies_once() -> None:
    confused = [[0, 0, 125], [0, 1, 3], [1, 0, 9], [1, 1, 113]]
    assert (
        "leaves 12 of 250 pictures wrong"
        in found(record(confused={"val": confused}, classes=["ants", "bees"]))["Search for something better"].why
    )
    assert "leaves 10 of 250 pictures wrong" in found(record())["Search for something better"].why


def test_a_rare_class_that_is_missed_leads_to_balanced_sampling() -> None:
    counts = {"ants": {"train": 20, "val": 50}, "bees": {"train": 300, "val": 200}}
    scores = [{"class": "ants", "recall": 0.5, "precision": 0.9, "f1": 0.6, "n": 50},
              {"class": "bees", "recall": 0.99, "precision": 0.9, "f1": 0.95, "n": 200}]  # fmt: skip
    item = found(record(data=record().data | {"counts": counts}, per_class={"val": scores}))["Draw rare classes more often"]
    assert "ants has 20 training pictures and a recall of 50.0" in item.why
    plan = planned(item.command)
    assert [str(item) for item in plan.regularize] == ["balanced_sampling()"]
    assert plan.metric == "balanced_accuracy"
    close = [scores[0] | {"recall": 0.96}, scores[1]]  # with 50 pictures not told apart from 99 %
    assert "Draw rare classes more often" not in found(record(data=record().data | {"counts": counts}, per_class={"val": close}))


def test_unsure_answers_lead_to_the_least_threshold_that_halves_the_mistakes() -> None:
    item = found(record())["Leave unsure answers to a person"]
    assert item.command == "descend predict 'runs/my photos' FILES --unsure-below 0.61"
    assert "80% of the answers on validation are that sure, and 99.5% of those are right" in item.why
    assert item.time == ""


def test_an_interrupted_run_is_gone_on_with() -> None:
    (item,) = advice(RUN, record(status="interrupted"), rows([0.3, 0.2]))  # pyright: ignore[reportArgumentType]
    assert item.command == "descend fit --resume 'runs/my photos'"
    assert item.why == "18 of 20 epochs are left"
    assert item.seconds == pytest.approx(9.0)
    assert advice_line(item) == "Next:    descend fit --resume 'runs/my photos' (about 9 s): 18 of 20 epochs are left"


def test_runs_of_python_on_arrays_get_no_command_that_would_not_find_their_pictures() -> None:
    arrays = record(command=[], plan={"data": None, "transfer": "features", "epochs": 20, "regularize": []})
    assert set(found(arrays, [1 / at for at in range(1, 21)])) == {"Leave unsure answers to a person"}


def test_a_backbone_that_was_asked_for_is_kept() -> None:
    plan = record().plan | {"backbone": "lite1(pretrained=True)", "seed": 3}
    asked = found(record(plan=plan))["Search for something better"].command
    assert asked == "descend fit 'my photos' --transfer auto --budget 5m --seed 3 --backbone 'lite1(pretrained=True)'"
    assert planned(asked).backbone.name == "lite1"
    chosen = found(record(plan=plan, reasons={"backbone": "the default"}))["Search for something better"].command
    assert "--backbone" not in chosen
    assert "--backbone" not in found(record(plan=plan | {"transfer": "scratch"}))["Search for something better"].command


def test_fit_prints_the_first_at_its_end(tmp_path: Path) -> None:
    score = {"balanced_accuracy": 0.96, "macro_f1": 0.96, "n_independent": 250}
    run = Run(tmp_path / "run", record(val=dict(record().val or {}) | score))
    lines = _closing(run, ALONE)
    assert lines[-1] == advice_line(advice(run.folder, run.record)[0])
    assert lines[-1].startswith("Next:    descend fit 'my photos' --transfer auto")


def test_modules_of_ones_own_are_imported_by_every_command() -> None:
    for item in advice(RUN, record(modules=["mine", "__main__"])):
        assert re.search(r" --import mine$", item.command)
