"""From a source to a data set: read, scan, split, check; every question about the data is settled here, before training."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from descend import rng
from descend.data import crops, effort, problems
from descend.data.corrections import corrected
from descend.data.dataset import Dataset
from descend.data.manifest import SPLITS, UNASSIGNED, Manifest
from descend.data.names import Names
from descend.data.near_copies import NONE, NearCopies, are_told_by_bytes, grouped, near_copies
from descend.data.pool import n_threads
from descend.data.problems import Problem, problem, refusal
from descend.data.scan import Scan, scan
from descend.data.sequences import torn_sequences
from descend.data.signatures import Pictures, signatures
from descend.data.sources import Data, read
from descend.data.split import SHARE, TEST, TRAIN, VAL, assign, nested_order, room_for_test
from descend.data.traits import TRANSPARENT, choose_policy
from descend.files import CacheFolder
from descend.pixels import Background, Fit
from descend.progress import Update

LEAST_OPENED = 8  # pictures of a class and a given split, however few are looked at
CROPS_SHARE = 0.25  # of the pictures among which near copies are sought, where that is limited: 1 ms for each
FEW_TOGETHER = 8  # near copies that are kept together however few pictures there are


def load(
    data: Data,
    *,
    seed: int = 0,
    split: bool = True,
    background: Literal["auto"] | Background = "auto",
    fit: Fit = "crop",
    outside: bool = False,
    corrections: str | Path | None = None,
    near_up_to: int | None = None,
    open_up_to: int | None = None,
    threads: int | None = None,
    cache_dir: str | Path | None = None,
    progress: Update | None = None,
) -> Dataset:
    """Look at a source and return its data set.

    Near copies are sought, and kept on one side where it is split: every picture is decoded once for that, and its signature
    kept on disk. They are one piece of evidence, as pictures of one group are.

    data: a folder, a table, a built-in set, arrays, or lists (``sources.read``). seed: of the split. split=False is for
    evaluation: a source without splits is all ``test``, nothing is carved out, and one class is enough. background: what shows
    through transparent pixels and around padded pictures; auto takes white unless pictures would be blank on it, and gray for
    padded pictures without transparency. fit: how pictures become square when they are resized (``PixelPolicy``). outside: a
    table file may name pictures that do not lie below its folder. corrections: a table whose decisions are applied before any
    picture is opened (``corrections.py``). near_up_to: with more pictures near copies are not sought, with more
    than a quarter of it no crops, which is said; None: they always are. A large one counts as several (``effort``). open_up_to:
    of more pictures so many are looked at, of each class its share and a given test first, and the rest is left aside unopened,
    which is said; None: all are. Large files count as several. threads: None for one per CPU. progress: called with (stage,
    done, total).
    Raises DataError, MissingExtra, or KnobError for a background, corrections or ``outside`` without effect.
    """
    manifest = read(data, evaluation=not split, outside=outside)
    manifest = manifest if corrections is None else corrected(manifest, Path(corrections))
    manifest = _part(manifest, open_up_to, seed)
    cache = CacheFolder(cache_dir)
    seen = scan(manifest, threads=n_threads(threads), cache=cache, progress=progress)
    opened = np.array([row not in seen.reasons for row in range(len(manifest.names))], np.bool_)
    labels, given, digests, traits = manifest.labels[opened], manifest.splits[opened], seen.digests[opened], seen.traits[opened]
    names, groups = _kept(manifest, opened), None if manifest.groups is None else manifest.groups[opened]
    notes = [
        *manifest.problems,
        *problems.unreadable(manifest.names, seen.reasons),
        *problems.repeated(names, digests, labels, given),
        *problems.torn(names, groups, given),
    ]
    if not len(labels):
        raise refusal(manifest.name, "must have a picture that can be read", notes)
    if split:
        _refuse_lost_splits(manifest, seen, notes)
    policy, about_pixels = choose_policy(traits, names, background, fit)
    in_memory = manifest.pictures[opened] if manifest.pictures is not None and seen.reasons else manifest.pictures
    pictures = Pictures(manifest.root, names, digests, policy, in_memory, not (traits["flags"] & TRANSPARENT).any())
    near = _near(pictures, traits["size"], notes, up_to=near_up_to, threads=n_threads(threads), cache=cache, progress=progress)
    splits, groups = _split(labels, digests, near, groups, given, seed=seed) if split else _for_evaluation(near, groups, given)
    if split:
        notes += [*problems.near(names, near.pairs, labels, given, splits), *torn_sequences(names, labels, splits, given)]
    dataset = Dataset(
        name=manifest.name,
        root=manifest.root,
        classes=manifest.classes,
        labels=labels,
        splits=splits,
        digests=digests,
        sizes=traits["size"],
        names=names,
        given_split=bool((given != UNASSIGNED).any()),
        given_val=bool((given == VAL).any()),
        fingerprint=_fingerprint(manifest.classes, digests, labels, splits),
        problems=(*notes, *(_carved(given, splits) if split else ()), *about_pixels),
        pictures=in_memory,
        policy=policy,
        groups=groups,
        near=near,
        unreadable={manifest.names[row]: why for row, why in sorted(seen.reasons.items())},
        unread_in={manifest.names[row]: int(manifest.splits[row]) for row in seen.reasons},
        opaque=pictures.opaque,
    )
    if not split:
        return dataset
    dataset.check_trainable()
    return dataclasses.replace(dataset, problems=(*dataset.problems, *_few(dataset)))


def _part(manifest: Manifest, up_to: int | None, seed: int) -> Manifest:
    """Return what a manifest lists; of more than ``up_to`` pictures so many, of each class its share.

    A given test split comes first (``room_for_test``); train and val have their share in what it leaves.
    """
    n, strata = len(manifest.names), manifest.labels * (len(SPLITS) + 1) + manifest.splits
    if up_to is None or (counted := effort.of_opening(manifest)).sum() <= up_to:
        return manifest
    digests = (hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in manifest.names)
    ids = np.frombuffer(b"".join(digests), np.int64)  # the order of files says nothing
    order = nested_order(strata, rng.uniform(seed, "part", ids=ids)[:, 0])
    tested = manifest.splits[order] == TEST
    for_test = room_for_test(up_to, counted[order[tested]].sum(), counted[order[~tested]].sum())
    parts = ((order[tested], for_test), (order[~tested], up_to - for_test))
    rows = np.sort(np.concatenate([_first(part, counted, room, strata) for part, room in parts]))
    if len(rows) == n:
        return manifest
    return dataclasses.replace(
        manifest,
        names=Names(manifest.names[int(row)] for row in rows),
        labels=manifest.labels[rows],
        splits=manifest.splits[rows],
        groups=None if manifest.groups is None else manifest.groups[rows],
        pictures=None if manifest.pictures is None else manifest.pictures[rows],
        problems=[*manifest.problems, problems.unopened(n - len(rows))],
    )


def _first(
    order: NDArray[np.int64], counted: NDArray[np.float64], room: float, strata: NDArray[np.int64]
) -> NDArray[np.int64]:  # fmt: skip
    """Return the first rows of an order that have room, by what each counts; some of every stratum in any case."""
    n_opened = int(np.searchsorted(np.cumsum(counted[order]), room, side="right"))
    return order[: max(n_opened, LEAST_OPENED * len(np.unique(strata[order])))]


def _near(
    pictures: Pictures, sizes: NDArray[np.int32], notes: list[Problem], *, up_to: int | None, threads: int, cache: CacheFolder,
    progress: Update | None,
) -> NearCopies:  # fmt: skip
    """Find near copies, unless there are too many pictures, which is noted, or their bytes tell all."""
    if not seeks_near(pictures.names, sizes, up_to):
        notes.append(problems.unsought(len(sizes), "near copies"))
        return NONE
    if are_told_by_bytes(sizes, pictures.held):
        return NONE
    seen = signatures(pictures, threads=threads, cache=cache, progress=progress)
    with_crops = seeks_crops(sizes, up_to)
    if not with_crops:
        notes.append(problems.unsought(_n_large(sizes), "crops"))
    return near_copies(seen, pictures.digests, sizes, pictures.squashed, with_crops=with_crops, threads=threads)


def seeks_near(names: Sequence[str], sizes: NDArray[np.int32], up_to: int | None) -> bool:
    """Return whether near copies are sought among pictures, (N,), (N, 2), as ``near_up_to`` of ``load`` says."""
    return up_to is None or effort.of_decoding(names, sizes).sum() <= up_to


def seeks_crops(sizes: NDArray[np.int32], up_to: int | None) -> bool:
    """Return whether crops are sought too."""
    return up_to is None or _n_large(sizes) <= CROPS_SHARE * up_to


def _n_large(sizes: NDArray[np.int32]) -> int:
    return int((sizes.min(axis=1) >= crops.LEAST_SIDE).sum())


def _split(
    labels: NDArray[np.int64], digests: NDArray[np.uint8], near: NearCopies, groups: NDArray[np.int64] | None,
    given: NDArray[np.int8], *, seed: int,
) -> tuple[NDArray[np.int8], NDArray[np.int64] | None]:  # fmt: skip
    """Return the splits, and the groups that they keep together: near copies too, unless that leaves a class or a split empty."""
    joined = grouped(len(labels), near, groups, largest=max(FEW_TOGETHER, int(SHARE * len(labels))))
    splits = assign(labels, digests, joined, given, seed=seed)
    trained = np.bincount(labels[splits == TRAIN], minlength=int(labels.max()) + 1)
    if joined is not groups and ((trained == 0).any() or not (splits == VAL).any()):
        return assign(labels, digests, groups, given, seed=seed), groups
    return splits, joined


def _for_evaluation(
    near: NearCopies, groups: NDArray[np.int64] | None, given: NDArray[np.int8]
) -> tuple[NDArray[np.int8], NDArray[np.int64] | None]:
    """Return the splits, ``test`` where none is given, and the groups, in which all near copies are together."""
    return np.where(given == UNASSIGNED, np.int8(TEST), given), grouped(len(given), near, groups, largest=len(given))


def _refuse_lost_splits(manifest: Manifest, seen: Scan, notes: list[Problem]) -> None:
    """Refuse a split for validation or testing that was given and holds nothing readable: nothing takes its place unasked."""
    for number, name, instead in ((VAL, "validation", " to have validation taken out of train"), (TEST, "test", "")):
        rows = np.flatnonzero(manifest.splits == number)
        if len(rows) and all(int(row) in seen.reasons for row in rows):
            raise refusal(manifest.name, f"the {name} split that is given must hold a picture that can be read", notes,
                          fix=f"Mend its pictures, or remove it{instead}.")  # fmt: skip


def _carved(given: NDArray[np.int8], splits: NDArray[np.int8]) -> list[Problem]:
    """Return the note that validation was taken out of train, where the other splits are given."""
    n = int((splits == VAL).sum())
    if (given == UNASSIGNED).all() or (given == VAL).any() or not n:
        return []
    return [Problem("carved", f"no validation split is given: {n:,} pictures of train are set aside for it", n)]


def _few(dataset: Dataset) -> list[Problem]:
    """Return the problem of classes without a picture in a split that others have: no metric speaks for them there."""
    counts = dataset.counts()
    parts = [(column, part) for column, part in enumerate(SPLITS) if counts[:, column].any()]
    lacking = [
        f"{name} (none in {' and '.join(part for column, part in parts if not row[column])})"
        for name, row in zip(dataset.classes, counts, strict=True)
        if not all(row[column] for column, _ in parts)
    ]
    return problem("few", "1 class is too small for every split", "{n} classes are too small for every split", lacking)


def _fingerprint(classes: tuple[str, ...], *arrays: NDArray[Any]) -> str:
    state = hashlib.blake2b("\0".join(classes).encode("utf-8", "surrogatepass"), digest_size=16)
    for array in arrays:
        state.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return state.hexdigest()


def _kept(manifest: Manifest, opened: NDArray[np.bool_]) -> Sequence[str]:
    if manifest.root is None and opened.all():
        return manifest.names
    return Names(name for name, kept in zip(manifest.names, opened, strict=True) if kept)
