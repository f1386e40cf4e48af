"""The page and the picture of a comparison, from runs that are made up: what they show, and that nothing on them is obeyed."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from scipy import stats as scipy_stats
from tests.fake_runs import write_answers  # pyright: ignore[reportMissingImports]

from descend.cli import main
from descend.comparison import Comparison, Made
from descend.comparison.search_space import Range
from descend.comparison.tuning import Trial, Tuning
from descend.report import write_comparison
from descend.train.record import RunRecord

NASTY = "<script>alert(1)</script> & $x_2$"
RATE = Range("optimizer", "sgd", "lr", 1e-5, 1.0, log=True, whole=False, written=0.01)


def run(root: Path, name: str, seed: int, accuracy: float) -> Made:
    """Write what the page reads of a run: its answers and its epochs."""
    place = root / f"{name[:3].strip('<>')}-{seed}"
    write_answers(place, name, seed, accuracy)
    epochs = [{"epoch": k, "val_accuracy": accuracy - 0.1 / k, "wall_s": 2.0} for k in (1, 2)]
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in epochs))
    return Made(name, seed, str(place), "finished", 5.0, 1_500_000_000)


@pytest.fixture
def found(tmp_path: Path) -> Comparison:
    made = [run(tmp_path, name, seed, accuracy) for name, accuracy in (("base", 0.6), (NASTY, 0.95)) for seed in range(3)]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "failed.txt").write_text("Traceback: <b>the log</b>\n")
    made.append(Made("bad", 0, str(tmp_path / "bad"), "failed", 1.0, None, "it exploded\nat once"))
    trials = [Trial(0, {"sgd.lr": 0.01}, 0.8, 0.5, 1.0), Trial(1, {"sgd.lr": 0.3}, None, None, 1.0, "not finite")]
    tunings = [Tuning("base", (RATE,), "accuracy", 1_000_000, trials), Tuning(NASTY, (), "accuracy", 1_000_000)]
    recipes = {"base": 'data = "digits"\n', NASTY: "", "bad": ""}
    return Comparison(tmp_path, "digits", ("base", NASTY, "bad"), recipes, made, tunings=tunings, ended="ended after 3 seeds")


class Tags(HTMLParser):
    """Counts tags and what they refer to, and checks that they close."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.links, self.seen = list[str](), list[str](), set[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_all_of_it_and_loads_nothing(found: Comparison) -> None:
    page = write_comparison(found).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert "script" not in tags.seen
    assert all(link.startswith("#") for link in tags.links)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", page)
    (verdict,) = found.verdicts()
    (seed, *_) = found.finished(NASTY)
    for words in (
        f"{found.accuracy_of(seed):.1%}", "1.5\N{NO-BREAK SPACE}GB", "4.0",
        "it exploded", "Traceback: &lt;b&gt;the log&lt;/b&gt;", "as written was the best of 2", "sgd.lr from 1e-05 to 1 (log)",
        "Ended after 3 seeds.", ">0.3<", "1000000", "data = &#34;digits&#34;",
    ):  # fmt: skip
        assert words in page, words
    assert verdict.different
    assert "better by" in page


def test_the_picture_has_a_row_for_each_candidate_and_a_point_for_each_run(found: Comparison) -> None:
    left, right = found.figure().axes
    assert [label.get_text().split("\n")[0][:4] for label in left.get_yticklabels()] == ["base", "<scr", "bad"]
    points = [line for line in right.lines if line.get_marker() == "o"]
    assert sorted(float(line.get_xdata()[0]) for line in points) == sorted(  # pyright: ignore[reportArgumentType, reportIndexIssue]
        found.accuracy_of(item) for item in found.made if item.status == "finished"
    )
    assert not [each for each in left.collections if isinstance(each, PathCollection)]
    (verdict,) = found.verdicts()
    spans = [line.get_xdata() for line in left.lines if len(line.get_xdata()) == 2 and line.get_linewidth() > 2]  # pyright: ignore[reportArgumentType]
    assert np.allclose(spans, [[verdict.known.interval.low, verdict.known.interval.high]])


def test_a_notebook_shows_lines_and_picture_escaped(found: Comparison) -> None:
    shown = found._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert shown.endswith("</svg>\n")
    nothing = Comparison(found.folder, "digits", found.names, {}, as_written="compared as written")
    assert "<svg" not in nothing._repr_html_()
    assert "Nothing can be said yet" in write_comparison(nothing).read_text(encoding="utf-8")


