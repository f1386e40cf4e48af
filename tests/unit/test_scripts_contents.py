"""``scripts/contents.py`` finds what a distribution lacks and what it should not hold."""

from __future__ import annotations

import io
import runpy
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

main = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "contents.py"))["main"]
FILES = ["src/descend/__init__.py", "src/descend/py.typed", "src/descend/report/templates/page.html", "tests/test_a.py"]


def _built(root: Path, wheel: list[str], sdist: list[str]) -> Path:
    """Make a repository of FILES and in ``dist`` a wheel and an sdist that hold what is asked."""
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", *FILES], cwd=root, check=True)
    (root / "dist").mkdir()
    with zipfile.ZipFile(root / "dist" / "descend-1.0-py3-none-any.whl", "w") as file:
        for name in [*wheel, "descend-1.0.dist-info/METADATA"]:
            file.writestr(name, "")
    with tarfile.open(root / "dist" / "descend-1.0.tar.gz", "w:gz") as file:
        for name in [*sdist, "PKG-INFO"]:
            file.addfile(tarfile.TarInfo(f"descend-1.0/{name}"), io.BytesIO())
    return root / "dist"


WHEEL = [name.removeprefix("src/") for name in FILES[:3]]


def test_the_tree_as_git_knows_it_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_built(tmp_path, WHEEL, FILES), tmp_path) == 0
    assert "3 files of the package" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wheel", "sdist", "told"),
    [
        (WHEEL[:2], FILES, "any.whl lacks descend/report/templates/page.html"),
        ([*WHEEL, "tests/test_a.py"], FILES, "any.whl holds tests/test_a.py"),
        (WHEEL, FILES[:3], "tar.gz lacks tests/test_a.py"),
        (WHEEL, [*FILES, "runs/secret.csv"], "tar.gz holds runs/secret.csv"),
    ],
)
def test_every_difference_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                   wheel: list[str], sdist: list[str], told: str) -> None:  # fmt: skip
    assert main(_built(tmp_path, wheel, sdist), tmp_path) == 1
    assert capsys.readouterr().out.strip().endswith(told)
