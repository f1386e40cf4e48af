"""Words of a command that are wrong: one line that names the nearest right one, and where all of them stand."""

from __future__ import annotations

import pytest

from descend.cli import main

WRONG = {
    "fit digits --transfr features": "descend fit has no flag --transfr. Did you mean '--transfer'? All that it takes: ",
    "fit digits --transfr=features": "Did you mean '--transfer'?",
    "fit digits --zzz": "descend fit has no flag --zzz. All that it takes",
    "fit digits more": "descend fit takes no further word, got 'more'.",
    "fit digits --transfer feature": "--transfer: must be one of auto, features, head, finetune, scratch, got 'feature'. Did",
    "export run --format onxx": "--format: must be one of onnx, torch, openvino, got 'onxx'. Did you mean 'onnx'?",
    "fit digits --on zzz": "--on: must be one of ray, got 'zzz'. All that it takes",
    "fit digits --epochs 2.5": "--epochs: must be a whole number >= 1, got '2.5'.",
    "fit digits --layer-decay x": "--layer-decay: must be a finite number in (0, 1], got 'x'.",
    "augment digits --n x": "--n: must be a whole number, got 'x'.",
    "predict": "the following arguments are required: RUN, PICTURES. All that it takes: descend predict --help",
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_word_is_answered_with_the_nearest(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words.split())
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert WRONG[words] in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("fit digits --size 10000", r"size must be a whole number in [8, 4096], or None, got 10000"),
        ("fit digits --device nosuch", "device: must be usable here"),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_the_pictures_are_looked_at(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "scan" not in said
    assert "train" not in said
