"""The first of three steps: from a recipe to everything that training needs.

``fit``, ``resume``, ``lr-find`` and ``slice`` begin here:

    scan the data -> resolve the plan -> build the network -> decode -> choose the engine
    '----------- survey -----------'
    -> measure the default augmentation -> extract features, build the task

What is refused is refused before the run folder exists, and before pictures are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from descend import data as data_package
from descend.augment import Normalize
from descend.data import Dataset, Decoded
from descend.data.builtin import SETS
from descend.data.listed import listed
from descend.data.places import is_file, is_folder
from descend.errors import DataError, KnobError, RunError
from descend.models import Backbone, Classifier
from descend.pixels import PixelPolicy
from descend.progress import Progress
from descend.quantities import seconds
from descend.regularize import install_all
from descend.shared_cache import shared_cache
from descend.technique import spec
from descend.train import folder, initial_run, label_preservation, pictures
from descend.train.auto_backbone import check_auto, with_backbone
from descend.train.checkpoint import State, snapshot
from descend.train.distributed_checks import check_divisible, described, in_a_line
from descend.train.initial_weights import check_file, initial_state, keep, load_initial
from descend.train.labels import label_type
from descend.train.modes import MODES
from descend.train.modes.features import feature_set
from descend.train.modes.mode import Mode, with_pretrained
from descend.train.plan import DataProfile, Plan
from descend.train.recipe import Recipe, scan_command
from descend.train.record_types import FrozenPart, ParameterGroup, Preprocessing
from descend.train.resolve import check_specs, resolve
from descend.train.run import Run
from descend.train.run_log import RunLog
from descend.train.step_checks import check_average, check_batch_size
from descend.train.task_builder import Extraction, ModeTask, TaskBuilder, class_counts, class_weights
from descend.train.world import ALONE, World, current
from descend.transfer import Engine, check_folds, choose, remembered, trainable_stages

NEAR_PER_S, OPENED_PER_S = 100, 300
"""Pictures for each second of a budget: among which near copies are sought, 7% of it on two cores; and that are opened at all,
12%, three times as many as such a machine computes features of."""
SHOWN_BY_SCAN = frozenset({"conflict", "leak", "copies", "near copies", "near leak", "near conflict", "blank"})


@dataclass(frozen=True)
class Survey:
    """What is known before any picture is decoded: the data, and a complete plan for them.

    of: the run that goes on, or None. scan_s: seconds that looking at the pictures took.
    """

    dataset: Dataset
    plan: Plan
    of: Run | None
    scan_s: float


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that training and judging need.

    dataset, decoded: what can be decoded. plan: complete, the engine chosen. classifier: the whole network. mode_task: the
    part that trains, and how to feed it. extraction: what had to be computed. log: where the run is written down. world: the
    processes that train it.
    """

    dataset: Dataset
    decoded: Decoded
    plan: Plan
    classifier: Classifier
    mode_task: ModeTask
    extraction: Extraction
    log: RunLog
    progress: Progress
    world: World = ALONE


def survey(
    recipe: Recipe, *, arrays: Any = None, log: RunLog, progress: Progress, who: str = "fit", of: Run | None = None
) -> Survey:
    """Look at the data and decide the run.

    arrays: data that is no path; see ``descend.fit``. of: the run that was made by this recipe before, where there is one. who:
    the verb that errors name. Raises DataError, KnobError, SpecError, ModelError; RunError where the data have changed.
    """
    recipe, taken = initial_run.settled(recipe) if of is None else (recipe, {})
    check_specs(recipe)
    _check_device(recipe.device)
    shared_cache()  # an address that cannot be one is refused before anything is looked at
    source = _source(recipe, arrays, who)
    recipe = _located(recipe)
    check_file(recipe, of)
    check_auto(recipe)
    corrections = _corrections(recipe, of)
    record = log.record
    record.near_up_to = _up_to(NEAR_PER_S, recipe) if of is None else of.record.near_up_to
    record.open_up_to = _up_to(OPENED_PER_S, recipe) if of is None else of.record.open_up_to
    scanned_before = record.wall_s.get("scan", 0.0)
    dataset = _scan(recipe, source, corrections, log, progress)
    scan_s = record.wall_s["scan"] - scanned_before
    if of is None:
        log.note_pictures(dataset)
        if corrections is not None:
            log.note_corrections(corrections)
    elif dataset.fingerprint != of.record.data_fingerprint:
        raise _other_data(of, dataset, recipe)
    profile = profile_of(dataset)
    if "fit" in taken and not profile.crop_loss.area:  # all are square here: how others become so has no effect
        recipe, taken = replace(recipe, fit="auto"), {name: why for name, why in taken.items() if name != "fit"}
    recipe, chosen = with_backbone(recipe, profile, len(dataset.labels), progress)
    plan = label_preservation.until_measured(resolve(recipe, profile), recipe)
    before = {} if of is None else of.record.reasons  # its recipe names all settings, as if they had been asked for
    plan = replace(plan, reasons=before | plan.reasons | chosen | taken)
    check_divisible(plan, current())
    if helpers := current().helpers:
        progress.say(f"  features   on {helpers}")
    replayed = record.search_replayed or (of is None and recipe.names_steps)  # no clock counts, so a default has no part in it
    for line in plan.lines(recipe, untold=("budget",) if replayed and "budget" in plan.reasons else ()):
        progress.say(line)
    return Survey(dataset, plan, of, scan_s)


