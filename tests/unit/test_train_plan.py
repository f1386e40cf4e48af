"""Recipes and plans: the same from every door, complete when written, and without dead settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from descend.data.shapes import CropLoss
from descend.errors import DescendError, KnobError, RunError, SpecError
from descend.optim import SGD
from descend.technique import spec
from descend.train import recipe as recipes
from descend.train.plan import DataProfile
from descend.train.recipe import Recipe, from_settings
from descend.train.resolve import resolve
from descend.transfer import MLP

PANORAMAS = DataProfile("wide", n_train=90, n_classes=2, side=200, gray=False, crop_loss=CropLoss(0.75, 1.0))
PHOTOS = DataProfile("photos", n_train=245, n_classes=2, side=375, gray=False)
DIGITS = DataProfile("digits", n_train=1257, n_classes=10, side=8, gray=True)


def test_recipe_survives_toml(tmp_path: Path) -> None:
    asked = Recipe(
        data="a b/'ü'", transfer="finetune", augment=("flip(p=0.5)",), layer_decay=0.5, epochs=3, optimizer="sgd(lr=0.1)"
    )
    path = tmp_path / "recipe.toml"
    path.write_text(recipes.dump(asked), encoding="utf-8")
    assert recipes.read(path) == asked


def test_settings_lie_over_a_recipe_and_techniques_become_text() -> None:
    base = Recipe(epochs=3, seed=4)
    made = from_settings({"seed": 5, "optimizer": SGD(lr=0.5), "augment": ["flip"], "data": Path("x")}, base)
    assert made == Recipe(epochs=3, seed=5, optimizer="sgd(lr=0.5)", augment=("flip",), data="x")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, ["epochs", ">= 1", "0"]),
        ({"epochs": "3"}, ["epochs", "'3'"]),
        ({"epoch": 3}, ["no knob 'epoch'", "Did you mean 'epochs'?"]),
        ({"transfer": "fine-tune"}, ["transfer", "'finetune'", "'fine-tune'"]),
        ({"layer_decay": 0.0}, ["layer_decay", "(0, 1]"]),
    ],
)
def test_bad_settings_are_explained(settings: dict, words: list[str]) -> None:
    with pytest.raises(KnobError) as caught:
        from_settings(settings)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["= 3", "\ufffe", "[optimizer]\nlr = 3"])
def test_bad_toml_is_explained(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((RunError, KnobError), match=r"recipe"):
        recipes.read(path)


def test_missing_recipe_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="exists"):
        recipes.read(tmp_path / "none.toml")


def test_small_pictures_are_trained_from_scratch_and_photographs_searched() -> None:
    assert resolve(Recipe(), DIGITS).transfer == "scratch"
    plan = resolve(Recipe(), PHOTOS)
    assert (plan.transfer, str(plan.backbone), plan.size) == ("auto", "lite0()", 288)
    assert all(plan.reasons.values())


@pytest.mark.parametrize(
    ("backbone", "frozen", "finetuned"),
    [
        ("lite0", 224, 224),
        ("lite1", 240, 240),
        ("lite2", 260, 260),
        ("vit_small_patch16_dinov3", 256, 256),
        ("vit_tiny_patch16_384", 384, 384),
    ],
)
def test_the_default_size_is_the_backbones_own(backbone: str, frozen: int, finetuned: int) -> None:
    assert resolve(Recipe(backbone=backbone, transfer="features"), PHOTOS).size == frozen
    assert resolve(Recipe(backbone=backbone, transfer="finetune"), PHOTOS).size == finetuned
    small = DataProfile("small", n_train=245, n_classes=2, side=100, gray=False)
    fixed = backbone.startswith("vit")
    assert resolve(Recipe(backbone=backbone, transfer="finetune"), small).size == (finetuned if fixed else 128)


def test_a_fine_tuning_of_few_steps_has_a_rate_that_they_can_follow() -> None:
    """One epoch of 420 pictures at a rate of 0.002 ended in a loss far above guessing, and a head that was better before."""
    few, many = (DataProfile("hands", n, 10, 100, gray=False) for n in (420, 1443))
    plans = {(data.n_train, n): resolve(Recipe(transfer="finetune", epochs=n), data) for data in (few, many) for n in (1, 10)}
    rates = {steps: plan.rule.lr for steps, plan in plans.items()}
    assert rates[1443, 10] == 0.002, "460 steps: the rate that its benchmark was measured with"
    assert rates[420, 1] == pytest.approx(0.002 * (14 / 400) ** 0.5, rel=0.02)
    assert rates[420, 1] < rates[1443, 1] < rates[420, 10] < rates[1443, 10]
    asked = resolve(Recipe(transfer="finetune", epochs=1, optimizer="adamw(lr=0.002)"), few)
    assert asked.rule.lr == 0.002
    assert "14 steps are few" in plans[420, 1].reasons["optimizer"]


@pytest.mark.parametrize("transfer", ["features", "head", "finetune", "scratch"])
@pytest.mark.parametrize("facts", [PHOTOS, DIGITS], ids=["photos", "digits"])
def test_the_plan_of_a_plans_recipe_is_the_plan(transfer: str, facts: DataProfile) -> None:
    plan = resolve(from_settings({"transfer": transfer, "data": "x"}), facts)
    again = resolve(plan.recipe(), facts)
    assert again.recipe() == plan.recipe()
    assert again.describe() == plan.describe()


@pytest.mark.parametrize("transfer", ["head", "finetune", "scratch"])
def test_with_weight_decay_of_a_regularizer_too(transfer: str) -> None:
    plan = resolve(Recipe(transfer=transfer, regularize=("l2(strength=0.25)",)), PHOTOS)
    again = resolve(plan.recipe(), PHOTOS)  # refused before: "regularize: and the optimizer both set weight_decay"
    assert again.optimizer == plan.optimizer
    assert (again.recipe(), "weight_decay=0.25" in spec(plan.optimizer)) == (plan.recipe(), True)


def test_plan_recipe_and_terminal_name_every_knob_those_at_their_defaults_too() -> None:
    asked = Recipe(transfer="scratch", head="mlp()", augment=("flip()",), optimizer="sgd()")
    plan = resolve(asked, DIGITS)
    shown = "\n".join(plan.lines(asked))
    assert plan.describe()["head"] == plan.recipe().head == spec(MLP(), defaults=True) == "mlp(hidden=256, dropout=0.5)"
    assert "mlp(hidden=256, dropout=0.5)  (as asked)" in shown
    assert "flip(p=0.5, axis='horizontal')" in shown
    assert plan.recipe().optimizer == "sgd(lr=0.1, weight_decay=0.0)"
    assert "cosine(floor=0.0)" in str(plan.recipe().schedule)


def test_a_recipe_leaves_to_the_regularizer_what_the_regularizer_sets() -> None:
    plan = resolve(Recipe(transfer="scratch", optimizer="adamw()", regularize=("l2(strength=0.1)",)), DIGITS)
    assert "weight_decay" not in (plan.recipe().optimizer or "")
    assert resolve(plan.recipe(), DIGITS).optimizer == plan.optimizer


@pytest.mark.parametrize(
    "settings",
    [
        {"transfer": "scratch", "engine": "torch"},
        {"transfer": "scratch", "views": 2},
        {"transfer": "scratch", "freeze_to": "stem"},
        {"transfer": "scratch", "norm": "eval"},
        {"transfer": "features", "freeze_to": "stem"},
        {"transfer": "features", "augment": ["flip"]},
        {"transfer": "features", "views": 2, "augment": []},
        {"transfer": "features", "views": 2, "augment": ["mixup"]},
        {"transfer": "features", "views": 2, "augment": ["strong"]},
        {"transfer": "features", "layer_decay": 0.5},
        {"transfer": "head", "views": 2},
        {"transfer": "head", "norm": "train"},
        {"transfer": "finetune", "views": 2},
        {"regularize": ["l2(strength=0.1)"], "optimizer": "adamw(weight_decay=0.1)"},
        {"regularize": ["l2(strength=0.1)"], "optimizer": "sam(ema(adamw(weight_decay=0.1)))"},
        {"regularize": ["l2(strength=0.1)", "l2(strength=0.2)"]},
    ],
)
def test_a_setting_without_effect_is_an_error(settings: dict) -> None:
    with pytest.raises(KnobError):
        resolve(from_settings(settings), PHOTOS)


def test_l2_is_the_optimizers_weight_decay() -> None:
    plan = resolve(from_settings({"regularize": ["l2(strength=0.25)"], "optimizer": "sgd(lr=0.1)"}), PHOTOS)
    assert plan.optimizer == SGD(lr=0.1, weight_decay=0.25)
    assert "l2" in str(plan.recipe().regularize)
    assert resolve(plan.recipe(), PHOTOS).optimizer == plan.optimizer  # the recipe that a run writes can be read again


def test_label_smoothing_reaches_the_loss() -> None:
    plan = resolve(from_settings({"regularize": ["label_smoothing(amount=0.2)"]}), PHOTOS)
    assert plan.loss().smoothing == 0.2


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"optimizer": "adamww"}, "adamw"),
        ({"schedule": "cosin"}, "cosine"),
        ({"head": "mpl"}, "mlp"),
        ({"transfer": "scratch", "augment": ["flipp"]}, "flip"),
        ({"backbone": "resnet99"}, "resnet9"),
        ({"regularize": ["l3"]}, "l2"),
    ],
)
def test_misspelt_techniques_are_suggested(settings: dict, word: str) -> None:
    with pytest.raises((SpecError, DescendError)) as caught:
        resolve(from_settings(settings), PHOTOS)
    assert word in str(caught.value)


def test_photographs_get_a_fitted_head_unless_something_is_named_that_only_training_has() -> None:
    fitted = resolve(Recipe(transfer="features"), PHOTOS)
    assert str(fitted.head) == "logistic()"
    assert fitted.feature_stages == "auto"
    assert not {"optimizer", "epochs", "schedule", "regularize"} & set(fitted.describe())
    for setting in ({"optimizer": "sgd(lr=0.1)"}, {"epochs": 3}, {"schedule": "cosine()"}, {"regularize": ("dropout(p=0.2)",)},
                    {"head": "mlp()"}, {"head": "linear()"}, {"metric": "macro_f1"}, {"snapshots": 2}):  # fmt: skip
        trained = resolve(Recipe(**setting), PHOTOS)
        assert str(trained.head).startswith(("linear", "mlp")), setting
        assert trained.feature_stages == "last"
        assert "optimizer" in trained.describe()


def test_a_fitted_head_knows_no_learning_rate() -> None:
    with pytest.raises(KnobError, match=r"optimizer: has no effect with head='logistic\(\)', got 'adam\(\)'. Use --head linear"):
        resolve(Recipe(head="logistic()", optimizer="adam()"), PHOTOS)
    with pytest.raises(KnobError, match=r"head: is fitted on cached features, not with transfer='finetune'"):
        resolve(Recipe(head="logistic(strength=0.1)", transfer="finetune"), PHOTOS)


@pytest.mark.parametrize("transfer", ["features", "head", "finetune", "scratch"])
def test_shapes_decide_how_pictures_become_square_in_every_mode(transfer: str) -> None:
    for facts, fit in ((PHOTOS, "crop"), (PANORAMAS, "squash")):
        plan = resolve(from_settings({"transfer": transfer}), facts)
        assert plan.fit == plan.recipe().fit == fit
        assert plan.reasons["fit"]
        assert resolve(plan.recipe(), facts).describe() == plan.describe()
    asked = Recipe(fit="pad")
    plan = resolve(asked, PANORAMAS)
    assert plan.recipe().fit == "pad"
    assert "  fit        pad  (as asked)" in plan.lines(asked)


def test_a_fit_for_square_pictures_is_refused() -> None:
    for fit in ("squash", "pad"):
        with pytest.raises(KnobError, match=f"fit: is about pictures that are not square, and all of these are, got '{fit}'"):
            resolve(Recipe(fit=fit), DIGITS)
    assert resolve(Recipe(fit="crop"), DIGITS).fit == "crop"  # what the recipe of such a run says
