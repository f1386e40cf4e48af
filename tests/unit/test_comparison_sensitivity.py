"""``descend sensitivity``: grids, widths with their intervals, diverged runs, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tests.fake_runs import fake_fit  # pyright: ignore[reportMissingImports]

import descend
from descend.cli import main
from descend.comparison import Sensitivity, Settings, grid, load_sensitivity, sweep_rates, width_of
from descend.comparison.costs import share
from descend.comparison.sensitivity import WidthVerdict
from descend.errors import KnobError, SpecError
from descend.optim import Adam, Rule
from descend.progress import Silent
from descend.stats import Interval, difference
from descend.technique import build
from descend.train.recipe import Recipe

BASE = Recipe(data="digits", transfer="scratch", backbone="smallcnn(width=16)", epochs=1)
TENTHS = (1e-3, 1e-2, 1e-1, 1.0)


def test_the_grid_is_that_of_the_knobs_own_range() -> None:
    rates = grid(Adam())
    assert (len(rates), rates[0], rates[-1]) == (11, 1e-5, 1.0)
    assert np.diff(np.log10(rates)) == pytest.approx(0.5, abs=0.01)
    assert grid(build("ema(inner=adam)", Rule), n_rates=3, low=1e-3, high=0.1) == (1e-3, 1e-2, 1e-1)


def test_the_width_of_a_curve_by_hand() -> None:
    width = width_of(TENTHS, np.array([[0.90, 0.94, 0.945, 0.925]]), within=0.01)
    assert width.best == 0.1
    assert math.log10(width.low) == pytest.approx(-2 - 0.005 / 0.04)
    assert math.log10(width.high) == pytest.approx(-1 + 0.010 / 0.020)
    assert width.decades.mean == pytest.approx(1 + 0.125 + 0.5)
    assert (width.decades.low, width.decades.high) == (-math.inf, math.inf)  # one seed says nothing of others
    assert width.bounded


def test_seeds_that_say_the_same_leave_width_and_accuracy_open() -> None:
    row = [0.90, 0.94, 0.945, 0.925]
    width = width_of(TENTHS, np.array([row, row]))
    assert width.accuracy == Interval(0.945, -math.inf, math.inf, 2)
    assert width.text == "1.6"
    assert share(width.accuracy) == "94.5%"
    known = difference(width.by_seed + 1, width.by_seed)
    assert "inf" not in WidthVerdict(known, 0.5).text


def test_the_range_ends_where_the_grid_does_and_says_so() -> None:
    width = width_of(TENTHS, np.array([[0.5, 0.6, 0.945, 0.94]]))
    assert (width.open_low, width.open_high, width.high) == (False, True, 1.0)
    assert width.text.startswith("at least")
    assert width.range_text.endswith("to >1")


def test_a_diverged_run_ends_the_range() -> None:
    width = width_of(TENTHS, np.array([[0.5, 0.94, 0.94, np.nan]]))
    assert math.log10(width.high) == pytest.approx(-1, abs=0.02)
    assert not width.open_high


def test_the_interval_is_the_jackknifes() -> None:
    draw = np.random.default_rng(3)
    accuracy = np.array([0.90, 0.94, 0.945, 0.925]) + 0.003 * draw.normal(size=(5, 4))

    def decades(rows: np.ndarray) -> float:
        curve = rows.mean(0)
        x = np.linspace(-3, 0, 300_001)
        good = np.interp(x, [-3, -2, -1, 0], curve) >= curve.max() - 0.01
        return float(good.sum()) * 1e-5

    whole = decades(accuracy)
    pseudo = [5 * whole - 4 * decades(np.delete(accuracy, k, 0)) for k in range(5)]
    reach = stats.t.ppf(0.975, 4) * np.std(pseudo, ddof=1) / math.sqrt(5)
    found = width_of(TENTHS, accuracy).decades
    assert (found.mean, found.low, found.high) == pytest.approx((whole, whole - reach, whole + reach), abs=1e-3)


@pytest.mark.parametrize("best", [0, 1, 3])
def test_what_chance_does_is_known_also_where_the_range_holds_one_rate(best: int) -> None:
    accuracy = np.array([[0.8, 0.8, 0.8, 0.8], [0.77, 0.83, 0.79, 0.81], [0.81, 0.78, 0.82, 0.77]])
    accuracy[:, best] += 0.15
    near = accuracy[:, max(0, best - 1) : best + 2]
    one_way = [stats.ttest_rel(near[:, a], near[:, b]) for a in range(near.shape[1]) for b in range(a)]
    errors = [test.confidence_interval(0.95) for test in one_way]
    squares = [((end.high - end.low) / 2 / stats.t.ppf(0.975, 2)) ** 2 for end in errors]  # of each two rates' difference
    width = width_of(TENTHS, accuracy)
    assert width.decades.mean < 1
    assert width.noise == pytest.approx(math.sqrt(np.mean(squares)))


def height(recipe: Recipe) -> float | None:
    """Return an accuracy that falls by 4 points per decade from the best rate; sgd falls by 20, and diverges at 1."""
    rule = build(recipe.optimizer or "", Rule)
    off = abs(math.log10(rule.lr) + 2)
    return None if (rule.name, rule.lr) == ("sgd", 1.0) else 0.9 - (0.2 if rule.name == "sgd" else 0.004) * off


def swept(
    out: Path, made: list[Recipe] | None = None, *, seeds: int = 3, optimizers: tuple[str, ...] = ("sgd", "adam"),
    level: float = 0.95,
) -> Sensitivity:  # fmt: skip
    how = fake_fit(height, [] if made is None else made)
    return sweep_rates(
        BASE, optimizers, Settings(n_seeds=seeds, level=level), n_rates=5, low=1e-4, high=1.0, **how, out=out, progress=Silent()
    )  # fmt: skip


def test_which_rule_forgives_a_bad_rate(tmp_path: Path) -> None:
    made: list[Recipe] = []
    found = swept(tmp_path / "one", made)
    sgd, adam = found.curves()
    assert (sgd.width and sgd.width.best, adam.width and adam.width.best) == (0.01, 0.01)
    assert sgd.accuracy.shape == (3, 5)
    assert sgd.n_diverged == 3
    assert np.isnan(sgd.accuracy[:, -1]).all()
    assert sgd.width is not None
    assert adam.width is not None
    assert sgd.width.decades.mean == pytest.approx(0.1, abs=0.03)  # a point of 20 on either side
    assert adam.width.decades.mean == pytest.approx(4, abs=0.01)
    assert not adam.width.bounded
    assert sgd.test is not None
    assert sgd.test.mean == pytest.approx(0.9, abs=0.02)
    assert found.verdicts() == {}  # a width that the grid cuts off is not known
    assert "at least 4.0" in str(found)
    assert "3 of 15" in str(found)
    assert len(made) == 30  # a diverged run is tried on every seed
    assert len(found.frame) == 30


def test_it_is_written_read_and_taken_again(tmp_path: Path) -> None:
    found, made = swept(tmp_path / "one"), list[Recipe]()
    again = load_sensitivity(found.folder)
    assert str(again) == str(found)
    assert str(swept(tmp_path / "two", made)) == str(found)
    assert made == []  # what diverged is not made again either
    lines = [json.loads(line) for line in (found.folder / "sensitivity.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["sensitivity", "curve", "curve"]
    assert (lines[0]["schema"], lines[1]["accuracy"][0][-1]) == (1, None)
    assert (found.folder / "sensitivity.png").read_bytes()[:4] == b"\x89PNG"
    assert "diverged" in (found.folder / "sensitivity.svg").read_text()


def test_the_widths_intervals_have_the_level_of_the_comparison(tmp_path: Path) -> None:
    half, most = (swept(tmp_path / str(level), level=level, optimizers=("sgd",)).curves()[0].width for level in (0.5, 0.95))
    assert half is not None
    assert most is not None
    reach = [width.accuracy.high - width.accuracy.mean for width in (half, most)]
    assert reach[1] / reach[0] == pytest.approx(stats.t.ppf(0.975, 2) / stats.t.ppf(0.75, 2))


def test_a_difference_below_the_grids_step_is_not_told() -> None:
    sure = descend.stats.difference([0.30, 0.31, 0.32], [0.1, 0.1, 0.1])
    verdict = descend.comparison.sensitivity.WidthVerdict(sure, step=0.5)
    assert sure.distinguishable
    assert not verdict.different
    assert "more --rates would tell" in verdict.text
    assert descend.comparison.sensitivity.WidthVerdict(sure, step=0.2).text.startswith("forgives more: +0.2 decades")


def test_without_a_whole_seed_there_is_no_width(tmp_path: Path) -> None:
    class Stops(Silent):
        n = 0

        def say(self, text: str) -> None:
            self.n += 1
            if self.n == 4:
                raise KeyboardInterrupt

    made: list[Recipe] = []
    stopped = sweep_rates(
        BASE, ["adam"], Settings(n_seeds=2), n_rates=5, **fake_fit(height, made), out=tmp_path / "one", progress=Stops()
    )  # fmt: skip
    assert stopped.interrupted
    assert stopped.ended.startswith("stopped")
    assert stopped.curves()[0].width is None
    assert (stopped.folder / "sensitivity.png").exists()
    assert len(made) == 3


@pytest.mark.parametrize(
    ("optimizers", "rates", "error", "words"),
    [
        (["adamm"], None, SpecError, "Did you mean 'adam'"),
        (["adam(lr=0.1)"], None, KnobError, "lr.*cannot be set"),
        (["ema(inner=adam(lr=0.1))"], None, KnobError, "lr.*cannot be set"),
        (["adam", "adam()"], None, KnobError, "must differ"),
        ([], None, KnobError, "one optimizer or more"),
        (["adam"], 1, KnobError, "rates must be a whole number >= 2"),
        (["adam"], 2000, KnobError, "first two digits"),
    ],
)
def test_what_cannot_be_swept_is_said(
    tmp_path: Path, optimizers: list[str], rates: int | None, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        descend.sensitivity("digits", optimizers, rates=rates, out=tmp_path / "one")


def test_ends_that_do_not_rise_and_rules_without_a_rate() -> None:
    with pytest.raises(KnobError, match="low < high"):
        grid(Adam(), low=0.1, high=0.01)
    with pytest.raises(KnobError, match="low < high"):
        grid(Adam(), low=0.0)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "sensitivity",
        "digits",
        "--backbone",
        "smallcnn(width=16)",
        "--batch-size",
        "128",
        "--threads",
        "1",
        "--epochs",
        "1",
    ]
    words += ["--optimizers", "momentum", "--rates", "2", "--low", "0.1", "--high", "1e30", "--seeds", "1"]
    assert main([*words, "--out", str(tmp_path / "c" / "one")]) == 0
    told = capsys.readouterr().out
    assert "momentum   0.1 " in told
    assert "1 of 2" in told
    assert main([*words, "--out", str(tmp_path / "c" / "two"), "--json"]) == 0
    curve = json.loads(capsys.readouterr().out.splitlines()[-1])["curves"][0]
    assert curve["accuracy"][0][1] is None
    assert curve["width"]["best_rate"] == 0.1
    assert main(["sensitivity", "--optimizers", "sgd", "digits"]) == 2
    assert "must stand before --optimizers" in capsys.readouterr().err
