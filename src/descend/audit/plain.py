"""Pictures that show one color once they are opened: there is nothing to learn from them."""

from __future__ import annotations

from descend.audit.material import Material
from descend.findings import Finding, counted

CHECK = "uniform"


def uniform(material: Material) -> list[Finding]:
    """Name the pictures that are all one color as a network would be shown them."""
    rows = material.uniform.tolist()
    if not rows:
        return [Finding(CHECK, "ok", "no picture is all one color", {"n": 0})]
    what = f"{counted(len(rows), 'picture shows', 'pictures show')} one color once opened"
    fix = "Damaged, empty or on a background of their own color? Mend or remove them; --background changes what shows through."
    return [Finding(CHECK, "finding", what, {"n": len(rows)}, fix, tuple(map(material.told, rows)))]
