"""Mixing: pictures, targets and loss as the papers write them; partners from the batch, weights from the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.functional import cross_entropy

from descend.augment import Pipeline
from descend.errors import DataError, KnobError

IMAGES = np.random.default_rng(4).integers(0, 256, (14, 12, 16, 3), dtype=np.uint8)
IDS = np.arange(14) * 7 + 3
TARGETS = np.arange(14) % 5


def plain() -> torch.Tensor:
    return Pipeline([])(IMAGES, ids=IDS, epoch=0)


def mixed(spec: str, **where: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, np.ndarray]]:
    pipe = Pipeline(spec)
    place = {"epoch": 1, "step": 2, **where}
    images, shares = pipe(IMAGES, TARGETS, ids=IDS, n_classes=5, **place)
    noted = pipe.draw(IDS, (12, 16), **place).parameters[spec.split("(")[0]]
    return images, shares, noted  # pyright: ignore[reportReturnType]


def test_mixup_blends_pictures_and_targets_by_the_same_weight() -> None:
    images, shares, noted = mixed("mixup(alpha=1.0)")
    x, one_hot = plain(), torch.nn.functional.one_hot(torch.as_tensor(TARGETS), 5).float()
    for i, (j, w) in enumerate(zip(noted["partner"], noted["weight"], strict=True)):
        assert torch.allclose(images[i], w * x[i] + (1 - w) * x[j], atol=1e-5)
        assert torch.allclose(shares[i], w * one_hot[i] + (1 - w) * one_hot[j], atol=1e-6)


def test_cutmix_pastes_a_box_and_counts_its_pixels() -> None:
    images, shares, noted = mixed("cutmix(alpha=1.0)")
    x = plain()
    for i, j in enumerate(noted["partner"]):
        top, bottom, left, right = noted["box"][i]
        expected = x[i].clone()
        expected[:, top:bottom, left:right] = x[j][:, top:bottom, left:right]
        assert torch.allclose(images[i], expected, atol=1e-6)
        kept = 1 - (bottom - top) * (right - left) / (12 * 16)
        assert shares[i, TARGETS[i]] == pytest.approx(kept if TARGETS[i] != TARGETS[j] else 1.0, abs=1e-6)


@pytest.mark.parametrize("spec", ["mixup()", "cutmix()", "strong"])
def test_targets_are_shares_that_sum_to_one(spec: str) -> None:
    _, shares = Pipeline(spec, size=8)(IMAGES, TARGETS, ids=IDS, epoch=0, step=0, n_classes=5)
    assert torch.allclose(shares.sum(1), torch.ones(14), atol=1e-6)
    assert shares.dtype == torch.float32
    assert (shares >= 0).all()


def test_the_loss_of_a_mixed_target_is_the_mixed_loss() -> None:
    _, shares, noted = mixed("mixup(alpha=1.0)")
    logits, targets = torch.randn(14, 5, generator=torch.Generator().manual_seed(0)), torch.as_tensor(TARGETS)
    w = torch.as_tensor(noted["weight"])
    a, b = cross_entropy(logits, targets, reduction="none"), cross_entropy(logits, targets[noted["partner"]], reduction="none")
    assert torch.allclose(cross_entropy(logits, shares, reduction="none").double(), w * a + (1 - w) * b, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_weights_follow_the_beta_law(alpha: float) -> None:
    drawn = Pipeline(f"mixup(alpha={alpha})").draw(np.arange(3000), (4, 4), epoch=0, step=0).parameters["mixup"]["weight"]
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


TINTS = np.linspace(0, 240, 14).astype(np.uint8)  # one level for each picture: what it shows is what its target must say


@pytest.mark.parametrize(
    "specs",
    [
        ["cutmix()", "cutmix()"],
        ["cutmix(p=0.5)", "mixup()", "cutmix()"],
        ["one_of(mixup(), cutmix())", "cutmix()", "mixup(p=0.5)"],
        ["some_of(cutmix(), mixup(), cutmix(alpha=0.5), n=2)"],
        ["cutmix()", "one_of(cutmix(), mixup())", "cutmix(alpha=3.0)"],
    ],
    ids=str,
)
def test_boxes_that_cut_into_boxes_leave_the_shares_that_the_pixels_show(specs: list[str]) -> None:
    images = np.broadcast_to(TINTS[:, None, None, None], IMAGES.shape)
    pipe = Pipeline(specs, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    for step in range(20):
        made, shares = pipe(images, np.arange(14), ids=IDS, epoch=0, step=step, n_classes=14)
        assert torch.allclose(255 * made.mean((1, 2, 3)), shares @ torch.as_tensor(TINTS).float(), atol=1e-3)
        assert torch.allclose(shares.sum(1), torch.ones(14), atol=1e-6)
        assert (shares >= 0).all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_shares_in_half_precision_sum_to_one_as_well_as_they_can(kind: torch.dtype) -> None:
    soft = torch.softmax(4 * torch.randn(14, 1000, generator=torch.Generator().manual_seed(0)), 1)
    smooth = torch.full((14, 3), 1 / 3)  # in half precision they sum to 0.99976
    for exact in (soft, smooth):
        _, shares = Pipeline([])(IMAGES, exact.to(kind), ids=IDS, epoch=0)
        assert torch.allclose(shares.sum(1), torch.ones(14), atol=1e-6)
        assert torch.allclose(shares, exact, rtol=0.02, atol=1e-6)
    with pytest.raises(DataError, match="sum to one"):
        Pipeline([])(IMAGES, 0.9 * smooth.to(kind), ids=IDS, epoch=0)


def test_partners_are_a_permutation_that_follows_epoch_and_step_but_not_the_order_of_rows() -> None:
    pipe = Pipeline("mixup()")
    order = np.random.default_rng(0).permutation(14)
    one = pipe.draw(IDS, (12, 16), epoch=1, step=2).mixes[0].partner
    other = pipe.draw(IDS[order], (12, 16), epoch=1, step=2).mixes[0].partner
    assert sorted(one) == list(range(14))
    assert np.array_equal(IDS[order][other], IDS[one][order])
    for epoch, step in ((1, 3), (2, 2)):
        assert not np.array_equal(one, pipe.draw(IDS, (12, 16), epoch=epoch, step=step).mixes[0].partner)


def test_mixing_needs_targets_and_a_step() -> None:
    pipe = Pipeline("mixup()")
    assert pipe.mixes
    with pytest.raises(KnobError, match="targets"):
        pipe(IMAGES, ids=IDS, epoch=0, step=0)
    with pytest.raises(KnobError, match="step"):
        pipe(IMAGES, TARGETS, ids=IDS, epoch=0, n_classes=5)


def test_targets_without_mixing_become_shares() -> None:
    _, shares = Pipeline([])(IMAGES, TARGETS, ids=IDS, epoch=0, n_classes=5)
    assert torch.equal(shares.argmax(1), torch.as_tensor(TARGETS))
    _, again = Pipeline([])(IMAGES, shares, ids=IDS, epoch=0)
    assert torch.equal(again, shares)


@pytest.mark.parametrize(
    ("targets", "n_classes", "error", "text"),
    [
        (TARGETS, None, KnobError, "n_classes"),
        (TARGETS, 4, DataError, r"0\.\.3"),
        (TARGETS, 5.5, KnobError, "n_classes must be a whole number"),
        (TARGETS[:3], 5, DataError, "B = 14"),
        (TARGETS.astype(float), 5, DataError, "integers"),
        (np.full((14, 5), 0.3), None, DataError, "sum to one"),
    ],
)
def test_bad_targets_are_refused(targets: np.ndarray, n_classes: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Pipeline([])(IMAGES, targets, ids=IDS, epoch=0, n_classes=n_classes)


@pytest.mark.parametrize(
    "specs",
    [
        ["flip()", "mixup()"],
        ["rotate()", "cutmix()"],
        ["mixup()", "cutmix()", "mixup()"],
        ["one_of(mixup(), cutmix())"],
        ["cutmix()", "mixup()", "cutmix()"],
        ["flip()"],
    ],
)
@pytest.mark.parametrize("n_processes", [2, 3])
def test_processes_together_make_the_batch_that_one_makes(specs: list[str], n_processes: int) -> None:
    settings = {"epoch": 3, "step": 1, "draw": 2}
    whole, shares = Pipeline(specs, seed=1)(IMAGES, TARGETS, ids=IDS, n_classes=5, **settings)
    for k in range(n_processes):
        local = np.arange(14)[k::n_processes]
        pipe = Pipeline(specs, seed=1)
        rows = pipe.needed(IDS, local, **settings)
        assert np.array_equal(rows[: len(local)], local)
        assert len(rows) <= min(14, len(local) * 2 ** sum("m" in spec for spec in specs))
        made, soft = pipe(IMAGES[rows], TARGETS[rows], ids=IDS, n_classes=5, local=local, **settings)
        assert torch.equal(made, whole[local])
        assert torch.equal(soft, shares[local])


def test_a_process_can_read_and_replay_its_part() -> None:
    pipe = Pipeline("mixup()", out="uint8")
    local = np.array([3, 9])
    draws = pipe.draw(IDS, (12, 16), epoch=0, step=0, local=local)
    rows = pipe.needed(IDS, local, epoch=0, step=0)
    assert len(draws) == len(rows)
    assert len(draws.describe()) == len(pipe.apply(IMAGES[rows], draws)) == 2


@pytest.mark.parametrize("local", [[0, 0], [14], [-1]])
def test_positions_outside_the_batch_are_refused(local: list[int]) -> None:
    with pytest.raises(DataError, match="different positions in a batch of 14"):
        Pipeline("mixup()").needed(IDS, local, epoch=0, step=0)
