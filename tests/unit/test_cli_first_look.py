"""A typo is answered before torch is imported, by every verb, in the words and with the status that it would have had later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from descend.cli.catalogue import check_texts
from descend.cli.first_look import check_run
from descend.errors import RunError

TYPOS = {
    "fit photo": (1, "Did you mean 'photos'?"),
    "fit photos --optimizer adamm": (2, "Did you mean 'adam'?"),
    "fit photos --init nosuch": (1, "nosuch: must be a run folder"),
    "fit --resume nosuch": (1, "nosuch: must be a run folder"),
    "predict nosuch new.jpg": (1, "nosuch: must be a run folder"),
    "eval nosuch photos": (1, "nosuch: must be a run folder"),
    "export nosuch": (1, "nosuch: must be a run folder"),
    "push nosuch me/x": (1, "nosuch: must be a run folder"),
    "slice nosuch": (1, "nosuch: must be a run folder"),
    "report nosuch": (1, "got 'nosuch'"),
    "app nosuch": (1, "got 'nosuch'"),
    "runs nosuch": (1, "got 'nosuch'"),
    "scan photo": (2, "Did you mean 'photos'?"),
    "doctor photo": (2, "Did you mean 'photos'?"),
    "lr-find photo": (1, "Did you mean 'photos'?"),
    "augment photo": (1, "Did you mean 'photos'?"),
    "augment photos --augment flipp": (2, "Did you mean 'flip'?"),
    "ablate photo": (1, "Did you mean 'photos'?"),
    "sensitivity photo --optimizers adam": (1, "Did you mean 'photos'?"),
    "compare photo base optimizer=adam": (1, "Did you mean 'photos'?"),
    "compare base optimizer=adam": (2, "DATA stands before the candidates"),
    "compare photos base": (2, "needs two candidates or more"),
    "compare photos base optimizer=adamm": (2, "in candidate optimizer=adamm"),
    "compare photos augment=light augment=light+flipp": (2, "Did you mean 'flip'?"),
    "surface sadle": (2, "Did you mean 'saddle'?"),
    "surface saddle --optimizers adamm": (2, "Did you mean 'adam'?"),
    "surface saddle --schedule cosin": (2, "Did you mean 'cosine'?"),
}
SCRIPT = """
import contextlib, io, json, sys
from descend.cli import main

told = {}
for line in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = main(line.split())
    told[line] = [status, said.getvalue(), "torch" in sys.modules]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, bool]]:
    """Return what one process answers to every typo: status, words, and whether torch has been imported by then."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "photos").mkdir()
    words = [sys.executable, "-c", SCRIPT, json.dumps([*TYPOS])]
    return json.loads(subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True, timeout=120).stdout)


@pytest.mark.parametrize("line", TYPOS)
def test_a_typo_is_answered_before_torch_is_imported(told: dict[str, tuple[int, str, bool]], line: str) -> None:
    status, words = TYPOS[line]
    assert told[line][0] == status
    assert words in told[line][1]
    assert not told[line][2]


def test_what_is_chosen_later_is_no_typo() -> None:
    check_texts({"augmentation": ["auto", "medium", "flip(p=0.5)"], "schedule": ["auto"]})
    check_run(Path("hf://owner/name"))


def test_a_run_that_is_not_there_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"lates: must be a run folder, there is nothing of that name\. Give the folder that"):
        check_run(tmp_path / "lates")
    (tmp_path / "pets-1").mkdir()
    (tmp_path / "pets-1" / "record.json").touch()
    for name, near in (("lates", "latest"), ("pets1", "pets-1")):
        with pytest.raises(RunError, match=f"Did you mean '{near}'?"):
            check_run(tmp_path / name)
