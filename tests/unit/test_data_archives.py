"""Compressed archives of pictures: read as the folder that they hold, unpacked once; nothing leaves the cache."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.oracles.data_pictures import encoded, scene

from descend.data import archives, load
from descend.errors import DataError
from descend.files import CacheFolder
from descend.train.picture_sources import picture_sources


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


PHOTOS = {f"photos/{'ab'[n % 2]}/{n}.png": png(n) for n in range(24)}


def packed(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, f"w:{path.suffix[1:] if path.suffix != '.tar' else ''}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["pets.zip", "pets.tar.gz", "pets.tar.xz"])
def test_an_archive_is_the_folder_that_it_holds(name: str, tmp_path: Path) -> None:
    noise = {"__MACOSX/photos/a/._0.png": b"x", "photos/a/._1.png": b"x"}
    path = packed(tmp_path / name, PHOTOS | noise)
    dataset = load(path)
    assert (dataset.name, dataset.classes, len(dataset.labels)) == ("pets", ("a", "b"), 24)
    assert not dataset.problems
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "_extract", lambda *_: pytest.fail("it is unpacked already"))
        assert load(path).fingerprint == dataset.fingerprint


def test_new_pictures_may_come_in_one_and_are_called_by_their_place_in_it(tmp_path: Path) -> None:
    path = packed(tmp_path / "new.zip", PHOTOS)
    (tmp_path / "x.png").write_bytes(png(50))
    found = picture_sources([path, tmp_path / "x.png"])
    assert len(found.sources) == 25
    assert f"{path}/photos/a/0.png" in found.names
    assert str(tmp_path / "x.png") in found.names
    assert picture_sources(str(tmp_path / "none.zip")).names == [str(tmp_path / "none.zip")]  # told when it is to be read


def test_one_that_has_changed_is_unpacked_anew(tmp_path: Path) -> None:
    path = packed(tmp_path / "pets.zip", PHOTOS)
    load(path)
    packed(path, PHOTOS | {"photos/c/0.png": png(100), "photos/c/1.png": png(101)})
    assert load(path).classes == ("a", "b", "c")


@pytest.mark.parametrize("way", ["renamed into its place", "written over"])
@pytest.mark.parametrize("name", ["pets.zip", "pets.tar.gz", "pets.tar"])
def test_another_of_the_same_size_and_time_is_unpacked_anew(name: str, way: str, tmp_path: Path) -> None:
    swapped = {f"photos/{'ba'[n % 2]}/{n}.png": png(n) for n in range(24)}
    path, other = packed(tmp_path / name, PHOTOS), packed(tmp_path / f"other-{name}", swapped)
    size = max(path.stat().st_size, other.stat().st_size)
    for file in (path, other):
        if name.endswith(".tar.gz"):  # bytes after the end count as nothing
            file.write_bytes(file.read_bytes() + bytes(size - file.stat().st_size))
        os.utime(file, (1_500_000_000, 1_500_000_000))
    before = load(path)
    assert path.stat().st_size == other.stat().st_size
    if way == "written over":
        path.write_bytes(other.read_bytes())
    else:
        other.replace(path)
    os.utime(path, (1_500_000_000, 1_500_000_000))
    after = load(path)
    labels = [{data.names[row].rpartition("/")[2]: int(data.labels[row]) for row in range(24)} for data in (before, after)]
    assert all(labels[0][name] != labels[1][name] for name in labels[0])


def test_two_links_to_one_archive_are_called_by_their_own_names(tmp_path: Path) -> None:
    packed(tmp_path / "pets.zip", PHOTOS)
    for link in ("cats.zip", "dogs.zip"):
        (tmp_path / link).symlink_to(tmp_path / "pets.zip")
        assert len(load(tmp_path / link)) == 24


@pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png", "a/../../out.png", "C:\\out.png", "..\\out.png"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_name_that_leads_out_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must name files inside itself"):
        load(packed(tmp_path / f"x.{kind}", PHOTOS | {name: b"x"}))
    assert not any((tmp_path / "cache").rglob("*.png"))


def test_hard_links_are_copies_of_the_file_before_them_and_other_links_are_named(tmp_path: Path) -> None:
    """As GNU tar and Python write every name of a file but the first."""
    root = tmp_path / "photos"
    for name in ("a", "b", "c"):
        (root / name).mkdir(parents=True)
    for number in range(12):
        (root / "ab"[number % 2] / f"{number}.png").write_bytes(png(number))
        (root / "c" / f"{number}.png").hardlink_to(root / "ab"[number % 2] / f"{number}.png")
    (root / "a/link.png").symlink_to("0.png")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(root, "photos")
        assert sum(member.islnk() for member in archive) == 12
        gone = tarfile.TarInfo("photos/b/gone.png")
        gone.type, gone.linkname = tarfile.LNKTYPE, "photos/b/never.png"
        archive.addfile(gone)
    for _ in range(2):  # the second time from the cache
        dataset = load(tmp_path / "x.tar.gz", split=False)
        assert np.bincount(dataset.labels).tolist() == [6, 6, 12]
        (ignored,) = (problem for problem in dataset.problems if problem.kind == "ignored")
        assert ignored.n == 2
        assert ignored.examples == ("photos/a/link.png (a link)", "photos/b/gone.png (a link to no file before it)")


def with_links(path: Path, *members: tuple[str, bytes, str]) -> Path:
    """Write the photographs, and behind them members without content: name, kind, and what it leads to."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in PHOTOS.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, kind, leads_to in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, leads_to
            archive.addfile(member)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_of_two_files_of_one_name_the_last_counts_and_is_told(name: str, tmp_path: Path) -> None:
    files = [*PHOTOS.items(), ("photos/a/0.png", png(99))]
    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as zipped:
            for inside, content in files:
                zipped.writestr(inside, content)
    else:
        with tarfile.open(tmp_path / name, "w:gz") as tarred:
            for inside, content in files:
                member = tarfile.TarInfo(inside)
                member.size = len(content)
                tarred.addfile(member, io.BytesIO(content))
    dataset = load(tmp_path / name, split=False)
    (ignored,) = (problem for problem in dataset.problems if problem.kind == "ignored")
    assert ignored.examples == ("photos/a/0.png (stands in the archive several times: the last counts)",)
    (row,) = (row for row in range(24) if dataset.name_of(row).endswith("a/0.png"))
    assert Path(str(dataset.source(row))).read_bytes() == png(99)


