"""Features of a frozen network, computed by the nodes of a Ray cluster while one process trains (``World``'s third kind).

    descend fit photos/ --transfer features --on ray

A node is sent what it computes from: decoded pictures, their numbers and the view, and once the frozen network. So it needs
descend, but neither the pictures nor a cache that it shares with others. Here the features come back in their order, and this
process alone writes them into the cache, as it does without a cluster. A part whose process or node dies is computed again; what
had come back is kept. Plain tasks, not Ray Data: parts are rows of a known index, and their order is that of the answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

import descend
from descend.errors import DescendError, KnobError, RunError, TrainingError
from descend.train.ray_cluster import N_RETRIES, RayCluster, check_version, ray_package, why
from descend.train.world import ALONE, World, belonging_to, current
from descend.transfer import ENGINES, Divided, Engine, FrozenPrefix, Work

if TYPE_CHECKING:
    from descend.transfer.features import View

    Rows: TypeAlias = NDArray[np.int64]

AHEAD = 4  # parts for each task: what may wait in memory for an earlier part that is computed again

_last: dict[str, tuple[Frozen, Engine]] = {}  # in a node's process: what it computed with last, by its name


@dataclass(frozen=True)
class Frozen:
    """What a node computes with: the name of an engine, the frozen network, the view, and threads.

    key: of engine and network here: runtimes, versions, precision and chunk decide the last bits. version: of descend.
    """

    engine: str
    key: str
    prefix: FrozenPrefix
    view: View
    n_threads: int
    version: str


class FeatureNodes(World):
    """One process that trains, and the nodes of a cluster that compute features for it."""

    def __init__(self, cluster: RayCluster) -> None:
        self._cluster = cluster
        n_nodes, n = len(cluster.processors), sum(cluster.processors)
        self.helpers = f"a Ray cluster: {n_nodes} node{'s' * (n_nodes != 1)}, {n} processor{'s' * (n != 1)}"

    def together(
        self, work: Work, lead: Callable[[Divided], NDArray[np.float32]], room: Callable[..., Any]
    ) -> NDArray[np.float32]:
        """Return ``lead(divided)``; ``divided`` lets the nodes do the work. A lone part is computed here."""
        del room

        def divided(parts: Sequence[Rows], draw: int) -> Iterator[NDArray[np.float32]]:
            return work.of_parts(parts, draw) if len(parts) < 2 else self._computed(work, parts, draw)

        return lead(divided)

    def _computed(self, work: Work, parts: Sequence[Rows], draw: int) -> Iterator[NDArray[np.float32]]:
        """Yield the features of each part.

        Raises TrainingError where one is lost more often than it is begun again, and what a node says that it lacks.
        """
        processors, ray, engine = self._cluster.processors, self._cluster.ray, work.engine
        n_threads = max(1, min([torch.get_num_threads(), *processors]))  # as many as here, where every node has them
        n_tasks = max(1, sum(n // n_threads for n in processors))
        frozen = Frozen(engine.name, _key(engine), engine.prefix, work.view, n_threads, descend.__version__)
        name, held = secrets.token_hex(8), [ray.put(frozen)]  # in a list: fetched once by a process, not for each task
        remote = self._cluster.task(compute_on_node, n_threads)

        def begin(rows: Rows) -> Any:
            return remote.remote(name, held, work.take(rows), work.ids[rows], draw)

        def taken(rows: Rows, reference: Any) -> NDArray[np.float32]:
            try:
                return ray.get(reference)
            except ray.exceptions.RayError as error:
                if isinstance(cause := getattr(error, "cause", None), DescendError):  # of a node that lacks something
                    raise cause from None
                must = f"{len(rows)} pictures must be computed on the cluster, in {N_RETRIES + 1} times at most ({why(error)})"
                raise TrainingError("features", must, fix="Run it again: what was computed is kept; or leave --on out.") from None

        yield from self._cluster.in_order(parts, begin, taken, at_once=2 * n_tasks, ahead=AHEAD * n_tasks)


def compute_on_node(name: str, held: list[Any], images: NDArray[np.uint8], ids: Rows, draw: int) -> NDArray[np.float32]:
    """Compute features on a node: images (B, R, R, 3) uint8, ids (B,) int64, number of the view -> (B, ...) float32.

    name: of what ``held[0]`` refers to, a ``Frozen``. Raises RunError for another version of descend or of the engine's runtime,
    whose numbers may differ, MissingExtra where the runtime is not installed.
    """
    if name not in _last:
        frozen: Frozen = ray_package("fit").get(held[0])
        engine = _engine(frozen)
        _last.clear()
        _last[name] = frozen, engine
    frozen, engine = _last[name]
    return engine(frozen.view(images, ids, draw))


def _engine(frozen: Frozen) -> Engine:
    check_version(frozen.version, whose="run")
    torch.set_num_threads(frozen.n_threads)
    for _, engine in _last.values():
        if (engine.name, engine.prefix.key) == (frozen.engine, frozen.prefix.key):
            return engine
    engine = ENGINES[frozen.engine](frozen.prefix)
    if _key(engine) != frozen.key:
        raise RunError("node of the cluster", f"must compute with {frozen.key}, as the run does", got=_key(engine),
                       fix="Install the same versions there, or choose another --engine.")  # fmt: skip
    return engine


def _key(engine: Engine) -> str:
    return f"{engine.key}|{engine.prefix.key}"  # the prefix names the version of timm that is installed where it is asked


@contextmanager
def features_on(place: str | None) -> Iterator[None]:
    """Let features be computed where ``place`` says while the block runs: "ray", or None for here.

    Raises KnobError for another place and where the cluster is out of reach, MissingExtra without Ray.
    """
    if place is None:
        yield
        return
    if place != "ray":
        raise KnobError("on", "must be ray", got=place, fix="Leave it out to train on this machine alone.")
    if current() is not ALONE:
        raise KnobError("on", "computes features for a run of one process, not for several that torchrun has started", got=place,
                        fix="Leave --on out, or run it without torchrun.")  # fmt: skip
    cluster = RayCluster("fit")
    try:
        with belonging_to(FeatureNodes(cluster)):
            yield
    finally:
        cluster.close()
