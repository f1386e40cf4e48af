"""What other libraries hold, as data: the same pictures and labels as in their files, whatever they come in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor
from torch.utils.data import ConcatDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from descend.data import load
from descend.data.listed import listed
from descend.errors import DataError
from descend.train.labels import label_type

SIDES = ((90, 70), (80, 100), (64, 64), (10, 12))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight pictures of unequal sizes in the folders ``ant`` and ``bee``."""
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number, side in enumerate(SIDES):
            pixels = rng.integers(0, 256, (*side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path


def shown(data: Any) -> list[tuple[str, bytes]]:
    """Return the label and the pixels of every picture, in a fixed order."""
    dataset = load(data, split=False)
    return sorted((dataset.classes[dataset.labels[row]], dataset.read(row).tobytes()) for row in range(len(dataset)))


def pairs(photos: Path) -> list[tuple[Path, str]]:
    return [(path, path.parent.name) for path in sorted(photos.rglob("*.png"))]


KINDS = {
    "paths": lambda photos: tuple(zip(*pairs(photos), strict=True)),
    "array of paths": lambda photos: (np.array([str(path) for path, _ in pairs(photos)]), [label for _, label in pairs(photos)]),
    "images": lambda photos: ([Image.open(path) for path, _ in pairs(photos)], [label for _, label in pairs(photos)]),
    "bytes": lambda photos: ([path.read_bytes() for path, _ in pairs(photos)], [label for _, label in pairs(photos)]),
    "open files": lambda photos: [(io.BytesIO(path.read_bytes()), label) for path, label in pairs(photos)],
    "arrays": lambda photos: [(np.asarray(Image.open(path)), label) for path, label in pairs(photos)],
    "tensors": lambda photos: [
        (torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1), label) for path, label in pairs(photos)
    ],
    "paths and images": lambda photos: [
        (path if place % 2 else Image.open(path), label) for place, (path, label) in enumerate(pairs(photos))
    ],
    "ImageFolder": lambda photos: ImageFolder(photos),
    "Subset": lambda photos: Subset(ImageFolder(photos), range(8)),
    "Subset of a Subset": lambda photos: Subset(Subset(ImageFolder(photos), [7, 0, 6, 1, 5, 2, 4, 3]), range(8)),
    "Subset of a list": lambda photos: Subset([(Image.open(path), label) for path, label in pairs(photos)], range(8)),  # pyright: ignore[reportArgumentType] (any object with a length does)
    "parts": lambda photos: {"train": pairs(photos)[:5], "validation": ImageFolder(photos), "test": pairs(photos)[:1]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pictures_and_labels_in_every_form(kind: str, photos: Path) -> None:
    data = KINDS[kind](photos)
    expected = shown(photos)
    if kind == "parts":
        dataset = load(data, split=False)
        assert np.bincount(dataset.splits).tolist() == [5, 8, 1]
        expected = sorted(expected + [one for path, _ in [*pairs(photos)[:5], *pairs(photos)[:1]] for one in shown_alone(path)])
    assert shown(data) == expected


def shown_alone(path: Path) -> list[tuple[str, bytes]]:
    return [(path.parent.name, np.asarray(Image.open(path)).tobytes())]


def test_files_stay_files_and_are_named_within_their_folder(photos: Path) -> None:
    dataset = load(ImageFolder(photos), split=False)
    assert dataset.pictures is None
    assert dataset.root == photos
    assert sorted(dataset.names)[0] == "ant/0.png"


def test_small_pictures_of_one_shape_are_one_array_with_the_names_of_their_classes() -> None:
    class Icons:
        classes = ["cross", "dot"]  # noqa: RUF012 (as torchvision's CIFAR10 has it)

        def __len__(self) -> int:
            return 6

        def __getitem__(self, row: int) -> tuple[Image.Image, int]:
            return Image.new("RGB", (8, 8), (row, 0, 0)), row % 2

    dataset = load(Icons(), split=False)  # pyright: ignore[reportArgumentType] (an iterator ends by IndexError, this by its length)
    assert dataset.pictures is not None
    assert dataset.pictures.shape == (6, 8, 8, 3)
    assert dataset.classes == ("cross", "dot")
    assert dataset.name_of(2) == "icons[2]"
    assert label_type(listed(Icons())) == "text"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "F"])
def test_an_image_of_any_mode_is_what_predict_would_see(mode: str) -> None:
    from descend.data.decode import decode

    image = Image.new(mode, (70, 9), 1 if mode in ("1", "P", "PA", "I;16", "F", "L") else None)
    other = Image.new("RGB", (70, 9), "red")
    dataset = load(([image, other, image], ["a", "b", "a"]), split=False)
    np.testing.assert_array_equal(dataset.read(0), decode(image, policy=dataset.policy))


def test_an_image_that_lies_on_its_side_stays_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(buffer, "JPEG", exif=exif)
    dataset = load([(Image.open(buffer), "a"), (Image.new("RGB", (5, 5)), "b")], split=False)
    assert dataset.read(0).shape == (20, 10, 3)


def test_labels_keep_their_type() -> None:
    icons = [Image.new("L", (4, 4), level) for level in range(4)]
    for labels, kind in (([3, 10, 3, 10], "integer"), (torch.tensor([0, 1, 0, 1]), "integer"), ([True, False] * 2, "boolean")):
        assert label_type(listed((icons, labels))) == kind
    assert label_type(listed([(icon, np.int64(7)) for icon in icons])) == "integer"
    assert label_type({"path": ["a", "b"], "label": [1, 2]}) == "integer"
    assert label_type({"path": ["a", "b"], "label": ["1", "2"]}) == "text"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (([b"no picture", b"neither"], ["a", "b"]), r"must have a picture that can be read. Note: 2 files .* pictures\[0\]"),
        ((["a.png"], ["a", "b"]), "one label for each of its 1 pictures, got 2"),
        ([(np.zeros((4, 4, 3)), "a")] * 2, "pixels must be uint8, uint16 or bool, got 'float64'"),
        ([(np.zeros((4, 4), np.uint8), [0, 1])], r"one word or one number, got \[0, 1\]. Turn one-hot"),
        ([(np.zeros((4, 4), np.uint8), 0), 3], r"list\[1\]: must be a pair \(picture, label\), got 'int'"),
        ({"train": [(b"", 0)], "tset": [(b"", 1)]}, "keys of a dict must be train, val and test, got \"'tset'\""),
        ({"train": [(b"", 0)], "val": (np.zeros((2, 4, 4), np.uint8), [0, 1])}, r"in the same way, got \"'val'\". Give \(list"),
        (["a.png", "b.png"], r"got 'list'. Files go with their labels: \(paths, labels\)"),
    ],
)
def test_what_cannot_be_read_is_told_in_words(data: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        load(data)


def test_a_transform_that_nothing_would_apply_is_refused(photos: Path) -> None:
    with pytest.raises(DataError, match="ImageFolder: must have no transform"):
        load(ImageFolder(photos, ToTensor()))  # pyright: ignore[reportArgumentType]


def test_a_picture_that_cannot_be_read_is_left_out_and_named(photos: Path) -> None:
    data = [(path.read_bytes(), label) for path, label in pairs(photos)]
    data.insert(2, (b"broken", "ant"))
    dataset = load(data, split=False)
    assert len(dataset) == 8
    assert dataset.name_of(2) == "pictures[3]"
    assert "pictures[2]" in str(dataset.problems[0])
    assert dataset.read(2).tobytes() == np.asarray(Image.open(pairs(photos)[2][0])).tobytes()


def test_a_dataset_of_hugging_face(photos: Path) -> None:
    import datasets

    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["ant", "bee"])})
    rows = {
        "picture": [{"bytes": path.read_bytes(), "path": None} for path, _ in pairs(photos)],
        "kind": [("ant", "bee").index(label) for _, label in pairs(photos)],
    }
    data = datasets.Dataset.from_dict(rows, features=features)
    assert shown(data) == shown(photos)
    parts = datasets.DatasetDict({"train": data, "validation": data.select([0])})
    assert np.bincount(load(parts, split=False).splits).tolist() == [8, 1]
    with pytest.raises(DataError, match="must have a column of labels, got 'picture'"):
        load(data.remove_columns("kind"))


