"""Where a report puts its pictures: each whole one once, the row of a pair with its own, and links to what stands above."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.unit.test_report_page import make_run, picture, written  # pyright: ignore[reportMissingImports]


def answer(name: str, label: str, said: str, seed: int, **more: Any) -> dict[str, Any]:
    return {"path": name, "split": "val", "label": label, "predicted": said, "confidence": 0.9, "jpeg": picture(seed), **more}


def run_with(tmp_path: Path) -> Path:
    mistakes = [answer("a.jpg", "ants", "bees", 1, looked=picture(11)), answer("b.jpg", "wasps", "ants", 2)]
    shown = [answer("c.jpg", "ants", "bees", 3, why="pair"), answer("d.jpg", "bees", "wasps", 4, why="pair", split="test"),
             answer("e.jpg", "ants", "ants", 5, why="unsure"), answer("f.jpg", "bees", "bees", 6, why="class")]  # fmt: skip
    confusion = {"val": [[8, 2, 0], [0, 9, 0], [1, 0, 9]]}
    return make_run(tmp_path / "run", ["ants", "bees", "wasps"], mistakes=mistakes, shown=shown, confusion=confusion)


def test_every_picture_is_embedded_once(tmp_path: Path) -> None:
    text, page = written(run_with(tmp_path))
    for seed in (1, 2, 3, 4, 5, 6, 11):
        assert text.count(picture(seed)) == 1, seed
    assert len([held for held in page.having("img") if held.get("class") == "looked" and "src" in held]) == 1


def test_a_pairs_row_holds_its_pictures_and_leads_to_those_above(tmp_path: Path) -> None:
    text, _ = written(run_with(tmp_path))
    (table,) = re.findall(r'<table class="pairs">.*?</table>', text, re.DOTALL)
    first, second = re.findall(r"<tr><td>.*?</tr>", table, re.DOTALL)
    assert picture(3) in first
    (target,) = re.findall(r'href="#(picture-\d+)"', first)
    above = re.search(rf'<figure id="{target}">.*?</figure>', text, re.DOTALL)
    assert above is not None
    assert picture(1) in above[0]
    assert picture(3) not in second
    assert len(re.findall(r'href="#picture-\d+"', second)) == 1


def test_pairs_that_no_row_tells_keep_a_section(tmp_path: Path) -> None:
    text, page = written(run_with(tmp_path))
    section = text[text.index("More of the commonest confusions") : text.index("Right, but unsure")]
    assert picture(4) in section  # of the test split, which has no matrix here
    assert picture(3) not in section
    assert "More of the commonest confusions" in page.text
    assert "What each class looks like" in page.text


def test_records_of_older_versions_have_fewer_parts(tmp_path: Path) -> None:
    older = [{"path": "a.jpg", "split": "val", "label": "ants", "predicted": "bees", "confidence": 0.9, "jpeg": ""}]
    _, page = written(make_run(tmp_path / "run", mistakes=older))
    assert not [held for held in page.having("img") if "src" in held]
    assert "a.jpg" in page.text
    assert "where the network looked" not in page.text
