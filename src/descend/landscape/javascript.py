"""Formulas in JavaScript, translated from the source of the Python that holds them.

A page that moves needs rules, surfaces and schedules in the browser, and a formula stands only once. So nothing is written
again: the methods of a technique are read with ``inspect``, parsed with ``ast``, and written out as an object of JavaScript. The
small part of Python in which formulas are written (arithmetic, assignments, conditions, comprehensions, our own functions, a
table of NumPy's) is known here; everything else is an ``Untranslatable`` that names the construct.

There are two dialects. In "scalar" a value is a number and operators are JavaScript's own; in "vector" it may also be an array,
a point of all its coordinates, and operators are functions of ``page/numbers.js``. A third, for NumPy's arrays, stands in
``array_javascript``.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import inspect
import json
import math
import textwrap
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, Literal

import numpy as np

from descend.errors import KnobError
from descend.landscape.surface import fixed
from descend.optim import ops

Dialect = Literal["scalar", "vector", "np"]

FUNCTIONS: dict[Any, tuple[str, int]] = {
    ops.add_scaled: ("add_scaled", 3), ops.sqrt: ("sqrt", 1), ops.sign: ("sign", 1), ops.norm: ("norm", 1),
    ops.positive: ("positive", 1), ops.maximum: ("maximum", 2),
    math.sqrt: ("sqrt", 1), math.cos: ("cos", 1), math.sin: ("sin", 1), math.radians: ("radians", 1), math.floor: ("floor", 1),
    math.exp: ("exp", 1), math.log: ("log", 1),
    np.cos: ("cos", 1), np.sin: ("sin", 1), np.hypot: ("hypot", 2), np.minimum: ("minimum", 2), np.maximum: ("maximum", 2),
    np.abs: ("abs", 1), np.sum: ("sum", 1), np.asarray: ("same", 1), np.moveaxis: ("same", 1), np.stack: ("same", 1),
    fixed: ("same", 1), np.ones: ("ones", 1), np.geomspace: ("geomspace", 3),
    abs: ("abs", 1), min: ("min", 9), max: ("max", 9), float: ("number", 1), int: ("number", 1), sum: ("sum", 1),
    tuple: ("same", 1), set: ("set", 1), frozenset: ("set", 1), divmod: ("divmod", 2), range: ("range", 2),
}  # fmt: skip
"""What a call of each becomes, in both dialects, and how many of its arguments count: an axis or dtype does not for one point."""

TAKEN = frozenset({
    "scalar", "vector", "arguments", "await", "break", "case", "catch", "class", "const", "continue", "debugger",
    "default", "delete", "do", "else", "enum", "eval", "export", "extends", "false", "finally", "for", "function", "if",
    "implements", "import", "in", "instanceof", "interface", "let", "new", "null", "package", "private", "protected",
    "public", "return", "static", "super", "switch", "this", "throw", "true", "try", "typeof", "var", "void", "while",
    "with", "yield",
})  # fmt: skip
"""Names that JavaScript, or our scripts, keep for themselves; a variable called so gets an underscore."""

METHODS = {"sum": "sum", "copy": "copy", "tolist": "same"}
"""Methods of arrays, alike."""

OPERATORS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Add: ("+", "add"), ast.Sub: ("-", "subtract"), ast.Mult: ("*", "multiply"), ast.Div: ("/", "divide"),
    ast.Pow: ("**", "power"), ast.RShift: (">>", "shift_right"), ast.BitXor: ("^", "xor"), ast.BitAnd: ("&", "both"),
}  # fmt: skip
COMPARISONS: dict[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "===", ast.NotEq: "!==", ast.Is: "===", ast.IsNot: "!==",
}  # fmt: skip


CHECK = "__post_init__"
"""What refuses knobs that are legal one by one, but not together."""


class Untranslatable(KnobError):
    """Python that the translator does not know; the message names the function and the construct."""


class Library:
    """Functions of ours that translated methods call, each translated once and named by its dialect."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def name(self, function: FunctionType, dialect: Dialect) -> str:
        """Return what ``function`` is called in JavaScript; it, and what it calls, are translated where they are not yet."""
        name = f"{dialect}_{function.__module__.replace('.', '_')}_{function.__name__}"
        if name not in self._texts:
            self._texts[name] = ""  # so that a function may call itself
            try:
                self._texts[name] = f"function {name}{self.function(function, dialect).text()}"
            except Untranslatable:
                del self._texts[name]  # who asks for it next must hear the same
                raise
        return name

    def function(self, function: FunctionType, dialect: Dialect, *, bound: bool = False) -> Function:
        """Return ``function`` on its way to JavaScript; a library of other dialects makes others of it."""
        return Function(function, dialect, self, bound=bound)

    def text(self) -> str:
        """Return all functions."""
        return "\n".join(self._texts.values())


