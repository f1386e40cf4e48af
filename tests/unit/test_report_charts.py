"""Charts: the drawn coordinates are the numbers, gaps stay gaps, and the SVG suits a page in any colors."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from descend.report.charts import Chart, curves, epoch_table


def rows(n: int, **changes: Any) -> list[dict[str, Any]]:
    made = [
        {"epoch": k, "lr": 0.1 / k, "train_loss": 1 / k, "val_loss": 1.2 / k,
         "train_accuracy": 1 - 1 / (k + 1), "val_accuracy": 1 - 1.1 / (k + 1)}
        for k in range(1, n + 1)
    ]  # fmt: skip
    return [row | changes for row in made]


def drawn(chart: Chart, variable: str) -> list[np.ndarray]:
    """Return the points of every path stroked in a color, as (n, 2) arrays in SVG units."""
    root = ElementTree.fromstring(str(chart.svg))
    paths = [
        path
        for path in root.iter("path")
        if f"stroke: var({variable})" in path.get("style", "") and "fill: none" in path.get("style", "")
    ]
    return [np.array(re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", path.get("d", "")), float).reshape(-1, 2) for path in paths]


def test_titles_and_lines() -> None:
    charts = curves(rows(30), 7)
    assert [chart.title for chart in charts] == ["Loss", "Accuracy"]
    assert [[line.name for line in chart.lines] for chart in charts] == [["training", "validation"]] * 2


@pytest.mark.parametrize("losses", [(1.609, 1.6115), (1.6, 1.61), (12.3401, 12.3402), (0.3, 250.0), (0.0, 0.0)])
def test_ticks_of_a_flat_loss_are_told_apart(losses: tuple[float, float]) -> None:
    made = [row | {"train_loss": loss, "val_loss": loss} for row, loss in zip(rows(2, lr=None), losses, strict=True)]
    root = ElementTree.fromstring(str(curves(made, None)[0].svg))
    ticks = [text.text for text in root.iter("text") if re.fullmatch(r"-?[\d.e+-]+", text.text or "")]
    ticks = ticks[2:]  # the first two count epochs
    assert len(ticks) > 2
    assert len({*ticks}) == len(ticks), ticks


def test_the_learning_rate_stands_under_each_chart_over_the_same_epochs() -> None:
    numbers = rows(30)
    for chart in curves(numbers, None):
        assert "learning rate under it goes from 0.1 over at most 0.1 to 0.0033" in chart.svg
        (line,) = [path for path in drawn(chart, "--val") if len(path) > 2]
        (rates,) = [path for path in drawn(chart, "--muted") if len(path) > 2]
        assert rates[:, 0] == pytest.approx(line[:, 0], abs=1e-3)
        assert rates[:, 1].min() > line[:, 1].max()  # SVG counts downwards: it is below
        values = np.array([row["lr"] for row in numbers])
        slope, offset = np.polyfit(values, rates[:, 1], 1)
        assert rates[:, 1] == pytest.approx(slope * values + offset, abs=0.02)


def test_where_a_crosshair_goes_is_where_the_numbers_are() -> None:
    """``box`` and ``span`` are what the page's script places its line by."""
    for chart in curves(rows(30), None):
        left, right, top, bottom = chart.box
        low, high = chart.span
        (line,) = [path for path in drawn(chart, "--val") if len(path) > 2]
        (rates,) = [path for path in drawn(chart, "--muted") if len(path) > 2]
        assert line[:, 0] == pytest.approx(
            [left + (epoch - low) / (high - low) * (right - left) for epoch in range(1, 31)], abs=0.01
        )
        assert top < line[:, 1].min()
        assert bottom > rates[:, 1].max()


def test_the_table_of_epochs_holds_the_curves_figures_and_stays_short() -> None:
    table = epoch_table(rows(3, val_loss=None), 2)
    assert table["columns"] == ["Epoch", "Loss in training", "Accuracy in training", "Accuracy on validation", "Learning rate"]
    assert table["rows"][1] == {"epoch": 2, "chosen": True, "cells": ["0.5", "66.7%", "63.3%", "0.05"]}
    long = epoch_table(rows(5001), 4003)
    assert [row["epoch"] for row in long["rows"] if row["chosen"]] == [4003]
    assert [long["rows"][0]["epoch"], long["rows"][-1]["epoch"]] == [1, 5001]
    assert len(long["rows"]) <= 402
    assert long["every"] == 13