@pytest.mark.parametrize(
    ("made", "called"), [("x.tar.gz", "y.tar"), ("x.tar.xz", "y.zip"), ("x.zip", "y.tar"), ("x.zip", "y.tgz")]
)
def test_an_archive_that_is_called_like_another_kind_is_told_its_own(made: str, called: str, tmp_path: Path) -> None:
    path = packed(tmp_path / made, PHOTOS).rename(tmp_path / called)
    with pytest.raises(DataError, match=rf"By its first bytes it is a {made[1:]}: rename it"):
        load(path)


def test_a_class_of_links_alone_is_not_lost_silently(tmp_path: Path) -> None:
    path = with_links(tmp_path / "x.tar.gz", ("photos/c/0.png", tarfile.SYMTYPE, "../a/0.png"))
    with pytest.raises(DataError, match=r"every class folder must hold a picture, 'c' holds none.*photos/c/0\.png \(a link\)"):
        load(path)


def test_links_and_devices_in_it_are_passed_over(tmp_path: Path) -> None:
    kinds = (("photos/a/link.png", tarfile.SYMTYPE), ("photos/a/pipe.png", tarfile.FIFOTYPE))
    path = with_links(tmp_path / "x.tar.gz", *((name, kind, "/etc/passwd") for name, kind in kinds))
    assert len(load(path)) == 24


