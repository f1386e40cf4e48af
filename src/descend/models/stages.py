"""A backbone is a chain of named stages: pictures go in at the stem, one feature vector a picture comes out at the head.

Everything that transfer learning does is said in terms of stages: freeze up to one, cut the chain after one and keep its
output on disk, give each its own learning rate. So the chain is the definition, not a view of some other module.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from descend.errors import ModelError, did_you_mean
from descend.pixels import IMAGENET_MEAN, IMAGENET_STD


def to_input(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Turn stored pixels into what a network reads: images (B, H, W, 3) uint8 -> (B, 3, H, W) float32, channels last.

    ``x = (images / 255 - mean) / std`` per channel. The transposed view of an NHWC batch *is* the channels-last layout,
    so nothing is moved.
    """
    scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32, device=images.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32, device=images.device)
    return (images.to(torch.float32) * scale + shift).permute(0, 3, 1, 2)


def fingerprint(module: nn.Module) -> str:
    """Return a hash of every parameter and buffer of ``module``: names, types, shapes and bytes (32 hex digits).

    Two modules with the same fingerprint compute the same function, if they are built alike; a frozen module keeps its
    fingerprint whatever is trained around it.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        stored = value.detach().cpu().contiguous()
        digest.update(f"{name}\x1f{stored.dtype}\x1f{tuple(stored.shape)}\x1e".encode())
        digest.update(stored.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def pooled(x: Tensor) -> Tensor:
    """Return the mean over places: a map (B, C, H, W) or tokens (B, N, C) -> (B, C); vectors stay as they are."""
    wide = torch.float32 if x.dtype == torch.bfloat16 else None  # a map in half precision has means in full precision
    return x.mean((2, 3), dtype=wide) if x.ndim == 4 else x.mean(1, dtype=wide) if x.ndim == 3 else x


QUARTERS = "/quarters"
"""What follows a stage's name in a tap that keeps where things are: the means of a map's four quarters, instead of its mean."""
MOST_QUARTERS = 2048  # columns that quarters may add to the features
COVARIANCES = "/covariances"
"""What follows a stage's name in a tap that tells which channels answer at the same places: their covariances over a map."""
MOST_CHANNELS = 64  # of a stage whose covariances join the features, evenly spaced: 2,080 columns


