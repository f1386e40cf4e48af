"""Batch sources: images through a pipeline and perhaps a frozen engine, or cached features; the same rows in one order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from descend.augment import Pipeline
from descend.data import Batches, decoded, load
from descend.train.batch_sources import FeatureSource, ImageSource, feature_batches

N, SIDE, CPU = 40, 12, torch.device("cpu")


@pytest.fixture(scope="module")
def batches() -> Batches:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
    dataset = load((images, np.arange(N) % 2), seed=1)
    return Batches(decoded(dataset, SIDE), dataset.indices("train"), batch_size=8, seed=3)


def rows(source: ImageSource | FeatureSource, epoch: int, start: int = 0) -> list[tuple[list[int], list[int], int]]:
    return [(batch.ids.tolist(), batch.targets.tolist(), batch.step) for batch in source.epoch(epoch, start)]


def features_of(batches: Batches, n_views: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return features that are (row, view), and the place of each row."""
    train = batches.indices
    features = np.stack([np.stack([np.full(len(train), view), train], 1) for view in range(n_views)], 1).astype(np.float32)
    place = np.full(len(batches.decoded), -1)
    place[train] = np.arange(len(train))
    return features, place


def test_both_sources_visit_the_same_rows_in_the_same_order(batches: Batches) -> None:
    images = ImageSource(batches, Pipeline([], size=SIDE), 2, CPU)
    features = FeatureSource(batches, *features_of(batches), CPU)
    assert images.n_steps == features.n_steps == batches.n_steps == 4
    for epoch in (0, 1):
        assert rows(images, epoch) == rows(features, epoch)
    assert rows(images, 0) != rows(images, 1)


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_a_source_that_starts_later_yields_the_same_batches(batches: Batches, start: int) -> None:
    images = ImageSource(batches, Pipeline(["flip()"], seed=3, size=SIDE), 2, CPU)
    whole, part = list(images.epoch(5)), list(images.epoch(5, start))
    assert len(part) == len(whole) - start
    for ours, theirs in zip(part, whole[start:], strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)
        assert torch.equal(ours.targets, theirs.targets)


def test_images_are_the_pipelines_for_their_ids_epoch_and_step(batches: Batches) -> None:
    pipeline = Pipeline(["flip()", "rotate(degrees=20)"], seed=3, size=SIDE)
    for batch in ImageSource(batches, pipeline, 2, CPU).epoch(2):
        stored = next(item for item in batches.epoch(2) if item.step == batch.step)
        assert torch.equal(batch.inputs, pipeline(stored.images, ids=stored.ids, epoch=2, step=batch.step))


def test_mixing_makes_soft_targets_and_labels_stay_labels_without_it(batches: Batches) -> None:
    mixed = next(iter(ImageSource(batches, Pipeline(["mixup(alpha=1.0)"], size=SIDE), 2, CPU).epoch(0)))
    assert mixed.targets.shape == (8, 2)
    torch.testing.assert_close(mixed.targets.sum(1), torch.ones(8))
    plain = next(iter(ImageSource(batches, Pipeline([], size=SIDE), 2, CPU).epoch(0)))
    assert plain.targets.dtype == torch.int64


def test_a_prefix_sees_levels_and_its_output_is_the_input(batches: Batches) -> None:
    seen: list[np.ndarray] = []

    def prefix(images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return images.reshape(len(images), -1)[:, :7].astype(np.float32)

    source = ImageSource(batches, Pipeline([], size=SIDE, out="uint8"), 2, CPU, prefix=prefix)
    batch = next(iter(source.epoch(0)))
    assert (seen[0].dtype, seen[0].shape) == (np.uint8, (8, SIDE, SIDE, 3))
    assert batch.inputs.tolist() == seen[0].reshape(8, -1)[:, :7].tolist()


def test_features_stand_at_their_rows_and_each_epoch_draws_a_view(batches: Batches) -> None:
    features, place = features_of(batches, n_views=4)
    source = FeatureSource(batches, features, place, CPU)
    drawn: list[dict[int, int]] = []
    for epoch in range(12):
        views: dict[int, int] = {}
        for batch, stored in zip(source.epoch(epoch), batches.rows(epoch), strict=True):
            assert batch.inputs[:, 1].long().tolist() == stored.rows.tolist()
            views |= dict(zip(stored.rows.tolist(), batch.inputs[:, 0].long().tolist(), strict=True))
        drawn.append(views)
    assert {view for views in drawn for view in views.values()} == {0, 1, 2, 3}
    assert all(len({views[row] for views in drawn}) > 1 for row in batches.indices.tolist())
    again = {int(batch.inputs[0, 1]): int(batch.inputs[0, 0]) for batch in source.epoch(3)}
    assert all(drawn[3][row] == view for row, view in again.items())


def test_cached_inputs_keep_their_order() -> None:
    features = np.arange(1000, dtype=np.float32).reshape(500, 2)
    parts = list(feature_batches(features, CPU, batch_size=128))
    assert [len(part) for part in parts] == [128, 128, 128, 116]
    assert torch.equal(torch.cat(parts), torch.from_numpy(features))
