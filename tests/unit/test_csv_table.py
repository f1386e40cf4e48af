"""Cells that a spreadsheet would run are disarmed; numbers stay numbers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from descend.csv_table import as_read, disarmed, write_table
from descend.train.evaluate import write_predictions


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "=", "--1", "-0x10"])
def test_formulas_get_an_apostrophe(text: str) -> None:
    assert disarmed(text) == "'" + text


@pytest.mark.parametrize("text", ["", "cat", "a=b", "-0.5", "+1", "-1e-5", " =1", "'=1", "cats/-1.png"])
def test_other_text_stays(text: str) -> None:
    assert disarmed(text) == text


@pytest.mark.parametrize("text", ["-1x/a.png", "=1", "plain.png", "\udce9.png", "'=1"])
def test_a_cell_reads_as_it_is_told(text: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="")
    write_table(file, ["path"], [[text]])
    file.seek(0)
    assert list(csv.reader(file))[1] == [as_read(text)]


def test_headers_text_and_numbers_of_a_table() -> None:
    file = io.StringIO(newline="")
    write_table(file, ["=path", "p"], [["=1", -0.5], ['a,"b\n', 3], ["@x", 0.25]])
    rows = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
    assert rows == [["'=path", "p"], ["'=1", "-0.500000"], ['a,"b\n', "3"], ["'@x", "0.250000"]]


def test_the_predictions_of_a_run_are_written_so(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    probs = np.array([[0.75, 0.25]], np.float32)
    write_predictions(path, ["=cmd|x.png"], ["val"], np.array([1]), probs, ("@a", "+b"))
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert rows[0][-2:] == ["p_@a", "p_+b"]
    assert rows[1] == ["'=cmd|x.png", "val", "'+b", "'@a", "0.750000", "0.750000", "0.250000"]


def test_of_very_many_classes_a_run_tells_the_likeliest(tmp_path: Path) -> None:
    classes = tuple(f"c{k:03}" for k in range(120))
    probs = np.full((2, 120), 1e-3, np.float32)
    probs[[0, 1], [3, 119]] = 0.9
    write_predictions(tmp_path / "p.csv", ["a", "b"], ["val", "test"], np.array([3, 0]), probs, classes)
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert [(row["label"], row["predicted"], row["class_1"], row["class_2"]) for row in rows] == [
        ("c003", "c003", "c003", "c000"), ("c000", "c119", "c119", "c000")
    ]  # fmt: skip
    assert len(rows[0]) == 5 + 2 * 5
