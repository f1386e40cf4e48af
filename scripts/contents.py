"""Check what the built distributions hold: the wheel the package as git knows it, the sdist every file of the repository.

    python scripts/contents.py dist

Whatever lies in the tree but not in git (a scratch file, a run, a cache) is in the way, and so is a file that git has and a
distribution lacks.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

PACKAGE = "src/descend/"
ADDED_TO_SDIST = {"PKG-INFO"}


def tracked(root: Path) -> set[str]:
    """Return every file that git tracks below ``root``, as posix paths."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name}


def wheel_files(path: Path) -> set[str]:
    """Return the files of a wheel, without its own metadata."""
    with zipfile.ZipFile(path) as wheel:
        return {name for name in wheel.namelist() if not PurePosixPath(name).parts[0].endswith(".dist-info")}


def sdist_files(path: Path) -> set[str]:
    """Return the files of a source distribution, relative to its one folder."""
    with tarfile.open(path) as sdist:
        return {PurePosixPath(member.name).relative_to(PurePosixPath(member.name).parts[0]).as_posix() for member in sdist
                if member.isfile()}  # fmt: skip


def differences(what: str, got: set[str], wanted: set[str]) -> list[str]:
    """Return one line for every file that is missing or should not be there."""
    return [f"{what} lacks {name}" for name in sorted(wanted - got)] + [f"{what} holds {name}" for name in sorted(got - wanted)]


def main(folder: Path, root: Path) -> int:
    """Print every difference. Returns 1 if there is one, else 0."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    known = tracked(root)
    package = {name.removeprefix("src/") for name in known if name.startswith(PACKAGE)}
    held = wheel_files(wheel), sdist_files(sdist)
    told = differences(wheel.name, held[0], package) + differences(sdist.name, held[1], known | ADDED_TO_SDIST)
    print("\n".join(told) or f"{wheel.name}: {len(held[0])} files of the package; {sdist.name}: {len(held[1])} files")
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(__file__).parents[1]))
