"""The policies of the literature: their constants against torchvision's tables, their choices against their laws."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import autoaugment as peer

from descend.augment import Pipeline
from descend.augment.auto_tables import TABLES
from descend.augment.operations import OPERATIONS, PUBLISHED, RANDOM_OPERATIONS, WIDE, Space, strength

IDS = np.arange(6000)


def snake(name: str) -> str:
    return "autocontrast" if name == "AutoContrast" else re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@pytest.mark.parametrize("name", TABLES)
def test_the_learned_tables_are_the_published_ones(name: str) -> None:
    published = peer.AutoAugment(peer.AutoAugmentPolicy(name)).policies
    assert [tuple((snake(operation), p, m) for operation, p, m in pair) for pair in published] == [
        tuple(map(tuple, pair)) for pair in TABLES[name]
    ]


SPACES = {
    "randaugment": (PUBLISHED, peer.RandAugment()._augmentation_space(31, (200, 300))),
    "trivialaugment": (WIDE, peer.TrivialAugmentWide()._augmentation_space(31)),
    "autoaugment": (PUBLISHED, peer.AutoAugment()._augmentation_space(10, (200, 300))),
}


@pytest.mark.parametrize(("space", "published"), SPACES.values(), ids=SPACES)
def test_strengths_are_the_published_ones(space: Space, published: dict[str, tuple[torch.Tensor, bool]]) -> None:
    assert {snake(name) for name in published} <= set(OPERATIONS)
    for name, (magnitudes, signed) in published.items():
        n_bins = len(magnitudes) if magnitudes.ndim else 1
        level = np.arange(n_bins) / max(n_bins - 1, 1)
        up, down = (strength(snake(name), level, np.full(n_bins, sign), space, (200, 300)) for sign in (1.0, -1.0))
        assert np.allclose(up, np.atleast_1d(magnitudes.numpy()), atol=1e-4)
        assert np.allclose(down, -up if signed else up)


def test_the_random_policies_know_the_fourteen_operations() -> None:
    assert {snake(name) for name in peer.RandAugment()._augmentation_space(31, (9, 9))} == set(RANDOM_OPERATIONS)


@pytest.mark.parametrize("spec", ["randaugment(n_operations=3)", "trivialaugment()"])
def test_operations_are_uniform(spec: str) -> None:
    noted = next(iter(Pipeline(spec).draw(IDS, (32, 32), epoch=0).parameters.values()))
    for column in noted["operation"].T:
        names, counts = np.unique(column, return_counts=True)
        assert set(names) == set(RANDOM_OPERATIONS)
        assert stats.chisquare(counts).pvalue > 1e-3


def test_pairs_are_uniform_and_their_steps_follow_their_probabilities() -> None:
    noted = Pipeline("autoaugment(table=cifar10)").draw(IDS, (32, 32), epoch=0).parameters["autoaugment"]
    pair, operation = noted["pair"].astype(int), noted["operation"]
    assert stats.chisquare(np.bincount(pair, minlength=25)).pvalue > 1e-3
    for k in range(2):
        expected = np.array([row[k].p for row in TABLES["cifar10"]])[pair].sum()
        assert abs((operation[:, k] != "none").sum() - expected) < 4 * np.sqrt(6000 * 0.25)


@pytest.mark.parametrize("name", RANDOM_OPERATIONS)
def test_an_operation_of_strength_zero_is_the_identity_to_the_bit(name: str) -> None:
    if name in ("autocontrast", "equalize"):
        pytest.skip("it has no strength")
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 20, 3), dtype=np.uint8)
    pipe = Pipeline([], out="uint8")
    draws = pipe.draw(np.arange(5), (20, 20), epoch=0)
    still = strength(name, np.zeros(5), np.ones(5), PUBLISHED, (20, 20))
    draws = OPERATIONS[name](draws, np.where(still == 255, 256, still), np.ones(5, bool))
    assert np.array_equal(pipe.apply(images, draws).numpy(), images)


@pytest.mark.parametrize("spec", ["randaugment(magnitude=30)", "trivialaugment()", "autoaugment()", "autoaugment(table=svhn)"])
def test_every_picture_gets_its_own_operations(spec: str) -> None:
    images = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 24, 24, 3), dtype=np.uint8), 40, 0)
    pipe = Pipeline(spec, out="uint8")
    made = pipe(images, ids=IDS[:40], epoch=0)
    assert len(torch.unique(made.flatten(1), dim=0)) > 8
    alone = torch.cat([pipe(images[k : k + 1], ids=IDS[k : k + 1], epoch=0) for k in range(40)])
    assert torch.equal(made, alone)
