"""Labeled pictures as other libraries hold them, listed: a source and a label for each, so that one code reads them all.

    (pictures, labels)     paths, or pictures of any kind and of unequal sizes
    ImageFolder, Subset    torchvision's, and a part of it: its files and the names of its classes
    ConcatDataset          several of these, each by its own names of classes
    [(picture, label)]     a list, or any object with a length whose members are such pairs: torchvision's CIFAR10
    Dataset                Hugging Face's: its column of images, and the names of its ClassLabel
    {"train": ..., ...}    a dict of these, such as Hugging Face's DatasetDict

The libraries themselves are not imported: an object is known by what it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from descend.data.deep_color import encode_deep_color
from descend.data.headings import path_columns, taken_by_name
from descend.data.labels import check_one_for_each, one_label
from descend.data.one_picture import PIXEL_TYPES, as_source, is_one_picture, is_path, is_pixels
from descend.data.opening import Source, file_content, naming, read_file
from descend.data.problems import Problem
from descend.data.scalars import plain
from descend.errors import DataError
from descend.pixels import orientation

SMALL = 64  # pixels per side: smaller pictures are kept as pixels, larger ones encoded, which takes less memory
_IN_TIFF = ("F", "I", "CMYK", "YCbCr", "LAB", "PA")  # modes of Pillow that PNG does not hold
_LABELS = ("label", "labels")
_HELD_AS = {"HSV": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}  # ... nor TIFF


@dataclass(frozen=True)
class Listed:
    """Labeled pictures in a list.

    sources: of each picture, its file or the picture itself. labels: as their owner writes them. root: the folder that paths are
    relative to. splits: the words of a given split, or None. notes: what is to be told of how it was read.
    """

    name: str
    sources: Sequence[Source]
    labels: Sequence[Any]
    root: Path
    splits: Sequence[str] | None = None
    notes: Sequence[Problem] = ()

    @property
    def is_of_files(self) -> bool:
        """Whether every picture is named by its path."""
        return all(is_path(source) for source in self.sources)

    def in_memory(self) -> NDArray[Any]:
        """Return the pictures, held in memory: (N, H, W[, C]) uint8 where all are small and alike, else (N,) encoded bytes.

        Raises DataError, which names the picture, for one that cannot be read.
        """
        held = [self._held(place) for place in range(len(self.sources))]
        pixels = [item for item in held if isinstance(item, np.ndarray)]
        if len(pixels) == len(held) and len({item.shape for item in pixels}) == 1:
            return np.stack(pixels)
        encoded = np.empty(len(held), object)
        encoded[:] = [_encoded(item) if isinstance(item, np.ndarray) else item for item in held]
        return encoded

    def _held(self, place: int) -> Source:
        source = self.sources[place]
        with naming(f"{self.name}[{place}]"):
            return kept(read_file(self.root / source) if is_path(source) else source)  # pyright: ignore[reportOperatorIssue]


def listed(data: Any) -> Any:
    """Return ``data`` as a ``Listed`` where it is one of the kinds above; else as it is. Raises DataError."""
    if isinstance(data, Mapping):
        return _joined({name: _with_list_of_labels(part) for name, part in data.items()})
    data = _with_list_of_labels(data)
    found = _listed(data)
    return data if found is None else found


def _with_list_of_labels(data: Any) -> Any:
    """Return ``(pictures, labels)`` with the labels of a dict's values, a map or a generator in a list: they are read twice."""
    if not isinstance(data, tuple) or len(data) != 2 or isinstance(data[1], (str, bytes, Mapping, Set)):
        return data
    is_list = hasattr(data[1], "__getitem__") or hasattr(data[1], "columns") or not isinstance(data[1], Iterable)
    return data if is_list else (data[0], [*data[1]])


def has_images(data: Any) -> bool:
    """Return whether an object is a Dataset of Hugging Face with a column of images."""
    return bool(_features(data, "Image"))


def unlabelled(data: Any) -> Any:
    """Return the pictures of an ImageFolder, or of another library's data set, without their labels; all else as it is."""
    if isinstance(data, (list, tuple, Mapping)):
        return data
    if has_images(data):
        return _images(data)
    found = _listed(data)
    return data if found is None else [*_from_anywhere(found)]


def _listed(data: Any) -> Listed | None:
    if isinstance(data, Listed):
        return data
    if data is None or is_path(data) or is_one_picture(data) or is_pixels(data):
        return None
    if isinstance(data, tuple) and len(data) == 2:
        return _pair(*data)
    if has_images(data):
        return _hugging_face(data)
    if hasattr(data, "samples") and hasattr(data, "classes"):
        return _image_folder(data)
    if _is_concatenated(data):
        return _concatenated(data)
    if hasattr(data, "indices") and hasattr(data, "dataset"):
        return _part(data)
    if hasattr(data, "columns") or hasattr(data, "column_names") or not hasattr(data, "__getitem__"):
        return None
    return _pairs(data)


