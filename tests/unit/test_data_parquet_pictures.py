"""Parquet with the pictures in it: a file, shards or an address, as Hugging Face writes them; hostile ones are bounded."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from descend.data import decoded, decoded_cache, load, parquet_pictures
from descend.data.archives import KIND
from descend.errors import DataError
from descend.files import CacheFolder
from descend.train.picture_sources import picture_sources


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def written(path: Path, columns: dict[str, Any], names: list[str] | None = None, **how: Any) -> Path:
    """Write a table as Hugging Face does; names: of the classes that the column ``label`` numbers."""
    table = pa.table(columns)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, **how)
    return path


def pictures(numbers: range) -> list[dict[str, Any]]:
    return [{"bytes": png(number), "path": f"n{number}.JPEG"} for number in numbers]


def small(path: Path, numbers: range = range(24), **how: Any) -> Path:
    columns = {"image": pictures(numbers), "label": [number % 2 for number in numbers]}
    return written(path, columns, ["bee", "ant"], **how)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


def test_a_file_holds_its_pictures_bytes_and_the_names_of_its_classes(tmp_path: Path) -> None:
    path = small(tmp_path / "pets.parquet", row_group_size=5)
    dataset = load(path)
    assert (dataset.name, dataset.classes, len(dataset), dataset.given_split) == ("pets", ("ant", "bee"), 24, False)
    held = {dataset.source(row).read(): dataset.classes[dataset.labels[row]] for row in range(24)}  # pyright: ignore[reportAttributeAccessIssue]
    assert held == {png(number): ["bee", "ant"][number % 2] for number in range(24)}
    assert "0000003-n3.png" in {dataset.name_of(row) for row in range(24)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_pictures, "_look", lambda *_: pytest.fail("it is listed already"))
        assert load(path).fingerprint == dataset.fingerprint
    small(path, range(30))
    assert len(load(path)) == 30
    assert not CacheFolder().usage().get(KIND), "nothing is unpacked"


def test_one_that_hugging_face_could_have_written_otherwise(tmp_path: Path) -> None:
    columns = {"img": [png(number) for number in range(12)], "label": ["oak", "elm", None] * 4, "group": [1, 1, 1, 2, 2, 2] * 2}
    dataset = load(written(tmp_path / "t.parquet", columns))
    assert (dataset.classes, len(dataset)) == (("elm", "oak"), 8)
    assert dataset.groups is not None
    assert len(set(dataset.groups.tolist())) == 2
    assert any("no label" in str(problem) for problem in dataset.problems)


def test_an_unknown_label_is_none_and_an_impossible_one_is_refused(tmp_path: Path) -> None:
    labels = [0, 1, -1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    path = written(tmp_path / "t.parquet", {"image": pictures(range(12)), "label": labels}, ["a", "b"])
    assert len(load(path)) == 11
    path = written(tmp_path / "u.parquet", {"image": pictures(range(3)), "label": [0, 2, 1]}, ["a", "b"])
    with pytest.raises(DataError, match=r"u\.parquet: labels must number its 2 classes, .* row 2 does not, got 2"):
        load(path)


@pytest.mark.parametrize("layout", ["{}-00000-of-00001.parquet", "data/{}-00000-of-00001.parquet", "{}/0000.parquet"])
def test_shards_tell_the_split(layout: str, tmp_path: Path) -> None:
    for split, numbers in (("train", range(16)), ("validation", range(16, 22)), ("test", range(22, 30))):
        small(tmp_path / "photos" / layout.format(split), numbers)
    (tmp_path / "photos" / "README.md").write_text("a set")
    dataset = load(tmp_path / "photos")
    assert (dataset.name, dataset.given_split) == ("photos", True)
    assert [len(dataset.indices(split)) for split in ("train", "val", "test")] == [16, 6, 8]


def test_a_column_split_counts_before_names(tmp_path: Path) -> None:
    columns = {"image": pictures(range(12)), "label": [0, 1] * 6, "split": ["train"] * 8 + ["test"] * 4}
    dataset = load(written(tmp_path / "x" / "train-0.parquet", columns))
    assert len(dataset.indices("test")) == 4


def test_a_lone_file_is_divided_whatever_it_is_called(tmp_path: Path) -> None:
    dataset = load(small(tmp_path / "test" / "train-00000-of-00001.parquet"))
    assert not dataset.given_split
    assert len(dataset.indices("test"))


def test_an_address_of_a_file_fetches_that_file_alone(tmp_path: Path) -> None:
    path = small(tmp_path / "pets.parquet")
    system = fsspec.filesystem("memory")
    system.pipe("/parquet/pets.parquet", path.read_bytes())
    system.pipe("/parquet/other.bin", b"x" * 1000)
    try:
        assert len(load("memory://parquet/pets.parquet")) == 24
        fetched = [entry for entry in (tmp_path / "cache" / "fetched").rglob("*") if entry.is_file()]
        assert [entry.name for entry in fetched] == ["pets.parquet"]
        for split in ("train", "test"):
            system.pipe(f"/parquet/photos/data/{split}-0.parquet", path.read_bytes())
        assert load("memory://parquet/photos").given_split
    finally:
        system.rm("/parquet", recursive=True)


def test_new_pictures_may_come_in_one(tmp_path: Path) -> None:
    path = written(tmp_path / "new.parquet", {"image": pictures(range(4)), "id": [1, 2, 3, 4]})
    found = picture_sources([path])
    assert found.names == [f"{path}/{number:07}-n{number}.png" for number in range(4)]
    assert [source.read() for source in found.sources] == [png(number) for number in range(4)]  # pyright: ignore[reportAttributeAccessIssue]
    small(tmp_path / "shards" / "train-0.parquet", range(3))
    small(tmp_path / "shards" / "train-1.parquet", range(3))
    assert len(picture_sources(str(tmp_path / "shards")).sources) == 6
    with pytest.raises(DataError, match=r"must have a column of labels, got 'image, id'\. Call it 'label'"):
        load(path)


def test_rows_without_a_picture_are_named_among_new_ones(tmp_path: Path) -> None:
    """Who joins answers to rows by their order would give the next one's to each."""
    cells = [*pictures(range(1)), None, *pictures(range(2, 3)), {"bytes": None, "path": "d.png"}, *pictures(range(4, 5))]
    path = written(tmp_path / "new.parquet", {"image": cells}, row_group_size=2)
    found = picture_sources(path)
    assert [Path(name).name[:7] for name in found.names] == ["0000000", "0000002", "0000004"]
    assert found.passed_over == {f"{path}/000000{number}": "no picture stands in its row" for number in (1, 3)}
    for number in range(2):
        written(tmp_path / "shards" / f"train-{number}.parquet", {"image": cells[number:]})
    empty = picture_sources(tmp_path / "shards").passed_over
    assert [*empty] == [f"{tmp_path}/shards/train-{row}" for row in ("0/0000001", "0/0000003", "1/0000000", "1/0000002")]


