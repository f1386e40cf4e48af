"""From what was asked for to what will be done: every open setting is chosen, with its reason; every dead one refused.

``resolve`` is a pure function of a recipe and a few facts about the data. The plan it returns is complete: ``plan.recipe()``
is written to the run folder and trains the same run again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from descend.augment import Augmentation, Normalize, expand, policy_for
from descend.errors import KnobError
from descend.models import Architecture, backbone
from descend.optim import GradientStage, Rule, knob_names, with_knobs
from descend.regularize import CrossEntropy, Regularizer, merged_knobs
from descend.schedule import History, Schedule
from descend.technique import Call, build, knobs, parse
from descend.train.recipe import NormPolicy, Recipe
from descend.transfer import Head

ALWAYS = frozenset({"data", "transfer", "metric", "seed", "device", "threads", "snapshots"})
TRAINING = frozenset(
    {"backbone", "head", "augment", "regularize", "optimizer", "gradients", "schedule", "epochs", "size", "batch_size"}
)
APPLIES: dict[str, frozenset[str]] = {
    "features": ALWAYS | TRAINING | {"engine", "views"},
    "head": ALWAYS | TRAINING | {"engine"},
    "finetune": ALWAYS | TRAINING | {"engine", "freeze_to", "norm", "layer_decay"},
    "scratch": ALWAYS | TRAINING,
}
SMALL = 64  # pixels: below this an ImageNet backbone sees mostly interpolation, and a small network trains in minutes


@dataclass(frozen=True)
class Facts:
    """What the plan needs to know about the data."""

    name: str
    n_train: int
    n_classes: int
    side: int  # pixels: the median shorter side
    grey: bool


@dataclass(frozen=True)
class Plan:
    """A run, decided. Texts of techniques are objects now; ``reasons`` says why each open setting became what it is."""

    transfer: str
    backbone: Architecture
    head: Head
    freeze_to: str | None
    norm: NormPolicy
    layer_decay: float
    views: int
    augment: tuple[Augmentation, ...]
    regularize: tuple[Regularizer, ...]
    optimizer: Rule
    rule: Rule  # the optimizer before regularisers set knobs in it: a recipe must not set them twice
    gradients: tuple[GradientStage, ...]
    schedule: Schedule
    engine: str
    epochs: int
    size: int
    batch_size: int
    snapshots: int | None
    metric: str
    seed: int
    device: str
    threads: int | None
    data: str | None
    reasons: dict[str, str] = field(default_factory=dict)

    def recipe(self) -> Recipe:
        """Return the complete recipe of this plan: every setting that has an effect, none that has not."""
        values: dict[str, Any] = {name: _text(getattr(self, name)) for name in APPLIES[self.transfer]}
        values["optimizer"] = str(self.rule)
        return Recipe(**{name: value for name, value in values.items() if value is not None})

    def with_engine(self, engine: str, reason: str) -> Plan:
        """Return the plan with ``auto`` replaced by the engine that was found fastest."""
        return replace(self, engine=engine, reasons=self.reasons | {"engine": reason})

    def loss(self) -> CrossEntropy:
        """Return the one loss, with the knobs that regularisers set in it."""
        return CrossEntropy(**merged_knobs(self.regularize, "loss_knobs"))  # pyright: ignore[reportArgumentType]

    def describe(self) -> dict[str, Any]:
        """Return the plan as plain text, for the record and the report."""
        return {name: _text(getattr(self, name)) for name in sorted(APPLIES[self.transfer] | {"norm"})}

    def lines(self, asked: Recipe) -> list[str]:
        """Return the plan as lines for a terminal: each setting with its reason; those asked for say so."""
        found: list[str] = []
        for name, value in self.describe().items():
            reason = self.reasons.get(name)
            if reason is None and getattr(asked, name) == getattr(Recipe(), name):
                continue
            shown = " ".join(value) if isinstance(value, tuple) else value
            found.append(f"  {name:<10} {shown or 'none'}  ({reason or 'as asked'})")
        return found


def _text(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(str(item) for item in value)
    return value if isinstance(value, (int, float, str)) or value is None else str(value)


class _Chooser:
    """Takes what was asked for, else the default with its reason."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.reasons: dict[str, str] = {}

    def __call__(self, name: str, default: Any, reason: str) -> Any:
        asked = getattr(self.recipe, name)
        if asked is not None and asked != "auto":
            return asked
        self.reasons[name] = reason
        return default


