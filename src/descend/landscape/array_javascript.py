"""Formulas over NumPy's arrays in JavaScript, translated from their source as in ``javascript``.

Every value may be an array with a shape, so operators are functions of a script that a page brings along
(``report/lesson/np.js``): ``a + b`` becomes ``np.add(a, b)``, ``m[:, 2]`` becomes ``np.get(m, [np.slice(null, null), 2])``.
Methods and attributes keep their names: the script's arrays have them. Functions of NumPy and of Python become functions of
``np`` by the same name, ours are translated with all that they call, and a dataclass of ours becomes a plain object of its
fields.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import functools
import inspect
import json
import math
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from descend.landscape.javascript import Dialect, Function, Library, literal

REPLACE = "changed"  # the method by which a dataclass has ``dataclasses.replace`` in less time

OPERATIONS: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide", ast.Pow: "power", ast.Mod: "mod",
    ast.FloorDiv: "floor_divide", ast.MatMult: "matmul", ast.BitAnd: "bitwise_and", ast.BitOr: "bitwise_or",
    ast.Lt: "less", ast.LtE: "less_equal", ast.Gt: "greater", ast.GtE: "greater_equal", ast.Eq: "equal", ast.NotEq: "not_equal",
    ast.USub: "negative", ast.Invert: "invert",
}  # fmt: skip
BUILTINS = frozenset({len, min, max, abs, zip, enumerate, range, int, float, round, sum, tuple, list})
TORCH = {"exp": "exp", "erfc": "erfc", "finfo": "finfo"}
"""Functions of torch's that stand in formulas, by their names in the script."""


class ArrayLibrary(Library):
    """Functions of ours in the dialect of arrays, beside those of the other dialects."""

    def function(self, function: FunctionType, dialect: Dialect, *, bound: bool = False) -> Function:
        """Return ``function`` on its way to JavaScript."""
        kind = ArrayFunction if dialect == "np" else Function
        return kind(function, dialect, self, bound=bound)


def array_method(cls: type, name: str, library: ArrayLibrary) -> str:
    """Return one method or property of a class as a member of a JavaScript class. Raises Untranslatable."""
    raw = inspect.getattr_static(cls, name)
    if isinstance(raw, functools.cached_property):
        return f"get {name}{library.function(raw.func, 'np', bound=True).text()}"
    if isinstance(raw, property):
        assert isinstance(raw.fget, FunctionType)
        return f"get {name}{library.function(raw.fget, 'np', bound=True).text()}"
    return f"{name}{library.function(raw, 'np', bound=True).text()}"


