"""A cache that machines share: what one has made the others fetch, whole or not at all; what is wrong with it stops nobody."""

from __future__ import annotations

import contextlib
import functools
import http.server
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from numpy.typing import NDArray

from descend.cli import main
from descend.data import Decoded, decoded, load
from descend.data import decoded_cache as decoding
from descend.errors import KnobError, MissingExtra
from descend.files import CacheFolder
from descend.models import backbone
from descend.shared_cache import NOTE, PART, VARIABLE, _at, shared_cache
from descend.transfer import extract, make_engine, n_missing

N, S, SIDE = 20, 16, 24
IMAGES = np.random.default_rng(0).integers(0, 256, (N, S, S, 3), dtype=np.uint8)
DIGESTS = np.random.default_rng(1).integers(0, 256, (N, 16), dtype=np.uint8)
WHERE: dict[str, Any] = {"digests": DIGESTS, "preparation": "none"}


class Failing(MemoryFileSystem):
    """Fails when it is asked for the words of ``fails``, after as many calls as ``in_a_while``."""

    protocol = "failing"
    store, pseudo_dirs = dict[str, Any](), [""]
    fails: frozenset[str] = frozenset()
    in_a_while = 0

    def _fail(self, what: str) -> None:
        if what in Failing.fails:
            Failing.in_a_while -= 1
            if Failing.in_a_while < 0:
                raise PermissionError(f"may not {what}")

    def ls(self, path: str, detail: bool = True, **how: Any) -> Any:
        self._fail("list")
        return super().ls(path, detail=detail, **how)

    def cat_file(self, path: str, *words: Any, **how: Any) -> Any:
        self._fail("read")
        return super().cat_file(path, *words, **how)

    def pipe_file(self, path: str, value: bytes, *words: Any, **how: Any) -> Any:
        self._fail("write")
        return super().pipe_file(path, value, *words, **how)


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return what names the shared cache as a process does that has just begun."""

    def begin(address: str) -> None:
        _at.cache_clear()
        monkeypatch.setenv(VARIABLE, address)

    yield begin
    _at.cache_clear()
    Failing.fails, Failing.in_a_while = frozenset(), 0
    for system in (MemoryFileSystem, Failing):
        system.store.clear()


@pytest.fixture(params=["memory", "file"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://bucket/descend/" if request.param == "memory" else f"file://{tmp_path}/all/descend"


def parts(address: str, suffix: str = PART) -> list[str]:
    system, root = fsspec.core.url_to_fs(address)
    return sorted(path for path in system.find(root) if path.endswith(suffix))


def spoil(address: str, path: str, at: int) -> None:
    """Change a byte of a file, or cut the file there where the byte is not in it."""
    system = fsspec.core.url_to_fs(address)[0]
    content = bytearray(system.cat_file(path))
    content[at] ^= 1
    system.pipe_file(path, bytes(content))


# ------------------------------------------------------------------------------------------------------------- features


class Machine:
    """A machine with a disk of its own. n: pictures that its engine was asked for."""

    def __init__(self, root: Path) -> None:
        self.cache, self.n = CacheFolder(root, limit_bytes=10**8), 0
        self.inner = make_engine("torch", backbone("smallcnn(width=4)").build(0), size=S, cache=self.cache)
        self.key, self.prefix = self.inner.key, self.inner.prefix

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.n += len(images)
        return self.inner(images)

    def features(self, rows: range = range(N)) -> NDArray[np.float32]:
        return extract(
            self, lambda part: IMAGES[part], np.array(rows), ids=np.arange(N), view=lambda images, *_: images, batch=4, **WHERE
        )  # pyright: ignore[reportArgumentType] (an engine that counts)


def test_what_one_machine_computed_another_fetches(share: Callable[[str], None], address: str, tmp_path: Path) -> None:
    share(address)
    first = Machine(tmp_path / "first")
    made = first.features(range(12))
    share(address)
    second = Machine(tmp_path / "second")
    assert n_missing(second, np.arange(N), **WHERE) == 8  # pyright: ignore[reportArgumentType]
    assert np.array_equal(second.features()[:12], made)
    assert (first.n, second.n) == (12, 8)
    share("memory://nothing")  # what was fetched lies on this disk, as a segment of its own
    assert np.array_equal(second.features()[:12], made)
    assert second.n == 8
    assert [len(parts(address, suffix)) for suffix in (PART, NOTE)] == [2, 2]  # each machine has written its own


def test_a_segment_that_holds_nothing_of_what_is_asked_for_is_not_fetched(share: Callable[[str], None], tmp_path: Path) -> None:
    share("memory://bucket")
    Machine(tmp_path / "first").features(range(4))
    Machine(tmp_path / "first").features(range(4, 8))
    share("memory://bucket")
    second = Machine(tmp_path / "second")
    second.features(range(4, 6))
    assert second.n == 0
    assert len([*(tmp_path / "second").glob("features/*/*.segment")]) == 1


@pytest.mark.parametrize("which", [PART, NOTE])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_part_that_is_not_whole_is_computed_again(
    share: Callable[[str], None], address: str, tmp_path: Path, which: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    share(address)
    made = Machine(tmp_path / "first").features()
    (path,) = parts(address, which)
    if how == "changed":
        spoil(address, path, 100)
    else:
        fsspec.core.url_to_fs(address)[0].rm(path)
    for name in ("second", "third"):  # the second leaves a whole one
        share(address)
        machine = Machine(tmp_path / name)
        assert np.array_equal(machine.features(), made)
        assert machine.n == (N if name == "second" else 0)
    assert not caplog.messages


def test_nothing_is_shared_where_no_address_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert shared_cache() is None
    monkeypatch.setenv(VARIABLE, "")
    assert shared_cache() is None
    assert Machine(tmp_path).features().shape == (N, 1, 16)


# ------------------------------------------------------------------------------------------------------- decoded pixels


def pixels(pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Decoded, int]:
    """Return the decoded pictures of a machine, and how many of them it has decoded itself."""
    n, inner = [0], decoding.decode_resized

    def counting(*words: Any, **how: Any) -> NDArray[np.uint8]:
        n[0] += 1
        return inner(*words, **how)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode_resized", counting)
        found = decoded(load(pictures, split=False), SIDE, threads=1, cache_dir=cache)
    return found, n[0]


def test_pixels_are_fetched_from_where_another_machine_has_left_them(
    share: Callable[[str], None], address: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(address)
    first, n = pixels(shapes, tmp_path / "first", monkeypatch)
    assert n == len(first)
    share(address)
    second, n = pixels(shapes, tmp_path / "second", monkeypatch)
    assert n == 0
    assert np.array_equal(second.take(np.arange(len(second))), first.take(np.arange(len(first))))
    assert (len(parts(address)), len(parts(address, NOTE))) == (1, 1)  # what came from there is not left there again


def test_from_the_first_row_that_differs_on_pixels_are_decoded(
    share: Callable[[str], None], address: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(address)
    first, _ = pixels(shapes, tmp_path / "first", monkeypatch)
    (path,) = parts(address)
    spoil(address, path, 10 * SIDE * SIDE * 3 + 5)
    share(address)
    second, n = pixels(shapes, tmp_path / "second", monkeypatch)
    assert n == len(first) - 10
    assert np.array_equal(second.take(np.arange(len(second))), first.take(np.arange(len(first))))


def test_a_picture_that_another_machine_could_not_decode_is_tried_here(
    share: Callable[[str], None], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share("memory://bucket")
    dataset = load(shapes, split=False)
    with monkeypatch.context() as patch:

        def without_a_decoder(*words: Any, name: str, **how: Any) -> NDArray[np.uint8]:
            if name == dataset.name_of(3):
                raise decoding.PictureError(name, "has no decoder here")
            return inner(*words, name=name, **how)

        inner = decoding.decode_resized
        patch.setattr(decoding, "decode_resized", without_a_decoder)
        assert decoded(dataset, SIDE, cache_dir=tmp_path / "first").dataset.splits[3] == -1
    share("memory://bucket")
    second, n = pixels(shapes, tmp_path / "second", monkeypatch)
    assert n == 1
    assert (second.dataset.splits >= 0).all()


# -------------------------------------------------------------------------------------------------- what may be wrong


@pytest.mark.parametrize("fails", ["list", "read"])
def test_one_that_cannot_be_read_is_told_once_and_left_alone(
    share: Callable[[str], None], tmp_path: Path, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    fsspec.register_implementation("failing", Failing, clobber=True)
    share("failing://bucket")
    made = Machine(tmp_path / "first").features()
    share("failing://bucket")
    Failing.fails = frozenset({fails})
    second = Machine(tmp_path / "second")
    for _ in range(2):
        assert np.array_equal(second.features(), made)
    assert second.n == N
    assert caplog.messages == [
        f"shared cache failing://bucket: must be within reach (PermissionError: may not {fails}); this process goes on with the "
        "cache of this machine."
    ]
    assert caplog.records[0].levelno == logging.WARNING
    assert len(parts("failing://bucket")) == 1


@pytest.mark.parametrize("after", [0, 1])
def test_one_that_cannot_be_written_is_read_on(
    share: Callable[[str], None], tmp_path: Path, caplog: pytest.LogCaptureFixture, after: int
) -> None:
    fsspec.register_implementation("failing", Failing, clobber=True)
    share("failing://bucket")
    Machine(tmp_path / "first").features(range(8))
    share("failing://bucket")
    Failing.fails, Failing.in_a_while = frozenset({"write"}), after
    second = Machine(tmp_path / "second")
    second.features()
    second.features()
    assert second.n == N - 8
    assert [message.partition("this process ")[2] for message in caplog.messages] == ["leaves nothing there."]
    Failing.fails = frozenset()
    share("failing://bucket")
    assert n_missing(Machine(tmp_path / "third"), np.arange(N), **WHERE) == N - 8  # pyright: ignore[reportArgumentType]
    assert len(parts("failing://bucket")) == 1 + after  # without its note it is not there


def test_one_that_ends_in_the_middle_of_the_pixels(
    share: Callable[[str], None], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"file://{tmp_path}/all"
    share(address)
    first, _ = pixels(shapes, tmp_path / "first", monkeypatch)
    share(address)
    shared = shared_cache()
    assert shared is not None
    inner, n_read = shared._system.open, [0]

    def ending(path: str, mode: str, **how: Any) -> Any:
        file = inner(path, mode, **how)
        if not path.endswith(PART):
            return file
        read = file.read

        def some(n: int) -> bytes:
            n_read[0] += 1
            if n_read[0] > 7:
                raise ConnectionError("the line is dead")
            return read(n)

        file.read = some
        return file

    monkeypatch.setattr(shared._system, "open", ending)
    second, n = pixels(shapes, tmp_path / "second", monkeypatch)
    assert n == len(first) - 7
    assert np.array_equal(second.take(np.arange(len(second))), first.take(np.arange(len(first))))
    assert [message.count("the line is dead") for message in caplog.messages] == [1]


def test_an_address_that_cannot_be_one_is_refused_before_anything_is_looked_at(
    share: Callable[[str], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    share("s4://bucket")
    with pytest.raises(KnobError, match=f"{VARIABLE}: must be an address that fsspec reads .*got 's4://bucket'"):
        shared_cache()
    assert main(["fit", "digits", "--epochs", "1"]) == 2
    assert f"{VARIABLE}: must be an address" in capsys.readouterr().err

    def missing(address: str) -> None:
        raise ImportError("Install s3fs to access S3")

    share("s3://bucket")
    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingExtra, match=r"needs a package \(Install s3fs to access S3\)"):
        shared_cache()


def test_a_server_that_can_only_be_read(
    share: Callable[[str], None], shapes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp")
    share(f"file://{tmp_path}/all")
    made = Machine(tmp_path / "first").features(range(8))
    pixels(shapes, tmp_path / "first", monkeypatch)
    with served(tmp_path / "all") as address:
        share(address)
        assert pixels(shapes, tmp_path / "second", monkeypatch)[1] == 0
        second = Machine(tmp_path / "second")
        assert np.array_equal(second.features()[:8], made)
    assert second.n == N - 8
    assert [message.partition("this process ")[2] for message in caplog.messages] == ["leaves nothing there."]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_cache_verb_names_it(share: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    share("memory://bucket")
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("shared with others: memory://bucket ")
