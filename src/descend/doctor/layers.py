"""Activations and gradients, layer by layer: whether they vanish, explode, or stand at zero whatever is shown."""

from __future__ import annotations

from descend.doctor.subject import Subject
from descend.doctor.trial import Layer
from descend.findings import Finding, named

ACTIVATIONS, GRADIENTS, DEAD = "activations", "gradients", "dead units"
FLAT, HUGE = 1e-5, 1e4  # standard deviation of what a layer gives out
APART = 1e6  # between the largest and the smallest gradient of all layers: single precision has seven digits
MANY_DEAD, SOME_DEAD = 0.25, 0.05  # of a layer's units


def activations(subject: Subject) -> list[Finding]:
    """Flag layers that give out the same number for everything, numbers of enormous size, or numbers that are not finite."""
    layers = subject.trial.layers
    table = tuple({"layer": layer.name, "kind": layer.kind, "std": layer.std} for layer in layers)
    bad = {
        "not finite": [layer.name for layer in layers if not layer.finite],
        "exploding": [layer.name for layer in layers if layer.finite and layer.std > HUGE],
        "constant": [layer.name for layer in layers if layer.finite and layer.std < FLAT],
    }
    found = [
        Finding(ACTIVATIONS, "finding", f"{what}: {named(names)}", {what: names},
                "Check the weights it begins with, the inputs' scale, and the learning rate.", table)
        for what, names in bad.items() if names
    ]  # fmt: skip
    deviations = [layer.std for layer in layers] or [0.0]
    span = f"standard deviations {min(deviations):.2g} to {max(deviations):.2g} in {len(layers)} layers"
    return found or [Finding(ACTIVATIONS, "ok", span, {"lowest": min(deviations), "highest": max(deviations)}, table=table)]


def gradients(subject: Subject) -> list[Finding]:
    """Flag weights that no gradient reaches, and gradients that differ too much in size from layer to layer."""
    sizes = subject.trial.gradients
    table = tuple({"layer": name, "rms": size} for name, size in sizes.items())
    without = [name for name, size in sizes.items() if size == 0]
    some = [size for size in sizes.values() if size > 0]
    if without:
        return [Finding(GRADIENTS, "finding", f"no gradient reaches {named(without)}", {"without": without},
                        "Look for dead units before and after it, or a part that is cut off from the loss.", table)]  # fmt: skip
    if not some:
        return [Finding(GRADIENTS, "finding", "no weight has a gradient", {}, "Something cuts the loss off from the network.")]
    evidence = {"lowest": min(some), "highest": max(some)}
    span = f"root mean squares {min(some):.1e} to {max(some):.1e} in {len(some)} weights"
    if not max(some) <= APART * min(some):
        smallest, largest = min(sizes, key=lambda n: sizes[n]), max(sizes, key=lambda n: sizes[n])
        what = f"{span}: {smallest} learns next to nothing beside {largest}"
        fix = "Normalize between layers, add shortcuts, or begin with other weights."
        return [Finding(GRADIENTS, "finding", what, evidence, fix, table)]
    return [Finding(GRADIENTS, "ok", span, evidence, table=table)]


def dead_units(subject: Subject) -> list[Finding]:
    """Flag rectifiers whose units stay at zero for every picture of a batch.

    Units of a pretrained network that answer to none of these pictures are not dead, they know other things: there it counts
    what died in the trial's steps, or a layer that is silent altogether. A rectifier that is a module of its own is seen;
    ``F.relu`` is not.
    """
    counted = [layer for layer in subject.trial.layers if layer.n_dead is not None]
    if not counted:
        return [Finding(DEAD, "ok", "what trains has no rectifier that is a module of its own")]
    shares = {layer.name: _share(layer) for layer in counted}
    begun = {layer.name: _share(layer) for layer in subject.trial.at_first if layer.n_dead is not None}
    pretrained = subject.classifier.backbone.pretrained
    died = {name: share - begun.get(name, 0.0) * (pretrained and share < 1) for name, share in shares.items()}
    table = tuple({"layer": layer.name, "units": layer.n_units, "dead": layer.n_dead} for layer in counted)
    n_dead, n_units = sum(layer.n_dead or 0 for layer in counted), sum(layer.n_units for layer in counted)
    evidence = {"dead": n_dead, "units": n_units, "layers": {name: share for name, share in shares.items() if share > 0}}
    told = f"{n_dead:,} of {n_units:,} units are at zero for every picture of a batch"
    worst = max(died, key=lambda name: died[name])
    if died[worst] >= MANY_DEAD:
        return [Finding(DEAD, "finding", f"{told}, {shares[worst]:.0%} of {worst}", evidence,
                        "Lower the learning rate, or look at biases and shifts that are far below zero.", table)]  # fmt: skip
    some = max(shares, key=lambda name: shares[name])
    if shares[some] < SOME_DEAD:
        return [Finding(DEAD, "ok", told, evidence, table=table)]
    why = ": what they were trained to see is not in these pictures" if pretrained else ""
    return [Finding(DEAD, "note", f"{told}, {shares[some]:.0%} of {some}{why}", evidence, table=table)]


def _share(layer: Layer) -> float:
    return (layer.n_dead or 0) / layer.n_units
