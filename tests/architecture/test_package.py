"""What ``import descend`` offers and costs, and what the distribution says about itself."""

from __future__ import annotations

import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import descend
from descend import errors

SOURCE = Path(descend.__file__).parent
ROOT = Path(__file__).parents[2]
PACKAGES = sorted(m.name for m in pkgutil.iter_modules([str(SOURCE)]) if m.ispkg and m.name != "cli")
ERRORS = sorted(name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception))
INTERFACES = {"ImageClassifier", "MLflow", "TensorBoard"}  # what other tools expect of a package
LATER = {"torch", "numpy", "PIL", "rich", "scipy", "sklearn", "matplotlib", "timm", "numba"}  # than a verb's arguments are parsed
HEAVY = {"torch", "pydantic", "pydantic_core", "numpy", "rich", "timm", "sklearn", "scipy", "matplotlib", "numba", "PIL"}


def _loaded_by(code: str) -> set[str]:
    command = [sys.executable, "-c", f"{code}\nimport sys; print('modules:', *sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return {name.split(".")[0] for name in done.stdout.rpartition("modules:")[2].split()}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_is_reached_from_the_top(name: str) -> None:
    assert name in descend.__all__
    assert name in dir(descend)
    reached = getattr(descend, name)
    assert isinstance(reached, ModuleType)
    assert reached is import_module(f"descend.{name}")


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_reached_from_the_top(name: str) -> None:
    assert name in descend.__all__
    assert getattr(descend, name) is getattr(errors, name)


def test_the_top_offers_nothing_else() -> None:
    results = {"Run", "Predictions"}
    verbs = {"fit", "resume", "load", "compare", "ablate", "sensitivity", "scan", "diagnose"}
    assert set(descend.__all__) == {*verbs, *results, *INTERFACES, *PACKAGES, *ERRORS}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="optimm"):
        descend.optimm  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue] (the access is what is tested)


@pytest.mark.parametrize("code", ["import descend", "import descend; descend.KnobError, descend.__version__, dir(descend)"])
def test_importing_costs_nothing(code: str) -> None:
    assert not _loaded_by(code) & HEAVY


def test_packages_are_reached_in_a_fresh_process() -> None:
    loaded = _loaded_by("import descend; print(descend.optim.__name__, descend.data.__name__)")
    assert not loaded & HEAVY


def test_help_imports_neither_torch_nor_pydantic() -> None:
    """Nor what flags and files need: with these it took more than twice as long."""
    assert not _loaded_by("from descend.cli import main; main(['--help'])") & (HEAVY | {"argparse", "pathlib", "tempfile"})


def test_help_of_a_verb_imports_what_its_flags_need_and_no_more() -> None:
    """Import what is heavy inside the function that needs it: the answer to a wrong flag must not wait for torch."""
    code = (
        "import sys, contextlib; from descend.cli import main, VERBS\n"
        "for verb in VERBS:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main([verb, '--help'])\n"
        f"    print('late:', verb, *{LATER} & sys.modules.keys(), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    told = [line.split() for line in done.stderr.splitlines() if line.startswith("late:")]
    assert [(verb, modules) for _, verb, *modules in told if modules] == []


def test_decoding_imports_no_torch() -> None:
    assert not _loaded_by("import descend.data.decode") & (HEAVY - {"numpy", "PIL"})


def test_asking_for_the_version_costs_nothing() -> None:
    loaded = _loaded_by("from descend.cli import main; main(['--version'])")
    assert not loaded & (HEAVY | {"email"})  # importlib.metadata would bring `email`, and read files


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert "version" in project["project"]["dynamic"]
    path = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert re.findall(r'^__version__ = "(.+?)"', path.read_text(encoding="utf-8"), re.MULTILINE) == [descend.__version__]
    assert metadata.version("descend") == descend.__version__


def test_the_promised_pythons_are_those_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = re.findall(r":: (3\.\d+)", "\n".join(project["classifiers"]))
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == promised
    assert project["requires-python"] == f">={promised[0]}"


def test_workflows_and_hooks_run_scripts_that_exist() -> None:
    files = [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / ".ci" / "run"]
    called = {
        name
        for path in files
        for name in re.findall(r"bash (?:\$root/)?((?:scripts|\.ci)/\w+)", path.read_text(encoding="utf-8"))
    }
    assert called >= {"scripts/check", "scripts/test", "scripts/docs", "scripts/build", ".ci/run"}
    assert all((ROOT / name).is_file() for name in called)


def test_the_command_line_tells_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    from descend.cli import main

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"descend {descend.__version__}\n"


def test_type_checkers_are_told_that_the_package_is_typed() -> None:
    assert (SOURCE / "py.typed").read_bytes() == b""
