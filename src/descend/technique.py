"""A technique is data: a frozen record of typed knobs, found by name, written as text.

Three ideas, each once:

*The record.* ``@technique`` turns a class into a frozen, keyword-only, strictly validated dataclass. Every knob carries its
legal interval (``annotated_types``) and the range worth searching (``Search``):

    @technique("adamw", source="Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2")
    class AdamW(Rule):
        lr: Annotated[float, Ge(0), Search(1e-5, 1e-1, log=True)] = 1e-3

*The registry.* A family is an abstract subclass of ``Technique`` (``class Rule(Technique, family="optimizer")``); names are
unique in their family. Each package lists its exports in ``__init__.pyi``, which ``load_all`` walks.

*The text.* ``"adamw(lr=0.0003)"`` is the same object on the command line, in a recipe, in an error and in a report:
``build(text, Rule)`` reads it, ``str(object)`` writes it. Values are numbers, strings, booleans, ``None``, lists and
further techniques; nested techniques may be given by position: ``then(warmup(fraction=0.05), cosine())``.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, cast, dataclass_transform, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as validated
from typing_extensions import Doc

from descend.errors import DescendError, KnobError, SpecError, nearest
from descend.printable import shortened
from descend.spec_text import Call as Call
from descend.spec_text import parse as parse
from descend.spec_text import spec_error, unknown_technique

PACKAGES = ("optim", "schedule", "regularize", "augment", "models", "transfer", "landscape")


@dataclasses.dataclass(frozen=True)
class Search:
    """The range of a knob worth searching; ``log`` says that its scale is logarithmic."""

    low: float
    high: float
    log: bool = False


Probability = Annotated[float, Ge(0), Le(1), Search(0.0, 0.9)]


class Technique:
    """The base of every technique. Its text form is ``str(technique)``."""

    name: ClassVar[str]
    family: ClassVar[str]
    source: ClassVar[str]

    def __init_subclass__(cls, family: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if family is not None:
            cls.family = family

    @classmethod
    def explain(cls, knob: str | None, value: Any) -> str:  # noqa: ARG003 (rules use it)
        """Return what to write in place of a knob that it lacks, or (None) of a value by position; "" where nothing is known."""
        return ""

    def __str__(self) -> str:
        return spec(self)


T = TypeVar("T", bound=Technique)
R = TypeVar("R")
_registry: dict[tuple[str, str], type[Technique]] = {}
_OWN_ARGUMENT = "__dataclass_self__"  # what pydantic calls ``self``, so that a field may be called that
_former_names: dict[tuple[str, str], str] = {}  # (family, old name) -> the name it has now


@dataclass_transform(kw_only_default=True, frozen_default=True)
def record(name: str) -> Callable[[type[R]], type[R]]:
    """Make a class a frozen, strictly validated dataclass whose errors are ours: ``<name>: <knob> must be ..., got ...``."""

    def make(cls: type[R]) -> type[R]:
        config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
        strict = cast(type[R], validated(cls, frozen=True, kw_only=True, config=config))
        _explain(strict, name)
        return strict

    return make


@dataclass_transform(kw_only_default=True, frozen_default=True)
def technique(name: str, *, source: str, formerly: str | None = None) -> Callable[[type[T]], type[T]]:
    """Register a class as the technique ``name`` of its family and make it a ``record``.

    name: snake_case, acronyms run together. source: paper and equation, or where the practice comes from. formerly: a name it
    had in an earlier version; it is no alias, but an error that tells the new one.
    """

    def register(cls: type[T]) -> type[T]:
        strict = record(name)(cls)
        strict.name, strict.source = name, source
        present = _registry.setdefault((strict.family, name), strict)
        if present is not strict and present.__qualname__ != strict.__qualname__:
            raise SpecError(f"@technique({name!r})", f"must be a new name in family {strict.family!r}", got=present.__qualname__)
        if formerly is not None:
            _former_names[strict.family, formerly] = name
        return strict

    return register


def _explain(cls: type, name: str) -> None:
    """Make the constructor raise our errors (name, knob, interval, value) instead of pydantic's report."""
    construct = cls.__init__

    @wraps(construct)
    def __init__(self: object, /, *args: Any, **kwargs: Any) -> None:
        if _OWN_ARGUMENT in kwargs:
            raise _unknown_knob(cls, name, _OWN_ARGUMENT, kwargs[_OWN_ARGUMENT])
        try:
            construct(self, *args, **{knob: _plain(value) for knob, value in kwargs.items()})
        except ValidationError as error:
            raise _knob_error(cls, name, error) from None

    cls.__init__ = __init__


