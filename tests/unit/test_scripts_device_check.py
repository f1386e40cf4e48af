"""``scripts/device_check.py``: a device is held to the processor, differences are told, and none to hold is one sentence."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descend.search.steps import read

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "device_check.py"))
main, Trained, MODES = SCRIPT["main"], SCRIPT["Trained"], SCRIPT["MODES"]


def test_the_steps_that_it_takes_are_steps_of_a_search() -> None:
    assert [type(read(step)).__name__ for step in MODES["auto"]["steps"]] == ["FeatureStep", "FineTuneStep"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace training by results: device -> Trained."""
    results: dict[str, Any] = {}
    monkeypatch.setitem(main.__globals__, "trained", lambda _mode, device, *_: results[device])
    return results


def result(probability: float, loss: float | None = 1.0) -> Any:
    return Trained(np.array([[probability, 1 - probability]]), loss, 100.0)


def test_the_processor_agrees_with_itself_to_the_bit(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--device", "cpu", "--modes", "scratch", "--pictures", "8", "--epochs", "2", "--tolerance", "0"]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "Within the tolerance." in out
    rates = next(line for line in out.splitlines() if line.startswith("scratch")).split()[1:3]
    assert all(float(rate.replace(",", "")) > 0 for rate in rates)


@pytest.mark.parametrize(
    ("on_gpu", "status"),
    [(result(0.51), 0), (result(0.53), 1), (result(0.5, 1.01), 0), (result(0.5, 1.03), 1), (result(float("nan")), 1),
     (result(0.5, float("nan")), 1)],
)  # fmt: skip
def test_both_probabilities_and_losses_are_held(on_gpu: Any, status: int, made: dict[str, Any]) -> None:
    made |= {"cpu": result(0.5), "mps": on_gpu}
    assert main(["--device", "mps", "--modes", "head"]) == status


def test_a_mode_beyond_it_is_named(made: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    made |= {"cpu": result(0.5), "mps": result(0.9)}
    assert main(["--device", "mps", "--modes", "head", "scratch"]) == 1
    assert "Beyond the tolerance: head, scratch." in capsys.readouterr().out


def test_without_a_gpu_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(main.__globals__, "_first_gpu", lambda: None)
    assert main([]) == 0
    assert capsys.readouterr().out == "No GPU is here (torch finds neither cuda nor mps): nothing was compared.\n"


def test_a_device_that_cannot_be_used_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "meta", "--modes", "scratch", "--pictures", "8"]) == 2
    assert "device: must be usable here" in capsys.readouterr().err
