"""Numba in one place: how kernels are compiled, kept on disk, and run on threads.

A *kernel* is called from Python, and its machine code is kept. A *helper* is compiled into the kernels that call it, and is
neither optimized nor turned into machine code by itself: Numba would do both for every helper of a helper, again at each level.

Kept machine code must never outlive the text that it came from. Numba's own cache watches the one file that holds the
function, so an edit of a helper in another file, or an upgrade of the package, serves the old code. Here an entry is named by
a digest of everything that enters it: each function that the kernel reaches through its globals and closures (bytecode and
constants), the text of each module that these come from (types, lowerings and overloads are registered there without being
reached), the types of the arguments, the versions of Python, NumPy, Numba and llvmlite, the processor and its features.

The digest of a function is part of its linked name as well: machine code that comes from a cache is linked by name, and two
functions that were compiled in different processes under one name call each other's parts (met: an optimizer that returned
another one's numbers).

Entries lie in ``CacheFolder``, kind ``kernels``. A cache that is damaged, or cannot be written, costs the time to compile again.

Threads share the work as ``threads`` says. Numba's own thread pools are not used: they fight torch's, kill forked children, end
the process when two threads launch at once, and double compile times.

Importing this file imports Numba, which takes half a second: import it where a kernel is needed.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature
from numba.core.types import Type
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from descend.files import CacheFolder
from descend.threads import address_of, run_team

KIND = "kernels"
LEAN: dict[str, Any] = {"_nrt": False}  # options of code that allocates nothing, so that Numba counts no references to arrays:
# two locked instructions for every array in every call took a third of the time of augmentation
_NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_VERSIONS = (sys.implementation.cache_tag, np.__version__, numba.__version__, llvmlite.__version__)
_FOREIGN = sys.stdlib_module_names | {"numba", "llvmlite", "numpy"}  # their texts are known by their versions
_SWITCHES = tuple(getattr(config, name) for name in ("OPT", "BOUNDSCHECK"))  # from Numba's environment variables
_USER = os.getuid() if hasattr(os, "getuid") else 0  # Windows, where every file seems to belong to 0


def helper(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile ``function`` into the kernels that call it. Options: those of ``numba.njit``; use it with or without them.

    Called from Python it raises TypeError.
    """
    return _prepared(function, {"pipeline_class": _HelperCompiler, **_NO_WRAPPERS, **options}, keep=False)