def _plain(value: Any) -> Any:
    """Return a scalar of NumPy, such as a grid search draws from ``np.arange``, as Python's own; all else as it is."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () else value


def _knob_error(cls: type, name: str, error: ValidationError) -> DescendError:
    first = error.errors()[0]
    if isinstance(cause := first.get("ctx", {}).get("error"), DescendError):  # raised by the technique's own __post_init__
        return cause
    known = {knob.name: knob for knob in knobs(cls)}
    where = str(first["loc"][0]) if first["loc"] else "knobs"
    where = None if first["type"] == "unexpected_positional_argument" else where
    if where is None:
        advice = cls.explain(None, first["input"]) if issubclass(cls, Technique) else ""
        return KnobError(name, "knobs are given by name", got=first["input"], fix=advice or f"Write {name}(knob=value).")
    if where not in known:
        return _unknown_knob(cls, name, where, first["input"])
    if first["type"] == "missing":
        return KnobError(name, f"{where} must be given", fix=f"It takes {known[where].interval}.")
    return KnobError(name, f"{where} must be {known[where].interval}", got=first["input"])


def _unknown_knob(cls: type, name: str, knob: str, value: Any) -> KnobError:
    known = [item.name for item in knobs(cls)]
    advice = cls.explain(knob, value) if issubclass(cls, Technique) else ""
    return KnobError(
        name, f"has no knob {shortened(repr(knob))}", fix=advice or (nearest(knob, known) if known else "It has none.")
    )


@dataclasses.dataclass(frozen=True)
class Knob:
    """One setting of a technique, as every part of the product sees it."""

    name: str
    type: Any  # the annotation without its metadata
    default: Any  # dataclasses.MISSING when it must be given
    bounds: tuple[Any, ...]  # Ge, Gt, Le, Lt
    search: Search | None
    doc: str  # from ``Doc`` in its annotation, else ""

    @property
    def choices(self) -> tuple[Any, ...]:
        """The legal values of a ``Literal`` knob, else ()."""
        return tuple(value for part in _alternatives(self.type) if get_origin(part) is Literal for value in get_args(part))

    @property
    def family(self) -> type[Technique] | None:
        """The family of techniques this knob takes (alone or as a tuple), if it takes one."""
        for part in _alternatives(self.type):
            for candidate in (part, *get_args(part)):
                if inspect.isclass(candidate) and issubclass(candidate, Technique):
                    return candidate
        return None

    @property
    def takes_many(self) -> bool:
        """Whether the knob takes a tuple of values."""
        return any(get_origin(part) is tuple for part in _alternatives(self.type))

    @property
    def interval(self) -> str:
        """What is legal, in words: ``a number in [0, 1)``."""
        if self.choices:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        if self.family:
            return f"{'techniques' if self.takes_many else 'a technique'} of family {self.family.family!r}"
        parts = [part for part in _alternatives(self.type) if part is not type(None)]
        kinds = " or ".join(_KINDS.get(part, str(part)) for part in parts) + (f" {_span(self.bounds)}" if self.bounds else "")
        return kinds + (", or None" if type(None) in _alternatives(self.type) else "")


_KINDS = {float: "a finite number", int: "a whole number", str: "a string", bool: "True or False", type(None): "None"}


def _span(bounds: tuple[Any, ...]) -> str:
    low = next((("[", b.ge) if isinstance(b, Ge) else ("(", b.gt) for b in bounds if isinstance(b, (Ge, Gt))), None)
    high = next((("]", b.le) if isinstance(b, Le) else (")", b.lt) for b in bounds if isinstance(b, (Le, Lt))), None)
    if low and high:
        return f"in {low[0]}{low[1]}, {high[1]}{high[0]}"
    if low:
        return f"{'>=' if low[0] == '[' else '>'} {low[1]}"
    assert high is not None  # bounds is not empty
    return f"{'<=' if high[0] == ']' else '<'} {high[1]}"


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(part for option in get_args(annotation) for part in _alternatives(option))
    return (annotation,)


def _bare(annotation: Any, collected: list[Any]) -> Any:
    """Strip ``Annotated`` at every level of a union, adding its metadata to ``collected``."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        collected.extend(metadata)
        return _bare(inner, collected)
    if get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(_bare(option, collected) for option in get_args(annotation))]  # noqa: UP007 (built at run time)
    return annotation


@cache
def knobs(cls: type) -> tuple[Knob, ...]:
    """Return the knobs of a technique or record in the order of its definition."""
    hints = typing.get_type_hints(cls, include_extras=True)
    listed: list[Knob] = []
    for field in dataclasses.fields(cast(Any, cls)):
        metadata: list[Any] = []
        bare = _bare(hints[field.name], metadata)
        bounds = tuple(item for item in metadata if isinstance(item, (Ge, Gt, Le, Lt)))
        search = next((item for item in metadata if isinstance(item, Search)), None)
        doc = next((item.documentation for item in metadata if isinstance(item, Doc)), "")
        default = field.default if field.default is not dataclasses.MISSING else _from_factory(field)
        listed.append(Knob(field.name, bare, default, bounds, search, doc))
    return tuple(listed)


def _from_factory(field: dataclasses.Field[Any]) -> Any:
    factory = field.default_factory
    return dataclasses.MISSING if factory is dataclasses.MISSING else factory()


# ----------------------------------------------------------------------------------------------------------- registry


@cache
def load_all() -> None:
    """Import every technique that a package exports, so that the registry is complete."""
    for package in PACKAGES:
        _load(package)


@cache
def _load(package: str) -> None:
    module = importlib.import_module(f"descend.{package}")
    for public in module.__all__:
        getattr(module, public)


