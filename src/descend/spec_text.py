"""Spec text, ``adamw(lr=0.0003)``, parsed: names, knobs and values, before anything is looked up."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

from descend.errors import SpecError
from descend.printable import printable, shortened

_SHOWN = 120  # characters of a spec text that an error shows


@dataclasses.dataclass(frozen=True)
class Call:
    """Parsed spec text, not yet looked up: ``name(*arguments, **settings)``. ``column`` counts from 0 in ``text``."""

    name: str
    arguments: tuple[Any, ...]
    settings: dict[str, Any]
    text: str
    column: int
    bare: bool  # written without parentheses, so it may turn out to be a plain word


def spec_error(text: str, column: int, must: str, *, fix: str = "") -> SpecError:
    """Return the error that points at ``column`` of a spec text; of a long one, the part around it is shown."""
    start = max(0, column - _SHOWN // 2)
    before, after = printable(text[start:column]), printable(text[column : start + _SHOWN])
    left, right = "..." * (start > 0), "..." * (start + _SHOWN < len(text))
    below = [f"    {left}{before}{after}{right}", f"    {' ' * (len(left) + len(before))}^"]
    return SpecError(f"spec text, position {column + 1}", must, fix=fix or "Write name(knob=value, ...).", below=below)


def unknown_technique(call: Call, family: str, fix: str) -> SpecError:
    """Return the error for a name that stands for no technique of ``family``."""
    return spec_error(call.text, call.column, f"{shortened(repr(call.name))} must name a technique of family {family!r}", fix=fix)


def parse(text: str) -> Call:
    """Parse ``name(knob=value, ...)``. Only literals and further specs are values; nothing is ever evaluated."""
    stripped = text.strip()
    try:
        tree = ast.parse(stripped, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        column = min(max((getattr(error, "offset", 1) or 1) - 1, 0), len(stripped))
        raise spec_error(stripped, column, f"must read like name(knob=value), {getattr(error, 'msg', error)}") from None
    value = _value(tree, stripped)
    if not isinstance(value, Call):
        raise spec_error(stripped, 0, f"must be a name, got {shortened(repr(stripped))}")
    return value


def _value(node: ast.expr, text: str) -> Any:
    column = len(text.encode()[: node.col_offset].decode(errors="ignore"))  # ast counts bytes
    match node:
        case ast.Name(id=name):
            return Call(name, (), {}, text, column, bare=True)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
            settings: dict[str, Any] = {}
            for keyword in keywords:
                if keyword.arg is None or keyword.arg in settings:
                    raise spec_error(text, column, f"every knob of {shortened(name)} must be given once, by name")
                settings[keyword.arg] = _value(keyword.value, text)
            return Call(name, tuple(_value(item, text) for item in arguments), settings, text, column, bare=False)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return tuple(_value(item, text) for item in items)
        case ast.Constant(value=int() | float() | str() | bool() | None as constant):
            return constant
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case _:
            raise spec_error(text, column, "a value must be a number, a string, True, False, None, a list or name(...)")
