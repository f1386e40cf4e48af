"""Words of a command that are wrong: one line that names the nearest right one, and where all of them stand."""

from __future__ import annotations

import shlex

import pytest

from descend.cli import VERBS, elsewhere, fit, main
from descend.train.recipe import from_settings

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
    "fit digits --lr 0.01": "has no flag --lr. Here it is: --optimizer \"adamw(lr=0.001)\". All that it takes: ",
    "fit digits --img_size=128": "has no flag --img_size=128. Here it is: --size. All that it takes: ",
    "fit --train-dir digits": "Here it is: the folder, as a word without a flag. All",
    "fit digits epochs=3": "takes no further word, got 'epochs=3'. Write --epochs 3. All",
    "fit digits imgsz=64": "got 'imgsz=64'. Here it is: --size. All",
    "list --lr 0.1": "descend list has no flag --lr. All that it takes",
    "augment digits --n x": "--n: must be a whole number, got 'x'.",
    "predict": "the following arguments are required: RUN, PICTURES. All that it takes: descend predict --help",
}  # fmt: skip


VERBS_OF_OTHERS = {
    "train photos": "descend: must be given a verb, got 'train'. Here it is: descend fit.\n",
    "validate run photos": "got 'validate'. Here it is: descend eval.\n",
    "version": "got 'version'. Here it is: descend --version.\n",
    "prdict run": "Did you mean 'predict'?\n",
}


@pytest.mark.parametrize("words", VERBS_OF_OTHERS)
def test_a_verb_of_another_tool_is_answered_with_ours(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert VERBS_OF_OTHERS[words] in capsys.readouterr().err


def test_what_stands_here_for_words_of_others_is_taken_here() -> None:
    assert {ours.partition(" ")[0] for ours in elsewhere.VERBS.values()} <= {*VERBS, "--version"}
    parser = fit._parser()
    shown = [name for action in parser._actions for name in action.option_strings]
    for word, ours in elsewhere.FLAGS.items():
        assert not [name for name in shown if name.startswith(f"--{word}")], f"--{word} is taken already"
        if ours.startswith("--"):
            name, *values = shlex.split(ours)
            assert name in shown
            if values and values[0] != "FILE":
                args = vars(parser.parse_args(["digits", name, *values]))
                from_settings({key: value for key, value in fit.settings_of(args).items() if f"--{key}" == name})


def test_a_former_name_of_a_flag_is_answered_with_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", "--batch", "32"]) == 2
    assert "error: --batch: is no flag. It is called --batch-size." in capsys.readouterr().err


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