def _columns_of_hugging_face(**columns: Any) -> Any:
    """Return a Dataset of six red pictures; names: a column of classes, 1: of numbers, an image: of pictures."""
    import datasets

    kinds = {list: lambda names: datasets.ClassLabel(names=names), int: lambda _: datasets.Value("int64")}
    features = {name: kinds.get(type(kind), lambda _: datasets.Image())(kind) for name, kind in columns.items()}
    rows = {name: [kind] * 6 if isinstance(kind, Image.Image) else [0, 1] * 3 for name, kind in columns.items()}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


RED, GRAY = Image.new("RGB", (9, 9), "red"), Image.new("L", (9, 9))


def test_columns_of_hugging_face_are_taken_by_their_names() -> None:
    made = _columns_of_hugging_face(mask=GRAY, image=RED, source=["web", "phone"], label=1)
    for data in (made, {"train": made, "test": made}):
        found = load(data, split=False)
        assert found.classes == ("0", "1")
        assert found.read(0)[0, 0].tolist() == [255, 0, 0]
        assert [str(item) for item in found.problems if item.kind == "headings"] == [
            "1 column is taken by another name: 'image' as pictures"
        ]
    assert load(_columns_of_hugging_face(labels=["a", "b"], image=RED), split=False).classes == ("a", "b")
    assert "'kind' as label" in str(load(_columns_of_hugging_face(kind=["a", "b"], image=RED), split=False).problems[0])


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"image": RED, "fine": ["a", "b"], "coarse": ["x", "y"]},
            "called 'label', got 'fine, coarse'. Such as: rename_col",
        ),
        ({"left": RED, "right": RED, "label": 1}, "one called 'image', got 'left, right'. Leave out the others"),
    ],
)
def test_several_columns_of_hugging_face_that_may_be_meant_are_refused(columns: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        load(_columns_of_hugging_face(**columns))


@pytest.mark.parametrize("part", [range(8), np.array([7, 2, 5])])
def test_a_part_of_an_image_folder_is_its_files(tmp_path: Path, part: Any) -> None:
    """The loader of torchvision would make one white of 16 bits, and lose what is transparent."""
    for number in range(8):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        deep = np.random.default_rng(number).integers(300, 60_000, (12, 12)).astype(np.uint16)
        Image.fromarray(deep).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    whole = ImageFolder(tmp_path)
    found = load(Subset(whole, part), split=False)
    assert found.policy.scale == (0.0, 65535.0)
    expected = {Path(whole.samples[row][0]).name: np.array(Image.open(whole.samples[row][0])) for row in part}
    for row in range(len(found)):
        stored = expected.pop(Path(found.name_of(row)).name)
        np.testing.assert_array_equal(found.read(row)[:, :, 0], np.rint(stored / 65535 * 255))
    assert not expected


@pytest.mark.parametrize("kind", ["deep", "clear", "bits"])
def test_a_list_of_arrays_is_read_alike_whether_their_sizes_are_one_or_several(kind: str) -> None:
    rng = np.random.default_rng(0)
    make = {
        "deep": lambda side: rng.integers(0, 65536, (side, 30)).astype(np.uint16),
        "clear": lambda side: rng.integers(0, 256, (side, 30, 4)).astype(np.uint8),
        "bits": lambda side: rng.integers(0, 2, (side, 30)).astype(np.bool_),
    }[kind]
    pictures = [make(20) for _ in range(8)]
    alike = load((pictures, list("ab" * 4)), split=False)
    unequal = load(([*pictures, make(25), make(25)], list("ab" * 5)), split=False)
    assert len(alike) == 8
    for row in range(8):
        np.testing.assert_array_equal(alike.read(row), unequal.read(row))


@pytest.mark.parametrize("others", [[(25, 30)], [(25, 30)] * 3, [(25, 30), (26, 30)], [(20, 30)], [(20, 30)] * 2])
def test_parts_of_a_dict_are_one_array_together_or_none_is(others: list[tuple[int, int]]) -> None:
    """One picture, and several of one size, are alike by themselves."""
    rng = np.random.default_rng(0)
    train, val = ([rng.integers(0, 256, side, np.uint8) for side in sides] for sides in ([(20, 30)] * 4, others))
    dataset = load({"train": (train, list("abab")), "val": (val, list("abab")[: len(val)])}, split=False)
    assert np.bincount(dataset.splits).tolist() == [4, len(val)]
    for row, picture in enumerate([*train, *val]):
        np.testing.assert_array_equal(dataset.read(row)[..., 0], picture)
    pairs_too = load({"train": (train, list("abab")), "val": [*zip(val, "abab", strict=False)]}, split=False)
    assert np.bincount(pairs_too.splits).tolist() == [4, len(val)]


def test_classes_that_are_tuples_of_synonyms_are_words(photos: Path) -> None:
    """As in torchvision's ImageNet and Imagenette; two classes of ImageNet are called crane."""
    folder = ImageFolder(photos)
    folder.classes = [("tench", "Tinca tinca"), ("crane",)]  # pyright: ignore[reportAttributeAccessIssue]
    assert load(folder, split=False).classes == ("crane", "tench, Tinca tinca")
    assert load(Subset(folder, [0, 7]), split=False).classes == ("crane", "tench, Tinca tinca")
    folder.classes = [("crane",), ("crane",)]  # pyright: ignore[reportAttributeAccessIssue]
    assert load(folder, split=False).classes == ("crane (0)", "crane (1)")

    class Icons(list[Any]):
        classes = folder.classes

    assert listed(Icons([(np.zeros((4, 4), np.uint8), 1)])).labels == ["crane (1)"]


def _folder_of_one_color(root: Path, *classes: str) -> ImageFolder:
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (9, 9), name).save(root / name / f"{number}.png")
    return ImageFolder(root)


