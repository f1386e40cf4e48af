"""Data at an address, from fsspec's file system in memory: fetched once, fetched anew when it has changed, refused in words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from descend.data import load
from descend.data.places import is_address
from descend.data.remote import at_address
from descend.errors import DataError, MissingExtra
from descend.files import CacheFolder


def png(seed: int) -> bytes:
    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    for number in range(24):
        system.pipe(f"/shop/photos/{'ab'[number % 2]}/{number}.png", png(number))
    yield system
    system.rm("/shop", recursive=True)


def test_a_folder_is_fetched_once_and_anew_when_it_has_changed(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path))
    dataset = load("memory://shop/photos")
    assert (dataset.name, dataset.classes, len(dataset.labels)) == ("photos", ("a", "b"), 24)
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "get_file", lambda *_: pytest.fail("it is there"))
        assert load("memory://shop/photos").fingerprint == dataset.fingerprint
    memory.pipe("/shop/photos/a/24.png", png(24))
    assert len(load("memory://shop/photos").labels) == 25
    assert CacheFolder().usage()["fetched"].n == 2


def test_a_table_has_the_pictures_beside_it(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/shop/photos/list.csv", b"path,label\na/0.png,x\nb/1.png,y\n")
    table = at_address("memory://shop/photos/list.csv", CacheFolder(tmp_path))
    assert isinstance(table, Path)
    assert table.name == "list.csv"
    assert (table.parent / "a" / "0.png").read_bytes() == png(0)


def test_what_cannot_be_fetched_is_one_sentence(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CacheFolder(tmp_path)
    with pytest.raises(DataError, match="must hold files, got 'none'"):
        at_address("memory://shop/nothing", cache)
    with pytest.raises(DataError, match=r"must be within reach \(ValueError: Protocol"):
        at_address("nosuch://x/y", cache)
    with pytest.raises(DataError, match="must fit into the cache of 10 bytes, got '24 files of"):
        at_address("memory://shop/photos", CacheFolder(tmp_path, limit_bytes=10))

    def listing(found: Any) -> Any:
        return lambda *_, **__: found()

    def refuse() -> Any:
        raise ImportError("Install s3fs to access S3")

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "find", listing(refuse))
        with pytest.raises(MissingExtra, match=r"needs a package \(Install s3fs"):
            at_address("memory://shop/photos", cache)
        patch.setattr(type(memory), "find", listing(lambda: {"/shop/photos/../../etc/passwd": {"size": 1}}))
        with pytest.raises(DataError, match="must name files inside itself"):
            at_address("memory://shop/photos", cache)
    assert not cache.usage()


def test_a_full_disk_is_told_as_one(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(memory), "get_file", full)
    with pytest.raises(DataError, match=r"must be fetched into the cache .* \(No space left on device\).*Make room"):
        at_address("memory://shop/photos", CacheFolder(tmp_path))


def test_braces_in_folders_name_what_lies_in_several(memory: Any, tmp_path: Path) -> None:
    found = at_address("memory://shop/photos/{a/0,a/2,b/1}.png", CacheFolder(tmp_path))
    assert isinstance(found, Path)
    files = sorted(path.relative_to(found).as_posix() for path in found.rglob("*.png"))
    assert (found.name, files) == ("photos", ["a/0.png", "a/2.png", "b/1.png"])
    with pytest.raises(DataError, match=r"braces must not name several folders of tars, got 'folders below /shop'"):
        at_address("memory://shop/{train,val}/shard-{000..001}.tar", CacheFolder(tmp_path))


def test_braces_may_stand_for_one_alone(memory: Any, tmp_path: Path) -> None:
    memory.pipe("/shop/list/t-0.csv", b"path,label\na/0.png,x\n")
    table = at_address("memory://shop/list/t-{0..0}.csv", CacheFolder(tmp_path))
    assert isinstance(table, Path)
    assert table.name == "t-0.csv"


def test_addresses_are_told_from_paths() -> None:
    assert all(map(is_address, ("s3://b/c", "https://x.org/y", "memory://a")))
    assert not any(map(is_address, ("photos", "C://photos", "a b://c", "://x", "s3:/b", "builtin:digits")))