def quarters(x: Tensor) -> Tensor:
    """Return the means over the upper left, upper right, lower left and lower right quarter of a map: (B, C, H, W) -> (B, 4 C).

    Quarters of odd sides share the middle row or column.
    """
    down, across = ((side + 1) // 2 for side in x.shape[2:])
    rows, columns = (slice(None, down), slice(-down, None)), (slice(None, across), slice(-across, None))
    return torch.cat([pooled(x[:, :, row, column]) for row in rows for column in columns], 1)


def covariances(x: Tensor) -> Tensor:
    """Return the covariances over places of some channels: a map (B, C, H, W) or tokens (B, N, C) -> (B, c (c + 1) / 2).

    The c channels are every first, second, third ..., so that they are ``MOST_CHANNELS`` at most; each pair stands once.
    Source: bilinear pooling, Lin et al. 2015 (arXiv:1504.07889), of centered answers, as in covariance pooling (Li et al. 2017,
    arXiv:1703.08050).
    """
    places = x.flatten(2) if x.ndim == 4 else x.transpose(1, 2)
    places = places[:, :: _every(places.shape[1])].float()
    places = places - places.mean(2, keepdim=True)
    n_channels, n_places = places.shape[1:]
    products = (torch.bmm(places, places.transpose(1, 2)) / n_places).flatten(1)
    first, second = torch.triu_indices(n_channels, n_channels)
    return products.index_select(1, (first * n_channels + second).to(x.device))


def _every(n_channels: int) -> int:
    """Return the step from one channel to the next whose covariances are taken."""
    return math.ceil(n_channels / MOST_CHANNELS)


def _n_covariances(n_channels: int) -> int:
    """Return the width of ``covariances``."""
    n_taken = math.ceil(n_channels / _every(n_channels))
    return n_taken * (n_taken + 1) // 2


@dataclass(frozen=True)
class Reading:
    """What a tap reads of a stage's output. read: output -> (B, width). width: of channels, the columns."""

    read: Callable[[Tensor], Tensor]
    width: Callable[[int], int]


READINGS = {
    QUARTERS: Reading(quarters, lambda n_channels: 4 * n_channels),
    COVARIANCES: Reading(covariances, _n_covariances),
    "": Reading(pooled, lambda n_channels: n_channels),
}
"""By what follows the stage's name in a tap, in the order of their columns: fewer taps are the last columns of more."""


def run_stages(stages: nn.Sequential, x: Tensor, taps: Collection[str] = ()) -> Tensor:
    """Return what the chain makes of ``x``; with taps, what they read of its stages first: (B, sum of widths).

    Columns stand in the order of ``READINGS``, then comes what the chain ends in, a vector.
    """
    parts: dict[str, list[Tensor]] = {kind: [] for kind in READINGS}
    for name, stage in stages.named_children():
        x = stage(x)
        for kind, reading in READINGS.items():
            if name + kind in taps:
                parts[kind].append(reading.read(x))
    return torch.cat([*chain.from_iterable(parts.values()), x], 1) if taps else x


def _parted(tap: str) -> tuple[str, str]:
    """Return the stage of a tap and what is read of it, a key of ``READINGS``."""
    kind = next(kind for kind in READINGS if tap.endswith(kind))
    return tap.removesuffix(kind), kind


BAND = 12  # resampled pixels whose sources are read together


def seen(x: Tensor, view: Tensor | None) -> Tensor:
    """Return pictures x (B, 3, S, S) resampled by the matrix ``view`` (s, S): (B, 3, s, s); those of other sizes as they are."""
    if view is None or x.shape[-1] != view.shape[1]:
        return x
    rows = torch.cat([weights @ x[:, :, here] for here, weights in _bands(view)], 2)
    both = torch.cat([rows[:, :, :, here] @ weights.T for here, weights in _bands(view)], 3)
    return both.contiguous(memory_format=torch.channels_last)


def _bands(view: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield which pixels of a row each ``BAND`` of the resampled ones are made of, and their weights: the others are zero."""
    after, before = view.shape
    scale = before / after
    reach = max(scale, 1.0)  # a resampled pixel is made of those whose centers lie less than this from its own
    for start in range(0, after, BAND):
        stop = min(start + BAND, after)
        first, end = (start + 0.5) * scale - reach, (stop - 0.5) * scale + reach
        here = slice(max(math.floor(first), 0), min(math.ceil(end), before))
        yield here, view[start:stop, here]


def resampling(before: int, after: int) -> Tensor:
    """Return the matrix (after, before) that resamples a row of pixels linearly, antialiased, with torch's weights."""
    weights = interpolate(torch.eye(before)[None, None], size=(after, before), mode="bilinear", antialias=True)
    return weights[0, 0]


Conversion = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""Makes of a file's tensors, by their names, those of a network: other names, other shapes. What it cannot read is left out."""


class Backbone(nn.Module):
    """A chain of named stages from normalized pictures to pooled features: (B, 3, H, W) float32 -> (B, D) float32.

    name: the spec text of the architecture that built it.
    stages: in order; the last one ends in the pooled vector.
    n_features: D, of all that ``forward`` gives.
    taps: stages whose pooled outputs stand before the last stage's vector in the features; none unless ``tap`` was called.
    view: the resampling matrix (s, S) of a backbone that looks at pictures of S pixels in s; None unless ``look`` was called.
    mean, std: per channel, on the 0..1 scale of pixels; what ``to_input`` needs.
    native_size: the picture size (pixels, square) that the weights were trained for.
    crop_fraction: the side of the evaluation crop, as a fraction of the resized picture.
    min_size: the smallest picture it can read; ``fixed_size`` says that it reads ``native_size`` only.
    pretrained: whether the weights were learned before, or drawn at random.
    timm_names: the names that timm gives the tensors, by their names here; empty where the network is not timm's.
    conversion: gives what makes the network's tensors of those of a file; None where nothing is known of it.
    at_size: the spec text of the same network for pictures of another size, by their pixels; None where nothing else is built.
    """

    def __init__(self, name: str, stages: Mapping[str, nn.Module], *, n_features: int, native_size: int,
                 mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD,
                 crop_fraction: float = 0.875, min_size: int = 1, fixed_size: bool = False,
                 pretrained: bool = False) -> None:  # fmt: skip
        super().__init__()
        self.name, self.n_features, self.native_size = name, n_features, native_size
        self.mean, self.std, self.crop_fraction = mean, std, crop_fraction
        self.min_size, self.fixed_size, self.pretrained = min_size, fixed_size, pretrained
        self.taps: tuple[str, ...] = ()
        self.timm_names: dict[str, str] = {}
        self.conversion: Callable[[], Conversion] | None = None
        self.at_size: Callable[[int], str] | None = None
        self.view: Tensor | None
        self.register_buffer("view", None, persistent=False)
        self.stages = nn.Sequential()
        for stage, module in stages.items():
            self.stages.add_module(stage, module)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features: x (B, 3, H, W) float32, normalized -> (B, D) float32."""
        return run_stages(self.stages, seen(x, self.view), self.taps)

    def look(self, size: int, *, of: int) -> None:
        """Look at pictures of ``of`` pixels in ``size``: they are resampled before the first stage, others are read as they are.

        Raises ModelError for a size that the backbone cannot read.
        """
        self.check_size(size)
        self.view = None if size == of else resampling(of, size)

    @property
    def late_stages(self) -> tuple[str, ...]:
        """The stages worth tapping: of those between the first and the last, the later two thirds, five at most.

        A stage whose pooled output *is* the feature vector (nothing but pooling follows it) is not among them.
        """
        inner = list(self.stage_names[1:-1])
        if inner and not any(True for _ in self.stages[-1].parameters()):
            inner.pop()
        late = inner[len(inner) // 3 :]
        n = min(5, len(late))
        return tuple(late[-1 - (len(late) - 1) * k // max(1, n - 1)] for k in reversed(range(n)))

    @property
    def late_quarters(self) -> tuple[str, ...]:
        """The taps of quarters that are worth their columns: of late stages but the last, from the first on, while they are few.

        None of stages whose outputs are tokens: where a token stands is not told by its place alone.
        """
        widths, names, total = self._widths, list[str](), 0
        for name in self.late_stages[:-1]:
            width, is_map = widths[name]
            total += 4 * width
            if not is_map or total > MOST_QUARTERS:
                break
            names.append(name + QUARTERS)
        return tuple(names)

    @property
    def late_covariances(self) -> tuple[str, ...]:
        """The tap of covariances that is worth its columns: of the middle one of late stages, where there are any."""
        late = self.late_stages
        return (late[len(late) // 2] + COVARIANCES,) if late else ()

    @property
    def every_tap(self) -> tuple[str, ...]:
        """All taps that are worth their columns: one pass gives what each of ``feature_sets`` reads."""
        return [*self.feature_sets.values()][-1]

    @property
    def feature_sets(self) -> dict[str, tuple[str, ...]]:
        """What a head may read: taps of ``last`` (none), ``late``, ``covariances``, ``quarters``, each with those before it."""
        sets: dict[str, tuple[str, ...]] = {"last": ()}
        taps: tuple[str, ...] = ()
        more = {"late": self.late_stages, "covariances": self.late_covariances, "quarters": self.late_quarters}
        for name, new in more.items():
            if new:
                sets[name] = taps = (*new, *taps)
        return sets

    def n_columns(self, taps: Iterable[str]) -> int:
        """Return how many columns the features have with these taps."""
        widths, total = self._widths, self._widths[self.stage_names[-1]][0]
        for tap in taps:
            stage, kind = _parted(tap)
            total += READINGS[kind].width(widths[stage][0])
        return total

    def tap(self, names: Iterable[str]) -> None:
        """Let the pooled outputs of the named stages join the features.

        ``block3/quarters`` stands for those of its quarters, ``block3/covariances`` for those of its channels. Raises ModelError
        for a stage that it does not have.
        """
        chosen = set(names)
        for name in chosen:
            self._position(_parted(name)[0])
        self.taps = tuple(stage + kind for kind in READINGS for stage in self.stage_names if stage + kind in chosen)
        self.n_features = self.n_columns(self.taps)

    @cached_property
    def _widths(self) -> dict[str, tuple[int, bool]]:
        """Each stage's number of channels, and whether its output is a map. Looking costs a pass, and a search asks often."""
        side = self.native_size if self.fixed_size else max(32, self.min_size)
        mode, widths = self.training, dict[str, tuple[int, bool]]()
        self.eval()
        with torch.inference_mode():
            x = torch.zeros(1, 3, side, side, device=next(self.parameters()).device)
            for name, stage in self.stages.named_children():
                x = stage(x)
                widths[name] = (pooled(x).shape[1], x.ndim == 4)
        self.train(mode)
        return widths

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names that ``--freeze-to`` understands, from the pixels to the features."""
        return tuple(name for name, _ in self.stages.named_children())

    @property
    def weights_id(self) -> str:
        """What the weights are: ``pretrained-HASH`` or ``random-HASH``, hashed over the tensors as they are now."""
        return f"{'pretrained' if self.pretrained else 'random'}-{fingerprint(self.stages)}"

    def prefix(self, stage: str) -> nn.Sequential:
        """Return the stages up to and including ``stage``; the modules are shared, not copied."""
        return self.stages[: self._position(stage) + 1]

    def suffix(self, stage: str) -> nn.Sequential:
        """Return the stages after ``stage``; the modules are shared, not copied."""
        return self.stages[self._position(stage) + 1 :]

    def check_size(self, size: int) -> None:
        """Raise ModelError unless square pictures of ``size`` pixels can be read."""
        if self.fixed_size and size != self.native_size:
            other = "" if self.at_size is None or size < self.min_size else f', build it for others: "{self.at_size(size)}",'
            raise ModelError(self.name, f"pictures must be exactly {self.native_size} px", got=size,
                             fix=f"Use size={self.native_size}{other} or a convolutional backbone.")  # fmt: skip
        if size < self.min_size:
            raise ModelError(self.name, f"pictures must be at least {self.min_size} px", got=size,
                             fix="Use a larger size or the backbone smallcnn.")  # fmt: skip

    def _position(self, stage: str) -> int:
        if stage in self.stage_names:
            return self.stage_names.index(stage)
        listing = f"Its stages, from the pixels on: {', '.join(self.stage_names)}."
        near = did_you_mean(stage, self.stage_names)
        raise ModelError(self.name, "a stage must be one of its own", got=stage,
                         fix=f"{near} {listing}" if near else listing)  # fmt: skip


class Classifier(nn.Module):
    """A backbone and a head: normalized pictures (B, 3, H, W) float32 -> logits (B, K) float32."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    @property
    def name(self) -> str:
        """The backbone's name."""
        return self.backbone.name

    @property
    def mean(self) -> tuple[float, ...]:
        """The channels' means that pictures are normalized with."""
        return self.backbone.mean

    @property
    def std(self) -> tuple[float, ...]:
        """The channels' standard deviations that pictures are normalized with."""
        return self.backbone.std

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: x (B, 3, H, W) float32, normalized -> (B, K) float32."""
        return self.head(self.backbone(x))
