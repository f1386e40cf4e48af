"""What signatures cost, and under which key they are kept: nothing is decoded twice, nothing is taken from other pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import pytest
from tests.oracles.data_pictures import encoded, scene

from descend.data import scan, signatures
from descend.data.signatures import Pictures
from descend.files import CacheFolder
from descend.pixels import USUAL


def _pictures(root: Path, side: int, n: int = 5) -> Pictures:
    root.mkdir()
    contents = [encoded(scene(side, side, seed=number)) for number in range(n)]
    for number, content in enumerate(contents):
        (root / f"{number}.png").write_bytes(content)
    digests = np.array([np.frombuffer(scan.digest(content), np.uint8) for content in contents])
    return Pictures(root, [f"{number}.png" for number in range(n)], digests, USUAL)


def test_small_pictures_are_opened_and_decoded_once_and_not_compared_by_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, n_opened = signatures.opened, list[int]()
    monkeypatch.setattr(signatures, "opened", lambda content: n_opened.append(1) or opened(content))
    monkeypatch.setattr(signatures, "decode_resized", lambda *_, **__: pytest.fail("a small picture is squashed"))
    monkeypatch.setattr(signatures, "hashes", lambda *_: pytest.fail("a small picture is hashed"))
    rows = signatures.signatures(_pictures(tmp_path / "set", 28), threads=1, cache=CacheFolder(tmp_path / "cache")).rows
    assert len(n_opened) == 5
    assert len(np.unique(rows["pixels"], axis=0)) == 5
    assert not rows["hashes"].any()
    assert (rows["mode"] == b"RGB").all()
    assert (rows["format"] == b"PNG").all()
    assert (rows["low"] < rows["mean"]).all()
    assert (rows["mean"] < rows["high"]).all()


def test_signatures_are_kept_for_one_version_of_pillow_and_opaque_pictures_for_every_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, cache, n_looks = _pictures(tmp_path / "set", 40), CacheFolder(tmp_path / "cache"), list[int]()
    decode_resized = signatures.decode_resized
    monkeypatch.setattr(
        signatures, "decode_resized", lambda *given, **named: n_looks.append(1) or decode_resized(*given, **named)
    )

    def looked(pictures: Pictures) -> int:
        n_looks.clear()
        signatures.signatures(pictures, threads=1, cache=cache)
        return len(n_looks)

    gray = replace(pictures, policy=replace(USUAL, background="gray"))
    assert looked(pictures) == 5
    assert looked(replace(gray, opaque=True)) == 0
    assert looked(gray) == 5
    monkeypatch.setattr(PIL, "__version__", "0.1")
    assert looked(pictures) == 5
