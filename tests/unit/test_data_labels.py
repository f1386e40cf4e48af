"""One rule for labels: the same values give the same classes from folders, tables, frames, lists and arrays."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.oracles.data_pictures import encoded, scene

from descend.data import Dataset, load
from descend.data.labels import cell_text, encode_labels
from descend.errors import DataError
from descend.train.labels import label_type

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Bébé") for form in ("NFC", "NFD"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)  # what a data frame's paths are relative to


def _images(n: int) -> np.ndarray:
    return np.stack([scene(6, 6, seed) for seed in range(n)])


def _from_list(labels: Sequence[Any], root: Path) -> Dataset:
    return load((_images(len(labels)), list(labels)), split=False)


def _from_array(labels: Sequence[Any], root: Path) -> Dataset:
    return load((_images(len(labels)), np.array(labels, object)), split=False)


def _from_parts(labels: Sequence[Any], root: Path) -> Dataset:
    return load({"train": (_images(2), list(labels[:2])), "test": (_images(len(labels) - 2), list(labels[2:]))}, split=False)


def _files(n: int, root: Path) -> list[str]:
    for seed, image in enumerate(_images(n)):
        (root / f"{seed}.png").write_bytes(encoded(image))
    return [f"{seed}.png" for seed in range(n)]


def _from_csv(labels: Sequence[Any], root: Path) -> Dataset:
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"path": _files(len(labels), root), "label": labels}).to_csv(root / "t.csv", index=False)
    return load(root / "t.csv", split=False)


def _from_parquet(labels: Sequence[Any], root: Path) -> Dataset:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pandas.DataFrame({"path": _files(len(labels), root), "label": labels}).to_parquet(root / "t.parquet")
    return load(root / "t.parquet", split=False)


def _from_frame(labels: Sequence[Any], root: Path) -> Dataset:
    pandas = pytest.importorskip("pandas")
    return load(pandas.DataFrame({"path": _files(len(labels), root), "Label": labels}), split=False)


def _from_columns(labels: Sequence[Any], root: Path) -> Dataset:
    return load({"path": _files(len(labels), root), "label": list(labels)}, split=False)


SOURCES: dict[str, Callable[[Sequence[Any], Path], Dataset]] = {
    "list": _from_list, "array": _from_array, "dict of splits": _from_parts, "CSV": _from_csv, "Parquet": _from_parquet,
    "data frame": _from_frame, "columns": _from_columns,
}  # fmt: skip

# labels -> (classes, rows without a label)
CASES: dict[str, tuple[list[Any], list[str], int]] = {
    "None": (["cat", "dog", None, "cat", "dog", "cat"], ["cat", "dog"], 1),
    "NaN": (["cat", "dog", float("nan"), "cat", "dog", "cat"], ["cat", "dog"], 1),
    "the text nan": (["cat", "dog", "nan", "NaN", "dog", "cat"], ["cat", "dog"], 2),
    "other texts for a gap": (["cat", "dog", "", "  ", "<NA>", "NULL"], ["cat", "dog"], 4),
    "integers beside a gap": ([0.0, 1.0, float("nan"), 1.0, 0.0, 10.0], ["0", "1", "10"], 1),
    "integers as text": (["0", "1.0", "1", "0.0", "007", "-1"], ["-1", "0", "1", "007"], 0),
    "versions": (["1.0", "1.5", "1.0", "1.5", "2.0", "2.0"], ["1.0", "1.5", "2.0"], 0),
    "blanks around": ([" cat", "cat ", "dog", "dog\t", "\N{NO-BREAK SPACE}cat", "\N{ZERO WIDTH NO-BREAK SPACE}dog"],
                      ["cat", "dog"], 0),
    "accents": ([COMPOSED, DECOMPOSED, "dog", COMPOSED, DECOMPOSED, "dog"], [COMPOSED, "dog"], 0),
    "blanks inside": (["great dane", "great\xa0dane", "great  dane", "dog", "dog", "dog"], ["dog", "great dane"], 0),
    "what nobody sees": (["cat", "c\u200bat", "ca\xadt", "dog", "\u2060dog", "dog"], ["cat", "dog"], 0),
    "a spreadsheet's and a database's gaps": (["cat", "dog", "#REF!", "(null)", "\\N", "'nan'"], ["cat", "dog"], 4),
    "more words for a gap": (["cat", "dog", "not labelled", "not_labeled", "<null>", "pd.NA"], ["cat", "dog"], 4),
    "booleans": ([True, False, True, False, True, False], ["False", "True"], 0),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("source", SOURCES)
def test_one_rule_for_all_sources(source: str, case: str, tmp_path: Path) -> None:
    labels, classes, n_missing = CASES[case]
    dataset = SOURCES[source](labels, tmp_path)
    assert list(dataset.classes) == classes
    assert len(dataset) == len(labels) - n_missing
    assert sum(problem.n for problem in dataset.problems if problem.kind == "unlabeled") == n_missing


def test_an_unlabelled_picture_in_memory_keeps_no_place(tmp_path: Path) -> None:
    dataset = _from_list(["cat", None, "dog", "cat", "dog"], tmp_path)
    assert [dataset.name_of(row) for row in range(4)] == ["arrays[0]", "arrays[2]", "arrays[3]", "arrays[4]"]
    np.testing.assert_array_equal(dataset.read(1), _images(3)[2])
    assert "arrays[1]" in str(dataset.problems[0])


@pytest.mark.parametrize("source", ["array", "Parquet", "data frame", "columns"])
def test_numbers_that_are_not_whole_are_no_classes(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels must be whole numbers or words, got '0\.5'"):
        SOURCES[source]([0.5, 1.0, 0.25, 1.0], tmp_path)


def test_bytes_and_numpy_text() -> None:
    images = _images(4)
    assert load((images, np.array([b"cat", b"dog"] * 2)), split=False).classes == ("cat", "dog")
    assert load((images, np.array(["cat", "dog"] * 2)), split=False).classes == ("cat", "dog")
    assert load((images, np.array([1, 2] * 2, np.uint8)), split=False).classes == ("1", "2")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([np.zeros((4, 4), np.uint8), [[1, 2], [3]]], ["a", "b"], "images must have one shape"),
        (["a.png", "b.png"], ["a", "b"], "must name at least one labeled picture that exists, got 'a.png'"),
        (np.zeros((2, 4, 4), np.uint8), [[1, 0], [0, 1]], "one label for each"),
        (["a.png", "b.png"], [["cat"], ["cat", "dog"]], "a label must be one word or one number"),
        (np.zeros((2, 4, 4), np.uint8), [None, None], "at least one labeled picture, got '2 without a label'"),
    ],
)
def test_lists_that_cannot_be_read(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load((images, labels))


def test_folders_follow_the_same_rule(tmp_path: Path) -> None:
    seed = 0
    for name in (COMPOSED, DECOMPOSED, "dog", "dog ", "nan"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for _ in range(4):
            seed += 1
            (tmp_path / "set" / name / f"{seed}.png").write_bytes(encoded(scene(6, 6, seed)))
    dataset = load(tmp_path / "set", split=False)
    assert dataset.classes == (COMPOSED, "dog")
    assert len(dataset) == 16
    problems = {problem.kind: problem for problem in dataset.problems}
    assert problems["unlabeled"].n == 4
    assert "'nan', which stands for a missing label" in str(problems["unlabeled"])
    assert problems["merged"].n == 2


def test_what_may_have_been_meant_otherwise_is_told() -> None:
    classes, _, problems = encode_labels(["Cat", "cat", "None", "dog", "cat "], who="t")
    assert set(classes) == {"Cat", "cat", "None", "dog"}
    told = {problem.kind: str(problem) for problem in problems}
    assert "'Cat' and 'cat'" in told["similar"]
    assert "'None'" in told["doubtful"]
    assert "'cat' = 'cat '" in told["merged"]


def test_several_labels_in_one_cell_are_told() -> None:
    classes, _, problems = encode_labels(["cat", "dog", "cat|dog", "dog; cat", "wolf, gray"], who="x")
    assert len(classes) == 5
    assert [item.examples for item in problems] == [("'cat|dog'", "'dog; cat'")]
    assert "2 classes may be several labels of one picture" in str(problems[0])


@pytest.mark.parametrize(
    "pair",
    [
        ("great dane", "great_dane"), ("great dane", "Great-Dane"), ("cat", "'cat'"), ("cat", "\u201ccat\u201d"), ("cat", "cat."),
        ("1", "01"), ("TRUE", "True"), ("cat", "\u0441at"), ("cat", "cat\u200d"), ("A", "\uff21"), ("1", "1.0"), ("1", "+1"),
        ("1", "1e0"), ("0", "-0"), ("1000", "1,000"), ("-2", "\u22122"), ("cat's", "cat\u2019s"), ("T-shirt", "T\u2011shirt"),
        ("T-shirt", "T\u2013shirt"), ("Tom & Co", "Tom &amp; Co"), ("1" * 400, "1" * 400 + "."),
    ],
)  # fmt: skip
def test_names_that_are_likely_one_class_are_told(pair: tuple[str, str]) -> None:
    classes, _, problems = encode_labels([*pair, "dog"], who="t")
    assert len(classes) == 3
    (similar,) = problems
    assert similar.kind == "similar"
    assert similar.n == 1


@pytest.mark.parametrize(
    "names", [["C", "C++", "C#"], ["1", "-1"], ["1,5", "15"], ["1-2", "12"], ["v1.0", "v10"], ["+", "x"], ["wolf", "wolves"]]
)
def test_names_that_are_several_classes_stay_untold(names: list[str]) -> None:
    assert encode_labels(names, who="t")[2] == []


@pytest.mark.parametrize(
    "gap",
    [
        "-",
        "--",
        "?",
        "???",
        ".",
        "unknown",
        "TBD",
        "N.A.",
        "no label",
        "[]",
        "no_label",
        "No-Label",
        "unannotated",
        "unclassified",
        "unk",
        "<unk>",
        "<none>",
        "'None'",
        "-1",
        "-1.0",
        "99",
    ],
)
def test_what_may_stand_for_a_gap_is_told(gap: str) -> None:
    (problem,) = encode_labels(["cat", gap, "dog"], who="t")[2]
    assert (problem.kind, problem.examples) == ("doubtful", (repr(gap),))


def test_a_number_that_may_stand_for_a_gap_is_told_beside_numbered_classes() -> None:
    def doubtful(*labels: int) -> list[str]:
        return [name for problem in encode_labels(labels, who="t")[2] for name in problem.examples]

    assert doubtful(0, 1, -1) == ["'-1'"]
    assert doubtful(0, 1, 2, 999) == ["'999'"]
    assert doubtful(1, -1) == []  # two classes, by their sign
    assert doubtful(*range(100)) == []


@pytest.mark.parametrize("cell", ["['cat', 'dog']", "cat/dog", "cat & dog", "cat dog"])
def test_more_ways_of_several_labels_in_one_cell_are_told(cell: str) -> None:
    (problem,) = encode_labels(["cat", "dog", cell], who="t")[2]
    assert problem.examples == (repr(cell),)


@pytest.mark.parametrize(
    "cells",
    [
        ["cat|dog", "dog|bird", "cat|bird"], ["cat;dog", "fish;dog"], ["['cat', 'dog']", "['dog', 'bird']"],
        ["a/b", "a/c", "b/c"],
        ["clear primary", "clear primary water", "haze primary", "partly_cloudy primary road"],
        ["clear water", "road haze clear", "water haze", "clear road water", "haze water"],
    ],
)  # fmt: skip
def test_several_labels_in_every_cell_are_told(cells: list[str]) -> None:
    (problem,) = encode_labels(cells, who="t")[2]
    assert sorted(problem.examples) == sorted(map(repr, cells))
    assert "may be several labels of one picture" in problem.message


@pytest.mark.parametrize(
    "names",
    [
        ["fresh apple", "rotten apple", "fresh orange", "rotten orange"], ["pet|cat", "pet|dog", "wild|fox"],
        ["tomato, blight", "potato, blight", "tomato, rust", "potato, rust"],
        ["left eye open", "left eye shut", "right eye open"], ["no finding", "finding"], ["stage 1", "stage 2"],
    ],
)  # fmt: skip
def test_names_that_share_words_are_single_labels(names: list[str]) -> None:
    assert encode_labels(names, who="t")[2] == []


def test_measures_are_no_classes() -> None:
    with pytest.raises(DataError, match=r"labels must be whole numbers or words, got '0\.25'"):
        encode_labels(["1", "0.25", "3.5e-1", "2"], who="t")


def test_what_is_masked_has_no_label() -> None:
    masked = np.ma.array([0, 1, 0, 1, 7, 7], mask=[False] * 4 + [True] * 2)
    dataset = load((_images(6), masked), split=False)
    assert dataset.classes == ("0", "1")
    assert [dataset.name_of(row) for row in range(len(dataset))] == [f"arrays[{row}]" for row in range(4)]


FORMS: dict[str, Callable[[Any, Path], Any]] = {
    "(array, labels)": lambda labels, _: (_images(len(labels)), labels),
    "(array, list)": lambda labels, _: (_images(len(labels)), list(labels)),
    "(paths, labels)": lambda labels, root: (_files(len(labels), root), labels),
    "(paths, list)": lambda labels, root: (_files(len(labels), root), list(labels)),
    "columns": lambda labels, root: {"path": _files(len(labels), root), "label": labels},
    "pairs": lambda labels, _: list(zip(_images(len(labels)), labels, strict=True)),
    "parts": lambda labels, _: {"train": (_images(len(labels)), labels), "test": (_images(len(labels) + 1)[-1:], labels[:1])},
}  # fmt: skip


def _arrow(labels: list[Any]) -> Any:
    return pytest.importorskip("pyarrow").array(labels)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("make", "classes", "kind"),
    [
        (lambda: np.ma.array([1, 2, 0, 0, 2, 1], mask=[False, False, True, True, False, False]), ("1", "2"), "integer"),
        (lambda: np.ma.array(list("abxxba"), mask=[False, False, True, True, False, False]), ("a", "b"), "text"),
        (lambda: _arrow(["a", "b", None, None, "b", "a"]), ("a", "b"), "text"),
        (lambda: _arrow([1, 2, None, None, 2, 1]), ("1", "2"), "integer"),
    ],
)
def test_what_is_masked_or_null_is_missing_in_every_form(
    form: str, make: Callable[[], Any], classes: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    data = FORMS[form](make(), tmp_path)
    dataset = load(data, split=False)
    assert dataset.classes == classes
    assert sum(problem.n for problem in dataset.problems if problem.kind == "unlabeled") == 2
    assert form == "pairs" or label_type(data) == kind


def test_bytes_in_another_encoding_are_no_classes() -> None:
    with pytest.raises(DataError, match=r"arrays: labels that are bytes must be UTF-8, got b'caf\\xe9'\. Decode them before"):
        load((_images(4), [b"caf\xe9", b"caf\xe8", b"x", b"x"]))
    assert len({cell_text(b"caf\xe9"), cell_text(b"caf\xe8")}) == 2


def test_a_list_in_a_cell_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data frame: a label must be one word or one number, got \['cat'\]"):
        load({"path": _files(4, tmp_path), "label": [["cat"], ["dog"]] * 2})


def test_truths_in_several_words_are_told() -> None:
    (problem,) = encode_labels(["TRUE", "1", "0", "False", "no"], who="t")[2]
    assert problem.kind == "similar"
    assert sorted(problem.examples) == ["'0' and 'False' and 'no'", "'1' and 'TRUE'"]
    assert encode_labels(["yes", "no"], who="t")[2] == []
    assert encode_labels(["1", "t", "tea"], who="t")[2] == []


def test_tensors_of_one_element_are_numbers() -> None:
    torch = pytest.importorskip("torch")
    labels = [torch.tensor(0), torch.tensor(1.0), torch.tensor(float("nan")), np.array(1)]
    assert encode_labels(labels, who="t")[:1] == (("0", "1"),)
    assert encode_labels(labels, who="t")[1].tolist() == [0, 1, -1, 1]
    with pytest.raises(DataError, match="one word or one number"):
        encode_labels([torch.tensor([0, 1])], who="t")


@pytest.mark.parametrize("numbers", [[2, -5, -2, 10, 0], ["2", "-5", "-2", "10", "0"], [2.0, -5.0, None, -2.0, 10.0, 0.0]])
def test_numbered_classes_stand_in_the_order_of_their_numbers(numbers: list[Any]) -> None:
    classes, places, _ = encode_labels(numbers, who="data")
    given = [number for number in numbers if number is not None]
    assert [int(name) for name in classes] == sorted(int(number) for number in given)
    assert [int(classes[place]) for place in places if place >= 0] == [int(number) for number in given]


@pytest.mark.parametrize(
    "copy", ["OK - Copy", "OK - Copy (2)", "OK - Kopie", "OK (2)", "OK copy", "OK copy 3", "Copy of OK", "ok (copy)"]
)
def test_a_class_that_is_called_like_a_copy_of_another_is_told_and_kept(copy: str) -> None:
    classes, _, told = encode_labels(["OK", copy, "NOK"], who="data")
    assert set(classes) == {"OK", copy, "NOK"}
    assert [problem.examples for problem in told if problem.kind == "copied"] == [(f"{copy!r} of 'OK'",)]


@pytest.mark.parametrize(
    "others", [["Series (1)", "Series (2)"], ["photocopy", "photo"], ["copy", "original"], ["copy 2", "copy 3"]]
)
def test_no_class_is_called_a_copy_of_one_that_is_not_there(others: list[str]) -> None:
    _, _, told = encode_labels(others, who="data")
    assert not [problem for problem in told if problem.kind == "copied"]


@pytest.mark.parametrize(("copy", "kind"), [("OK - Copy", "layout"), ("OK_old", "layout"), ("OK (2)", "copied")])
def test_a_folder_that_is_called_like_a_copy_is_told_once(copy: str, kind: str, tmp_path: Path) -> None:
    for number, label in enumerate(("OK", copy, "NOK")):
        (tmp_path / "set" / label).mkdir(parents=True)
        for seed in range(8):
            (tmp_path / "set" / label / f"{seed}.png").write_bytes(encoded(scene(6, 6, seed + 10 * number)))
    told = load(tmp_path / "set").problems
    assert [problem.kind for problem in told if repr(copy) in str(problem)] == [kind]


def test_folders_are_classes_whatever_they_are_called(tmp_path: Path) -> None:
    for label in ("0.5", "1.5", "2"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for seed in range(6):
            (tmp_path / "set" / label / f"{seed}.png").write_bytes(encoded(scene(6, 6, seed + int(10 * float(label)))))
    assert load(tmp_path / "set").classes == ("0.5", "1.5", "2")
    with pytest.raises(DataError, match=r"labels must be whole numbers or words, got '0\.5'"):
        encode_labels(["0.5", "1.5", "2"], who="table")
