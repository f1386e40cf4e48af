"""Tables of pictures: CSV, TSV and Parquet, with splits and groups, and what they refuse."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.oracles.data_pictures import make_tree, many

from descend.data import load
from descend.errors import DataError, MissingExtra

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return lambda *names: make_tree(tmp_path / "set", *names)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


def _table(path: Path, rows: list[dict[str, object]]) -> Path:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte order mark
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def _rows(n: int = 10) -> list[dict[str, object]]:
    return [{"path": f"{kind}/{i}.png", "label": kind} for kind in "ab" for i in range(n)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".CSV"])
def test_tables(tree: Tree, suffix: str) -> None:
    root = tree(*many("a"), *many("b"))
    dataset = load(_table(root / f"list{suffix}", _rows()))
    assert dataset.name == "list"
    assert dataset.classes == ("a", "b")
    assert len(dataset) == 20
    assert not dataset.given_split
    assert dataset.root == root


def test_a_parquet_table(tree: Tree) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    root = tree(*many("a"), *many("b"))
    frame = pandas.DataFrame(_rows())
    frame["Label"] = (frame.pop("label") == "b").astype(int)  # numbers, and a header in another case
    frame["other"] = 1.5
    frame.to_parquet(root / "t.parquet")
    assert load(root / "t.parquet").classes == ("0", "1")
    frame["Label"] = frame["Label"].where(frame.index > 0)  # a gap makes floats of integers
    frame.to_parquet(root / "t.parquet")
    dataset = load(root / "t.parquet")
    assert dataset.classes == ("0", "1")
    assert {problem.kind: problem.n for problem in dataset.problems} == {"unlabelled": 1}


def test_parquet_without_its_extra(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree("t.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"descend\[tables\]"):
        load(root / "t.parquet")


def test_splits_and_groups_of_a_table(tree: Tree) -> None:
    root = tree(*many("a", 12), *many("b", 12))
    given = [row | {"split": ("Train", "val", "test")[i % 3]} for i, row in enumerate(_rows(12))]
    dataset = load(_table(root / "t.csv", given))
    assert dataset.counts().tolist() == [[4, 4, 4], [4, 4, 4]]
    grouped = [row | {"group": f"patient {i % 8}", "split": ""} for i, row in enumerate(_rows(12))]
    dataset = load(_table(root / "t.csv", grouped))
    assert not dataset.given_split
    sides: dict[str, set[int]] = {}
    for row in range(len(dataset)):
        kind, number = dataset.name_of(row).removesuffix(".png").split("/")
        group = f"{(int(number) + 12 * (kind == 'b')) % 8}"
        sides.setdefault(group, set()).add(int(dataset.splits[row]))
    assert all(len(side) == 1 for side in sides.values())


def test_missing_and_unlabelled_rows_are_named_and_left_out(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    rows = [*_rows(), {"path": "a/gone.png", "label": "a"}, {"path": "a", "label": "a"}, {"path": "a/1.png", "label": " "}]
    dataset = load(_table(root / "t.csv", rows))
    assert len(dataset) == 20
    assert {problem.kind: problem.n for problem in dataset.problems} == {"missing": 2, "unlabelled": 1}
    assert "a/gone.png" in str(dataset.problems[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,kind\n1.png,a\n", "must have a column 'label', got 'kind, path'|must have a column 'label', got 'path, kind'"),
        ("", "must have a column 'path', got 'no header'"),
        ("path,label\n", "at least one row"),
        ("path,label\nno.png,a\n", "at least one labelled picture that exists, got 'no.png'"),
        ("path,label,split\n0.png,a,train\n1.png,b,tset\n", "train, val or test, got 'tset'. Did you mean 'test'"),
        ("path,label,split\n0.png,a,train\n1.png,b,\n", "Fill the column"),
    ],
)
def test_tables_that_cannot_be_read(tree: Tree, text: str, message: str) -> None:
    root = tree("0.png", "1.png")
    (root / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load(root / "t.csv")


def test_a_table_in_another_encoding_is_refused(tree: Tree) -> None:
    root = tree("0.png")
    (root / "t.csv").write_bytes("path,label\n0.png,Köln\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8 CSV"):
        load(root / "t.csv")


def test_groups_too_large_to_divide(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    table = _table(root / "t.csv", [row | {"group": "all"} for row in _rows()])
    with pytest.raises(DataError, match="groups too large to divide"):
        load(table)


def test_rows_without_a_path_are_counted_and_left_out(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    dataset = load(_table(root / "t.csv", [*_rows(), {"path": "", "label": "a"}]))
    assert len(dataset) == 20
    assert {problem.kind: problem.n for problem in dataset.problems} == {"nameless": 1}
    assert "row 22" in str(dataset.problems[0])


def test_semicolons_and_repeated_columns_are_named(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    (root / "t.csv").write_text("path;label\na/1.png;a\n", encoding="utf-8")
    with pytest.raises(DataError, match="semicolons"):
        load(root / "t.csv")
    (root / "t.csv").write_text("path,label,Label\na/1.png,a,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="one column 'label'"):
        load(root / "t.csv")


def test_a_group_torn_by_the_given_split_is_told(tree: Tree) -> None:
    root = tree(*many("a", 12), *many("b", 12))
    rows = [
        row | {"split": ("train", "val")[i % 2], "group": f"patient {i // 2 if i < 4 else i}"} for i, row in enumerate(_rows(12))
    ]
    dataset = load(_table(root / "t.csv", rows))
    assert {problem.kind: problem.n for problem in dataset.problems} == {"torn": 2}
