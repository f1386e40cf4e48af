"""The compiled path against the plain one that defines the meaning; threads and worker processes change nothing."""

from __future__ import annotations

import multiprocessing
from typing import Literal

import numpy as np
import pytest
import torch
from scipy import stats

from descend.augment import Pipeline, fused, kernels, row_kernels
from descend.augment import apply as meaning
from descend.augment.factors import Neighborhood
from descend.augment.memory import uncleared
from descend.augment.neighborhood import compiled, processed
from descend.augment.row_kernels import AFFINE, COPIED, SAMPLED, STRAIGHT

IMAGES = np.random.default_rng(11).integers(0, 256, (12, 50, 60, 3), dtype=np.uint8)
IDS = np.arange(12) * 77 - 300
ONE, ZERO, MEAN, STD = torch.ones(3), torch.zeros(3), torch.tensor([10.0, 20.0, 30.0]), torch.tensor([5.0, 6.0, 7.0])

SMOOTH = [
    [],
    ["flip()", "pad_crop()", "quarter_turn()"],
    ["random_resized_crop()", "flip()"],
    ["quarter_turn()", "random_resized_crop(scale_range=[0.2, 1.0])", "flip(axis=vertical)", "shift()", "contrast()"],
    ["rotate(degrees=180.0)", "shear()", "scale(anisotropic=True)", "shift()"],
    ["perspective(p=0.7)", "elastic()"],
    ["rotate()", "color_jitter(hue=0.1)", "random_erasing()", "cutout(fill=color)"],
    ["rotate()", "gamma()", "gaussian_noise()", "lighting()", "gaussian_noise()"],
    ["blur()", "jpeg()", "sharpen()"],
    ["mixup()", "cutmix()"],
    ["hide_and_seek()", "grid_mask()", "coarse_dropout(fill=black)"],
    "strong",
]
STEPS = [
    ["rotate()", "equalize()", "autocontrast()", "solarize()"],
    ["quarter_turn()", "flip()", "equalize(p=0.7)", "solarize()"],
    ["pad_crop(padding=9)", "equalize()", "brightness()", "contrast()", "gaussian_noise()"],
    ["pad_crop(padding=9)", "equalize()", "resampling(border=constant)"],
    ["randaugment()"],
    ["trivialaugment()"],
    ["autoaugment()"],
]


