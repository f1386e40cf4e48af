"""The run that a new one begins from (``--init RUN``): its network and settings, its weights, its head's rows by class name.

What fixes the network is taken from that run where nothing else is asked for: backbone, head, size of the pictures and mode.
A run whose head was fitted in one go (of ``features``, or a search) continues as ``finetune``. Settings of the training
that somebody asked for in that run are taken too where the mode is the same. The new run keeps the weights that it begins with
until it is finished, so it is resumed without the other one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from descend.augment import Normalize
from descend.data import Dataset
from descend.errors import KnobError, ModelError, RunError
from descend.models import Backbone, Classifier, Ensemble, Member, backbone
from descend.regularize import Regularizer
from descend.technique import build, spec
from descend.train import folder, pictures
from descend.train.modes.mode import usual_metric, with_pretrained
from descend.train.plan import Plan
from descend.train.recipe import SEARCH_ONLY, Recipe
from descend.train.record_types import InitialRun
from descend.train.run import Run
from descend.train.run_log import RunLog
from descend.train.run_manifest import digest_of
from descend.transfer import Head, Logistic

OF_THE_TRAINING = ("feature_stages", "freeze_to", "norm", "layer_decay", "augment", "regularize", "optimizer", "gradients",
                   "schedule", "batch_size", "metric")  # fmt: skip
"""Settings taken from a run of the same mode where they were asked for there."""
TAKEN = "as in the run that init names"  # the reason of what is taken from it
N_NAMED = 8


def settled(recipe: Recipe) -> tuple[Recipe, dict[str, str]]:
    """Return the recipe with what it leaves to the run that it begins from, and the reasons, by setting.

    Raises RunError where that is no run with a model, KnobError for settings that cannot go with it.
    """
    if recipe.init is None:
        return recipe, {}
    if recipe.weights is not None:
        raise KnobError("init", "and weights both say what the backbone begins with", got=recipe.init, fix="Leave one out.")
    recipe = replace(recipe, init=str(folder.resolve_run(Path(recipe.init))))  # the newest run is another one tomorrow
    run = Run(Path(str(recipe.init)))
    network, size = _network(run)
    del network  # it is there, and whole
    prepared = run.record.preparation()
    architecture, fitted = prepared["architecture"], _is_fitted(run)
    if recipe.backbone is not None and _untrained(recipe.backbone) != _untrained(architecture):
        raise KnobError("backbone", f"must be that of the run that init names, {architecture}", got=recipe.backbone,
                        fix="Leave it out.")  # fmt: skip
    searching = any(getattr(recipe, name) is not None for name in SEARCH_ONLY)
    ended_as = run.record.chosen["transfer"] if run.record.chosen else str(run.record.plan.get("transfer", ""))
    transfer = recipe.transfer
    if transfer == "auto" and not searching:
        transfer = "finetune" if fitted else ended_as
    taken: dict[str, Any] = {"backbone": architecture, "size": recipe.size or size}
    if recipe.crop_pct is None:  # it goes with a crop, whatever the run had
        taken |= {"fit": prepared["fit"]}
    if recipe.fit in ("auto", "crop") and prepared["fit"] == "crop" and (crop_pct := _crop_pct(run, ended_as)) is not None:
        taken |= {"crop_pct": crop_pct}
    taken |= {} if transfer == "auto" else {"transfer": transfer}
    if transfer != "auto" and not fitted and (transfer != "features" or ended_as == "features"):
        taken["head"] = recipe.head or run.record.specs("head")[0]
    if transfer == ended_as:
        taken |= {name: value for name in OF_THE_TRAINING if (value := _asked(run, name)) is not None}
    taken = {name: value for name, value in taken.items() if getattr(recipe, name) in (None, "auto", getattr(Recipe(), name))}
    _refuse_without_effect(run, transfer, recipe.head or taken.get("head"))
    reasons = dict.fromkeys(taken, TAKEN)
    if fitted and "transfer" in taken:
        reasons["transfer"] = f"the run that init names is of {ended_as}, whose head is fitted, not trained"
    return replace(recipe, **taken), reasons


def load(classifier: Classifier, plan: Plan, dataset: Dataset, of: Run | None, log: RunLog) -> list[str]:
    """Load the weights that a plan begins with into its network, and note in the record what matched; return lines that tell it.

    of: the run that was made by this plan before; its folder holds the weights. Raises RunError, ModelError.
    """
    if plan.init is None:
        return []
    if of is not None and (kept := _kept(of)) is not None:
        known = classifier.state_dict()  # of a finished run the model: its head may read more than the last stage
        fitting = {name: value for name, value in kept.items() if name in known and known[name].shape == value.shape}
        classifier.load_state_dict(fitting, strict=False)
        _look_like(classifier.backbone, plan, of.record.preparation()["mean"], of.record.preparation()["std"])
        return []
    run = Run(Path(plan.init))
    digest = digest_of(run.folder / folder.MODEL)
    known = log.record.init
    if of is not None and known is not None and known["digest"] != digest:
        raise RunError(f"run {of.folder}", f"must begin with the weights that {run.folder} had then, and they are others now",
                       fix=f"Train anew: {folder.train_anew(of.folder)}.")  # fmt: skip
    network, _ = _network(run)
    _load_backbone(classifier, network, run)
    _look_like(classifier.backbone, plan, network.backbone.mean, network.backbone.std)
    anew = plan.transfer == "auto" or isinstance(plan.head, Logistic)  # fitted in one go: where it starts has no effect
    whole = "" if anew else _load_head(classifier.head, network.head, dataset.classes, run.classes)
    log.record.init = InitialRun(
        run=str(run.folder), digest=digest, classes=[name for name in dataset.classes if whole and name in run.classes],
        head=whole or "new", n_seen=_n_seen(dataset, run, folds=plan.folds is not None),
    )  # fmt: skip
    log.record.notes = notes(log.record.init)
    return _told(log.record.init, dataset)


def notes(init: InitialRun | None) -> list[str]:
    """Return what the end of a run must tell about the one that it began from."""
    if init is None or not init["n_seen"]:
        return []
    n = init["n_seen"]
    return [f"{n:,} picture{'s' * (n != 1)} that judge it had been trained on by {init['run']}: accuracy flatters."]


def _network(run: Run) -> tuple[Classifier, int]:
    """Return the network of a run, of a search the member with the largest weight, and the side of the pictures that it sees."""
    network, prepared = run.classifier, run.record.preparation()
    if not isinstance(network, Ensemble):
        return network, prepared["size"]
    best = max(range(len(network.weights)), key=lambda k: network.weights[k])
    member = network.members[best]
    assert isinstance(member, Member)  # an ensemble is made of them
    return member.classifier, prepared["members"][best]["view"]


def _crop_pct(run: Run, ended_as: str) -> float | None:
    """Return the share that a run looked at, None where that is its backbone's: from scratch it is all, unless it was asked."""
    said = run.record.plan.get("crop_pct")
    return said if isinstance(said, float) else 1.0 if ended_as == "scratch" else None


