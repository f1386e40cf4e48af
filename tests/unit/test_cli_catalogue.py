"""What the command line knows before torch is imported: the catalogue, the check of names, the completion script."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from descend.augment import expand
from descend.cli import catalogue, completion, main, output
from descend.cli.fit import check_settings
from descend.errors import DataError, DescendError, KnobError
from descend.optim import Rule
from descend.regularize import Regularizer
from descend.schedule import Schedule
from descend.technique import build, registered
from descend.train.recipe import Recipe


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process look as if it had imported no technique."""
    monkeypatch.setattr(catalogue, "any_registered", lambda: False)


def test_a_family_lives_in_the_package_that_defines_it() -> None:
    """So that finding a technique imports no other package."""
    for cls in registered():
        family = next(base for base in cls.__mro__ if "family" in base.__dict__)
        assert cls.__module__.split(".")[:2] == family.__module__.split(".")[:2] or not cls.__module__.startswith("descend.")


@pytest.mark.parametrize(
    ("setting", "text", "family"),
    [
        ("optimizer", "adamx(lr=0.1)", Rule),
        ("schedule", "then(warmup(), cosin())", Schedule),
        ("schedule", "cosine(flor=1)", Schedule),
        ("regularize", "dropout(q=0.5)", Regularizer),
    ],
)
def test_a_typo_is_answered_in_the_words_that_the_technique_would_use(setting: str, text: str, family: type, fresh: None) -> None:
    with pytest.raises(DescendError) as late:
        build(text, family)
    with pytest.raises(type(late.value)) as soon:
        catalogue.check_names(Recipe(**{setting: (text,) if setting == "regularize" else text}))
    assert str(soon.value) == str(late.value)


def test_a_typo_among_augmentations_is_answered_likewise(fresh: None) -> None:
    with pytest.raises(DescendError) as late:
        expand("flipp")
    with pytest.raises(type(late.value)) as soon:
        catalogue.check_names(Recipe(augment=("light", "flipp")))
    assert str(soon.value) == str(late.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"augment": ("auto",)}, {"augment": ("medium", "mixup(alpha=0.3)")}, {"optimizer": "lookahead(adamw(lr=0.1))"},
        {"schedule": "then(warmup(fraction=0.05), cosine())"}, {"head": "mlp(hidden=32)"}, {"gradients": ("clip_norm(1.0)",)},
        {"augment": ("noise(p=1)",)}, {"optimizer": "momentum(momentum=0.9)"}, {"backbone": "resnet18"},
    ],
)  # fmt: skip
def test_what_may_be_right_is_left_to_the_technique(settings: dict[str, object], fresh: None) -> None:
    catalogue.check_names(Recipe(**settings))  # pyright: ignore[reportArgumentType] (checked by pydantic)


def test_settings_are_checked_before_anything_heavy(tmp_path: Path, fresh: None) -> None:
    with pytest.raises(DataError, match="no such folder"):
        check_settings("fit", {"data": str(tmp_path / "phots")})
    with pytest.raises(KnobError, match="epochs must be"):
        check_settings("fit", {"data": "digits", "epochs": 0})
    (tmp_path / "r.toml").write_text('data = "digits"\noptimizer = "adamx"\n')
    with pytest.raises(DescendError, match="Did you mean 'adam"):
        check_settings("fit", {"recipe": tmp_path / "r.toml"})
    check_settings("fit", {"data": "digits", "out": tmp_path, "augment": ["flip"]})


def test_the_list_is_the_same_from_the_file_and_from_the_techniques(capsys: pytest.CaptureFixture[str], fresh: None) -> None:
    assert main(["list", "optimizer"]) == 0
    from_file = capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "any_registered", lambda: True)
        assert main(["list", "optimizer"]) == 0
    assert capsys.readouterr().out == from_file
    assert "adamw(lr=" in from_file


def test_one_technique_is_listed_by_its_name_and_help_is_given_about_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "adam"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "optimizer:"
    assert main(["list", "addam"]) == 2
    assert "must name a family or a technique, got 'addam'. Did you mean 'adam" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):  # as --help does
        main(["help", "list"])
    assert "usage: descend list" in capsys.readouterr().out
    assert main(["help"]) == 0
    assert "usage: descend VERB" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_verbs_flags_choices_and_techniques(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for words, wanted in (
        ("descend pre", "predict"),
        ("descend fit --transfer fi", "finetune"),
        ("descend fit --optimizer adamw", "adamw"),
        ("descend fit --augment med", "medium"),
        ("descend predict --tt", "--tta"),
    ):
        n = len(words.split()) - 1
        asked = f'{script}\nCOMP_WORDS=({words}); COMP_CWORD={n}; _descend; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.split() == [wanted], words


def test_other_shells_get_a_script_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("autoload -Uz bashcompinit")
    assert main(["completion", "fish"]) == 0
    assert "-l transfer -xa 'auto features" in capsys.readouterr().out
    assert completion.flags_of("export")["--out"] == ()


def test_quiet_silences_progress_alone_and_one_command_alone(capsys: pytest.CaptureFixture[str]) -> None:
    from descend.cli.progress import Terminal

    assert main(["list", "-q", "tta"]) == 0
    assert output.QUIET.get()
    terminal = Terminal()
    terminal.say("news")
    terminal.update("training", 1, 2)
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.startswith("tta:")
    assert main(["list", "tta"]) == 0
    assert not output.QUIET.get()