def _load_family(family: type[Technique]) -> None:
    """Import the techniques of one family: they live in the package that defines it. What else there is, the user imported."""
    root, _, inside = family.__module__.partition(".")
    package = inside.partition(".")[0]
    if root == "descend" and package in PACKAGES:
        _load(package)
    else:
        load_all()


def any_registered() -> bool:
    """Return whether this process has imported any technique yet."""
    return bool(_registry)


def former_name(cls: type[Technique]) -> str | None:
    """Return the name that a technique had in an earlier version, if it had another."""
    return next((old for (family, old), now in _former_names.items() if (family, now) == (cls.family, cls.name)), None)


def registered(family: type[Technique] | str | None = None) -> Iterator[type[Technique]]:
    """Yield every registered technique, of one family or of all, sorted by family and name."""
    if isinstance(family, str) or family is None:
        load_all()
    else:
        _load_family(family)
    wanted = family if isinstance(family, str) or family is None else family.family
    for (kind, _), cls in sorted(_registry.items()):
        if wanted in (None, kind):
            yield cls


def find(name: str, family: type[T], *, who: str | None = None) -> type[T]:
    """Return the technique called ``name`` in ``family``; an unknown name is an error that suggests the nearest."""
    _load_family(family)
    cls = _registry.get((family.family, name))
    if cls is None:
        renamed = _former_names.get((family.family, name))
        fix = f"It is called {renamed} now." if renamed else nearest(name, [known.name for known in registered(family)])
        raise SpecError(who or family.family, f"must name a technique of family {family.family!r}", got=name, fix=fix)
    return cast(type[T], cls)


# --------------------------------------------------------------------------------------------------------------- text


def build(value: str | Call | Technique, family: type[T]) -> T:
    """Return the technique that ``value`` stands for: a technique of ``family`` as it is, or spec text that names one.

    Raises SpecError (text, position, nearest name) or KnobError (knob, interval, value).
    """
    if isinstance(value, family):
        return value
    if isinstance(value, Technique):
        raise SpecError(str(value), f"must be of family {family.family!r}", got=value.family)
    if not isinstance(value, (str, Call)):
        fix = f"Write {value.__name__}()." if inspect.isclass(value) else ""
        raise SpecError(family.family, "must be a technique or its text", got=value, fix=fix)
    call = parse(value) if isinstance(value, str) else value
    try:
        cls = find(call.name, family)
    except SpecError as error:
        raise unknown_technique(call, family.family, error.fix) from None
    return cls(**_settings(cls, call))


def _settings(cls: type[Technique], call: Call) -> dict[str, Any]:
    known = {knob.name: knob for knob in knobs(cls)}
    given = dict(call.settings)
    if call.arguments:
        given = _positional(call, known) | given
    for name, value in given.items():
        if name in known:
            given[name] = _nested(value, known[name], call)
    return given


def _positional(call: Call, known: dict[str, Knob]) -> dict[str, Any]:
    """Arguments by position are techniques: they fill, in order, the knobs that take one; a tuple takes all the rest."""
    left, given = list(call.arguments), dict[str, Any]()
    for knob in known.values():
        if not left or knob.family is None:
            continue
        given[knob.name] = tuple(left) if knob.takes_many else left.pop(0)
        left = [] if knob.takes_many else left
    if left or set(given) & set(call.settings):
        names = ", ".join(known) or "none"
        raise spec_error(call.text, call.column, f"the knobs of {call.name} must be given by name",
                          fix=f"Its knobs: {names}.")  # fmt: skip
    return given


def _nested(value: Any, knob: Knob, parent: Call) -> Any:
    if isinstance(value, tuple):
        return tuple(_nested(item, knob, parent) for item in value)
    if not isinstance(value, Call):
        return value
    if knob.family is not None:
        return build(value, knob.family)
    constant = {"true": bool, "false": bool, "none": type(None)}.get(value.name.lower())
    if value.bare and constant not in _alternatives(knob.type):  # a plain word for a string: mode=ghost reads as mode="ghost"
        return value.name
    fix = f"Write {knob.name}={value.name.capitalize()}." if value.bare else ""
    raise spec_error(parent.text, value.column, f"{parent.name}: {knob.name} must be {knob.interval}", fix=fix)


def spec(value: Technique, *, defaults: bool = False) -> str:
    """Return the text form, with the knobs that differ from their defaults: ``adamw(lr=0.0003)``.

    defaults: write those that equal their defaults too, in techniques inside as well: what a record of a run should hold,
    because a default may change with the next version.
    """
    settings = ((knob, getattr(value, knob.name)) for knob in knobs(type(value)))
    chosen = ((knob.name, setting) for knob, setting in settings if defaults or setting != knob.default)
    shown = (f"{name}={literal(setting, defaults=defaults)}" for name, setting in chosen)
    return f"{value.name}({', '.join(shown)})"


def literal(value: Any, *, defaults: bool = False) -> str:
    """Return the text form of a knob's value; defaults: as in ``spec``."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(literal(item, defaults=defaults) for item in value)}]"
    return spec(value, defaults=defaults) if isinstance(value, Technique) else repr(value)
