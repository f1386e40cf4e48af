"""Words of other tools' commands (fastai, Keras, timm, Ultralytics), and what is written here instead.

Nothing is accepted under two names: these are answers to a wrong word. The pages under ``docs/coming-from`` tell more.
"""

from __future__ import annotations

VERBS = {
    **dict.fromkeys(("train", "classify", "finetune", "fine-tune", "search"), "fit"),
    **dict.fromkeys(("val", "validate", "test", "evaluate", "score"), "eval"),
    **dict.fromkeys(("infer", "inference"), "predict"),
    **dict.fromkeys(("convert", "onnx"), "export"),
    "upload": "push",
    **dict.fromkeys(("benchmark", "tune"), "compare"),
    **dict.fromkeys(("serve", "ui", "gui", "web"), "app"),
    **dict.fromkeys(("check", "inspect"), "scan"),
    **dict.fromkeys(("techniques", "models"), "list"),
    "resume": "fit --resume RUN",
    **dict.fromkeys(("version", "-V", "-v"), "--version"),
}
"""A verb of others -> ours."""

FLAGS = {
    **dict.fromkeys(("lr", "lr0", "learning-rate", "base-lr", "max-lr"), '--optimizer "adamw(lr=0.001)"'),
    **dict.fromkeys(("wd", "weight-decay"), '--optimizer "adamw(weight_decay=0.01)"'),
    "momentum": '--optimizer "momentum(momentum=0.9)"',
    **dict.fromkeys(("imgsz", "img-size", "image-size", "input-size", "resize", "resolution"), "--size"),
    **dict.fromkeys(("bs", "batchsize"), "--batch-size"),
    **dict.fromkeys(("model", "arch", "architecture", "network"), "--backbone"),
    "initial-checkpoint": "--weights FILE",
    **dict.fromkeys(("n-epochs", "num-epochs", "max-epochs", "nb-epochs"), "--epochs"),
    **dict.fromkeys(("time", "time-limit", "max-time", "timeout"), "--budget 10m"),
    **dict.fromkeys(("workers", "num-workers", "jobs", "cpus"), "--threads"),
    **dict.fromkeys(("gpu", "gpus", "cuda"), "--device cuda"),
    "cpu": "--device cpu",
    **dict.fromkeys(("output", "output-dir", "save-dir", "save", "project", "name"), "--out"),
    **dict.fromkeys(("config", "cfg"), "--recipe"),
    **dict.fromkeys(("scheduler", "lr-scheduler"), '--schedule "cosine()"'),
    **dict.fromkeys(("warmup", "warmup-epochs"), '--schedule "then(warmup(fraction=0.05), cosine())"'),
    **dict.fromkeys(("patience", "early-stopping"), '--regularize "early_stopping(patience=5)"'),
    **dict.fromkeys(("dropout", "drop", "drop-rate"), '--regularize "dropout(p=0.2)"'),
    **dict.fromkeys(("smoothing", "label-smoothing"), '--regularize "label_smoothing(amount=0.1)"'),
    **dict.fromkeys(("class-weight", "class-weights"), '--regularize "class_weights()"'),
    **dict.fromkeys(("clip-grad", "grad-clip"), '--gradients "clip_norm(max_norm=1.0)"'),
    **dict.fromkeys(("augmentation", "augmentations", "transforms"), "--augment"),
    "mixup": '--augment "mixup(alpha=0.2)"',
    "cutmix": '--augment "cutmix(alpha=1.0)"',
    **dict.fromkeys(("flip", "fliplr", "hflip"), '--augment "flip(p=0.5)"'),
    **dict.fromkeys(("train", "train-dir", "data-dir", "dataset", "folder", "input"), "the folder, as a word without a flag"),
    **dict.fromkeys(
        ("val", "val-dir", "valid-dir", "val-split", "validation-split", "valid-pct", "test-size"),
        "folders train/ val/ test/, or a table with a column split, where the split is to be yours",
    ),
}
"""A flag of others, without its dashes -> what is written here."""


def flag(word: str, known: list[str]) -> str:
    """Return what a verb of flags ``known`` (``--size``) takes for a flag of others, as a sentence; "" where that is nothing."""
    name = word.partition("=")[0].lstrip("-").lower().replace("_", "-")
    ours = FLAGS.get(name, "")
    needed = ours.partition(" ")[0] if ours.startswith("--") else "--split-seed"  # a verb that splits takes DATA
    return f" Here it is: {ours}." if ours and needed in known else ""


def assignment(word: str, known: list[str]) -> str:
    """Return how ``epochs=10`` is written here, as a sentence; "" for any other word."""
    name, equals, value = word.partition("=")
    if not equals or not name.replace("_", "").replace("-", "").isalnum():
        return ""
    ours = f"--{name.replace('_', '-')}"
    return f" Write {ours} {value}." if ours in known and value else flag(ours, known)
