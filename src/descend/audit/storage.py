"""How pictures are stored: color modes, bit depths, formats, and endings that say something else than the content."""

from __future__ import annotations

from collections import Counter

from PIL import Image

from descend.audit.material import Material, ending
from descend.findings import Finding, counted

MODES, DEPTHS, ENDINGS = "color modes", "bit depths", "endings"
WORDS = {
    "1": "black and white", "L": "gray", "LA": "gray with transparency", "P": "palette", "PA": "palette with transparency",
    "RGB": "color", "RGBA": "color with transparency", "RGBX": "color", "CMYK": "CMYK (for print)", "LAB": "Lab",
    "I;16": "deep gray", "I;16B": "deep gray", "I;16L": "deep gray", "I": "deep gray", "F": "gray, floats",
}  # fmt: skip
RARE = 0.1  # of the pictures: fewer of one kind among others are named, for they may look different to a network


def modes(material: Material) -> list[Finding]:
    """Count the color modes, and name the pictures of rare ones."""
    return [_counted(material, MODES, [WORDS.get(mode, mode) for mode in _texts(material, "mode")], "every picture is")]


def depths(material: Material) -> list[Finding]:
    """Count the bits of a channel; deep pictures among shallow ones are read on a scale of their own."""
    kinds = [f"of {bits} bit{'s' * (bits > 1)} per channel" for bits in material.seen.rows["bits"].tolist()]
    finding = _counted(material, DEPTHS, kinds, "every picture is")
    deep = [problem.message for problem in material.problems("scale")]
    if len(finding.evidence["n"]) > 1 and deep:
        fix = "Store all pictures with one depth: the scale is guessed from the deep ones alone."
        finding = Finding(DEPTHS, "finding", f"{finding.what}; {deep[0]}", finding.evidence, fix, finding.table)
    return [finding]


def endings(material: Material) -> list[Finding]:
    """Name files whose ending says another format than their content: other programs may refuse them."""
    if material.dataset.root is None:
        return []
    known = Image.registered_extensions()
    alike = {"MPO": "JPEG"}  # a JPEG with more pictures behind the first
    rows = []
    for row, stored in enumerate(_texts(material, "format")):
        name = material.dataset.name_of(row)
        said = known.get(ending(name), stored)
        if stored and alike.get(said, said) != alike.get(stored, stored):
            rows.append(material.told(row, is_a=stored))
    if not rows:
        return [Finding(ENDINGS, "ok", "endings agree with contents", {"n": 0})]
    what = f"{counted(len(rows), 'file is', 'files are')} not what the ending says; descend reads by content"
    return [Finding(ENDINGS, "note", what, {"n": len(rows)}, "Rename them: other programs go by the ending.", tuple(rows))]


def _texts(material: Material, field: str) -> list[str]:
    return [value.decode() for value in material.seen.rows[field].tolist()]


def _counted(material: Material, check: str, kinds: list[str], every: str) -> Finding:
    """Count the kinds of the pictures; ``every`` begins the sentence where there is one kind only."""
    readable = {row: kind for row, kind in enumerate(kinds) if row not in material.seen.reasons}
    counts = Counter(readable.values())
    if len(counts) == 1:
        return Finding(check, "ok", f"{every} {next(iter(counts))}", {"n": dict(counts)})
    rare = {kind for kind, n in counts.items() if n < RARE * len(readable)}
    what = ", ".join(f"{n:,} {kind}" for kind, n in counts.most_common())
    rows = tuple(material.told(row, stored=kind) for row, kind in readable.items() if kind in rare)
    return Finding(check, "note", what, {"n": dict(counts)}, "", rows)
