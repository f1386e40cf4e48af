"""Names from anywhere reach a terminal on one line, and nothing in them is obeyed."""

from __future__ import annotations

import ast
import io
import unicodedata
from pathlib import Path

import pytest
from rich.console import Console

import descend.cli
from descend.cli.output import Parser, tell
from descend.cli.progress import Terminal
from descend.errors import DataError, DescendError, SpecError
from descend.printable import printable, shortened
from descend.spec_text import parse

HOSTILE = "a\x1b[31m\n\r\tb\x07\x9b2J\u202ec\u2066d\u2028e\udcfff\x7fg"


def _obeyed(text: str) -> set[str]:
    """What a terminal may obey, by Unicode's own categories: controls, formats but for joiners, separators, surrogates."""
    return {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp", "Cs"}} - {"\u200c", "\u200d"}


def test_control_and_bidi_characters_are_escaped() -> None:
    assert printable(HOSTILE) == r"a\x1b[31m\n\r\tb\x07\x9b2J\u202ec\u2066d\u2028e\udcfff\x7fg"
    obeyed = _obeyed("".join(map(chr, range(0x3000))))  # Arabic's number signs are of category Cf and print as they are
    assert _obeyed(printable("".join(sorted(obeyed)))) <= set(
        "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
    )


@pytest.mark.parametrize("name", ["Löwe 猫 кошка قطة", "👩\u200d👧", "C:\\new\\table", "[red]", "", "e\u0301"])
def test_what_people_write_stays(name: str) -> None:
    assert printable(name) == name


def test_bad_input_is_cut_with_its_length() -> None:
    assert shortened("x" * 200) == "x" * 200
    assert shortened("x" * 3000) == "x" * 200 + "... (3,000 characters)"


def test_an_error_is_one_line_of_text_whatever_it_repeats() -> None:
    error = DataError(HOSTILE, f"must not hold {HOSTILE}", got=HOSTILE, fix=f"Rename {HOSTILE}.")
    assert not _obeyed(str(error))
    assert error.must == f"must not hold {HOSTILE}"  # for code, it is what it was
    long = DescendError("w" * 3000, "must be short", got="g" * 3000)
    assert len(str(long)) < 600
    assert "... (3,000 characters)" in str(long)


def test_an_error_in_a_spec_text_points_at_the_place_also_in_a_long_one() -> None:
    for text in ("adam(lr=1 1)", "x" * 3000 + "(", f"adam({'b=1, ' * 500}lr=1 1)", "adam(\x1b[2J"):
        with pytest.raises(SpecError) as caught:
            parse(text)
        sentence, shown, pointer = str(caught.value).split("\n")
        assert len(sentence) < 700
        assert len(shown) < 150
        assert pointer.strip() == "^"
        assert not _obeyed(sentence + shown + pointer)
    with pytest.raises(SpecError) as caught:
        parse("adam(lr=1 1)")
    assert str(caught.value).split("\n")[1:] == ["    adam(lr=1 1)", "            ^"]


def test_a_line_stays_one_line_on_every_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    tell(HOSTILE, "two")
    assert capsys.readouterr().out == printable(HOSTILE) + "\ntwo\n"
    with pytest.raises(SystemExit):
        Parser(prog="x").parse_args([HOSTILE])
    assert not _obeyed(capsys.readouterr().err.replace("\n", ""))


def test_the_listener_of_the_command_line_escapes_too() -> None:
    terminal = Terminal()
    terminal.console = Console(file=io.StringIO(), width=40, highlight=False, emoji=False)
    terminal.say(HOSTILE)
    terminal.update(HOSTILE, 0, 2)
    terminal.update(HOSTILE, 2, 2)
    said = terminal.console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue] (it is the StringIO above)
    assert said.count("\n") == 2
    assert not _obeyed(said.replace("\n", ""))


def test_no_verb_prints_past_the_one_way_out() -> None:
    folder = Path(descend.cli.__file__).parent
    for path in folder.glob("*.py"):
        if path.name == "output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                constant = path.name == "__init__.py" and ast.unparse(node.args[0]) in ("HELP", "f'descend {__version__}'")
                assert constant, f"{path.name}:{node.lineno} prints past descend.cli.output.tell"
