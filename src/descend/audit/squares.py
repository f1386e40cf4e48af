"""Sizes and shapes of pictures: what a network that sees squares loses of them."""

from __future__ import annotations

import numpy as np

from descend.audit.material import Material
from descend.data.manifest import UNASSIGNED
from descend.data.shapes import FEW, fit_for
from descend.findings import Finding, Severity, counted

SIZES, SHAPES = "sizes", "shapes"
MUCH_SMALLER = 4  # times smaller than the middle one along the shorter side: blurred where the others are sharp


def sizes(material: Material) -> list[Finding]:
    """Tell how large pictures are, and name those far smaller than the others."""
    dataset = material.dataset
    sides = dataset.sizes.min(axis=1)
    kept = dataset.splits != UNASSIGNED
    smallest, median, largest = dataset.shorter_side
    evidence = {"min": smallest, "median": median, "max": largest}
    tiny = np.flatnonzero(kept & (sides * MUCH_SMALLER < median))
    told = f"shorter side {smallest:,}" + (f" to {largest:,} px, median {median:,}" if smallest < largest else " px")
    if not len(tiny):
        return [Finding(SIZES, "ok", told, evidence)]
    severity: Severity = "finding" if len(tiny) < FEW * kept.sum() else "note"  # many: the set is mixed, and knows it
    what = f"{told}; {counted(len(tiny), 'is', 'are')} more than {MUCH_SMALLER} times smaller than the middle one"
    rows = tuple(material.told(row, width=int(dataset.sizes[row, 0]), height=int(dataset.sizes[row, 1])) for row in tiny.tolist())
    fix = "Thumbnails among photographs? Fetch the originals."
    return [Finding(SIZES, severity, what, evidence | {"n_much_smaller": len(tiny)}, fix, rows)]


def shapes(material: Material) -> list[Finding]:
    """Tell what share of the pictures' area a center crop never sees."""
    dataset = material.dataset
    loss = dataset.crop_loss
    evidence = {"unseen_by_crop": loss.area, "mostly_unseen": loss.mostly_unseen}
    if loss.area == 0:
        return [Finding(SHAPES, "ok", "every picture is square", evidence)]
    what = f"a center crop never sees {loss.area:.0%} of the pictures' area"
    if not loss.mostly_unseen:
        return [Finding(SHAPES, "ok", what, evidence)]
    share = dataset.sizes.min(axis=1) / dataset.sizes.max(axis=1)
    long = np.flatnonzero((share < 0.5) & (dataset.splits != UNASSIGNED))
    rows = tuple(material.told(int(row), unseen=float(1 - share[row])) for row in long[np.argsort(share[long], kind="stable")])
    chosen = fit_for(loss)[0]
    what += f"; {counted(len(long), 'is', 'are')} more than twice as long as wide"
    fix = f"descend fit takes --fit {chosen} here; --fit squash or pad shows all of a picture." if chosen == "crop" else ""
    return [Finding(SHAPES, "note", what, evidence | {"n_long": len(long)}, fix, rows)]