def test_names_in_it_never_lead_out(tmp_path: Path) -> None:
    paths = ["../../out.png", "/etc/passwd", "..\\x.png", "a" * 5000, "é\n\0.png", ".", "", "x.png/.."] * 2
    cells = [{"bytes": png(number), "path": path} for number, path in enumerate(paths)]
    dataset = load(written(tmp_path / "t.parquet", {"image": cells, "label": ["a", "b"] * 8}))
    assert len(dataset) == 16
    assert not any(set("/\\\n\0") & set(dataset.name_of(row)) or len(dataset.name_of(row)) > 120 for row in range(16))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "t.parquet"]


def test_a_picture_without_bytes_is_left_out_and_told_and_none_with_them_is_refused(tmp_path: Path) -> None:
    cells = [*pictures(range(22)), None, {"bytes": None, "path": "/etc/passwd"}]
    dataset = load(written(tmp_path / "t.parquet", {"image": cells, "label": ["a", "b"] * 12}))
    assert len(dataset) == 22
    assert any("2 rows of the table have no path" in str(problem) for problem in dataset.problems)
    cells = [{"bytes": None, "path": "a.png"}, {"bytes": b"", "path": "b.png"}]
    with pytest.raises(DataError, match=r"must hold the bytes of its pictures.*embedded"):
        load(written(tmp_path / "u.parquet", {"image": pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
                                              "label": ["a", "b"]}))  # fmt: skip


def test_what_is_damaged_is_one_sentence(tmp_path: Path) -> None:
    path = small(tmp_path / "t.parquet", compression="snappy")
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes(400) + whole[600:])  # the footer is whole, a page is not
    with pytest.raises(DataError, match=r"t\.parquet: must be a Parquet file that is whole .*Fetch it again"):
        load(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"t\.parquet: must be a Parquet table"):
        load(path)
    assert not CacheFolder().usage().get(KIND)


def test_what_is_larger_than_the_cache_is_read_where_it_lies_and_a_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small(tmp_path / "t.parquet")
    repeated = written(
        tmp_path / "bomb.parquet", {"image": [{"bytes": png(0) * 20, "path": None}] * 5000, "label": [0, 1] * 2500}
    )
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "1kB")
    assert len(load(path)) == 24
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "1MB")
    assert repeated.stat().st_size < 100_000  # what it says of its size fits: the bytes that come out of it are counted
    with pytest.raises(DataError, match="must fit into the cache of 1,000,000 bytes"):
        load(repeated)
    assert not CacheFolder().usage().get(KIND)


