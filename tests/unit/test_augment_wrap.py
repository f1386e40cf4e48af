"""Augmentation inside a DataLoader: workers, start methods and order change nothing, epochs reach persistent workers."""

from __future__ import annotations

import multiprocessing
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import MNIST
from torchvision.transforms import v2

from descend.augment import Pipeline
from descend.data.decode import decode
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


@pytest.mark.parametrize(
    ("sample", "got"),
    [
        (torch.from_numpy(IMAGES[0]).permute(2, 0, 1), "Tensor"),  # would be read as its red channel, with two targets
        (IMAGES[0], "ndarray"),
        (Image.fromarray(IMAGES[0]), "Image"),
        ({"image": IMAGES[0], "label": 1}, "dict"),
        ((), r"\(\)"),
    ],
    ids=["tensor", "array", "Pillow", "dictionary", "empty"],
)
def test_a_sample_that_is_no_picture_with_its_target_is_refused(sample: Any, got: str) -> None:
    for wrapped in (PIPE.wrap([sample]), PIPE.wrap(ReadTogether([sample]))):
        with pytest.raises(DataError, match=rf"a sample must be a tuple or list.*got .?{got}.*\(picture, target\)"):
            wrapped[0]


def test_a_sample_may_be_a_list_and_have_no_target() -> None:
    (picture,) = PIPE.wrap([[IMAGES[0]]])[0]
    assert torch.equal(picture, expected(0)[0])


class Counted(Pipeline):
    """A pipeline that keeps the shapes of the batches that it is given."""

    shapes: list[tuple[int, ...]]

    def __call__(self, images: Any, *args: Any, **settings: Any) -> Any:
        self.shapes = [*getattr(self, "shapes", []), images.shape]
        return super().__call__(images, *args, **settings)


class ReadTogether(list[Any]):
    """Samples that like to be read several at once."""

    def __getitems__(self, rows: list[int]) -> list[Any]:
        return [self[row] for row in rows]

    def __getitem__(self, row: Any) -> Any:
        return super().__getitem__(row)


def test_a_loader_has_pictures_of_one_shape_augmented_together_with_the_pixels_of_each_alone() -> None:
    pictures = [IMAGES[0], IMAGES[1, :13], IMAGES[2], IMAGES[3, :13], IMAGES[4]]
    samples = [(Image.fromarray(picture), k) for k, picture in enumerate(pictures)]
    pipe = Counted(["rotate()", "color_jitter()"], seed=3, size=16)
    for dataset in (samples, ReadTogether(samples)):
        pipe.shapes = []
        wrapped = pipe.wrap(dataset)
        images, targets = next(iter(DataLoader(wrapped, 5)))
        assert pipe.shapes == [(3, 20, 20, 3), (2, 13, 20, 3)]
        assert targets.tolist() == [0, 1, 2, 3, 4]
        for k, picture in enumerate(pictures):
            assert torch.equal(images[k], pipe(picture[None], ids=[k], epoch=0)[0])


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


def test_a_transform_reads_gray_pictures_and_gives_levels_channels_first() -> None:
    levels = Pipeline([], out="uint8").transform()
    gray = IMAGES[0][..., 0]
    for picture in (Image.fromarray(gray), torch.from_numpy(gray)[None]):
        assert np.array_equal(levels(picture).numpy(), np.repeat(gray[None], 3, 0))


@pytest.mark.parametrize(("n_workers", "method"), [(0, None), (2, "fork"), pytest.param(2, "spawn", marks=pytest.mark.slow)])
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


# ---------------------------------------------------------------------------------------------------- pictures of any kind

GRAY = IMAGES[0][..., 0]
ALPHA = IMAGES[1][..., :1]
ON_WHITE = np.rint((IMAGES[0].astype(float) * ALPHA + 255.0 * (255 - ALPHA)) / 255)  # the usual formula, white behind
DEEP = (GRAY.astype(np.uint16) * 257)[:, ::-1].copy()
DEEP[0, :4] = 65535, 32768, 256, 1


def with_mode(mode: str) -> Image.Image:
    """A picture of some mode, whose pixels are known."""
    if mode == "RGBA":
        return Image.fromarray(np.concatenate([IMAGES[0], ALPHA], 2))
    if mode == "LA":
        return Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(ALPHA[..., 0])])
    if mode == "La":
        return with_mode("LA").convert("La")
    if mode == "I;16":
        return Image.fromarray(DEEP)
    if mode == "I":
        return Image.fromarray(DEEP.astype(np.int32))
    if mode == "F":
        return Image.fromarray((DEEP / 65535).astype(np.float32))
    if mode == "P":
        picture = Image.fromarray(GRAY).convert("P")
        picture.putpalette(np.arange(256, dtype=np.uint8)[::-1].repeat(3).tobytes())
        return picture
    return Image.fromarray(IMAGES[0]).convert(mode)


