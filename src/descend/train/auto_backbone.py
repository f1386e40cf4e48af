"""``--backbone auto``: which backbone of the ladder a run begins with, decided once, by what is at hand and how quick it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from descend.errors import KnobError, ModelError
from descend.models import LADDER, BackboneChoice, LadderEntry, Timm, available_backbones, choose_backbone, measured_images_per_s
from descend.progress import Progress
from descend.train.modes import MODES
from descend.train.plan import DataProfile
from descend.train.recipe import Recipe
from descend.train.resolve import mode_of

LIMIT_S = 300.0  # that all passes of the backbone over the pictures may take, where no budget says otherwise
BACKWARD = 3.0  # a training step of the whole network costs about three times its forward pass


def check_auto(recipe: Recipe) -> None:
    """Raise KnobError for settings that need ``backbone=auto`` or cannot be with it, before anything else is done."""
    if recipe.download is not None and recipe.backbone != "auto":
        raise KnobError("download", "has no effect unless the backbone is chosen (--backbone auto)", got=recipe.download,
                        fix="Weights of a backbone that is named are fetched when they are needed.")  # fmt: skip
    if recipe.weights is not None and recipe.backbone == "auto":
        raise KnobError("backbone", "must be named where its weights come from a file", got="auto",
                        fix="Give --backbone the architecture that the file belongs to.")  # fmt: skip


def with_backbone(recipe: Recipe, data: DataProfile, n_images: int, progress: Progress) -> tuple[Recipe, dict[str, str]]:
    """Return the recipe with ``backbone=auto`` decided, and the reason by the setting's name; anything else as it is.

    n_images: pictures in all splits. A mode that begins from random weights has its own default, by size.
    """
    mode = MODES[mode_of(recipe, data)]
    if recipe.backbone != "auto" or "download" not in mode.settings:
        return recipe, {}
    progress.say("  choosing the backbone (a short measurement of those at hand) ...")
    entries = available_backbones(bool(recipe.download))
    stranded = bool(recipe.download) and any(_on_hub(entry) and entry not in entries for entry in LADDER)
    choice = _usable(recipe, data, entries, n_passes(recipe, data, n_images))
    reason = choice.reason
    if stranded:
        reason += "; nothing can be fetched: the hub does not answer"
    elif not recipe.download and not _on_hub(choice.entry):
        reason += "; --download lets stronger ones be fetched"
    return replace(recipe, backbone=choice.entry.name, download=None), {"backbone": reason}


def n_passes(recipe: Recipe, data: DataProfile, n_images: int) -> float:
    """Return how many pictures the backbone reads in the run, a backward pass counted as the forward passes that it costs."""
    mode = MODES[mode_of(recipe, data)]
    if mode.name == "features":
        return n_images + (recipe.views or 0) * data.n_train
    epochs = recipe.epochs or mode.default_epochs(data, {}).value
    return n_images + epochs * data.n_train * (BACKWARD if mode.name == "finetune" else 1.0)


def _usable(recipe: Recipe, data: DataProfile, entries: Sequence[LadderEntry], n_images: float) -> BackboneChoice:
    """Return the choice among the rungs that read pictures of the run's size and whose weights can be had.

    One that the hub does not give after all is left out.
    """
    mode = MODES[mode_of(recipe, data)]
    sizes = {e.name: recipe.size or mode.default_size(data, {"backbone": e.architecture}).value for e in entries}
    entries = [e for e in entries if sizes[e.name] == e.size or not e.architecture.fixed_size]
    while True:
        choice = choose_backbone(entries, n_images, LIMIT_S, lambda e: measured_images_per_s(e, size=sizes[e.name]))
        if choice.entry.at_hand:
            return choice
        try:
            choice.entry.architecture.build(recipe.seed)  # fetches the weights
            return choice
        except ModelError:
            entries.remove(choice.entry)


def _on_hub(entry: LadderEntry) -> bool:
    return isinstance(entry.architecture, Timm)