def _joined(parts: Mapping[str, Any]) -> Any:
    """Join the parts of a dict, whose names are splits; arrays, and the columns of a table, stay as they are.

    Lists of arrays are one array where the pictures of all parts are alike, not those of one part alone.
    """
    found = {str(name): _listed(value) for name, value in parts.items()}
    alike = {str(name): value for name, value in parts.items() if found[str(name)] is None and _is_pair_of_list(value)}
    firsts = [next(iter(pictures)) for pictures, _ in alike.values()]  # each stands for its part
    if firsts and (any(found.values()) or not _are_one_array(firsts)):
        found |= {name: _pair(*pair, as_array=False) for name, pair in alike.items()}
    whole = [part for part in found.values() if part is not None]
    if not whole:
        return parts
    others = [name for name, part in found.items() if part is None]
    if others:
        raise DataError("data", "all parts of a dict must hold pictures in the same way", got=", ".join(map(repr, others)),
                        fix="Give (list(images), labels) for an array.")  # fmt: skip
    return replace(_in_one(whole), splits=[name for name, part in found.items() if part is not None for _ in part.labels])


def _in_one(parts: Sequence[Listed]) -> Listed:
    """Return the pictures of several lists, one after the other."""
    sources = [*chain.from_iterable(_from_anywhere(part) for part in parts)]
    labels = [*chain.from_iterable(part.labels for part in parts)]
    notes = [*dict.fromkeys(chain.from_iterable(part.notes for part in parts))]
    return Listed(parts[0].name, sources, labels, Path.cwd(), notes=notes)


def _from_anywhere(part: Listed) -> Iterable[Source]:
    return (str(part.root / source) if is_path(source) else source for source in part.sources)  # pyright: ignore[reportOperatorIssue]


def _pair(pictures: Any, labels: Any, *, as_array: bool = True) -> Listed | None:
    """List ``(pictures, labels)``; None for what is one array of pixels, or of numbers.

    as_array: a list whose pictures are rows of one array is that array.
    """
    rows = _pictures_in(pictures)
    if not rows or (as_array and _are_one_array(rows)):
        return None
    check_one_for_each(labels, who="(pictures, labels)")
    found = [one_label(label, who="data") for label in labels]
    if len(found) != len(rows):
        must = f"must have one label for each of its {len(rows):,} pictures"
        raise DataError("(pictures, labels)", must, got=len(found))
    return Listed("pictures", [as_source(row, place, who="fit") for place, row in enumerate(rows)], found, Path.cwd())


def _is_pair_of_list(data: Any) -> bool:
    """Return whether data are ``(pictures, labels)`` with the pictures in a list."""
    return isinstance(data, tuple) and len(data) == 2 and bool(_pictures_in(data[0]))


def _pictures_in(pictures: Any) -> list[Any]:
    """Return the pictures of a list; none of what is one array, one picture, or holds anything else."""
    pictures = plain(pictures)
    if is_pixels(pictures) or is_path(pictures) or is_one_picture(pictures) or not hasattr(pictures, "__len__"):
        return []
    rows = [plain(row) for row in pictures]
    return rows if all(is_path(row) or is_one_picture(row) or is_pixels(row) for row in rows) else []


def _are_one_array(rows: list[Any]) -> bool:
    """Return whether pictures are rows of one array that is taken as it is: one shape and type, not deep, no alpha."""
    if not all(isinstance(row, np.ndarray) for row in rows) or len({(row.shape, row.dtype.str) for row in rows}) > 1:
        return False
    return rows[0].dtype not in PIXEL_TYPES or (rows[0].dtype == np.uint8 and rows[0].shape[2:] in ((), (1,), (3,)))


def _image_folder(data: Any) -> Listed:
    """List torchvision's ImageFolder. Raises DataError for one with a transform, which nothing here would apply."""
    who, root = type(data).__name__, Path(data.root).absolute()
    for name in ("transform", "target_transform"):
        if getattr(data, name, None) is not None:
            raise DataError(who, f"must have no {name}: descend reads, sizes and augments its files by settings of its own",
                            got=getattr(data, name), fix=f"Give {who}(root), and augment=[...], size=..., fit=...")  # fmt: skip
    files = [str(Path(path).absolute()).removeprefix(f"{root}/") for path, _ in data.samples]
    names = _words(data.classes)
    return Listed(root.name, files, [_in_words(number, names, who) for _, number in data.samples], root)


