"""Near copies: found as comparing all pairs would find them, kept on one side of a split, and no one else's split changes."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import imagehash
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps, PngImagePlugin
from tests.unit.test_audit import clean_set, jpeg, photograph

from descend.data import crops, dct_hashes, effort, hash_pairs, likeness, load, near_copies, orientations, scan, signatures
from descend.data.near_copies import NONE, NearCopies, chained, grouped
from descend.data.scan import digest
from descend.data.signatures import SIGNATURE, Pictures, Signatures
from descend.data.split import assign
from descend.files import CacheFolder
from descend.pixels import USUAL


def test_candidates_are_those_of_all_pairs() -> None:
    generator = np.random.default_rng(0)
    words = generator.integers(0, 2**63, (300, 8)).astype(np.uint64)
    for row in range(0, 300, 3):  # some are a few bits from another, one way or another
        one, other = (row, row + 1) if row % 2 else (row + 1, row)
        flips = generator.choice(64, generator.integers(0, 9), replace=False)
        differing = np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64), initial=np.uint64(0))
        words[one, 0] = words[other, generator.integers(8)] ^ differing
    undo = {5: 6, 6: 5}  # a quarter turn and the one that undoes it
    expected = dict[tuple[int, int], set[int]]()
    for one, other in combinations(range(300), 2):
        for turn in range(8):
            there = bin(int(words[one, 0]) ^ int(words[other, turn])).count("1") <= 6
            back = turn not in (0, 6) and bin(int(words[other, 0]) ^ int(words[one, turn])).count("1") <= 6
            if there and turn != 6:
                expected.setdefault((one, other), set()).add(turn)
            if back:
                expected.setdefault((one, other), set()).add(undo.get(turn, turn))
    pairs, turns = hash_pairs.candidates(words)
    found = dict[tuple[int, int], set[int]]()
    for (one, other), turn in zip(pairs.tolist(), turns.tolist(), strict=True):
        found.setdefault((one, other), set()).add(turn)
    assert found == expected
    assert len(expected) > 60
    assert {turn for kinds in expected.values() for turn in kinds} == {0, 1, 2, 3, 4, 5, 6, 7}


def test_many_pictures_with_one_hash_stay_quick_and_together() -> None:
    words = np.full((500, 8), 77, np.uint64)
    pairs, turns = hash_pairs.candidates(words)
    assert len(pairs) <= 500 * hash_pairs.MOST_NEIGHBOURS * hash_pairs.MOST_TURNS
    assert len(np.unique(chained(500, pairs))) == 1
    assert 0 in turns


def test_parts_are_sought_where_pictures_differ_and_given_up_where_all_are_alike() -> None:
    words = np.random.default_rng(0).integers(0, 2**63, 400).astype(np.uint64)
    many = np.stack([words[::-1] ^ np.uint64(0b1011), ~words])
    whole, part, place, n_bits = hash_pairs.within(many, words)
    assert sorted(zip(whole.tolist(), part.tolist(), strict=True)) == [(row, 399 - row) for row in range(400)]
    assert (set(place.tolist()), set(n_bits.tolist())) == ({0}, {3})
    alike = np.full((130, 400), 77, np.uint64)
    assert not len(hash_pairs.within(alike, alike[0])[0])


EIGHT: dict[int, Callable[[Image.Image], Image.Image]] = {
    0: lambda image: image, 1: ImageOps.mirror, 2: ImageOps.flip, 3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.TRANSPOSE), 5: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_270), 7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
}  # fmt: skip


def test_signatures_are_those_of_imagehash_and_kept_by_content(tmp_path: Path) -> None:
    pictures = np.stack([np.asarray(photograph(i).resize((32, 32))) for i in range(3)])
    digests = np.arange(48, dtype=np.uint8).reshape(3, 16)
    cache = CacheFolder(tmp_path)
    source = Pictures(None, ["a", "b", "c"], digests, USUAL, pictures)
    news = list[tuple[str, int, int]]()
    seen = signatures.signatures(source, threads=1, cache=cache, progress=lambda *told: news.append(told)).rows
    assert (news[0], news[-1]) == (("looks", 0, 3), ("looks", 3, 3))
    eight = dct_hashes.all_hashes(seen["hashes"])
    for row, picture in enumerate(pictures):
        image = Image.fromarray(picture).convert("L")
        for turn, turned in EIGHT.items():
            assert f"{int(eight[row, turn]):016x}" == str(imagehash.phash(turned(image)))
            assert (orientations.turned(np.asarray(image)[None], turn)[0] == np.asarray(turned(image))).all()
    gone = Pictures(tmp_path / "nowhere", ["b", "new"], digests[[1, 0]], USUAL)  # nothing can be read: what is known is known
    index = signatures._Index(cache, Pictures(None, [], digests[:0], USUAL))
    assert index.fill(digests, np.zeros(3, SIGNATURE)).all()
    signatures.signatures(source, threads=1, cache=cache, progress=lambda *told: pytest.fail(f"nothing is looked at: {told}"))
    again = signatures.signatures(gone, threads=1, cache=cache)
    assert set(again.reasons) == {0, 1}  # another place: looked for, and not found


def test_near_copies_stay_on_one_side_and_others_where_they_were(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(30):
            photograph(1000 * number + i).save(root / name / f"{i:02}.png")
    before = load(root, threads=1)
    plain = assign(before.labels, before.digests, None, np.full(60, -1, np.int8), seed=0)
    assert before.groups is None
    assert (before.splits == plain).all()
    pairs = [(root / "cat" / f"{i:02}.png", root / "cat" / f"again{i:02}.jpg") for i in range(0, 30, 3)]
    for original, copy in pairs:
        copy.write_bytes(jpeg(Image.open(original), 50))
    after = load(root, threads=1)
    row = {name: at for at, name in enumerate(after.names)}
    for original, copy in pairs:
        assert len({int(after.splits[row[path.relative_to(root).as_posix()]]) for path in (original, copy)}) == 1
    assert len(np.unique(after.evidence(np.arange(len(after))))) == 60
    assert [problem.n for problem in after.problems if problem.kind == "near copies"] == [len(pairs)]
    again = load(root, threads=2, cache_dir=tmp_path / "other")
    assert again.fingerprint == after.fingerprint
    assert load(root, near_up_to=70).fingerprint == after.fingerprint
    unsought = load(root, near_up_to=69)
    assert unsought.groups is None
    assert [problem.n for problem in unsought.problems if problem.kind in ("near copies", "unsought")] == [70]


def _again(picture: Image.Image, kind: str) -> bytes:
    content, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("Comment", "the same pixels")
    opaque = picture.convert("RGBA") if kind == "opaque" else picture
    opaque.save(content, "bmp" if kind == "bmp" else "png", **({"pnginfo": info} if kind == "text" else {}))
    return content.getvalue()


@pytest.mark.parametrize("kind", ["bmp", "text", "opaque"])
@pytest.mark.parametrize("what", ["small", "plain"])
def test_equal_pixels_are_copies_however_small_or_plain_the_picture_is(tmp_path: Path, what: str, kind: str) -> None:
    side, most = (28, 256) if what == "small" else (40, 6)
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, most, (side, side, 3), np.uint8)
        folder = tmp_path / "set" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(_again(Image.fromarray(pixels), "plain"))
        if number < 24:
            (folder / f"{number} again").write_bytes(_again(Image.fromarray(pixels), kind))
    data = load(tmp_path / "set")
    split = dict(zip(data.names, data.splits.tolist(), strict=True))
    assert all(split[name] == split[name.replace(" again", ".png")] for name in split if name.endswith("again"))
    assert len(np.unique(data.evidence(np.arange(len(data))))) == 40
    (told,) = (problem for problem in data.problems if problem.kind == "near copies")
    assert told.n == 24
    assert len(load(tmp_path / "set").near.pairs) == 24  # from what is kept on disk, too
    assert set(data.near.kinds.tolist()) == {near_copies.KINDS.index("same pixels")}


def test_small_pixels_in_memory_are_told_by_their_bytes_and_small_files_are_looked_at() -> None:
    sizes, pixels = np.full((3, 2), 28, np.int32), np.zeros((3, 28, 28), np.uint8)
    assert near_copies.are_told_by_bytes(sizes, pixels)
    assert not near_copies.are_told_by_bytes(sizes, None)
    assert not near_copies.are_told_by_bytes(sizes, pixels, np.empty(3, object))
    assert not near_copies.are_told_by_bytes(np.full((3, 2), 32, np.int32), pixels)


def test_crops_are_sought_among_a_quarter_of_the_pictures_that_near_copies_are_sought_among(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for i in range(10):
            photograph(i + 10 * (label == "dog")).save(root / label / f"{i}.png")
    photograph(0).crop((3, 3, 69, 69)).resize((72, 72)).save(root / "cat" / "part.png")

    def told(up_to: int | None) -> list[str]:
        notes = load(root, near_up_to=up_to).problems
        return [str(note) for note in notes if note.kind in ("near copies", "unsought")]

    (found,), (unsought,) = told(84), told(83)
    assert "cropped" in found
    assert told(None) == [found]
    assert unsought.startswith("crops were not looked for")
    assert "21 pictures" in unsought


def test_of_too_many_pictures_a_share_of_each_class_and_split_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "many"
    for part, counts in (("train", (80, 40)), ("test", (40, 20))):
        for name, n in zip(("cat", "dog"), counts, strict=True):
            (root / part / name).mkdir(parents=True)
            for number in range(n):
                (root / part / name / f"{number}.jpg").write_bytes(jpeg(photograph(number), 50 + number % 40))
    whole = load(root)
    assert load(root, open_up_to=180).fingerprint == whole.fingerprint
    opened, read = list[str](), scan._read

    def counting(source: Path, name: str) -> object:
        opened.append(name)
        return read(source, name)

    monkeypatch.setattr(scan, "_read", counting)
    part = load(root, open_up_to=90, cache_dir=tmp_path / "cache")
    assert len(opened) == len(part) == 90

    def counts(names: Sequence[str]) -> list[int]:
        given = [name.split("/")[:2] for name in names]
        return [given.count([split, name]) for split in ("train", "test") for name in ("cat", "dog")]

    assert counts(part.names) == [30, 15, 30, 15]
    assert counts(load(root, open_up_to=165).names) == [70, 35, 40, 20]  # all of test, which is less than half of it
    shutil.rmtree(root / "test" / "cat")
    assert counts(load(root, open_up_to=90).names) == [47, 23, 0, 20]  # all of test, where that is less than half
    assert [problem.n for problem in part.problems if problem.kind == "unopened"] == [90]
    assert load(root, open_up_to=90, threads=1).fingerprint == load(root, open_up_to=90).fingerprint
    assert load(root, open_up_to=90, seed=1).fingerprint != load(root, open_up_to=90).fingerprint
    assert len(load(root, open_up_to=1)) == 3 * 8  # of each class and split a few, however little time there is


def test_large_files_count_as_several_where_a_budget_bounds_what_is_opened_and_compared(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(30):
            content = jpeg(photograph(number), 80)
            (tmp_path / name / f"{number}.jpg").write_bytes(content + bytes(600_000 - len(content)) * (number % 2))
    assert len(load(tmp_path, open_up_to=120)) == 60
    assert 28 <= len(load(tmp_path, open_up_to=60)) <= 32  # half of them count as three
    sizes = np.array([[4000, 3000], [4000, 3000], [32, 32]], np.int32)
    counted = effort.of_decoding(["a.JPEG", "a.png", "b.png"], sizes)
    assert counted.tolist() == pytest.approx([48.0, 360.0, 1.0])


def test_too_few_pictures_to_keep_together_are_split_as_before(tmp_path: Path) -> None:
    root = tmp_path / "few"
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for quality in (90, 60, 40):
            (root / name / f"{quality}.jpg").write_bytes(jpeg(photograph(number), quality))
    dataset = load(root, threads=1)
    assert dataset.groups is None
    assert dataset.counts().sum(axis=0).min() >= 1


def test_groups_grow_by_near_copies_and_long_chains_are_left() -> None:
    pairs = np.array([[0, 1], [1, 2], [4, 5]])
    near = NearCopies(pairs, np.zeros(3, np.int64), np.ones(3, np.float32))
    joined = grouped(7, near, None, largest=3)
    assert joined is not None
    assert [np.flatnonzero(joined == joined[row]).tolist() for row in (0, 3, 4, 6)] == [[0, 1, 2], [3], [4, 5], [6]]
    given = np.array([8, 8, 8, 3, 3, 5, 6])
    merged = grouped(7, near, given, largest=3)
    assert merged is not None
    assert [np.flatnonzero(merged == merged[row]).tolist() for row in (0, 3, 6)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert grouped(7, NONE, given, largest=3) is given
    shorter = grouped(7, near, None, largest=2)
    assert shorter is not None
    assert len(np.unique(shorter)) == 6


def _compare(pictures: list[Image.Image]) -> NearCopies:
    stack = [np.asarray(picture.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)) for picture in pictures]
    images = np.stack(stack)
    digests = np.stack([np.frombuffer(digest(image.tobytes()), np.uint8) for image in images])
    seen = signatures.signatures(Pictures(None, list(map(str, range(len(images)))), digests, USUAL, images), threads=1,
                                 cache=CacheFolder())  # fmt: skip
    return near_copies.near_copies(seen, digests, np.full((len(images), 2), 32, np.int32), lambda row, _: images[row])


def test_drawn_symbols_in_mirrored_places_and_flat_pictures_are_no_copies() -> None:
    symbol = Image.new("L", (64, 64))
    symbol.paste(255, (10, 12, 26, 28))
    flat = [Image.new("L", (64, 64), level) for level in (40, 41)]
    assert not len(_compare([symbol, ImageOps.mirror(symbol), *flat]).pairs)
    found = _compare([photograph(1), ImageOps.mirror(photograph(1))])
    assert found.pairs.tolist() == [[0, 1]]
    assert found.kinds.tolist() == [1]


def test_copies_of_photographs_are_found_and_photographs_of_one_kind_are_not() -> None:
    originals = [photograph(i) for i in range(40)]
    copies = [Image.open(io.BytesIO(jpeg(picture, 60))) for picture in originals]
    found = _compare([*originals, *copies])
    assert {tuple(pair) for pair in found.pairs.tolist()} == {(i, 40 + i) for i in range(40)}


def _encoded(pictures: list[Image.Image], *, threads: int = 1) -> NearCopies:
    """Compare pictures of their own sizes as files of good quality."""
    contents = [jpeg(picture, 90) for picture in pictures]
    held = np.empty(len(contents), object)
    held[:] = contents
    digests = np.stack([np.frombuffer(digest(content), np.uint8) for content in contents])
    source = Pictures(None, list(map(str, range(len(contents)))), digests, USUAL, held)
    seen = signatures.signatures(source, threads=1, cache=CacheFolder())
    sizes = np.array([picture.size for picture in pictures], np.int32)
    return near_copies.near_copies(seen, digests, sizes, source.squashed, threads=threads)


def test_drawn_crosses_in_turned_places_are_no_copies_and_smooth_photographs_are() -> None:
    crosses = list[Image.Image]()
    for left, top in ((2, 9), (9, 2), (14, 9), (2, 7)):  # each where another one lies, mirrored or turned
        symbol = Image.new("L", (32, 32))
        draw = ImageDraw.Draw(symbol)
        for line in ((left, top, left + 15, top + 15), (left + 15, top, left, top + 15)):
            draw.line(line, fill=255, width=4)
        crosses.append(symbol)
    assert not len(_compare(crosses).pairs)
    sky = np.linspace(150, 230, 120)[:, None, None] + np.random.default_rng(0).normal(0, 6, (120, 150, 3))
    smooth = Image.fromarray(sky.clip(0, 255).astype(np.uint8))
    smooth.paste(photograph(5).resize((150, 40)), (0, 80))
    shown = np.asarray(smooth.resize((32, 32), Image.Resampling.BICUBIC), np.float32)[None]
    assert likeness.is_plain(likeness.details(shown))[0]
    found = _encoded([smooth, *(EIGHT[turn](smooth) for turn in range(1, 8))])
    assert len(np.unique(chained(8, found.pairs))) == 1


def test_copies_turned_and_mirrored_in_any_way_are_found_and_told() -> None:
    originals = [photograph(i).resize((120, 90)) for i in range(24)]
    found = _encoded([*originals, *(EIGHT[i % 8](picture) for i, picture in enumerate(originals))])
    undo = {5: 6, 6: 5}
    told = {tuple(pair): int(kind) for pair, kind in zip(found.pairs.tolist(), found.kinds, strict=True)}
    expected = {(i, 24 + i): undo.get(i % 8, i % 8) for i in range(24) if i % 8}
    assert {pair: kind for pair, kind in told.items() if kind} == expected


@pytest.mark.parametrize("share", [0.95, 0.9, 0.85, 0.8])
def test_crops_are_found_and_pictures_of_one_kind_are_none(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    originals, cropped = [photograph(i).resize((160, 128)) for i in range(40)], list[Image.Image]()
    for picture in originals[:10]:
        width, height = round(share * 160), round(share * 128)
        left, top = int(generator.integers(0, 161 - width)), int(generator.integers(0, 129 - height))
        cropped.append(picture.crop((left, top, left + width, top + height)))
    strips = [picture.crop((0, 0, 160, 112)) for picture in originals[10:14]]  # a line of text cut off
    found = _encoded([*originals, *cropped, *strips])
    pairs = {tuple(pair) for pair in found.pairs.tolist()}
    assert pairs <= {(i, 40 + i) for i in range(14)}
    assert len(pairs) >= 13
    assert {(10 + i, 50 + i) for i in range(4)} <= pairs
    monkeypatch.setattr(crops, "_COMPARED", 2)
    same = _encoded([*originals, *cropped, *strips], threads=3)
    assert (same.pairs.tolist(), same.likeness.tolist()) == (found.pairs.tolist(), found.likeness.tolist())


def test_what_is_compared_with_drawings_alone_is_not_decoded() -> None:
    drawing = Image.new("RGB", (32, 32))
    drawing.paste((255, 255, 255), (4, 4, 20, 20))
    pictures, asked = [photograph(0), drawing, photograph(1), photograph(2)], list[tuple[int, int]]()

    def squashed(row: int, side: int) -> NDArray[np.uint8]:
        asked.append((row, side))
        return np.asarray(pictures[row].resize((side, side), Image.Resampling.BICUBIC))

    looks = crops._Looks(squashed, np.array([[0, 1], [2, 3]]), threads=1)
    assert sorted(asked) == [(1, crops.SIDE), (2, crops.WHOLE_SIDE), (3, crops.SIDE)]
    whole = np.tile([0.0, 0.0, 1.0, 1.0], (2, 1))
    drawn, told = looks.likeness_of_all(whole)
    assert drawn == 0
    assert told != 0


def test_the_hash_of_a_part_is_that_of_the_picture_cut_there() -> None:
    for seed in range(6):
        whole = photograph(seed).convert("L").resize((128, 128), Image.Resampling.BICUBIC)
        small = np.asarray(whole.resize((32, 32), Image.Resampling.BICUBIC))
        part = dct_hashes.part_hashes(dct_hashes.waves(small[None]).astype(np.float32), (0.1, 0.9), (0.05, 0.95))[0]
        cut = imagehash.phash(whole.resize((32, 32), Image.Resampling.BICUBIC, box=(12.8, 6.4, 115.2, 121.6)))
        assert bin(int(part) ^ int(str(cut), 16)).count("1") <= 6


def test_pictures_that_resemble_each_other_are_no_crops_of_each_other() -> None:
    generator, cells = np.random.default_rng(1), list[Image.Image]()
    frame = np.asarray(photograph(3).resize((96, 96)), np.float64)
    for _ in range(40):  # one thing many times, and a little of each one's own
        own = Image.fromarray(generator.integers(0, 256, (24, 24, 3), np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
        cells.append(Image.fromarray((0.65 * frame + 0.35 * np.asarray(own)).astype(np.uint8)))
    assert not len(_encoded(cells).pairs)


def test_given_splits_are_kept_and_near_leaks_told(tmp_path: Path) -> None:
    root = clean_set(tmp_path / "pets")
    (root / "test" / "dog" / "leak.jpg").write_bytes(jpeg(Image.open(root / "train" / "cat" / "04.png")))
    told = {problem.kind: problem for problem in load(root, threads=1).problems}
    assert told["near leak"].examples == told["near conflict"].examples
    assert "test/dog/leak.jpg" in told["near leak"].examples[0]
    assert "train/cat/04.png" in told["near leak"].examples[0]


def test_pictures_that_cannot_be_decoded_get_the_reason() -> None:
    pictures = Pictures(Path("/nowhere"), ["x.png"], np.zeros((1, 16), np.uint8), USUAL)
    seen: Signatures = signatures.signatures(pictures, threads=1, cache=CacheFolder())
    assert "No such file" in seen.reasons[0]