def prepare(
    recipe: Recipe, *, arrays: Any = None, log: RunLog, progress: Progress, who: str = "fit", of: Run | None = None
) -> TrainingSetup:
    """Return everything that training needs; arguments and errors as of ``survey``."""
    return prepare_surveyed(survey(recipe, arrays=arrays, log=log, progress=progress, who=who, of=of), log=log, progress=progress)


def prepare_surveyed(surveyed: Survey, *, log: RunLog, progress: Progress) -> TrainingSetup:
    """Return everything that the training of a plan needs.

    Of several processes the one that leads goes first: it decodes, and chooses the engine and the augmentation for all.
    """
    mode, world = MODES[surveyed.plan.transfer].variant(surveyed.plan.recipe()), current()
    with world.in_turn():
        plan, network, initial = built(surveyed, mode, log, progress)
        before = surveyed.of and surveyed.of.record.preprocessing
        dataset, resolution = surveyed.dataset.fitted(plan.fit), stored_side(plan, mode, network, before)
        log.begin(dataset, plan, preprocessing(plan, network.backbone, resolution, dataset.policy))
        keep(initial, log)
        decoded = decode(dataset, plan, resolution, log, progress)
    engine, world.run = None, world.told(log.folder)
    if world.leads:
        with log.timed("engine"):
            plan, engine = _engine(plan, mode, network.backbone, log, progress)
        plan = label_preservation.measured(plan, decoded, network.backbone, log, progress)
    plan = world.told(plan)
    if world.size > 1:
        processes = described(plan, network, world, torch.get_num_threads())
        progress.say(in_a_line(processes))
        log.record.processes = processes if surveyed.of is None else log.record.processes
        log.save()  # now: the process that writes may be killed before its next news
    with log.timed("features"):
        builder = TaskBuilder(plan, decoded, network, engine, progress, world)
        mode_task = mode.task(builder)
    if mode_task.task is not None:
        check_average(plan, mode_task.task.source.n_steps)
    if mode_task.engine is not None:
        prefix = mode_task.engine.prefix
        log.record.frozen_part = FrozenPart(engine=mode_task.engine.name, stage=prefix.stage, taps=list(prefix.taps))
    groups = mode_task.task.optimizer.param_groups if mode_task.task else []
    log.record.parameter_groups = [_described(group) for group in groups]
    return TrainingSetup(decoded.dataset, decoded, plan, network, mode_task, builder.extraction, log, progress, world)


def built(surveyed: Survey, mode: Mode, log: RunLog, progress: Progress) -> tuple[Plan, Classifier, State | None]:
    """Return the plan, its network with the weights that it begins with, and those weights where a run must keep them."""
    plan = surveyed.plan
    with log.timed("build"):
        backbone = plan.backbone.build(plan.seed)
        plan = load_initial(backbone, plan, surveyed.of, log)
        if plan.weights is not None:
            progress.say(f"  weights    {plan.reasons['weights']}")
        initial = initial_state(backbone, plan)
        network = _network(plan, mode, backbone, surveyed.dataset)
        for line in initial_run.load(network, plan, surveyed.dataset, surveyed.of, log):
            progress.say(line)
        return plan, network, snapshot(network) if plan.init is not None else initial


def _other_data(of: Run, dataset: Dataset, recipe: Recipe) -> RunError:
    """Return the error for data that are not those of the run, with what differs."""
    differing = pictures.differences(pictures.of(dataset), of.folder)
    if tuple(of.record.classes) != dataset.classes:
        differing.insert(
            0, f"other classes ({', '.join(sorted({*of.record.classes} ^ {*dataset.classes})[:10]) or 'their order'})"
        )
    must = "its data must be what they were when it began" + (f"; there are {'; '.join(differing)}" if differing else "")
    return RunError(f"run {of.folder}", must, got=recipe.data or "other arrays",
                    fix=f"Restore them, or start anew: {folder.train_anew(of.folder)}.")  # fmt: skip


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Use ``n`` CPU threads while the block runs; None for torch's own choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _source(recipe: Recipe, arrays: Any, who: str) -> Any:
    if arrays is not None:
        return listed(arrays)  # once: a data set of another library may decode every picture that it gives
    if recipe.data is None and who == "resume":
        must = "needs the arrays again: the run was started on arrays"
        raise DataError(who, must, fix="descend.resume(RUN, data=(images, labels)).")
    if recipe.data is None:
        raise DataError(who, "needs DATA: a folder, a table, or the name of a built-in set", fix=f"Try: descend {who} digits")
    return recipe.data


