"""Cells that a spreadsheet would run are disarmed; numbers stay numbers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from descend.csv_table import disarmed, write_table
from descend.train.evaluate import write_predictions


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "=", "--1", "-0x10"])
def test_formulas_get_an_apostrophe(text: str) -> None:
    assert disarmed(text) == "'" + text


@pytest.mark.parametrize("text", ["", "cat", "a=b", "-0.5", "+1", "-1e-5", " =1", "'=1", "cats/-1.png"])
def test_other_text_stays(text: str) -> None:
    assert disarmed(text) == text


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