def array_literal(value: Any) -> str:
    """Return a constant of arrays, numbers and text as JavaScript; TypeError for anything else."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and len(value) > 8 and (value == np.arange(len(value))).all():
        return f"np.arange({len(value)})"
    if isinstance(value, np.ndarray):
        return f"np.array({array_literal(value.tolist())})"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(array_literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {array_literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    return literal(value.item() if isinstance(value, np.floating | np.integer) else value)


class ArrayFunction(Function):
    """One function over arrays on its way to JavaScript."""

    def takes(self, given: ast.arguments) -> bool:
        """Return whether parameters are of a kind that is known here: all but those by keyword alone with defaults."""
        return not any(given.kw_defaults)

    def text(self) -> str:
        """Return parameters, with their defaults, and body."""
        given = self.tree.args
        optional = [argument.arg for argument in given.args[len(given.args) - len(given.defaults) :]]
        defaults = dict(zip(optional, given.defaults, strict=True))
        known = [f"{name} = {self.expression(defaults[name])}" if name in defaults else name for name in self.parameters]
        if given.kwarg:
            known.append(given.kwarg.arg)
            self.locals.add(given.kwarg.arg)
        fresh = sorted(self.locals - {*self.parameters, *([given.kwarg.arg] if given.kwarg else [])})
        lines = [f"let {', '.join(fresh)};"] if fresh else []
        for statement in self.tree.body:
            lines += self.statement(statement)
        return f"({', '.join(known)}) {{ {' '.join(lines)} }}"

    def statement(self, node: ast.stmt) -> list[str]:
        """Return the lines of one statement."""
        match node:
            case ast.Assign(targets=targets, value=value):
                return self.assigned(targets, self.expression(value))
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                return self.assigned([target], self.expression(value))
            case ast.AugAssign(target=ast.Name() as target, op=op, value=value):
                return self.assigned([target], self.expression(ast.BinOp(ast.Name(target.id, ast.Load()), op, value)))
            case ast.If(test=test, body=body, orelse=orelse):
                other = f" else {self.block(orelse)}" if orelse else ""
                return [f"if ({self.truth(test)}) {self.block(body)}{other}"]
            case ast.For(target=target, iter=many, body=body, orelse=[]):
                return [f"for ({self.pattern(target)} of {self.expression(many)}) {self.block(body)}"]
            case ast.Expr(value=ast.Call() as call):
                return [f"{self.expression(call)};"]
        return super().statement(node)

    def truth(self, node: ast.expr) -> str:
        """Return a condition; an empty list is false, as it is not in JavaScript."""
        return f"np.truth({self.expression(node)})"

    def assigned(self, targets: list[ast.expr], value: str) -> list[str]:
        """Return the assignment of a value to names, to elements, or to several of either."""
        match targets:
            case [ast.Name(id=name)]:
                return [f"{name} = {value};"]
            case [ast.Subscript(value=array, slice=index)]:
                return [f"np.set({self.expression(array)}, {self.index(index)}, {value});"]
            case [ast.Tuple(elts=parts)] if not any(isinstance(part, ast.Subscript) for part in parts):
                return [f"{self.pattern(targets[0])} = {value};"]
            case [ast.Tuple(elts=parts)]:
                each = [line for i, part in enumerate(parts) for line in self.assigned([part], f"all[{i}]")]
                return [f"{{ const all = [...{value}]; {' '.join(each)} }}"]
        each = [line for target in targets for line in self.assigned([target], "same")]
        return [f"{{ const same = {value}; {' '.join(each)} }}"]

    def pattern(self, node: ast.expr) -> str:
        """Return the target of a loop or an assignment as a pattern of JavaScript."""
        match node:
            case ast.Tuple(elts=parts):
                return f"[{', '.join(map(self.pattern, parts))}]"
            case ast.Starred(value=value):
                return f"...{self.pattern(value)}"
            case ast.Name(id=name):
                return name
        raise self.unknown(node)

    # ------------------------------------------------------------------------------------------------------- expressions

    def expression(self, node: ast.expr) -> str:  # one line for each kind of node
        """Return an expression."""
        match node:
            case ast.Attribute(value=value, attr=name) if self.resolved(node) is None:
                return (
                    f"this.{name}" if isinstance(value, ast.Name) and value.id == self.me else f"{self.expression(value)}.{name}"
                )
            case ast.Name(id=name) if name == self.me:
                return "this"
            case ast.Subscript(value=value, slice=index):
                return f"np.get({self.expression(value)}, {self.index(index)})"
            case ast.JoinedStr(values=parts):
                return "`" + "".join(self.piece(part) for part in parts) + "`"
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, map(self.expression, values), strict=True)
                return (
                    "({"
                    + ", ".join(f"...{text}" if key is None else f"[{self.expression(key)}]: {text}" for key, text in pairs)
                    + "})"
                )
            case ast.ListComp(elt=elt, generators=loops) | ast.GeneratorExp(elt=elt, generators=loops):
                return self.comprehension(elt, loops)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return f"({self.truth(test)} ? {self.expression(body)} : {self.expression(orelse)})"
            case ast.BoolOp(op=op, values=values):
                return f"({(' && ' if isinstance(op, ast.And) else ' || ').join(map(self.expression, values))})"
        return super().expression(node)

    def operation(self, node: ast.expr) -> str:
        """Return arithmetic, comparison and logic."""
        match node:
            case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot() as op], comparators=[right]):
                sign = "===" if isinstance(op, ast.Is) else "!=="
                return f"(({self.expression(left)} ?? null) {sign} {self.expression(right)})"
            case ast.Compare(left=left, ops=ops, comparators=rights) if all(type(op) in OPERATIONS for op in ops):
                ends = [self.expression(each) for each in (left, *rights)]
                parts = [f"np.{OPERATIONS[type(op)]}({a}, {b})" for op, a, b in zip(ops, ends[:-1], ends[1:], strict=True)]
                return parts[0] if len(parts) == 1 else f"({' && '.join(parts)})"
            case ast.UnaryOp(op=op, operand=value) if type(op) in OPERATIONS:
                return f"np.{OPERATIONS[type(op)]}({self.expression(value)})"
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
                return f"np.{OPERATIONS[type(op)]}({self.expression(left)}, {self.expression(right)})"
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return f"(!{self.truth(node.operand)})"
        raise self.unknown(node)

    def piece(self, part: ast.expr) -> str:
        """Return a piece of a formatted text; of formats only g is known, a number as it is."""
        match part:
            case ast.Constant(value=str() as text):
                return json.dumps(text)[1:-1].replace("`", "\\`").replace("$", "\\$")
            case ast.FormattedValue(
                value=value, conversion=-1, format_spec=None | ast.JoinedStr(values=[ast.Constant(value="g")])
            ):
                return f"${{{self.expression(value)}}}"
        raise self.unknown(part)

    def comprehension(self, elt: ast.expr, loops: list[ast.comprehension]) -> str:
        """Return a comprehension of one or more loops as calls of map."""
        loop, *inner = loops
        if loop.ifs:
            raise self.unknown(loop.ifs[0])
        inside = self.comprehension(elt, inner) if inner else self.expression(elt)
        return f"[...{self.expression(loop.iter)}].{'flatMap' if inner else 'map'}(({self.pattern(loop.target)}) => {inside})"

    def index(self, node: ast.expr) -> str:
        """Return what stands in the brackets of an array as a list for ``np.get`` and ``np.set``."""
        parts = node.elts if isinstance(node, ast.Tuple) else [node]
        return f"[{', '.join(map(self.place, parts))}]"

    def place(self, node: ast.expr) -> str:
        """Return one place of an index."""
        match node:
            case ast.Slice(lower=low, upper=high, step=None):
                return f"np.slice({', '.join('null' if end is None else self.expression(end) for end in (low, high))})"
            case ast.Constant(value=builtins.Ellipsis):
                return "np.ellipsis"
        return self.expression(node)

    # ------------------------------------------------------------------------------------------------------------- calls

    def call(self, node: ast.Call) -> str:
        """Return a call: of a function of NumPy's or Python's, of one of ours, of a dataclass, or of a method."""
        function = self.resolved(node.func)
        if function is isinstance and self.resolved(node.args[1]) is str:
            return f'(typeof {self.expression(node.args[0])} === "string")'
        arguments = [self.expression(value) for value in node.args]
        if function is dataclasses.replace:
            return f"np.replace({arguments[0]}, {self.keywords(node)})"
        if inspect.isclass(function) and dataclasses.is_dataclass(function):
            names = [field.name for field in dataclasses.fields(function)]
            given = [f"{name}: {text}" for name, text in zip(names, arguments, strict=False)]
            standard = {
                field.name: field.default for field in dataclasses.fields(function) if field.default is not dataclasses.MISSING
            }
            return f"({{...{array_literal(standard)}, {', '.join([*given, f'...{self.keywords(node)}'])}}})"
        if (name := self.library_name(function)) is not None:
            return f"np.{name}({', '.join([*arguments, *([self.keywords(node)] if self.named(node) else [])])})"
        if (ours := self.ours(function)) is not None:
            return f"{self.library.name(ours, 'np')}({', '.join(self.placed(ours, node, arguments))})"
        if isinstance(node.func, ast.Name) and node.func.id in self.locals:
            return f"{node.func.id}({', '.join(arguments)})"
        if isinstance(node.func, ast.Attribute) and function is None:
            if node.func.attr == REPLACE:
                return f"np.replace({self.expression(node.func.value)}, {self.keywords(node)})"
            more = [self.keywords(node)] if node.keywords else []
            if isinstance(node.func.value, ast.Name) and node.func.value.id == self.me:
                self.called.append(node.func.attr)
            return f"{self.expression(node.func.value)}.{node.func.attr}({', '.join([*arguments, *more])})"
        raise self.unknown(node)

    def library_name(self, function: Any) -> str | None:
        """Return what a function of NumPy, Python or torch is called in the script; None for others."""
        if (isinstance(function, type | FunctionType) and function in BUILTINS) or (
            inspect.isbuiltin(function) and function in BUILTINS
        ):
            return function.__name__
        name = getattr(function, "__name__", "")
        module = getattr(function, "__module__", None) or ""
        if isinstance(function, np.ufunc) or (module.partition(".")[0] == "numpy" and callable(function)):
            return "abs" if name == "absolute" else name
        if module == "math" and callable(function):
            return name
        return TORCH.get(name) if module.partition(".")[0] == "torch" else None

    def named(self, node: ast.Call) -> bool:
        """Return whether a call has keywords that count: strictness of ``zip`` does not."""
        return any(word.arg != "strict" for word in node.keywords)

    def keywords(self, node: ast.Call) -> str:
        """Return the keywords of a call as an object."""
        pairs = [(word.arg, self.expression(word.value)) for word in node.keywords]
        return "{" + ", ".join(f"...{text}" if name is None else f"{name}: {text}" for name, text in pairs) + "}"

    def placed(self, function: FunctionType, node: ast.Call, arguments: list[str]) -> list[str]:
        """Return the arguments of a call of ours by their places, those left out as undefined."""
        if not node.keywords:
            return arguments
        names = list(inspect.signature(function).parameters)
        given = {word.arg: self.expression(word.value) for word in node.keywords}
        places = arguments + [given.pop(name, "undefined") for name in names[len(arguments) :]]
        if given:
            raise self.unknown(node)
        return places

    def constant(self, node: ast.expr) -> str:
        """Return the value of a name from outside the function; a type of NumPy's as its name."""
        value = self.resolved(node)
        if isinstance(value, type) and value.__module__ in ("numpy", "builtins"):
            return json.dumps(value.__name__)
        if (function := self.ours(value)) is not None:
            return self.library.name(function, "np")
        try:
            return array_literal(object() if value is None or isinstance(value, ModuleType) else value)
        except (TypeError, ValueError):
            raise self.unknown(node) from None
