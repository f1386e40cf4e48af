"""The site of the documentation: every page once, a reference of names that exist, and settings that do."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import descend
from descend.cli import VERBS
from descend.technique import build, registered

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FAMILIES = {"--optimizer": "optimizer", "--schedule": "schedule", "--regularize": "regularizer", "--gradients": "gradient",
            "--augment": "augmentation", "--head": "head"}  # fmt: skip


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """Load the script that makes the pages that are not in docs/."""
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "scripts" / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in _pages(part)]


def test_every_page_is_in_the_navigation_once() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = _pages(config["nav"])
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    assert config["theme"]["font"] is False  # nothing is asked of any network
    assert set(config["validation"]["links"].values()) == {"warn"}  # which --strict makes errors


def test_the_reference_names_every_public_name(hook: ModuleType) -> None:
    assert {*hook.PACKAGES} == {name for name in descend.__all__ if (hook.SOURCE / name).is_dir()}
    named = re.findall(r"^::: (\S+)$", "\n".join(hook.reference(package) for package in ("", *hook.PACKAGES)), re.M)
    assert {name for name in descend.__all__ if name[0].isupper()} <= {path.rpartition(".")[2] for path in named}
    for path in named:  # read, not imported: that would load all of torch
        module, _, name = path.rpartition(".")
        file = ROOT / "src" / module.replace(".", "/")
        text = file.with_suffix(".py").read_text(encoding="utf-8")
        assert re.search(rf"(?m)^(?:class|def|from .* import .*) ?\b{name}\b|^{name}\b", text), path


def test_links_that_leave_the_documentation_lead_to_a_copy(hook: ModuleType) -> None:
    class Page:
        class file:
            src_uri = "surfaces/README.md"

    text = "[a](zigzag.md) [b](../../benchmarks/surfaces.py#x) [c](../design/) [d](https://example.org) [e](../../README.md)"
    assert hook.on_page_markdown(text, Page) == (
        "[a](zigzag.md) [b](../source/benchmarks/surfaces.py#x) [c](../design/augment.md) [d](https://example.org) "
        "[e](../source/README.md)"
    )


def check(piece: str) -> int:
    """Check one command or setting: its verb, its flags, and what its techniques are built from; return how many those are."""
    from descend.cli.fit import _parser

    words, flag, specs = shlex.split(piece), "", 0
    fits = words[0] != "descend" or words[1] == "fit"
    assert words[0] != "descend" or words[1] in VERBS, piece
    known = {flag for action in _parser()._actions for flag in action.option_strings}
    for word in words:
        if word.startswith("--"):
            flag = word
            assert flag in known or not fits, piece
        elif flag in FAMILIES and "(" in word:
            family = next(registered(FAMILIES[flag])).__mro__
            assert build(word, next(cls for cls in family if "family" in cls.__dict__))
            specs += 1
    return specs


@pytest.mark.parametrize("page", sorted(path.name for path in (DOCS / "coming-from").glob("*.md")))
def test_what_users_of_other_tools_are_told_to_write_exists(page: str) -> None:
    rows = [line for line in (DOCS / "coming-from" / page).read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    pieces = [piece for row in rows for piece in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2])]
    assert len(rows) > 8
    assert sum(map(check, pieces)) > 3


@pytest.mark.parametrize("page", ["optimizers", "decay", "regularization", "augmentation", "transfer"])
def test_a_page_of_the_lesson_has_a_picture_a_measurement_its_techniques_and_a_command(page: str) -> None:
    text = (DOCS / "lesson" / f"{page}.md").read_text(encoding="utf-8")
    assert re.search(r"^!\[[^\]]+\]\(\.\./[\w/-]+\.svg\)$", text, re.MULTILINE)
    assert re.search(r"^\*Measured.*:\*", text, re.MULTILINE)
    assert re.search(r"\]\(\.\./(surfaces|schedules|regularization|augmentation|studies)/", text)
    assert re.search(r"\]\(\.\./(techniques|how-to)/", text)
    assert re.search(r"^ *descend \w+ photos/", text.partition("## Try it")[2], re.MULTILINE)


def test_the_commands_of_the_lesson_can_be_typed() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "lesson").glob("*.md"))
    written = re.findall(r"`(descend [^`]+)`|^ *(descend [^#\n]+)", text, re.MULTILINE)  # in a line, or in a block
    commands = [(within or block).strip() for within, block in written]
    assert len(commands) > 8
    assert sum(map(check, commands)) >= 3
