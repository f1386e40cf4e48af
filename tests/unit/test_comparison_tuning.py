"""Equal tuning before a comparison: what is tuned, which values are proposed, and what the comparison does with them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import shapes_folder  # pyright: ignore[reportMissingImports]

import descend
from descend.cli import main
from descend.comparison import Candidate, Comparison, candidates, load
from descend.comparison.runs import Job
from descend.comparison.search_space import Range, Values, applied, search_space
from descend.comparison.tuning import FILE, Proposals, Rounds, Trial, Tuning
from descend.errors import KnobError, MissingExtra
from descend.progress import Silent
from descend.train.recipe import Recipe

RATE = Range("optimizer", "sgd", "lr", 1e-5, 1.0, log=True, whole=False, written=0.01)
WHOLE = Range("augment", "pad_crop", "padding", 0, 8, log=False, whole=True, written=4)
QUICK: dict[str, Any] = {
    "transfer": "scratch", "epochs": 1, "backbone": "smallcnn(width=4)", "batch_size": 16, "threads": 1, "augment": [], "size": 8,
}  # fmt: skip


def completed(recipe: Recipe) -> Recipe:
    """Stand in for the data."""
    lists = {
        "augment": ("flip(p=0.5)",),
        "regularize": (),
        "gradients": (),
        "optimizer": "adamw(lr=0.002)",
        "schedule": "cosine()",
    }
    given = {name: getattr(recipe, name) if getattr(recipe, name) is not None else value for name, value in lists.items()}
    settings = {name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}  # pyright: ignore[reportAttributeAccessIssue]
    return Recipe(**(settings | given))


def spaces(*texts: str, **base: Any) -> list[list[str]]:
    common = Recipe(data="x", **base)
    return [[*map(str, search_space(one, common, completed))] for one in candidates(texts, common, completed)]


def test_what_is_left_open_and_has_a_range_is_tuned() -> None:
    assert spaces("base", "optimizer=adam", "optimizer=adam(lr=0.01)", "add:mixup", "add:mixup(alpha=0.3)", "schedule=step") == [
        ["adamw.lr from 1e-05 to 1 (log)"],
        ["adam.lr from 1e-05 to 1 (log)"],
        [],
        ["adamw.lr from 1e-05 to 1 (log)", "mixup.alpha from 0.1 to 2 (log)"],
        ["adamw.lr from 1e-05 to 1 (log)"],
        ["adamw.lr from 1e-05 to 1 (log)", "step.every from 0.01 to 0.5", "step.gamma from 0.05 to 0.8"],
    ]


def test_a_rate_is_seen_through_wrappers_and_a_written_one_stays() -> None:
    wrapped, written = "optimizer=lookahead(sgd(), k=5)", "optimizer=lookahead(sgd(lr=0.1), k=5)"
    assert spaces(wrapped, written) == [["sgd.lr from 1e-05 to 1 (log)"], []]
    common = Recipe(data="x")
    (one, _) = candidates([wrapped, written], common, completed)
    tuned = applied(one.recipe, search_space(one, common, completed), {"sgd.lr": 0.3}, completed)
    assert tuned.optimizer == "lookahead(inner=sgd(lr=0.3))"


def test_values_are_set_where_they_belong_and_nowhere_else() -> None:
    common = Recipe(data="x")
    one, _ = candidates(["add:mixup add:clip_norm(max_norm=2) add:dropout", "base"], common, completed)
    space = search_space(one, common, completed)
    tuned = applied(one.recipe, space, {"adamw.lr": 0.1, "mixup.alpha": 0.7, "dropout.p": 0.4}, completed)
    assert (tuned.optimizer, tuned.augment) == ("adamw(lr=0.1)", ("flip(p=0.5)", "mixup(alpha=0.7)"))
    assert (tuned.gradients, tuned.regularize) == (("clip_norm(max_norm=2)",), ("dropout(p=0.4)",))


def test_what_a_policy_stands_for_is_written() -> None:
    adamw, sgd = "adamw.lr from 1e-05 to 1 (log)", "sgd.lr from 1e-05 to 1 (log)"
    assert spaces("base", "optimizer=sgd", "add:flip", augment=("medium",)) == [[adamw], [sgd], [adamw]]
    assert spaces("augment=medium+mixup", "augment=strong") == [[adamw, "mixup.alpha from 0.1 to 2 (log)"], [adamw]]


def test_a_whole_number_is_tuned_as_far_as_the_other_knobs_allow() -> None:
    _, some, most = spaces("base", "add:some_of(gamma(), rotate())", "add:some_of(gamma(), rotate(), flip(), hue(), invert())")
    assert (some[1], most[1]) == ("some_of.n from 1 to 2", "some_of.n from 1 to 4")


def test_of_a_technique_that_stands_there_twice_the_first_open_one_is_tuned() -> None:
    common = Recipe(data="x")
    one, _ = candidates(["add:mixup(alpha=0.3) add:mixup add:mixup", "base"], common, completed)
    space = search_space(one, common, completed)
    assert [each.name for each in space] == ["adamw.lr", "mixup.alpha"]
    assert Proposals(space, 4, seed=0).propose(1).keys() == {"adamw.lr", "mixup.alpha"}
    tuned = applied(one.recipe, space, {"adamw.lr": 0.1, "mixup.alpha": 0.7}, completed)
    assert tuned.augment == ("flip(p=0.5)", "mixup(alpha=0.3)", "mixup(alpha=0.7)", "mixup")


def test_values_that_a_technique_refuses_are_a_trial_that_failed(tmp_path: Path) -> None:
    def job(candidate: Candidate, space: tuple[Range, ...], values: Values) -> Job:
        if candidate.name == "a" and values[space[0].name] != space[0].written:
            raise KnobError("some_of", "n must be at most the number of transforms, 2", got=3)
        return Job(candidate, 0, tmp_path / candidate.name)

    def work(_task: Any, jobs: Any, _lost: Any, /, **_: Any) -> Any:
        return (Trial(0, {}, 0.5, 1.0, 1.0) for _ in jobs)

    tunings = [Tuning(name, (RATE,), "accuracy", 7) for name in "ab"]
    chosen = [Candidate(name, Recipe()) for name in "ab"]
    Rounds(3, None, 1, job).run(tunings, chosen, work, Silent(), None, lambda _: None)
    assert [[trial.score for trial in tuning.trials] for tuning in tunings] == [[0.5, None, None], [0.5, 0.5, 0.5]]
    assert "n must be at most" in tunings[0].trials[1].error


def trials(space: tuple[Range, ...], n: int, seed: int) -> list[dict[str, float | int]]:
    """Propose and tell: the nearer to a rate of 0.03, the better."""
    proposals, values = Proposals(space, n, seed), []
    for number in range(n):
        values.append(proposals.propose(number))
        score = 1 / (1 + abs(np.log10(values[-1]["sgd.lr"] / 0.03)))
        proposals.tell(Trial(number, values[-1], None if number == 2 else float(score), 0.0, 1.0))
    return values


def test_trials_depend_on_the_seed_alone_begin_as_written_and_lie_in_their_ranges() -> None:
    values = trials((RATE, WHOLE), 12, seed=5)
    assert values == trials((RATE, WHOLE), 12, seed=5)
    assert values[0] == {"sgd.lr": 0.01, "pad_crop.padding": 4}
    assert values[1:] != trials((RATE, WHOLE), 12, seed=6)[1:]
    assert all(1e-5 <= each["sgd.lr"] <= 1 and each["pad_crop.padding"] in range(9) for each in values)
    assert len({round(each["sgd.lr"], 12) for each in values}) == 12


def test_half_of_the_trials_are_spread_evenly_over_a_logarithmic_range() -> None:
    exponents = sorted(np.log10(each["sgd.lr"]) for each in trials((RATE,), 16, seed=0)[1:9])
    assert np.diff([-5, *exponents, 0]).max() < 1.25  # 8 points at random leave a gap of 1.7 decades on average


def test_a_default_outside_the_range_is_tried_all_the_same() -> None:
    beyond = Range("optimizer", "sgd", "lr", 1e-5, 1.0, log=True, whole=False, written=0.0)
    proposals = Proposals((beyond,), 2, 0)
    assert proposals.propose(0) == {"sgd.lr": 0.0}
    proposals.tell(Trial(0, {"sgd.lr": 0.0}, 0.5, 1.0, 1.0))
    assert proposals.propose(1)["sgd.lr"] > 0


def test_the_best_score_is_chosen_and_of_equals_the_lower_loss() -> None:
    def tuning(*scores: tuple[float | None, float | None]) -> Tuning:
        made = [Trial(i, {"sgd.lr": i / 10}, score, loss, 1.0) for i, (score, loss) in enumerate(scores)]
        return Tuning("a", (RATE,), "accuracy", 7, made)

    assert tuning((0.8, 0.1), (0.9, 0.5), (0.9, 0.4), (None, None)).chosen == 2
    assert (
        "sgd.lr=0.2, the best of 4 trials (90.0% of validation, as written 80.0%)"
        in tuning((0.8, 0.1), (0.9, 0.5), (0.9, 0.4), (None, None)).text
    )
    assert "as written was the best of 2" in tuning((0.9, 0.1), (0.9, 0.1)).text
    assert tuning((None, None)).values == {"sgd.lr": 0.01}
    assert "failed" in tuning((None, None)).text


def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng, labels = np.random.default_rng(0), np.arange(120) % 2
    return (rng.random((120, 8, 8)) * 100 + labels[:, None, None] * 100).astype(np.uint8), labels


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("tuned") / "one"
    texts = ["optimizer=sgd", "optimizer=adam", "optimizer=adam(lr=0.02)"]
    return descend.compare(arrays(), texts, seeds=2, tune=3, out=out, **QUICK)


def test_every_candidate_with_an_open_rate_gets_the_same_trials(found: Comparison) -> None:
    sgd, adam, written = found.tunings
    assert [len(each.trials) for each in found.tunings] == [3, 3, 0]
    assert [trial.values["sgd.lr"] for trial in sgd.trials[1:2]] == [trial.values["adam.lr"] for trial in adam.trials[1:2]]
    assert written.text == "optimizer=adam(lr=0.02): nothing to tune: it leaves no knob open that has a range"
    chosen = sgd.values["sgd.lr"]
    assert found.recipes["optimizer=sgd"].count(f"sgd(lr={chosen!r})") == (sgd.chosen != 0)
    runs = [descend.load(Path(item.place)) for item in found.made if item.name == "optimizer=sgd"]
    assert all(f"lr={chosen!r}" in str(run.record.plan["optimizer"]) for run in runs)
    assert all(len(run.record.test_looks) == 1 for run in runs)
    assert sum("tuned on validation" in line for line in found.lines()) == 3


def test_trials_are_made_once_and_look_at_no_test(found: Comparison) -> None:
    places = [*(found.folder.parent / "shared-runs" / "trials").iterdir()]
    assert len(places) == 6
    assert all([path.name for path in place.iterdir()] == [FILE] for place in places)
    texts = [*found.names]
    again = descend.compare(arrays(), texts, seeds=2, tune=3, out=found.folder.parent / "two", **QUICK)
    assert all(trial.again for tuning in again.tunings for trial in tuning.trials)
    assert [tuning.values for tuning in again.tunings] == [tuning.values for tuning in found.tunings]
    assert all(item.again for item in again.made)


def test_how_candidates_were_tuned_is_read_back(found: Comparison) -> None:
    again = load(found.folder)
    assert again.tunings == found.tunings
    assert str(again) == str(found)
    kinds = [json.loads(line)["kind"] for line in (found.folder / "comparison.jsonl").read_text().splitlines()]
    assert kinds == ["comparison", *["tuning"] * 3, *["run"] * 6, *["verdict"] * 2]


def test_a_budget_gives_all_the_same_fewer_trials_and_again_the_same(found: Comparison) -> None:
    spent = sum(trial.wall_s for tuning in found.tunings for trial in tuning.trials[:1])
    budget = f"{spent * 4:.3f}s"
    less = descend.compare(arrays(), [*found.names], seeds=2, tune=3, budget=budget, out=found.folder.parent / "less", **QUICK)
    n, same = (len(tuning.trials) for tuning in less.tunings if tuning.space)
    assert 1 <= n == same <= 3
    assert ("trials each instead of 3" in less.tuning_ended) == (n < 3)


def test_without_a_word_only_open_optimizers_are_tuned(tmp_path: Path) -> None:
    texts = ["base", "batch_size=8"]
    result = descend.compare(arrays(), texts, seeds=1, out=tmp_path / "c", **QUICK)
    assert not result.tunings
    assert result.lines()[-1].startswith("compared as written: no candidate brings an optimizer")
    assert load(tmp_path / "c").lines() == result.lines()


@pytest.mark.parametrize(
    ("texts", "tune", "words"),
    [
        (["optimizer=adam(lr=0.1)", "optimizer=sgd(lr=0.1)"], 4, "no effect: no candidate leaves a knob open"),
        (["base", "optimizer=adam"], 1, "whole number >= 2"),
        (["base", "optimizer=adam"], -1, "whole number >= 2"),
    ],
)
def test_tuning_without_effect_is_refused(texts: list[str], tune: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(KnobError, match=words):
        descend.compare(arrays(), texts, tune=tune, out=tmp_path / "c", **QUICK)


def test_without_a_test_split_validation_does_not_choose_knobs_too(tmp_path: Path) -> None:
    for part, seed in (("train", 0), ("val", 1)):
        shapes_folder(tmp_path / "data" / part, n=3, side=16, seed=seed)
    with pytest.raises(KnobError, match="tuning needs a test split"):
        descend.compare(tmp_path / "data", ["base", "optimizer=adam"], tune=4, out=tmp_path / "c", **QUICK)


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"descend\[tune\].*--no-tuning"):
        Proposals((RATE,), 4, 0)


def test_both_flags_at_once_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "digits", "base", "optimizer=adam", "--tune", "3", "--no-tuning"])
    assert "not allowed with" in capsys.readouterr().err
