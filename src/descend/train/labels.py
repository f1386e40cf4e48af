"""Labels in the type that their owner uses: what was trained on whole numbers answers whole numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from descend.data.labels import cell_text
from descend.data.listed import Listed
from descend.data.scalars import plain
from descend.data.sources import labels_column

LabelType = Literal["text", "integer", "boolean"]
"""What the labels of arrays were; those of folders, tables and built-in sets, and numbers that no int64 holds, are text."""
_INT64 = np.iinfo(np.int64)


def label_type(data: object) -> LabelType:
    """Return the type of the labels in ``(images, labels)``, a dict of such pairs, a data frame or a list; of a path, text."""
    labels = data.labels if isinstance(data, Listed) else labels_column(data)
    if labels is not None:
        return _type_of(labels)
    if isinstance(data, Mapping):
        kinds: list[LabelType] = [_type_of(pair[1]) for pair in data.values()]
        return kinds[0] if len(set(kinds)) == 1 else "text"
    return _type_of(data[1]) if isinstance(data, tuple) else "text"


def _type_of(labels: Any) -> LabelType:
    array = _present(
        np.asarray([plain(label) for label in labels], object) if isinstance(labels, (list, tuple)) else np.asarray(labels)
    )
    if array.dtype == np.bool_ or (array.dtype == np.object_ and all(isinstance(label, (bool, np.bool_)) for label in array)):
        return "boolean"
    whole = array.dtype == np.object_ and all(isinstance(label, (int, np.integer)) for label in array)
    return "integer" if (whole or array.dtype.kind in "iu") and _fit(array.tolist()) else "text"


def _fit(numbers: Sequence[int]) -> bool:
    """Return whether whole numbers fit into int64."""
    return all(_INT64.min <= number <= _INT64.max for number in numbers)


def _present(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the labels that are not missing; the whole floats that a gap makes of integers are integers again."""
    if labels.dtype.kind == "f":
        numbers = labels[~np.isnan(labels)]
        whole = (numbers == np.rint(numbers)) & (abs(numbers) < 2.0**63)
        return numbers.astype(np.int64) if whole.all() else labels
    if labels.dtype != np.object_:
        return labels
    words = np.array([bool(cell_text(label)) for label in labels], np.bool_)
    return np.array([int(label) if isinstance(label, float) and label.is_integer() else label for label in labels[words]], object)


def typed(classes: Sequence[str], kind: LabelType) -> NDArray[Any]:
    """Return the names of classes as labels of a type: (K,) str, int64 or bool; numbers that no int64 holds as str.

    >>> from descend.train.labels import typed
    >>> typed(("3", "10"), "integer")
    array([ 3, 10])
    """
    if kind == "integer" and _fit(numbers := [int(name) for name in classes]):  # older runs say so of any number
        return np.array(numbers, np.int64)
    if kind == "boolean":
        return np.array([name == "True" for name in classes])
    return np.array(classes)
