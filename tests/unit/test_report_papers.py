"""The papers behind techniques: every one that a source names has a complete entry, and a report gives those of its run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from descend.report import papers
from descend.report.techniques import FAMILIES, bibtex, used
from descend.technique import Technique, build, registered, spec
from descend.train.record import RunRecord

OURS = re.compile(r"^(descend: |common practice)")


@pytest.mark.parametrize("cls", list(registered()), ids=lambda cls: f"{cls.family}-{cls.name}")
def test_every_paper_that_a_technique_names_has_an_entry(cls: type) -> None:
    source: str = cls.source  # pyright: ignore[reportAttributeAccessIssue]
    keys = papers.keys(source)
    entries = papers.entries()
    for number in re.findall(r"arXiv:([\d.]+\d)", source):
        assert any(entries[key].get("eprint") == f"{{{number}}}" for key in keys), number
    without = re.sub(r"arXiv:[\d.]+", "", source)
    for name, year in re.findall(r"(\w+) ((?:19|20)\d\d)\b", without):  # "Boyd 2014", "al. 2016" has no word before the year
        assert any(entries[key]["year"] == f"{{{year}}}" or "eprint" in entries[key] for key in keys), (name, year)
    assert keys or OURS.match(source), source


def test_entries_are_complete_and_told_once() -> None:
    lines = [
        line for line in Path(papers.__file__).with_name("papers.bib").read_text(encoding="utf-8").splitlines() if line[:1] == "@"
    ]
    assert len(lines) == len(papers.entries())
    seen: set[str] = set()
    for key, fields in papers.entries().items():
        assert {"author", "title", "year"} <= fields.keys(), key
        assert re.fullmatch(rf"[a-z]+{fields['year'].strip('{}')}[a-z]?", key), key
        assert all(value.count("{") == value.count("}") for value in fields.values()), key
        where = {"eprint", "doi", "journal", "booktitle", "publisher", "howpublished", "school", "institution"}
        assert where & fields.keys(), f"{key} says nowhere to find it"
        assert fields["title"] not in seen
        seen.add(fields["title"])
    assert set(papers.MEASURES.values()) <= papers.entries().keys()


def test_authors_are_found_with_their_letters_and_without_arxiv() -> None:
    assert papers.keys("Polyak 1964; Sutskever et al. 2013, On the importance of initialization, eqs. (1)-(2)") == [
        "polyak1964",
        "sutskever2013",
    ]
    assert papers.keys("Müller & Hutter 2021, section 3") == ["mueller2021"]
    assert papers.keys("Buslaev et al. 2020, Albumentations, doi:10.3390/info11020125 (OneOf)") == ["buslaev2020"]
    assert papers.keys("common practice") == []
    with pytest.raises(KeyError, match="nobody2031"):
        papers.keys("Nobody 2031")


def test_a_run_gives_all_its_knobs_and_the_papers_of_nested_techniques_too() -> None:
    plan = {"optimizer": spec(build_of("optimizer", "adamw(lr=0.005)"), defaults=True),
            "schedule": "then(parts=[warmup(fraction=0.05, start=0.01), cosine(floor=0.0)])",
            "augment": ["flip(p=0.5)"], "head": "linear()", "gradients": []}  # fmt: skip
    found = used(RunRecord(plan=plan))  # pyright: ignore[reportArgumentType]
    assert [item.name for item in found] == ["linear", "flip", "adamw", "then", "warmup", "cosine"]
    adamw = next(item for item in found if item.name == "adamw")
    assert [(knob.name, knob.value, knob.is_default) for knob in adamw.knobs] == [
        ("lr", "0.005", False), ("beta1", "0.9", True), ("beta2", "0.999", True), ("eps", "1e-08", True),
        ("weight_decay", "0.01", True),
    ]  # fmt: skip
    assert adamw.knobs[1].legal.startswith("a finite number in [0, 1)")
    text = bibtex(RunRecord(), found)
    for key in ("loshchilov2019", "loshchilov2017", "goyal2017", "wilson1927"):
        assert text.count(f"{{{key},\n") == 1
    assert "guo2017" not in text  # nothing was calibrated


def build_of(family: str, text: str) -> Technique:
    return build(text, FAMILIES[family])


def test_techniques_that_are_not_known_here_are_shown_as_they_are_written() -> None:
    (item,) = used(RunRecord(plan={"optimizer": "mine(lr=0.1, parts=[a(b=1), 2])"}))
    assert (item.name, item.keys, item.source) == ("mine", (), "")
    assert [(knob.name, knob.is_default) for knob in item.knobs] == [("lr", None), ("parts", None)]
    assert used(RunRecord(plan={"optimizer": "not a spec ((", "augment": ["auto"]})) == []
