"""Tars that are not compressed: read where they lie, folders of classes and WebDataset's shards; hostile ones in one sentence."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from descend.data import decoded, load, tar_shards
from descend.data.ranges import LocalFile, Member
from descend.errors import DataError
from descend.files import CacheFolder
from descend.train.picture_sources import picture_sources


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


PHOTOS = {f"photos/{'ab'[n % 2]}/{n}.png": png(n) for n in range(24)}


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    return info, io.BytesIO(content)


def packed(path: Path, files: dict[str, bytes], **how: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **how) as archive:  # pyright: ignore[reportCallIssue]
        for name, content in files.items():
            archive.addfile(*member(name, content))
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCEND_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_is_the_folder_that_it_holds_and_nothing_is_unpacked(form: int, tmp_path: Path) -> None:
    noise = {"__MACOSX/photos/a/._0.png": b"x", "photos/a/._1.png": b"x"}
    long = {f"photos/b/{'x' * 90}/{'é' * 20}.png" if form != tarfile.USTAR_FORMAT else "photos/b/x.png": png(50)}
    path = packed(tmp_path / "pets.tar", PHOTOS | noise | long, format=form)
    dataset = load(path)
    assert (dataset.name, dataset.classes, len(dataset.labels)) == ("pets", ("a", "b"), 25)
    assert not dataset.problems
    assert not CacheFolder().usage().get("unpacked")
    for row in range(25):
        source, name = dataset.source(row), dataset.name_of(row)
        assert isinstance(source, Member)
        assert source.read() == (PHOTOS | long)[name]
    assert dataset.path_of(0) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tar_shards, "_Walk", lambda *_: pytest.fail("it is listed already"))
        assert load(path).fingerprint == dataset.fingerprint


def test_it_reads_as_its_files_in_a_folder_do(tmp_path: Path) -> None:
    extra = {"photos/a/.hidden.png": b"x", "photos/@eaDir/0.png": b"x", "photos/b/no ending": png(60),
             "photos/b/readme": b"text", "photos/a/raw.cr2": b"x", "photos/b/empty.png": b"",
             "photos/a/cut.png": png(1)[:60], "photos/runs/one/recipe.toml": b"", "photos/runs/one/x.png": png(3)}  # fmt: skip
    for name, content in (PHOTOS | extra).items():
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / name).write_bytes(content)
    folder, tar = load(tmp_path / "pets"), load(packed(tmp_path / "pets.tar", PHOTOS | extra))
    assert (tar.fingerprint, [*tar.names]) == (folder.fingerprint, [*folder.names])
    assert [str(item) for item in tar.problems] == [str(item) for item in folder.problems]
    assert (decoded(tar, 8).pixels == decoded(folder, 8).pixels).all()


def test_new_pictures_may_come_in_one_and_are_called_by_their_place_in_it(tmp_path: Path) -> None:
    path = packed(tmp_path / "new.tar", PHOTOS | {"photos/notes.odt": b"x"})
    (tmp_path / "x.png").write_bytes(png(50))
    found = picture_sources([path, tmp_path / "x.png"])
    assert len(found.sources) == 25
    assert found.names[0] == f"{path}/photos/a/0.png"
    assert found.passed_over == {f"{path}/photos/notes.odt": "not a picture"}
    packed(tmp_path / "new" / "a.tar", PHOTOS)
    assert len(picture_sources(tmp_path / "new").sources) == 24
    (tmp_path / "new" / "x.png").write_bytes(png(50))
    beside = picture_sources(tmp_path / "new")
    assert beside.names == [str(tmp_path / "new" / "x.png")], "a tar beside pictures is no folder of shards"
    assert beside.passed_over == {str(tmp_path / "new" / "a.tar"): "an archive: give it by itself"}
    assert picture_sources(str(tmp_path / "none.tar")).names == [str(tmp_path / "none.tar")]  # told when it is to be read


def test_one_that_has_changed_is_listed_anew(tmp_path: Path) -> None:
    path = packed(tmp_path / "pets.tar", PHOTOS)
    load(path)
    packed(path, PHOTOS | {"photos/c/0.png": png(100), "photos/c/1.png": png(101)})
    assert load(path).classes == ("a", "b", "c")


def shards(folder: Path) -> Path:
    for n, shard in enumerate(["train-000.tar", "train-001.tar", "val-000.tar"]):
        keys = [f"{n}{k:03}" for k in range(8)]
        files = {f"{key}.png": png(int(key)) for key in keys} | {f"{key}.cls": str(int(key) % 2).encode() for key in keys}
        packed(folder / shard, files)
    return folder


def test_shards_tell_classes_and_splits(tmp_path: Path) -> None:
    dataset = load(shards(tmp_path / "shards"))
    assert (dataset.name, dataset.classes, dataset.given_split) == ("shards", ("0", "1"), True)
    assert (len(dataset.indices("val")), len(dataset)) == (8, 24)
    labels = {dataset.name_of(row): dataset.classes[dataset.labels[row]] for row in range(24)}
    assert labels["train-001/1003.png"] == "1"


def test_a_shard_may_tell_its_classes_in_json(tmp_path: Path) -> None:
    words = {0: "oak", 1: "elm"}
    files = {f"{k}.png": png(k) for k in range(12)} | {f"{k}.json": f'{{"label": "{words[k % 2]}"}}'.encode() for k in range(12)}
    files |= {"12.png": png(12), "12.json": b"[1]", "13.png": png(13), "14.png": png(14), "14.json": b"[" * 10**5}
    files |= {"15.png": png(15), "15.cls": b"x" * 2**21}
    dataset = load(packed(tmp_path / "trees.tar", files))
    assert (dataset.classes, len(dataset)) == (("elm", "oak"), 12)
    assert any("4 rows of the table have no label" in str(problem) for problem in dataset.problems)


def test_classes_in_another_encoding_are_refused_and_not_brought_together(tmp_path: Path) -> None:
    words = ("K\u00e4fer", "K\u00f6fer")
    for ending, text in ((".cls", "{}"), (".json", '{{"label": "{}"}}')):
        files = {f"{k}.png": png(k) for k in range(12)}
        files |= {f"{k}{ending}": text.format(words[k % 2]).encode("cp1252") for k in range(12)}
        with pytest.raises(DataError, match=rf"the class of a picture must be UTF-8, '0\{ending}' is not"):
            load(packed(tmp_path / "bugs.tar", files))


def test_a_class_in_json_may_be_a_float_that_is_whole_and_stand_behind_a_byte_order_mark(tmp_path: Path) -> None:
    files = {f"{k}.png": png(k) for k in range(12)}
    files |= {f"{k}.json": f'\ufeff{{"label": {float(k % 2)}}}'.encode() for k in range(12)}
    assert load(packed(tmp_path / "a.tar", files)).classes == ("0", "1")


@pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png", "a/../../out.png", "C:\\out.png", "..\\out.png"])
def test_a_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must name files inside itself"):
        load(packed(tmp_path / "x.tar", PHOTOS | {name: b"x"}))


def test_links_and_devices_in_it_are_passed_over(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", PHOTOS)
    with tarfile.open(path, "a") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)):
            info, _ = member(f"photos/a/link{number}.png", kind=kind)
            info.linkname = "/etc/passwd"
            archive.addfile(info)
    dataset = load(path)
    assert len(dataset) == 24
    (ignored,) = (problem for problem in dataset.problems if problem.kind == "ignored")
    assert ignored.examples == ("photos/a/link0.png (a link)", "photos/a/link1.png (a link to no file before it)")


def test_hard_links_are_the_member_before_them(tmp_path: Path) -> None:
    """As GNU tar and Python write every name of a file but the first; that may be one which nobody reads, or a class."""
    root = tmp_path / "set"
    for name in (".store", "a", "b"):
        (root / name).mkdir(parents=True)
    for number in range(24):
        (root / ".store" / str(number)).write_bytes(png(number))
        (root / "ab"[number % 2] / f"{number}.png").hardlink_to(root / ".store" / str(number))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(root, "photos")
        assert sum(info.islnk() for info in archive) == 24
    dataset = load(tmp_path / "x.tar")
    assert {dataset.name_of(row): dataset.source(row).read() for row in range(24)} == PHOTOS  # pyright: ignore[reportAttributeAccessIssue]
    path = packed(tmp_path / "y.tar", {f"{k}.png": png(k) for k in range(12)} | {"0.cls": b"oak", "1.cls": b"elm"})
    with tarfile.open(path, "a") as archive:
        for name, before in [*((f"{k}.cls", f"{k % 2}.cls") for k in range(2, 12)), ("12.png", "/etc/passwd")]:
            info, _ = member(name, kind=tarfile.LNKTYPE)
            info.linkname = before
            archive.addfile(info)
    dataset = load(path)
    assert np.bincount(dataset.labels).tolist() == [6, 6]
    assert "1 link in the shards is not followed and was ignored: 12.png (a link to no file before it)" in map(
        str, dataset.problems
    )


def test_names_that_differ_in_a_blank_are_two_pictures(tmp_path: Path) -> None:
    names = [f"{blank}s{k}.png" for k in range(6) for blank in ("", " ")]
    files = {name: png(at) for at, name in enumerate(names)} | {
        f"{name[:-4]}.cls": f"{at % 2}".encode() for at, name in enumerate(names)
    }
    dataset = load(packed(tmp_path / "x.tar", files))
    held = {dataset.name_of(row): dataset.source(row).read() for row in range(len(dataset))}  # pyright: ignore[reportAttributeAccessIssue]
    assert held == {name: png(at) for at, name in enumerate(names)}


def test_a_split_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    root = shards(tmp_path / "shards")
    (root / "test").symlink_to("test")
    with pytest.raises(DataError, match=r"'test' must hold labeled pictures for testing \(a broken link\)"):
        load(root)


def test_of_two_members_of_one_name_the_last_counts_and_is_told(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", PHOTOS)
    with tarfile.open(path, "a") as archive:
        archive.addfile(*member("photos/a/0.png", png(77)))
        archive.addfile(*member("./photos/b/1.png", png(78)))
    dataset = load(path)
    assert len(dataset) == 24
    assert "2 names stand more than once in a shard; the last member of each counts" in map(str, dataset.problems)
    held = {dataset.name_of(row): dataset.source(row).read() for row in range(24)}  # pyright: ignore[reportAttributeAccessIssue]
    assert (held["photos/a/0.png"], held["photos/b/1.png"]) == (png(77), png(78))


def test_what_is_damaged_is_one_sentence(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", PHOTOS)
    whole = path.read_bytes()
    spots = list[int]()
    with tarfile.open(path) as archive:
        spots = [info.offset for info in archive]

    def told(content: bytes, why: str) -> None:
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"x\.tar: must be an archive that is whole \({why}.*Fetch it again"):
            load(path)

    told(whole[: spots[12] + 600], "a member ends beyond the end of the file")
    told(whole[: spots[12] + 300], "no header stands at byte")
    told(whole[: spots[12]] + b"x" * 512 + whole[spots[12] + 512 :], "no header stands at byte")
    told(b"no archive", "")
    told(b"", "empty file")
    lying, _ = member("photos/a/0.png")
    lying.size = 2**40
    told(lying.tobuf() + bytes(2048), "a member ends beyond the end of the file")
    lying.size = 8
    told(whole[: spots[12]] + lying.tobuf() + b"1234", "a member ends beyond the end of the file")
    header, _ = member("././@PaxHeader", kind=tarfile.XHDTYPE)
    header.size = 2**21
    told(header.tobuf() + b"9" * 2**21 + whole, r"2,097,152 bytes stand where at most 1,048,576 may")


def test_no_change_of_a_header_leads_to_anything_but_a_listing_or_one_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = packed(tmp_path / "x.tar", dict([*PHOTOS.items()][:6]) | {f"{'d' * 120}/x.png": png(9)}, format=tarfile.PAX_FORMAT)
    whole, outcomes = path.read_bytes(), set[bool]()
    heads = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    for _ in range(300):
        content, head = bytearray(whole), heads[rng.integers(len(heads))]
        for at in rng.choice([*range(100), *range(124, 136), 156], 3):  # name, size, kind
            content[head + at] = rng.choice([0, 47, 48, 55, 57, 128, 255])
        content[head + 148 : head + 156] = b" " * 8
        content[head + 148 : head + 156] = b"%06o\0 " % sum(content[head : head + 512])  # the sum is right
        path.write_bytes(content[: rng.integers(len(content) // 2, len(content))] if rng.random() < 0.3 else content)
        try:
            listing = tar_shards._Walk(LocalFile.of(path)).listing()
            outcomes.add((listing.at + listing.n <= path.stat().st_size).all())
        except DataError as error:
            outcomes.add(str(error).startswith(f"{path}: must"))
    assert outcomes == {True}


def test_a_path_of_many_folders_does_not_stop_the_walk(tmp_path: Path) -> None:
    deep = "a/" * 20_000 + "x.png"
    dataset = load(packed(tmp_path / "x.tar", PHOTOS | {f"photos/a/{deep}": png(70)}))
    assert len(dataset) == 24
    assert any("deeper than 64 folders" in str(problem) for problem in dataset.problems)


def test_a_large_member_that_is_no_picture_is_passed_over(tmp_path: Path) -> None:
    dataset = load(packed(tmp_path / "x.tar", PHOTOS | {"photos/a/big.png": bytes(2**24 + 1)}))
    assert len(dataset) == 24
    assert any("photos/a/big.png" in str(problem) for problem in dataset.problems)


def test_a_shard_that_changes_while_it_is_used_is_named(tmp_path: Path) -> None:
    path = packed(tmp_path / "pets.tar", PHOTOS)
    dataset = load(path)
    path.write_bytes(path.read_bytes().replace(png(4), png(4)[:-1] + b"\1"))
    with pytest.raises(DataError, match=r"photos/a/4\.png in .*pets\.tar: must not change while it is used. Run again"):
        decoded(dataset, 8)
    path.unlink()
    with pytest.raises(DataError, match=r"pets\.tar: must stay readable while it is used \(No such file"):
        decoded(dataset, 8)


def test_memory_and_descriptors_stay_flat(tmp_path: Path) -> None:
    path = packed(tmp_path / "pets.tar", PHOTOS)
    dataset, handles = load(path), Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("no Linux")
    before = len(list(handles.iterdir()))
    members = [dataset.source(row) for row in range(24)]
    assert all(len(source.read()) for source in members)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(list(handles.iterdir())) == before
    assert dataset.pictures is not None
    assert dataset.pictures.rows.nbytes <= 20 * 24  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_member_stored_in_pieces_is_passed_over_and_what_follows_is_read(form: str, tmp_path: Path) -> None:
    for name, content in PHOTOS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with (tmp_path / "photos" / "a" / "00.png").open("wb") as file:
        file.truncate(2**20)
        file.seek(2**19)
        file.write(b"x" * 4096)
    command = ["tar", f"--format={form}", "--sparse", "-cf", "x.tar", "photos/a/00.png", "photos"]
    subprocess.run(command, cwd=tmp_path, check=True)
    dataset = load(tmp_path / "x.tar")
    assert len(dataset) == 24
    assert any("stored in pieces: pack it again without --sparse" in str(problem) for problem in dataset.problems)
    for row in range(24):
        assert dataset.source(row).read() == PHOTOS[dataset.name_of(row)]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_folders_around_many_pictures_are_parted_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    names, n_parted = ["a.png", *(f"train/{number % 3}/{number}.png" for number in range(300))], list[int]()
    expected = {f"{folder}/" for name in names for folder in PurePosixPath(name).parents}
    monkeypatch.setattr(tar_shards, "PurePosixPath", lambda path: n_parted.append(1) or PurePosixPath(path))
    assert tar_shards._folders_around(names) == expected
    assert len(n_parted) <= 10