def _located(recipe: Recipe) -> Recipe:
    """Return the recipe with absolute paths, so that a run can be resumed and repeated from anywhere."""
    if recipe.weights is not None:
        recipe = replace(recipe, weights=_absolute("weights", recipe.weights))
    if recipe.corrections is not None:
        recipe = replace(recipe, corrections=_absolute("corrections", recipe.corrections))
    if recipe.init is not None:
        recipe = replace(recipe, init=_absolute("init", recipe.init))
    if recipe.data is None or recipe.data in SETS or not (is_folder(Path(recipe.data)) or is_file(Path(recipe.data))):
        return recipe
    return replace(recipe, data=_absolute("DATA", recipe.data))  # a table reached by a link keeps the folder of the link


def _corrections(recipe: Recipe, of: Run | None) -> str | None:
    """Return the table that corrects the data: of a run that goes on, the copy in its folder. Raises RunError."""
    if of is None or recipe.corrections is None:
        return recipe.corrections
    kept = folder.corrections_of(of.folder)
    if kept is None:
        raise RunError(f"run {of.folder}", f"must have {folder.CORRECTIONS}, the corrections that it began with",
                       fix=f"Restore it, or train anew: {folder.train_anew(of.folder)}.")  # fmt: skip
    return str(kept)


def _absolute(who: str, place: str) -> str:
    """Return an absolute path that a recipe can hold: TOML is UTF-8, and a path that is not could not be read again."""
    path = str(Path(place).absolute())
    if not path.isascii() and any("\ud800" <= letter <= "\udfff" for letter in path):
        raise DataError(who, "must have a path in UTF-8, so that the recipe can name it", got=path,
                        fix="Rename the folder, or reach it by a link: ln -s FOLDER photos.")  # fmt: skip
    return path


def _scan(recipe: Recipe, source: Any, corrections: str | None, log: RunLog, progress: Progress) -> Dataset:
    """Find, check and split the pictures, and say what was found."""
    with log.timed("scan"):
        dataset = data_package.load(
            source, seed=recipe.seed if recipe.split_seed is None else recipe.split_seed, background=recipe.background,
            fit="crop" if recipe.fit == "auto" else recipe.fit, outside=bool(recipe.outside), corrections=corrections,
            near_up_to=log.record.near_up_to, open_up_to=log.record.open_up_to, threads=recipe.threads, progress=progress.update,
        )  # fmt: skip
    if recipe.split_seed is not None and dataset.given_split:
        raise KnobError("split_seed", "has no effect: the data say which pictures are for testing", got=recipe.split_seed,
                        fix="Leave it out.")  # fmt: skip
    if recipe.folds is not None:
        dataset = dataset.pooled()
        rows = dataset.indices("train")
        check_folds(recipe.folds, dataset.labels[rows], dataset.evidence(rows))
    log.record.label_type = label_type(source)
    for line in dataset.describe():
        progress.say(line)
    if recipe.folds is not None:
        progress.say(f"  folds: all that may be trained on, together; {recipe.folds} heads answer what each was fitted without")
    if recipe.data is not None and any(problem.kind in SHOWN_BY_SCAN for problem in dataset.problems):
        command = scan_command(vars(recipe), seed=recipe.seed if recipe.split_seed is None else recipe.split_seed)
        progress.say(f"  to see these pictures: {command}")
    return dataset


def _up_to(per_s: int, recipe: Recipe) -> int | None:
    """Return how many pictures the budget that a recipe names has time to look at in some way; None where it names none.

    What a comparison shares, its split among them, is no single candidate's budget to decide.
    """
    if recipe.budget is None or recipe.split_seed is not None:
        return None
    return int(per_s * seconds(recipe.budget, who="budget"))


def profile_of(dataset: Dataset) -> DataProfile:
    """Return what the defaults depend on in a data set."""
    n_train, side = len(dataset.indices("train")), dataset.shorter_side[1]
    return DataProfile(dataset.name, n_train, len(dataset.classes), side, dataset.is_gray, dataset.crop_loss)