def test_line_is_an_affine_image_of_the_numbers() -> None:
    numbers = rows(30)
    (points,) = [path for path in drawn(curves(numbers, None)[1], "--val") if len(path) > 2]
    epochs, values = np.array([[row["epoch"], row["val_accuracy"]] for row in numbers]).T
    at = np.round(np.interp(points[:, 0], points[[0, -1], 0], epochs[[0, -1]])).astype(int)
    slope, offset = np.polyfit(values[at - 1], points[:, 1], 1)
    assert slope < 0  # SVG counts downwards
    assert points[:, 1] == pytest.approx(slope * values[at - 1] + offset, abs=0.02)


def test_chosen_epoch_is_marked_where_its_value_is() -> None:
    marked, bare = curves(rows(30), 7)[0], curves(rows(30), None)[0]
    assert "epoch 7" in marked.svg
    assert "epoch 7 was chosen" in marked.svg
    assert "chosen" not in bare.svg
    assert marked.svg.count("<use") == bare.svg.count("<use") + 1


@pytest.mark.parametrize("n", [1, 2, 20])
def test_few_epochs_are_points(n: int) -> None:
    for chart in curves(rows(n), None):
        assert chart.svg.count("<use") == n * len(chart.lines)
    assert "over epoch 1:" in curves(rows(1), None)[0].svg


def test_gaps_stay_gaps_and_a_lone_value_is_a_point() -> None:
    numbers = rows(30)
    for at, row in enumerate(numbers):
        row["val_loss"] = 0.5 if at == 10 else None
        row["train_loss"] = float("nan") if at == 15 else row["train_loss"]
    chart = curves(numbers, None)[0]
    assert chart.svg.count("<use") == 1
    breaks = [path for path in re.findall(r'd="([^"]+)"[^>]*stroke: var\(--train\)', chart.svg) if path.count("M") == 2]
    assert len(breaks) == 1


def test_missing_columns_leave_out_the_line_then_the_chart() -> None:
    assert [line.name for line in curves(rows(5, val_loss=None), 2)[0].lines] == ["training"]
    without = curves(rows(5, lr=None), 2)
    assert [chart.title for chart in without] == ["Loss", "Accuracy"]
    assert not any("learning rate" in chart.svg for chart in without)
    assert curves([{"epoch": 1}], 1) == []


def test_a_loss_over_many_decades_gets_a_log_axis() -> None:
    numbers = rows(30)
    for row in numbers:
        row["train_loss"] = 10.0 ** (-row["epoch"] / 6)
    ticks = re.findall(r">(0\.\d+|1)</text>", curves(numbers, None)[0].svg)
    assert {"0.0001", "0.01", "1"} <= set(ticks) or {"0.001", "0.01", "0.1"} <= set(ticks)


def test_accuracy_axis_ends_at_one_hundred_percent() -> None:
    chart = curves(rows(30, val_accuracy=1.0, train_accuracy=0.9), None)[1]
    assert max(float(tick) for tick in re.findall(r">([\d.]+)%</text>", chart.svg)) == 100


def test_svg_is_deterministic_colourless_and_leaves_no_trace() -> None:
    before = dict(matplotlib.rcParams)
    first, second = curves(rows(40), 5), curves(rows(40), 5)
    assert [chart.svg for chart in first] == [chart.svg for chart in second]
    assert dict(matplotlib.rcParams) == before
    text = "".join(chart.svg for chart in first)
    assert not re.findall(r"#[0-9a-f]{6}\b", text)
    assert not re.findall(r"<style|<metadata|<!|http:", text)
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert len(text) < 60_000


def test_five_thousand_epochs_stay_small() -> None:
    assert sum(len(chart.svg) for chart in curves(rows(5000), 4000)) < 400_000
