"""Labels as public sets have them: nothing is said of classes that share words, and many pictures take little time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from descend.data import labels, tables
from descend.data.labels import encode_labels

# classes of public sets, each of one thing, that share words in several places
PUBLIC = {
    "PlantDoc": [
        "Apple leaf", "Apple Scab Leaf", "Apple rust leaf", "Bell_pepper leaf", "Bell_pepper leaf spot", "Blueberry leaf",
        "Cherry leaf", "Corn Gray leaf spot", "Corn leaf blight", "Corn rust leaf", "Peach leaf", "Potato leaf early blight",
        "Potato leaf late blight", "Raspberry leaf", "Soyabean leaf", "Squash Powdery mildew leaf", "Strawberry leaf",
        "Tomato Early blight leaf", "Tomato Septoria leaf spot", "Tomato leaf", "Tomato leaf bacterial spot",
        "Tomato leaf late blight", "Tomato leaf mosaic virus", "Tomato leaf yellow virus", "Tomato mold leaf",
        "Tomato two spotted spider mites leaf", "grape leaf", "grape leaf black rot",
    ],
    "Fruits-360": [
        "Apple Braeburn 1", "Apple Crimson Snow 1", "Apple Golden 1", "Apple Golden 2", "Apple Golden 3", "Apple Red 1",
        "Apple Red 2", "Apple Red 3", "Apple Red Delicious 1", "Apple Red Yellow 1", "Apple Red Yellow 2", "Cherry Wax Black 1",
        "Cherry Wax Red 1", "Cherry Wax Yellow 1", "Onion Red 1", "Onion Red Peeled 1", "Pepper Red 1", "Pepper Yellow 1",
        "Tomato Cherry Red 1", "Tomato Cherry Yellow 1", "Grape White 1", "Grape White 2", "Banana Lady Finger 1", "Banana Red 1",
    ],
    "GTSRB": [
        "Speed limit 20", "Speed limit 30", "End of speed limit 80", "No passing", "No passing for trucks", "Right of way",
        "Priority road", "Yield", "Stop", "No vehicles", "No entry", "General caution", "Dangerous curve left",
        "Dangerous curve right", "Double curve", "Road narrows on the right", "Road work", "Keep left", "Keep right", "Turn left",
        "Turn right", "Ahead only", "Go straight or left", "Go straight or right", "Left turn only", "End of no passing",
    ],
    "grades": ["No DR", "Mild DR", "Moderate DR", "Severe DR", "Proliferative DR"],
    "grades of NPDR": ["Mild NPDR", "Moderate NPDR", "Severe NPDR", "PDR", "No DR", "Very Severe NPDR"],
    "pets": ["British Shorthair", "Egyptian Mau", "Maine Coon", "Russian Blue", "english cocker spaniel", "english setter",
             "german shorthaired", "great pyrenees", "japanese chin", "miniature pinscher", "scottish terrier",
             "yorkshire terrier", "staffordshire bull terrier", "wheaten terrier", "american bulldog",
             "american pit bull terrier", "saint bernard"],
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_classes_of_public_sets_are_single_labels(name: str) -> None:
    assert encode_labels(PUBLIC[name], who="t")[2] == []


@pytest.mark.parametrize(
    "make", [np.array, list, lambda numbers: list(np.array(numbers)), lambda numbers: [f"class {number}" for number in numbers]]
)
def test_each_label_is_looked_at_once_however_many_pictures_have_it(
    make: Callable[[list[int]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Any]()
    once = labels.label_text
    monkeypatch.setattr(labels, "label_text", lambda value, who: asked.append(value) or once(value, who=who))
    classes, numbers, _ = encode_labels(make([3, 5, 3, 10] * 50), who="t")
    assert (len(asked), len(classes)) == (3, 3)
    assert numbers.tolist() == [0, 1, 0, 2] * 50


def test_equal_values_of_several_types_keep_their_names() -> None:
    classes, numbers, _ = encode_labels([1, True, 1.0, "1", None, float("nan"), np.float32(1), np.bool_(True)], who="t")
    assert (classes, numbers.tolist()) == (("1", "True"), [0, 1, 0, 0, -1, -1, 0, 1])
    assert encode_labels(np.array([2.0, np.nan, 1.0]), who="t")[1].tolist() == [1, -1, 0]


def test_each_group_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()
    once = tables.group_text
    monkeypatch.setattr(tables, "group_text", lambda value: asked.append(value) or once(value))
    (told,) = tables._about_groups([["a.png", "p1"], ["b.png", "none"], ["c.png", "p1"], ["d.png", "none"]] * 9, {"group": 1})
    assert sorted(asked) == ["none", "p1"]
    assert told.n == 18
