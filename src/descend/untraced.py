"""Functions that ``torch.compile`` leaves as they are, in processes that may never compile anything.

Dynamo, the tracer, takes seconds to import, and both of torch's own ways to say "do not trace this" import it:
``torch.compiler.disable`` at once, ``torch._compile._disable_dynamo`` at the first call, which every ``torch.optim.Optimizer``
makes when it is built. Here the tracer is asked only where something else has loaded it: before that nothing can be traced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch._compile import _disable_dynamo

P = ParamSpec("P")
R = TypeVar("R")
_LAYER = _disable_dynamo(lambda: None).__code__  # what torch wraps around its own


def untraced(function: Callable[P, R]) -> Callable[P, R]:
    """Keep ``torch.compile`` from tracing ``function``: it breaks the graph there and calls the function as it is."""
    disabled: Callable[P, R] | None = None

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal disabled
        if disabled is None and "torch._dynamo" in sys.modules:
            disabled = cast(Callable[P, R], torch.compiler.disable(function))
        return (disabled or function)(*args, **kwargs)

    return call


def without_import(method: Callable[P, R]) -> Callable[P, R]:
    """Return a method that torch itself keeps from being traced, ``untraced`` in our way; any other as it is."""
    wrapped: Any = method
    return untraced(wrapped.__wrapped__) if getattr(method, "__code__", None) is _LAYER else method


_DYNAMO, _UTILS = "torch._dynamo", "torch._dynamo.utils"


class _Later(ModuleType):
    """Stands for a module that is imported when something is asked of it that the stand-in does not have."""

    __file__ = None  # ``inspect`` asks it of every module

    def __getattr__(self, name: str) -> Any:
        if name == "__path__" and self.__name__ == _UTILS:  # what "from" asks of every module: it is no package
            raise AttributeError(name)
        _forget_stand_ins()
        return getattr(import_module(self.__name__), name)


def _forget_stand_ins() -> None:
    for name in (_DYNAMO, _UTILS):
        if isinstance(sys.modules.get(name), _Later):
            del sys.modules[name]


def _disable(function: Callable[P, R], recursive: bool = True, **more: Any) -> Callable[P, R]:
    """Do what Dynamo's function of this name does; only what it calls may be traced where ``recursive`` is False."""
    if recursive:
        return untraced(function)
    _forget_stand_ins()
    return import_module(_DYNAMO).disable(function, recursive, **more)


@contextmanager
def tracer_deferred() -> Iterator[None]:
    """Let packages that are imported within the block find Dynamo without loading it, where nothing has loaded it yet.

    torchvision imports it for one question that only its operators ask, and timm to mark functions that are not to be traced
    (``untraced`` does that here): 1.5 of the 2.2 s that timm's import takes. Whatever else they ask loads it after all.
    """
    if _DYNAMO in sys.modules:
        yield
        return
    dynamo, utils = _Later(_DYNAMO), _Later(_UTILS)
    vars(dynamo).update(utils=utils, disable=_disable)
    vars(utils).update(is_compile_supported=lambda device: import_module(_UTILS).is_compile_supported(device))
    sys.modules |= {_DYNAMO: dynamo, _UTILS: utils}
    try:
        yield
    finally:
        _forget_stand_ins()