def resolve(recipe: Recipe, facts: Facts) -> Plan:
    """Decide the run. Raises KnobError for a setting without effect, SpecError for text that names no technique."""
    choose = _Chooser(recipe)
    transfer = choose("transfer", *_transfer(facts))
    _refuse_dead_settings(recipe, transfer)
    architecture = _weights(backbone(choose("backbone", *_backbone(transfer, facts))), recipe, transfer)
    size = choose("size", *_size(transfer, facts))
    views = choose("views", 0, "plain views only: seconds instead of minutes")
    augment = choose("augment", *_augment(transfer, facts, size, views))
    if recipe.augment == ("auto",):
        augment, choose.reasons["augment"] = _policy(transfer, facts, views)
    drawn = _drawn(augment, transfer, views)
    regularize = tuple(build(text, Regularizer) for text in recipe.regularize or ())
    rule = build(choose("optimizer", *_rule(transfer)), Rule)
    epochs = choose("epochs", *_epochs(transfer, facts))
    schedule = build(choose("schedule", "then(warmup(fraction=0.05), cosine())", "short warm-up, then down to zero"), Schedule)
    schedule.decisions(History(n_epochs=epochs))  # one that listens may need more epochs than there are: it says so now
    if recipe.snapshots is not None and recipe.snapshots > epochs + 1:
        raise KnobError("snapshots", f"must be at most {epochs + 1}, one more than epochs", got=recipe.snapshots)
    return Plan(
        transfer=transfer,
        backbone=architecture,
        head=build(choose("head", "linear()", "one linear layer is hard to beat on good features"), Head),
        freeze_to=recipe.freeze_to,
        norm=choose("norm", *_norm(transfer)),
        layer_decay=choose("layer_decay", 0.7, "early stages hold general features: they move less"),
        views=views,
        augment=drawn,
        regularize=regularize,
        optimizer=_optimizer(rule, recipe, regularize),
        rule=rule,
        gradients=tuple(build(text, GradientStage) for text in recipe.gradients or ()),
        schedule=schedule,
        engine=choose("engine", "auto", "the fastest engine on this machine") if "engine" in APPLIES[transfer] else "none",
        epochs=epochs,
        size=size,
        batch_size=choose("batch_size", *_batch_size(transfer, facts)),
        snapshots=recipe.snapshots,
        metric=recipe.metric,
        seed=recipe.seed,
        device=recipe.device,
        threads=recipe.threads,
        data=recipe.data,
        reasons={name: why for name, why in choose.reasons.items() if name in APPLIES[transfer] | {"norm"}},
    )


def _drawn(augment: tuple[str, ...], transfer: str, views: int) -> tuple[Augmentation, ...]:
    """Return the transforms that are asked for; refuse those that the mode cannot use."""
    drawn = expand(augment)
    moving = [item for item in drawn if not isinstance(item, Normalize)]
    if len(drawn) - len(moving) > 1:
        raise KnobError("augment", "must normalize once", got=list(augment))
    if transfer == "features" and views == 0 and moving:
        raise KnobError("augment", "has no effect with transfer='features' and views=0", got=list(augment),
                        fix="Add --views 4, or use --transfer head.")  # fmt: skip
    if transfer == "features" and views > 0 and not moving:
        raise KnobError("views", "has no effect without an augmentation", got=views, fix="Add --augment flip, for example.")
    if transfer == "features" and any(item.stage == "mix" for item in drawn):
        raise KnobError("augment", "cannot mix pictures whose features are computed one by one", got=list(augment),
                        fix="Leave mixing out, or use --transfer head.")  # fmt: skip
    return drawn


def _weights(architecture: Architecture, recipe: Recipe, transfer: str) -> Architecture:
    """Return the architecture with the weights that the mode begins from: random for scratch, pretrained for all others."""
    can_be = any(knob.name == "pretrained" for knob in knobs(type(architecture)))
    if transfer == "scratch":
        if (
            recipe.backbone is not None
            and _is_spec(recipe.backbone)
            and parse(recipe.backbone).settings.get("pretrained") is True
        ):
            raise KnobError("backbone", "must begin from random weights with transfer='scratch'", got=recipe.backbone,
                            fix="Leave pretrained out, or use --transfer finetune.")  # fmt: skip
        return replace(architecture, pretrained=False) if can_be else architecture  # pyright: ignore[reportArgumentType]
    if not getattr(architecture, "pretrained", False):
        raise KnobError("backbone", f"must be pretrained with transfer={transfer!r}", got=str(architecture),
                        fix="Use --transfer scratch, or a pretrained backbone such as lite0.")  # fmt: skip
    return architecture


def _is_spec(text: str) -> bool:
    return "(" in text  # a bare timm name may hold dots, which spec text may not


def _refuse_dead_settings(recipe: Recipe, transfer: str) -> None:
    for knob in knobs(Recipe):
        value = getattr(recipe, knob.name)
        if value is not None and value != knob.default and knob.name not in APPLIES[transfer]:
            where = ", ".join(sorted(mode for mode, names in APPLIES.items() if knob.name in names))
            raise KnobError(knob.name, f"has no effect with transfer={transfer!r}", got=value,
                            fix=f"It belongs to transfer {where}: add --transfer, or leave it out.")  # fmt: skip


