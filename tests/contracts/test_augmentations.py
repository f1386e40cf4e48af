"""The same questions, asked of every registered augmentation."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from tests.oracles import augment_transforms as oracles

from descend import technique as floor
from descend.augment import Augmentation, Draws, Pipeline, RandomStream, Rotate, Stage, fused
from descend.augment import apply as meaning
from descend.augment.matrices import rotation
from descend.errors import KnobError
from descend.technique import Knob, build, knobs, registered, spec, technique

KINDS = list(registered(Augmentation))
IMAGES = np.random.default_rng(8).integers(0, 256, (16, 20, 24, 3), dtype=np.uint8)
SQUARE = np.random.default_rng(9).integers(0, 256, (16, 24, 24, 3), dtype=np.uint8)
IDS = np.arange(16) * 11 - 40
CONSTANTS: dict[str, Any] = {"mean": tuple(oracles.MEAN / 255), "std": (1 / 255,) * 3}  # the output is levels minus the mean
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


PARTS = tuple(build(text, Augmentation) for text in ("rotate()", "hue(amount=0.2)", "blur(p=1.0)", "random_erasing(p=1.0)"))
OTHER_PARTS = tuple(build(text, Augmentation) for text in ("shift(p=0.5)", "brightness()", "cutout()", "cutmix()"))


def plain(kind: type[Augmentation]) -> Augmentation:
    """The transform as it comes; one that is made of others, with some."""
    return kind(**{knob.name: PARTS for knob in knobs(kind) if knob.default is dataclasses.MISSING})


PLAIN = [plain(kind) for kind in KINDS]
EVERY_PLAIN = pytest.mark.parametrize("transform", PLAIN, ids=lambda transform: transform.name)


def listed(transform: Augmentation) -> list[Augmentation]:
    """The transform, and where it only says how others read pixels, another."""
    return [transform, Rotate(degrees=60.0)] if transform.batch_wide and transform.stage == "geometry" else [transform]


def views(transform: Augmentation, images: np.ndarray = IMAGES, ids: np.ndarray = IDS) -> torch.Tensor:
    """Two views of every picture, as the network sees them."""
    pipe = Pipeline(listed(transform), seed=1)
    settings: dict[str, Any] = {"targets": np.arange(len(ids)) % 3, "n_classes": 3} if pipe.mixes else {}
    made = [pipe(images, ids=ids, epoch=1, step=0, draw=draw, **settings) for draw in (0, 1)]
    return torch.cat([view[0] if isinstance(view, tuple) else view for view in made])


def other_values(knob: Knob) -> Iterator[Any]:
    """Legal values of a knob, besides its default."""
    if knob.family is not None:
        yield OTHER_PARTS
    if knob.type is bool:
        yield not knob.default
    yield from (choice for choice in knob.choices if choice != knob.default)
    if isinstance(knob.default, tuple):
        low, high = knob.default
        quarter = (high - low) // 4 if isinstance(low, int) else (high - low) / 4
        yield from ((low + quarter, high), (low, high - quarter))
    elif knob.default is None:
        yield (0.1, 0.2, 0.3) if "tuple" in str(knob.type) else 13
    elif knob.search is not None:
        for value in (knob.search.low, 0.5 if knob.name == "p" else knob.search.high):  # 0.9 of a few images may be all
            if value != knob.default:
                yield round(value) if knob.type is int else float(value)
    elif knob.type is int:
        yield knob.default + 3


def changed(transform: Augmentation, name: str, value: Any) -> Augmentation | None:
    """The transform with one knob changed; None where that has no effect beside its other settings."""
    try:
        return dataclasses.replace(transform, **{name: value})
    except KnobError:
        return None


def variants(kind: type[Augmentation]) -> Iterator[tuple[Knob, Augmentation, Augmentation]]:
    """The transform with each knob changed, one at a time, after what it was before: as it comes, or with another choice."""
    for knob in knobs(kind):
        choices = ((other.name, choice) for other in knobs(kind) if other is not knob for choice in other.choices)
        starts = [plain(kind), *filter(None, (changed(plain(kind), *choice) for choice in choices))]
        for value in other_values(knob):
            yield next((knob, start, variant) for start in starts if (variant := changed(start, knob.name, value)) is not None)


VARIANTS = [variant for kind in KINDS for _, _, variant in variants(kind)]


def noted(transform: Augmentation, images: NDArray[np.uint8]) -> tuple[Draws, dict[str, Any]]:
    """Draw; return also what was noted, and under its name what each other transform noted that has a part in it."""
    draws = Pipeline(listed(transform), seed=1).draw(IDS, images.shape[1:3], epoch=1, step=0)
    others = {name.rpartition("/")[2]: values for name, values in draws.parameters.items() if name != transform.name}
    return draws, draws.parameters[transform.name] | others


def settings(transform: Augmentation) -> dict[str, Any]:
    """Return the knobs as an oracle takes them: parts as (name, knobs)."""
    values = {knob.name: getattr(transform, knob.name) for knob in knobs(type(transform))}
    if "transforms" in values:
        values["transforms"] = [(part.name, settings(part)) for part in values["transforms"]]
    return values


def steps(draws: Draws) -> float:
    """Return the share of values that may differ: curves with steps turn a difference in interpolated bits into whole levels."""
    stepped = draws.table is not None or draws.flatten is not None
    return 0.01 if stepped and not draws.copies.all() else 0.0


def tolerance(transform: Augmentation) -> float:
    """Return by how many levels a transform may be off; a hue after a blur turns one level that is off into up to 1.1."""
    parts = [name for name, _ in settings(transform).get("transforms", [])]
    return max(oracles.TOLERANCE.get(transform.name, 0.02), *(1.1 * oracles.TOLERANCE.get(part, 0.0) for part in parts), 0.0)


def check_oracle(transform: Augmentation) -> None:
    """Compare what the transform does with the textbook form of its name."""
    name = transform.name
    oracle, law = getattr(oracles, name, None), oracles.LAWS.get(name)
    assert oracle or law, (
        f"{name} has no independent oracle. Write `def {name}(images, drawn, knobs)` in {inspect.getfile(oracles)}: what each"
        " image must become, from the paper or from another library, given what the transform notes; or a law in LAWS, if the"
        " pixels themselves are random."
    )
    draws, drawn = noted(transform, IMAGES)
    levels = Pipeline(listed(transform), **CONSTANTS).apply(IMAGES, draws).permute(0, 2, 3, 1).double().numpy() + oracles.MEAN
    if law:
        law(IMAGES, levels, drawn, settings(transform))
        return
    expected = oracle(IMAGES, drawn, settings(transform))
    assert levels.shape == expected.shape
    if transform.stages != {"normalize"}:  # standardized values are no levels
        expected = np.clip(expected, 0, 255)
    random = np.isnan(expected)  # standard normal after normalization, which divides by one level here
    assert not random.any() or stats.kstest((levels - oracles.MEAN)[random], "norm").pvalue > 1e-3
    off = np.abs(levels - np.where(random, levels, expected)) > tolerance(transform)
    assert off.mean() <= steps(draws), f"{transform} is not its oracle {name}: {off.mean():.1%} of the levels are others"


def check_kernel(transform: Augmentation) -> None:
    """Compare the compiled pass with the plain one that defines the meaning."""
    for images in (IMAGES, SQUARE):
        draws, _ = noted(transform, images)
        pixels, mean = torch.from_numpy(images), torch.tensor(oracles.MEAN, dtype=torch.float32)
        plain = meaning.levels(pixels, draws, mean, torch.ones(3)).float()
        gap = (plain - fused.levels(pixels, draws, mean, torch.ones(3), torch.ones(3), torch.zeros(3))).abs()
        assert (gap > 0.01).double().mean() <= steps(draws), f"the kernel of {transform} is not its meaning"


def check_neutral(kind: type[Augmentation]) -> None:
    """Apply the neutral setting that a transform declares."""
    declared = getattr(kind, "neutral", None)
    assert declared is not None, (
        f"{kind.name} must declare `neutral`: knobs that leave every image as it is to the bit, or why it has none, in words."
    )
    if isinstance(declared, str):
        assert len(declared.split()) >= 4, f"{kind.name} must say why it has no neutral setting, got {declared!r}"
        return
    transform, whole = dataclasses.replace(plain(kind), **declared), np.eye(16, dtype=np.float32)
    draws, _ = noted(transform, SQUARE)
    pixels, mean = torch.from_numpy(SQUARE), torch.tensor(oracles.MEAN, dtype=torch.float32)
    for levels in (
        meaning.levels(pixels, draws, mean, torch.ones(3)),
        fused.levels(pixels, draws, mean, torch.ones(3), torch.ones(3), torch.zeros(3)),
    ):
        assert torch.equal(levels.float(), pixels.float()), f"{transform} is not the identity to the bit"
    if "mix" in transform.stages:
        _, shares = Pipeline([transform])(SQUARE, whole, ids=IDS, epoch=1, step=0)
        assert torch.equal(shares, torch.from_numpy(whole))


@pytest.mark.parametrize("transform", [*PLAIN, *VARIANTS], ids=str)
def test_agrees_with_its_oracle(transform: Augmentation) -> None:
    check_oracle(transform)


@pytest.mark.parametrize("transform", [*PLAIN, *VARIANTS], ids=str)
def test_the_kernel_equals_the_meaning(transform: Augmentation) -> None:
    check_kernel(transform)


@EVERY_KIND
def test_the_neutral_setting_is_the_identity_to_the_bit(kind: type[Augmentation]) -> None:
    check_neutral(kind)


@pytest.mark.parametrize("transform", [*PLAIN, *VARIANTS], ids=str)
def test_spec_text_round_trips(transform: Augmentation) -> None:
    assert build(spec(transform), Augmentation) == transform


@EVERY_KIND
def test_every_knob_changes_something(kind: type[Augmentation]) -> None:
    tried: set[str] = set()
    for knob, before, variant in variants(kind):
        after, as_it_comes = views(variant), views(before)
        assert after.isfinite().all()
        assert after.shape != as_it_comes.shape or not torch.equal(after, as_it_comes), variant
        tried.add(knob.name)
    assert tried == {knob.name for knob in knobs(kind)}, "a knob has no other value to try"


@pytest.mark.parametrize("transform", [t for t in PLAIN if "mix" not in t.stages], ids=lambda transform: transform.name)
def test_draws_do_not_depend_on_the_split_of_the_batch(transform: Augmentation) -> None:
    """Mixing is apart: its partners come from the whole batch by definition."""
    whole = views(transform)
    parts = [views(transform, IMAGES[k : k + 5], IDS[k : k + 5]) for k in range(0, 16, 5)]
    joined = torch.cat([part[: len(part) // 2] for part in parts] + [part[len(part) // 2 :] for part in parts])
    assert torch.equal(whole, joined)


@EVERY_PLAIN
def test_what_was_drawn_can_be_read(transform: Augmentation) -> None:
    draws = Pipeline(listed(transform)).draw(IDS, (20, 24), epoch=0, step=0)
    assert transform.name in draws.parameters
    assert all(len(values) == len(IDS) for noted in draws.parameters.values() for values in noted.values())


@EVERY_PLAIN
def test_it_belongs_to_a_stage(transform: Augmentation) -> None:
    assert transform.stages
    assert transform.stages <= set(get_args(Stage))


@EVERY_KIND
def test_it_can_be_left_out_at_random_or_says_why_not(kind: type[Augmentation]) -> None:
    """Only what sets the size or the constants of the whole batch has no `p`, and no neutral setting either."""
    has_p = any(knob.name == "p" for knob in knobs(kind))
    assert has_p != isinstance(kind.neutral, str)
    if has_p:
        assert torch.equal(views(dataclasses.replace(plain(kind), p=0.0)), views(Rotate(degrees=0.0)))


# ------------------------------------------------------------------------------------------ what these questions catch


def mirrored_copy(name: str, **members: Any) -> type[Augmentation]:
    """Register a copy of `rotate` under another name, with some members replaced."""
    return technique(name, source="a test")(type("Copy", (Rotate,), {"__qualname__": f"Copy.{name}", **members}))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a test registers be forgotten after it."""
    monkeypatch.setattr("descend.technique._registry", dict(floor._registry))


