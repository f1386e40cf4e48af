"""Weights from a file of one's own: which of its tensors belong to a backbone, and a report of how they were matched.

A file may be a safetensors file or what ``torch.save`` wrote of tensors; code in a pickle is refused, never run. Checkpoints of
other trainers wrap the same tensors in their own way: in a dictionary (``state_dict``, ``model``), under a prefix (``module.``,
``backbone.``), beside a classifier and an optimizer's state. Of all the ways to read the file the one is taken under which most
tensors have the name and the shape of one of the backbone's, and the report says which it was. Where some have not, timm's own
conversion is tried, the one that weights from its hub go through: positions are resampled to the size that the backbone was built
for, names of a network's first authors become timm's.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from torch import Tensor, nn

from descend.errors import ModelError
from descend.models.stages import Backbone, Conversion

LEAST_SHARE = 0.9  # of the backbone's parameters, and of its tensors: below it, file and backbone do not belong together
MAX_DEPTH = 3  # of dictionaries in dictionaries, and of the parts of a prefix
N_SHOWN = 5  # names of tensors in a message
CLASSIFIERS = ("head", "heads", "fc", "_fc", "classifier", "last_linear", "head_dist")  # where networks keep it, at the top

# what reads tensors raises on a file of another kind: its first bytes are taken for instructions of a pickle
_UNREADABLE = (pickle.UnpicklingError, SafetensorError, RuntimeError, ValueError, LookupError, EOFError, AssertionError,
               TypeError, AttributeError, struct.error, OverflowError)  # fmt: skip

Named = dict[str, Tensor]


@dataclass(frozen=True)
class WeightReport:
    """How the tensors of a file and those of a backbone were matched; names are the file's, but for ``missing``.

    digest: of the file's bytes (32 hex digits). n_matched, n_tensors: of the backbone. share: of its parameters, 0 to 1.
    inside: the dictionaries around the tensors. prefix: what stood before the backbone's own names. missing: not in the file.
    wrong_shape: in the file, with another shape, or whole numbers where others are due. classifier: the file's classifier, left
    out. unexpected: all the rest. converted: the backbone's that timm's conversion has renamed or reshaped.
    """

    file: str
    digest: str
    n_matched: int
    n_tensors: int
    share: float
    inside: str
    prefix: str
    missing: tuple[str, ...]
    wrong_shape: tuple[str, ...]
    classifier: tuple[str, ...]
    unexpected: tuple[str, ...]
    converted: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the report in one line."""
        return f"from {self.file}: {self.matches()}"

    def matches(self) -> str:
        """Return what matched, and what did not."""
        parts = [f"{self.n_matched} of {self.n_tensors} tensors, {self.share:.1%} of the parameters"]
        parts += [f"found in {self.inside!r}"] if self.inside else []
        parts += [f"prefix {self.prefix!r} taken off"] if self.prefix else []
        parts += [f"its classifier left out ({_some(self.classifier)})"] if self.classifier else []
        parts += [f"{words} ({_some(names)})" for words, names in self._differences() if names]
        return "; ".join(parts)

    def _differences(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return (
            (f"{len(self.converted)} converted as timm does", self.converted),
            (f"{len(self.missing)} missing, as in a new network", self.missing),
            (f"{len(self.wrong_shape)} of the wrong shape, as in a new network", self.wrong_shape),
            (f"{len(self.unexpected)} not of the backbone", self.unexpected),
        )


@dataclass(frozen=True)
class _Reading:
    """One way to read a file: which dictionary in it, which prefix, which names of the backbone's tensors, what was converted."""

    inside: str
    prefix: str
    tensors: Named
    own: Named
    converted: frozenset[str] = frozenset()

    @property
    def matched(self) -> list[str]:
        """The backbone's names under which the file holds a tensor of the right shape."""
        return [
            name
            for name, value in self.own.items()
            if self.shape(name) == value.shape
            and self.tensors[self.prefix + name].is_floating_point() == value.is_floating_point()
        ]

    def shape(self, name: str) -> torch.Size | None:
        """Return the shape of what the file holds under a name of the backbone."""
        value = self.tensors.get(self.prefix + name)
        return None if value is None else value.shape


def load_weights(backbone: Backbone, path: Path) -> WeightReport:
    """Copy the tensors of a file into ``backbone`` and call it pretrained. Returns how they were matched.

    Raises ModelError for a file that cannot be read or holds more than tensors, for one of which less than 90% of the backbone's
    tensors or parameters match in name and shape, or that lacks one that no network can do without, and for weights that are
    not finite.
    """
    content, digest = read_weights(path)
    reading = _best_reading(content, backbone)
    matched = [] if reading is None else reading.matched
    if reading is None or not matched:
        names = sorted(name for _, tensors in _dictionaries(content) for name in tensors)
        must = f"must hold tensors of the backbone {backbone.name}"
        raise ModelError(f"weights {path}", must, got=names[:N_SHOWN], fix="Name the backbone that they belong to: --backbone.")
    report = _report(reading, path, digest, matched)
    _check(report, backbone, reading)
    with torch.no_grad():
        for name in matched:
            reading.own[name].copy_(reading.tensors[reading.prefix + name])
    backbone.pretrained = True
    return report


def read_weights(path: Path) -> tuple[Mapping[str, Any], str]:
    """Return the content of a safetensors or PyTorch file, and a digest of its bytes. Raises ModelError."""
    try:
        data = path.read_bytes()
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        content = (
            from_safetensors(data) if path.suffix == ".safetensors" else torch.load(io.BytesIO(data), "cpu", weights_only=True)
        )
    except OSError as error:
        raise ModelError("weights", f"must be a file that can be read ({error.strerror or error})", got=str(path)) from None
    except _UNREADABLE as error:
        why = next(iter(str(error).splitlines()), type(error).__name__).split(". ")[0]
        must = f"must be a safetensors file, or hold tensors only ({why})"
        fix = "Save what is needed: torch.save(model.state_dict(), FILE); code in a file is never run."
        raise ModelError(f"weights {path}", must, fix=fix) from None
    if not isinstance(content, Mapping):
        must = "must hold a dictionary of tensors (a state dict)"
        raise ModelError(f"weights {path}", must, got=type(content).__name__, fix="Save model.state_dict().")
    return content, digest


def _check(report: WeightReport, backbone: Backbone, reading: _Reading) -> None:
    who, fix = f"weights {report.file}", "Name the backbone that they belong to: --backbone."
    if min(report.share, report.n_matched / report.n_tensors) < LEAST_SHARE:
        must = f"must hold {LEAST_SHARE:.0%} or more of the tensors and of the parameters of the backbone {backbone.name}"
        raise ModelError(who, must, got=report.matches(), fix=fix)
    matched = {*reading.matched}
    if lacking := tuple(name for name, value in reading.own.items() if name not in matched and _is_vital(name, value)):
        must = (f"must hold every kernel, matrix, table of positions and statistic of the backbone {backbone.name}: drawn at "
                f"random, {_some(lacking)} would make noise of what the others have learned")  # fmt: skip
        raise ModelError(who, must, got=report.matches(), fix=fix)
    values = [reading.tensors[reading.prefix + name] for name in matched]
    if any(not bool(torch.isfinite(value.float()).all()) for value in values):
        raise ModelError(who, "must be finite numbers", got="NaN or infinity", fix="The training that wrote them has diverged.")


def _best_reading(content: Mapping[str, Any], backbone: Backbone) -> _Reading | None:
    """Return the reading with most matches; of equals what needs no conversion, the averaged weights, then the least wrapped."""
    readings = [
        _Reading(inside, prefix, tensors, own)
        for inside, tensors in _dictionaries(content)
        for own in _names(backbone)
        for prefix in _prefixes(tensors)
    ]
    best = _first(readings)
    if best is None or backbone.conversion is None or not best.own.keys() - {*best.matched, *filter(_counts, best.own)}:
        return best
    return _first([best, *_converted(content, next(_names(backbone)), best.prefix, backbone.conversion())])


def _first(readings: Iterable[_Reading]) -> _Reading | None:
    return max(readings, key=lambda r: (len(r.matched), "ema" in r.inside, -len(r.inside), -len(r.prefix)), default=None)


def _converted(content: Mapping[str, Any], own: Named, prefix: str, convert: Conversion) -> Iterator[_Reading]:
    """Yield what a conversion makes of every dictionary of tensors, with and without the prefix taken off."""
    for inside, tensors in _dictionaries(content):
        for start in sorted({"", prefix}):
            there = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
            rest = {name: value for name, value in tensors.items() if not name.startswith(start)}
            made = convert(there)
            changed = frozenset(name for name, value in made.items() if there.get(name) is not value)
            yield _Reading(inside, start, rest | {start + name: value for name, value in made.items()}, own, changed)


def _names(backbone: Backbone) -> Iterator[Named]:
    """Yield the backbone's tensors, each once, under the names that timm gives them, and under our own, from two levels."""
    own: Named = {}
    for name, value in backbone.state_dict(keep_vars=True).items():
        if not any(value is other for other in own.values()):
            own[name] = value
    if backbone.timm_names:
        yield {backbone.timm_names.get(name, name): value for name, value in own.items()}
    yield own
    yield {name.removeprefix("stages."): value for name, value in own.items()}


def _dictionaries(content: Mapping[str, Any], inside: str = "", depth: int = 0) -> Iterator[tuple[str, Named]]:
    """Yield every dictionary of tensors, with the keys that lead to it."""
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield inside, tensors
    if depth < MAX_DEPTH:
        for name, value in content.items():
            if isinstance(value, Mapping):
                yield from _dictionaries(value, f"{inside}.{name}".lstrip("."), depth + 1)


def _prefixes(tensors: Named) -> list[str]:
    parts = [name.split(".") for name in tensors]
    return ["", *sorted({".".join(p[:k]) + "." for p in parts for k in range(1, min(MAX_DEPTH + 1, len(p)))})]


def _report(reading: _Reading, path: Path, digest: str, matched: list[str]) -> WeightReport:
    own, prefix = {name: value for name, value in reading.own.items() if not _counts(name)}, reading.prefix
    taken = {name for name in matched if name in own}
    wrong = [name for name in own if name not in taken and reading.shape(name) is not None]
    known = {prefix + name for name in own}
    rest = [name for name in reading.tensors if name not in known and not _counts(name)]
    classifier = [name for name in rest if {name.split(".")[0], name.removeprefix(prefix).split(".")[0]} & {*CLASSIFIERS}]
    n = {name: value.numel() for name, value in own.items() if isinstance(value, nn.Parameter)}
    return WeightReport(
        file=str(path), digest=digest, n_matched=len(taken), n_tensors=len(own),
        share=sum(n.get(name, 0) for name in taken) / max(1, sum(n.values())), inside=reading.inside, prefix=prefix,
        missing=tuple(name for name in own if reading.shape(name) is None),
        wrong_shape=tuple(
            f"{prefix}{name}: {_kind(reading.tensors[prefix + name])} for {_kind(own[name])}" for name in wrong
        ),
        classifier=tuple(sorted(classifier)), unexpected=tuple(sorted(name for name in rest if name not in classifier)),
        converted=tuple(name for name in own if name in taken & reading.converted),
    )  # fmt: skip


def _is_vital(name: str, value: Tensor) -> bool:
    """Return whether nothing that was learned passes a new tensor whole: one drawn at random, or the statistics of a norm.

    Scales and offsets begin at 1 and 0 instead: a network lives without some that it was not trained with.
    """
    return (isinstance(value, nn.Parameter) and value.ndim > 1) or name.endswith(("running_mean", "running_var"))


def _counts(name: str) -> bool:
    """Return whether a tensor only counts a batch norm's batches: old files lack it, and nothing that is used here reads it."""
    return name.endswith("num_batches_tracked")


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:N_SHOWN]) + (", ..." if len(names) > N_SHOWN else "")
