"""What is no label, may be none, or differs from another by marks alone that nobody sees."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from tests.oracles.data_pictures import encoded, scene

from descend.data import load
from descend.data.labels import clean_text, encode_labels, group_text

# Unicode 15.0, DerivedCoreProperties.txt: Default_Ignorable_Code_Point, less joiners (200C, 200D) and selectors of variants
UNSEEN = [0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F),
          *range(0x2060, 0x2070), 0x3164, *range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0, *range(0xFFF0, 0xFFF9), 0xFFF9, 0xFFFE,
          0xE0020]  # fmt: skip
CONTROLS = [code for code in range(0xA0) if unicodedata.category(chr(code)) == "Cc" and not chr(code).isspace()]


@pytest.mark.parametrize("code", [*UNSEEN, *CONTROLS], ids=hex)
def test_marks_that_nobody_sees_make_no_class(code: int) -> None:
    classes, numbers, _ = encode_labels(["cat", f"cat{chr(code)}", f"{chr(code)}cat", f"c{chr(code)}at", chr(code)], who="t")
    assert classes == ("cat",)
    assert numbers.tolist() == [0, 0, 0, 0, -1]
    assert group_text(chr(code)) == ""


def test_what_is_seen_stays() -> None:
    england, scotland = (
        f"\U0001f3f4{''.join(chr(0xE0000 + ord(letter)) for letter in name)}\U000e007f" for name in ("gbeng", "gbsct")
    )
    words = [
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f469\u200d\U0001f4bb",
        england,
        scotland,
        "\u0600\u0661",
        "a b",
    ]
    assert [clean_text(word) for word in words] == words
    assert clean_text("e\u034f\u0301") == "\xe9"
    assert [clean_text(word) for word in ("\u200d", "\u200c \u200d", "a\tb\nc")] == ["", "", "a b c"]


@pytest.mark.parametrize("name", ["cat\u200d", "cat\u2800", "cat\U000e0100"])
def test_classes_that_look_alike_are_told(name: str) -> None:
    _, _, problems = encode_labels(["cat", name, "dog"], who="t")
    assert [item.kind for item in problems] == ["similar"]


@pytest.mark.parametrize("text", [
    "#SPILL!", "#FIELD!", "#CALC!", "#ERROR!", "#NV", "#WERT!", "#BEZUG!", "#N/D", "#VALEUR!", "#N/B", "#DIV/0", "#\u00a1REF!",
    "#\u00bfNOMBRE?", "Err:502", "#NOM?", "#DIV/0!", "#\u00dcBERLAUF!", "#REF", "#\u0418\u041c\u042f?", "un-labelled",
    "Un Labeled",
])  # fmt: skip
def test_spreadsheets_errors_are_no_label_in_any_language(text: str) -> None:
    classes, numbers, _ = encode_labels(["cat", "dog", text, f" {text} "], who="t")
    assert classes == ("cat", "dog")
    assert numbers.tolist() == [0, 1, -1, -1]
    assert group_text(text) == ""


@pytest.mark.parametrize("text", [
    "void", "Ignore", "empty", "BLANK", "unset", "NoLabel", "no_label", "(empty)", "N.A", "\ufffd", "\u2800", "Loading...",
    "NotAvailable", "k.A.", "unbekannt",
])  # fmt: skip
def test_words_that_may_stand_for_a_gap_are_told_and_are_no_group(text: str) -> None:
    classes, _, problems = encode_labels(["cat", "dog", text], who="t")
    assert len(classes) == 3
    assert [(item.kind, item.n) for item in problems] == [("doubtful", 1)]
    assert group_text(text) == ""


@pytest.mark.parametrize("text", ["#winter", "#1", "C#", "voided", "emptiness", "#what a day!", "errand", "blank cartridge"])
def test_other_words_are_classes_like_any(text: str) -> None:
    classes, _, problems = encode_labels(["cat", "dog", text], who="t")
    assert len(classes) == 3
    assert problems == []


@pytest.mark.parametrize("code", [-100, -2, -128, -(2**15), -(2**31), -(2**63), 255, 2**16 - 1, 2**31 - 1, -1, 99])
def test_numbers_that_stand_for_a_gap_beside_numbered_classes_are_told(code: int) -> None:
    _, _, problems = encode_labels([0, 1, 0, 1, code], who="t")
    assert [(item.kind, item.examples) for item in problems] == [("doubtful", (repr(str(code)),))]


@pytest.mark.parametrize("numbers", [range(256), [0, 255], [100, 255, 300], [1, 254, 255], range(100)])
def test_numbers_that_belong_to_a_row_of_classes_are_not_told(numbers: list[int]) -> None:
    assert encode_labels([*numbers], who="t")[2] == []


def test_a_scale_around_0_has_a_second_step_below() -> None:
    (told,) = encode_labels([-2, -1, 0, 1, 2], who="t")[2]
    assert told.examples == ("'-1'",)


def test_paths_copied_from_windows_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    rows = []
    for seed in range(8):
        (tmp_path / f"{seed}.png").write_bytes(encoded(scene(6, 6, seed)))
        rows.append(f"\u202a{seed}.png,{'ab'[seed % 2]}\u202c,#NV")
    (tmp_path / "t.csv").write_text("path,label,group\n" + "\n".join(rows), encoding="utf-8")
    dataset = load(tmp_path / "t.csv", split=False)
    assert dataset.classes == ("a", "b")
    assert len(dataset) == 8
    assert dataset.groups is None or len(set(dataset.groups.tolist())) == 8  # of its own each