def test_what_is_damaged_or_too_large_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "x.zip", PHOTOS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"x\.zip: must be an archive that is whole"):
        load(path)
    flipped = bytearray(whole)
    flipped[200] ^= 255  # within the first picture: its sum tells
    path.write_bytes(flipped)
    with pytest.raises(DataError, match="must be an archive that is whole"):
        load(path)
    path = packed(tmp_path / "x.tar.gz", PHOTOS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="must be an archive that is whole"):
        load(path)
    secret = bytearray(whole)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := secret.find(signature, at + 1)) >= 0:
            secret[at + flags] |= 1
    (tmp_path / "secret.zip").write_bytes(secret)
    with pytest.raises(DataError, match=r"secret\.zip: must not be encrypted"):
        load(tmp_path / "secret.zip")
    (tmp_path / "none.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match="must be an archive that is whole"):
        load(tmp_path / "none.zip")
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", "1kB")
    with pytest.raises(DataError, match="must fit into the cache of 1,000 bytes"):
        load(packed(tmp_path / "y.zip", PHOTOS))
    with pytest.raises(DataError, match="must fit into the cache of 1,000 bytes"):
        load(packed(tmp_path / "y.tar.gz", PHOTOS))
    assert not CacheFolder().usage().get("unpacked")
    assert not list((tmp_path / "cache").rglob("*.png")), "what was begun is gone"


def test_a_way_of_packing_that_is_not_read_here_is_no_damage(tmp_path: Path) -> None:
    content = bytearray(packed(tmp_path / "x.zip", PHOTOS).read_bytes())
    for signature, method in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            content[at + method] = 9  # Deflate64, as Windows takes it for what is beyond 2 GB
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.zip: must be packed in a way that is read here \(.*Unpack it, and give the folder"):
        load(tmp_path / "x.zip")


@pytest.mark.parametrize("name", ["x.tar.bz2", "x.tar.xz"])
def test_damage_within_a_compressed_tar_is_told_as_damage(name: str, tmp_path: Path) -> None:
    content = bytearray(packed(tmp_path / name, PHOTOS).read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"must be an archive that is whole \(.*Fetch it again"):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("code", "fix"),
    [(errno.ENOSPC, "Make room there, or unpack it"), (errno.EDQUOT, "Make room there, or unpack it"),
     (errno.ENAMETOOLONG, r"\). Unpack it, and give the folder."), (errno.EACCES, r"\). Unpack it, and give the folder.")],
)  # fmt: skip
def test_room_is_asked_for_where_the_disk_is_full_alone(
    code: int, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(archives.shutil, "copyfileobj", refused)
    with pytest.raises(DataError, match=rf"must be unpacked into the cache .*{os.strerror(code)}.*{fix}"):
        load(packed(tmp_path / "x.zip", PHOTOS))


def test_archives_that_cannot_be_opened_are_told(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    packed(root / "cat.zip", {f"{n}.png": png(n) for n in range(4)})
    (root / "dog.zip").symlink_to("gone.zip")
    with pytest.raises(DataError, match=r"dog\.zip: must be an archive that can be read \(No such file or directory\)"):
        load(root)
    (root / "dog.zip").unlink()
    os.mkfifo(root / "dog.zip")
    with pytest.raises(DataError, match=r"dog\.zip: must be an archive that can be read \(not a file but a pipe"):
        load(root)


@pytest.mark.parametrize("ending", ["tar.gz", "tar.xz"])
def test_a_compressed_tar_is_read_once_and_older_entries_make_room(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_bytes, opened, opens = sum(map(len, PHOTOS.values())), list[Path](), archives._opened
    monkeypatch.setattr(archives, "_opened", lambda path: opened.append(path) or opens(path))
    old = CacheFolder().entry_path("old", "of no use")
    assert CacheFolder().store(old, b"x" * n_bytes)
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", f"{1.5 * n_bytes / 1000:.3f}kB")
    path = packed(tmp_path / f"pets.{ending}", PHOTOS)
    assert len(load(path).labels) == 24
    assert opened == [path]
    assert not old.exists()


def test_errors_name_the_archive_and_not_where_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("images/1.png", encoded(scene(6, 6)))
        archive.writestr("labels.csv", "path,label\n")
    with pytest.raises(DataError) as error:
        load(tmp_path / "photos.zip")
    assert str(error.value).startswith(f"{tmp_path / 'photos.zip'}: pictures must lie in class folders")
    assert str(tmp_path / "photos.zip" / "labels.csv") in str(error.value)
    assert f"unpack the archive and give it: {tmp_path / 'photos.zip' / 'labels.csv'}" in str(error.value)


@pytest.mark.parametrize("called", ["{}.zip", "{}-samples.zip", "{}.ZIP"])
def test_zips_in_a_folder_are_its_classes(called: str, tmp_path: Path) -> None:
    root = tmp_path / "pets"
    root.mkdir()
    (root / "._cat.zip").write_bytes(b"of a Mac")
    for label in ("black cat", "dog"):
        inside = f"{label}/" if label == "dog" else ""  # packed with its folder, or without
        packed(root / called.format(label), {f"{inside}{n}.png": png(n + 100 * len(label)) for n in range(12)})
    dataset = load(root)
    assert (dataset.name, dataset.classes, len(dataset)) == ("pets", ("black cat", "dog"), 24)
    assert [*np.bincount(dataset.labels)] == [12, 12]
    packed(root / called.format("dog"), {f"{n}.png": png(n + 300) for n in range(13)})
    assert len(load(root)) == 25  # as they are now


def test_zips_in_a_folder_are_its_splits(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for part, first in (("train", 0), ("test", 100)):
        packed(root / f"{part}.zip", {f"{part}/{'ab'[n % 2]}/{n}.png": png(first + n) for n in range(20)})
    dataset = load(root)
    assert dataset.given_split
    assert len(dataset.indices("test")) == 20


def test_zips_that_hold_one_folder_are_its_parts(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for part in range(3):  # as Google Drive parts a folder
        files = {f"flowers/{'ab'[n % 2]}/{n}.png": png(n) for n in range(10 * part, 10 * part + 10)}
        packed(root / f"flowers-20240101T000000Z-00{part + 1}.zip", files)
    dataset = load(root)
    assert (dataset.classes, len(dataset)) == (("a", "b"), 30)
    packed(root / "flowers-20240101T000000Z-004.zip", {"flowers/a/8.png": png(200)})
    with pytest.raises(DataError, match="no file in two of them"):
        load(root)


@pytest.mark.parametrize("names", [("photos-1.zip", "photos-2.zip"), ("photos.zip", "photos (1).zip")])
def test_zips_that_differ_in_a_number_are_no_classes(names: tuple[str, str], tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for number, name in enumerate(names):
        packed(root / name, {f"{n}.png": png(n + 10 * number) for n in range(10)})
    with pytest.raises(DataError, match="2 archives lie in the folder and are not opened; unpack them"):
        load(root)


def test_zips_of_one_name_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for name in ("cat.zip", "cat.ZIP", "dog.zip"):
        packed(root / name, {f"{n}.png": png(n + 10 * len(name)) for n in range(4)})
    with pytest.raises(DataError, match=r"zips of different names.*cat\.ZIP"):
        load(root)


def test_zips_are_read_however_their_folder_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "pets"
    (root / "inner").mkdir(parents=True)
    for number, label in enumerate(("cat", "dog")):
        packed(root / f"{label}.zip", {f"{n}.png": png(n + 100 * number) for n in range(8)})
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    seen = [load(root), load(tmp_path / "link")]
    monkeypatch.chdir(root)
    seen.append(load("."))
    monkeypatch.chdir(root / "inner")
    seen.append(load(".."))
    assert {(dataset.name, dataset.classes) for dataset in seen} == {("pets", ("cat", "dog"))}
    assert len({dataset.fingerprint for dataset in seen}) == 1


def test_zips_that_are_too_much_together_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for number, label in enumerate(("cat", "dog")):
        packed(root / f"{label}.zip", {f"{n}.png": png(n + 100 * number) for n in range(40)})
    n_bytes = sum(item.file_size for path in root.glob("*.zip") for item in zipfile.ZipFile(path).infolist())
    monkeypatch.setenv("DESCEND_CACHE_LIMIT", str(n_bytes - 1))
    with pytest.raises(DataError, match=f"must fit into the cache of {n_bytes - 1:,} bytes"):
        load(root)
    assert not [*(tmp_path / "cache").rglob("*.png")]


def test_one_zip_in_a_folder_is_what_it_holds(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    packed(root / "pets.zip", PHOTOS)
    assert load(root).classes == ("a", "b")


@pytest.mark.parametrize(
    ("beside", "words"),
    [("labels.csv", "1 table lies beside the pictures"), ("notes.zip", "2 archives lie in the folder and are not opened")],
)
def test_zips_beside_a_table_or_without_pictures_are_not_opened(beside: str, words: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    packed(root / "cat.zip", {f"{n}.png": png(n) for n in range(4)})
    if beside.endswith("zip"):
        packed(root / beside, {"notes.txt": b"of mine"})
    else:
        (root / beside).write_text("path,label\n")
    with pytest.raises(DataError, match=words):
        load(root)
    assert not [*(tmp_path / "cache").rglob("*.png")]