EXPECTED = {
    "L": np.asarray(Image.fromarray(IMAGES[0]).convert("L"))[..., None].repeat(3, 2),
    "1": np.asarray(Image.fromarray(IMAGES[0]).convert("1"))[..., None].repeat(3, 2) * 255,
    "RGB": IMAGES[0],
    "RGBA": ON_WHITE,
    "LA": np.rint((GRAY.astype(float) * ALPHA[..., 0] + 255.0 * (255 - ALPHA[..., 0])) / 255)[..., None].repeat(3, 2),
    "I;16": np.rint(DEEP / 257.0)[..., None].repeat(3, 2),
    "I": np.rint(DEEP / 257.0)[..., None].repeat(3, 2),
    "F": np.rint(DEEP / 257.0)[..., None].repeat(3, 2),
    "P": (255 - GRAY)[..., None].repeat(3, 2),
    "La": np.rint(np.floor(GRAY / 255.0 * ALPHA[..., 0] + 0.5) + 255.0 - ALPHA[..., 0])[..., None].repeat(3, 2),  # premultiplied
    "CMYK": IMAGES[0],
    "YCbCr": np.asarray(Image.fromarray(IMAGES[0]).convert("YCbCr").convert("RGB")),
}
AS_LEVELS = Pipeline([], out="uint8")


@pytest.mark.parametrize("mode", EXPECTED)
def test_pillow_images_of_any_mode_are_read_by_the_decode_policy(mode: str) -> None:
    picture = with_mode(mode)
    assert picture.mode == mode
    for levels in (AS_LEVELS.transform()(picture).permute(1, 2, 0), AS_LEVELS.wrap([(picture, 0)])[0][0]):
        assert np.abs(levels.numpy() - EXPECTED[mode]).max() <= (1 if mode in ("LA", "RGBA", "La") else 0)
        assert np.array_equal(levels.numpy(), decode(picture))


def test_pictures_stand_upright() -> None:
    picture = Image.fromarray(IMAGES[0][:, :13])
    picture.getexif()[0x0112] = 6  # the top of the picture is at its right
    expected = np.rot90(IMAGES[0][:, :13], -1)
    assert np.array_equal(AS_LEVELS.transform()(picture).permute(1, 2, 0).numpy(), expected)
    assert np.array_equal(AS_LEVELS.wrap([(picture, 0)])[0][0].numpy(), expected)


TENSORS = {
    "RGB": (torch.from_numpy(IMAGES[0]).permute(2, 0, 1), IMAGES[0]),
    "gray": (torch.from_numpy(GRAY)[None], GRAY[..., None].repeat(3, 2)),
    "RGBA": (torch.from_numpy(np.concatenate([IMAGES[0], ALPHA], 2)).permute(2, 0, 1), ON_WHITE),
    "deep": (torch.from_numpy(DEEP)[None], np.rint(DEEP / 257.0)[..., None].repeat(3, 2)),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_with_the_channels_first_and_arrays_with_the_channels_last_are_the_same(kind: str) -> None:
    tensor, expected = TENSORS[kind]
    for picture in (tensor, tensor.permute(1, 2, 0).numpy()):
        for levels in (AS_LEVELS.transform()(picture).permute(1, 2, 0), AS_LEVELS.wrap([(picture, 0)])[0][0]):
            assert np.abs(levels.numpy() - expected).max() <= (kind == "RGBA")


def test_wrap_takes_tensors_with_the_channels_last_but_not_what_reads_both_ways() -> None:
    for tensor, expected in ((torch.from_numpy(IMAGES[0]), IMAGES[0]), (torch.from_numpy(GRAY), TENSORS["gray"][1])):
        assert np.array_equal(AS_LEVELS.wrap([(tensor, 0)])[0][0].numpy(), expected)
    with pytest.raises(DataError, match="reads both ways"):
        AS_LEVELS.wrap([(torch.zeros(3, 9, 3, dtype=torch.uint8), 0)])[0]
    for picture in (torch.zeros(2, 9, 9, dtype=torch.uint8), np.zeros((9, 9, 2), np.uint8), "a.png", torch.rand(3, 9, 9)):
        with pytest.raises(DataError):
            AS_LEVELS.wrap([(picture, 0)])[0]


def test_torchvisions_mnist_can_be_wrapped(tmp_path: Path) -> None:
    """The class of torchvision itself, on files of its format."""
    digits = IMAGES[..., 0]
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, *digits.shape) + digits.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, 10) + bytes(range(10)))
    wrapped = AS_LEVELS.wrap(MNIST(tmp_path))  # pyright: ignore[reportArgumentType] (torchvision's types are loose)
    assert len(wrapped) == 10
    for k, (image, label) in enumerate(wrapped):
        assert np.array_equal(image.numpy(), digits[k][..., None].repeat(3, 2))
        assert label == k