def _is_concatenated(data: Any) -> bool:
    """Return whether an object is a ConcatDataset whose parts name their classes themselves."""
    return hasattr(data, "datasets") and hasattr(data, "cumulative_sizes") and not _class_names(data)


def _concatenated(data: Any) -> Listed | None:
    """List a ConcatDataset, whose parts may number other classes: they are joined by name. Raises DataError."""
    parts = [_listed(part) for part in data.datasets]
    if any(part is None for part in parts):
        return _pairs(data)
    whole = _in_one([part for part in parts if part is not None])
    if {str, int} <= {type(label) for label in whole.labels}:
        raise DataError(type(data).__name__, "all parts must name their classes, or none: words and numbers cannot be matched",
                        fix="Give the other parts a list `classes` of names.")  # fmt: skip
    return whole


def _part(data: Any) -> Listed | None:
    """List a Subset: of an ImageFolder its files, whose 16 bits and transparency its loader drops; of others the members."""
    whole = _listed(data.dataset) if _is_by_parts(data.dataset) else None
    if whole is None:
        return _pairs(data)
    rows = [int(row) for row in data.indices]
    return replace(whole, sources=[whole.sources[row] for row in rows], labels=[whole.labels[row] for row in rows])


def _is_by_parts(data: Any) -> bool:
    """Return whether an object is an ImageFolder or a ConcatDataset, whose members tell too little, or a part of one."""
    if hasattr(data, "samples") or _is_concatenated(data):
        return True
    return hasattr(data, "indices") and _is_by_parts(getattr(data, "dataset", None))


def _pairs(data: Any) -> Listed | None:
    """List an object with a length whose members are pairs of a picture and a label; None where the first member is none."""
    who = type(data).__name__
    try:
        n, first = len(data), data[0]
    except (TypeError, LookupError):
        return None
    if not _is_pair(first):
        return None
    names = _class_names(data)
    sources, labels = list[Source](), list[Any]()
    for place in range(n):
        with naming(f"{who}[{place}]"):
            member = data[place]
            if not _is_pair(member):
                raise DataError(f"{who}[{place}]", "must be a pair (picture, label)", got=type(member).__name__)
            sources.append(kept(as_source(member[0], place, who=who)))
        labels.append(_in_words(one_label(member[1], who="data"), names, who))
    return Listed("pictures" if who == "list" else who.lower(), sources, labels, Path.cwd())


def _is_pair(member: Any) -> bool:
    return isinstance(member, (tuple, list)) and len(member) == 2


def _class_names(data: Any) -> Sequence[str]:
    """Return the names of classes that a data set, or what it is a part of, tells; a ``target_transform`` makes other numbers."""
    while data is not None and getattr(data, "target_transform", None) is None:
        names = getattr(data, "classes", None)
        if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in _words(names)):
            return _words(names)
        data = getattr(data, "dataset", None)
    return ()


def _in_words(label: Any, names: Sequence[str], who: str) -> Any:
    """Return the name of a class by its number, None for -1, which stands for no label; labels in words stay as they are.

    Raises DataError for a number without a name: those with one may be shifted.
    """
    if not names or not isinstance(label, int):
        return label
    if not -1 <= label < len(names):
        raise DataError(who, f"must number its {len(names)} classes from 0 to {len(names) - 1}, as it names them", got=label,
                        fix="Mend its labels or its list `classes`.")  # fmt: skip
    return names[label] if label >= 0 else None


def _words(classes: Sequence[Any]) -> list[Any]:
    """Return the names of classes, each a text where it is a tuple of synonyms: torchvision's ImageNet and Imagenette.

    Two of ImageNet's are called crane: names that stand for several classes are told apart by the classes' numbers.
    """
    joined = {number: ", ".join(name) for number, name in enumerate(classes)
              if isinstance(name, tuple) and all(isinstance(word, str) for word in name)}  # fmt: skip
    times = Counter(joined.values())
    joined = {number: f"{name} ({number})" if times[name] > 1 else name for number, name in joined.items()}
    return [joined.get(number, name) for number, name in enumerate(classes)]


def _features(data: Any, kind: str) -> list[str]:
    """Return the columns of a kind in a Dataset of Hugging Face; none in other data."""
    features = getattr(data, "features", None)
    if not isinstance(features, Mapping) or not hasattr(data, "cast_column"):
        return []
    return [name for name, feature in features.items() if type(feature).__name__ == kind]