def _check_device(device: str) -> None:
    try:
        torch.ones(1, device=device).item()  # there and back: the meta device takes tensors, but computes nothing
    except (RuntimeError, AssertionError) as error:
        raise KnobError(
            "device", f"must be usable here ({str(error).splitlines()[0]})", got=device, fix="Use --device cpu."
        ) from None


# --------------------------------------------------------------------------------------------------------- the network


def _network(plan: Plan, mode: Mode, backbone: Backbone, dataset: Dataset) -> Classifier:
    """Build the network; what does not fit it is refused here, before a run folder exists."""
    for item in plan.augment:
        if isinstance(item, Normalize):  # constants of one's own belong to the network: every later look uses them
            backbone.mean, backbone.std = item.mean or backbone.mean, item.std or backbone.std
    backbone.check_size(plan.size)
    trainable_stages(backbone, plan.freeze_to)
    backbone.tap(feature_set(backbone, plan))
    head = plan.head.build(backbone.n_features, len(dataset.classes), plan.seed)
    network = Classifier(backbone, head)
    mode.check_network(network, plan)
    check_batch_size(plan, mode.trained_modules(network, plan))
    install_all(plan.regularize, network, trained=mode.trained_modules(network, plan), norm=plan.norm, seed=plan.seed)
    _check_balancing(plan, dataset)
    return network


def _check_balancing(plan: Plan, data: Dataset) -> None:
    """Refuse two techniques that both weigh classes, and one that makes rare classes count more where none is rare."""
    weights, counts = class_weights(plan, data), class_counts(data)
    name = next((item.name for item in plan.regularize if item.balances), "")
    if name and ((counts == counts[0]).all() if weights is None else torch.allclose(weights, torch.ones(len(counts)), rtol=1e-5)):
        must = f"{name} has no effect where all classes are equally common"
        raise KnobError("regularize", must, got=counts.tolist(), fix="Leave it out.")


def stored_side(plan: Plan, mode: Mode, network: Classifier, before: Preprocessing | None = None) -> int:
    """Return the side of stored pictures, pixels: a picture that is kept whole must not lose its border to the view."""
    if before is not None:  # of the run that goes on: another version may know another crop of its backbone
        return before["resolution"]
    return plan.size if plan.fit != "crop" else int(plan.size / (plan.crop_pct or mode.crop_margin(network)))


def preprocessing(plan: Plan, backbone: Backbone, resolution: int, policy: PixelPolicy) -> Preprocessing:
    """Return how pictures become the input of a plan's network, for the record."""
    return Preprocessing(
        architecture=spec(with_pretrained(plan.backbone, False), defaults=True), resolution=resolution, size=plan.size,
        mean=list(backbone.mean), std=list(backbone.std), taps=list(backbone.taps), members=[],
        scale=None if policy.scale is None else list(policy.scale), background=policy.background,
        fit=policy.fit,
    )  # fmt: skip


# ----------------------------------------------------------------------------- the pictures, as the network's input


def decode(dataset: Dataset, plan: Plan, resolution: int, log: RunLog, progress: Progress) -> Decoded:
    """Decode every picture once; those that cannot be decoded are named and no longer counted."""
    with log.timed("decode"):
        decoded = data_package.decoded(dataset, resolution, threads=plan.threads, progress=progress.update)
    for problem in decoded.dataset.problems[len(dataset.problems) :]:
        progress.say(f"  problem: {problem}")
    log.record.data = decoded.dataset.summary()
    return decoded


def _engine(plan: Plan, mode: Mode, backbone: Backbone, log: RunLog, progress: Progress) -> tuple[Plan, Engine | None]:
    """Decide which engine runs the frozen part; once decided it stands in the recipe and is never chosen again."""
    if plan.engine != "auto":
        return plan, None
    taps = mode.taps(backbone, plan)
    choice = remembered(backbone, size=plan.size, taps=taps)
    if choice is None:
        progress.say("  choosing the engine (measured once for this network and machine) ...")
        choice = choose(backbone, size=plan.size, taps=taps)
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in choice.images_per_s.items())
    plan = plan.decided("engine", choice.engine.name, f"the fastest here, pictures/s: {rates}")
    progress.say(f"  engine     {plan.engine}  ({plan.reasons['engine']})")
    log.write_plan(plan)
    return plan, choice.engine


def _described(group: dict[str, Any]) -> ParameterGroup:
    """Return an optimizer's group for the record."""
    described = ParameterGroup(
        name=group["name"], names=list(group["param_names"]), n_parameters=sum(p.numel() for p in group["params"]),
        lr_scale=group["lr_scale"], initial_lr=group["initial_lr"],
    )  # fmt: skip
    if "weight_decay" in group:
        described["weight_decay"] = group["weight_decay"]
    return described
