"""``descend doctor``: which pictures it looks at, what it shows of them, what it prints, and how it exits."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import descend
from descend.cli import main
from descend.doctor import CHECKS, Subject, examine, overfit, prepare_subject
from descend.doctor.contact_sheet import write_contact_sheet
from descend.doctor.sample import stratified
from descend.errors import KnobError
from descend.progress import Silent
from descend.train.recipe import Recipe


def subject(**settings: Any) -> Subject:
    small = {"data": "digits", "backbone": "smallcnn(width=4)", "batch_size": 32, "threads": 1}
    return prepare_subject(Recipe(**(small | settings)), progress=Silent())


def test_the_handful_holds_every_class_and_is_otherwise_as_the_data_are() -> None:
    dataset = subject().surveyed.dataset
    labels = np.repeat([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [900, 300, 20, 9, 9, 9, 9, 9, 9, 9])
    skewed = dataclasses.replace(dataset, labels=np.concatenate([labels, np.zeros(len(dataset) - len(labels), np.int64)]))
    rows = stratified(skewed, np.arange(len(labels)), 200, seed=0)
    counts = np.bincount(labels[rows], minlength=10)
    assert len(rows) == len(set(rows.tolist())) == 200
    assert counts.min() >= 4
    assert counts[0] / counts[1] == pytest.approx(3, rel=0.3)
    assert rows.tolist() == stratified(skewed, np.arange(len(labels)), 200, seed=0).tolist()


def test_class_weights_are_those_of_all_pictures_not_of_the_handful() -> None:
    examined = subject(regularize=("class_weights()",))
    counts = np.bincount(examined.surveyed.dataset.labels[examined.surveyed.dataset.indices("train")])
    logits, targets = torch.zeros(2, 10), torch.tensor([1, 8])
    logits[0, 0] = 3.0
    losses = -torch.log_softmax(logits, 1)[[0, 1], targets]
    weights = torch.tensor(counts.sum() / (10 * counts), dtype=torch.float32)[targets]
    assert float(examined.task.loss(logits, targets)) == pytest.approx(float((weights * losses).mean()))


def test_the_contact_sheet_shows_plain_pictures_and_draws(tmp_path: Path) -> None:
    plain, drawn = tmp_path / "plain.png", tmp_path / "drawn.png"
    write_contact_sheet(subject(augment=()), plain)
    write_contact_sheet(subject(augment=("mixup()", "shift()")), drawn)
    one, six = Image.open(plain), Image.open(drawn)
    assert one.height == six.height
    assert six.width > 5 * (one.width - 6)
    cells = [np.asarray(six)[25:130, 10 + 118 * place : 110 + 118 * place] for place in range(6)]
    assert (cells[0] == np.asarray(one)[25:130, 10:110]).all()
    assert all((cells[0] != cell).any() for cell in cells[1:])


def test_a_training_that_fails_is_a_finding() -> None:
    planted = subject(optimizer="adamw(lr=0.005)")
    planted.classifier.head.weight.data.fill_(math.nan)
    diagnosis = examine(planted, Silent())
    assert not diagnosis.healthy
    assert "not finite before the first step" in " ".join(finding.what for finding in diagnosis.findings)
    json.dumps(diagnosis.describe(), allow_nan=False)


# ------------------------------------------------------------------------------------------------------------------ the verb


def test_the_verb_prints_and_exits_by_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(overfit, "MOST_STEPS", 60)
    (tmp_path / "mine.toml").write_text('optimizer = "adamw(lr=0.5)"\nbatch_size = 32\nthreads = 1\n', encoding="utf-8")
    assert main(["doctor", "digits", "mine.toml", "--backbone", "smallcnn(width=4)"]) == 1
    told = capsys.readouterr().out
    assert "FINDING  updates" in told
    assert "fix: Lower the learning rate (0.5)" in told
    assert "Contact sheet: doctor.png" in told
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["doctor.png", "mine.toml"]  # and no run
    assert (
        main(["doctor", "digits", "mine.toml", "--backbone", "smallcnn(width=4)", "--optimizer", "adamw(lr=0.005)", "--json"])
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["status"], document["sheet"]) == ("descend.doctor/1", "healthy", "doctor.png")
    assert {finding["check"] for finding in document["findings"]} == {*CHECKS}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["no-such-folder"], "no-such-folder"),
        (["digits", "--optimizer", "adamm"], "Did you mean 'adam'?"),
        (["digits", "--views", "4"], "has no effect with transfer='scratch'"),
        (["digits", "--out", "a.jpg"], "--out: must end in .png"),
        (["digits", "a.toml", "--recipe", "b.toml"], "RECIPE: must be given once"),
        ([], "doctor: needs DATA"),
    ],
)
def test_what_fit_refuses_is_unusable_in_the_same_words(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words, "--json"]) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    document = json.loads(shown.out)
    assert document["status"] == "unusable"
    assert told in document["error"]


def test_one_class_is_refused_as_fit_refuses_it(tmp_path: Path) -> None:
    images = np.zeros((8, 8, 8), np.uint8)
    with pytest.raises(descend.DataError, match="must have at least two classes"):
        descend.diagnose((images, np.array(["a"] * 8)))
    with pytest.raises(KnobError, match="must lie in a folder that exists"):
        descend.diagnose("digits", out=tmp_path / "no" / "sheet.png")