def both(specs: str | list[str], size: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    draws = Pipeline(specs, size=size).draw(IDS, (50, 60), epoch=0, step=0)
    images = torch.from_numpy(IMAGES)
    return meaning.levels(images, draws, MEAN, STD).float(), fused.levels(images, draws, MEAN, STD, ONE, ZERO)


@pytest.mark.parametrize("size", [None, 18, 90])
@pytest.mark.parametrize("specs", SMOOTH, ids=str)
def test_it_agrees_with_the_meaning(specs: str | list[str], size: int | None) -> None:
    plain, fast = both(specs, size)
    assert (plain - fast).abs().max() < 0.01  # levels; the two round positions and sums differently


@pytest.mark.parametrize("size", [None, 90])
@pytest.mark.parametrize("specs", STEPS, ids=str)
def test_it_agrees_within_one_level_where_tables_have_steps(specs: list[str], size: int | None) -> None:
    plain, fast = both(specs, size)
    assert (plain - fast).abs().max() <= 1.01
    assert (plain - fast).abs().mean() < 0.01


@pytest.mark.parametrize("geometry", ["letterbox(size=60)", "pad_crop(padding=9)"])
def test_equalization_counts_a_border_between_whole_levels_for_both(geometry: str) -> None:
    specs = [geometry, "equalize(p=1.0)", "resampling(border=constant, fill=[123.675, 116.28, 103.53])"]
    assert set(fused.ways(Pipeline(specs).draw(IDS, (50, 60), epoch=0, step=0))) == {COPIED}
    plain, fast = both(specs, None)
    assert (plain - fast).abs().max() <= 1.01
    assert (plain - fast).abs().mean() < 0.01


def test_pictures_take_the_cheapest_way_that_their_geometry_allows() -> None:
    for specs, way in (
        ("flip()", COPIED),
        ("random_resized_crop()", STRAIGHT),
        ("rotate()", AFFINE),
        ("perspective(p=1.0)", SAMPLED),
    ):
        assert set(fused.ways(Pipeline(specs, size=30).draw(IDS, (50, 60), epoch=0))) == {way}
    turned = Pipeline(["quarter_turn()", "scale(anisotropic=True)"]).draw(IDS, (50, 60), epoch=0)
    assert (turned.matrix[:, 0, 0] == 0).any()
    assert set(fused.ways(turned)) == {STRAIGHT}


@pytest.mark.parametrize("out", ["uint8", "float"])
@pytest.mark.parametrize("specs", [[], ["flip(p=1.0)"], ["flip(p=1.0, axis=vertical)"]], ids=str)
def test_pixels_that_are_only_cut_out_are_those_of_the_kernels(
    specs: list[str], out: Literal["float", "uint8"], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipeline(specs, size=37, out=out)
    assert fused.copied(torch.from_numpy(IMAGES), pipe.draw(IDS, (50, 60), epoch=0)) is not None
    quick = pipe(IMAGES, ids=IDS, epoch=0)
    monkeypatch.setattr(fused, "copied", lambda images, draws: None)
    compiled = pipe(IMAGES, ids=IDS, epoch=0)
    assert torch.equal(quick, compiled)
    assert quick.stride() == compiled.stride()


def test_pixels_that_are_more_than_cut_out_take_the_kernels() -> None:
    images = torch.from_numpy(IMAGES)
    for specs, size in (("flip()", 37), ("quarter_turn()", 37), ("contrast()", 37), ("cutout()", 37), ("mixup()", 37), ([], 70)):
        assert fused.copied(images, Pipeline(specs, size=size).draw(IDS, (50, 60), epoch=0, step=0)) is None, specs


@pytest.mark.parametrize("stored", [(1, 1), (1, 7), (2, 2), (3, 40)])
def test_tiny_and_flat_pictures_agree_with_the_meaning(stored: tuple[int, int]) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, *stored, 3), dtype=np.uint8))
    for specs in (
        ["random_resized_crop()"],
        ["rotate(degrees=180.0)", "color_jitter()"],
        ["perspective(p=1.0)"],
        ["pad_crop(padding=9)"],
    ):
        for size in (1, 5, 70):
            draws = Pipeline(specs, size=size).draw(np.arange(9), stored, epoch=0)
            fast = fused.levels(images, draws, MEAN, STD, ONE, ZERO)
            assert (meaning.levels(images, draws, MEAN, STD) - fast).abs().max() < 0.02


def test_copies_are_equal_to_the_bit() -> None:
    for specs in (["flip()", "pad_crop()"], ["quarter_turn()", "flip()"], ["flip()", "random_erasing()"]):
        plain, fast = both(specs, 40)
        assert torch.equal(plain, fast)


@pytest.mark.parametrize(
    "specs", [*SMOOTH[:6], ["jpeg()", "gaussian_noise()", "random_erasing(fill=noise)"], ["equalize()"]], ids=str
)
def test_whole_levels_are_the_float_ones_rounded(specs: list[str]) -> None:
    draws = Pipeline(specs, size=40).draw(IDS, (50, 60), epoch=0)
    images = torch.from_numpy(IMAGES)
    levels = fused.levels(images, draws, MEAN, STD, ONE, ZERO)
    assert torch.equal(fused.whole_levels(images, draws, MEAN, STD), meaning.rounded(levels))


