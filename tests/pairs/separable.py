"""A loop of one's own on pictures that anybody can tell apart: three colors, one of them rare."""

from __future__ import annotations

from collections.abc import Sequence
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


def network() -> Classifier:
    """Stem, two residual blocks, pooling and a linear layer: every technique finds a place in it."""
    torch.manual_seed(0)
    stages = {
        "stem": ConvNormReLU(3, WIDTH),
        "block0": Residual(ConvNormReLU(WIDTH, WIDTH)),
        "block1": Residual(ConvNormReLU(WIDTH, WIDTH)),
        "head": GlobalPool("mean"),
    }
    return Classifier(Backbone("separable", stages, n_features=WIDTH, native_size=SIDE), nn.Linear(WIDTH, len(COUNTS)))


def trained(regularizers: Sequence[Regularizer], mixings: Sequence[Augmentation] = ()) -> nn.Module:
    """Train the network as the loop does, each technique at its own moments; refused pairs raise KnobError."""
    check_together(regularizers)
    images, labels = pictures(COUNTS, seed=0)
    model: nn.Module = network()
    for technique in regularizers:
        model = technique.install(model, 0)
    loss = CrossEntropy(**merged_knobs(regularizers, "loss_knobs"))
    weights = merged_class_weights(regularizers, COUNTS)
    pipeline = Pipeline(mixings, size=SIDE)
    optimizer = Optimizer(
        [{"params": list(model.parameters()), **merged_knobs(regularizers, "optimizer_knobs")}], f"adamw(lr={LR})"
    )
    validation = pictures((8, 8, 8), seed=1)
    history: dict[str, list[float]] = {"accuracy": [], "loss": []}
    parameters = dict(model.named_parameters())
    for epoch in range(EPOCHS):
        model.train()
        rows = merged_epoch_rows(regularizers, labels, seed=0, epoch=epoch)
        rows = rng.permutation(len(labels), seed=0, stream="order", epoch=epoch) if rows is None else rows
        for step, at in enumerate(np.array_split(rows, len(rows) // BATCH)):
            targets: Any = torch.from_numpy(labels[at])
            if mixings:
                x, targets = pipeline(images[at], targets, ids=at, epoch=epoch, step=step, n_classes=len(COUNTS))
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
    recall = [float(right[labels == k].mean()) for k in range(len(COLORS))]
    return recall, float(nn.functional.cross_entropy(logits, torch.from_numpy(labels)))
