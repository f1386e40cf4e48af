"""The techniques of a search in its report: those of the steps that it took, with the values that the search gives them."""

from __future__ import annotations

from typing import Any

from descend.regularize import CrossEntropy, Loss
from descend.report import search_techniques
from descend.report.techniques import bibtex, used
from descend.search import finetune, study
from descend.search.steps import FeatureStep, FineTuneStep, Step, text
from descend.technique import build
from descend.train.record import RunRecord


def step(taken: Step, outcome: str = "kept", measured: str = "validation") -> Any:
    return {"step": text(taken), "outcome": outcome, "measured": measured}


FEATURES = FeatureStep(size=224, mirrored=True, crops=8)
TUNED = FineTuneStep(size=160, freeze_to="block3", lr=0.0006, n_steps=120, mirrored=True, distorted=True)


def searched(*steps: Any, **more: Any) -> RunRecord:
    return RunRecord(plan={"backbone": "lite0()"}, search=[*steps], **more)  # pyright: ignore[reportArgumentType]


def test_what_every_fine_tuning_has_in_common_is_what_the_search_does() -> None:
    assert search_techniques.OPTIMIZER == finetune.RULE
    assert search_techniques.SCHEDULE == finetune.SCHEDULE
    assert search_techniques.HEAD_SHARE == finetune.HEAD_SHARE
    assert build(search_techniques.LOSS, Loss) == CrossEntropy(smoothing=finetune.SMOOTHING)
    for name in ("CROPS", "FLIP", "DISTORT"):
        assert getattr(search_techniques, name) == getattr(study, name)
    assert FineTuneStep(size=8, freeze_to=None, lr=1.0, n_steps=1).batch_size == search_techniques.BATCH_SIZE


def test_every_step_tells_its_techniques_with_their_values_and_papers() -> None:
    two = step(TUNED, "kept with weight 0.61; temperature 1.25")
    members = [{"weight": 0.39}, {"weight": 0.61}]
    record = searched(step(FEATURES, "kept; mirror images used: ...; crops used: ..."), two, preprocessing={"members": members})
    found = used(record)
    assert [item.name for item in found] == [
        "lite0", "logistic", "l_bfgs", "random_resized_crop", "flip", "adamw", "then", "warmup", "cosine", "cross_entropy",
        "random_resized_crop", "flip", "trivialaugment", "late_stages", "temperature", "mixture",
    ]  # fmt: skip
    values = {item.name: {knob.name: knob.value for knob in item.knobs} for item in found}
    assert values["adamw"] | {"lr": "0.0006", "weight_decay": "0.01", "beta2": "0.999"} == values["adamw"]
    assert values["cross_entropy"]["smoothing"] == "0.1"
    assert values["random_resized_crop"]["scale_range"] == "[0.5, 1]"
    assert values["late_stages"] == {
        "freeze_to": "block3", "norm": "eval", "head_share": "0.2", "size": "160", "batch_size": "32", "n_steps": "120",
        "precision": "float32",
    }  # fmt: skip
    assert values["temperature"] == {"temperature": "1.25"}
    assert values["mixture"] == {"weights": "[0.39, 0.61]"}
    adamw = next(item for item in found if item.name == "adamw")
    assert adamw.setting == "optimizer, step 2"
    written = bibtex(record, found)
    for key in ("loshchilov2019", "loshchilov2017", "goyal2017", "szegedy2016", "szegedy2015", "liu1989", "kumar2022",
               "chizat2019", "guo2017", "mueller2021", "stone1961", "dempster1977"):  # fmt: skip
        assert written.count(f"{{{key},\n") == 1, key


def test_what_two_steps_share_stands_once_and_what_was_not_done_not_at_all() -> None:
    again = FineTuneStep(size=160, freeze_to="block3", lr=0.0006, n_steps=120, draw=1)
    lost = FineTuneStep(size=288, freeze_to=None, lr=0.01, n_steps=9)
    record = searched(step(FEATURES, "kept; crops not used: ..."), step(TUNED), step(again), step(lost, "its time ran out", ""))
    found = used(record)
    assert [item.setting for item in found if item.name == "adamw"] == ["optimizer, steps 2, 3"]
    assert [item.setting for item in found if item.name == "random_resized_crop"] == ["augment, steps 2, 3"]
    assert [item.setting for item in found if item.name == "flip"] == ["augment, step 2"]
    assert not [item for item in found if item.name in ("temperature", "mixture")]
    (quick,) = [item for item in used(searched(step(FeatureStep(size=96, quick=True)))) if item.name == "logistic"]
    assert ("strength", "0.01") in [(knob.name, knob.value) for knob in quick.knobs]


def test_a_training_that_nothing_could_judge_says_what_it_learned_from() -> None:
    blind = FineTuneStep(size=160, freeze_to="block3", lr=0.0006, n_steps=140, draw=1, with_val=True)
    (late,) = [
        item for item in used(searched(step(blind, "kept", "nothing: it learned from validation"))) if item.name == "late_stages"
    ]
    assert {knob.name: knob.value for knob in late.knobs}["with_val"] == "True"


def test_a_training_of_before_tells_what_it_started_from() -> None:
    former = {
        "step": 'finetune(size=128, view=160, freeze_to="block1", lr=0.001, n_steps=9)',
        "outcome": "",
        "measured": "validation",
    }
    (late,) = [item for item in used(searched(former)) if item.name == "late_stages"]
    told = {knob.name: knob.value for knob in late.knobs}
    assert told["layer_decay"] == "0.8"
    assert "head_share" not in told


def test_steps_of_another_version_are_passed_over() -> None:
    record = searched(*({"step": text_, "outcome": "", "measured": "validation"} for text_ in ("finetune((", "finetune(x=1)")))
    assert [item.name for item in used(record)] == ["lite0"]
