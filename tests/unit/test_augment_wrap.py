"""Augmentation inside a DataLoader: workers, start methods and order change nothing, epochs reach persistent workers."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from descend.augment import Pipeline
from descend.errors import DataError, KnobError

IMAGES = np.random.default_rng(12).integers(0, 256, (10, 20, 20, 3), dtype=np.uint8)
SAMPLES = [(image, k) for k, image in enumerate(IMAGES)]
PIPE = Pipeline(["rotate()", "color_jitter()", "cutout()"], seed=3, size=16)


def expected(epoch: int) -> torch.Tensor:
    return PIPE(IMAGES, ids=np.arange(10), epoch=epoch)


@pytest.mark.parametrize(("n_workers", "method"), [(0, None), (2, "fork"), (1, "spawn")])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_workers_give_the_pictures_of_the_pipeline_in_every_epoch(n_workers: int, method: str | None) -> None:
    if method and method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    first = expected(0)
    wrapped = PIPE.wrap(SAMPLES)
    loader = DataLoader(wrapped, 4, num_workers=n_workers, multiprocessing_context=method, persistent_workers=n_workers > 0)
    for epoch in (0, 5):
        wrapped.set_epoch(epoch)
        images, targets = zip(*loader, strict=True)
        assert torch.equal(torch.cat(images), expected(epoch))
        assert torch.cat(targets).tolist() == list(range(10))
    assert not torch.equal(first, expected(5))


def test_samples_may_be_pillow_or_torch_and_have_ids_of_their_own() -> None:
    ids = np.arange(10)[::-1] + 100
    for kind in (Image.fromarray, torch.from_numpy):
        wrapped = PIPE.wrap([(kind(image), "name", 1.0) for image in IMAGES], ids)
        picture, name, weight = wrapped[3]
        assert torch.equal(picture, PIPE(IMAGES[3:4], ids=ids[3:4], epoch=0)[0])
        assert (name, weight) == ("name", 1.0)
        assert len(wrapped) == 10


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(KnobError, match="whole batches"):
        Pipeline("mixup()").wrap(SAMPLES)
    with pytest.raises(DataError, match=r"\(10,\)"):
        PIPE.wrap(SAMPLES, [1, 2])
