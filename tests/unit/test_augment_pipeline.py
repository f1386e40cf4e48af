"""The pipeline as a whole: draws as a function of their coordinates, text, policies, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from descend.augment import POLICIES, Flip, Pipeline, TestTime, expand
from descend.errors import DataError, KnobError, SpecError

IMAGES = np.random.default_rng(6).integers(0, 256, (24, 20, 22, 3), dtype=np.uint8)
IDS = np.random.default_rng(7).integers(-(2**62), 2**62, 24)
RICH = ["random_resized_crop()", "flip()", "rotate()", "color_jitter()", "random_erasing()"]


def test_batch_size_order_and_starting_point_change_nothing() -> None:
    pipe = Pipeline(RICH, seed=3, size=16, out="uint8")
    whole = pipe(IMAGES, ids=IDS, epoch=4)
    split = torch.cat([pipe(IMAGES[k : k + 5], ids=IDS[k : k + 5], epoch=4) for k in range(0, 24, 5)])
    order = np.random.default_rng(1).permutation(24)
    assert torch.equal(whole, split)
    assert torch.equal(whole[order], pipe(IMAGES[order], ids=IDS[order], epoch=4))


def test_seed_epoch_draw_and_id_each_change_the_draw() -> None:
    pipe = Pipeline("rotate()", seed=3)
    first = pipe.draw(IDS, (20, 22), epoch=4).matrix
    others = [
        Pipeline("rotate()", seed=4).draw(IDS, (20, 22), epoch=4),
        pipe.draw(IDS, (20, 22), epoch=5),
        pipe.draw(IDS, (20, 22), epoch=4, draw=1),
        pipe.draw(IDS + 1, (20, 22), epoch=4),
    ]
    for other in others:
        assert not np.isclose(first, other.matrix).all((1, 2)).any()


def test_adding_a_transform_leaves_the_other_draws_as_they_were() -> None:
    short, long = Pipeline(["rotate()", "flip()"]), Pipeline(["shear()", "flip()", "cutout()", "rotate()", "flip()"])
    one, other = (pipe.draw(IDS, (20, 22), epoch=0).parameters for pipe in (short, long))
    assert np.array_equal(one["rotate"]["degrees"], other["rotate"]["degrees"])
    assert np.array_equal(one["flip"]["flipped"], other["flip"]["flipped"])
    assert not np.array_equal(other["flip"]["flipped"], other["flip#2"]["flipped"])


def test_a_draw_can_be_replayed() -> None:
    pipe = Pipeline(RICH, size=16)
    draws = pipe.draw(IDS, (20, 22), epoch=2, draw=5)
    assert torch.equal(pipe.apply(IMAGES, draws), pipe(IMAGES, ids=IDS, epoch=2, draw=5))


def test_numpy_torch_read_only_and_strided_batches_are_the_same_to_it() -> None:
    pipe = Pipeline(RICH, size=16)
    expected = pipe(IMAGES, ids=IDS, epoch=0)
    locked = IMAGES.copy()
    locked.flags.writeable = False
    strided = np.repeat(IMAGES, 2, axis=2)[:, :, ::2]
    for images in (torch.from_numpy(IMAGES.copy()), locked, strided, torch.from_numpy(strided)):
        assert torch.equal(pipe(images, ids=torch.as_tensor(IDS), epoch=0), expected)


def test_the_input_is_left_alone() -> None:
    before = IMAGES.copy()
    for out in ("float", "uint8"):
        Pipeline([*RICH, "cutmix()"], out=out)(IMAGES, np.zeros(24, int), ids=IDS, epoch=0, step=0, n_classes=2)
        Pipeline("cutout()", out=out)(IMAGES, ids=IDS, epoch=0)
    assert np.array_equal(before, IMAGES)


def test_the_two_outputs_agree() -> None:
    floats = Pipeline(RICH, size=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))(IMAGES, ids=IDS, epoch=0)
    levels = Pipeline(RICH, size=16, mean=(0.0, 0.0, 0.0), out="uint8")(IMAGES, ids=IDS, epoch=0)
    assert floats.shape == (24, 3, 16, 16)
    assert levels.shape == (24, 16, 16, 3)
    assert (255 * floats.permute(0, 2, 3, 1) - levels).abs().max() <= 0.501


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_lists_of_transforms(name: str) -> None:
    assert [str(transform) for transform in expand(name)] == list(POLICIES[name])
    images = Pipeline(name, size=16)(IMAGES, np.zeros(24, int), ids=IDS, epoch=0, step=0, n_classes=2)[0]
    assert images.shape == (24, 3, 16, 16)
    assert images.isfinite().all()


def test_policies_transforms_and_text_may_stand_side_by_side() -> None:
    assert [t.name for t in expand(["light", Flip(axis="vertical"), "rotate"])] == [
        "random_resized_crop",
        "flip",
        "flip",
        "rotate",
    ]


@pytest.mark.parametrize(
    ("spec", "text"),
    [("rotat()", "'rotate'"), ("mediun", "'medium'"), ("light(p=1)", "no knobs"), ("rotate(degree=3.0)", "'degrees'")],
)
def test_unknown_names_suggest_the_nearest(spec: str, text: str) -> None:
    with pytest.raises((SpecError, KnobError), match=text):
        Pipeline(spec)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (IMAGES.astype(np.float32), r"0\.\.255: round"),
        (IMAGES.astype(np.float32) / 255, "multiply by 255"),
        (IMAGES.astype(np.int64), "uint8"),
        (IMAGES.transpose(0, 3, 1, 2), "channels last"),
        (IMAGES[0], r"\(B, H, W, 3\)"),
        (IMAGES[:0], "B, H, W > 0"),
        (IMAGES[..., :1], "repeat gray"),
        (IMAGES.tolist(), "NumPy array"),
    ],
)
def test_wrong_batches_are_refused_with_the_fix(images: np.ndarray, text: str) -> None:
    with pytest.raises(DataError, match=text):
        Pipeline([])(images, ids=IDS, epoch=0)


def test_ids_and_draws_must_fit_the_batch() -> None:
    pipe = Pipeline([])
    with pytest.raises(DataError, match="draw is for 3"):
        pipe(IMAGES, ids=IDS[:3], epoch=0)
    with pytest.raises(DataError, match="whole numbers"):
        pipe(IMAGES, ids=IDS / 2, epoch=0)
    with pytest.raises(DataError, match=r"\(20, 22\)"):
        pipe.apply(IMAGES[:, :10], pipe.draw(IDS, (20, 22), epoch=0))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"out": "half"}, "'float' or 'uint8'"),
        ({"size": 0}, "whole number"),
        ({"size": (3,)}, "two of them"),
        ({"std": (0.0, 1.0, 1.0)}, "> 0"),
        ({"specs": ["normalize()"], "out": "uint8"}, "no effect"),
        ({"specs": ["normalize()", "normalize()"]}, "at most once"),
        ({"specs": ["random_resized_crop(size=20)"], "size": 16}, "pipeline"),
    ],
)
def test_settings_that_cannot_hold_are_refused(settings: dict[str, object], text: str) -> None:
    with pytest.raises(KnobError, match=text):
        Pipeline(**{"specs": [], **settings})  # pyright: ignore[reportArgumentType]


def test_the_crop_takes_the_size_of_the_pipeline_or_its_own() -> None:
    for settings in ({"specs": "random_resized_crop()", "size": 12}, {"specs": "random_resized_crop(size=12)"}):
        pipe = Pipeline(**settings, out="uint8")  # pyright: ignore[reportArgumentType]
        assert pipe(IMAGES, ids=IDS, epoch=0).shape == (24, 12, 12, 3)


@pytest.mark.parametrize("size", [16, 20, (20, 22), 1])
def test_the_plain_view_and_its_mirror_image_are_copies_of_the_middle(size: int | tuple[int, int]) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    top, left = (20 - height) // 2, (22 - width) // 2
    middle = IMAGES[:, top : top + height, left : left + width]
    stored = torch.from_numpy(IMAGES.copy())
    plain = Pipeline([], size=size, out="uint8")(stored, ids=IDS, epoch=0)
    mirrored = Pipeline("flip(p=1.0)", size=size, out="uint8")(stored, ids=IDS, epoch=0)
    assert plain.is_contiguous()
    assert mirrored.is_contiguous()
    assert np.array_equal(plain, middle)
    assert np.array_equal(mirrored, IMAGES[:, :, ::-1][:, top : top + height, left : left + width])
    plain.zero_()
    assert np.array_equal(stored, IMAGES), "what is done to a view leaves the picture as it is"


@pytest.mark.parametrize("size", [np.int64(16), np.array(16), [16, 16], torch.Size([16, 16]), (np.int32(16), 16)])
def test_a_size_may_be_of_numpy_or_torch(size: Any) -> None:
    made = Pipeline(RICH, size=size)(IMAGES, ids=IDS, epoch=0)
    assert torch.equal(made, Pipeline(RICH, size=16)(IMAGES, ids=IDS, epoch=0))


@pytest.mark.parametrize("size", [True, 16.0, "16", (16, True), (16, 16, 16), (16, -1), [[16, 16]], {16}])
def test_another_size_is_refused(size: Any) -> None:
    for kind in (lambda: Pipeline(RICH, size=size), lambda: TestTime("flip", size=size)):
        with pytest.raises(KnobError, match=r"augment: size must be a whole number of pixels > 0, two of them, or None, got"):
            kind()


@pytest.mark.parametrize("value", [None, "a", 1.5, True, [1]])
def test_what_numbers_a_draw_is_a_whole_number(value: Any) -> None:
    for kind in (lambda: Pipeline(RICH, seed=value), lambda: TestTime("flip", seed=value)):
        with pytest.raises(KnobError, match="seed must be a whole number, got"):
            kind()
    pipe, usual = Pipeline("mixup()"), {"epoch": 1, "step": 1, "draw": 1}
    for name in ("epoch", "draw") if value is None else usual:
        for call in (lambda **numbers: pipe.draw(IDS, (20, 22), **numbers), lambda **numbers: pipe.needed(IDS, [0], **numbers)):
            with pytest.raises(KnobError, match=f"{name} must be a whole number, got"):
                call(**{**usual, name: value})


def test_numbers_of_numpy_and_torch_draw_as_pythons_do() -> None:
    pipe = Pipeline([*RICH, "mixup()"], seed=np.int64(2))  # pyright: ignore[reportArgumentType]
    given: Any = {"epoch": torch.tensor(3), "step": np.int32(4), "draw": np.int64(5)}
    expected = Pipeline([*RICH, "mixup()"], seed=2).draw(IDS, (20, 22), epoch=3, step=4, draw=5)
    assert pipe.draw(IDS, (20, 22), **given).describe() == expected.describe()