def test_a_failure_is_one_line_with_its_log(found: Comparison) -> None:
    assert f"bad, seed 0, failed: it exploded (its log: {found.folder / 'bad' / 'failed.txt'})" in found.lines()


def test_the_headline_says_what_a_difference_does_not_cover(tmp_path: Path) -> None:
    def headline(n_seeds: int, *names: str) -> str:
        made = [answered[name, seed] for name in names for seed in range(n_seeds)]
        made.append(Made("better", n_seeds, str(tmp_path / "gone"), "failed", 1.0, error="nan", diverged=True))
        page = write_comparison(Comparison(tmp_path, "digits", names, {}, made)).read_text(encoding="utf-8")
        return page.partition("<h1><bdi>")[2].partition("</bdi>")[0]

    ways = (("base", 0.5), ("better", 0.95), ("other", 0.55))
    answered = {(name, seed): run(tmp_path, name, seed, share) for name, share in ways for seed in range(3)}
    lost = "1 of 4 runs of better diverged: this speaks of those that finished"
    assert headline(3, "base", "better").endswith(f"; {lost}.")
    apart = "1 of 2 candidates is told apart from base"
    assert headline(3, "base", "better", "other") == f"{apart}; runs that failed are left out."
    alone = f"{apart} by one run each: other seeds are not covered; runs that failed are left out."
    assert headline(1, "base", "better", "other") == alone


def test_a_metric_that_chose_epochs_stands_beside_accuracy_which_is_what_is_judged(tmp_path: Path) -> None:
    made = [run(tmp_path, name, seed, 0.7) for name in ("base", "other") for seed in range(2)]
    plain = Comparison(tmp_path, "digits", ("base", "other"), {}, made)
    assert "judged by" not in str(plain)
    balanced = {("base", 0): 0.5, ("base", 1): 0.6, ("other", 0): 0.63, ("other", 1): 0.68}
    for item in made:
        score = {"accuracy": 0.7, "accuracy_interval": [0.6, 0.8], "balanced_accuracy": balanced[item.name, item.seed],
                 "macro_f1": 0.1, "loss": 1.0, "n": 200, "n_independent": 200}  # fmt: skip
        metric = "balanced_accuracy" if item.name == "other" else "accuracy"
        RunRecord(status="finished", plan={"metric": metric}, test=score).save(Path(item.place))  # pyright: ignore[reportArgumentType]
    found = Comparison(tmp_path, "digits", ("base", "other"), {}, made)
    assert found.metrics == ["balanced_accuracy"]
    table = [line.split() for line in found.lines()[:3]]
    assert table[0][:4] == ["candidate", "accuracy", "balanced", "accuracy"]
    reach = scipy_stats.t.ppf(0.975, 1) * scipy_stats.sem([0.63, 0.68])
    assert ["65.5%", f"±{100 * reach:.1f}"] == [word for word in table[2] if word in ("65.5%", f"±{100 * reach:.1f}")]
    assert "55.0%" in table[1]  # by the metric of the other, too
    told = "judged by accuracy: balanced accuracy chose epochs only"
    assert told in found.lines()
    page = write_comparison(found).read_text(encoding="utf-8")
    assert told.capitalize() in page
    assert '<th scope="col" class="n">Balanced accuracy</th>' in page
    assert ">65.5%<" in page.replace("\N{NO-BREAK SPACE}", "")


def test_the_target_is_what_every_run_reaches(tmp_path: Path) -> None:
    made = [run(tmp_path, name, seed, share) for name, share in (("base", 0.9), ("weak", 0.6)) for seed in range(2)]
    place = Path(made[-1].place)  # a seed that falls behind: its best epoch lies below the mean of both
    rows = [{"epoch": k, "val_accuracy": 0.3 + 0.05 * k, "wall_s": 4.0} for k in (1, 2, 3)]
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = Comparison(tmp_path, "digits", ("base", "weak"), {}, made)
    assert found.target == pytest.approx(0.45)
    assert (found.costs("base").to_target_s, found.costs("weak").to_target_s) == (2.0, (2.0 + 12.0) / 2)


def test_the_verb_writes_the_page_anew_and_says_where_there_is_nothing(
    found: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found.save()
    assert main(["report", str(found.folder)]) == 0
    assert capsys.readouterr().out == f"Report: {found.folder / 'report.html'}\n"
    assert main(["report", str(tmp_path / "none")]) == 1
    assert "must be given the folder of a comparison or of a run" in capsys.readouterr().err
    (found.folder / "bas-0" / "predictions.csv").unlink()
    assert main(["report", str(found.folder)]) == 1
    assert "bas-0: must hold predictions.csv" in capsys.readouterr().err
