"""The verdict sentence in each state a run can be in, and numbers as they are shown."""

from __future__ import annotations

from typing import Any

import pytest

from descend.report import words
from descend.train.record import RunRecord
from descend.train.record_types import Calibration, Reliability

VAL = {
    "accuracy": 146 / 153,
    "accuracy_interval": [0.9086, 0.9776],
    "balanced_accuracy": 0.941,
    "macro_f1": 0.95,
    "loss": 0.1,
    "n": 153,
}
TEST = {"accuracy": 0.948, "accuracy_interval": [0.9, 0.9734], "n": 154}
ROWS = [{"epoch": k, "val_accuracy": 0.9 + 0.01 * k, "val_macro_f1": 0.9 - 0.1 * k, "best": k < 3} for k in (1, 2, 3)]


def say(status: str = "finished", *, rows: list[dict[str, Any]] = ROWS, **parts: Any) -> str:
    record = RunRecord(status=status, **({"plan": {"epochs": 60}, "chosen": {"epoch": 31}} | parts))
    return words.verdict(record, rows).replace("\xa0", " ")


def test_verdict_with_one_look_at_test() -> None:
    assert say(val=VAL, test=TEST, test_looks=[{"when": "", "what": "fit"}]) == (
        "95.4% of 153 validation pictures right (95% interval 90.9–97.8%), chosen at epoch 31 of 60; "
        "the test split was looked at once: 94.8% of 154 (90.0–97.3%)."
    )


def test_verdict_owns_up_to_further_looks_and_to_none() -> None:
    looks = [{"when": "", "what": "fit"}] * 3
    assert "the test split was looked at 3 times: 94.8%" in say(val=VAL, test=TEST, test_looks=looks)
    assert say(val=VAL).endswith(
        "; there is no test split, and validation also chose the epoch, so this figure flatters a little."
    )
    assert say(val=VAL, data={"splits": {"test": 9}}).endswith("; the test split has not been looked at.")


def test_verdict_says_on_how_many_independent_pictures_it_rests() -> None:
    said = say(val=VAL | {"n_independent": 15}, test=TEST | {"n_independent": 154, "accuracy_interval": []})
    assert "of 153 validation pictures right (15 independent; 95% interval 90.9–97.8%), chosen" in said
    assert said.endswith("the test split: 94.8% of 154.")
    assert say(test=TEST | {"n_independent": 40}, val=VAL).endswith("94.8% of 154 (40 independent; 90.0–97.3%).")


def test_verdict_names_the_metric_that_chose() -> None:
    assert "at epoch 31 of 60 for its balanced accuracy of 94.1%;" in say(
        val=VAL, plan={"epochs": 60, "metric": "balanced_accuracy"}
    )


@pytest.mark.parametrize(
    ("status", "rows", "plan", "said"),
    [
        ("interrupted", ROWS, {}, "Interrupted after epoch 3: the best validation accuracy so far is 93.0%, at epoch 3."),
        ("running", ROWS, {"epochs": 9, "metric": "macro_f1"},
         "Not finished after epoch 3 of 9: the best validation macro F1 so far is 80.0%, at epoch 1."),
        ("interrupted", [], {}, "Interrupted before the first epoch was complete: nothing has been measured yet."),
        ("interrupted", [{"epoch": 1, "val_accuracy": None}], {}, "Interrupted after epoch 1: nothing has been measured yet."),
        ("finished", [], {}, "Nothing has been measured."),
    ],
)  # fmt: skip
def test_verdict_without_a_final_score(status: str, rows: list[dict[str, Any]], plan: dict[str, Any], said: str) -> None:
    assert say(status, rows=rows, plan=plan) == said


def test_verdict_of_an_interrupted_run_that_was_judged() -> None:
    assert say("interrupted", val=VAL).startswith("Interrupted after epoch 3 of 60: 95.4% of 153 validation pictures right")


def test_chosen_epoch_is_the_recorded_one_else_the_last_best() -> None:
    assert words.chosen_epoch(RunRecord(chosen={"epoch": 5}), ROWS) == 5
    assert words.chosen_epoch(RunRecord(), ROWS) == 2
    assert words.chosen_epoch(RunRecord(), []) is None
    assert words.chosen_epoch(RunRecord(chosen={"epoch": 0}), []) is None  # stopped before an epoch was complete


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0.00 s"), (9.99, "9.99 s"), (17.24, "17.2 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"), (7530, "2 h 05 min"),
     (None, "–")],
)  # fmt: skip
def test_durations(seconds: float | None, said: str) -> None:
    assert words.duration(seconds).replace("\xa0", " ") == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(True, "yes"), (12345, "12,345"), (0.1 + 0.2, "0.3"), ([], "none"), (("a", 2), "a, 2"), (list(range(9)), "9 entries"),
     ({"a": 1.5}, "a 1.5"), (None, "–")],
)  # fmt: skip
def test_plain_values(value: object, said: str) -> None:
    assert words.plain(value) == said


def test_without_an_epoch_that_was_chosen_the_verdict_names_none() -> None:
    assert "chosen at" not in say(rows=[], val=VAL, chosen=None)


def test_a_state_from_before_the_first_epoch_is_named_beside_curves_that_never_reached_its_score() -> None:
    assert " right (95% interval 90.9–97.8%), kept from before the first epoch; " in say(val=VAL, chosen={"epoch": 0})
    assert "kept from" not in say(val=VAL, chosen={"epoch": 0}, rows=[])  # a head fitted in one go has no epochs


def test_large_splits_earn_a_second_decimal() -> None:
    assert words.percent(0.98765, 9_999) == "98.8%"
    assert words.percent(0.98765, 10_000) == "98.77%"


def test_printable_replaces_what_html_forbids_and_nothing_else() -> None:
    assert words.printable("a\x00\x1b\x85\ud800\ufffe") == "a" + "\ufffd" * 5
    assert words.printable("tab\tline\nnaïve 蟻🐜\u200f<&>") == "tab\tline\nnaïve 蟻🐜\u200f<&>"


def test_what_confidence_is_worth_is_one_sentence_of_the_newest_split_that_was_measured() -> None:
    def known(error: float) -> Reliability:
        return {"ece": 0.02, "rms_error": error, "rms_interval": [0.0, 0.051], "bins": []}

    older: Calibration = {"before": {"ece": 0.1, "bins": []}, "after": {"ece": 0.1, "bins": []}, "coverage": []}
    measured: Calibration = {"before": known(0.06), "after": known(0.031), "coverage": []}
    assert words.trust(RunRecord()) == words.trust(RunRecord(calibration={"val": older})) == ""
    told = words.trust(RunRecord(calibration={"test": older, "val": measured}))
    assert told.startswith("On validation, stated confidence and the share that is right are 3.1 points apart (95")
    assert "interval 0.0\N{EN DASH}5.1; root mean square over bins of confidence; 6.0 before the temperature)." in told