@pytest.mark.parametrize("make", [lambda data: data, lambda data: Subset(data, range(len(data))), lambda data: {"train": data}])
def test_data_sets_that_number_other_classes_are_joined_by_name(make: Any, tmp_path: Path) -> None:
    parts = [_folder_of_one_color(tmp_path / "a", "green", "red"), _folder_of_one_color(tmp_path / "b", "blue", "red")]
    found = load(make(ConcatDataset([*parts, Subset(parts[0], [0])])), split=False)
    assert found.classes == ("blue", "green", "red")
    for row in range(len(found)):
        assert found.read(row)[0, 0].tolist() == [*ImageColor.getrgb(found.classes[found.labels[row]])]
    numbered: Any = ConcatDataset([parts[0], TensorDataset(torch.zeros(2, 3, 9, 9, dtype=torch.uint8), torch.arange(2))])  # pyright: ignore
    with pytest.raises(DataError, match="ConcatDataset: all parts must name their classes, or none"):
        load(make(numbered))


class _Transformed:
    """As torchvision's CIFAR10: its classes have names, and its owner makes other numbers of theirs."""

    classes = ("cat", "dog", "fox", "owl")
    target_transform = staticmethod(lambda number: number - 2)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, place: int) -> tuple[np.ndarray, int]:
        return np.full((8, 8, 3), place, np.uint8), self.target_transform(2 + place % 2)


