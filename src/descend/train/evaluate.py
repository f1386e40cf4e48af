"""From a trained module to answers: probabilities, the table of predictions, the worst mistakes and their pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import pad

from descend.csv_table import write_table
from descend.train.answers import n_told, told_header
from descend.train.folder import replacing

CHUNK = 4 * 3 * 224 * 224  # values read at once: four images of 224 px, so that what passes between layers stays in the cache


def probabilities(module: nn.Module, batches: Iterable[Tensor], *, alone: bool = False) -> NDArray[np.float32]:
    """Return softmax(module(inputs)) over all batches, (n, K) float32; the module is in eval mode while it runs.

    On the CPU the module reads chunks of one fixed size, the last one padded: libraries pick other kernels for other batch sizes,
    and the last bits differ. So an answer depends neither on its companions nor on how the rows are divided into batches.

    alone: read images one at a time instead. One then costs a quarter of a padded chunk, and its answer differs in the last bits.
    """
    return _outputs(module, batches, lambda logits: torch.softmax(logits, 1), alone)


def vectors(module: nn.Module, batches: Iterable[Tensor], *, alone: bool = False) -> NDArray[np.float32]:
    """Return module(inputs) over all batches, (n, D) float32, computed as ``probabilities`` are."""
    return _outputs(module, batches, lambda values: values, alone)


def _outputs(module: nn.Module, batches: Iterable[Tensor], last: Callable[[Tensor], Tensor], alone: bool) -> NDArray[np.float32]:
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            rows = [last(_in_chunks(module, inputs, alone).float()).cpu().numpy() for inputs in batches]
    finally:
        module.train(was_training)
    return np.concatenate(rows)


def _in_chunks(module: nn.Module, inputs: Tensor, alone: bool) -> Tensor:
    if inputs.device.type != "cpu":  # small chunks would leave an accelerator idle, and its bits are its own
        return module(inputs)
    if alone and inputs.ndim > 2:  # padded vectors cost next to nothing, and keep their bits
        return torch.cat([module(part) for part in inputs.split(1)])
    n = _rows_per_chunk(inputs)
    parts = [*inputs.split(n)]
    parts[-1] = _padded(parts[-1], n)
    return torch.cat([module(part) for part in parts])[: len(inputs)]


def _padded(part: Tensor, n: int) -> Tensor:
    """Return a part of a batch with rows of zeros below it, ``n`` rows in all."""
    if part.ndim > 2:
        return pad(part, (0, 0) * (part.ndim - 1) + (0, n - len(part)))  # unlike cat, keeps images channels last
    given = part.numpy()
    rows = np.zeros((n, *given.shape[1:]), given.dtype)  # not by torch, whose threads spin on for longer than one picture takes
    rows[: len(given)] = given
    return torch.from_numpy(rows)


def _rows_per_chunk(inputs: Tensor) -> int:
    """Return a power of two up to 64, so that batches of 64 divide evenly: 4 images of 224 px, 64 vectors of features."""
    return 1 << max(0, min(6, (CHUNK // inputs[0].numel()).bit_length() - 1))


def write_predictions(
    path: Path,
    names: Sequence[str],
    splits: Sequence[str],
    labels: NDArray[np.int64],
    probs: NDArray[np.float32],
    classes: tuple[str, ...],
    folds: NDArray[np.int64] | None = None,
) -> None:
    """Write one row per picture: path, split, label, predicted, confidence, and the probability of every class.

    names, splits: n of them. labels: (n,) int64, places in ``classes``. probs: (n, K) float32, rows that sum to 1. Of very many
    classes the likeliest are told (``answers.n_told``): ``descend predict --top`` writes as many as are asked for.
    folds: (n,) int64, the fold in which each was held out, counted from 0, or -1; it becomes a column ``fold``, counted from 1.
    Raises RunError where the disk does not take the file.
    """
    answers = probs.argmax(1)
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        n = n_told(len(classes))
        header = ["path", "split", "label", "predicted", "confidence", *told_header(classes, n)]
        rows = zip(names, splits, labels, answers, probs, strict=True)
        cells = (
            [name, split, classes[label], classes[answer], float(row[answer]), *_told(row, classes, n)]
            for name, split, label, answer, row in rows
        )
        if folds is not None:
            header.insert(2, "fold")
            cells = ([*row[:2], fold + 1 if fold >= 0 else "", *row[2:]] for row, fold in zip(cells, folds.tolist(), strict=True))
        write_table(file, header, cells)


def _told(row: NDArray[np.float32], classes: tuple[str, ...], n: int | None) -> list[str | float]:
    """Return the cells that tell the probabilities (K,) of one picture."""
    if n is None:
        return row.tolist()
    return [cell for place in np.argsort(-row, kind="stable")[:n] for cell in (classes[place], float(row[place]))]


def worst(probs: NDArray[np.float32], labels: NDArray[np.int64], n: int = 24) -> NDArray[np.int64]:
    """Return the positions of the wrong answers, (m,) int64, most confident first, ``n`` at most.

    probs: (n, K) float32. labels: (n,) int64, in 0..K - 1.
    """
    wrong = np.flatnonzero(probs.argmax(1) != labels)
    return wrong[np.argsort(-probs[wrong].max(1), kind="stable")][:n]


def thumbnail(image: NDArray[np.uint8], side: int = 112, *, quality: int = 85) -> str:
    """Return a picture (H, W, 3) uint8 as a base64 JPEG no larger than ``side`` pixels; tiny ones are enlarged crisply."""
    picture = Image.fromarray(image)
    if max(picture.size) < side // 2:
        factor = side // max(picture.size)
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return base64.b64encode(buffer.getvalue()).decode()
