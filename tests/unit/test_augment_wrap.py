"""Augmentation inside a DataLoader: workers, start methods and order change nothing, epochs reach persistent workers."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

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


RECIPE = ["random_resized_crop()", "flip()", "color_jitter()"]
TRANSFORM = Pipeline(RECIPE, size=16).transform()


class Plain(Dataset):
    """Somebody's data set that calls a transform."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> torch.Tensor:
        return TRANSFORM(Image.fromarray(IMAGES[index]))


def test_a_transform_takes_what_torchvisions_take_and_follows_torchs_generator() -> None:
    made = []
    for picture in (Image.fromarray(IMAGES[0]), torch.from_numpy(IMAGES[0]).permute(2, 0, 1), IMAGES[0]):
        torch.manual_seed(5)
        made.append(TRANSFORM(picture))
    assert made[0].shape == (3, 16, 16)
    assert made[0].dtype == torch.float32
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])
    assert not torch.equal(made[0], TRANSFORM(IMAGES[0]))
    composed = v2.Compose([v2.PILToTensor(), TRANSFORM])
    torch.manual_seed(5)
    assert torch.equal(composed(Image.fromarray(IMAGES[0])), made[0])


def test_a_transform_reads_grey_pictures_and_gives_levels_channels_first() -> None:
    levels = Pipeline([], out="uint8").transform()
    grey = IMAGES[0][..., 0]
    for picture in (Image.fromarray(grey), torch.from_numpy(grey)[None]):
        assert np.array_equal(levels(picture).numpy(), np.repeat(grey[None], 3, 0))


@pytest.mark.parametrize(("n_workers", "method"), [(0, None), (2, "fork"), (2, "spawn")])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_transform_works_in_workers_that_draw_apart(n_workers: int, method: str | None) -> None:
    if method and method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    TRANSFORM(IMAGES[0])  # the parent has run its kernel before it forks
    runs = []
    for _ in range(2):
        seeds = torch.Generator().manual_seed(1)
        torch.manual_seed(1)
        loader = DataLoader(Plain(), 5, num_workers=n_workers, multiprocessing_context=method, generator=seeds)
        runs.append(torch.cat(list(loader)))
    assert torch.equal(*runs)
    assert len(torch.unique(runs[0].flatten(1), dim=0)) == 10


def test_a_transform_refuses_what_it_cannot_read() -> None:
    with pytest.raises(KnobError, match="whole batches"):
        Pipeline("cutmix()").transform()
    with pytest.raises(DataError, match="channels first"):
        TRANSFORM(torch.from_numpy(IMAGES[0]))
    with pytest.raises(DataError, match=r"0\.\.1: multiply"):
        TRANSFORM(torch.rand(3, 9, 9))
