"""Every transfer mode: its settings, its defaults with their reasons, what it refuses, what it trains; and a fifth one."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from torch import nn

from descend.augment import expand
from descend.errors import DescendError, KnobError, SpecError
from descend.models import Classifier, backbone
from descend.progress import Silent
from descend.technique import knobs
from descend.train import modes, prepare, recipe
from descend.train.modes import MODES
from descend.train.modes.features import TRAINED_ONLY
from descend.train.modes.mode import ALWAYS, Chosen, Default, Mode
from descend.train.modes.scratch import Scratch
from descend.train.plan import DataProfile
from descend.train.recipe import Recipe, from_settings
from descend.train.resolve import ORDER, SEARCH_ONLY, TECHNIQUES, resolve
from descend.train.run_log import RunLog

PHOTOS = DataProfile("photos", n_train=245, n_classes=2, side=375, gray=False)
DIGITS = DataProfile("digits", n_train=1257, n_classes=10, side=8, gray=True)
ICONS = DataProfile("icons", n_train=9000, n_classes=10, side=48, gray=False)
PROFILES = pytest.mark.parametrize("data", [PHOTOS, DIGITS, ICONS], ids=lambda data: data.name)
NAMED = [name for name in MODES if name != "auto"]  # auto is what is chosen where none is named
EACH = pytest.mark.parametrize("name", NAMED)
OPEN_WITHOUT_A_REASON = {
    "download",
    "weights",
    "regularize",
    "gradients",
    "freeze_to",
    "folds",
}  # nothing, unless it is asked for
LEGAL: dict[str, Any] = {
    "head": "mlp", "freeze_to": "stem", "norm": "train", "layer_decay": 0.5, "views": 2, "augment": ("flip",),
    "regularize": ("label_smoothing",), "optimizer": "sgd", "gradients": ("clip_norm",), "schedule": "linear", "engine": "torch",
    "epochs": 3, "size": 64, "batch_size": 8, "feature_stages": "late", "backbone": "lite0",
    "weights": "mine.safetensors", "download": True, "folds": 5,
}  # fmt: skip
"""A value of each setting that is legal by itself."""


@EACH
def test_the_recipe_knows_the_modes_name(name: str) -> None:
    place = Path(recipe.__file__).name
    assert name in get_args(recipe.Transfer), f"add {name!r} to Transfer in train/{place}: that is what --transfer accepts"
    assert MODES[name].name == name
    assert Recipe(transfer=name).transfer == name  # pyright: ignore[reportArgumentType] (that it is one, is what is asked)


def test_every_name_that_a_recipe_knows_is_a_mode() -> None:
    assert {*get_args(recipe.Transfer)} == {*MODES}, f"one line per mode stands in {Path(modes.__file__).parent.name}/"


@EACH
def test_its_settings_are_those_of_a_recipe_and_each_can_be_decided(name: str) -> None:
    mode = MODES[name]
    assert mode.settings <= {knob.name for knob in knobs(Recipe)}
    assert mode.settings >= ALWAYS
    undecided = mode.settings - ALWAYS - {*ORDER}
    assert not undecided, f"resolve decides settings in ORDER; {sorted(undecided)} stand not in it"
    for setting in mode.settings - ALWAYS - OPEN_WITHOUT_A_REASON:
        assert hasattr(mode, f"default_{setting}"), f"{type(mode).__name__} must have default_{setting}"


@EACH
@PROFILES
def test_each_open_setting_is_decided_with_its_reason(name: str, data: DataProfile) -> None:
    plan = resolve(from_settings({"transfer": name}), data)
    assert plan.transfer == name
    for setting in plan.settings - ALWAYS - OPEN_WITHOUT_A_REASON:
        assert plan.reasons.get(setting), setting
        assert getattr(plan, setting) is not None
    assert plan.batch_size <= data.n_train
    assert plan.size >= 8
    lines = plan.lines(from_settings({"transfer": name}))
    assert all(f"({reason})" in " ".join(lines) for reason in plan.reasons.values())


@EACH
@PROFILES
def test_a_plans_recipe_gives_the_plan_again(name: str, data: DataProfile) -> None:
    plan = resolve(from_settings({"transfer": name}), data)
    again = resolve(plan.recipe(), data)
    assert again.describe() == plan.describe()
    assert again.recipe() == plan.recipe()


@EACH
@pytest.mark.parametrize("setting", LEGAL)
def test_a_setting_without_effect_is_refused_by_name_and_one_with_effect_taken(name: str, setting: str) -> None:
    settings = {"transfer": name, setting: LEGAL[setting]}
    if setting == "views":
        settings["augment"] = ("flip",)
    if setting == "augment" and "views" in MODES[name].settings:
        settings["views"] = 2
    if setting in MODES[name].settings:
        plan = resolve(from_settings(settings), PHOTOS)
        assert getattr(plan.recipe(), setting) is not None
        assert setting not in plan.reasons
        assert any(line.split()[0] == setting and "as asked" in line for line in plan.lines(from_settings(settings)))
        return
    refused = rf"{setting}: has no effect with transfer='{name}'.*It belongs to transfer (\w+)"
    with pytest.raises(KnobError, match=refused) as caught:
        resolve(from_settings(settings), PHOTOS)
    advised = str(caught.value).split("It belongs to transfer ")[1].split(":")[0].split(", ")
    assert all(setting in MODES[mode].settings for mode in advised)


def test_every_setting_was_tried() -> None:
    assert {*LEGAL} == {knob.name for knob in knobs(Recipe)} - ALWAYS - {*SEARCH_ONLY}


def network() -> Classifier:
    body = backbone("resnet9(width=4)").build(0)
    return Classifier(body, nn.Linear(body.n_features, 2))


def trained(name: str, **settings: Any) -> set[str]:
    """Return the names of the parameters that a mode says it trains."""
    whole = network()
    plan = dataclasses.replace(resolve(from_settings({"transfer": name}), PHOTOS), **settings)
    moving = {id(p) for part in MODES[name].trained_modules(whole, plan) for p in part.parameters()}
    return {key for key, parameter in whole.named_parameters() if id(parameter) in moving}


EVERYTHING = {key for key, _ in network().named_parameters()}
HEAD = {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("features", {}, HEAD),
        ("head", {}, HEAD),
        ("finetune", {}, EVERYTHING),
        ("finetune", {"freeze_to": "block0"}, {key for key in EVERYTHING if ".stem." not in key and ".block0." not in key}),
        ("scratch", {}, EVERYTHING),
    ],
)
def test_what_it_trains(name: str, settings: dict[str, Any], expected: set[str]) -> None:
    assert trained(name, **settings) == expected


def test_what_is_said_of_norms_and_stages_that_do_not_move_is_refused() -> None:
    mode, plan, whole = MODES["finetune"], resolve(from_settings({"transfer": "finetune"}), PHOTOS), network()
    last = replace(plan, freeze_to=whole.backbone.stage_names[-2])
    for fine in (plan, replace(plan, norm="train"), replace(plan, layer_decay=0.5), last):
        mode.check_network(whole, fine)
    for stage in whole.backbone.stages.modules():
        for name, part in stage.named_children():
            if isinstance(part, nn.BatchNorm2d):
                setattr(stage, name, nn.Identity())
    mode.check_network(whole, plan)
    with pytest.raises(KnobError, match=r"norm: has no effect: what is trained holds no batch norm, got 'train'. Leave it out"):
        mode.check_network(whole, replace(plan, norm="train"))
    with pytest.raises(KnobError, match=r"layer_decay: has no effect: fewer than two stages .*got 0.5. Leave it out, or freeze"):
        mode.check_network(whole, replace(last, layer_decay=0.5))


@EACH
def test_it_says_where_the_crop_is(name: str) -> None:
    whole = network()
    whole.backbone.crop_fraction = 0.75
    assert MODES[name].crop_margin(whole) == (1.0 if name == "scratch" else 0.75)


@pytest.mark.parametrize("setting", sorted(TRAINED_ONLY & {*LEGAL}))
def test_what_only_training_has_is_refused_beside_a_fitted_head_with_its_own_advice(setting: str) -> None:
    settings = {"transfer": "features", "head": "logistic", setting: LEGAL[setting]}
    with pytest.raises(KnobError, match=rf"{setting}: has no effect with head='logistic\(\)'.*Use --head linear"):
        resolve(from_settings(settings), PHOTOS)
    assert resolve(from_settings(settings | {"head": "linear"}), PHOTOS).transfer == "features"


@pytest.mark.parametrize("name", ["features", "head", "finetune"])
def test_a_backbone_without_weights_is_refused_where_weights_are_the_point(name: str) -> None:
    with pytest.raises(KnobError, match="must be pretrained"):
        resolve(from_settings({"transfer": name, "backbone": "smallcnn"}), PHOTOS)


@EACH
def test_normalizing_twice_is_refused(name: str) -> None:
    settings = {"transfer": name, "augment": ("normalize()", "normalize(mean=[0.1, 0.1, 0.1], std=[1.0, 1.0, 1.0])")}
    with pytest.raises(KnobError, match="normalize once"):
        resolve(from_settings(settings), PHOTOS)


# --------------------------------------------------------------------------------------------- which mode is the default


@pytest.mark.parametrize(
    ("settings", "data", "expected"),
    [
        ({}, PHOTOS, "auto"),
        ({"budget": "1m", "size": 128, "engine": "torch"}, PHOTOS, "auto"),
        ({"steps": ("features(size=224)",)}, PHOTOS, "auto"),
        ({"metric": "macro_f1"}, PHOTOS, "features"),
        ({"epochs": 3}, PHOTOS, "features"),
        ({}, DIGITS, "scratch"),
        ({}, ICONS, "scratch"),
        ({"budget": "1m"}, ICONS, "auto"),
        ({"augment": ("medium",)}, PHOTOS, "head"),
        ({"augment": ("strong",)}, PHOTOS, "head"),
        ({"augment": ("mixup(alpha=0.2)",)}, PHOTOS, "head"),
        ({"augment": ("flip",), "views": 4}, PHOTOS, "features"),
        ({"augment": ()}, PHOTOS, "features"),
        ({"augment": ("auto",)}, PHOTOS, "features"),
        ({"augment": ("normalize(mean=[0.1, 0.1, 0.1], std=[1.0, 1.0, 1.0])",)}, PHOTOS, "features"),
        ({"augment": ("medium",)}, DIGITS, "scratch"),
        ({"regularize": ("dropout(p=0.2)",)}, PHOTOS, "features"),
    ],
)
def test_the_mode_follows_the_pictures_and_what_was_asked_for(settings: Any, data: DataProfile, expected: str) -> None:
    plan = resolve(from_settings(settings), data)
    assert plan.transfer == expected
    assert plan.reasons["transfer"]
    if "augment" in settings and settings["augment"] != ("auto",):
        assert plan.augment == expand(settings["augment"])


def test_a_search_is_decided_with_its_reasons_and_its_recipe_gives_the_plan_again() -> None:
    plan = resolve(Recipe(budget="2m"), PHOTOS)
    assert (plan.transfer, plan.budget, plan.size) == ("auto", "2m", 288)
    for setting in plan.settings - ALWAYS - OPEN_WITHOUT_A_REASON - {*SEARCH_ONLY}:
        assert plan.reasons.get(setting), setting
    again = resolve(plan.recipe(), PHOTOS)
    assert again.describe() == plan.describe()
    assert again.recipe() == plan.recipe()
    assert resolve(Recipe(), PHOTOS).reasons["budget"]
    assert resolve(Recipe(backbone="vit_tiny_patch16_384"), PHOTOS).size == 384  # it reads no other


def test_small_pictures_are_enlarged_where_a_search_is_asked_for() -> None:
    plan = resolve(Recipe(budget="2m"), replace(ICONS, side=32))
    assert plan.size == 128
    assert "enlarged" in plan.reasons["transfer"]
    assert resolve(plan.recipe(), replace(ICONS, side=32)).recipe() == plan.recipe()
    for data in (DIGITS, replace(ICONS, side=16), replace(ICONS, gray=True)):
        with pytest.raises(KnobError, match=r"budget: has no effect here: the pictures are .* px: too small .*--epochs"):
            resolve(Recipe(budget="2m"), data)


@pytest.mark.parametrize("search", [{"budget": "1m"}, {"steps": ("features(size=64)",)}, {"latency": "9ms"}, {"max_size": "9MB"}])
@pytest.mark.parametrize("setting", sorted({*LEGAL} - MODES["auto"].settings))
def test_a_search_beside_what_it_decides_is_refused_and_a_mode_is_named(search: dict[str, Any], setting: str) -> None:
    with pytest.raises(KnobError, match=rf"{setting}: is decided by the search that {next(iter(search))} asks for") as caught:
        resolve(from_settings({**search, setting: LEGAL[setting]}), PHOTOS)
    advised = str(caught.value).split("It belongs to transfer ")[1].split(":")[0].split(", ")
    assert all(setting in MODES[mode].settings for mode in advised)


@EACH
@pytest.mark.parametrize("setting", SEARCH_ONLY)
def test_a_mode_that_is_named_takes_no_search(name: str, setting: str) -> None:
    value = ("features(size=64)",) if setting == "steps" else "1m"
    with pytest.raises(KnobError, match=rf"{setting}: has no effect with transfer='{name}'.*leave --transfer out"):
        resolve(from_settings({"transfer": name, setting: value}), PHOTOS)


def test_augmentation_without_views_is_still_refused_where_the_mode_was_named() -> None:
    with pytest.raises(KnobError, match=r"no effect with transfer='features' and views=0.*--views 4, or use --transfer head"):
        resolve(from_settings({"transfer": "features", "augment": ("flip",)}), PHOTOS)
    with pytest.raises(KnobError, match="views=0"):
        resolve(from_settings({"views": 0, "augment": ("flip",)}), PHOTOS)


# --------------------------------------------------------------------------------------------------- a mode of one's own


class Toy(Scratch):
    """A fifth mode: one file would hold this."""

    name = "toy"
    settings = Mode.settings - {"gradients"}

    def suits(self, data: DataProfile, asked: Recipe) -> str | None:
        """Return a reason for everything."""
        del asked
        return f"{data.name} are for playing"

    def default_epochs(self, data: DataProfile, chosen: Chosen) -> Default:
        """Return one epoch."""
        del data
        return Default(1, f"a toy at {chosen['size']} px needs no more")


def test_a_fifth_mode_is_one_class_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("descend.train.resolve.MODES", {"toy": Toy(), **MODES})
    plan = resolve(Recipe(), DIGITS)
    assert (plan.transfer, plan.epochs) == ("toy", 1)
    assert plan.reasons["transfer"] == "digits are for playing"
    assert plan.reasons["epochs"] == "a toy at 8 px needs no more"
    with pytest.raises(
        KnobError, match=r"gradients: has no effect with transfer='toy'.*It belongs to transfer features, finetune"
    ):
        resolve(Recipe(gradients=("clip_norm",)), DIGITS)
    with pytest.raises(KnobError, match="transfer must be one of"):
        plan.recipe()  # until its name stands in recipe.Transfer, which the first test of this file says


# ------------------------------------------------------------------------------------------- mistakes before any work


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("backbone", "resnet99"), ("head", "mpl"), ("augment", ["flipp"]), ("regularize", ["l3"]), ("optimizer", "adamww"),
        ("gradients", ["clipnorm"]), ("schedule", "cosin"), ("optimizer", "adamw(lr=-1)"), ("optimizer", "adamw(lr"),
        ("regularize", ["dropout(p=2)"]), ("augment", ["flip(q=1)"]),
    ],
)  # fmt: skip
def test_a_typo_is_found_before_any_picture_is_looked_at(setting: str, text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*given: Any, **more: Any) -> None:
        raise AssertionError("the data were scanned before the typo was told")

    monkeypatch.setattr("descend.data.load", looked)
    with pytest.raises((SpecError, KnobError, DescendError)):
        prepare.prepare(from_settings({"data": "photos", setting: text}), log=RunLog(writes=False), progress=Silent())


def test_every_setting_that_holds_techniques_is_checked_beforehand() -> None:
    assert {*TECHNIQUES} == {"backbone", "head", "augment", "regularize", "optimizer", "gradients", "schedule"}