def _optimizer(rule: Rule, recipe: Recipe, regularize: tuple[Regularizer, ...]) -> Rule:
    """Return the rule with the knobs that regularisers set in it (l2 *is* weight decay); setting one twice is an error."""
    known = knob_names(rule)
    for name, value in merged_knobs(regularize, "optimizer_knobs").items():
        if name not in known:
            raise KnobError("regularize", f"sets {name}, which the optimizer {rule.name} does not have", got=value)
        if recipe.optimizer is not None and _sets(parse(recipe.optimizer), name):
            raise KnobError("regularize", f"and the optimizer both set {name}", got=recipe.optimizer, fix="Set it in one place.")
        rule = with_knobs(rule, **{name: value})
    return rule


def _sets(call: Call, knob: str) -> bool:
    """Return whether spec text sets ``knob``, in the rule itself or in one that it wraps."""
    inside = (*call.arguments, *call.settings.values())
    return knob in call.settings or any(_sets(part, knob) for part in inside if isinstance(part, Call))


# Each of the following returns a default and the reason that is printed beside it.


def _transfer(facts: Facts) -> tuple[str, str]:
    if facts.side < SMALL:
        return "scratch", f"the pictures are {facts.side} px: too small for a backbone pretrained on photographs"
    return "features", "a pretrained backbone computes each picture's features once; a head trains on them in seconds"


def _backbone(transfer: str, facts: Facts) -> tuple[str, str]:
    if transfer != "scratch":
        return "lite0", "EfficientNet-Lite0 with ImageNet weights, installed with descend"
    if facts.side <= 28:
        return "smallcnn", f"a small network for {facts.side} px pictures"
    if facts.side <= 96:
        return "resnet9(width=24)", f"nine layers, quick on {facts.side} px pictures"
    return "lite0(pretrained=False)", "a mobile network: affordable on photographs without an accelerator"


def _size(transfer: str, facts: Facts) -> tuple[int, str]:
    if transfer in ("features", "head"):
        return 224, "the size the backbone was trained for"
    if transfer == "finetune":
        side = max(96, min(224, -(-facts.side // 32) * 32))
        return side, f"the pictures are about {facts.side} px: more pixels cost time and add nothing, 224 is the backbone's own"
    if facts.side <= 96:
        return max(8, facts.side), "the pictures' own size"
    return 128, "from scratch, larger pictures cost more time than they bring"


def _augment(transfer: str, facts: Facts, size: int, views: int) -> tuple[tuple[str, ...], str]:
    mirror = () if facts.grey else ("flip(p=0.5)",)
    why_mirror = (
        "no mirroring, grey pictures are often signs" if facts.grey else "mirrored: leave flip out if left and right matter"
    )
    if transfer == "features" and views == 0:
        return (), "plain views need none"
    if transfer == "scratch":
        return (f"pad_crop(padding={max(1, size // 8)})", *mirror), f"small shifts; {why_mirror}"
    scale = "[0.35, 1.0]" if transfer == "finetune" else "[0.6, 1.0]"
    return (f"random_resized_crop(scale_range={scale})", *mirror), f"random crops; {why_mirror}"


def _policy(transfer: str, facts: Facts, views: int) -> tuple[tuple[str, ...], str]:
    """Choose for ``--augment auto``: a policy by the size of the data set, as far as the mode can use one."""
    if transfer == "features" and views == 0:
        return (), "plain views need none"
    name, why = policy_for(facts.n_train, side=facts.side, grey=facts.grey)
    return (name,), why


def _norm(transfer: str) -> tuple[str, str]:
    if transfer == "finetune":
        return "eval", "small batches estimate statistics poorly; the pretrained ones stay"
    if transfer == "scratch":
        return "train", "nothing is pretrained"
    return "eval", "a frozen backbone runs in inference form"


def _rule(transfer: str) -> tuple[str, str]:
    if transfer in ("features", "head"):
        return "adamw(lr=0.005, weight_decay=0.01)", "the default for a head"
    if transfer == "finetune":
        return "adamw(lr=0.002, weight_decay=0.01)", "gentle: the weights are already good"
    return "adamw(lr=0.005, weight_decay=0.05)", "the default for training from scratch"


def _epochs(transfer: str, facts: Facts) -> tuple[int, str]:
    if transfer == "features":
        return 60, "an epoch on cached features takes milliseconds"
    if transfer == "head":
        return 15, "each epoch runs the frozen backbone on freshly augmented pictures"
    if transfer == "finetune":
        return 10, "the head is trained beforehand; few passes suffice"
    n = max(12, min(40, round(50_000 / max(1, facts.n_train))))
    return n, f"about {n * facts.n_train:,} pictures seen in all"


def _batch_size(transfer: str, facts: Facts) -> tuple[int, str]:
    size = 128 if transfer == "scratch" and facts.n_train >= 4000 else 64 if transfer in ("features", "scratch") else 32
    return min(size, facts.n_train), "small enough for many steps, large enough to be quick"
