"""The how-to page of the optimizers runs as it stands, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "optimizers.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.S | re.M)
OTHERS = ("lightning", "transformers")


def run(blocks: list[str]) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), scope)
    return scope


def needs(block: str) -> str:
    return next((name for name in OTHERS if f"import {name}" in block), "")


def test_the_page_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    scope = run([block for block in BLOCKS if not needs(block)])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["False", "True", "False", "True"]
    assert not scope["optimizer"].pending
    assert scope["averaged"] < 0.7


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_example_in_lightning_runs() -> None:
    lightning = pytest.importorskip("lightning", reason="needs lightning")
    torch = pytest.importorskip("torch")
    scope = run([block for block in BLOCKS if needs(block) in ("", "lightning")])
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    data = torch.utils.data.TensorDataset(scope["x"], scope["y"])
    lit = scope["Lit"]()
    before = lit.net.weight.detach().clone()
    lightning.Trainer(max_epochs=1, accelerator="cpu", **quiet).fit(lit, torch.utils.data.DataLoader(data, batch_size=16))
    assert not torch.equal(lit.net.weight.detach(), before)
