"""The transfer modes, one file each; a new one is that file, its line here, and its name in ``recipe.Transfer``."""

from __future__ import annotations

from descend.train.modes.auto import Auto
from descend.train.modes.features import Features
from descend.train.modes.finetune import FineTune
from descend.train.modes.head import HeadOnly
from descend.train.modes.mode import Mode
from descend.train.modes.scratch import Scratch

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Auto(),
        Features(),
        HeadOnly(),
        FineTune(),
        Scratch(),
    )
}