def test_names_are_not_those_of_numbers_that_a_target_transform_makes() -> None:
    for data in (_Transformed(), Subset(_Transformed(), range(8))):  # pyright: ignore[reportArgumentType]
        assert load(data, split=False).classes == ("0", "1")


def test_numbers_without_a_name_are_no_other_classes(photos: Path) -> None:
    class Named(list[Any]):
        classes = ("red", "green")

    pixels = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(DataError, match="Named: must number its 2 classes from 0 to 1, as it names them, got 2"):
        load(Named([(pixels, 1), (pixels, 2)] * 4))
    assert listed(Named([(pixels, 0), (pixels, -1), (pixels, 1)])).labels == ["red", None, "green"]
    folder = ImageFolder(photos)
    folder.samples = [(path, 2) for path, _ in folder.samples]
    with pytest.raises(DataError, match="ImageFolder: must number its 2 classes"):
        load(folder)


IMAGES = np.zeros((6, 20, 24, 3), np.uint8)
WORDS = np.array(list("ababab"))


@pytest.mark.parametrize(
    ("data", "fix"),
    [
        ((IMAGES.transpose(0, 3, 1, 2), WORDS), "Put the channels last"),
        ((torch.from_numpy(IMAGES[..., :1]).permute(0, 3, 1, 2), WORDS), "Put the channels last"),
        ((IMAGES.astype(np.uint16), WORDS), "Give a list of them"),
        ((IMAGES / 255, WORDS), "Scale floats"),
        ((IMAGES[:, :20, :20, 0].reshape(6, -1), WORDS), "uint8'. Give each row its shape: reshape(-1, 20, 20)."),
        ((IMAGES.reshape(6, -1), WORDS), "Give each row its shape: reshape(-1, H, W)."),
        ((IMAGES.astype(np.int64), WORDS), "Cast them to uint8: astype('uint8')."),
        ((IMAGES.astype(np.int64) + 256, WORDS), "Scale them to 0..255"),
        ((IMAGES, dict(enumerate(WORDS))), "[labels[path] for path in paths]"),
        ((["a.png", "b.png"], {"a.png": "a", "b.png": "b"}), "[labels[path] for path in paths]"),
        ((["a.png", "b.png"], "ab"), "Give a list with the label of each picture."),
        ((["a.png", "b.png"], {"a", "b"}), "Give a list with the label of each picture."),
        ((IMAGES, None), "Give a list with the label of each picture."),
        ({"pictures": IMAGES, "words": WORDS}, "or give {'image': images, 'label': labels}"),
        ({"a.png": "a", "b.png": "b"}, "(list(data), list(data.values()))"),
        ((iter(["a.png", "b.png"]), ["a", "b"]), "Give a list of paths or of pictures"),
        ({"image": IMAGES.tolist(), "label": WORDS}, "np.array(picture, np.uint8)"),
        ({"image": IMAGES, "label": WORDS, "group": WORDS}, "Save the pictures, and name their files in a column 'path'."),
        ({"image": IMAGES, "label": WORDS, "split": ["tset"] * 6}, "Did you mean 'test'?"),
        (((IMAGES, WORDS), (IMAGES[:2], WORDS[:2])), "Give a dict for a split of your own"),  # Keras's load_data()
        ((IMAGES, WORDS[:, None]), "labels.ravel()"),  # Keras's CIFAR-10
        ((["a.png"] * 6, WORDS[:, None]), "ravel()"),
        (TensorDataset(torch.from_numpy(IMAGES), torch.arange(6)[:, None]), "not (n, 1): ravel()"),
        ((["a.png"] * 6, [["cat"]] * 6), "without brackets"),
        ((["a.png"] * 6, [["cat", "dog"]] * 6), "Name one class for each picture."),
    ],
)
def test_the_way_out_fits_what_was_given(data: Any, fix: str) -> None:
    with pytest.raises(DataError) as refused:
        load(data)
    assert fix in str(refused.value)
    assert "argmax" not in str(refused.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda words: dict(enumerate(words)).values(),
        lambda words: map(int, words),
        lambda words: (int(word) for word in words),
        lambda words: iter([*words]),
    ],
)
def test_labels_that_are_read_once_are_put_in_a_list(make: Any, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(6)]
    for i, path in enumerate(paths):
        Path(path).write_bytes(_png(np.full((8, 8, 3), 40 * i, np.uint8)))
    numbers = [3, 5, 3, 5, 3, 5]
    for pictures in (paths, IMAGES, [*IMAGES]):
        data = listed((pictures, make(numbers)))
        dataset = load(data, split=False)
        assert [dataset.classes[label] for label in dataset.labels] == [*map(str, numbers)]
        assert label_type(data) == "integer"
    parts = listed({"train": (IMAGES, make(numbers)), "test": (IMAGES[:2], make(numbers[:2]))})
    assert (len(load(parts, split=False)), label_type(parts)) == (8, "integer")