def the_other_way(self: Rotate, stream: RandomStream, draws: Draws) -> Draws:
    """Turn clockwise and note degrees counter-clockwise: what a wrong sign looks like."""
    angle = (2 * stream.uniform()[0] - 1) * self.degrees
    return draws.warp(rotation(-angle, draws.canvas)).note(stream.name, degrees=angle)


@pytest.mark.usefixtures("registry")
def test_a_new_transform_without_an_oracle_is_told_where_to_put_one() -> None:
    kind = mirrored_copy("turn_about")
    assert kind in set(registered(Augmentation))
    with pytest.raises(AssertionError, match=r"turn_about has no independent oracle.*def turn_about.*augment_transforms\.py"):
        check_oracle(kind())


@pytest.mark.usefixtures("registry")
def test_a_wrong_sign_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracles, "turn_about", oracles.rotate, raising=False)
    check_oracle(mirrored_copy("turn_about")())
    with pytest.raises(AssertionError, match="is not its oracle"):
        check_oracle(mirrored_copy("turn_about", draw=the_other_way)())


@pytest.mark.usefixtures("registry")
def test_a_false_or_missing_neutral_setting_is_caught() -> None:
    with pytest.raises(AssertionError, match="not the identity to the bit"):
        check_neutral(mirrored_copy("turn_about", neutral={"degrees": 1.0}))
    with pytest.raises(AssertionError, match="must say why"):
        check_neutral(mirrored_copy("turn_about", neutral="none"))
    with pytest.raises(AssertionError, match="must declare `neutral`"):
        check_neutral(mirrored_copy("turn_about", neutral=None))


def test_a_kernel_that_does_something_else_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = fused.levels

    def mirrored(images: torch.Tensor, draws: Draws, *constants: torch.Tensor) -> torch.Tensor:
        return kernel(images, draws, *constants).flip(2)

    monkeypatch.setattr(fused, "levels", mirrored)
    with pytest.raises(AssertionError, match=r"the kernel of rotate\(\)"):
        check_kernel(Rotate())