def kernel(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile ``function`` at its first call from Python, without the interpreter lock, and keep the machine code on disk."""
    return _prepared(function, {"nogil": True, **options}, keep=True)


def _prepared(function: Callable[..., Any] | None, options: dict[str, Any], *, keep: bool) -> Any:
    if function is None:
        return lambda given: _prepared(given, options, keep=keep)
    dispatcher = numba.njit(_copied(function), error_model="numpy", **options)  # NumPy's: no branch for a division by zero
    if isinstance(dispatcher, Dispatcher):  # a plain function under NUMBA_DISABLE_JIT
        dispatcher._cache = _Kept(dispatcher, keep=keep)  # pyright: ignore[reportAttributeAccessIssue] (untyped in Numba)
        if not keep:
            dispatcher.__class__ = _Helper
    return dispatcher


def _copied(function: Any) -> FunctionType:
    """Return a copy of the function, whose name may change."""
    twin = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    twin.__kwdefaults__, twin.__doc__, twin.__module__ = function.__kwdefaults__, function.__doc__, function.__module__
    twin.__qualname__ = function.__qualname__
    return twin


class _Kept(NullCache):
    """What Numba asks for machine code before it compiles a function, and tells after."""

    def __init__(self, dispatcher: Any, *, keep: bool) -> None:
        self._dispatcher, self._keep = dispatcher, keep
        self._name = dispatcher.py_func.__qualname__

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled for the signature, or None; give the function the name that goes with its content."""
        target_context.refresh()
        self._dispatcher.py_func.__qualname__ = f"{self._name}_{digest(self._dispatcher)[:16]}"
        if not self._keep:
            return None
        store, path = self._entry(sig, target_context)
        try:
            if path.stat().st_uid not in (_USER, 0):  # it is unpickled and run
                return None
            content = store.load(path)
            return None if content is None else CompileResult._rebuild(target_context, *pickle.loads(content))
        except Exception:  # absent, or of no use: then it is compiled again
            return None

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Keep a compiled function, unless it holds addresses of this process."""
        if not self._keep or cres.lifted or cres.library.has_dynamic_globals:
            return
        store, path = self._entry(sig, cres.target_context)
        store.store(path, dumps(cres._reduce()))

    def _entry(self, sig: Any, target_context: Any) -> tuple[CacheFolder, Path]:
        store, (arguments, _) = CacheFolder(), normalize_signature(sig)
        machine = target_context.codegen().magic_tuple()
        parts = digest(self._dispatcher), [_described(kind) for kind in arguments], machine, *_SWITCHES, _USER
        key = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
        return store, store.entry_path(KIND, f"{self._dispatcher.py_func.__name__}-{key}", ".bin")


def _described(kind: Any) -> tuple[Any, ...]:
    """Return the text of a type, with the fields of named tuples, which Numba does not print."""
    return str(kind), str(getattr(kind, "fields", "")), *map(_described, getattr(kind, "types", ()))


# ---------------------------------------------------------------------------------------------------------------- helpers


class _Helper(CPUDispatcher):
    """What compiles a helper, for kernels alone."""

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Raise TypeError: there is no machine code to run."""
        raise TypeError(f"{self.py_func.__name__} is compiled into kernels; nothing else can call it")


class _HelperLibrary(JITCodeLibrary):
    """The instructions of a helper and of those that it calls, as they were written down, to be linked into a kernel."""

    def finalize(self) -> None:
        """Bring them together."""
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalize_dynamic_globals()
        self._finalized = True


class _HelperCompiler(Compiler):
    """Numba's compiler up to instructions."""

    def __init__(self, typing_context: Any, target_context: Any, library: Any, *rest: Any) -> None:
        library = library or _HelperLibrary(target_context.codegen(), "helper")
        super().__init__(typing_context, target_context, library, *rest)
        self.state.flags.no_compile = True

    def _compile_bytecode(self) -> Any:
        """Return what was compiled; Numba finds it by a builtin function that is its own."""
        made = super()._compile_bytecode()._replace(entry_point=[].append)
        self.state.targetctx.insert_user_function(made.entry_point, made.fndesc, [made.library])
        return made


# ------------------------------------------------------------------------------------------------------------- the digest


def digest(function: Callable[..., Any]) -> str:
    """Return a digest of everything of ours that is compiled into a function: 64 hexadecimal digits."""
    functions: dict[FunctionType, None] = {}
    modules: set[str] = set()
    parts: list[str] = []
    _visit(function, functions, modules, parts)
    state = hashlib.sha256(repr((_VERSIONS, parts)).encode())
    for name in sorted(modules):
        state.update(name.encode() + b"\0" + _text(name))
    return state.hexdigest()


def _visit(value: Any, functions: dict[FunctionType, None], modules: set[str], parts: list[str]) -> None:
    """Add what a value brings with it to the functions, modules and constants that have been reached."""
    if isinstance(value, Dispatcher):
        parts.extend(f"{option} {_sorted(setting)}" for option, setting in sorted(value.targetoptions.items()))
        value = value.py_func
    elif isinstance(value, _Intrinsic):
        value = value._defn
    if isinstance(value, ModuleType):
        return
    name = getattr(value, "__module__", type(value).__module__) or ""
    if isinstance(value, FunctionType):
        if _is_foreign(name) or value in functions:
            return
        functions[value] = None
        modules.add(name)
        parts.extend(_content(value.__code__))
        for reached in _reached(value):
            _visit(reached, functions, modules, parts)
    elif isinstance(value, (bool, int, float, complex, str, bytes, type(None), np.generic, Type)):
        parts.append(f"{type(value).__name__} {value}")
    elif isinstance(value, np.ndarray):
        parts.append(f"{value.dtype.str} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}")
    elif isinstance(value, (tuple, list)):
        for item in value:
            _visit(item, functions, modules, parts)
    elif not _is_foreign(name):
        modules.add(name)


_Intrinsic = type(intrinsic(lambda _: None))


def _is_foreign(module: str) -> bool:
    return module.partition(".")[0] in _FOREIGN


def _content(code: CodeType) -> list[str]:
    """Return what a function computes, as text: instructions, names, constants; those of functions inside it too."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    plain = [_sorted(constant) for constant in code.co_consts if not isinstance(constant, CodeType)]
    parts = [code.co_name, code.co_code.hex(), repr((code.co_names, code.co_varnames, code.co_freevars, plain))]
    return parts + [part for constant in inner for part in _content(constant)]


def _sorted(value: Any) -> Any:
    """Return a set as a list, whose order is the same in every process."""
    return sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value


def _reached(function: FunctionType) -> Iterator[Any]:
    """Yield the values that a function finds in its defaults, its closure, its globals, and in modules among these."""
    yield function.__defaults__
    yield tuple((function.__kwdefaults__ or {}).values())
    for cell in function.__closure__ or ():
        yield cell.cell_contents
    names = _names(function.__code__)
    for name in names:
        value = function.__globals__.get(name)
        yield value
        if isinstance(value, ModuleType) and not _is_foreign(value.__name__):
            yield from (vars(value)[attribute] for attribute in names if attribute in vars(value))


def _names(code: CodeType) -> list[str]:
    return [*code.co_names, *(name for inner in code.co_consts if isinstance(inner, CodeType) for name in _names(inner))]


@cache
def _text(module: str) -> bytes:
    """Return the text of a module as it was when first asked for; empty where there is no file, as in a notebook."""
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return Path(file).read_bytes() if file else b""
    except OSError:
        return b""


# ------------------------------------------------------------------------------------------------------- shares of the work

TEAM = """
@kernel
def {name}_team(job):
    box = carray(pointer_to_int64(job), {size})
{arrays}
    while True:
        share = advance(job)
        if share >= box[1] or not run(box[2] * share // box[1], box[2] * (share + 1) // box[1], {names}):
            break
"""


def run_shares(run: Any, n: int, n_threads: int, *arrays: np.ndarray) -> None:
    """Call ``run(first, last, *arrays)`` for shares of range(n), on ``n_threads`` threads, until it returns False.

    run: a ``helper`` that returns a bool and raises nothing. arrays: contiguous. See ``threads.run_team``.
    """
    _, address = _team(run, tuple((each.dtype, each.ndim) for each in arrays))
    run_team(address, n, n_threads, *(part for each in arrays for part in (address_of(each), *each.shape)))


@cache
def _team(run: Any, kinds: tuple[tuple[np.dtype, int], ...]) -> tuple[Callable[[int], None], int]:
    """Return what a thread of a team calls with the address of a job, and its address for other languages."""
    scope: dict[str, Any] = {"kernel": kernel, "carray": carray, "advance": _advance, "run": run, "__name__": __name__}
    arrays, place = [], 3
    for number, (dtype, n_dims) in enumerate(((np.dtype(np.int64), 1), *kinds)):
        scope[f"pointer_to_{dtype}"] = _pointer_to(getattr(types, dtype.name))
        if number:
            shape = ", ".join(f"box[{place + 1 + axis}]" for axis in range(n_dims))
            arrays.append(f"    x{number} = carray(pointer_to_{dtype}(box[{place}]), ({shape},))")
            place += 1 + n_dims
    names = ", ".join(f"x{number + 1}" for number in range(len(kinds)))
    text = TEAM.format(name=run.py_func.__name__, size=place, arrays="\n".join(arrays), names=names)
    exec(compile(text, f"<team of {run.py_func.__name__}>", "exec"), scope)
    team = scope[f"{run.py_func.__name__}_team"]
    team.compile((types.int64,))
    made = team.overloads[types.int64,]
    return team, made.library.get_pointer_to_function(made.fndesc.llvm_cfunc_wrapper_name)


@cache
def _pointer_to(kind: Any) -> Any:
    @intrinsic
    def pointer(_: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(types.CPointer(kind)))

        return types.CPointer(kind)(address), generate

    return pointer


@intrinsic
def _advance(_: Any, address: Any) -> Any:
    """Return the number at an address and add one to it, as no other thread can do at the same time."""

    def generate(__: Any, builder: Any, ___: Any, arguments: Any) -> Any:
        number = ir.IntType(64)
        return builder.atomic_rmw("add", builder.inttoptr(arguments[0], number.as_pointer()), number(1), "monotonic")

    return types.int64(address), generate
