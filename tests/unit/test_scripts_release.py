"""``scripts/release`` on a small repository: what it refuses, that it tags, and that nothing leaves the machine unasked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RELEASE = Path(__file__).parents[2] / "scripts" / "release"
pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not shutil.which("git"), reason="releases are made where there is bash and git"
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository ready for release 1.2.3, whose other scripts only say that they ran; its origin is a folder."""
    root = tmp_path / "repository"
    (root / "scripts").mkdir(parents=True)
    (root / "src" / "descend").mkdir(parents=True)
    shutil.copy(RELEASE, root / "scripts")
    for name in ("check", "test", "build"):
        (root / "scripts" / name).write_text(f'echo "ran {name} $*"\n')
    (root / "src" / "descend" / "__init__.py").write_text('__version__ = "1.2.3"  # the one place\n')
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 1.2.3\n\n- A line.\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "python.txt"}\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    _git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    _git(root, "init", "-q", "-b", "main")
    _git(root, "remote", "add", "origin", str(tmp_path / "origin.git"))
    _commit(root)
    return root


def _git(folder: Path, *words: str) -> str:
    settings = ("user.name=A Tester", "user.email=tester@example.org", "tag.gpgSign=false", "commit.gpgSign=false")
    who = [word for setting in settings for word in ("-c", setting)]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def _commit(root: Path) -> None:
    _git(root, "add", "-A")
    _git(root, "commit", "-q", "-m", "A commit")


def _release(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    names = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
             for what, value in (("NAME", "A Tester"), ("EMAIL", "tester@example.org"))}  # fmt: skip
    environment = os.environ | names | {"PATH": f"{root.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "scripts/release", *words]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment, timeout=60)


def test_it_checks_tests_builds_and_tags_and_sends_nothing(repository: Path) -> None:
    done = _release(repository)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:4] == ["ran check ", "ran test ", "ran test -m slow", "ran build dist"]
    assert _git(repository, "tag", "--list") == "v1.2.3\n"
    assert _git(repository, "cat-file", "-t", "v1.2.3") == "tag\n"
    assert not _git(repository.parent / "origin.git", "tag", "--list")
    assert not (repository.parent / "python.txt").exists()


def test_only_when_asked_it_pushes_the_tag_and_uploads(repository: Path) -> None:
    done = _release(repository, "--upload")
    assert done.returncode == 0, done.stderr
    assert _git(repository.parent / "origin.git", "tag", "--list") == "v1.2.3\n"
    assert "-m twine upload dist/descend-1.2.3" in (repository.parent / "python.txt").read_text()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("echo more >> CHANGELOG.md", "must be committed"),
        ("git checkout -q -b other", "on main, not on other"),
        ("git tag v1.2.3", "the tag v1.2.3 exists"),
        ("sed -i.bak s/1.2.3/1.2.30/ CHANGELOG.md && rm CHANGELOG.md.bak && git commit -qam x", "a section '## 1.2.3'"),
        ("echo exit 1 >> scripts/test && git commit -qam x", ""),
    ],
)
def test_it_refuses(repository: Path, fault: str, told: str) -> None:
    subprocess.run(["git", "config", "user.name", "A Tester"], cwd=repository, check=True)
    subprocess.run(["git", "config", "user.email", "tester@example.org"], cwd=repository, check=True)
    subprocess.run(["bash", "-c", fault], cwd=repository, check=True)
    before = _git(repository, "tag", "--list")
    done = _release(repository)
    assert done.returncode == 1
    assert told in done.stderr
    assert _git(repository, "tag", "--list") == before


def test_an_unknown_word_is_refused(repository: Path) -> None:
    assert "takes --upload or nothing, got upload" in _release(repository, "upload").stderr
