"""``auto``: a search within a budget of time, over features, sizes, views and fine-tuning; see ``descend.search``.

Here stands only what a plan must know of it: which pictures it suits, which settings it takes, and their defaults.
"""

from __future__ import annotations

from descend.errors import KnobError
from descend.models import Backbone
from descend.train.modes.features import FrozenBackbone
from descend.train.modes.mode import ALWAYS, SMALL_SIDE, Chosen, Default, asked_beyond
from descend.train.plan import DataProfile, Plan
from descend.train.recipe import SEARCH_ONLY, Recipe
from descend.train.task_builder import ModeTask, TaskBuilder

LEAST_SIDE = 24  # pixels of color pictures that a search may be asked for: below it little is left to see
ENLARGED = 4  # times, that small pictures become larger
NATIVE_SHARE = 1.3  # a convolutional backbone reads pictures up to this much larger than its own size with profit


class Auto(FrozenBackbone):
    """The best answer that the time allows, out of several ways to use a pretrained backbone."""

    name = "auto"
    settings = (ALWAYS - {"snapshots", "checkpoint_every", "metric"}) | {
        "backbone", "download", "weights", "size", "fit", "engine", "budget", "steps", "latency", "max_size",
    }  # fmt: skip

    def suits(self, data: DataProfile, asked: Recipe) -> str | None:
        """Return the reason for photographs, unless something is asked for that the search decides by itself."""
        if asked_beyond(asked, self.settings):
            return None
        if data.side < SMALL_SIDE:
            searching = any(getattr(asked, name) is not None for name in SEARCH_ONLY)
            if data.gray or data.side < LEAST_SIDE or not searching:
                return None
            return f"a search is asked for: pictures of {data.side} px are enlarged for a backbone pretrained on photographs"
        return "a search within the budget, over ways to use a pretrained backbone; --transfer features is the quick look"

    def default_budget(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return five minutes."""
        del data, chosen
        return Default("5m", "of the whole command; --budget 1m or 1h for another")

    def default_size(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return the largest size worth looking at: that of the pictures, within what the backbone reads well."""
        native = chosen["backbone"].native_size or 224
        if chosen["backbone"].fixed_size:
            return Default(native, "the only size that the backbone reads")
        if data.side < SMALL_SIDE:
            return Default(min(native, ENLARGED * data.side), f"{ENLARGED} times the pictures' side: more pixels only cost time")
        largest = round(native * NATIVE_SHARE / 32) * 32
        side = max(native, min(largest, data.side // 32 * 32))
        return Default(side, f"the pictures are about {data.side} px; smaller views are resampled from this one")

    def default_augment(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return none: each step has its own."""
        del data, chosen
        return Default((), "each step has its own")

    def default_epochs(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return one: steps count otherwise."""
        del data, chosen
        return Default(1, "each step has its own")

    def taps(self, backbone: Backbone, plan: Plan) -> tuple[str, ...]:
        """Return all: heads choose among them."""
        del plan
        return backbone.every_tap

    def task(self, builder: TaskBuilder) -> ModeTask:
        """Refuse: a search has many tasks."""
        del builder
        raise KnobError("transfer", "must name one mode here: a search has no single task", got="auto",
                        fix="Use --transfer features, head, finetune or scratch.")  # fmt: skip