def _png(pixels: np.ndarray) -> bytes:
    Image.fromarray(pixels).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "as_cell", [np.array, Image.fromarray, torch.from_numpy, _png, lambda pixels: {"bytes": _png(pixels), "path": None}]
)
@pytest.mark.parametrize("make", [dict, lambda columns: pytest.importorskip("pandas").DataFrame(columns)])
def test_a_column_may_hold_the_pictures_themselves(as_cell: Any, make: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), np.uint8)
    columns = make({"image": [as_cell(pixels) for pixels in images], "label": [1, 2] * 3, "split": ["train"] * 4 + ["test"] * 2})
    assert shown(columns) == shown((images, [1, 2] * 3))
    assert load(columns).splits.tolist()[4:] == [2, 2]
    assert "is_valid" in str(load({"image": list(images), "label": [1, 2] * 3, "is_valid": [0] * 6, "site": [0] * 6}).problems[0])
    assert label_type(columns) == "integer"


def test_a_column_of_paths_in_bytes_is_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(f"{number}.png")
    assert load({"path": [f"{number}.png".encode() for number in range(4)], "label": list("abab")}).name_of(1) == "1.png"


@pytest.mark.parametrize(
    ("dtype", "channels", "side"), [(np.uint16, 3, 70), (np.uint16, 4, 9), (np.bool_, 3, 70), (np.bool_, 4, 9), (np.uint16, 1, 9)]
)
def test_arrays_of_every_type_that_predict_sees_can_be_trained_on(dtype: Any, channels: int, side: int) -> None:
    from descend.data.decode import decode

    drawn = np.random.default_rng(0).integers(0, 2**16, (4, side, side + 3, channels))
    pictures = [(picture % 2 if dtype == np.bool_ else picture).astype(dtype) for picture in drawn]
    for given in (pictures, [torch.from_numpy(np.moveaxis(picture, 2, 0).copy()) for picture in pictures]):
        dataset = load((given, ["a", "b"] * 2), split=False)
        for row, picture in enumerate(pictures):
            np.testing.assert_array_equal(dataset.read(row), decode(picture, policy=dataset.policy))


def test_files_may_be_called_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["0.png", " 0.png", "'1'", "'2.png'", "a\nb.png"]
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        for number, name in enumerate(names):
            pixels = np.random.default_rng([number, ord(label[0])]).integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / name, "PNG")
    folder = ImageFolder(tmp_path, is_valid_file=lambda _: True)
    assert sorted(load(folder, split=False).names) == sorted(f"{label}/{name}" for label in ("ant", "bee") for name in names)
    assert shown(folder) == shown(tmp_path)
    monkeypatch.chdir(tmp_path / "ant")
    named = load((names, [f"c{number}" for number in range(5)]), split=False)
    assert {name: named.classes[named.labels[row]] for row, name in enumerate(named.names)} == {
        name: f"c{number}" for number, name in enumerate(names)
    }