def _untrained(text: str) -> str:
    return spec(with_pretrained(backbone(text), False), defaults=True)


def _asked(run: Run, name: str) -> Any:
    """Return the setting of a run if somebody asked for it there, else None."""
    value = getattr(run.recipe, name)
    chosen = run.record.reasons.get(name, TAKEN) != TAKEN  # what it took from a run before it was asked for there
    if name == "metric" and value == usual_metric(build(text, Regularizer) for text in run.recipe.regularize or ()).value:
        return None
    return None if chosen or value in (None, ()) or value == getattr(Recipe(), name) else value


def _is_fitted(run: Run) -> bool:
    """Return whether the head of a run was fitted in one go, by a search too: nothing of its training can be continued."""
    heads = run.record.specs("head")[:1]  # one with a strength of its own was fitted without trials
    return bool(run.record.search or run.record.head_trials) or any(isinstance(build(text, Head), Logistic) for text in heads)


def _look_like(backbone: Backbone, plan: Plan, mean: Sequence[float], std: Sequence[float]) -> None:
    """Let weights see pictures scaled as they were trained on, unless the plan says how."""
    if not any(isinstance(item, Normalize) for item in plan.augment):
        backbone.mean, backbone.std = tuple(mean), tuple(std)


def _refuse_without_effect(run: Run, transfer: str, head: str | None) -> None:
    """Refuse a head that is fitted anew on a backbone that nothing has trained."""
    recipe, steps = run.recipe, run.recipe.steps or ()
    trained = recipe.transfer in ("finetune", "scratch") or any(step.startswith("finetune(") for step in steps)
    anew = transfer == "auto" or (transfer == "features" and (head is None or isinstance(build(head, Head), Logistic)))
    if anew and not (trained or recipe.weights or recipe.init):
        why = "the backbone of that run is the pretrained one, and the head is fitted anew"
        raise KnobError("init", f"has no effect with transfer={transfer!r}: {why}", got=str(run.folder),
                        fix="Leave it out, or add --transfer finetune.")  # fmt: skip