def translated(cls: type, methods: Iterable[str], dialect: Dialect, library: Library) -> str:
    """Return the object of JavaScript with ``methods`` of a class and those that they call; ``this`` holds the knobs.

    The class's own check of its knobs comes along where it can be translated. Raises Untranslatable.
    """
    waiting, texts = list(dict.fromkeys(methods)), dict[str, str]()
    if CHECK in cls.__dict__ and CHECK not in waiting:
        with contextlib.suppress(Untranslatable):
            texts[CHECK] = f"  {CHECK}{library.function(_function(cls, CHECK), dialect, bound=True).text()},"
    while waiting:
        name = waiting.pop(0)
        if name in texts:
            continue
        function = _function(cls, name)
        translation = library.function(function, dialect, bound=_is_bound(cls, name))
        texts[name] = f"  {name}{translation.text()},"
        waiting += translation.called
    return "\n".join(["{", *texts.values(), "}"])


def literal(value: Any) -> str:
    """Return a constant (number, text, truth value, None, a word of NumPy's, or a tuple of them) as JavaScript."""
    if type(value) is np.uint64:
        return f"{value}n"  # such words are multiplied whole: JavaScript's own numbers hold 53 bits
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(literal, value))}]"
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")  # so that no text ends the script that it stands in


def _function(cls: type, name: str) -> FunctionType:
    raw = inspect.getattr_static(cls, name, None)
    raw = raw.__func__ if isinstance(raw, staticmethod) else raw
    if not isinstance(raw, FunctionType):
        raise Untranslatable(cls.__name__, f"{name} must be a method written in Python", got=type(raw).__name__)
    return raw


def _is_bound(cls: type, name: str) -> bool:
    return not isinstance(inspect.getattr_static(cls, name), staticmethod)


def _variable(name: str) -> str:
    return f"{name}_" if name in TAKEN else name


