"""Pictures in S3, by the client that people use and a server on this machine: pip install s3fs 'moto[server]'."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from descend import shared_cache
from descend.data import decoded, decoded_cache, load
from descend.errors import DataError
from descend.shared_cache import VARIABLE

s3fs, moto = pytest.importorskip("s3fs"), pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def photos(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Serve the shapes as a folder and as a tar; return the folder."""
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name, value in {"ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(f"AWS_{name}", value)
        tar = tmp_path_factory.mktemp("tars") / "shapes.tar"
        with tarfile.open(tar, "w") as archive:
            archive.add(shapes, ".")
        system = s3fs.S3FileSystem(skip_instance_cache=True)
        system.mkdir("bucket")
        system.put(str(shapes), "bucket/shapes", recursive=True)
        system.put(str(tar), "bucket/shapes.tar")
        yield shapes
    server.stop()


@pytest.mark.parametrize(
    ("address", "limit"),
    [("s3://bucket/shapes", "1GB"), ("s3://bucket/shapes.tar", "1GB"), ("s3://bucket/shapes.tar", "60kB")],
    ids=["a folder", "a tar, fetched", "a tar, read where it lies"],
)
def test_pictures_in_s3_are_those_on_disk(photos: Path, address: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", limit)
    there, here = load(address, split=False), load(photos, split=False)
    assert there.classes == here.classes
    assert sorted(map(bytes, there.digests)) == sorted(map(bytes, here.digests))
    np.testing.assert_array_equal(there.read(0), here.read(0))


@pytest.mark.parametrize("address", ["s3://bucket/nothing", "s3://no-such-bucket/shapes"])
def test_nothing_there_is_said_in_words(photos: Path, address: str) -> None:
    del photos
    with pytest.raises(DataError, match=address):
        load(address)


def test_pixels_left_in_s3_by_one_machine_are_fetched_by_the_next(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, "s3://bucket/descend")
    dataset = load(photos, split=False)
    first = decoded(dataset, 32, cache_dir=tmp_path / "first")
    shared_cache._at.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(decoded_cache, "decode_resized", None)  # nothing is left to decode
        second = decoded(dataset, 32, cache_dir=tmp_path / "second")
    rows = np.arange(len(dataset))
    np.testing.assert_array_equal(second.take(rows), first.take(rows))
    shared_cache._at.cache_clear()
    monkeypatch.setenv(VARIABLE, "s3://no-such-bucket/descend")  # none is made
    decoded(dataset, 16, cache_dir=tmp_path / "third")
    told = [record.getMessage() for record in caplog.records if record.name == shared_cache.__name__]
    assert [message.partition("; this process ")[2] for message in told] == ["leaves nothing there."]
    assert not s3fs.S3FileSystem(skip_instance_cache=True).exists("no-such-bucket")
