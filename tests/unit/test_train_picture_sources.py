"""What ``Run.predict`` takes: every kind of picture alone and in lists, and arrays that can be read in two ways."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from descend.errors import DataError
from descend.train.labels import label_type, typed
from descend.train.picture_sources import decoded_batches, picture_sources
from descend.train.record import RunRecord
from descend.train.record_types import Preprocessing


def stored_at(resolution: int) -> RunRecord:
    """Return the record of a run that stores pictures at a resolution."""
    prepared = Preprocessing(
        architecture="", resolution=resolution, size=resolution, mean=[], std=[], scale=None, background="white",
        fit="crop", taps=[], members=[],
    )  # fmt: skip
    return RunRecord(preprocessing=prepared)


PICTURE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def pixels(pictures: object, shape: tuple[int, ...] = ()) -> list[np.ndarray]:
    """Return what the network would be shown, at 30 px."""
    sources, names, _ = picture_sources(pictures, shape=shape)
    assert len(sources) == len(names)
    problems: dict[str, str] = {}
    batches = [images for images, _ in decoded_batches(sources, names, problems, record=stored_at(30), threads=1)]
    assert not problems
    return [image for images in batches for image in images]


def encoded() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "PNG")
    return buffer.getvalue()


def file_at_its_end() -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "PNG")
    return buffer


ONE = {
    "array": PICTURE,
    "tensor": torch.from_numpy(PICTURE),
    "image": Image.fromarray(PICTURE),
    "bytes": encoded(),
    "bytearray": bytearray(encoded()),
    "memoryview": memoryview(encoded()),
    "open file": file_at_its_end(),
}


@pytest.mark.parametrize("kind", ONE)
def test_a_picture_of_any_kind_alone_and_in_a_list(kind: str) -> None:
    (alone,) = pixels(ONE[kind])
    np.testing.assert_array_equal(alone, PICTURE[5:35])
    first, second = pixels([ONE[kind], PICTURE[::-1]])
    np.testing.assert_array_equal(first, alone)
    np.testing.assert_array_equal(second, alone[::-1])


def test_paths_folders_and_pictures_may_stand_together(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(PICTURE).save(tmp_path / name)
    assert picture_sources(tmp_path)[1] == picture_sources([str(tmp_path / "a.png"), tmp_path / "b.png"])[1]
    assert picture_sources(np.array([str(tmp_path / "a.png")]))[1] == [str(tmp_path / "a.png")]
    assert len(pixels([tmp_path / "a.png", PICTURE, encoded()])) == 3
    with (tmp_path / "a.png").open("rb") as file:
        assert len(pixels(file)) == 1


@pytest.mark.parametrize(
    ("shape", "n"),
    [
        ((40, 30), 1), ((40, 30, 3), 1), ((40, 30, 4), 1), ((40, 30, 1), 1), ((1, 40, 30), 1), ((7, 40, 30), 7), ((2, 40, 30), 2),
        ((5, 40, 30, 3), 5), ((5, 40, 30, 4), 5), ((5, 40, 30, 1), 5), ((5, 3, 40, 30), 5), ((3, 3, 40, 30), 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
def test_an_array_is_one_picture_or_a_row_of_them(shape: tuple[int, ...], n: int, make: Any) -> None:
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    seen = pixels(make(array))
    assert len(seen) == n
    assert all(image.shape == (30, 30, 3) for image in seen)


def test_one_picture_with_alpha_is_one_picture() -> None:
    opaque = np.concatenate([PICTURE, np.full((40, 30, 1), 255, np.uint8)], axis=2)
    (seen,) = pixels(opaque)
    np.testing.assert_array_equal(seen, PICTURE[5:35])


@pytest.mark.parametrize("n", [3, 4])
def test_what_may_be_channels_or_pictures_is_refused_with_both_ways_out(n: int) -> None:
    array = np.random.default_rng(1).integers(0, 256, (n, 40, 30), dtype=np.uint8)
    with pytest.raises(DataError, match=rf"{n} gray pictures of 40 x 30 pixels, or one picture with its channels first"):
        pixels(array)
    assert len(pixels(list(array))) == n
    assert len(pixels(array.transpose(1, 2, 0))) == len(pixels([array])) == 1
    np.testing.assert_array_equal(pixels([array])[0], pixels(array.transpose(1, 2, 0))[0])
    assert len(pixels(array, shape=(40, 30))) == n, "as in the array that the run was trained on"


def test_gray_and_alpha_are_not_taken_for_rows_of_two_pixels() -> None:
    array = np.dstack([PICTURE[..., 0], np.full(PICTURE.shape[:2], 255, np.uint8)])
    with pytest.raises(DataError, match=r"may be 40 gray pictures of 30 x 2 pixels, or one of gray and alpha"):
        picture_sources(array, shape=())
    (shown,) = pixels(Image.fromarray(array))
    assert (shown == shown[..., :1]).all()
    assert (shown == pixels(PICTURE[..., 0])[0]).all()


@pytest.mark.parametrize("shape", [(32, 32, 6), (26, 40, 13), (40, 32, 16)])
def test_many_channels_are_not_taken_for_narrow_pictures(shape: tuple[int, int, int]) -> None:
    array = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    n, height, width = shape
    with pytest.raises(DataError, match=rf"may be {n} gray pictures of {height} x {width} pixels, or one of {width} channels"):
        picture_sources(array)
    assert len(pixels(list(array))) == len(pixels(array, shape=(height, width))) == n
    assert len(pixels(array[..., :3])) == 1


@pytest.mark.parametrize(
    "shape", [(32, 32, 4, 3), (128, 128, 64, 3), (5, 64, 16, 3), (5, 64, 16), (20, 40, 13), (40, 40, 20), (64, 64, 32)]
)
def test_batches_of_narrow_pictures_are_read_whatever_their_number(shape: tuple[int, ...]) -> None:
    """As many crops of persons as they are high: no coincidence of sizes refuses them."""
    assert len(picture_sources(np.zeros(shape, np.uint8)).sources) == shape[0]


def test_gray_with_alpha_premultiplied_and_numbers_of_another_byte_order() -> None:
    see_through = Image.fromarray(np.dstack([PICTURE[..., 0], PICTURE[..., 1]]))
    premultiplied = see_through.convert("La")
    np.testing.assert_array_equal(pixels(premultiplied)[0], pixels(premultiplied.convert("LA"))[0])
    deep = PICTURE.astype(np.uint16) * 257
    np.testing.assert_array_equal(pixels([deep.astype(">u2")])[0], pixels([deep])[0])


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("https://x.y/a.png", "an address: save"), (Path("https://x.y/a.png"), "an address: save"),
        ("file:///a.png", "an address: save"), ("S3://b/a.png", "an address: save"),
        ("data:image/png;base64,AA", "a picture as text"),
        ("-", "standard input is not read"), ("*.jpg", "a pattern that no file is called by"),
    ],
)  # fmt: skip
def test_what_is_no_path_is_named_with_what_to_give_instead(place: Any, why: str, tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    found = picture_sources([tmp_path / "a.png", place])
    assert found.names == [str(tmp_path / "a.png")]
    assert [*found.passed_over] == [str(place)]
    assert found.passed_over[str(place)].startswith(why)


def test_a_file_may_be_called_like_a_pattern(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a*.png")
    assert len(pixels(str(tmp_path / "a*.png"))) == 1


def test_a_table_of_new_pictures_is_read_in_python_too(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path\na.png\n")
    assert picture_sources(str(tmp_path / "t.csv")).names == [str(tmp_path / "a.png")]
    beside = picture_sources(sorted(tmp_path.iterdir()))  # it never stops the others
    assert beside.names == [str(tmp_path / "a.png")]
    assert beside.passed_over == {str(tmp_path / "t.csv"): "a table: give it by itself"}


def test_paths_of_a_table_that_are_taken_for_others_are_told(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path\nold/place/a.png\n")
    with pytest.warns(UserWarning, match="1 path leads to no file as it is written, and is taken for another"):
        assert picture_sources(tmp_path / "t.csv").names == [str(tmp_path / "a.png")]


def test_arrays_of_unequal_sizes() -> None:
    assert len(pixels([PICTURE, PICTURE[:31], PICTURE[..., 0], torch.from_numpy(PICTURE).permute(2, 0, 1)])) == 4


@pytest.mark.parametrize(
    ("pictures", "told"),
    [
        (3, "needs paths, folders, arrays, tensors"),
        ({"a": PICTURE}, "needs paths, folders, arrays, tensors"),
        ([PICTURE, 3.5], r"picture \[1\] must be a path, an array"),
        (PICTURE.astype(np.float32) / 255, "must be uint8, uint16 or bool, got 'float32'. Scale them"),
        (torch.rand(3, 40, 30), "must be uint8, uint16 or bool, got 'float32'. Scale them"),
        ([PICTURE.astype(np.int64)], "must be uint8, uint16 or bool, got 'int64'"),
        (torch.from_numpy(PICTURE).bfloat16(), "must be uint8, uint16 or bool, got 'bfloat16, torch.strided'"),
        (torch.from_numpy(PICTURE).to_sparse(), "must be uint8, uint16 or bool, got 'uint8, torch.sparse_coo'"),
        (np.zeros((2, 3, 4, 5, 6), np.uint8), "must be .H, W., .H, W, C."),
        (np.zeros((0, 40, 30), np.uint8), "must be .H, W., .H, W, C."),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_in_words(pictures: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        picture_sources(pictures)


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are_yielded() -> None:
    problems: dict[str, str] = {}
    sources, names, _ = picture_sources([PICTURE, b"no picture", PICTURE])
    ((images, positions),) = decoded_batches(sources, names, problems, record=stored_at(8), threads=1)
    assert (len(images), positions, [*problems]) == (2, [0, 2], ["[1]"])


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (np.arange(4), "integer"),
        ([3, 10, 3], "integer"),
        (np.array([1, 2], np.uint8), "integer"),
        (np.array([3, 10], object), "integer"),
        (torch.arange(3), "integer"),
        ([True, False], "boolean"),
        (np.array([True, False], object), "boolean"),
        (["a", "b"], "text"),
        (np.array(["3", "10"], object), "text"),
        (np.array([3, "10"], object), "text"),
        (np.array([2**63 + 5, 7], np.uint64), "text"),
        ([10**25, -7], "text"),
        (np.array([1e20, 7.0]), "text"),
    ],
)
def test_labels_keep_their_type(labels: Any, kind: Any) -> None:
    data = (np.zeros((len(labels), 8, 8), np.uint8), labels)
    assert label_type(data) == label_type({"train": data, "test": data}) == kind
    assert label_type({"train": data, "test": (data[0], [2.5])}) == "text"
    names = sorted({str(label) for label in np.asarray(labels)})
    assert set(typed(names, kind).tolist()) == set(np.asarray(labels).tolist()) or kind == "text"


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([0.0, 1.0, float("nan")], "integer"),
        (np.array([3.0, np.nan], object), "integer"),
        ([3, None, 4], "integer"),
        ([True, None], "boolean"),
        (["a", None], "text"),
        ([0.5, float("nan")], "text"),
    ],
)
def test_a_gap_does_not_change_the_type_of_labels(labels: Any, kind: str) -> None:
    assert label_type((np.zeros((len(labels), 8, 8), np.uint8), labels)) == kind


def test_a_run_of_an_older_version_answers_numbers_that_no_integer_holds_as_text() -> None:
    assert typed(("7", str(10**25)), "integer").tolist() == ["7", str(10**25)]


def test_labels_of_a_path_are_text() -> None:
    assert label_type("digits") == label_type(Path("photos")) == "text"


def test_the_pictures_of_a_table_or_of_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(PICTURE).save(tmp_path / "a" / "1.png")
    torchvision, pandas = pytest.importorskip("torchvision.datasets"), pytest.importorskip("pandas")
    for pictures in (torchvision.ImageFolder(tmp_path), pandas.DataFrame({"Path": [str(tmp_path / "a" / "1.png")], "n": [3]})):
        sources, names, _ = picture_sources(pictures)
        assert names == [str(tmp_path / "a" / "1.png")]
        np.testing.assert_array_equal(np.asarray(Image.open(sources[0])), PICTURE)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"must have a column 'path', got 'n'. Rename"):
        picture_sources(pandas.DataFrame({"n": [3]}))


def test_hidden_pictures_are_named_and_what_a_system_adds_is_not(tmp_path: Path) -> None:
    for name in ("1.png", ".2.png", "._1.png", ".DS_Store"):
        (tmp_path / name).write_bytes(encoded())
    found = picture_sources(tmp_path)
    assert found.names == [str(tmp_path / "1.png")]
    assert found.passed_over == {str(tmp_path / ".2.png"): "hidden: its name begins with a dot"}


HELD = ("a/.staging/b.png", "@Recycle/x/c.jpg", "node_modules/d.png", "RECYCLER/e.png", "My.lrdata/f.png", "sub/.cache/g.png")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_folders_that_are_not_entered_are_named_where_they_hold_pictures(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "new"
    for name in ("in/1.png", *HELD, ".git/objects/ab", "@eaDir/1.png/note.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded() if name in ("in/1.png", *HELD) else b"text")
    place = root if kind == "folder" else Path(shutil.make_archive(str(root), kind, root))
    found = picture_sources(place)
    assert found.names == [f"{place}/in/1.png"]
    system, hidden = "a system's folder", "hidden: its name begins with a dot"
    named = {"@Recycle/": system, "My.lrdata/": system, "RECYCLER/": system, "a/.staging/": hidden, "node_modules/": system,
             "sub/.cache/": hidden}  # fmt: skip
    assert {name.removeprefix(f"{place}/"): why for name, why in found.passed_over.items()} == named


def test_what_is_passed_over_in_an_archive_is_called_by_its_place_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
        archive.writestr("in/1.png", encoded())
        archive.writestr("in/note.txt", "no picture")
    found = picture_sources(tmp_path / "new.zip")
    assert found.names == [str(tmp_path / "new.zip" / "in" / "1.png")]
    assert [*found.passed_over] == [str(tmp_path / "new.zip" / "in" / "note.txt")]


def test_the_pictures_of_a_data_frame_may_be_called_otherwise() -> None:
    pandas = pytest.importorskip("pandas")
    assert picture_sources(pandas.DataFrame({"filename": ["a.png", "b.png"], "size": [1, 2]})).names == ["a.png", "b.png"]


@pytest.mark.parametrize("ending", ["", ".png", ".zip", ".tar", ".parquet"])
def test_a_name_that_no_file_system_holds_never_stops_the_others(ending: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    long, zero = "x" * 300 + ending, f"a\0b{ending}"
    sources, names, _ = picture_sources([long, str(tmp_path / "a.png"), zero])
    problems: dict[str, str] = {}
    batches = [positions for _, positions in decoded_batches(sources, names, problems, record=stored_at(30), threads=1)]
    assert batches == [[1]]
    assert set(problems) == {long, zero}


def test_an_archive_in_a_folder_is_passed_over_with_what_to_do(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cat.zip", "w") as archive:
        archive.writestr("a.png", encoded())
    (tmp_path / "note.txt").touch()
    sources, _, passed_over = picture_sources(tmp_path)
    assert not sources
    assert passed_over == {
        str(tmp_path / "cat.zip"): "an archive: give it by itself", str(tmp_path / "note.txt"): "not a picture"
    }  # fmt: skip
    assert len(picture_sources(tmp_path / "cat.zip").sources) == 1


def test_paths_in_an_array_of_arrow_are_paths(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    for path in paths:
        Image.new("RGB", (4, 4)).save(path)
    column = pytest.importorskip("pyarrow").array(paths)
    assert picture_sources(column).names == picture_sources([*column]).names == paths


def test_places_without_a_picture_are_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=f"needs one readable picture or more, there is none in {tmp_path}/a, {tmp_path}/b"):
        picture_sources([str(tmp_path / "a"), tmp_path / "b"])