class Function:
    """One function on its way to JavaScript."""

    def __init__(self, function: Callable[..., Any], dialect: Dialect, library: Library, *, bound: bool = False) -> None:
        self.function = inspect.unwrap(function)
        self.dialect: Dialect = dialect
        self.library = library
        self.called: list[str] = []  # methods of the same object
        tree = ast.parse(textwrap.dedent(inspect.getsource(self.function))).body[0]
        if not isinstance(tree, ast.FunctionDef):
            raise self.unknown(tree)
        self.tree = tree
        if not self.takes(tree.args):
            raise self.unknown(tree.args)
        names = [argument.arg for argument in (*tree.args.args, *tree.args.kwonlyargs)]
        self.me = names.pop(0) if bound else None
        self.parameters = names
        self.rest = tree.args.vararg.arg if tree.args.vararg else None
        inside = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
        self.locals = {node.id for node in inside} | {*names} | ({self.rest} if self.rest else set())

    def takes(self, given: ast.arguments) -> bool:
        """Return whether parameters are of a kind that is known here."""
        return not (given.kwonlyargs or given.kwarg or given.defaults)

    def text(self) -> str:
        """Return parameters and body."""
        known = [*map(_variable, self.parameters), *([f"...{_variable(self.rest)}"] if self.rest else [])]
        fresh = sorted(map(_variable, self.locals - {*self.parameters, self.rest}))
        lines = [f"let {', '.join(fresh)};"] if fresh else []
        for statement in self.tree.body:
            lines += self.statement(statement)
        return f"({', '.join(known)}) {{ {' '.join(lines)} }}"

    def unknown(self, node: ast.AST) -> Untranslatable:
        """Return the error that names ``node``."""
        construct = f"{type(node).__name__}: {ast.unparse(node)}"
        return Untranslatable(self.function.__qualname__, "must be written in what the translator knows", got=construct)

    # -------------------------------------------------------------------------------------------------------- statements

    def statement(self, node: ast.stmt) -> list[str]:
        """Return the lines of one statement."""
        match node:
            case ast.Expr(value=ast.Constant(value=str())):  # a docstring
                return []
            case ast.Return(value=value):
                return [f"return {self.expression(value) if value else 'null'};"]
            case ast.Assign(targets=[target], value=value):
                return [f"{self.expression(target)} = {self.expression(value)};"]
            case ast.If(test=test, body=body, orelse=orelse):
                inside, other = self.block(body), self.block(orelse)
                return [f"if ({self.expression(test)}) {inside}" + (f" else {other}" if orelse else "")]
            case ast.For(target=target, iter=many, body=body, orelse=[]):
                return [f"for ({self.expression(target)} of {self.expression(many)}) {self.block(body)}"]
            case ast.Raise(exc=ast.Call(args=[who, what, *_])):
                return [f"throw new Error(`${{{self.expression(who)}}}: ${{{self.expression(what)}}}`);"]
        raise self.unknown(node)

    def block(self, nodes: list[ast.stmt]) -> str:
        """Return statements in braces."""
        return f"{{ {' '.join(line for node in nodes for line in self.statement(node))} }}"

    # ------------------------------------------------------------------------------------------------------- expressions

    def expression(self, node: ast.expr) -> str:  # one line for each kind of node
        """Return an expression."""
        match node:
            case ast.Constant(value=value) if value is None or isinstance(value, bool | int | float | str):
                return literal(value)
            case ast.Name(id=name):
                return _variable(name) if name in self.locals else self.constant(node)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name == self.me:
                return f"this.{attribute}"
            case ast.Attribute():
                return self.constant(node)
            case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
                return f"[{', '.join(map(self.expression, parts))}]"
            case ast.Starred(value=value):
                return f"...{self.expression(value)}"
            case ast.Subscript(value=value, slice=index):
                return self.element(self.expression(value), index)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return f"({self.expression(test)} ? {self.expression(body)} : {self.expression(orelse)})"
            case ast.ListComp(elt=elt, generators=[loop]) | ast.GeneratorExp(elt=elt, generators=[loop]) if not loop.ifs:
                return f"{self.expression(loop.iter)}.map(({self.expression(loop.target)}) => {self.expression(elt)})"
            case ast.Call():
                return self.call(node)
        return self.operation(node)

    def operation(self, node: ast.expr) -> str:
        """Return arithmetic, comparison and logic."""
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=value) if self.dialect == "scalar" or isinstance(value, ast.Constant):
                return f"(-{self.expression(value)})"
            case ast.UnaryOp(op=ast.USub(), operand=value):
                return f"vector.multiply(-1, {self.expression(value)})"
            case ast.UnaryOp(op=ast.Not(), operand=value):
                return f"(!{self.expression(value)})"
            case ast.BoolOp(op=op, values=values):
                sign = " && " if isinstance(op, ast.And) else " || "
                return f"({sign.join(map(self.expression, values))})"
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARISONS:
                return f"({self.expression(left)} {COMPARISONS[type(op)]} {self.expression(right)})"
            case ast.BinOp(left=ast.Tuple() as left, op=ast.Mult(), right=right):
                return f"{self.dialect}.repeat({self.expression(left)}, {self.expression(right)})"
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):  # of sets
                return f"[...{self.expression(left)}, ...{self.expression(right)}]"
            case ast.BinOp(left=left, op=ast.Mod(), right=right):
                return f"{self.dialect}.modulo({self.expression(left)}, {self.expression(right)})"
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                sign, word = OPERATORS[type(op)]
                a, b = self.expression(left), self.expression(right)
                return f"({a} {sign} {b})" if self.dialect == "scalar" else f"vector.{word}({a}, {b})"
        raise self.unknown(node)

    def element(self, value: str, index: ast.expr) -> str:
        """Return one element of an array: ``x[0]``, ``x[-1]``, and the same behind an ellipsis."""
        match index:
            case ast.Tuple(elts=[ast.Constant(value=builtins.Ellipsis), inner]):
                return self.element(value, inner)
            case ast.Constant(value=int() as at):
                return f"{value}[{at}]"
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as back)):
                return f"{value}[{value}.length - {back}]"
            case ast.Slice(lower=None, upper=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as back)), step=None):
                return f"{value}.slice(0, -{back})"
        raise self.unknown(index)

    def call(self, node: ast.Call) -> str:
        """Return a call: of a method of ours, of a function in the table, or of one that is translated for it."""
        if any(word.arg != "axis" for word in node.keywords):
            raise self.unknown(node)
        arguments = [self.expression(value) for value in node.args if not self.is_type(value)]
        match node.func:
            case ast.Attribute(value=ast.Name(id=name), attr=method) if name == self.me:
                self.called.append(method)
                return f"this.{method}({', '.join(arguments)})"
            case ast.Attribute(value=value, attr=method) if method in METHODS and self.resolved(node.func) is None:
                return f"{self.dialect}.{METHODS[method]}({self.expression(value)})"
        if isinstance(node.func, ast.Name) and node.func.id in self.locals:
            return f"{_variable(node.func.id)}({', '.join(arguments)})"
        function = self.resolved(node.func)
        if function is not None and function in FUNCTIONS:
            word, n = FUNCTIONS[function]
            return f"{self.dialect}.{word}({', '.join(arguments[:n])})"
        function = self.ours(function)
        if function is not None and not node.keywords:
            return f"{self.library.name(function, self.dialect)}({', '.join(arguments)})"
        raise self.unknown(node)

    def ours(self, value: Any) -> FunctionType | None:
        """Return the function of ours that ``value`` is, freed from its decorators; None for anything else."""
        value = inspect.unwrap(value) if callable(value) else None
        return value if isinstance(value, FunctionType) and value.__module__.partition(".")[0] == "descend" else None

    def is_type(self, node: ast.expr) -> bool:
        """Return whether ``node`` names a type, such as the dtype of an array, which JavaScript has none of."""
        return isinstance(node, ast.Name | ast.Attribute) and isinstance(self.resolved(node), type)

    def constant(self, node: ast.expr) -> str:
        """Return the value of a name from outside the function."""
        value = self.resolved(node)
        if (function := self.ours(value)) is not None:
            return self.library.name(function, self.dialect)
        try:
            return literal(value if value is not None else object())
        except (TypeError, ValueError):
            raise self.unknown(node) from None

    def resolved(self, node: ast.expr) -> Any:
        """Return what a name, or a name in a module, means outside the function; None for nothing known."""
        match node:
            case ast.Name(id=name) if name not in self.locals and name != self.me:
                return self.function.__globals__.get(name, getattr(builtins, name, None))
            case ast.Attribute(value=value, attr=name):
                return getattr(self.resolved(value), name, None)
        return None
