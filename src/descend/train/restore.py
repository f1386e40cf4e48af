"""The network of a run, built as its record describes it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from descend.errors import ModelError
from descend.models import Backbone, Classifier, Ensemble, Member, backbone
from descend.regularize import Regularizer
from descend.technique import build
from descend.train.record import RunRecord
from descend.train.record_types import EnsembleMember
from descend.transfer import Head, Linear


def restored(record: RunRecord, state: dict[str, Tensor]) -> Classifier | Ensemble:
    """Return the network that a record describes, with the weights of ``state``, in eval mode."""
    prepared = record.preparation()
    if prepared["members"]:
        return _ensemble(record, prepared["members"], state)
    body = _backbone(record, prepared["architecture"], prepared["taps"])
    head = build(record.specs("head")[0], Head).build(body.n_features, len(record.classes), record.seed)
    network: nn.Module = Classifier(body, head)
    for text in record.specs("regularize"):
        with suppress(ModelError):  # an earlier version has found a place where none was, to no effect on what is answered
            network = build(text, Regularizer).install(network, record.seed)
    network.load_state_dict(state)
    assert isinstance(network, Classifier)  # regularizers put layers into it, they do not replace it
    return network.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in torch's stub)


def _ensemble(record: RunRecord, members: Sequence[EnsembleMember], state: dict[str, Tensor]) -> Ensemble:
    """Return the ensemble that a search has made."""
    built: list[Member] = []
    for member in members:
        body = _backbone(record, member["architecture"], member["taps"])
        body.look(member["view"], of=record.preparation()["size"])
        head = Linear().build(body.n_features, len(record.classes), record.seed)
        built.append(Member(Classifier(body, head), mirrored=member["mirrored"]))
    ensemble = Ensemble(built, [member["weight"] for member in members])
    ensemble.load_state_dict(state)
    return ensemble.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (missing in torch's stub)


def _backbone(record: RunRecord, architecture: str, taps: Sequence[str]) -> Backbone:
    """Return a backbone as a record describes it, its weights not yet restored."""
    prepared = record.preparation()
    body = backbone(architecture).build(record.seed)
    body.mean, body.std = tuple(prepared["mean"]), tuple(prepared["std"])
    body.tap(taps)
    return body


def import_first(modules: Sequence[str]) -> str:
    """Return how to make techniques of one's own known."""
    if "__main__" in modules:
        return (
            "They were defined in a script: move them to a module, and import it before descend.load (or give --import MODULE)."
        )
    return f"Import it before descend.load, or give {' '.join(f'--import {name}' for name in modules)}."
