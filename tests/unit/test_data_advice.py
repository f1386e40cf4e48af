"""What is said of data that come in another shape than is meant, and of rows and files that stand for nothing."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.oracles.data_pictures import encoded, scene

from descend.data import Dataset, load
from descend.data.encodings import likely_encodings
from descend.data.new_pictures import read_new_pictures
from descend.errors import DataError
from descend.train.picture_sources import picture_sources

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123\n"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


def _pictures(root: Path, *folders: str, n: int = 4) -> Path:
    for at, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for i in range(n):
            (root / folder / f"{i}.png").write_bytes(encoded(scene(8, 8, 100 * at + i)))
    return root


def _told(data: Dataset) -> dict[str, str]:
    return {item.kind: str(item) for item in data.problems}


def test_an_array_of_no_dimension_is_what_it_holds(tmp_path: Path) -> None:
    root = _pictures(tmp_path / "set", "cat", "dog")
    assert load(np.array(str(root))).classes == ("cat", "dog")
    assert picture_sources(np.array(str(root / "cat" / "1.png"))).names == [str(root / "cat" / "1.png")]
    with pytest.raises(DataError, match=r"Give a list of paths or of pictures, or an array of pixels"):
        load((np.array("x.png"), ["cat"]))


def test_rows_that_were_emptied_are_no_rows(tmp_path: Path) -> None:
    root = _pictures(tmp_path, "img", n=8)
    rows = [f"img/{i}.png,{'ab'[i % 2]}" for i in range(8)]
    (root / "t.csv").write_text("\n".join([",,", "path,label", *rows[:4], ",,", " , ", *rows[4:], ",,,"]))
    data = load(root / "t.csv", split=False)
    assert len(data) == 8
    assert not data.problems
    (root / "new.csv").write_text("path,note\nimg/0.png,x\n,,\nimg/1.png,\n,\n")
    assert [Path(path).name for path in read_new_pictures(root / "new.csv").paths] == ["0.png", "1.png"]


def test_a_table_of_new_pictures_tells_which_files_may_be_meant(tmp_path: Path) -> None:
    root = _pictures(tmp_path, "train", "test")
    (root / "new.csv").write_text("id\n0\n1\n2\n")
    with pytest.raises(DataError, match=r"'test/0\.png' and 'train/0\.png' exist: write which is meant"):
        read_new_pictures(root / "new.csv")


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("größe,élève", "cp1252", {"cp1252"}), ("l\u2019été – “x”", "cp1252", {"cp1252"}), ("ネコ,いぬ", "cp932", {"cp932"}),
        ("кошка,собака", "cp1251", {"cp1251"}), ("貓,狗", "big5", {"big5"}),
    ],
)  # fmt: skip
def test_encodings_are_known_by_their_letters(text: str, encoding: str, expected: set[str], tmp_path: Path) -> None:
    assert {*likely_encodings(text.encode(encoding))} == expected
    (tmp_path / "t.csv").write_bytes(f"path,label\nimg/0.png,{text}\n".encode(encoding))
    with pytest.raises(DataError, match=f"iconv -f {encoding} -t utf-8"):
        load(tmp_path / "t.csv")


@pytest.mark.parametrize(("text", "encoding"), [("猫,犬", "cp932"), ("猫,狗", "gb18030"), ("고양이,개", "euc_kr")])
def test_encodings_of_which_several_fit_are_named(text: str, encoding: str) -> None:
    assert encoding in likely_encodings(text.encode(encoding))
    assert "cp1252" not in likely_encodings(text.encode(encoding))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\na.png,cat\n" + bytes(600), "It ends in zeros, as a copy that was interrupted does"),
        (b"path,label\na.png,c\0at\nb.png,dog\n", "It is damaged"),
        ("path,label\na.png,cat\n".encode("utf-16-be"), "UTF-16 without a byte order mark: .* iconv -f utf-16be"),
        ("path,label\na.png,cat\n".encode("utf-16-le"), "UTF-16 without a byte order mark: .* iconv -f utf-16le"),
        (POINTER, r"a pointer of Git LFS in its place\)\. Fetch it: git lfs pull"),
    ],
)
def test_tables_with_zeros_and_pointers_say_what_they_are(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "t.csv")


def test_pointers_of_git_say_how_the_pictures_are_fetched(tmp_path: Path) -> None:
    root = _pictures(tmp_path / "set", "cat", "dog")
    (root / "cat" / "0.png").write_bytes(POINTER)
    assert "cat/0.png (a pointer of Git LFS in its place: git lfs pull)" in _told(load(root, split=False))["unreadable"]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            ["train/cats", "train/dogs", "test/cat", "test/dog"],
            r"call their class folders alike: 'test' holds 'cat', 'dog', 'train'",
        ),
        (
            ["train/0", "train/1", "test/00", "test/01"],
            "call their class folders alike: 'test' holds '00', '01', 'train' holds '0', '1'",
        ),
        (["train/cats", "train/dogs", "test/cat", "test/dogs"], "'cat' has none.* Did you mean 'cats'?"),
    ],
)
def test_splits_whose_classes_are_called_otherwise_say_so(folders: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load(_pictures(tmp_path / "set", *folders)).check_trainable()


@pytest.mark.parametrize(("first", "line"), [
    ("TRAIN,a.png,cat", "split,path,label"), ("a.png,cat", "path,label"), ("cat,a.png", "label,path"),
    ("VALIDATION,gs://b/a.jpg,cat,x", "split,path,label,more1"),
])  # fmt: skip
def test_the_header_that_a_table_lacks_has_as_many_columns(first: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{first}\n{first}\n")
    with pytest.raises(DataError, match=f"put the line {line} above it"):
        load(tmp_path / "t.csv")


def test_pictures_in_the_last_dimension_are_told_to_come_first() -> None:
    with pytest.raises(DataError, match=r"transpose\(3, 0, 1, 2\)"):
        load((np.zeros((32, 32, 3, 10), np.uint8), list("ab") * 5))


def _clear(kind: str, seed: int) -> bytes:
    colors = scene(8, 8, seed)
    buffer = BytesIO()
    image: Any = Image.fromarray(np.dstack([colors, np.zeros((8, 8), np.uint8)]))
    (image if kind == "RGBA" else image.convert("LA")).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["RGBA", "LA"])
def test_wholly_transparent_pictures_with_colors_beneath_say_so(kind: str, tmp_path: Path) -> None:
    root = _pictures(tmp_path / "set", "cat", "dog")
    (root / "cat" / "0.png").write_bytes(_clear(kind, 1))
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(root / "dog" / "0.png")
    told = _told(load(root, split=False))
    assert "1 picture is wholly transparent, and nothing is seen of the colors beneath" in told["clear"]
    assert "cat/0.png" in told["clear"]
    assert "dog/0.png" in told["blank"]
    assert "cat/0.png" not in told["blank"]


@pytest.mark.parametrize("n_lacking", [1, 5])
def test_ids_are_not_taken_for_the_files_of_another_folder_where_theirs_lack_some(n_lacking: int, tmp_path: Path) -> None:
    root = _pictures(tmp_path, "train", "test", n=20)
    for i in range(n_lacking):
        (root / "train" / f"{i}.png").unlink()
    (root / "train.csv").write_text("id,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(20)))
    for read in (load, read_new_pictures):
        with pytest.raises(DataError, match=r"'test/(\d+)\.png' and 'train/\1\.png' exist: write which is meant"):
            read(root / "train.csv")


def test_ids_are_found_although_a_few_files_lie_in_a_second_folder_too(tmp_path: Path) -> None:
    root = _pictures(tmp_path, "img", n=20)
    _pictures(tmp_path, "best", n=2)
    (root / "train.csv").write_text("id,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(20)))
    assert {name.partition("/")[0] for name in load(root / "train.csv", split=False).names} == {"img"}


def test_a_table_whose_pictures_are_still_packed_says_so(tmp_path: Path) -> None:
    (tmp_path / "train.zip").write_bytes(b"PK")
    (tmp_path / "train.csv").write_text("id,label\n1,a\n2,b\n")
    with pytest.raises(DataError, match=r"'train\.zip' lies beside the table: unpack it first"):
        load(tmp_path / "train.csv")


def test_quotation_marks_behind_backslashes_do_not_become_part_of_the_class(tmp_path: Path) -> None:
    root = _pictures(tmp_path, "img", n=12)
    rows = [(f"img/{i}.png", r'"5\" nail"' if i % 2 else "screw") for i in range(12)]
    (root / "t.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    with pytest.raises(DataError, match="a quotation mark within quotes must be doubled, line 3 has a backslash before it"):
        load(root / "t.csv")
    rows = [(f'"img\\{i}.png"', r'"C:\a\"' if i % 2 else r"5\" nail") for i in range(12)]  # here a backslash is itself
    (root / "t.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    assert set(load(root / "t.csv").classes) == {"C:\\a\\", r"5\" nail"}


def test_a_coordinate_is_no_class(tmp_path: Path) -> None:
    root = _pictures(tmp_path, "img", n=12)
    (root / "t.csv").write_text("image,x,y\n" + "".join(f"img/{i}.png,{i},{i % 2}\n" for i in range(12)))
    with pytest.raises(DataError, match="must have a column 'label', got 'image, x, y'"):
        load(root / "t.csv")


def test_kinds_that_hold_kinds_are_told(tmp_path: Path) -> None:
    told = _told(load(_pictures(tmp_path / "a", "animal/cat", "animal/dog", "plant/fir", "plant/oak")))
    assert "'animal/cat', 'animal/dog', 'plant/fir', 'plant/oak'; move these up if they are the classes" in told["layout"]
    subjects = _pictures(tmp_path / "b", "cat/p1", "cat/p2", "dog/p3", "dog/p4")
    assert "layout" not in _told(load(subjects))
