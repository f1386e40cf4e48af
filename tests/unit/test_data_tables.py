"""Tables of pictures: CSV, TSV and Parquet, with splits and groups, and what they refuse."""

from __future__ import annotations

import csv
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
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
    assert {problem.kind: problem.n for problem in dataset.problems} == {"unlabeled": 1}


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
    assert {problem.kind: problem.n for problem in dataset.problems} == {"missing": 2, "unlabeled": 1}
    assert "a/gone.png" in str(dataset.problems[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,kind\n1.png,a\n", "must have a column 'label', got 'kind, path'|must have a column 'label', got 'path, kind'"),
        ("", "must have a column 'path', got 'no header'"),
        ("path,label\n", "at least one row"),
        ("path,label\nno.png,a\n", "at least one labeled picture that exists, got 'no.png'"),
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


# ------------------------------------------------------------------------------------------- how tables really look


def _text(root: Path, text: str, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    (root / name).write_bytes(text.encode(encoding))
    return root / name


def test_an_unquoted_comma_is_refused_with_the_fix(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    text = "path,label\n" + "".join(f"a/{i}.png,wolf, gray\n" for i in range(4))
    with pytest.raises(DataError, match=r"header's 2 cells, row 2 has 3, got .*'gray'.*Put quotes"):
        load(_text(root, text))
    quoted = "path,label\n" + "".join(f'{kind}/{i}.png,"wolf, {kind}"\n' for i in range(8) for kind in "ab")
    assert load(_text(root, quoted)).classes == ("wolf, a", "wolf, b")
    trailing = "path,label\n" + "".join(f"{kind}/{i}.png,{kind},,\n" for i in range(8) for kind in "ab")
    assert len(load(_text(root, trailing))) == 16  # a spreadsheet's empty columns


def test_paths_of_windows_are_found(tree: Tree) -> None:
    root = tree(*many("img/a", 8), *many("img/b", 8))
    for separators in ("\\", "\\/"):
        rows = [f"img{separators[i % len(separators)]}{kind}{separators[0]}{i}.png,{kind}" for i in range(8) for kind in "ab"]
        dataset = load(_text(root, "path,label\n" + "\n".join(rows)))
        assert len(dataset) == 16
        assert dataset.problems == ()
        assert dataset.name_of(0) == "img/a/0.png"


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_table", ["NFC", "NFD"])
def test_accents_are_found_in_any_form(tree: Tree, on_disk: str, in_table: str) -> None:
    kinds = {form: unicodedata.normalize(form, "très/été") for form in ("NFC", "NFD")}
    mixed = kinds[on_disk].split("/")[0] + "/" + unicodedata.normalize("NFC", kinds[on_disk].split("/")[1])
    root = tree(*many(mixed, 8), *many("b", 8))
    rows = [f"{kinds[in_table]}/{i}.png,{kinds[in_table]}" for i in range(8)] + [f"b/{i}.png,b" for i in range(8)]
    dataset = load(_text(root, "path,label\n" + "\n".join(rows)))
    assert len(dataset) == 16
    assert dataset.classes == ("b", kinds["NFC"])
    assert all((root / dataset.name_of(row)).is_file() for row in range(16))


def test_more_than_a_tenth_missing_is_refused(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    rows = [f"{kind}/{i}.png,{kind}" for i in range(10) for kind in "ab"]
    few = load(_text(root, "path,label\n" + "\n".join([*rows, "a/10.png,a", "b/10.png,b"])))
    assert {problem.kind: problem.n for problem in few.problems} == {"missing": 2}
    with pytest.raises(DataError, match=r"at most 10% of its files may be missing, 3 of 23 are.*Note: 3 files.*a/10\.png"):
        load(_text(root, "path,label\n" + "\n".join([*rows, "a/10.png,a", "a/11.png,a", "b/10.png,b"])))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (r"C:\photos\2.png", "C: is a drive of another machine"),
        ("https://example.org/1.png", "pictures must be files, got 'https://example.org/1.png'. Download them"),
        ("file://server/1.png", "pictures must be files"),
        ("x" * 300 + ".png", "labeled picture that exists"),
        ("/".join(["y" * 200] * 30), "labeled picture that exists"),
        ("bad\0byte.png", "zero bytes"),
    ],
)
def test_paths_that_cannot_be_files(tree: Tree, cell: str, message: str) -> None:
    root = tree("1.png")
    with pytest.raises(DataError, match=message):
        load(_text(root, f"path,label\n{cell},a\n{cell},b\n"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides_the_encoding(tree: Tree, encoding: str) -> None:
    root = tree(*many("a"), *many("b"))
    text = "path,label\r\n" + "".join(f"{kind}/{i}.png,Kätzchen {kind}\r\n" for i in range(8) for kind in "ab")
    assert load(_text(root, text, encoding=encoding)).classes == ("Kätzchen a", "Kätzchen b")


@pytest.mark.parametrize(
    ("text", "encoding", "name", "message"),
    [
        ("path,label\n1.png,Köln\n", "cp1252", "t.csv", "must be a UTF-8 CSV table .*Windows-1252.*iconv -f cp1252"),
        ("path,label\n1.png,a\n", "utf-16-le", "t.csv", "UTF-16 without a byte order mark.*iconv -f utf-16le"),
        ("path,label\n1.png,Ā\n", "utf-16-be", "t.csv", "UTF-16 without a byte order mark"),
        ("path\tlabel\n1.png\ta\n", "utf-8", "t.csv", "separated by tabs: name it .tsv"),
        ("path,label\n1.png,a\n", "utf-8", "t.tsv", "separated by commas: name it .csv"),
        ("path|label\n1.png|a\n", "utf-8", "t.csv", "separated by bars: save it with commas"),
        ("filename,image,class\n1.png,1,a\n", "utf-8", "t.csv", "must have a column 'path'.*to 'path': 'filename', 'image'"),
        ("path,species,class\n1.png,a,b\n", "utf-8", "t.csv", "must have a column 'label'.*to 'label': 'species', 'class'"),
        (
            'path,label\n1.png,"a\n2.png,b\n',
            "utf-8",
            "t.csv",
            "must not go over several lines, one of row 2 does.*Close the quotes",
        ),
        (" PATH ,Label,path\n1.png,a,b\n", "utf-8", "t.csv", "must have one column 'path'"),
    ],
)
def test_tables_of_other_kinds_are_refused_with_the_fix(tree: Tree, text: str, encoding: str, name: str, message: str) -> None:
    root = tree("1.png", "2.png")
    with pytest.raises(DataError, match=message):
        load(_text(root, text, name, encoding))


def test_a_caption_may_go_over_several_lines(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    text = "path,caption,label\n" + "".join(f'{kind}/{i}.png,"one,\ntwo",{kind}\n' for i in range(8) for kind in "ab")
    assert load(_text(root, text)).classes == ("a", "b")


def test_gaps_in_the_group_are_groups_of_their_own(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    rows = [row | {"group": ("nan", "", "1.0", "1")[i % 4]} for i, row in enumerate(_rows())]
    dataset = load(_table(root / "t.csv", rows))
    groups = dataset.groups
    assert groups is not None
    assert len(set(groups.tolist())) == 11  # ten gaps, and one group of 1.0 and 1
    counts = sorted(np.unique(groups, return_counts=True)[1].tolist())
    assert counts == [1] * 10 + [10]


def test_a_group_that_stands_for_none_is_none_and_told(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    rows = [row | {"group": ("NA", "None", "?", "p7")[i % 4]} for i, row in enumerate(_rows())]
    dataset = load(_table(root / "t.csv", rows))
    assert dataset.groups is not None
    assert len(set(dataset.groups.tolist())) == 16
    assert "15 rows have a group that stands for none, and are each a group of their own: row 2" in str(dataset.problems[0])


def test_a_data_frame_and_a_dict_of_columns(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    root = tree(*many("a"), *many("b"))
    monkeypatch.chdir(root)
    frame = pandas.DataFrame(_rows())
    frame["split"] = ["train", "val"] * 10
    for data in (frame, frame.to_dict("list")):
        dataset = load(data)
        assert dataset.counts().tolist() == [[5, 5, 0], [5, 5, 0]]
        assert dataset.root == root
    frame["path"] = [root / path for path in frame["path"]]  # Path objects, absolute
    monkeypatch.chdir(root.parent)
    assert len(load(frame)) == 20
    arrow = pytest.importorskip("pyarrow").table(pandas.DataFrame(_rows()).to_dict("list"))
    monkeypatch.chdir(root)
    assert len(load(arrow)) == 20
    with pytest.raises(DataError, match="data frame: must have a column 'label'"):
        load(frame.drop(columns="label"))
    with pytest.raises(DataError, match="columns must have one length"):
        load({"path": ["a.png"], "label": []})


def test_every_error_tells_what_was_noted_before(tree: Tree) -> None:
    root = tree(*many("a"), "b/0.png")
    rows = [*_rows()[:10], {"path": "b/0.png", "label": ""}]
    with pytest.raises(DataError, match=r"at least two classes, got 'a'\. Note: 1 row of the table has no label.*: b/0\.png"):
        load(_table(root / "t.csv", rows))


def test_a_blank_before_a_quotation_mark_is_no_part_of_a_label(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    rows = "".join(f'{name}/{i}.png, "wolf, {name}"\n' for name in "ab" for i in range(8))
    assert load(_text(root, "path, label\n" + rows)).classes == ("wolf, a", "wolf, b")


def _written(root: Path, write: Callable[[str], str], header: str = "path,label") -> Path:
    return _text(root, f"{header}\n" + "".join(f"{write(f'{name}/{i}.png')},{name}\n" for name in "ab" for i in range(8)))


def test_files_are_found_whatever_the_case_of_their_letters(tree: Tree) -> None:
    data = load(_written(tree(*many("a"), *many("b")), str.upper))
    assert len(data) == 16
    assert "a/7.png" in data.names


def test_of_two_files_that_differ_in_case_alone_neither_is_guessed(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"), "a/X.png", "a/x.png")
    if len(list((root / "a").glob("[xX].png"))) < 2:
        pytest.skip("a file system that does not tell them apart")
    table = _written(root, str)
    table.write_text(table.read_text() + "a/x.PNG,a\n")
    data = load(table)
    assert len(data) == 16
    assert "a/x.PNG" in " ".join(map(str, data.problems))


def test_addresses_of_local_files_are_their_paths(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    (root / "a").rename(root / "a b")
    data = load(_written(root, lambda path: (root / path.replace("a/", "a b/")).as_uri()))
    assert len(data) == 16


def test_a_class_that_loses_all_its_files_is_named(tree: Tree) -> None:
    table = _written(tree(*many("a"), *many("b")), str)
    table.write_text(table.read_text() + "c/0.png,owl\n")
    assert "1 class has lost all its files and is left out: 'owl'" in map(str, load(table).problems)


def test_columns_that_look_like_a_split_or_a_group_are_told(tree: Tree) -> None:
    root = tree(*many("a"), *many("b"))
    rows = "".join(f"{name}/{i}.png,{name},{i == 7},{i // 2}\n" for name in "ab" for i in range(8))
    data = load(_text(root, "path,label,is_valid,patient_id\n" + rows))
    (told,) = (str(item) for item in data.problems if item.kind == "unused")
    assert "'is_valid' (write train, val or test for its cells in a column 'split' to use it)" in told
    assert "'patient_id' (rename it to 'group' to use it)" in told
    words = rows.replace("True", "Valid").replace("False", "train")
    (told,) = (str(item) for item in load(_text(root, f"path,label,subset,site\n{words}")).problems if item.kind == "unused")
    assert "'subset' (rename it to 'split' to use it)" in told
    assert load(_text(root, f"path,label,split,site\n{words}")).given_split


def test_unlabeled_is_no_class(tree: Tree) -> None:
    assert load(tree(*many("a"), *many("b"), *many("unlabeled", 4))).classes == ("a", "b")
