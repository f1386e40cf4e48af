"""fastai's ``fine_tune`` at its recommended settings: ``vision_learner`` on timm's Lite0, one frozen epoch, then as many as fit.

``aug_transforms``, batches of 64, its own rates and its own head. The largest size is taken at which three epochs fit after the
frozen one. ``val/`` is its validation set; where none is given, a fifth of ``train/``, as in its tutorials.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path

import torch
from protocol import N_CORES, Job, job, opened, weights

warnings.filterwarnings("ignore", category=FutureWarning)  # fastai's use of torch.jit
try:
    from fastai.vision.all import (
        Callback,
        CancelFitException,
        CategoryBlock,
        DataBlock,
        DataLoaders,
        ImageBlock,
        IndexSplitter,
        Learner,
        RandomSplitter,
        Resize,
        accuracy,
        aug_transforms,
        parent_label,
        vision_learner,
    )
except ImportError as error:
    raise SystemExit(f"no answer: fastai is not installed ({error}); pip install 'descend[bench]'") from None

SIZES, LEAST_EPOCHS, MOST_EPOCHS, BATCH, SAFETY = (96, 128, 160, 224), 3, 40, 64, 1.1


class Deadline(Callback):
    """Stops a fit when its time is over."""

    def __init__(self, at: float) -> None:
        self.at = at

    def after_batch(self) -> None:
        """Look at the clock; answers to validation and test pictures are always finished."""
        if self.training and time.time() >= self.at:
            raise CancelFitException


def main() -> None:
    task = job()
    torch.manual_seed(task.seed)
    paths, _ = task.pictures("train")
    held_out, _ = task.pictures("val")
    n_test = len(task.pictures("test")[0])
    n_val = len(held_out) or len(paths) // 5
    n_train = len(paths) + len(held_out) - n_val
    decode, train, infer = measure(task)
    for size in reversed(SIZES):
        area, shared = (size / SIZES[1]) ** 2, decode / N_CORES
        answering = n_test * SAFETY * (shared + infer * area)
        frozen = SAFETY * (n_train * (shared + (train + infer) / 2 * area) + n_val * (shared + infer * area))
        epoch = SAFETY * (n_train * (shared + train * area) + n_val * (shared + infer * area))
        n_epochs = int((task.left() - answering - frozen) / epoch)
        if n_epochs >= LEAST_EPOCHS:
            break
    n_epochs = max(1, min(n_epochs, MOST_EPOCHS))
    learner = make_learner(task, size)
    learner.add_cb(Deadline(time.time() + task.left() - answering))
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(n_epochs)
        test = learner.dls.test_dl(task.pictures("test")[0])
        answers = learner.get_preds(dl=test)[0].argmax(1)
    order = [task.classes.index(name) for name in learner.dls.vocab]
    complete = n_epochs == MOST_EPOCHS and size == SIZES[-1]
    task.answer([order[label] for label in answers.tolist()], size=size, epochs=n_epochs, complete=complete)


def loaders(task: Job, size: int) -> DataLoaders:
    """Return fastai's loaders of train and validation pictures."""
    (paths, _), (held_out, _) = task.pictures("train"), task.pictures("val")
    splitter = IndexSplitter(range(len(paths), len(paths) + len(held_out))) if held_out else RandomSplitter(0.2, task.seed)
    block = DataBlock(
        (ImageBlock, CategoryBlock), get_y=parent_label, splitter=splitter, item_tfms=Resize(size), batch_tfms=aug_transforms()
    )
    return block.dataloaders([*paths, *held_out], bs=min(BATCH, len(paths) // 2), num_workers=2)


def make_learner(task: Job, size: int) -> Learner:
    """Return a learner whose backbone has the same weights as every other method's."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lite0.pth"
        torch.save(weights(), file)
        overlay = {"file": str(file)}  # timm loads this instead of what the hub has
        return vision_learner(
            loaders(task, size), "tf_efficientnet_lite0", metrics=accuracy, path=folder, pretrained_cfg_overlay=overlay
        )


def measure(task: Job) -> tuple[float, float, float]:
    """Return seconds per picture at 128 px: to decode on one core; to train all of the network; to answer."""
    learner, (paths, _) = make_learner(task, SIZES[1]), task.pictures("train")
    some = paths[:: max(1, len(paths) // 16)][:16]
    started = time.perf_counter()
    for path in some:
        opened(path, 10_000).resize((SIZES[1], SIZES[1]))  # fastai decodes in full
    decode = (time.perf_counter() - started) / len(some)
    learner.unfreeze()
    model, augment = learner.model.train(), learner.dls.train.after_batch
    images = torch.rand(16, 3, SIZES[1], SIZES[1])
    walls = []
    for _ in range(3):
        started = time.perf_counter()
        model(augment(images)).logsumexp(1).mean().backward()
        walls.append((time.perf_counter() - started) / len(images))
    started = time.perf_counter()
    with torch.inference_mode():
        model.eval()(images)
    return decode, min(walls), (time.perf_counter() - started) / len(images)


if __name__ == "__main__":
    main()