def _kept(of: Run) -> Mapping[str, Tensor] | None:
    """Return the weights that a run began with, or those that it ended with; None where its folder holds neither."""
    path = next((path for name in (folder.INITIAL, folder.MODEL) if (path := of.folder / name).exists()), None)
    if path is None:
        return None
    anew = f"Train anew: {folder.train_anew(of.folder)}."
    folder.verify(path, anew)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RunError(str(path), f"must be intact ({str(error).splitlines()[0]})", fix=anew) from error


def _load_backbone(classifier: Classifier, network: Classifier, run: Run) -> None:
    ours, theirs = classifier.backbone.state_dict(), network.backbone.state_dict()
    shapes, others = ({name: value.shape for name, value in state.items()} for state in (ours, theirs))
    unlike = sorted(name for name in ours.keys() | theirs.keys() if shapes.get(name) != others.get(name))
    if unlike:
        must = f"must name a run with the same backbone; {len(unlike)} tensors differ, {unlike[0]} for example"
        raise ModelError("init", must, got=str(run.folder))
    classifier.backbone.load_state_dict(theirs)


@torch.no_grad()
def _load_head(head: nn.Module, before: nn.Module, classes: Sequence[str], known: Sequence[str]) -> str:
    """Copy what fits of one head into another; returns ``whole``, ``rows``, or nothing where it has another form.

    The last linear layer is copied row by row, a class's row by its name; all before it as it is.
    """
    ours, theirs = head.state_dict(), before.state_dict()
    last = next((name for name, part in reversed([*head.named_modules()]) if isinstance(part, nn.Linear)), None)
    rows = {name for name in ours if last is not None and name.rpartition(".")[0] == last}
    alike = ours.keys() == theirs.keys() and rows
    if not alike or any(_shape(ours, name, rows) != _shape(theirs, name, rows) for name in ours):
        return ""
    places = [(k, known.index(name)) for k, name in enumerate(classes) if name in known]
    if not places:
        return ""
    for name, value in ours.items():
        if name not in rows:
            value.copy_(theirs[name])
            continue
        for here, there in places:
            value[here] = theirs[name][there]
    return "whole" if len(places) == len(classes) else "rows"


def _shape(state: Mapping[str, Tensor], name: str, rows: Collection[str]) -> tuple[int, ...]:
    """Return a tensor's shape; for one with a row per class, that of a row."""
    return tuple(state[name].shape[1:] if name in rows else state[name].shape)


def _n_seen(dataset: Dataset, run: Run, *, folds: bool) -> int:
    """Count the pictures that judge the new run and that the other one was trained on, as far as its folder tells.

    folds: whether all that is trained on judges, each out of its fold.
    """
    seen = pictures.digests(run.folder, "train")
    if "refit" in run.record.reasons:  # in the end it learned from validation too
        seen |= pictures.digests(run.folder, "val")
    rows = [row for split in ("val", "test", *(["train"] if folds else [])) for row in dataset.indices(split)]
    return sum(dataset.digests[row].tobytes().hex() in seen for row in rows)


def _told(init: InitialRun, dataset: Dataset) -> list[str]:
    """Return what matched, in words."""
    new = [name for name in dataset.classes if name not in init["classes"]]
    how = {"whole": "the head too, every class by its name", "rows": f"the head's rows of {_names(init['classes'])}; "
           f"new: {_names(new)}", "new": "the head begins anew"}[init["head"]]  # fmt: skip
    return [f"  init       the backbone of {init['run']}; {how}", *(f"  note: {line}" for line in notes(init))]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:N_NAMED]) + (f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else "")
