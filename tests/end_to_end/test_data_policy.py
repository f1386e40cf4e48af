"""What the scan chose for a data set holds in training, prediction, evaluation and export alike."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image, ImageDraw
from tests.oracles.data_pictures import encoded, scene

import descend
from descend.cli import main
from descend.data import decode_resized, decoded, load
from descend.pixels import PixelPolicy
from descend.train.picture_sources import decoded_batches
from descend.train.run import Run

SCRATCH: dict[str, Any] = {"transfer": "scratch", "backbone": "smallcnn(width=16)"}


def _icons(root: Path) -> Path:
    """Make white discs and crosses on nothing: on white, all are blank."""
    for name in ("disc", "cross"):
        (root / name).mkdir(parents=True)
        for i in range(24):
            x, y = (int(v) for v in np.random.default_rng(i + 50 * (name == "disc")).integers(2, 12, 2))
            image = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
            draw = ImageDraw.Draw(image)
            if name == "disc":
                draw.ellipse((x, y, x + 16, y + 16), fill="white")
            else:
                draw.line((x, y, x + 16, y + 16), fill="white", width=4)
                draw.line((x + 16, y, x, y + 16), fill="white", width=4)
            image.save(root / name / f"{i}.png")
    return root


def test_white_symbols_on_nothing_are_told_apart(tmp_path: Path) -> None:
    root = _icons(tmp_path / "icons")
    run = descend.fit(root, **SCRATCH, epochs=12, augment=[], out=tmp_path / "run")
    assert run.record.preparation()["background"] == "black"
    assert run.record.test is not None
    assert run.record.test["accuracy"] > 0.8  # on white: chance
    predicted = run.predict(root / "disc")
    assert (predicted.labels == "disc").mean() > 0.8  # the same background again
    assert run.evaluate(root, split="train")["accuracy"] > 0.8
    assert main(["export", str(run.folder), "--check", str(root / "disc")]) == 0
    properties = {item.key: item.value for item in onnx.load(run.folder / "model.onnx").metadata_props}
    assert (properties["background"], json.loads(properties["scale"])) == ("black", None)
    assert 'background = "auto"' in (run.folder / "recipe.toml").read_text(encoding="utf-8")
    assert run.record.test["n_independent"] < run.record.test["n"]  # some symbols lie in the same place
    assert "6 independent" in (run.folder / "report.html").read_text(encoding="utf-8")
    with pytest.raises(descend.KnobError, match="background: has no effect: no picture is transparent"):
        descend.fit("digits", background="black", out=tmp_path / "other")


def test_the_scale_of_the_training_pictures_holds_for_new_ones(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number, name in enumerate("ab"):
        (root / name).mkdir(parents=True)
        for i in range(24):
            values = np.random.default_rng(100 * number + i).normal(1000 + 100 * number, 10, (16, 16))
            (root / name / f"{i}.png").write_bytes(encoded(Image.fromarray(values.astype(np.uint16))))
    run = descend.fit(root, **SCRATCH, epochs=8, augment=[], out=tmp_path / "run")
    assert run.record.test is not None
    assert run.record.test["accuracy"] > 0.9
    scale = run.record.preparation()["scale"]
    assert scale is not None
    flat = np.full((16, 16), 1090, np.uint16)  # alone, it would be one of 257 levels
    (tmp_path / "new.png").write_bytes(encoded(Image.fromarray(flat)))
    assert run.predict(tmp_path / "new.png").labels.tolist() == ["b"]
    ((images, _),) = decoded_batches([tmp_path / "new.png"], ["new"], {}, record=run.record, threads=1)
    np.testing.assert_array_equal(images[0], decode_resized(flat, 16, policy=PixelPolicy((scale[0], scale[1]))))


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Run:
    values = np.stack([np.random.default_rng(i).normal(0, 30, (16, 16, 3)) + _color(i) for i in range(40)])
    data = values.clip(0, 255).astype(np.uint8), np.array(["a", "b"] * 20)
    return descend.fit(data, **SCRATCH, epochs=6, out=tmp_path_factory.mktemp("runs") / "colors")


def _color(i: int) -> np.ndarray:
    return np.array(((200, 60, 60), (60, 200, 60))[i % 2])


def test_rows_that_are_repeated_are_no_further_evidence(colors: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for i in range(30):  # every fifth label is wrong
        values = np.random.default_rng(i).normal(0, 30, (16, 16, 3)) + _color(i)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[(i + (i % 5 == 0)) % 2]}")
    found = {}
    for name, listed in (("once", rows), ("ten", rows * 10), ("some", rows + rows[:7] * 9)):
        (tmp_path / f"{name}.csv").write_text("path,label\n" + "\n".join(listed) + "\n", encoding="utf-8")
        found[name] = colors.evaluate(tmp_path / f"{name}.csv")
    assert found["ten"]["n"] == 300
    for name in ("ten", "some"):
        assert found[name]["n_independent"] == 30
        for metric in ("accuracy", "accuracy_interval", "balanced_accuracy", "macro_f1", "loss"):
            assert found[name][metric] == pytest.approx(found["once"][metric])
    assert main(["eval", str(colors.folder), str(tmp_path / "ten.csv")]) == 0
    assert "300 pictures, 30 independent" in capsys.readouterr().out
    notes = {problem.kind: problem for problem in load(tmp_path / "ten.csv").problems}
    assert notes["copies"].n == 270


def test_groups_are_one_piece_of_evidence_each(colors: Run, tmp_path: Path) -> None:
    rows = ["path,label,group"]
    for i in range(40):
        values = np.random.default_rng(i).normal(0, 30, (16, 16, 3)) + _color(i)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]},patient {i % 8}")
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    assert colors.evaluate(tmp_path / "t.csv")["n_independent"] == 8


def test_evaluation_sees_the_pixels_of_training(tmp_path: Path, colors: Run) -> None:
    """Large JPEGs are shrunk while they are decoded: in training, prediction and evaluation alike."""
    root = tmp_path / "set"
    for name in "ab":
        (root / name).mkdir(parents=True)
        for i in range(4):
            (root / name / f"{i}.jpg").write_bytes(encoded(scene(300, 400, i), "jpeg", quality=95))
    dataset = load(root)
    sources, names = [dataset.source(row) for row in range(len(dataset))], list(dataset.names)
    ((images, _),) = decoded_batches(sources, names, {}, record=colors.record, threads=1)
    np.testing.assert_array_equal(images, decoded(dataset, 16).take(np.arange(len(dataset))))
    assert (images != np.stack([decode_resized(dataset.read(row), 16) for row in range(len(dataset))])).any()


def test_prediction_counts_and_names_what_it_passes_over(colors: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(encoded(scene(16, 16, i)))
    (tmp_path / "scan0001").write_bytes(encoded(scene(16, 16, 3)))  # a picture without an ending
    (tmp_path / "notes.txt").write_text("none", encoding="utf-8")
    (tmp_path / "clip.mov").write_bytes(bytes(40))
    os.mkfifo(tmp_path / "pipe.png")
    assert main(["predict", str(colors.folder), str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 3
    assert f"passed over (not a picture): 2: {tmp_path / 'clip.mov'}, {tmp_path / 'notes.txt'}" in told.err
    assert "passed over (a pipe, a socket or a device): 1: " in told.err
    assert "3 of 6 files were skipped" in told.err
    named = colors.predict([tmp_path / "0.png", tmp_path / "pipe.png"])  # a pipe that is named does not hang
    assert list(named.problems) == [str(tmp_path / "pipe.png")]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("none", encoding="utf-8")
    with pytest.raises(descend.DataError, match=r"one readable picture or more.*notes\.txt: not a picture"):
        colors.predict(tmp_path / "other")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on 12 bits in 16: what lies between about 960 and 1140 becomes black to white."""
    root = tmp_path_factory.mktemp("narrow")
    return descend.fit(_deep(root / "set"), **SCRATCH, epochs=2, augment=[], out=root / "run")


