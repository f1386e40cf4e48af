"""A loop of one's own on pictures that anybody can tell apart, three colors, one of them rare; and on two that overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from descend import rng
from descend.augment import Augmentation, Pipeline
from descend.models import Classifier
from descend.models.small import ConvNormReLU, GlobalPool, Residual
from descend.models.stages import Backbone
from descend.optim import Optimizer
from descend.regularize import CrossEntropy, Regularizer, check_together, merged_class_weights, merged_epoch_rows, merged_knobs

COUNTS = (100, 100, 2)  # the weight of a rare class must outweigh the smoothing mass of the others: 0.1 / 3 * 34 > 0.93 * 0.34
COLORS = np.array([(60, 200, 60), (200, 60, 60), (60, 60, 200)])
SIDE, BATCH, WIDTH, EPOCHS, LR = 4, 67, 8, 15, 0.03


def pictures(counts: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures of one color per class: (N, SIDE, SIDE, 3) uint8, and labels (N,)."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = draw.normal(0, 20, (len(labels), SIDE, SIDE, 3))
    return (noise + COLORS[labels][:, None, None]).clip(0, 255).astype(np.uint8), labels


def overlapping(counts: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gray pictures of two classes, 1.5 standard deviations apart: how common a class is taken to be decides most answers."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    gray = 110 + 25 * (draw.normal(0, 1, len(labels)) + 1.5 * labels)
    return np.broadcast_to(gray[:, None, None, None], (len(labels), SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8), labels


def network(n_classes: int) -> Classifier:
    """Stem, two residual blocks, pooling and a linear layer: every technique finds a place in it."""
    torch.manual_seed(0)
    stages = {
        "stem": ConvNormReLU(3, WIDTH),
        "block0": Residual(ConvNormReLU(WIDTH, WIDTH)),
        "block1": Residual(ConvNormReLU(WIDTH, WIDTH)),
        "head": GlobalPool("mean"),
    }
    return Classifier(Backbone("separable", stages, n_features=WIDTH, native_size=SIDE), nn.Linear(WIDTH, n_classes))


def trained(
    regularizers: Sequence[Regularizer], mixings: Sequence[Augmentation] = (), *,
    draw: Callable[..., tuple[np.ndarray, np.ndarray]] = pictures, counts: Sequence[int] = COUNTS,
) -> nn.Module:  # fmt: skip
    """Train the network as the loop does, each technique at its own moments; refused pairs raise KnobError."""
    check_together(regularizers)
    images, labels = draw(counts, seed=0)
    model: nn.Module = network(len(counts))
    for technique in regularizers:
        model = technique.install(model, 0)
    loss = CrossEntropy(**merged_knobs(regularizers, "loss_knobs"))
    weights = merged_class_weights(regularizers, counts)
    pipeline = Pipeline(mixings, size=SIDE)
    optimizer = Optimizer(
        [{"params": list(model.parameters()), **merged_knobs(regularizers, "optimizer_knobs")}], f"adamw(lr={LR})"
    )
    validation = draw((8,) * len(counts), seed=1)
    history: dict[str, list[float]] = {"accuracy": [], "loss": []}
    parameters = dict(model.named_parameters())
    for epoch in range(EPOCHS):
        model.train()
        rows = merged_epoch_rows(regularizers, labels, seed=0, epoch=epoch)
        rows = rng.permutation(len(labels), seed=0, stream="order", epoch=epoch) if rows is None else rows
        for step, at in enumerate(np.array_split(rows, len(rows) // BATCH)):
            targets: Any = torch.from_numpy(labels[at])
            if mixings:
                x, targets = pipeline(images[at], targets, ids=at, epoch=epoch, step=step, n_classes=len(counts))
            else:
                x = pipeline(images[at], ids=at, epoch=epoch)
            with rng.context(epoch, step, at):
                logits = model(x)
            terms = [term for technique in regularizers if (term := technique.extra_loss(model)) is not None]
            optimizer.zero_grad()
            sum(terms, loss(logits, targets, weights)).backward()
            optimizer.step()
            for technique in regularizers:
                technique.after_step(parameters, LR)
        recall, mean_loss = judged(model, *validation)
        history["accuracy"].append(float(np.mean(recall)))
        history["loss"].append(mean_loss)
        if any(technique.should_stop(history) for technique in regularizers):
            break
    return model


def judged(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> tuple[list[float], float]:
    """The share of each class's pictures that are told right, and the mean loss."""
    model.eval()
    with torch.no_grad():
        logits = model(Pipeline([], size=SIDE)(images, ids=np.arange(len(images)), epoch=0))
    right = logits.argmax(1).numpy() == labels
    recall = [float(right[labels == k].mean()) for k in np.unique(labels)]
    return recall, float(nn.functional.cross_entropy(logits, torch.from_numpy(labels)))
