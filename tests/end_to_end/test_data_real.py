"""The data package on real photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from tests.oracles.data_pictures import timm_eval

from descend.data import Batches, decoded, load

Find = Callable[[str], Path]


def test_hymenoptera(real_data: Find, tmp_path: Path) -> None:
    root = real_data("hymenoptera")
    dataset = load(root, cache_dir=tmp_path)
    assert dataset.classes == ("ants", "bees")
    assert dataset.summary()["splits"] == {"train": 245, "val": 153, "test": 0}
    assert dataset.problems == ()
    names = {dataset.name_of(row): row for row in dataset.indices("train")}
    assert "train/ants/imageNotFound.gif" in names  # a placeholder, and a picture
    pixels = decoded(dataset, 256, cache_dir=tmp_path)
    assert len(pixels.dataset.indices("train")) == 245
    for row in (0, 100, 300, 397):
        with Image.open(root / dataset.name_of(row)) as image:
            expected = timm_eval(np.array(image.convert("RGB")), 224, 0.875)
        np.testing.assert_array_equal(pixels.take([row])[0, 16:240, 16:240], expected)
    batches = Batches(pixels, dataset.indices("train"), batch_size=32)
    shown = Counter(np.concatenate([batch.targets for batch in batches.epoch(0)]).tolist())
    assert shown == {0: 124, 1: 121}


def test_sign_digits(real_data: Find, tmp_path: Path) -> None:
    dataset = load(real_data("sign-digits"), cache_dir=tmp_path)
    assert dataset.classes == tuple("0123456789")
    assert len(dataset) == 2062
    assert dataset.summary()["splits"] == {"train": 1444, "val": 309, "test": 309}
    counts = dataset.counts()
    np.testing.assert_allclose(counts / counts.sum(axis=1, keepdims=True), [[0.7, 0.15, 0.15]] * 10, atol=0.01)
    assert dataset.shorter_side == (100, 100, 3024)
