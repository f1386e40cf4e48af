"""The documentation is true: technique pages are those of the code, links lead somewhere, settings exist."""

from __future__ import annotations

import contextlib
import io
import re
from functools import cache
from pathlib import Path

import pytest

from descend.cli import VERBS, catalogue, main
from descend.cli.pages import pages

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def test_technique_pages_are_current() -> None:
    folder = ROOT / "docs" / "techniques"
    made = pages()
    assert {path.name for path in folder.glob("*.md")} == set(made)
    for name, text in made.items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"{name} has fallen behind: run scripts/docs"


def test_the_catalogue_is_current() -> None:
    assert catalogue.FILE.read_text(encoding="utf-8") == catalogue.text(), "catalogue.json has fallen behind: run scripts/docs"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_flags_in_the_pages_exist(path: Path) -> None:
    from descend.cli.fit import _parser

    known = {flag for action in _parser()._actions for flag in action.option_strings}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\s*(?:torchrun .* -m )?descend fit(.*)", line):
            assert set(re.findall(r"(?<=\s)--[a-z-]+", match[1])) <= known, line


WITHOUT_DATA = {"app", "cache", "list", "runs"}  # verbs that are about no pictures
PHOTOGRAPHS = re.compile(r"""[\s"'/](photos|elpv|RUN\b|new\b)|runs/(latest|photos)""")


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_first_command_of_a_page_works_on_photographs(path: Path) -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```$|^((?:    .*\n)+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    commands = re.findall(r"(?:^|&& |-m )\s*(descend ([a-z-]+)\b.*)", "\n".join(a or b for a, b in blocks), flags=re.MULTILINE)
    if commands and path.parent.name != "techniques":
        first, verb = commands[0]
        assert verb in WITHOUT_DATA or PHOTOGRAPHS.search(first), first


@cache
def flags_of(verb: str) -> set[str]:
    """Return the flags that the help of a verb names."""
    with contextlib.redirect_stdout(io.StringIO()) as told, pytest.raises(SystemExit):
        main([verb, "--help"])
    return {*re.findall(r"(?<![\w-])--?[a-z][a-z-]*", told.getvalue())} | {"--import", "-q", "--help"}


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_within_sentences_exist(path: Path) -> None:  # those in blocks are run: tests/end_to_end/test_docs_commands.py
    if path.name == "CHANGELOG.md":  # what was called so, was called so
        return
    for command in re.findall(r"(?<!`)`(?:torchrun [^`]* -m )?(descend [^`]+)`(?!`)", path.read_text(encoding="utf-8")):
        verb, *words = command.split()[1:]
        if verb.startswith("-"):
            continue
        assert verb in {*VERBS, "VERB"}, command
        given = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
        assert given <= flags_of(verb), command


def test_speed_stands_below_what_a_newcomer_reads_first() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Start", "Your own pictures"]
    assert headings[-1] == "How fast"


def test_interval_and_macro_f1_are_explained_on_one_page_that_the_others_lead_to() -> None:
    explained = [path for path in PAGES if re.search(r"^## .*(interval|macro F1)", path.read_text(encoding="utf-8"), re.M | re.I)]
    assert [path.name for path in explained] == ["concepts.md"]
    for path in (ROOT / "README.md", ROOT / "docs" / "tutorial.md", ROOT / "docs" / "how-to" / "judge.md"):
        assert "concepts.md" in path.read_text(encoding="utf-8"), path


def test_contributing_names_files_that_exist() -> None:
    for name in re.findall(
        r"`((?:src|tests|scripts|docs|\.github|\.ci)/[\w./*-]*)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    ):
        assert list(ROOT.glob(name)), name


def test_contributing_fits_a_screen() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 50