def _hugging_face(data: Any) -> Listed:
    """List a Dataset of Hugging Face by its columns of images and of labels, each the only one or by its name."""
    label, picture = _label_column(data), _image_column(data)
    names, labels = getattr(data.features[label], "names", None), [*data.with_format(None)[label]]
    if names:
        labels = [_in_words(label, names, "Dataset") for label in labels]
    taken = [f"{label!r} as label"] * (label not in _LABELS)
    taken += [f"{picture!r} as pictures"] * (len(_features(data, "Image")) > 1)
    name = str(getattr(data.info, "dataset_name", None) or "dataset")
    return Listed(name, _images(data), labels, Path.cwd(), notes=taken_by_name(taken))


def _label_column(data: Any) -> str:
    """Return the column of labels: one called so, or the only one of classes. Raises DataError for none, and for several."""
    named, of_classes = [name for name in _LABELS if name in data.column_names], _features(data, "ClassLabel")
    if not named and not of_classes:
        raise DataError("Dataset", "must have a column of labels", got=", ".join(data.column_names), fix="Call it 'label'.")
    if not named and len(of_classes) > 1:
        raise DataError("Dataset", "must have one column of classes, or one called 'label'", got=", ".join(of_classes),
                        fix=f"Such as: rename_column({of_classes[0]!r}, 'label').")  # fmt: skip
    return (*named, *of_classes)[0]


def _image_column(data: Any) -> str:
    """Return the column of pictures: the only one of images, or by its name. Raises DataError for several."""
    found = _features(data, "Image")
    named = [found[at] for at in path_columns(found)] if len(found) > 1 else found
    if len(named) != 1:
        raise DataError("Dataset", "must have one column of images, or one called 'image'", got=", ".join(found),
                        fix=f"Leave out the others, such as: remove_columns({found[-1]!r}).")  # fmt: skip
    return named[0]


def _images(data: Any) -> list[Source]:
    """Return the pictures of a Dataset of Hugging Face, as they are stored."""
    if not hasattr(data, "__len__"):
        raise DataError("Dataset", "must have a length", got=type(data).__name__, fix="Load it without streaming=True.")
    image = _image_column(data)
    encoded = data.with_format(None).cast_column(image, type(data.features[image])(decode=False))
    return [file_or_bytes(cell, f"Dataset[{place}]") for place, cell in enumerate(encoded[image])]


def file_or_bytes(cell: Any, who: str) -> Source:
    """Return the picture in a cell as Hugging Face stores it, ``{"bytes": ..., "path": ...}``. Raises DataError for none."""
    if cell is None or not (cell.get("bytes") or cell.get("path")):
        raise DataError(who, "must have a picture", got=cell, fix="Filter such rows out.")
    return cell["bytes"] if cell.get("bytes") else str(cell["path"])


def kept(source: Source) -> Source:
    """Return a picture in a form that takes little memory and holds nothing open: a path, bytes, or few pixels."""
    if is_path(source) or isinstance(source, bytes):
        return source
    if isinstance(source, Image.Image):
        return file_content(source) or (np.array(source) if _is_simple(source) else _encoded(source))
    if isinstance(source, np.ndarray):
        return np.array(source) if _is_few(source) else _encoded(source)
    source.seek(0)  # pyright: ignore[reportAttributeAccessIssue] (an open file is what is left)
    return source.read()  # pyright: ignore[reportAttributeAccessIssue]


def _is_simple(image: Image.Image) -> bool:
    is_upright = orientation(image) == 1
    return image.mode in ("L", "RGB") and max(image.size) <= SMALL and is_upright and not image.has_transparency_data


def _is_few(pixels: NDArray[Any]) -> bool:
    return pixels.dtype == np.uint8 and max(pixels.shape[:2]) <= SMALL and (pixels.ndim == 2 or pixels.shape[2] in (1, 3))


def _encoded(picture: Image.Image | NDArray[Any]) -> bytes:
    """Encode a picture without loss, quickly."""
    if isinstance(picture, np.ndarray):
        picture = picture[..., 0] if picture.shape[2:] == (1,) else picture
        if picture.ndim == 3 and picture.dtype == np.uint16:
            return encode_deep_color(picture)
        if picture.ndim == 3 and picture.dtype == np.bool_:
            picture = picture * np.uint8(255)
        picture = Image.fromarray(np.ascontiguousarray(picture))
    picture = picture.convert(_HELD_AS[picture.mode]) if picture.mode in _HELD_AS else picture
    options = {"format": "TIFF"} if picture.mode in _IN_TIFF else {"format": "PNG", "compress_level": 1}
    buffer = BytesIO()
    picture.save(buffer, exif=picture.getexif(), **options)
    return buffer.getvalue()
