"""Which files count as pictures, and which files and folders are the business of a system and not of the data.

A file counts by its ending, if Pillow reads files of that kind; where an ending says nothing, by its content (``opening``).
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Literal

from PIL import Image

from descend.data import heic

FOREIGN = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})  # need an outside program, or are only identified
_SYSTEM_FOLDERS = frozenset({
    "@eadir", "#recycle", "#snapshot", "@recycle", "$recycle.bin", "$extend", "$winreagent", "system volume information",
    "lost+found", "lost.dir", "@tmp", "@transcode", "@synoresource", "@synoeastream", "@sharebin", "__macosx", "__pycache__",
    "network trash folder", "temporary items", "aquota", "@recently-snapshot", "~snapshot",
    "_gsdata_", "_vti_cnf", "node_modules",
})  # fmt: skip
_RECYCLE_BINS = ("RECYCLER", "RECYCLED")  # as Windows wrote them; in other letters a class of waste
_RECOVERED = re.compile(r"found\.\d{3}", re.IGNORECASE)
_SYSTEM_SUFFIXES = (".lrdata", ".photoslibrary")  # previews of Lightroom, the inside of a Mac's photo library
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "folder.jpg.tmp",
                            "albumartsmall.jpg"})  # fmt: skip
_COPIES = (".bak", ".orig", ".old", ".tmp", ".temp", ".part", ".crdownload", ".download", ".swp", "_original", "~")
_RAW = frozenset({".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw"})

LFS_POINTER = b"version https://git-lfs"  # begins what Git leaves in the place of a large file that was not fetched

Kind = Literal["picture", "system", "other", "unknown"]


@cache
def formats() -> tuple[str, ...]:
    """Return the names of the formats that count as pictures."""
    Image.preinit()  # the common formats register first and are tried first
    Image.init()
    heic.available()
    return tuple(name for name in Image.OPEN if name not in FOREIGN)


@cache
def suffixes() -> frozenset[str]:
    """Return the file name endings, lower case with their dot, that count as pictures."""
    known = {*formats(), "MPO"}  # MPO is a JPEG with more pictures behind the first
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def kind_of(name: str) -> Kind:
    """Say what a file is by its name: a picture, a system's file, something else, or (by its content only) unknown."""
    base = name.rpartition("/")[2]
    if base.startswith(".") or base.casefold() in _SYSTEM_FILES:
        return "system"
    suffix = _suffix(base)
    if suffix in suffixes():
        return "picture"
    return "other" if suffix in _RAW or suffix in heic.SUFFIXES or base.casefold().endswith(_COPIES) else "unknown"


def is_picture_name(name: str) -> bool:
    """Say whether a file of this name counts as a picture: not hidden, and with an ending that Pillow reads."""
    return kind_of(name) == "picture"


def is_called_picture(name: str) -> bool:
    """Say whether a file ends like a picture, hidden or not: one that is read here, a camera's raw file, HEIC."""
    return _suffix(name) in suffixes() | _RAW | frozenset(heic.SUFFIXES)


def is_hidden_picture(name: str) -> bool:
    """Say whether a file is called like a picture but for a dot before its name; ``._1.png`` is what macOS adds to ``1.png``."""
    return name.startswith(".") and not name.startswith("._") and is_picture_name(name.lstrip("."))


def is_system_folder(name: str) -> bool:
    """Say whether a folder of this name belongs to a system, a recycle bin or a tool: hidden ones do."""
    if name.startswith(".") or name in _RECYCLE_BINS or _RECOVERED.fullmatch(name):  # .git, .Trash-1000
        return True
    return name.casefold() in _SYSTEM_FOLDERS or name.casefold().endswith(_SYSTEM_SUFFIXES)


def why_no_picture(name: str) -> str:
    """Return why a file is passed over."""
    suffix = _suffix(name)
    if suffix in heic.SUFFIXES:
        return heic.ADVICE
    return "a camera's raw file: export it as JPEG or TIFF" if suffix in _RAW else "not a picture"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (a name, not a path)
