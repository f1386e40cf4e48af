"""American spelling everywhere that people read: the names of the code are American, so its words are, too."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEMS = ("normal", "regular", "penal", "standard", "equal", "minim", "maxim", "vector", "solar", "poster", "general", "summar",
         "organ", "visual", "special", "quant", "initial", "optim", "recogn", "factor", "random", "serial", "util",
         "categor")  # fmt: skip
BRITISH = re.compile(
    rf"(?<!\w)((?:re|un)?(?:colour(?:s|ed|ing|less)?|greys?|greyscale|learnt|signall(?:ed|ing)|levell(?:ed|ing)"
    rf"|behaviours?|neighbour(?:s|ing|hood)?|favour(?:s|ed|ite)?|honour"
    rf"|flavours?|centre[sd]?|centring|fibres?|labell(?:ed|ing)|modell(?:ed|ing)|cancell(?:ed|ing)|travell(?:ed|ing)|artefacts?"
    rf"|analys(?:e|ed|ing)|judgements?|licences?|(?:{'|'.join(STEMS)})is(?:e[sdr]?|ing|ations?|ers)))(?!\w)",
    re.IGNORECASE,
)
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.js"), *(ROOT / "src").rglob("*.html"),
         ROOT / "mkdocs.yml"]  # fmt: skip
SOURCES = sorted((ROOT / "src").rglob("*.py"))
FIGURES = sorted((ROOT / "docs").rglob("*.svg"))


def prose(path: Path) -> str:
    """Return what people read of a file: all of a page, the comments and texts of Python, without names in quotes."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join(
        token.string for token in tokens if token.type in (tokenize.COMMENT, tokenize.STRING) and " " in token.string
    )


PERCENT = re.compile(r"(?<=\d)(?: |&nbsp;|\u00a0)%(?![}\w(])(?! [\d(])")


@pytest.mark.parametrize("path", [*PAGES, *FIGURES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shares_stand_without_a_gap_before_the_sign(path: Path) -> None:
    if path.name != "CHANGELOG.md":  # what was written, was written
        assert PERCENT.findall(prose(path)) == []


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words_are_spelled_as_in_american_english(path: Path) -> None:
    assert BRITISH.findall(prose(path)) == []


def test_the_list_finds_british_words_and_leaves_others() -> None:
    found = BRITISH.findall(
        "Colours are normalised, unlabelled and Regularisation; optimism, promise, aria-labelledby, equaliser, max-minimised grey"
    )
    assert found == ["Colours", "normalised", "unlabelled", "Regularisation", "equaliser", "minimised", "grey"]