@pytest.mark.parametrize(
    "specs",
    [
        ["random_resized_crop()", "flip()"],
        ["center_crop()", "quarter_turn()"],
        ["scale(factor_range=[0.3, 1.7])", "resampling(border=constant, interpolation=bicubic)"],
        ["shift(fraction=1.0)", "resampling(border=wrap)"],
    ],
    ids=str,
)
def test_images_that_are_read_along_lines_are_the_same_from_either_kernel(
    specs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, draws = torch.from_numpy(IMAGES), Pipeline(specs, size=40).draw(IDS, (50, 60), epoch=0)
    assert (fused.ways(draws) <= row_kernels.STRAIGHT).all()

    def made() -> list[torch.Tensor]:
        return [fused.levels(images, draws, MEAN, STD, ONE / 3, ONE), fused.whole_levels(images, draws, MEAN, STD)]

    with monkeypatch.context() as only:
        only.setattr(kernels, "run_part", lambda *_: pytest.fail("the large kernel ran"))
        own = made()
    monkeypatch.setattr(fused, "changes_levels", lambda draws: True)
    monkeypatch.setattr(kernels, "run_straight", lambda *_: pytest.fail("the small kernel ran"))
    assert all(map(torch.equal, own, made()))


@pytest.mark.parametrize("border", ["reflect", "constant", "replicate", "wrap"])
@pytest.mark.parametrize("geometry", ["rotate(degrees=180.0)", "shift(fraction=1.0)", "perspective(p=1.0, distortion=0.4)"])
def test_rows_that_leave_the_picture_agree_with_the_meaning(geometry: str, border: str) -> None:
    plain, fast = both([geometry, "scale(factor_range=[0.5, 0.8])", f"resampling(border={border})"], None)
    assert (plain - fast).abs().max() < 0.01


def test_blur_and_sharpness_are_the_plain_ones_to_the_bit() -> None:
    for height, width in ((9, 31), (3, 3), (1, 6)):
        images = np.random.default_rng(height).integers(0, 256, (4, height, width, 3), dtype=np.uint8)
        for kind, strengths in (("blur", (0.1, 0.8, 2.5, np.nan)), ("sharpen", (0.2, 1.9, 3.0, np.nan))):
            steps, out = (Neighborhood(kind, np.array(strengths)),) * 2, np.empty_like(images)
            for part in range(2):
                compiled(images, steps, part, 2, out)
            assert np.array_equal(out, processed(torch.from_numpy(images), steps).numpy())


def test_memory_serves_again_only_when_nobody_looks_at_it() -> None:
    first = uncleared((300, 1000), np.float32)
    first[:] = 1
    looked_at = torch.from_numpy(first).view(30, 10000)[3:]
    place = first.ctypes.data
    del first
    assert uncleared((300, 1000), np.float32).ctypes.data != place
    assert bool((looked_at == 1).all())
    del looked_at
    places = {array.ctypes.data for array in [uncleared((300, 1000), np.float32) for _ in range(2)]}
    assert place in places


def test_numbers_of_noise_are_normal_and_independent() -> None:
    numbers = meaning.normal(np.arange(20), (3, 4), 20_001).astype(np.float64)
    assert stats.kstest(numbers.ravel(), "norm").pvalue > 1e-3
    assert abs(numbers.var() - 1) < 0.01
    for a, b in ((numbers[:, 1:], numbers[:, :-1]), (numbers[1:], numbers[:-1]), (numbers[:, 1:] ** 2, numbers[:, :-1] ** 2)):
        assert stats.pearsonr(a.ravel(), b.ravel()).pvalue > 1e-3


def test_normalisation_agrees_with_the_meaning() -> None:
    pipe = Pipeline(["rotate()", "color_jitter()"], mean=(0.2, 0.5, 0.7), std=(0.1, 0.2, 0.3))
    draws = pipe.draw(IDS, (50, 60), epoch=0)
    mean, std = torch.tensor(pipe.mean), torch.tensor(pipe.std)
    plain = meaning.normalized(meaning.levels(torch.from_numpy(IMAGES), draws, 255 * mean, 255 * std), mean, std)
    fast = pipe.apply(IMAGES, draws)
    assert fast.stride() == plain.stride()
    assert torch.allclose(plain, fast, atol=1e-3)


def made(alone: bool = False) -> torch.Tensor:
    if alone:
        assert not fused.may_use_threads()
    return Pipeline(["rotate()", "color_jitter()", "cutout()"], size=32)(IMAGES, ids=IDS, epoch=0)


def test_the_number_of_threads_is_torchs_and_stays_so() -> None:
    before = torch.get_num_threads()
    try:
        for n_threads in (1, before):
            torch.set_num_threads(n_threads)
            made()
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)


def _work(queue: multiprocessing.Queue) -> None:
    queue.put(made(alone=True).numpy())


@pytest.mark.parametrize("method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # the hazard is the subject of this test
def test_a_worker_process_takes_the_serial_path_and_gets_the_same_pictures(method: str) -> None:
    expected = made()  # the parent has run its parallel kernel by now
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=_work, args=(queue,))
    worker.start()
    result = queue.get(timeout=120)
    worker.join(timeout=60)
    assert worker.exitcode == 0
    assert np.array_equal(expected.numpy(), result)


def test_what_is_computed_with_beside_three_channels_is_zero_and_not_what_lay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers below 1.2e-38 take some processors a hundred times as long; small whole numbers that lay there before are such."""
    monkeypatch.setattr(row_kernels.np, "empty", lambda shape, kind: np.full(shape, 1e-40).astype(kind))
    numbers = row_kernels.work_for((8, 8), (8, 8), 7).numbers
    assert not numbers.any()
    assert numbers.dtype == np.float32
