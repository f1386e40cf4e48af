"""The papers behind techniques, as BibTeX: what a technique's ``source`` names is looked up in ``papers.bib``.

A source names papers by arXiv number, by DOI, or by first author and year; every one that it names has an entry.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

_ENTRY = re.compile(r"^@(\w+)\{(\w+), (.*)\}$")
_FIELD = re.compile(r"(\w+) = (\{.*?\})(?=, \w+ = \{|$)")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_DOI = re.compile(r"doi:(10\.\d+/[^\s,;()]+)")
_NAME = r"[A-Z\u00c0-\u00de][\w\u00c0-\u024f-]+"
_AUTHORED = re.compile(rf"({_NAME})(?:,? (?:{_NAME}|et al\.|&))* ((?:19|20)\d\d)\b")
_LETTERS = {"ä": "ae", "ö": "oe", "ü": "ue"}
MEASURES: Mapping[str, str] = {
    "interval": "wilson1927",
    "temperature": "guo2017",
    "reliability": "degroot1983",
    "coverage": "geifman2017",
    "looked": "selvaraju2017",
}
"""Part of a report -> the paper of the method that it is made with."""


@cache
def entries() -> Mapping[str, dict[str, str]]:
    """Return every entry: key -> its fields, with ``type`` for what kind of publication it is, and values in braces."""
    found: dict[str, dict[str, str]] = {}
    for line in files("descend.report").joinpath("papers.bib").read_text(encoding="utf-8").splitlines():
        entry = _ENTRY.match(line)
        if entry:
            found[entry[2]] = {"type": entry[1], **dict(_FIELD.findall(entry[3]))}
    return found


def keys(source: str) -> list[str]:
    """Return the keys of the papers that a technique's source names, in order. Raises KeyError for one without an entry."""
    found: list[str] = []
    for part in source.split(";"):
        named = [_by("eprint", number) for number in _ARXIV.findall(part)] + [_by("doi", number) for number in _DOI.findall(part)]
        named = named or [_known(name, year) for name, year in _AUTHORED.findall(part)]
        found += [key for key in named if key not in found]
    return found


def bibtex(wanted: Iterable[str]) -> str:
    """Return the entries of some keys as text to be pasted into a ``.bib`` file, a field per line, each once."""
    texts: list[str] = []
    for key in dict.fromkeys(wanted):
        fields = dict(entries()[key])
        kind = fields.pop("type")
        width = max(map(len, fields))
        body = "".join(f"  {name:<{width}} = {value},\n" for name, value in fields.items())
        texts.append(f"@{kind}{{{key},\n{body}}}\n")
    return "\n".join(texts)


def _by(field: str, value: str) -> str:
    for key, fields in entries().items():
        if fields.get(field) == f"{{{value}}}":
            return key
    raise KeyError(f"papers.bib has no entry with {field} {value}")


def _known(name: str, year: str) -> str:
    """Return the key of a first author and a year: ``Müller 2021`` is mueller2021."""
    lower = "".join(_LETTERS.get(letter, letter) for letter in name.lower())
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", lower) if letter.isascii() and letter.isalnum())
    key = f"{plain}{year}"
    if key not in entries():
        raise KeyError(f"papers.bib has no entry {key}")
    return key
