"""The digests of a run's files, in one file beside them: what has changed since it was written is noticed when it is read.

``manifest.json`` holds the SHA-256 digests of model, checkpoint, initial weights, list of pictures, predictions and recipe, the
recipe's settings, and a name that no other run has. A digest is written down *before* its file gets its name, beside those that
the file had before, so that a crash between the two leaves a run that verifies. A run folder without a manifest (of an older
version) is opened unverified. The record, which changes often, holds its own digest, the run's name, and the digest of
``metrics.jsonl`` when training has ended.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import tomllib
from pathlib import Path
from typing import Any, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from descend import files
from descend.errors import RunError
from descend.regular_files import read_text_bytes, size_on_disk

MANIFEST = "manifest.json"
N_DIGESTS = 4  # of one file: the newest, and those it had when processes may have been killed


class Manifest(TypedDict):
    """What the file holds. files: name -> digests in hexadecimal, the newest first. recipe: its settings, as TOML gives them.

    run: what no other run has, in hexadecimal; manifests of older versions have none.
    """

    files: dict[str, list[str]]
    recipe: dict[str, Any]
    run: NotRequired[str]


def is_there(folder: Path) -> bool:
    """Return whether the files of a run folder can be verified."""
    return (folder / MANIFEST).exists()


def expect(path: Path, unfinished: Path) -> None:
    """Write down that ``path`` will be what lies at ``unfinished`` now. Raises OSError.

    Only a recipe begins a manifest: it is the first file of a run.
    """
    is_recipe = path.suffix == ".toml"
    manifest = _read(path.parent)
    if manifest is None:
        if not is_recipe:
            return
        manifest = Manifest(files={}, recipe={}, run=secrets.token_hex(8))
    before = manifest["files"].get(path.name, [])
    digest = digest_of(unfinished)
    manifest["files"][path.name] = [digest, *(other for other in before if other != digest)][:N_DIGESTS]
    if is_recipe:
        manifest["recipe"] = tomllib.loads(unfinished.read_text(encoding="utf-8"))
    files.write_bytes(path.parent / MANIFEST, json.dumps(manifest, indent=1).encode())


def run_of(folder: Path) -> str:
    """Return what the run of a folder is told from others by; "" where it has no manifest, or an older one. Raises RunError."""
    manifest = _read(folder)
    return "" if manifest is None else manifest.get("run", "")


def is_changed(path: Path, as_: str | None = None) -> bool:
    """Return whether a file is another than was written; False where nothing is known of it. Raises RunError, OSError.

    as_: the name under which it was written, where it has another one now.
    """
    manifest = _read(path.parent)
    known = [] if manifest is None else manifest["files"].get(as_ or path.name, [])
    return bool(known) and digest_of(path) not in known


def changed_settings(recipe: Path) -> list[str]:
    """Return the names of the settings in which a run's recipe is another than was written. Raises RunError, OSError."""
    manifest = _read(recipe.parent)
    if manifest is None or not is_changed(recipe):
        return []
    try:
        now = tomllib.loads(recipe.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"recipe {recipe}", f"must be valid TOML ({error})") from None
    then = manifest["recipe"]
    return sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))


def _read(folder: Path) -> Manifest | None:
    """Return the manifest of a run folder, None where it has none."""
    path = folder / MANIFEST
    try:
        return TypeAdapter(Manifest).validate_json(read_text_bytes(path), strict=True)
    except FileNotFoundError:
        return None
    except (ValidationError, RecursionError, OSError):
        raise RunError(
            str(path), "must be as descend wrote it", fix="Delete it to open the run without verifying its files."
        ) from None


def digest_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal. Raises OSError."""
    size_on_disk(path)  # refuses a pipe, which would be waited for
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
