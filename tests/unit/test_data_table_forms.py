"""The forms in which tables are met: headings of other names, quotes, comments, columns of 0 and 1, paths of other machines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest
from tests.oracles.data_pictures import make_tree, many

from descend.data import Dataset, load
from descend.data.new_pictures import read_new_pictures
from descend.errors import DataError

N = 8  # pictures of each class
Row = Callable[[int, str], str]  # number, class -> the line


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


def written(root: Path, row: Row, header: str = "path,label", *, folder: str = "img", name: str = "t.csv") -> Path:
    """Make pictures ``0.png``, ``1.png``, ... of cats (even) and dogs (odd) in a folder, and a table with a line for each."""
    make_tree(root, *many(folder, 2 * N))
    lines = [header, *(row(i, ("cat", "dog")[i % 2]) for i in range(2 * N))]
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


def labels(dataset: Dataset) -> dict[str, str]:
    return {dataset.name_of(row): dataset.classes[dataset.labels[row]] for row in range(len(dataset))}


def expected(folder: str = "img") -> dict[str, str]:
    return {f"{folder}/{i}.png": ("cat", "dog")[i % 2] for i in range(2 * N)}


def told(dataset: Dataset) -> dict[str, str]:
    return {problem.kind: str(problem) for problem in dataset.problems}


# name -> (header, line): each is read as if it were written path,label
PLAIN: dict[str, tuple[str, Row]] = {
    "single quotes": ("'path','label'", lambda i, kind: f"'img/{i}.png','{kind}'"),
    "single quotes below a bare header": ("path,label", lambda i, kind: f"'img/{i}.png', '{kind}'"),
    "single quotes around labels": ("path,label", lambda i, kind: f"img/{i}.png,'{kind}'"),
    "a heading in quotes alone": ("'path','label'", lambda i, kind: f"img/{i}.png,{kind}"),
    "a comment": ("# made by hand, 2020\n#\npath,label", lambda i, kind: f"img/{i}.png,{kind}"),
    "a header that is a comment": ("# path,label", lambda i, kind: f"img/{i}.png,{kind}"),
    "a column of numbers called #": ("#,path,label", lambda i, kind: f"{i},img/{i}.png,{kind}"),
    "blank lines first": ("\n\npath,label", lambda i, kind: f"img/{i}.png,{kind}"),
    "Excel's comma": ("sep=,\npath,label", lambda i, kind: f"img/{i}.png,{kind}"),
    "Excel's semicolon": ('"sep=;"\npath;label', lambda i, kind: f"img/{i}.png;{kind}"),
    "percent": ("path,label", lambda i, kind: f"%69mg/{i}%2Epng,{kind}"),
    "unseen marks in a path": ("path,label", lambda i, kind: f"im\u200bg/{i}.png,{kind}"),
    "mixed separators": ("path,label", lambda i, kind: f".\\img/{i}.png,{kind}"),
}  # fmt: skip


@pytest.mark.parametrize("form", PLAIN)
def test_forms_that_are_read_as_they_are_meant(form: str, tmp_path: Path) -> None:
    header, row = PLAIN[form]
    dataset = load(written(tmp_path / "set", row, header))
    assert labels(dataset) == expected()
    assert dataset.problems == ()


def test_single_quotes_keep_a_comma_and_apostrophes_are_letters(tmp_path: Path) -> None:
    quoted = load(written(tmp_path / "a", lambda i, kind: f"'img/{i}.png','{kind}, gray'"))
    assert quoted.classes == ("cat, gray", "dog, gray")
    apostrophes = load(written(tmp_path / "b", lambda i, kind: f"img/{i}.png,'s {kind}'s"))
    assert apostrophes.classes == ("'s cat's", "'s dog's")


def test_a_percent_sign_in_a_file_name_stays_and_none_leads_out(tmp_path: Path) -> None:
    dataset = load(written(tmp_path / "a", lambda i, kind: f"100%25/{i}.png,{kind}", folder="100%25"))
    assert labels(dataset) == expected("100%25")
    make_tree(tmp_path, "secret.png")
    with pytest.raises(DataError, match="labeled picture that exists"):
        load(written(tmp_path / "b", lambda i, kind: f"%2e%2e/secret.png,{kind}"))
    with pytest.raises(DataError, match="labeled picture that exists"):
        load(written(tmp_path / "c", lambda i, kind: f"../../{i}/secret,{kind}"))


# heading -> line: headings of public tables (APTOS 2019, Dog Breed, EyePACS, Landmarks, HAM10000, GTSRB, Hugging Face)
HEADINGS: dict[str, Row] = {
    "id_code,diagnosis": lambda i, kind: f"{i},{kind}",
    "id,breed": lambda i, kind: f"{i},{kind}",
    "image,level": lambda i, kind: f"{i},{kind}",
    "id,url,landmark_id": lambda i, kind: f"{i},http://x.org/{i},{kind}",
    "image_id,dx,dx_type,age": lambda i, kind: f"{i},{kind},histo,{i}",
    "Width,Height,ClassId,Path": lambda i, kind: f"3,4,{kind},img/{i}.png",
    "file_name,label": lambda i, kind: f"img/{i}.png,{kind}",
    "Image Index,Finding Label": lambda i, kind: f"{i}.png,{kind}",
    "image,Target": lambda i, kind: f"{i}.png,{kind}",
}  # fmt: skip


@pytest.mark.parametrize("header", HEADINGS)
def test_headings_of_other_names_are_taken_and_told(header: str, tmp_path: Path) -> None:
    dataset = load(written(tmp_path / "set", HEADINGS[header], header))
    assert labels(dataset) == expected()
    names = header.split(",")
    taken = [
        name
        for name in names
        if f"{name!r} as path" in told(dataset)["headings"] or f"{name!r} as label" in told(dataset)["headings"]
    ]
    assert len(taken) == 2 - sum(name.lower() in ("path", "label") for name in names)


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("id,has_cactus", "{i},{hot}", "must have a column 'label'.*to 'label': 'has_cactus'"),
        (
            "image_name,sex,diagnosis,target",
            "{i},m,{kind},{hot}",
            "must have a column 'label'.*to 'label': 'diagnosis', 'target'",
        ),
        ("a,b,c", "{i},{kind},{kind}", "must have a column 'path', got 'a, b, c'"),
        ("image,cat,dog", "{i},0.{n},0.3", "must have a column 'label'.*mark that of each picture with 1 and the others with 0"),
        ("My pictures\nof 2020\npath,label", "img/{i}.png,{kind}", "the first line must name the columns, .*Line 3 seems to"),
        ('"path,label"', '"img/{i}.png,{kind}"', "cells must be quoted one by one, got 'path,label'"),
        ("path   label", "img/{i}.png   {kind}", "must be separated by commas.*They are separated by blanks"),
        ("label,pixel0,pixel1", "{hot},0,255", "The cells hold pixels: in Python"),
        ("img/x.png,cat", "img/{i}.png,{kind}", "The first line seems to name a picture: put the line path,label above it"),
        ("path,label", "{n},img/{i}.png,{kind}", "must name the column of row numbers too"),
        ("path,label", "img/{i}.png,{measure}", "labels must be whole numbers or words, got '0.5'"),
    ],
)
def test_what_remains_open_is_refused_with_the_fix(header: str, line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load(written(tmp_path / "set", lambda i, kind: line.format(i=i, n=i + 1, kind=kind, hot=i % 2, measure=i + 0.5), header))


@pytest.mark.parametrize("marks", [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("", "x"), ("-1", "1"), ("no", "Yes")])
def test_columns_of_zeros_and_ones_are_classes(marks: tuple[str, str], tmp_path: Path) -> None:
    def row(i: int, kind: str) -> str:
        return f"{i}," + ",".join(marks[kind == name] for name in ("bird", "cat", "dog"))

    dataset = load(written(tmp_path / "set", row, "image_id, bird, cat, dog"))
    assert labels(dataset) == expected()
    names = "2 columns of 0 and 1 are taken as the classes: 'cat', 'dog'"  # an empty column is none of them
    names = names if "" in marks else "3 columns of 0 and 1 are taken as the classes: 'bird', 'cat', 'dog'"
    assert names in " ".join(map(str, dataset.problems))


def test_minus_one_beside_zero_is_no_class_and_not_none(tmp_path: Path) -> None:
    must = r"must hold 0 and 1, or -1 and 1, 'dog' holds all three, got 'row 4: -1'\. If -1 says .* uncertain"
    with pytest.raises(DataError, match=must):
        load(written(tmp_path, lambda i, kind: f"{i},1,{-1 if i == 2 else 0}" if i % 2 == 0 else f"{i},0,1", "id,cat,dog"))


def test_columns_of_minus_one_stand_beside_flags_and_may_have_empty_cells(tmp_path: Path) -> None:
    def row(i: int, kind: str, cell: str = "") -> str:
        return f"{i}," + ",".join("1" if kind == name else "" if i == 3 else "-1" for name in ("cat", "dog")) + cell

    assert labels(load(written(tmp_path / "empty", row, "id,cat,dog"))) == expected()
    flagged = load(written(tmp_path / "flag", lambda i, kind: row(i, kind, f",{int(i < 5)}"), "id,cat,dog,male"))
    assert labels(flagged) == expected()
    assert "2 columns of 0 and 1 are taken as the classes: 'cat', 'dog'" in " ".join(map(str, flagged.problems))
    mixed = load(
        written(tmp_path / "mixed", lambda i, kind: f"{i},{int(kind == 'cat')},{1 if kind == 'dog' else -1}", "id,cat,dog")
    )
    assert labels(mixed) == expected()


@pytest.mark.parametrize(("value", "shown"), [("1", "row 3: rust and scab"), ("0", "row 2: none")])
def test_rows_of_several_classes_or_of_none_are_refused(value: str, shown: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"must have one 1 in its columns 'rust', 'scab', 8 of 16 have not, got .*{shown}.*'label'"
    ):
        load(written(tmp_path / "set", lambda i, kind: f"{i},{value},{i % 2}", "image_id,rust,scab"))


def test_a_parquet_table_has_other_headings_too(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    make_tree(tmp_path / "set", *many("img", 2 * N))
    frame = pandas.DataFrame({"id": range(2 * N), "cat": [1, 0] * N, "dog": [0, 1] * N, "raw": [b"x"] * 2 * N})
    frame.to_parquet(tmp_path / "set" / "t.parquet")
    assert labels(load(tmp_path / "set" / "t.parquet")) == expected()


# what an absolute path of another machine, or a bare id, is read as: the picture of that name below the table
ELSEWHERE: dict[str, Callable[[int], str]] = {
    "UNC": lambda i: rf"\\server\share\img\{i}.png",
    "a drive": lambda i: rf"C:\Users\bob\img\{i}.png",
    "a drive, forward": lambda i: f"d:/set/img/{i}.png",
    "another home": lambda i: f"/home/bob/set/img/{i}.png",
    "a leading slash": lambda i: f"/img/{i}.png",
    "a folder above": lambda i: f"../set2/img/{i}.png",
    "no folder": lambda i: f"{i}.png",
    "no ending": lambda i: f"img/{i}",
    "an id": str,
    "another ending": lambda i: f"img/{i}.jpg",
}  # fmt: skip


@pytest.mark.parametrize("form", ELSEWHERE)
def test_paths_of_elsewhere_are_found_and_told(form: str, tmp_path: Path) -> None:
    dataset = load(written(tmp_path / "set", lambda i, kind: f"{ELSEWHERE[form](i)},{kind}"))
    assert labels(dataset) == expected()
    assert "16 paths lead to no file as they are written, and are taken for others" in told(dataset)["paths"]
    assert f"{ELSEWHERE[form](0)} for img/0.png" in told(dataset)["paths"]


def test_new_pictures_are_found_as_those_of_training_are(tmp_path: Path) -> None:
    table = written(tmp_path / "set", lambda i, kind: str(i), "image_id")
    assert read_new_pictures(table).paths == [str(tmp_path / "set" / f"img/{i}.png") for i in range(2 * N)]
    assert read_new_pictures(table, "image_id").ids == [str(i) for i in range(2 * N)]


def test_a_column_of_files_names_them_whatever_identifies_the_rows(tmp_path: Path) -> None:
    files = [f"img/{i}.png" for i in reversed(range(2 * N))]
    for header, name in (("id,filename", "{}"), ("id,filename", "{}.png"), ("image_id,path", "x{}")):
        table = written(tmp_path / "set", lambda i, _, name=name: f"{name.format(i)},{files[i]}", header)
        found = read_new_pictures(table, header.partition(",")[0])
        assert found.paths == [str(tmp_path / "set" / file) for file in files]
        assert found.ids == [name.format(i) for i in range(2 * N)]
    with pytest.raises(DataError, match="Rename the one that names the files to 'path': 'photo', 'image'"):
        read_new_pictures(written(tmp_path / "two", lambda i, kind: "a,b", "photo,image"), "photo")


def test_identifiers_stay_as_they_are_written(tmp_path: Path) -> None:
    ids = ["null", "NA", "x  y", "e\u0301", "007", "1.0", "a\u200bb", "n/a"]
    table = written(tmp_path / "a", lambda i, kind: f" {ids[i % 8]} ,img/{i}.png", "id,path")
    assert read_new_pictures(table, "id").ids == ids * 2
    columns = {"id": [1.0, 2.0, None], "path": [f"img/{i}.png" for i in range(3)]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a" / "t.parquet")
    assert read_new_pictures(tmp_path / "a" / "t.parquet", "id").ids == ["1", "2", ""]


def test_no_path_is_taken_for_another_where_that_may_be_another_picture(tmp_path: Path) -> None:
    two = written(tmp_path / "a", lambda i, kind: f"{i},{kind}")
    make_tree(tmp_path / "a", *many("old", 2 * N))
    with pytest.raises(DataError, match=r"'img/0\.png' and 'old/0\.png' exist: write which is meant"):
        load(two)
    folded = written(tmp_path / "b", lambda i, kind: f"/data/{kind}/{i // 2}.png,{kind}")  # cat/0 and dog/0 are no one picture
    with pytest.raises(DataError, match="labeled picture that exists"):
        load(folded)
    some = written(tmp_path / "c", lambda i, kind: f"{'img' if i else 'old'}/{i}.png,{kind}")
    dataset = load(some)
    assert labels(dataset) == {name: kind for name, kind in expected().items() if name != "img/0.png"}
    assert "old/0.png" in told(dataset)["missing"]


@pytest.mark.parametrize("name", ["labels.txt", "labels.xlsx", "labels.json"])
def test_lists_that_are_no_tables_are_told_how_to_become_one(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"save it as \.csv with the columns path,label"):
        load(written(tmp_path / "set", lambda i, kind: f"img/{i}.png,{kind}", name=name))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["img/0.png", '""'], "every row must name a picture's file, row 3 does not, got ''"),
        (["img/0.png", "img"], "every row must name a picture's file, row 3 does not, got 'img'"),
        (["img/0.png", "/etc"], "pictures must lie below the table's folder, got '/etc'"),
    ],
)
def test_rows_of_new_pictures_that_are_no_files_are_refused(rows: list[str], message: str, tmp_path: Path) -> None:
    root = make_tree(tmp_path / "set", *many("img", 2))
    (root / "new.csv").write_text("\n".join(["path", *rows]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_new_pictures(root / "new.csv")


def test_new_pictures_of_another_machine_are_found(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "set", *many("img", 2))
    (root / "new.csv").write_text("path\n/home/bob/img/0.png\n/home/bob/img/1.png\n", encoding="utf-8")
    assert read_new_pictures(root / "new.csv").paths == [str(root / "img/0.png"), str(root / "img/1.png")]


def test_an_unclosed_quote_in_another_column_does_not_swallow_rows(tmp_path: Path) -> None:
    def row(i: int, kind: str) -> str:
        return f"img/{i}.png,{kind}," + {3: '"five inches', 9: 'wide"'}.get(i, "note")

    with pytest.raises(
        DataError, match=r"a cell with rows in it must not go over several lines, one of row 5 does, got 'img/4\.png,cat,note'"
    ):
        load(written(tmp_path / "set", row, "path,label,caption"))


def test_a_comma_in_a_label_before_an_empty_cell_is_refused(tmp_path: Path) -> None:
    def row(i: int, kind: str) -> str:
        return f"img/{i}.png,{kind}," if i % 2 else f"img/{i}.png,{kind}, gray,"

    with pytest.raises(DataError, match=r"header's 3 cells, row 2 has 4, got .*'gray'.*Put quotes"):
        load(written(tmp_path / "a", row, "path,label,note"))
    spreadsheet = load(written(tmp_path / "b", lambda i, kind: f"img/{i}.png,{kind},,"))  # empty columns behind all rows
    assert labels(spreadsheet) == expected()


def test_a_comma_in_a_label_is_refused_or_told_where_empty_cells_are_left_out(tmp_path: Path) -> None:
    def row(i: int, kind: str, comma: str) -> str:
        return f"img/{i}.png,{kind}" + (f"{comma}gray" if i == 2 else "")

    must = r"the header's 3 cells, row 2 has not, 4 only by a comma, got .*' gray'.*Put quotes"
    with pytest.raises(DataError, match=must):
        load(written(tmp_path / "a", lambda i, kind: row(i, kind, ", "), "path,label,group"))
    found = load(written(tmp_path / "b", lambda i, kind: row(i, kind, ","), "path,label,group"))
    expected = "15 rows have fewer cells than others, what they lack is empty; if a label holds a comma, quote it: row 2, row 3"
    assert expected in told(found)["table"]


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("path,label,split,note", "img/2.png,wolf, gray,train"), ("path,label,note,split", "img/2.png,wolf, gray,seen"),
        ("label,path,note", "wolf, gray,img/2.png"), ("path,label,split,note", "img/2, b.png,cat,train"),
    ],
)  # fmt: skip
def test_a_comma_that_moves_cells_into_other_columns_is_refused(header: str, line: str, tmp_path: Path) -> None:
    def row(i: int, kind: str) -> str:
        return line if i == 2 else f"{kind},img/{i}.png" if header.startswith("label") else f"img/{i}.png,{kind}"

    with pytest.raises(DataError, match=r"4 only by a comma, got .*Put quotes"):
        load(written(tmp_path, row, header))


@pytest.mark.parametrize(
    ("header", "line", "n_told"),
    [
        ("path,label,notes", "img/2.png,cat, nice one", 1),
        ("path,label,notes", "img/2.png, cat,nice one", 0),
        ("path,label,group,notes", "img/2.png,cat, p1,seen", 0),
        ("path,label,notes,more", "img/2.png,cat,a, b", 0),
    ],
)
def test_blanks_here_and_there_in_uneven_rows_are_read(header: str, line: str, n_told: int, tmp_path: Path) -> None:
    found = load(written(tmp_path, lambda i, kind: line if i == 2 else f"img/{i}.png,{kind}", header))
    assert labels(found) == expected()
    notes = [str(problem) for problem in found.problems if "comma in its label" in str(problem)]
    assert [note.endswith("quote the label: row 4") for note in notes] == [True] * n_told
    assert "group" in header or "fewer cells" not in told(found).get("table", "")


def test_a_blank_before_one_group_of_several_is_told(tmp_path: Path) -> None:
    def row(i: int, kind: str) -> str:
        return f"img/{i}.png,{kind}" + {2: ",p1", 3: ", p2"}.get(i, "")

    found = load(written(tmp_path, row, "path,label,group"))
    assert (labels(found), found.groups is None) == (expected(), False)
    notes = [str(problem) for problem in found.problems if problem.kind == "table"]
    assert [note.rpartition(": ")[2] for note in notes] == ["row 2, row 3, row 6, ...", "row 5"]


def test_blanks_before_labels_in_a_row_with_a_split_are_read(tmp_path: Path) -> None:
    def row(i: int, kind: str) -> str:
        return f"img/{i}.png, {kind},train,nice" if i == 2 else f"img/{i}.png,{kind},{'test' if i > 9 else 'train'}"

    found = load(written(tmp_path, row, "path,label,split,notes"))
    assert (labels(found), told(found).get("table")) == (expected(), None)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("path,label,group,note", lambda i, kind: f"img/{i}.png,{kind}"),
        ("path, label, note", lambda i, kind: f"img/{i}.png, {kind}"),
        ("path,label,note", lambda i, kind: f"img/{i}.png,{kind}, " + "seen" * (i == 1)),
    ],
)
def test_empty_cells_may_be_left_out(tmp_path: Path, header: str, row: Row) -> None:
    found = load(written(tmp_path, row, header))
    assert (labels(found), told(found)) == (expected(), {})


def test_lines_that_end_in_another_delimiter_are_refused(tmp_path: Path) -> None:
    for header in ("path,label", "path,label;"):
        with pytest.raises(DataError, match=r"its lines must not end in semicolons, got 'cat;'\. Remove them"):
            load(written(tmp_path, lambda i, kind: f"img/{i}.png,{kind};", header))
    assert labels(load(written(tmp_path, lambda i, kind: f"img/{i}.png,{kind},1 2;", "path,label,note"))) == expected()