def _deep(root: Path, change: Callable[[np.ndarray], np.ndarray] = lambda values: values) -> Path:
    """Make ten pictures of each of two classes, their values changed somehow."""
    for number, name in enumerate("ab"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            values = np.random.default_rng(100 * number + i).normal(1000 + 100 * number, 10, (16, 16))
            Image.fromarray(change(values.astype(np.uint16))).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda values: values * np.uint16(16), "values mostly beyond 9.. and 11.., which the run shows as black and white"),
        (lambda values: (values >> 4).astype(np.uint8), "8 bits, and the run learned from more, whose 9.. and 11.. became"),
        (lambda values: (1000 + values % 10).astype(np.uint16), "values that span less than a tenth of 9.. and"),
    ],
)
def test_pictures_of_other_bits_than_the_runs_are_told(
    narrow: Run, change: Callable[[np.ndarray], np.ndarray], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _deep(tmp_path / "new", change)
    found = narrow.predict(root)
    assert len(found.doubtful) == len(found.labels) == 20
    assert all(re.match(why, reason) for reason in found.doubtful.values())
    assert [*narrow.evaluate(root)["doubtful"].values()] == [*found.doubtful.values()]
    assert narrow.features(root).doubtful == found.doubtful
    for verb in ("predict", "eval"):
        assert main([verb, str(narrow.folder), str(root)]) == 0
        assert re.search(rf"careful: answers may mean nothing \({why}.*\): 20: ", capsys.readouterr().err)
    assert main(["predict", str(narrow.folder), str(root), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["doubtful"] == found.doubtful


def test_the_runs_own_kind_of_pictures_are_no_matter_for_doubt(narrow: Run, colors: Run, tmp_path: Path) -> None:
    assert not narrow.predict(_deep(tmp_path / "again")).doubtful
    assert not colors.predict([np.random.default_rng(0).integers(0, high, (16, 16, 3)).astype(kind)
                               for high, kind in ((256, np.uint8), (65536, np.uint16))]).doubtful  # fmt: skip


def test_twelve_bits_in_sixteen_are_told_where_the_run_learned_from_eight(colors: Run) -> None:
    red = np.random.default_rng(0).integers(0, 4096, (16, 16, 3)).astype(np.uint16)
    found = colors.predict([red, red[..., 0]])
    assert [*found.doubtful] == ["[0]", "[1]"]
    assert all("a tenth of 0 and 65535" in why and "their bits may be fewer" in why for why in found.doubtful.values())


def test_what_the_background_hides_is_told(colors: Run) -> None:
    icon = np.zeros((16, 16, 4), np.uint8)
    icon[..., :3] = 255  # white on nothing, on white
    icon[4:8, 4:8, 3] = 255
    found = colors.predict([icon, np.full((16, 16, 3), 7, np.uint8)])
    assert found.doubtful == {"[0]": "a single color, or nearly, as the run reads it, transparent on white"}
