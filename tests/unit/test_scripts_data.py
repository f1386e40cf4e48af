"""``scripts/data.py`` makes the folders that pages train on out of what their makers serve, whole or not at all."""

from __future__ import annotations

import io
import runpy
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.oracles.data_pictures import encoded, scene

script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "data.py"))
SOURCES, fetch, main = script["SOURCES"], script["fetch"], script["main"]
NAMES = ("train/ants/a.jpg", "train/ants/b.JPG", "train/bees/c.jpeg", "val/ants/d.gif", "val/bees/e.png")


@pytest.fixture
def served(tmp_path: Path) -> str:
    """Return the address of a zip of six pictures, one of them beside the folder that counts."""
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        for name in NAMES:
            file.writestr(f"hymenoptera_data/{name}", encoded(scene(12, 12)))
        file.writestr("elsewhere/f.jpg", encoded(scene(12, 12)))
    return (tmp_path / "set.zip").as_uri()


def test_a_set_is_copied_as_it_lies_in_its_archive(served: str, tmp_path: Path) -> None:
    told = list[str]()
    fetch(replace(SOURCES["hymenoptera"], address=served, n=5), tmp_path / "new" / "hymenoptera", told.append)
    made = {path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert made == {f"hymenoptera/{name}" for name in NAMES}
    assert told[0].endswith("set.zip")
    assert told[1].endswith(": 5 pictures")


def test_what_has_changed_at_its_address_leaves_nothing(served: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="must have 398 pictures, got 5"):
        fetch(replace(SOURCES["hymenoptera"], address=served), tmp_path / "new" / "hymenoptera", lambda _: None)
    assert list((tmp_path / "new").iterdir()) == []


def test_records_of_cifar_become_pictures_of_their_classes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    records = np.concatenate([labels[:, None], pixels.transpose(0, 3, 1, 2).reshape(12, -1)], axis=1)
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as file:
        for at, name in enumerate([*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]):
            content = records[2 * at : 2 * at + 2].tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    source = replace(SOURCES["cifar10"], address=(tmp_path / "cifar.tar.gz").as_uri(), n=12)
    fetch(source, tmp_path / "cifar10", lambda _: None)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "cifar10" / "train" / "cat" / "00003.png")), pixels[3])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "cifar10" / "test" / "automobile" / "00001.png")), pixels[11])


def test_sets_are_listed_with_their_addresses_and_those_that_are_there_are_left(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed and source.address in listed for name, source in SOURCES.items())
    (tmp_path / "cifar10").mkdir()
    assert main(["cifar10", "--to", str(tmp_path)]) == 0
    assert "is there" in capsys.readouterr().out


def test_an_address_that_does_not_answer_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(SOURCES, "gone", replace(SOURCES["hymenoptera"], address=(tmp_path / "none.zip").as_uri()))
    assert main(["gone", "--to", str(tmp_path / "sets")]) == 1
    assert "gone: cannot be fetched from" in capsys.readouterr().err
    assert list((tmp_path / "sets").iterdir()) == []