def test_a_pass_in_order_reads_each_row_group_once_and_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path / "t.parquet", range(40), row_group_size=8)
    read = list[Any]()
    opens = parquet_pictures.opened
    monkeypatch.setattr(parquet_pictures, "opened", lambda file: read.append(file) or opens(file))
    monkeypatch.setattr(parquet_pictures, "_groups", parquet_pictures._Groups())
    dataset = load(path, threads=2)
    assert len(read) == 5  # of the scan; pictures of 8 px have no signatures
    taken = decoded(dataset, 8, threads=2).take(np.arange(40))
    assert len(read) == 5, "they are held: the file is small"
    assert {picture.tobytes() for picture in taken} == {np.asarray(Image.open(io.BytesIO(png(n)))).tobytes() for n in range(40)}
    monkeypatch.setattr(parquet_pictures, "HELD", 1)
    members = [dataset.source(row) for row in (0, 39, 1, 38)]
    assert all(len(member.read()) for member in members)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(parquet_pictures._groups._held) == 1


def test_a_file_with_a_huge_row_group_is_copied_as_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path / "t.parquet")
    expected = load(path)
    monkeypatch.setattr(parquet_pictures, "IN_PLACE", 100)
    dataset = load(path)
    copies = [file for file in (tmp_path / "cache" / KIND).rglob("*") if file.is_file()]
    assert sorted(file.name for file in copies) == ["lengths.npy", "pictures"]
    assert (dataset.fingerprint, [*dataset.names]) == (expected.fingerprint, [*expected.names])
    assert {dataset.source(row).read() for row in range(24)} == {png(n) for n in range(24)}  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "1kB")
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "other"))
    with pytest.raises(DataError, match="must fit into the cache of 1,000 bytes"):
        load(path)


def test_where_pixels_fit_nowhere_each_picture_is_read_without_its_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(small(tmp_path / "t.parquet", range(40), row_group_size=8))
    expected = decoded(dataset, 16).pixels
    monkeypatch.setattr(decoded_cache, "IN_MEMORY_BYTES", 1)
    limit = 12_000  # bytes: 40 pictures of 16 px have 30,720, and 9,600 as they are encoded
    assert sum(len(png(n)) for n in range(40)) < limit
    pixels = decoded(dataset, 16, limit_bytes=limit, cache_dir=tmp_path / "small")
    assert any("each is decoded whenever it is needed" in str(problem) for problem in pixels.dataset.problems)
    with monkeypatch.context() as patch:
        patch.setattr(parquet_pictures._groups, "read", lambda *_: pytest.fail("no row group is read any more"))
        assert (pixels.take([39, 0, 17]) == expected[[39, 0, 17]]).all()
    tight = decoded(dataset, 16, limit_bytes=1000, cache_dir=tmp_path / "none")
    assert (tight.take([39, 0, 17]) == expected[[39, 0, 17]]).all()


def test_shards_must_agree(tmp_path: Path) -> None:
    small(tmp_path / "x" / "train-0.parquet", range(4))
    written(tmp_path / "x" / "train-1.parquet", {"image": pictures(range(4))})
    with pytest.raises(DataError, match="some have no labels"):
        load(tmp_path / "x")
    written(tmp_path / "y" / "a.parquet", {"path": ["a.png"], "label": ["a"]})
    small(tmp_path / "y" / "train-0.parquet", range(4))
    with pytest.raises(DataError, match=r"all its Parquet files must have a column of pictures, got 'a\.parquet'"):
        load(tmp_path / "y")


def test_hostile_metadata_of_hugging_face_is_passed_over(tmp_path: Path) -> None:
    for number, text in enumerate(
        [b"[", b"[]", b'{"info": 3}', b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": 5}}}}']
    ):
        table = pa.table({"image": pictures(range(8)), "label": ["a", "b"] * 4}).replace_schema_metadata({"huggingface": text})
        parquet.write_table(table, tmp_path / f"{number}.parquet")
        assert load(tmp_path / f"{number}.parquet").classes == ("a", "b")


def test_a_split_that_leads_nowhere_or_is_closed_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "set"
    small(root / "train" / "0.parquet")
    (root / "val").symlink_to("val")
    with pytest.raises(DataError, match=r"'val' must hold labeled pictures for validation \(a broken link\)"):
        load(root)
    (root / "val").unlink()
    small(root / "val" / "0.parquet", range(24, 30))
    assert len(load(root)) == 30

    def closed(listing: Any) -> Any:  # for root, all doors are open
        def listed(place: Any = ".") -> Any:
            if os.path.basename(place) == "val":  # noqa: PTH119 (as the system is asked)
                raise PermissionError(13, "Permission denied")
            return listing(place)

        return listed

    monkeypatch.setattr(os, "listdir", closed(os.listdir))
    monkeypatch.setattr(os, "scandir", closed(os.scandir))
    with pytest.raises(DataError, match=r"'val' must hold labeled pictures for validation \(permission denied\)"):
        load(root)
